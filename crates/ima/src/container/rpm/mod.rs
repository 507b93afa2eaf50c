//! RPM packages: the files inside are signed, in the package's signature header.
//!
//! The digests that the main header lists are signed, of files that the payload brings: regular
//! ones, no ghosts. The payload is not changed; before signing it is unpacked and compared with
//! the digests, unless the header is trusted. Workers take packages; within one, whoever is idle
//! helps with its files.

mod clear;
mod crew;
mod inspect;
mod package;
mod payload;
mod sign;
mod verify;
mod write;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::hash::HashAlgorithm;
use ima_format::Error as FormatError;

pub use clear::{clear, ClearOptions, Cleared};
use crew::Crew;
pub use ima_format::rpm::ReservedSpace;
pub use inspect::{inspect, FileInspection, Inspection};
use package::Content;
pub use package::Identity;
pub use payload::PayloadFinding;
pub use sign::{sign, SignOptions, Signed, WeakDigests};
pub use verify::{
    verify, DigestCheck, FileContent, FileVerdict, FileVerification, Payload, Verification,
    VerifyOptions,
};
pub use write::{Destination, OutputDirectory};

use super::tree::{Candidate, Found};
use super::{pool, tree, Progress, Selection};
use super::{ItemError, LeftOver, WalkError};
use crate::advice::Advice;
use crate::digest::DigestError;
use crate::key::SignError;

/// Which packages, and how many at a time.
#[derive(Debug)]
pub struct Packages {
    /// Packages, and directories of them.
    pub roots: Vec<PathBuf>,
    /// Which of the packages in directories, and of the files in a package that is named.
    pub selection: Selection,
    /// What directories stand for.
    pub directories: Directories,
    /// Worker threads.
    pub jobs: NonZeroUsize,
}

/// What a directory that is named stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directories {
    /// The packages below it; other files are passed over.
    Packages,
    /// A mistake.
    Refused,
}

/// What became of one package.
#[derive(Debug)]
pub struct Report<T> {
    /// The package's path.
    pub path: PathBuf,
    /// The outcome, `None` for a file that is no package and was not called one, or why
    /// there is none.
    pub outcome: Result<Option<T>, PackageError>,
}

/// Why a package was not dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// It was not found, or is no regular file.
    #[error(transparent)]
    Walk(WalkError),
    /// A directory was named among packages.
    #[error("a directory")]
    Directory,
    /// It cannot be read, signed or kept still.
    #[error(transparent)]
    File(#[from] ItemError),
    /// It is malformed.
    #[error("{0}")]
    Malformed(#[from] FormatError),
    /// The main header is not the one that the signature header has digests of.
    #[error("the main header does not match its {0} digest")]
    HeaderDigest(HashAlgorithm),
    /// It is a source package, whose files no kernel will see.
    #[error("a source package")]
    Source,
    /// The files' digests are of an algorithm that is no basis for a signature.
    #[error("its file digests are {0}: collisions can be made")]
    WeakDigests(HashAlgorithm),
    /// The header says different things of two names of one file.
    #[error("{0} and {1} are one file, but have different digests or sizes")]
    NamesDisagree(String, String),
    /// The payload as a whole is not what the header says.
    #[error("{0}")]
    Payload(PayloadFinding),
    /// The payload is not the one that the header has a digest of.
    #[error("the payload does not match its {0} digest")]
    PayloadDigest(HashAlgorithm),
    /// A file in the payload is not what the header says.
    #[error("{0}: {1}")]
    FileContent(String, FileContent),
    /// Another package of the run went there under the same name.
    #[error("{} is another package of this run", .0.display())]
    NameTaken(PathBuf),
    /// The new package cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Advice for PackageError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Walk(WalkError::SymbolicLink) => "name the package that it points to",
            Self::Directory => "-r deals with the packages in it",
            Self::File(error) => return error.advice(),
            Self::Payload(PayloadFinding::Unknown(_)) => {
                "verify its OpenPGP signature, then sign what the header lists with --trust-header"
            }
            Self::HeaderDigest(_)
            | Self::NamesDisagree(..)
            | Self::Payload(_)
            | Self::PayloadDigest(_)
            | Self::FileContent(..) => "it is damaged or was tampered with: get it again",
            Self::Source => "its files are for building, not for a kernel; --force signs them",
            Self::WeakDigests(_) => {
                "build it with %_binary_filedigest_algorithm 8, or give --allow-weak-digests"
            }
            _ => return None,
        })
    }
}

impl From<SignError> for PackageError {
    fn from(error: SignError) -> Self {
        Self::File(error.into())
    }
}

impl From<DigestError> for PackageError {
    fn from(error: DigestError) -> Self {
        Self::File(error.into())
    }
}

/// Takes reports one by one; an error ends the run.
pub type Sink<'a, T> = dyn FnMut(Report<T>) -> io::Result<()> + 'a;

impl Packages {
    /// Finds packages, has each dealt with by a worker, and gives the reports to `sink`, in
    /// the order in which they were found. `start` makes a worker, once a thread.
    fn run<T: Send, W: FnMut(&Content<'_>) -> Result<T, PackageError>>(
        &self,
        left_over: LeftOver,
        progress: &dyn Progress,
        crew: &Crew,
        start: impl Fn() -> W + Sync,
        sink: &mut Sink<'_, T>,
    ) -> io::Result<()> {
        let stop = AtomicBool::new(false);
        let produce = |queue: &mut dyn FnMut(Job, u64)| {
            // what is named has to be a package, whatever it is found below besides
            let mut walk = tree::Walk::new(&self.selection, left_over, false);
            for root in &self.roots {
                let is_directory =
                    std::fs::symlink_metadata(root).is_ok_and(|found| found.is_dir());
                if is_directory && self.directories == Directories::Refused {
                    progress.found(0);
                    queue(Job::Failed(root.clone(), PackageError::Directory), 0);
                    continue;
                }
                walk.root(root, &mut |found| {
                    let (job, size) = match found {
                        Found::File(candidate) => {
                            let size = candidate.size;
                            let below = candidate.path.strip_prefix(root).ok();
                            let below = below.filter(|_| !candidate.named);
                            let name = || candidate.path.file_name().unwrap_or_default().into();
                            let below = below.map_or_else(name, Path::to_owned);
                            (Job::Candidate { candidate, below }, size)
                        }
                        Found::Failed(path, error) => {
                            (Job::Failed(path, PackageError::Walk(error)), 0)
                        }
                        Found::LeftOut(path) => {
                            progress.left_out(&path);
                            return !stop.load(Ordering::Relaxed);
                        }
                    };
                    progress.found(size);
                    queue(job, size);
                    !stop.load(Ordering::Relaxed)
                });
            }
        };
        let start = || {
            let mut worker = start();
            let mut folders = tree::Folders::default();
            move |job| {
                let (report, size) = match job {
                    Job::Candidate { candidate, below } => crew.work(|| {
                        let selection = &self.selection;
                        let outcome = package::with_content(
                            &candidate,
                            &mut folders,
                            &below,
                            selection,
                            &mut worker,
                        );
                        progress.read(candidate.size);
                        (Report { path: candidate.path.clone(), outcome }, candidate.size)
                    }),
                    Job::Failed(path, error) => (Report { path, outcome: Err(error) }, 0),
                };
                progress.finished(size);
                report
            }
        };
        let workers = pool::Workers { jobs: self.jobs, batch: 1 };
        pool::run(workers, &stop, produce, start, sink)
    }
}

/// What a worker takes.
enum Job {
    Candidate { candidate: Candidate, below: PathBuf },
    Failed(PathBuf, PackageError),
}
