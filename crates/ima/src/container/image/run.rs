//! The walk, the workers, the reports.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::ext4::Volume;
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::xattr::{Attribute, XATTR_NAME_IMA};

use super::debugfs::{self, Change};
use super::{Ext, Image, ImageError, Report, SignOptions, Sink};
use crate::container::source::{Entry, SourceFile, Unread, Visit};
use crate::container::tree::{Cleared, Fit, Inspection, SignMode, Signed};
use crate::container::{pool, Progress, Selection};
use crate::digest::{DigestError, FileHasher};
use crate::sign::LabelSession;
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// A regular file that the walk found.
struct Found {
    /// Below the root.
    path: PathBuf,
    size: u64,
    entry: Entry,
}

impl Found {
    fn sign_error(&self, source: crate::key::SignError) -> ImageError {
        ImageError::Sign { path: self.path.clone(), source }
    }
}

/// The walk: queues each selected file once, with the first of its names.
struct Walk<'a> {
    selection: &'a Selection,
    progress: &'a dyn Progress,
    seen: HashSet<(u64, u64)>,
    stop: &'a AtomicBool,
    queue: &'a mut dyn FnMut(Result<Found, ImageError>, u64),
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

impl Visit for Walk<'_> {
    fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
        match found {
            Ok(entry) => {
                let path = below_root(&entry.path).to_owned();
                if let Some(size) = entry.size().filter(|_| self.selection.selects(&path)) {
                    if self.seen.insert(entry.identity) {
                        self.progress.found(size);
                        (self.queue)(Ok(Found { path, size, entry }), size);
                    }
                }
            }
            Err(unread) => (self.queue)(Err(ImageError::of(unread.error)), 0),
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn descends(&self, path: &Path) -> bool {
        self.selection.descends(below_root(path))
    }
}

/// An open file, and one thread's means to read it.
struct Reader<'a> {
    found: &'a Found,
    file: Box<dyn SourceFile + 'a>,
    hasher: &'a mut FileHasher,
    progress: &'a dyn Progress,
}

impl Reader<'_> {
    fn label(&self) -> Result<Option<Vec<u8>>, ImageError> {
        self.file.attribute().map_err(ImageError::of)
    }

    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Digest, ImageError> {
        let progress = |bytes| self.progress.read(bytes);
        let digest = self.file.digest(self.hasher, self.found.size, algorithm, &progress);
        digest.map_err(|error| match error {
            DigestError::Read(error) => ImageError::of(error),
            source => ImageError::Digest { path: self.found.path.clone(), source },
        })
    }

    /// Whether the file is of a selected kind.
    fn wants(&self, selection: &Selection) -> io::Result<bool> {
        if selection.wants_head(&self.found.path, &[]) {
            return Ok(true);
        }
        let mut head = [0; 4];
        let read = self.file.read_at(0, &mut head)?;
        Ok(selection.wants_head(&self.found.path, &head[..read]))
    }
}

impl Image {
    /// Has each selected file dealt with by a worker, and gives the reports to `sink` in the
    /// order of the walk. `start` makes a worker, once a thread.
    fn run<T: Send, W>(
        &self,
        progress: &dyn Progress,
        start: impl Fn() -> W + Sync,
        sink: &mut dyn FnMut(Found, T) -> Result<(), ImageError>,
    ) -> Result<(), ImageError>
    where
        W: FnMut(&mut Reader<'_>) -> Result<T, ImageError>,
    {
        let stop = AtomicBool::new(false);
        let produce = |queue: &mut dyn FnMut(Result<Found, ImageError>, u64)| {
            let (selection, seen) = (&self.selection, HashSet::new());
            self.source().list(&mut Walk { selection, progress, seen, stop: &stop, queue });
        };
        let start = || {
            let mut hasher = FileHasher::default();
            let mut worker = start();
            move |found: Result<Found, ImageError>| {
                let found = found?;
                let file = self.source().open(&found.entry).map_err(ImageError::of)?;
                let mut reader = Reader { found: &found, file, hasher: &mut hasher, progress };
                let outcome = match reader.wants(&self.selection).map_err(ImageError::of)? {
                    true => Some(worker(&mut reader)?),
                    false => None,
                };
                drop(reader);
                progress.finished(found.size);
                Ok(outcome.map(|outcome| (found, outcome)))
            }
        };
        let workers = pool::Workers { jobs: self.jobs, batch: pool::FILES };
        let mut consume = |result: Result<_, ImageError>| match result? {
            Some((found, outcome)) => sink(found, outcome),
            None => Ok(()),
        };
        pool::run(workers, &stop, produce, start, &mut consume)
    }
}

fn report<T>(found: Found, outcome: T, sink: &mut Sink<'_, T>) -> Result<(), ImageError> {
    let Found { path, size, .. } = found;
    sink(Report { path, size, outcome }).map_err(ImageError::Report)
}

/// Gives the verdict on each selected file of an image.
///
/// # Errors
/// Any defect of the image.
pub fn verify(
    image: &Image,
    (keyring, requirement): (&Keyring, Requirement),
    progress: &dyn Progress,
    sink: &mut Sink<'_, Verdict>,
) -> Result<(), ImageError> {
    let start = || {
        let mut verifier = Verifier::new(keyring.clone());
        move |file: &mut Reader<'_>| {
            let label = file.label()?;
            let digest_of = |algorithm| file.digest(algorithm);
            verifier.verdict(requirement, label.as_deref(), digest_of)
        }
    };
    image.run(progress, start, &mut |found, verdict| report(found, verdict, sink))
}

