//! Signs files.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::KeyId;

use super::{Candidate, FileError, Folders, LeftOver, Place, Sink, Tree};
use crate::container::Progress;
use crate::digest::FileHasher;
use crate::sign::{LabelSession, Labeler};

/// How files are signed.
#[derive(Debug, Clone, Copy)]
pub struct SignOptions<'a> {
    /// With what.
    pub labeler: Labeler<'a>,
    /// Over which digest.
    pub algorithm: HashAlgorithm,
    /// Where to.
    pub place: Place,
    /// Which files need it.
    pub mode: SignMode,
    /// Whether to change anything.
    pub dry_run: bool,
}

/// Which of the selected files are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignMode {
    /// All.
    Always,
    /// Those without a valid signature by this key over this digest.
    Changed,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// It was signed; in a dry run, it would have been.
    Signed {
        /// The signing key, unless only the digest was asked for.
        key_id: Option<KeyId>,
    },
    /// It was signed already.
    Unchanged {
        /// The key whose signature it carries, unless only the digest was asked for.
        key_id: Option<KeyId>,
    },
}

/// Signs the files of a tree, each on its own: one that fails does not stop the others,
/// unless it is the key that fails; what is signed by then stays signed.
///
/// # Errors
/// Those of `sink`; a file's are in its report.
pub fn sign(
    tree: &Tree,
    options: &SignOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Signed>,
) -> io::Result<()> {
    let key_lost = AtomicBool::new(false);
    let start = || {
        let mut signer = FileSigner {
            options,
            session: None,
            hasher: FileHasher::default(),
            value: Vec::new(),
            progress,
            key_lost: &key_lost,
        };
        move |candidate: &Candidate, folders: &mut Folders| signer.sign(tree, candidate, folders)
    };
    tree.run(LeftOver::LeftOut, progress, start, sink)
}

/// One thread's means.
struct FileSigner<'a> {
    options: &'a SignOptions<'a>,
    /// Opened at the first file.
    session: Option<LabelSession<'a>>,
    hasher: FileHasher,
    value: Vec<u8>,
    progress: &'a dyn Progress,
    /// Set by the first thread that finds the key lost.
    key_lost: &'a AtomicBool,
}

impl FileSigner<'_> {
    fn sign(
        &mut self,
        tree: &Tree,
        candidate: &Candidate,
        folders: &mut Folders,
    ) -> Result<Option<Signed>, FileError> {
        let signed = self.try_to_sign(tree, candidate, folders);
        if matches!(&signed, Err(FileError::Sign(error)) if error.is_lasting()) {
            self.key_lost.store(true, Ordering::Relaxed);
        }
        signed
    }

    fn try_to_sign(
        &mut self,
        tree: &Tree,
        candidate: &Candidate,
        folders: &mut Folders,
    ) -> Result<Option<Signed>, FileError> {
        let SignOptions { labeler, algorithm, place, mode, dry_run } = *self.options;
        let Some(file) = tree.open(candidate, place, folders)? else { return Ok(None) };
        let existing = match mode {
            SignMode::Always => None,
            SignMode::Changed => file.label(place)?,
        };
        // what is signed well already needs the key no more
        if existing.is_none() {
            check_key(self.key_lost)?;
        }
        let progress = self.progress;
        let digest = file.digest(&mut self.hasher, algorithm, &|bytes| progress.read(bytes))?;
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(labeler.session()?),
        };
        if let Some(existing) = existing {
            if session.keeps(&existing, &digest)? {
                file.check_unchanged()?;
                return Ok(Some(Signed::Unchanged { key_id: labeler.key_id() }));
            }
            check_key(self.key_lost)?;
        }
        session.label(&digest, &mut self.value)?;
        file.check_unchanged()?;
        if !dry_run {
            file.set_label(place, &self.value)?;
        }
        Ok(Some(Signed::Signed { key_id: labeler.key_id() }))
    }
}

/// Sees that no thread has found the key lost.
fn check_key(lost: &AtomicBool) -> Result<(), FileError> {
    match lost.load(Ordering::Relaxed) {
        true => Err(FileError::KeyLost),
        false => Ok(()),
    }
}
