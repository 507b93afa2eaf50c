//! Trees of files on a mounted file system.
//!
//! A walk finds files, workers take them, results come back in the walk's order. A file is
//! opened once, without following a symbolic link, and what is read, checked and labelled
//! is that open file.

mod clear;
mod directory;
mod file;
mod folder;
mod inspect;
mod sign;
mod verify;
mod walk;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

pub use clear::{clear, Cleared};
pub use directory::Directory;
pub(in crate::container) use file::OpenFile;
pub use file::{FileError, Place};
pub(in crate::container) use folder::Folders;
pub use inspect::{inspect, Fit, Inspection};

pub use sign::{sign, SignMode, SignOptions, Signed};
pub use verify::{verify, VerifyOptions};
pub use walk::{Candidate, WalkError};
pub(in crate::container) use walk::{Found, LeftOver, Walk};

use super::{pool, Progress, Selection};

/// Which files, and how many at a time.
#[derive(Debug)]
pub struct Tree {
    /// Files and directories, walked in this order, directories sorted by name.
    pub roots: Vec<PathBuf>,
    /// Which of what is found there.
    pub selection: Selection,
    /// Worker threads.
    pub jobs: NonZeroUsize,
}

/// What became of one file.
#[derive(Debug)]
pub struct Report<T> {
    /// The file's path: the root as given, and what follows below it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The outcome, or why there is none.
    pub outcome: Result<T, TreeError>,
}

/// Why a file was not dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// It was not found, or what was found is not for signing.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It was found and something failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Takes reports one by one; an error ends the run.
pub type Sink<'a, T> = dyn FnMut(Report<T>) -> io::Result<()> + 'a;

/// A worker's answer: `None` where the file turned out not to be selected.
type Answer<T> = Result<Option<T>, FileError>;

impl Tree {
    /// Opens a candidate whose label is in `place`, if it is of a kind that is meant.
    fn open<'c>(
        &self,
        candidate: &'c Candidate,
        place: Place,
        folders: &mut Folders,
    ) -> Result<Option<OpenFile<'c>>, FileError> {
        let directory = file::directory(candidate, folders)?;
        if place == Place::Detached {
            if let Some(signed) = file::signed_by(&candidate.path, &directory) {
                // with `dir/*` its file is named, too, and both are dealt with
                let is_told = !candidate.named || self.roots.contains(&signed);
                return if is_told { Ok(None) } else { Err(FileError::IsSignature) };
            }
        }
        let file = OpenFile::open_in(directory, candidate)?;
        let wanted = self.selection.wants(&candidate.path, &file.file).map_err(FileError::Read)?;
        Ok(wanted.then_some(file))
    }

    /// Walks, has each file dealt with by a worker, and gives the reports to `sink`.
    /// `start` makes a worker, once a thread.
    fn run<T: Send, W: FnMut(&Candidate, &mut Folders) -> Answer<T>>(
        &self,
        left_over: LeftOver,
        progress: &dyn Progress,
        start: impl Fn() -> W + Sync,
        sink: &mut Sink<'_, T>,
    ) -> io::Result<()> {
        let stop = AtomicBool::new(false);
        let produce = |queue: &mut dyn FnMut(Found, u64)| {
            let mut walk = Walk::new(&self.selection, left_over, self.roots.len() > 1);
            for root in &self.roots {
                walk.root(root, &mut |found| {
                    let size = match &found {
                        Found::File(candidate) => candidate.size,
                        Found::Failed(..) => 0,
                        Found::LeftOut(path) => {
                            progress.left_out(path);
                            return !stop.load(Ordering::Relaxed);
                        }
                    };
                    progress.found(size);
                    queue(found, size);
                    !stop.load(Ordering::Relaxed)
                });
            }
        };
        let start = || {
            let mut worker = start();
            let mut folders = Folders::default();
            move |found| {
                let (report, size) = match found {
                    Found::File(candidate) => {
                        let outcome =
                            worker(&candidate, &mut folders).map_err(TreeError::File).transpose();
                        let Candidate { path, size, .. } = candidate;
                        (outcome.map(|outcome| Report { path, size, outcome }), size)
                    }
                    Found::Failed(path, error) => {
                        (Some(Report { path, size: 0, outcome: Err(error.into()) }), 0)
                    }
                    Found::LeftOut(_) => (None, 0),
                };
                progress.finished(size);
                report
            }
        };
        let workers = pool::Workers { jobs: self.jobs, batch: pool::FILES };
        pool::run(workers, &stop, produce, start, &mut |report| report.map_or(Ok(()), &mut *sink))
    }
}
