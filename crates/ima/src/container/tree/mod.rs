//! Trees of files on a mounted file system.
//!
//! A walk finds files, workers process them, results come back in the walk's order. A file is
//! opened once, without following a symbolic link, and what is read, checked and changed is that
//! open file.

mod directory;
mod file;
mod folder;
mod inode;
mod room;
mod verity;
mod walk;

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::evm::{InodeId, Metadata};
use ima_format::hash::Digest;
use ima_format::verity::Parameters;

pub use directory::Directory;
pub(in crate::container) use file::OpenFile;
pub use file::{detached_path, Place};
pub(in crate::container) use folder::Folders;
pub use walk::Candidate;
pub(in crate::container) use walk::{Found, Walk};

use super::error::{ItemError, WalkError};
use super::{
    pool, AttributeName, Container, Content, Event, Item, Operation, Progress, Report, Run,
    Selection, Sink,
};
use crate::digest::{DigestKind, FileHasher};

/// Files and directories.
#[derive(Debug)]
pub struct Tree {
    /// Walked in this order, directories sorted by name.
    pub roots: Vec<PathBuf>,
    /// What is processed of roots that are directories.
    pub directories: DirectoryRoots,
    /// Where attributes are kept.
    pub place: Place,
    /// How fs-verity is enabled on files, by an operation that sets their attributes.
    pub verity: Option<Parameters>,
}

/// What is processed of a directory that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryRoots {
    /// The files below it.
    Walked,
    /// The directory itself, which has metadata and attributes, but no content to sign.
    Themselves,
}

/// The state of one thread.
struct Worker<W> {
    operation: W,
    hasher: FileHasher,
    folders: Folders,
}

/// An open file, as an operation sees it.
struct TreeItem<'a> {
    candidate: &'a Candidate,
    file: &'a OpenFile<'a>,
    place: Place,
    hasher: &'a mut FileHasher,
    progress: &'a dyn Progress,
    /// The digest of its content that something depends on.
    digest: Option<(DigestKind, Digest)>,
    /// Whether its content was read in parts.
    read: Cell<bool>,
}

impl Item for TreeItem<'_> {
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError> {
        Ok(self.file.attribute(name, self.place)?.map(Cow::Owned))
    }

    fn has_attribute(&self, name: AttributeName) -> Result<bool, ItemError> {
        self.file.has_attribute(name, self.place)
    }

    fn path(&self) -> Option<&Path> {
        self.candidate.below_root()
    }

    fn metadata(&self) -> Result<Metadata, ItemError> {
        self.file.metadata()
    }

    fn inode(&self) -> Result<Option<InodeId>, ItemError> {
        self.file.inode().map(Some)
    }

    fn content(&self) -> Option<&dyn Content> {
        self.read.set(true);
        Some(self.file)
    }

    fn rewritable(&self) -> Option<&dyn Content> {
        self.content()
    }

    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError> {
        let digest = self.file.digest(self.hasher, kind, &|bytes| self.progress.read(bytes))?;
        self.digest = Some((kind, digest));
        Ok(digest)
    }
}

impl Tree {
    /// Opens a candidate, if it is of a selected kind.
    fn open<'c>(
        &self,
        candidate: &'c Candidate,
        selection: &Selection,
        folders: &mut Folders,
    ) -> Result<Option<OpenFile<'c>>, ItemError> {
        let directory = file::directory(candidate, folders)?;
        if self.place == Place::Detached {
            if candidate.is_directory {
                return Err(WalkError::NotRegular("directory").into());
            }
            if let Some(signed) = file::signed_by(&candidate.path, &directory) {
                // with `dir/*` its file is named, too, and both are processed
                let is_expected = !candidate.named || self.roots.contains(&signed);
                return if is_expected { Ok(None) } else { Err(ItemError::IsSignature) };
            }
        }
        let file = OpenFile::open_in(directory, candidate)?;
        let wanted = selection.wants(&candidate.path, &file.file).map_err(ItemError::Read)?;
        Ok(wanted.then_some(file))
    }

    /// Processes one file; `None` if it is not of a selected kind.
    fn process<O: Operation>(
        &self,
        candidate: &Candidate,
        run: &Run<'_, O>,
        worker: &mut Worker<O::Worker>,
    ) -> Result<Option<O::Outcome>, ItemError> {
        let Worker { operation: state, hasher, folders } = worker;
        let Some(file) = self.open(candidate, &run.selection, folders)? else { return Ok(None) };
        let (place, progress) = (self.place, run.progress);
        let (file, read) = (&file, Cell::new(false));
        let mut item = TreeItem { candidate, file, place, hasher, progress, digest: None, read };
        let (outcome, change) = run.operation.item(state, &mut item)?;
        let digest = item.digest;
        if digest.is_some() || item.read.get() {
            file.check_unchanged()?;
        }
        if !run.destination.is_nowhere() {
            for (name, edit) in change.edits() {
                file.edit(name, place, edit)?;
            }
            if let Some(end) = change.end() {
                file.write_again(end)?;
            }
            if let Some(parameters) = self.verity {
                verity::enable(file.file.as_fd(), parameters, digest)?;
            }
        }
        Ok(Some(outcome))
    }
}

impl Container for Tree {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        let stop = AtomicBool::new(false);
        let progress = run.progress;
        let produce = |queue: &mut dyn FnMut(Found, u64)| {
            let mut walk = Walk::new(&run.selection, O::LEFT_OVER, self.roots.len() > 1);
            for root in &self.roots {
                let found = &mut |found: Found| {
                    if let Found::LeftOut(path) = &found {
                        progress.left_out(path);
                    } else {
                        let size = found.size();
                        progress.found(size);
                        queue(found, size);
                    }
                    !stop.load(Ordering::Relaxed)
                };
                match self.directories {
                    DirectoryRoots::Walked => walk.root(root, found),
                    DirectoryRoots::Themselves => walk.root_itself(root, found),
                }
            }
        };
        let start = || {
            let (hasher, folders) = Default::default();
            let mut worker = Worker { operation: run.operation.worker(), hasher, folders };
            let tree = &self;
            move |found: Found| {
                let size = found.size();
                let report = match found {
                    Found::File(candidate) => {
                        let outcome = tree.process(&candidate, run, &mut worker);
                        let Candidate { path, size, .. } = candidate;
                        outcome.transpose().map(|outcome| Report {
                            part: None,
                            path,
                            size,
                            outcome,
                            listed: None,
                        })
                    }
                    Found::Failed(path, error) => Some(Report {
                        part: None,
                        path,
                        size: 0,
                        outcome: Err(error.into()),
                        listed: None,
                    }),
                    Found::LeftOut(_) => None,
                };
                progress.finished(size);
                report
            }
        };
        let workers = pool::Workers { jobs: run.jobs, batch: pool::FILES };
        pool::run(workers, &stop, produce, start, &mut |report| match report {
            Some(report) => sink(Event::Item { container: None, report }),
            None => Ok(()),
        })
    }
}
