//! Packages in the [`pool`]: each is a job, and so is each chunk of its files.
//!
//! 1. The producer walks directories and pushes each file as [`Job::Found`].
//! 2. A worker opens it and reads its headers ([`Worker::begin`]), processes the first [`CHUNK`] of files itself, and
//!    pushes the others as jobs that follow ([`Job::Chunk`]): one large package is signed by all workers.
//! 3. Each chunk adds its results to [`Work`], which its chunks share. The worker that finishes the last chunk
//!    ([`Work::left`] drops to 0, whichever chunk that is) sorts the results, writes the package and returns its
//!    result ([`Worker::complete`]).
//!
//! A package gives one result, under the number of its first job, so that results stay in the order of the walk. It is
//! written as a whole or not at all: the first file that fails sets [`Work::stop`], the remaining chunks of this package
//! end at once, and each still counts itself as finished. The payload is compared with the header once, by the first
//! file that needs it ([`Work::check_content`]). The package that was opened at the start is the one that is read until
//! the end, and it is checked for changes before its successor takes its place.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ima_format::evm::Metadata;
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::rpm::{tag, PackageType, ReservedSpace, FILE_CONFIG, FILE_GHOST};

use super::package::{Content, Package};
use super::payload::{self, PayloadFinding};
use super::write::write;
use super::{
    DigestCheck, Directories, FileContent, Listed, PackageError, PackageSummary, Packages, Payload,
    SourcePackages, WeakDigests,
};
use crate::container::error::{Anomaly, ContainerError, ItemError};
use crate::container::tree::{Candidate, Folders, Found, Walk};
use crate::container::{
    pool, Access, AttributeName, Change, Container, Event, Item, Operation, Report, Run, Selection,
    Sink, Summary,
};
use crate::digest::DigestKind;

/// Files that are taken at a time: enough work to be worth handing over.
const CHUNK: usize = 32;

/// A job of a worker.
enum Job<T> {
    Found { candidate: Candidate, below: PathBuf },
    Failed(PathBuf, PackageError),
    Chunk(Arc<Work<T>>, Range<usize>),
}

/// The result for a package.
struct Done<T> {
    path: PathBuf,
    size: u64,
    outcome: Completed<T>,
}

type Completed<T> = Result<(Summary, Vec<Report<T>>), ContainerError>;

/// A package whose files are processed.
struct Work<T> {
    package: Package,
    files: Vec<PackageFile>,
    /// The chunks that are not finished.
    left: AtomicUsize,
    stop: AtomicBool,
    results: Mutex<Vec<(usize, Processed<T>)>>,
    /// Whether the payload matches the header, if that was checked.
    checked: OnceLock<bool>,
    payload: Payload,
    digests: Vec<DigestCheck>,
    findings: Vec<PayloadFinding>,
}

type Processed<T> = Result<Option<(T, Change)>, ItemError>;

/// A file that a package lists.
struct PackageFile {
    path: PathBuf,
    size: u64,
    listed: Listed,
    has_content: bool,
    selected: bool,
    anomaly: Option<Anomaly>,
    /// Its signature; empty where it has none.
    signature: Vec<u8>,
}

impl PackageFile {
    /// Whether it is a file as others, or one without content: there is nothing to sign in one
    /// without a digest.
    fn is_item(&self, access: Access) -> bool {
        self.listed.digest.is_some() || (self.has_content && access != Access::Sets)
    }
}

/// A file, as an operation sees it.
struct PackageItem<'a, T> {
    work: &'a Work<T>,
    file: &'a PackageFile,
}

impl<T> Item for PackageItem<'_, T> {
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError> {
        let value = Some(&*self.file.signature).filter(|it| !it.is_empty());
        Ok(value.filter(|_| name == AttributeName::Ima).map(Cow::Borrowed))
    }

    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError> {
        let DigestKind::Content(algorithm) = kind else { return Err(Anomaly::NoVerity.into()) };
        let digest = self.file.listed.digest.filter(|digest| digest.algorithm() == algorithm);
        digest.ok_or(ItemError::Anomaly(Anomaly::OtherAlgorithm(algorithm)))
    }

    /// A header has names of owners, whose IDs are those of the target, and no place for the result.
    fn metadata(&self) -> Result<Metadata, ItemError> {
        Err(ItemError::NoMetadata("RPM headers have no place for security.evm"))
    }

    fn algorithm(&self) -> Option<HashAlgorithm> {
        self.file.listed.digest.map(|digest| digest.algorithm())
    }

    fn anomaly(&self) -> Option<Anomaly> {
        self.file.anomaly.clone()
    }

    fn check_content(&self) -> Result<(), ItemError> {
        self.work.check_content()
    }
}