/// Reads the label of each selected file of an image.
///
/// # Errors
/// Any defect of the image.
pub fn inspect(
    image: &Image,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Inspection>,
) -> Result<(), ImageError> {
    let start = || {
        |file: &mut Reader<'_>| {
            let value = file.label()?;
            let attribute = value.as_deref().map(Attribute::decode);
            let fit = match &attribute {
                Some(Ok(Attribute::Digest(expected) | Attribute::DigestNg(expected))) => {
                    match file.digest(expected.algorithm()) {
                        Ok(digest) if digest == *expected => Some(Fit::Matches),
                        Ok(_) => Some(Fit::Differs),
                        Err(ImageError::Digest { .. }) => Some(Fit::Unknown),
                        Err(error) => return Err(error),
                    }
                }
                _ => None,
            };
            Ok(Inspection { value, attribute, fit })
        }
    };
    image.run(progress, start, &mut |found, inspection| report(found, inspection, sink))
}

/// Signs the selected files of an image, in that image: give a copy.
///
/// # Errors
/// Any defect of the image, and labels that were not written. The image is of no use then.
pub fn sign(
    image: &Image,
    options: &SignOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Signed>,
) -> Result<(), ImageError> {
    let SignOptions { labeler, algorithm, mode, dry_run } = *options;
    let key_id = labeler.key_id();
    let ext = image.writable()?;
    let start = || {
        let mut session: Option<LabelSession<'_>> = None;
        move |file: &mut Reader<'_>| {
            let digest = file.digest(algorithm)?;
            let sign_error = |error| file.found.sign_error(error);
            let session = match &mut session {
                Some(session) => session,
                none => none.insert(labeler.session().map_err(sign_error)?),
            };
            if mode == SignMode::Changed {
                if let Some(existing) = file.label()? {
                    let keeps = session.keeps(&existing, &digest);
                    if keeps.map_err(sign_error)? {
                        return Ok(None);
                    }
                }
            }
            let mut value = Vec::new();
            session.label(&digest, &mut value).map_err(sign_error)?;
            Ok(Some(value))
        }
    };
    let mut changes = Vec::new();
    image.run(progress, start, &mut |found, value: Option<Vec<u8>>| {
        let signed = match value {
            Some(value) => {
                changes.push(change_of(&found, Some(value))?);
                Signed::Signed { key_id }
            }
            None => Signed::Unchanged { key_id },
        };
        report(found, signed, sink)
    })?;
    match dry_run {
        true => Ok(()),
        false => change(image, ext, &changes),
    }
}

/// Takes the labels out of the selected files of an image, in that image: give a copy.
///
/// # Errors
/// Any defect of the image, and labels that were not removed.
pub fn clear(
    image: &Image,
    dry_run: bool,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Cleared>,
) -> Result<(), ImageError> {
    let ext = image.writable()?;
    let start = || |file: &mut Reader<'_>| Ok(file.label()?.is_some());
    let mut changes = Vec::new();
    image.run(progress, start, &mut |found, had_one| {
        if had_one {
            changes.push(change_of(&found, None)?);
        }
        report(found, if had_one { Cleared::Cleared } else { Cleared::Bare }, sink)
    })?;
    match dry_run {
        true => Ok(()),
        false => change(image, ext, &changes),
    }
}

fn change_of(found: &Found, label: Option<Vec<u8>>) -> Result<Change, ImageError> {
    let inode = Ext::number(&found.entry).map_err(ImageError::of)?;
    Ok(Change { path: found.path.clone(), inode, label })
}

/// Makes the changes, and reads them back.
fn change(image: &Image, ext: &Ext, changes: &[Change]) -> Result<(), ImageError> {
    if changes.is_empty() {
        return Ok(());
    }
    let (file, time) = (&image.bytes.0.file, ext.volume.written());
    let said = debugfs::apply(file, changes, time)?;
    if ext.volume.keeps_quotas() {
        debugfs::count_quotas(file, time)?;
    }
    let volume = Volume::open(image.bytes.clone())?;
    for Change { path, inode, label } in changes {
        if volume.attribute(&volume.inode(*inode, 0)?, XATTR_NAME_IMA)? != *label {
            let (path, said) = (path.clone(), debugfs::complaint(&said));
            return Err(ImageError::NotWritten { path, said });
        }
    }
    Ok(())
}
