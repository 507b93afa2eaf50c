//! Tar archives, as streams: read once, written once, in the order of the input.
//!
//! One thread reads members, workers digest and sign them, the caller's thread writes them. A
//! label stands before its file's data, so that what is to be signed is held until its digest
//! is known: in memory up to [`IN_MEMORY`] a member and [`HELD`] in all, else in an unnamed
//! temporary file. Nothing is unpacked; names only select.

mod clear;
mod content;
mod index;
mod input;
mod inspect;
mod run;
mod sign;
mod verify;

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ima_format::kind::{Compression, Content, HEAD_SIZE};
use ima_format::tar::{AfterEnd, Fault};
use ima_format::ErrorKind;

use super::Selection;
use super::MAX_SPARSE;
use crate::compression;
use crate::digest::DigestError;
use crate::key::SignError;

pub use clear::clear;
pub use content::{HELD, IN_MEMORY};
pub use index::Index;
pub use inspect::inspect;
pub use sign::{sign, SignOptions, Spool};
pub use verify::{verify, VerifyOptions};

/// An archive, and what of it is meant.
pub struct Archive<'a> {
    source: Box<dyn Read + Send + 'a>,
    compression: Option<Compression>,
    /// Which of the members.
    pub selection: Selection,
    /// Worker threads.
    pub jobs: NonZeroUsize,
    /// How many zeros in the holes of sparse files are digested.
    pub max_sparse: u64,
    /// What becomes of bytes after the archive's end.
    pub after_end: AfterEnd,
    content: Option<Content>,
}

impl std::fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({:?})", self.compression)
    }
}

impl<'a> Archive<'a> {
    /// An archive that is read from `source`; its first bytes tell how it is compressed.
    ///
    /// # Errors
    /// Those of reading.
    pub fn open(
        mut source: impl Read + Send + 'a,
        selection: Selection,
        jobs: NonZeroUsize,
    ) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD_SIZE);
        source.by_ref().take(HEAD_SIZE as u64).read_to_end(&mut head)?;
        let compression = match Content::of(&head) {
            Some(Content::Compressed(compression)) => Some(compression),
            _ => None,
        };
        let source = io::Cursor::new(head.clone()).chain(source);
        let source: Box<dyn Read + Send + 'a> = match compression {
            Some(compression) => compression::decoder(compression, source)?,
            None => Box::new(source),
        };
        let content = Content::of(&head);
        let (max_sparse, after_end) = (MAX_SPARSE, AfterEnd::Refuse);
        Ok(Self { source, compression, selection, jobs, max_sparse, after_end, content })
    }

    /// What its first bytes say it is, still packed.
    pub fn content(&self) -> Option<Content> {
        self.content
    }

    /// How it is compressed.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }
}

/// Why an archive was not dealt with. What was written so far is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// It cannot be read, or not unpacked.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where in the archive, unpacked.
        offset: u64,
        /// What the system or the decoder said.
        source: io::Error,
    },
    /// It is malformed.
    #[error("{kind} at offset {offset}")]
    Malformed {
        /// Where in the archive, unpacked.
        offset: u64,
        /// What is wrong there.
        kind: ErrorKind,
    },
    /// It holds nothing at all.
    #[error("empty: not a tar archive")]
    Empty,
    /// No digest of a member could be made.
    #[error("{}", path.display())]
    Digest {
        /// The member.
        path: PathBuf,
        /// Why.
        source: DigestError,
    },
    /// A member could not be signed.
    #[error("{}", path.display())]
    Sign {
        /// The member.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// Sparse files with more zeros than are digested.
    #[error("{}: with it sparse files have {holes} bytes of zeros, of which {limit} are read", path.display())]
    Sparse {
        /// The first member beyond the limit.
        path: PathBuf,
        /// How many there are up to its end.
        holes: u64,
        /// How many are digested.
        limit: u64,
    },
    /// There is no room for a large member on its way.
    #[error("{}: cannot keep a large member in a temporary file", directory.display())]
    Spool {
        /// Where it was to be kept.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// Who is told of the results cannot be told.
    #[error(transparent)]
    Report(io::Error),
}

impl TarError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Sparse { .. } => "--max-sparse SIZE allows more",
            Self::Malformed { kind: ErrorKind::Tar(Fault::AfterEnd), .. } => {
                "tar and bsdtar stop before it; --concatenated reads archives that follow one another"
            }
            Self::Spool { .. } => "set TMPDIR to a directory with room for the largest member",
            _ => return None,
        })
    }
}

/// Why a member has no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// A hard link carries a label that its file does not have.
    #[error("a hard link to {} with another label, which unpacking would set", target.display())]
    LinkLabel {
        /// The file.
        target: PathBuf,
    },
    /// A hard link to a file that the archive does not contain, up to the link.
    #[error("a hard link to {}, which the archive does not contain before it", target.display())]
    LinkTarget {
        /// The file.
        target: PathBuf,
    },
    /// A selected hard link to a file that is not selected.
    #[error("a hard link to {}, which is not selected", target.display())]
    LinkSelection {
        /// The file.
        target: PathBuf,
    },
}

/// What became of a member.
#[derive(Debug)]
pub struct Report<T> {
    /// Its name.
    pub path: PathBuf,
    /// The size of the file in bytes.
    pub size: u64,
    /// The outcome, or why there is none.
    pub outcome: Result<T, MemberError>,
}

/// Takes reports one by one; an error ends the run.
pub type Sink<'a, T> = dyn FnMut(Report<T>) -> io::Result<()> + 'a;

/// What an archive held besides the reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the archive, unpacked.
    pub size: u64,
    /// Bytes after the end of the last archive that begin no other, and were passed on.
    pub foreign: u64,
}

/// A member's name as a path below the root.
fn below_root(path: &Path) -> PathBuf {
    use std::path::Component;
    let normal = |component: &Component<'_>| matches!(component, Component::Normal(_));
    path.components().filter(normal).collect()
}

/// Sets a member's label, or takes it out.
fn set_label(member: &mut ima_format::tar::Member, label: Option<&[u8]>) -> Result<(), TarError> {
    let offset = member.offset;
    member.set_label(label).map_err(|error| TarError::Malformed { offset, kind: error.kind })
}