impl<T> Work<T> {
    /// Compares the payload with the header, once.
    fn check_content(&self) -> Result<(), ItemError> {
        if self.payload == Payload::Left {
            return Ok(());
        }
        // the first one that asks unpacks the payload, and gives the error
        let mut failed = None;
        let good = *self.checked.get_or_init(|| {
            let content = self.package.content();
            let checked = content.and_then(|it| payload::unpack(&it)?.check(&it.files));
            failed = checked.err();
            failed.is_none()
        });
        match (failed, good) {
            (Some(error), _) => Err(error.into()),
            (None, true) => Ok(()),
            (None, false) => Err(ItemError::Changed),
        }
    }
}

/// The state of a thread.
struct Worker<'a, O: Operation> {
    packages: &'a Packages,
    run: &'a Run<'a, O>,
    state: O::Worker,
    folders: Folders,
}

impl<O: Operation> Worker<'_, O> {
    fn job(
        &mut self,
        job: Job<O::Outcome>,
        follow: &mut dyn FnMut(Job<O::Outcome>),
    ) -> Option<Done<O::Outcome>> {
        match job {
            Job::Failed(path, error) => Some(Done { path, size: 0, outcome: Err(error.into()) }),
            Job::Found { candidate, below } => {
                let (path, size) = (candidate.path.clone(), candidate.size);
                let outcome = match self.begin(candidate, below) {
                    Ok(Some(work)) => return self.chunks(work, follow),
                    Ok(None) => Ok((Summary::NotAPackage, Vec::new())),
                    Err(error) => Err(error),
                };
                self.run.progress.read(size);
                Some(Done { path, size, outcome })
            }
            Job::Chunk(work, range) => self.chunk(&work, range),
        }
    }

    /// Opens a package and reads its headers; `None` where it is no package.
    fn begin(
        &mut self,
        candidate: Candidate,
        below: PathBuf,
    ) -> Result<Option<Work<O::Outcome>>, ContainerError> {
        let Some(package) = Package::open(candidate, below, &mut self.folders)? else {
            return Ok(None);
        };
        let Packages { payload, .. } = *self.packages;
        let content = package.content()?;
        if O::ACCESS == Access::Sets {
            self.check(&content)?;
        }
        let selection = Some(&self.run.selection).filter(|_| package.candidate.named);
        let (mut digests, mut findings) = (Vec::new(), Vec::new());
        let mut contents = vec![None; content.files.len()];
        if O::ACCESS == Access::Reads {
            digests = content.header_digests()?;
            if payload == Payload::Unpacked {
                let unpacked = payload::unpack(&content)?;
                digests.extend(unpacked.digests);
                findings.extend(unpacked.finding);
                contents = unpacked.files;
            }
        }
        let files = match O::ACCESS {
            // whatever the signatures are, they need not be read
            Access::Removes if selects_all(selection) => Vec::new(),
            _ => list(&content, selection, contents)?,
        };
        let left = AtomicUsize::new(files.len().div_ceil(CHUNK).max(1));
        let (stop, results, checked) = Default::default();
        Ok(Some(Work { package, files, left, stop, results, checked, payload, digests, findings }))
    }

    /// Refuses a package whose digests are not to be signed.
    fn check(&self, content: &Content<'_>) -> Result<(), PackageError> {
        let Packages { weak_digests, source_packages, .. } = self.packages;
        let is_source = content.identity.package_type == PackageType::Source;
        if is_source && *source_packages == SourcePackages::Refused {
            return Err(PackageError::Source);
        }
        let algorithm = content.files.algorithm();
        if algorithm.is_weak() && *weak_digests == WeakDigests::Refused {
            return Err(PackageError::WeakDigests(algorithm));
        }
        content.check_header()?;
        match content.files.names_that_disagree() {
            Some((one, other)) => {
                let name = |file| String::from_utf8_lossy(&content.files.path(file)).into_owned();
                Err(PackageError::NamesDisagree(name(one), name(other)))
            }
            None => Ok(()),
        }
    }

    /// Processes the first chunk of a package, and has others process the rest.
    fn chunks(
        &mut self,
        work: Work<O::Outcome>,
        follow: &mut dyn FnMut(Job<O::Outcome>),
    ) -> Option<Done<O::Outcome>> {
        let work = Arc::new(work);
        let count = work.files.len();
        let done = self.chunk(&work, 0..count.min(CHUNK));
        for first in (CHUNK..count).step_by(CHUNK) {
            follow(Job::Chunk(Arc::clone(&work), first..count.min(first + CHUNK)));
        }
        done
    }

    /// Processes a chunk; the last one completes the package.
    fn chunk(
        &mut self,
        work: &Arc<Work<O::Outcome>>,
        range: Range<usize>,
    ) -> Option<Done<O::Outcome>> {
        let mut results = Vec::with_capacity(range.len());
        for index in range {
            let Some(file) = work.files.get(index).filter(|file| file.selected) else { continue };
            if work.stop.load(Ordering::Relaxed) {
                break;
            }
            let mut item = PackageItem { work, file };
            let processed = match file.is_item(O::ACCESS) {
                true => self.run.operation.item(&mut self.state, &mut item).map(Some),
                false => self
                    .run
                    .operation
                    .without_content(&item)
                    .map(|outcome| outcome.map(|outcome| (outcome, Change::none()))),
            };
            let failed = processed.is_err() && O::ACCESS.writes();
            results.push((index, processed));
            if failed {
                work.stop.store(true, Ordering::Relaxed);
            }
        }
        work.results.lock().unwrap_or_else(PoisonError::into_inner).extend(results);
        if work.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        let (path, size) = (work.package.candidate.path.clone(), work.package.candidate.size);
        let outcome = self.complete(work);
        self.run.progress.read(size);
        Some(Done { path, size, outcome })
    }

    /// Writes a package, and gives its result.
    fn complete(&self, work: &Work<O::Outcome>) -> Completed<O::Outcome> {
        let mut results = work.results.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results = std::mem::take(&mut *results);
        results.sort_by_key(|(index, _)| *index);
        let content = work.package.content()?;
        let mut reports = Vec::new();
        let mut changes = Vec::new();
        let mut failed: Option<(PathBuf, ItemError)> = None;
        for (index, processed) in results {
            let Some(PackageFile { path, size, listed, .. }) = work.files.get(index) else {
                continue;
            };
            let outcome = match processed {
                Ok(None) => continue,
                Ok(Some((outcome, change))) => {
                    changes.push((index, change));
                    Ok(outcome)
                }
                Err(error) if O::ACCESS.writes() => {
                    // the error that others follow from says most
                    if failed.as_ref().map_or(true, |(_, first)| rank(&error) > rank(first)) {
                        failed = Some((path.clone(), error));
                    }
                    continue;
                }
                Err(error) => Err(error),
            };
            reports.push(Report {
                part: None,
                path: path.clone(),
                size: *size,
                outcome,
                listed: Some(*listed),
            });
        }
        match failed {
            Some((_, ItemError::Container(error))) => return Err(*error),
            Some((path, source)) => return Err(ContainerError::Item { path, source }),
            None => {}
        }
        let changed = match O::ACCESS {
            Access::Reads => {
                work.package.open.check_unchanged().map_err(PackageError::from)?;
                false
            }
            access => {
                let nothing_signed = changes.is_empty();
                let header = self.header(&content, work, access, changes)?;
                if access == Access::Sets && (header.is_some() || nothing_signed) {
                    match work.check_content() {
                        Err(ItemError::Container(error)) => return Err(*error),
                        checked => checked.map_err(PackageError::from)?,
                    }
                }
                let header = header.as_deref().unwrap_or(content.signature.bytes());
                write(&content, header, &self.run.destination)?;
                header != content.signature.bytes()
            }
        };
        Ok((Summary::Package(Box::new(summary(content, work, changed))), reports))
    }

    /// The signature header with the changes; `None` where nothing changes.
    fn header(
        &self,
        content: &Content<'_>,
        work: &Work<O::Outcome>,
        access: Access,
        changes: Vec<(usize, Change)>,
    ) -> Result<Option<Vec<u8>>, PackageError> {
        let signature = &content.signature;
        let tags = [tag::SIG_FILESIGNATURES, tag::SIG_FILESIGNATURELENGTH];
        let has_tags = tags.iter().any(|tag| signature.find(*tag).is_some());
        if access == Access::Removes && (work.files.is_empty() || !has_tags) {
            return Ok(match has_tags {
                true => Some(signature.without_file_signatures()?),
                false => None,
            });
        }
        let mut values: Vec<_> = work.files.iter().map(|file| file.signature.clone()).collect();
        for (value, file) in values.iter_mut().zip(&work.files) {
            // nothing but content is signed
            if file.selected && (access == Access::Removes || file.listed.digest.is_none()) {
                value.clear();
            }
        }
        let mut set = false;
        for (index, change) in changes {
            for (_, edit) in change.edits().filter(|(name, _)| *name == AttributeName::Ima) {
                set |= edit.value().is_some();
                if let Some(value) = values.get_mut(index) {
                    *value = edit.value().unwrap_or_default().to_vec();
                }
            }
        }
        let same = values.iter().zip(&work.files).all(|(value, file)| *value == file.signature);
        let reserved = match access {
            Access::Sets => self.packages.reserved,
            _ if signature.room_is_taken() => ReservedSpace::Use,
            _ => ReservedSpace::Keep,
        };
        Ok(match (access, same && !set) {
            (_, true) => None,
            (Access::Removes, false) if values.iter().all(Vec::is_empty) => {
                Some(signature.without_file_signatures()?)
            }
            _ => Some(signature.with_file_signatures(&values, reserved)?),
        })
    }
}

