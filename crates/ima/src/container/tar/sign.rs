//! Signs the files in an archive.

use std::io::Write;
use std::path::Path;

use ima_format::hash::HashAlgorithm;
use ima_format::tar::Member;

use super::content::Data;
use super::run::{self, path_of, Operation, Target, Wants};
use super::verify::link_error;
use super::{Archive, Extent, MemberError, Sink, TarError};
use crate::container::tree::{SignMode, Signed};
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
    /// Which files need it.
    pub mode: SignMode,
    /// Where large members are kept for a while.
    pub spool: Spool<'a>,
}

/// Where members that are too large for memory are kept until they are signed.
#[derive(Clone, Copy)]
pub struct Spool<'a> {
    /// A directory with room for some of the largest.
    pub directory: &'a Path,
    /// Is told of each, with its size.
    pub announce: &'a (dyn Fn(&Path, u64) + Sync),
}

impl std::fmt::Debug for Spool<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spool({})", self.directory.display())
    }
}

/// Signs the selected files of an archive and writes the archive that has their labels.
/// A hard link that says something else of its file's label loses it; one whose file is not
/// signed here is reported.
///
/// # Errors
/// Any defect of the archive; what was written then is of no use.
pub fn sign(
    archive: Archive<'_>,
    options: &SignOptions<'_>,
    output: &mut dyn Write,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Signed>,
) -> Result<Extent, TarError> {
    run::run(archive, &Sign { options, progress }, Some(output), progress, sink)
}

struct Sign<'a> {
    options: &'a SignOptions<'a>,
    progress: &'a dyn Progress,
}

struct Worker<'a> {
    /// Opened at the first file.
    session: Option<LabelSession<'a>>,
    hasher: FileHasher,
    value: Vec<u8>,
}

impl<'a> Operation for Sign<'a> {
    type Outcome = Signed;
    type Worker = Worker<'a>;

    fn wants(&self, _: &Member) -> Wants<'_> {
        Wants::Held(self.options.spool)
    }

    fn worker(&self) -> Worker<'a> {
        Worker { session: None, hasher: FileHasher::default(), value: Vec::new() }
    }

    fn file(
        &self,
        worker: &mut Worker<'a>,
        member: &mut Member,
        data: &Data,
    ) -> Result<Signed, TarError> {
        let SignOptions { labeler, algorithm, mode, .. } = *self.options;
        let fail = |member: &Member, source| TarError::Sign { path: path_of(member), source };
        let digest = run::digest(&mut worker.hasher, member, data, algorithm, self.progress)
            .map_err(|source| TarError::Digest { path: path_of(member), source })?;
        let session = match &mut worker.session {
            Some(session) => session,
            none => none.insert(labeler.session().map_err(|error| fail(member, error))?),
        };
        if mode == SignMode::Changed {
            // the reader saw that it can be read
            if let Some(existing) = member.label().ok().flatten() {
                if session.keeps(&existing, &digest).map_err(|error| fail(member, error))? {
                    return Ok(Signed::Unchanged { key_id: labeler.key_id() });
                }
            }
        }
        session.label(&digest, &mut worker.value).map_err(|error| fail(member, error))?;
        super::set_label(member, Some(&worker.value))?;
        Ok(Signed::Signed { key_id: labeler.key_id() })
    }

    fn link(&self, member: &mut Member, target: Target) -> Result<Option<Signed>, MemberError> {
        // its file has the label; the reader saw that the records can be read
        member.set_label(None).ok();
        match link_error(member, target) {
            Some(error) if target != Target::OtherLabel => Err(error),
            _ => Ok(None),
        }
    }
}
