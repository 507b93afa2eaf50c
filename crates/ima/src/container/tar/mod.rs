//! Tar archives, as streams: read once, written once, in the order of the input.
//!
//! One thread reads members, workers digest and sign them, the caller's thread writes them. The
//! attribute is in the header, before the data, so a member that is going to be signed is kept until
//! its digest is known: in memory up to [`IN_MEMORY`] per member and [`HELD`] in all, else in an
//! unnamed temporary file. Nothing is unpacked; names only select.

mod content;
mod index;
mod input;
mod names;
pub(super) mod run;

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ima_format::kind::{Compression, Content, Kind, Nested, HEAD_SIZE};
use ima_format::tar::{Fault, Member};
use ima_format::ErrorKind;

use super::error::ContainerError;
use super::formats::Format;
use super::{one, Access, Container, Operation, Reports, Run, Sink, Summary};
use crate::advice::{Advice, Failure};
use crate::{compression, input as files};

pub use content::{HELD, IN_MEMORY};
pub use index::Index;
pub(super) use index::Original;
pub(super) use input::Stream;

/// An archive in a file, or on standard input.
#[derive(Debug)]
pub struct Archive {
    /// The file; `-` is standard input.
    pub path: PathBuf,
}

impl Container for Archive {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        let process = |reports: &mut Reports<'_, O>| {
            let (archive, compression) = self.open()?;
            let extent = match O::ACCESS {
                Access::Reads => run::run(archive, run, None, reports),
                Access::Removes | Access::Sets => {
                    let compression = run.compression.unwrap_or(compression);
                    run.destination.write(&self.path, compression, run.jobs, |output| {
                        run::run(archive, run, Some(output), reports)
                    })
                }
            };
            Ok(Summary::Archive(extent?))
        };
        one::<O>(&self.path, process, sink)
    }
}

impl Archive {
    /// Whether it comes on standard input.
    pub fn is_stdin(path: &Path) -> bool {
        path == Path::new("-")
    }

    /// The archive, decompressed, and how it is compressed.
    fn open(&self) -> Result<(Box<dyn Read + Send>, Option<Compression>), TarError> {
        let read = |source| TarError::Read { offset: 0, source };
        let mut source: Box<dyn Read + Send> = match Self::is_stdin(&self.path) {
            true => Box::new(io::stdin()),
            false => Box::new(files::open(&self.path).map_err(read)?),
        };
        let mut head = Vec::with_capacity(HEAD_SIZE);
        source.by_ref().take(HEAD_SIZE as u64).read_to_end(&mut head).map_err(read)?;
        let content = Content::of(&head);
        let source = io::Cursor::new(head).chain(source);
        match content {
            Some(Content::Compressed(compression)) => {
                let decoder = compression::decoder(compression, source).map_err(read)?;
                Ok((decoder, Some(compression)))
            }
            content => match content.and_then(Format::of) {
                Some(format) if format.kind != Kind::Tar => Err(TarError::OtherKind(format.name)),
                _ => Ok((Box::new(source), None)),
            },
        }
    }
}

/// Why an archive was not processed. The output written so far is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// It cannot be read, or not unpacked.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where in the archive, unpacked.
        offset: u64,
        /// The error of the system or the decoder.
        source: io::Error,
    },
    /// It is malformed.
    #[error("{kind} at offset {offset}")]
    Malformed {
        /// Where in the archive, unpacked.
        offset: u64,
        /// The fault.
        kind: ErrorKind,
    },
    /// It holds nothing at all.
    #[error("empty: not a tar archive")]
    Empty,
    /// Something else, which cannot be read as a stream.
    #[error("{0}, not a tar archive")]
    OtherKind(&'static str),
    /// Its members are archives or objects, and the files are in these.
    #[error("{0}: its files are in archives or objects inside it")]
    Nested(Nested),
    /// No digest could be made of a member while it was read.
    #[error("{}: {source}", path.display())]
    Digest {
        /// The member.
        path: PathBuf,
        /// Why.
        source: crate::digest::DigestError,
    },
    /// A sparse file with more holes than may be read.
    #[error(
        "{}: sparse file has {holes} bytes of holes; {left} remain of the --max-sparse limit",
        path.display()
    )]
    Sparse {
        /// The first member beyond the limit.
        path: PathBuf,
        /// The size of its holes.
        holes: u64,
        /// The rest of the limit.
        left: u64,
    },
    /// There is no room for a large member on its way.
    #[error("{}: cannot keep a large member in a temporary file", directory.display())]
    Spool {
        /// Where it was to be kept.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
}

impl From<TarError> for ContainerError {
    fn from(error: TarError) -> Self {
        Failure::new(error).into()
    }
}

impl Advice for TarError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            // of a program that makes an archive from an image
            Self::Read { source, .. } => {
                let failure = source.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
                return failure.and_then(Advice::advice);
            }
            Self::OtherKind(_) => {
                "packages and images cannot be streamed: give the name of a file"
            }
            Self::Nested(nested) => nested.hint(),
            Self::Sparse { .. } => "--max-sparse SIZE allows more",
            Self::Malformed { kind: ErrorKind::Tar(Fault::AfterEnd), .. } => {
                "tar and bsdtar stop before it; --concatenated reads archives that follow one another"
            }
            Self::Malformed { kind: ErrorKind::Tar(Fault::ThroughOther | Fault::OtherRole), .. } => {
                "unpack it, check the files, and create it again"
            }
            Self::Spool { .. } => "set TMPDIR to a directory with room for the largest member",
            _ => return None,
        })
    }
}

/// Sizes of an archive that was processed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the archive, unpacked.
    pub size: u64,
    /// Bytes after the end of the last archive that begin no other, and were passed on.
    pub foreign: u64,
    /// Bytes of holes in sparse files that were read.
    pub holes: u64,
}

fn path_of(member: &Member) -> PathBuf {
    PathBuf::from(OsString::from_vec(member.path.clone()))
}

/// A member's name as a path below the root.
pub(super) fn below_root(path: &Path) -> PathBuf {
    use std::path::Component;
    let normal = |component: &Component<'_>| matches!(component, Component::Normal(_));
    path.components().filter(normal).collect()
}
