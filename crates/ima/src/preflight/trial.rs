//! One event on one file: the kernel's verdict on its attribute, and the reason.

use std::cell::Cell;
use std::io;
use std::path::Path;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::ast::Policy;
use ima_format::policy::decide::{AppraiseMode, Event, Outcome};
use ima_format::policy::kernel::Kernel;
use ima_format::xattr::KeyId;

use super::{Bench, Entry, EntryKind, Judge, Owners, Source, SourceError, SourceFile};
use crate::advice::Advice;
use crate::container::tree::Directory;
use crate::container::AttributeName;
use crate::digest::{DigestError, DigestKind, FileHasher};
use crate::verify::Keyring;

/// A file that an event is about.
#[derive(Debug)]
pub enum Subject {
    /// One of this machine.
    File {
        /// Where it is looked up.
        directory: Directory,
        /// It.
        entry: Entry,
    },
    /// One that is not at hand.
    Stated {
        /// `security.ima`.
        attribute: Option<Vec<u8>>,
        /// Digests of its content.
        digests: Vec<Digest>,
    },
}

/// The result of a trial.
#[derive(Debug)]
pub struct Trial {
    /// The kernel's reaction.
    pub outcome: Outcome,
    /// The key of a signature that is not known.
    pub unknown_key: Option<KeyId>,
    /// Whether a rule asked for the fs-verity digest, which the file has only where that is enabled.
    pub verity: bool,
}

/// Why it is unknown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// It is a directory, a device, a socket.
    #[error("not a regular file")]
    NotAFile,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] SourceError),
    /// The kernel goes by a digest that was not stated.
    #[error("the kernel asks for the file's {0} digest")]
    DigestWanted(HashAlgorithm),
}

impl Advice for TrialError {}

impl From<io::Error> for TrialError {
    fn from(error: io::Error) -> Self {
        Self::Read(error.into())
    }
}

impl Subject {
    /// A file of this machine; links are followed.
    ///
    /// # Errors
    /// A file that is not regular, or cannot be read.
    pub fn file(path: &Path) -> Result<Self, TrialError> {
        let path = path.canonicalize()?;
        let directory = Directory::open(Path::new("/"))?;
        let entry = directory.look_up(&path)?;
        match entry.kind {
            EntryKind::File { .. } => Ok(Self::File { directory, entry }),
            _ => Err(TrialError::NotAFile),
        }
    }

    /// Its owner and group, and its permissions, where it is at hand.
    pub fn access(&self) -> Option<(u32, u32, u32)> {
        match self {
            Self::File { entry, .. } => Some((entry.uid, entry.gid, entry.mode)),
            Self::Stated { .. } => None,
        }
    }

    /// The kernel's reaction to an event on it.
    ///
    /// # Errors
    /// It cannot be read, or a digest that it depends on was not stated.
    pub fn try_event(
        &self,
        event: &Event,
        (policy, kernel, mode): (&Policy, &Kernel, AppraiseMode),
        keyring: &Keyring,
    ) -> Result<Trial, TrialError> {
        let bench = Bench::in_mode(policy, kernel, keyring, (&[], Owners::Kept), mode);
        let mut judge = Judge::new(&bench);
        match self {
            Self::File { directory, entry } => {
                let content = directory.open(entry)?;
                Self::judged(event, entry, &*content, &mut judge)
            }
            Self::Stated { attribute, digests } => {
                let stated = Stated { attribute, digests, wanted: Cell::default() };
                let entry = Entry {
                    path: "/".into(),
                    kind: EntryKind::File { size: 1 },
                    mode: 0,
                    uid: 0,
                    gid: 0,
                    identity: (0, 0),
                };
                let trial = Self::judged(event, &entry, &stated, &mut judge)?;
                match stated.wanted.take() {
                    // a measurement of it would be wrong, and its verdict the same
                    Some(algorithm) if trial.outcome.decision.appraise.does() => {
                        Err(TrialError::DigestWanted(algorithm))
                    }
                    _ => Ok(trial),
                }
            }
        }
    }

    fn judged(
        event: &Event,
        entry: &Entry,
        content: &dyn SourceFile,
        judge: &mut Judge<'_>,
    ) -> Result<Trial, TrialError> {
        let size = entry.size().unwrap_or_default();
        let mut case = judge.open(entry, size, content, &|_| {})?;
        Ok(case.try_event(event)?)
    }
}

/// The known properties of a file that is not at hand.
struct Stated<'a> {
    attribute: &'a Option<Vec<u8>>,
    digests: &'a [Digest],
    /// The digest that was asked for in vain.
    wanted: Cell<Option<HashAlgorithm>>,
}

impl SourceFile for Stated<'_> {
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, SourceError> {
        Ok(0)
    }

    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.attribute.clone().filter(|_| name == AttributeName::Ima))
    }

    fn digest(
        &self,
        _: &mut FileHasher,
        _: u64,
        kind: DigestKind,
        _: &dyn Fn(u64),
    ) -> Result<Digest, SourceError> {
        let algorithm = kind.algorithm();
        let of = |digest: &&Digest| digest.algorithm() == algorithm;
        let stated = self.digests.iter().find(of).copied();
        // with no attribute to compare it with, any algorithm works
        let any = || Digest::new(algorithm, &vec![0; algorithm.digest_size()]);
        let stated = stated.or_else(|| self.attribute.is_none().then(any).flatten());
        stated.ok_or_else(|| {
            self.wanted.set(Some(algorithm));
            DigestError::Unavailable(algorithm).into()
        })
    }
}