/// How much an error says of why a package was not written.
fn rank(error: &ItemError) -> u8 {
    match error {
        ItemError::KeyLost(_) | ItemError::Changed => 0,
        ItemError::Container(_) => 2,
        _ => 1,
    }
}

fn selects_all(selection: Option<&Selection>) -> bool {
    selection.map_or(true, Selection::is_all)
}

/// The files of a package.
fn list(
    content: &Content<'_>,
    selection: Option<&Selection>,
    contents: Vec<Option<FileContent>>,
) -> Result<Vec<PackageFile>, PackageError> {
    let list = &content.files;
    let signatures = content.signature.file_signatures(list.len())?.unwrap_or_default();
    let mut signatures = signatures.into_iter();
    let files = list.iter().zip(list.content_holders()).zip(contents);
    let files = files.map(|((file, holder), unpacked)| {
        let path = list.path(file);
        let below_root = Path::new(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(&path)));
        let holder = list.get(holder).unwrap_or(file);
        PackageFile {
            selected: selection.map_or(true, |selection| selection.selects(below_root)),
            path: PathBuf::from(OsStr::from_bytes(&path)),
            size: file.size,
            listed: Listed {
                digest: file.digest,
                is_config: file.flags & FILE_CONFIG != 0,
                is_ghost: file.flags & FILE_GHOST != 0,
                content: unpacked,
            },
            has_content: file.has_content(),
            anomaly: match file.digest {
                None if file.has_content() => Some(Anomaly::NoDigest),
                Some(_) if !file.agrees_with(holder) => Some(Anomaly::NameDisagrees),
                _ => None,
            },
            signature: signatures.next().unwrap_or_default(),
        }
    });
    Ok(files.collect())
}

