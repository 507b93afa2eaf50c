//! The walk, the workers, the reports.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::ext4::Inode;
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::xattr::Attribute;

use super::debugfs::{self, Change};
use super::{Image, ImageError, Report, SignOptions, Sink};
use crate::digest::{DigestError, Hasher};
use crate::sign::LabelSession;
use crate::target::tree::{Cleared, Fit, Inspection, SignMode, Signed};
use crate::target::{pool, Progress};
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// A file that the walk found.
struct Found {
    path: PathBuf,
    inode: Inode,
}

impl Found {
    fn sign_error(&self, source: crate::key::SignError) -> ImageError {
        ImageError::Sign { path: self.path.clone(), source }
    }
}

/// One thread's means to read.
struct Reader<'a> {
    image: &'a Image,
    progress: &'a dyn Progress,
}

impl Reader<'_> {
    fn label(&self, file: &Found) -> Result<Option<Vec<u8>>, ImageError> {
        self.image.volume.label(&file.inode)
    }

    fn digest(&self, file: &Found, algorithm: HashAlgorithm) -> Result<Digest, ImageError> {
        let fail = |source: DigestError| ImageError::Digest { path: file.path.clone(), source };
        let mut hasher = Hasher::new(algorithm).map_err(fail)?;
        self.image.volume.content(&file.inode, &mut |part| {
            self.progress.read(part.len() as u64);
            hasher.update(part).map_err(fail)
        })?;
        hasher.finish().map_err(fail)
    }

    /// Whether a file is of a kind that is meant.
    fn wants(&self, file: &Found) -> Result<bool, ImageError> {
        if self.image.selection.wants_head(&file.path, &[]) {
            return Ok(true);
        }
        let mut head = Vec::new();
        // the first part is enough: it is larger than a head
        let read = self.image.volume.content(&file.inode, &mut |part| {
            head.extend_from_slice(&part[..part.len().min(4)]);
            Err(ImageError::Unsupported("read as far as needed"))
        });
        match read {
            Ok(()) | Err(ImageError::Unsupported(_)) => {
                Ok(self.image.selection.wants_head(&file.path, &head))
            }
            Err(error) => Err(error),
        }
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
        W: FnMut(&Found) -> Result<T, ImageError>,
    {
        let stop = AtomicBool::new(false);
        let produce = |queue: &mut dyn FnMut(Result<Found, ImageError>, u64)| {
            let path_of = |path: Vec<u8>| PathBuf::from(OsString::from_vec(path));
            let mut descend = |path: &[u8]| self.selection.descends(&path_of(path.to_vec()));
            let walked = self.volume.walk(&mut descend, &mut |path, inode| {
                let path = path_of(path);
                if self.selection.selects(&path) {
                    let size = inode.size();
                    progress.found(size);
                    queue(Ok(Found { path, inode }), size);
                }
                !stop.load(Ordering::Relaxed)
            });
            if let Err(error) = walked {
                queue(Err(error), 0);
            }
        };
        let start = || {
            let reader = Reader { image: self, progress };
            let mut worker = start();
            move |found: Result<Found, ImageError>| {
                let found = found?;
                let size = found.inode.size();
                if !reader.wants(&found)? {
                    progress.finished(size);
                    return Ok(None);
                }
                let outcome = worker(&found)?;
                progress.finished(size);
                Ok(Some((found, outcome)))
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
    let (path, size) = (found.path, found.inode.size());
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
        let reader = Reader { image, progress };
        let mut verifier = Verifier::new(keyring.clone());
        move |file: &Found| {
            let label = reader.label(file)?;
            let digest_of = |algorithm| reader.digest(file, algorithm);
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
        let reader = Reader { image, progress };
        move |file: &Found| {
            let value = reader.label(file)?;
            let attribute = value.as_deref().map(Attribute::decode);
            let fit = match &attribute {
                Some(Ok(Attribute::Digest(expected) | Attribute::DigestNg(expected))) => {
                    match reader.digest(file, expected.algorithm()) {
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
    let start = || {
        let reader = Reader { image, progress };
        let mut session: Option<LabelSession<'_>> = None;
        move |file: &Found| {
            let digest = reader.digest(file, algorithm)?;
            let session = match &mut session {
                Some(session) => session,
                none => none.insert(labeler.session().map_err(|error| file.sign_error(error))?),
            };
            if mode == SignMode::Changed {
                if let Some(existing) = reader.label(file)? {
                    let keeps = session.keeps(&existing, &digest);
                    if keeps.map_err(|error| file.sign_error(error))? {
                        return Ok(None);
                    }
                }
            }
            let mut value = Vec::new();
            session.label(&digest, &mut value).map_err(|error| file.sign_error(error))?;
            Ok(Some(value))
        }
    };
    let mut changes = Vec::new();
    image.run(progress, start, &mut |found, value: Option<Vec<u8>>| {
        let signed = match value {
            Some(value) => {
                let (path, inode) = (found.path.clone(), found.inode.number());
                changes.push(Change { path, inode, label: Some(value) });
                Signed::Signed { key_id }
            }
            None => Signed::Unchanged { key_id },
        };
        report(found, signed, sink)
    })?;
    match dry_run {
        true => Ok(()),
        false => change(image, &changes),
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
    let start = || {
        let reader = Reader { image, progress };
        move |file: &Found| Ok(reader.label(file)?.is_some())
    };
    let mut changes = Vec::new();
    image.run(progress, start, &mut |found, had_one| {
        if had_one {
            let (path, inode) = (found.path.clone(), found.inode.number());
            changes.push(Change { path, inode, label: None });
        }
        report(found, if had_one { Cleared::Cleared } else { Cleared::Bare }, sink)
    })?;
    match dry_run {
        true => Ok(()),
        false => change(image, &changes),
    }
}

/// Makes the changes, and reads them back.
fn change(image: &Image, changes: &[Change]) -> Result<(), ImageError> {
    if changes.is_empty() {
        return Ok(());
    }
    let said = debugfs::apply(&image.path, changes, image.volume.written())?;
    if image.volume.keeps_quotas() {
        debugfs::count_quotas(&image.path, image.volume.written())?;
    }
    let volume = Image::volume(&image.path)?;
    for Change { path, inode, label } in changes {
        if volume.label(&volume.inode(*inode, 0)?)? != *label {
            let (path, said) = (Path::new(path).to_owned(), debugfs::complaint(&said));
            return Err(ImageError::NotWritten { path, said });
        }
    }
    Ok(())
}