fn summary<T>(content: Content<'_>, work: &Work<T>, changed: bool) -> PackageSummary {
    let filler = [tag::SIG_RESERVED, tag::SIG_RESERVEDSPACE];
    let filler = filler.iter().find_map(|tag| content.signature.find(*tag));
    PackageSummary {
        algorithm: content.files.algorithm(),
        digests: work.digests.clone(),
        payload: work.findings.iter().map(PayloadFinding::to_string).collect(),
        changed,
        signature_header_size: content.signature.bytes().len(),
        reserved_space: filler.map_or(0, |entry| entry.count as usize),
        identity: content.identity,
    }
}

impl Container for Packages {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        let stop = AtomicBool::new(false);
        let (packages, progress) = (&self, run.progress);
        let produce = |queue: &mut dyn FnMut(Job<O::Outcome>, u64)| {
            // a path that is named must be a package, even if it is found below another root as well
            let mut walk = Walk::new(&run.selection, O::LEFT_OVER, false);
            for root in &packages.roots {
                let is_directory =
                    std::fs::symlink_metadata(root).is_ok_and(|found| found.is_dir());
                if is_directory && packages.directories == Directories::Refused {
                    progress.found(0);
                    queue(Job::Failed(root.clone(), PackageError::Directory), 0);
                    continue;
                }
                walk.root(root, &mut |found| {
                    let size = found.size();
                    let job = match found {
                        Found::File(candidate) => {
                            let below = candidate.path.strip_prefix(root).ok();
                            let below = below.filter(|_| !candidate.named);
                            let name = || candidate.path.file_name().unwrap_or_default().into();
                            let below = below.map_or_else(name, Path::to_owned);
                            Job::Found { candidate, below }
                        }
                        Found::Failed(path, error) => Job::Failed(path, PackageError::Walk(error)),
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
            let (state, folders) = (run.operation.worker(), Folders::default());
            let mut worker = Worker { packages, run, state, folders };
            move |job, follow: &mut dyn FnMut(Job<O::Outcome>)| worker.job(job, follow)
        };
        let workers = pool::Workers { jobs: run.jobs, batch: 1 };
        pool::run_following(workers, &stop, produce, start, &mut |done: Done<_>| {
            let Done { path, size, outcome } = done;
            progress.finished(size);
            let (path, container) = (&path, Some(path.as_path()));
            let outcome = match outcome {
                Ok((summary, reports)) => {
                    for report in reports {
                        sink(Event::Item { container, report })?;
                    }
                    Ok(summary)
                }
                Err(error) => Err(error),
            };
            sink(Event::Container { path, outcome })
        })
    }
}
