//! The reader, the workers, the writer.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use ima_format::hash::HashAlgorithm;
use ima_format::tar::{
    padding, AfterEnd, Input as _, Item, Member, MemberKind, Parser, BLOCK_SIZE,
};

use super::content::{Budget, Data, Expander, Permit, HELD, IN_MEMORY};
use super::input::Stream;
use super::{below_root, Archive, Extent, MemberError, Report, Sink, Spool, TarError};
use crate::digest::{FileHasher, Hasher};

use crate::container::{pool, Progress, Selection};

/// A chunk of data that passes.
const CHUNK: usize = 256 << 10;

/// What an operation wants of a selected file's data.
pub(super) enum Wants<'a> {
    /// All of it, before the header is written.
    Held(Spool<'a>),
    /// A digest of it.
    Digest(HashAlgorithm),
    /// Nothing.
    Nothing,
}

/// What is done with an archive.
pub(super) trait Operation: Sync {
    /// What becomes of a member.
    type Outcome: Send;
    /// What a thread has for it.
    type Worker;

    /// What it wants of a selected file's data.
    fn wants(&self, member: &Member) -> Wants<'_>;
    /// A thread's means.
    fn worker(&self) -> Self::Worker;
    /// Deals with a selected file.
    fn file(
        &self,
        worker: &mut Self::Worker,
        member: &mut Member,
        data: &Data,
    ) -> Result<Self::Outcome, TarError>;
    /// Deals with a selected hard link that says something of a label, or whose file was not
    /// dealt with.
    fn link(
        &self,
        member: &mut Member,
        target: Target,
    ) -> Result<Option<Self::Outcome>, MemberError>;
}

/// What a hard link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A file with the label that the link gives, too.
    SameLabel,
    /// A file with another label.
    OtherLabel,
    /// A file that is not selected.
    NotSelected,
    /// Nothing that came before.
    Missing,
}

/// What goes from the reader to a worker.
enum Piece {
    /// Bytes that pass.
    Bytes(Vec<u8>),
    File(Box<Member>, Data, Option<Permit>),
    Link(Box<Member>, Target),
    Failed(TarError),
}

/// What goes from a worker to the writer.
struct Done<T> {
    bytes: Vec<u8>,
    data: Option<Data>,
    report: Option<Report<T>>,
    /// Given back when it is written.
    _permits: (Permit, Option<Permit>),
}

/// Reads an archive, has its members dealt with and writes what comes of it to `output`, if
/// there is one.
pub(super) fn run<O: Operation>(
    archive: Archive<'_>,
    operation: &O,
    mut output: Option<&mut dyn Write>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, O::Outcome>,
) -> Result<Extent, TarError> {
    let stop = AtomicBool::new(false);
    let Archive { source, selection, jobs, max_sparse, after_end, .. } = archive;
    let (memory, spools) = (Budget::new(HELD), Budget::new(jobs.get().max(2) as u64));
    let writes = output.is_some();
    let mut extent = Extent::default();
    let produce = |queue: &mut dyn FnMut((Piece, Permit), u64)| {
        let mut reader = Reader {
            stream: Stream::new(source),
            operation,
            writes,
            selection: &selection,
            progress,
            stop: &stop,
            memory: &memory,
            spools: &spools,
            labels: Labels::default(),
            foreign: 0,
            zeros: 0,
            max_sparse,
            // in the order of the archive: each is as large as any other
            queue: &mut |piece, permit| queue((piece, permit), 0),
        };
        if let Err(error) = reader.read(after_end) {
            (reader.queue)(Piece::Failed(error), memory.take(0));
        }
        extent = Extent { size: reader.stream.offset(), foreign: reader.foreign };
    };
    let start = || {
        let mut worker = operation.worker();
        move |(piece, permit)| deal_with(operation, &mut worker, piece, permit)
    };
    // what a piece holds is given back when it is written
    let workers = pool::Workers { jobs, batch: 1 };
    pool::run(workers, &stop, produce, start, &mut |done| {
        let written = done.and_then(|done| write(done, &mut output, progress, sink));
        if written.is_err() {
            stop.store(true, Ordering::Relaxed);
            memory.close();
            spools.close();
        }
        written
    })?;
    Ok(extent)
}

fn deal_with<O: Operation>(
    operation: &O,
    worker: &mut O::Worker,
    piece: Piece,
    permit: Permit,
) -> Result<Done<O::Outcome>, TarError> {
    let mut done = Done { bytes: Vec::new(), data: None, report: None, _permits: (permit, None) };
    match piece {
        Piece::Failed(error) => return Err(error),
        Piece::Bytes(bytes) => done.bytes = bytes,
        Piece::File(mut member, data, spool) => {
            let outcome = Ok(operation.file(worker, &mut member, &data)?);
            member.encode_into(&mut done.bytes);
            done.report = Some(Report { path: path_of(&member), size: member.size(), outcome });
            (done.data, done._permits.1) = (Some(data), spool);
        }
        Piece::Link(mut member, target) => {
            let outcome = operation.link(&mut member, target).transpose();
            member.encode_into(&mut done.bytes);
            let path = path_of(&member);
            done.report = outcome.map(|outcome| Report { path, size: 0, outcome });
        }
    }
    Ok(done)
}

fn write<T>(
    done: Done<T>,
    output: &mut Option<&mut dyn Write>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, T>,
) -> Result<(), TarError> {
    if let Some(output) = output {
        output.write_all(&done.bytes).map_err(TarError::Write)?;
        if let Some(data) = done.data {
            data.write_to(output).map_err(TarError::Write)?;
        }
    }
    match done.report {
        Some(report) => {
            progress.finished(report.size);
            sink(report).map_err(TarError::Report)
        }
        None => Ok(()),
    }
}

/// How much memory a member takes on its way, without its data: it is there as it was read,
/// changed, and encoded.
fn held(member: &Member) -> u64 {
    2048 + 3 * member.memory()
}

pub(super) fn path_of(member: &Member) -> PathBuf {
    PathBuf::from(OsString::from_vec(member.path.clone()))
}

/// Which label each file has: hashes, under a key that nobody knows, of names and labels.
#[derive(Default)]
struct Labels {
    key: RandomState,
    known: HashMap<u64, u64>,
}

/// In place of a label's hash: the file is not selected.
const NOT_SELECTED: u64 = 0;
/// In place of a label's hash: a device or a symbolic link, which no label is needed for.
const NO_FILE: u64 = 1;

impl Labels {
    fn name(&self, name: &[u8]) -> u64 {
        self.key.hash_one(below_root(Path::new(&OsString::from_vec(name.to_vec()))))
    }

    fn label(&self, label: Option<&[u8]>) -> u64 {
        self.key.hash_one(label).max(NO_FILE + 1)
    }

    fn insert(&mut self, name: &[u8], known: u64) {
        self.known.insert(self.name(name), known);
    }

    /// Enters another name of `target`; `None` where that leads to something without content.
    fn link(&mut self, name: &[u8], target: &[u8], label: Option<&[u8]>) -> Option<Target> {
        let Some(known) = self.known.get(&self.name(target)).copied() else {
            return Some(Target::Missing);
        };
        self.insert(name, known);
        match known {
            NO_FILE => None,
            NOT_SELECTED => Some(Target::NotSelected),
            known if known == self.label(label) => Some(Target::SameLabel),
            _ => Some(Target::OtherLabel),
        }
    }
}

struct Reader<'a, O> {
    stream: Stream<'a>,
    operation: &'a O,
    /// Whether what is read will be written.
    writes: bool,
    selection: &'a Selection,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    memory: &'a Arc<Budget>,
    /// How many temporary files there may be.
    spools: &'a Arc<Budget>,
    labels: Labels,
    /// Bytes after the end of the archive.
    foreign: u64,
    /// How many zeros of sparse files are digested, so far and at most.
    zeros: u64,
    max_sparse: u64,
    queue: &'a mut dyn FnMut(Piece, Permit),
}

impl<O: Operation> Reader<'_, O> {
    fn read(&mut self, after_end: AfterEnd) -> Result<(), TarError> {
        let mut parser = Parser::new(after_end);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(item) = parser.next(&mut self.stream)? else {
                break;
            };
            match item {
                Item::Member(member) => self.member(member)?,
                Item::Zeros => self.pass(vec![0; BLOCK_SIZE]),
                Item::Global(extension) => {
                    let mut bytes = Vec::new();
                    extension.encode_into(&mut bytes);
                    self.pass(bytes);
                }
                Item::Foreign(bytes) => self.foreign(bytes)?,
            }
        }
        match self.stream.offset() {
            0 => Err(TarError::Empty),
            _ => Ok(()),
        }
    }

    /// Passes on what follows the end of the archive, to the end of the input.
    fn foreign(&mut self, first: Vec<u8>) -> Result<(), TarError> {
        self.foreign += first.len() as u64;
        self.pass(first);
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = self.stream.read(&mut chunk)?;
            chunk.truncate(read);
            self.foreign += read as u64;
            self.pass(chunk);
            if read < CHUNK || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn pass(&mut self, bytes: Vec<u8>) {
        if self.writes {
            // what a queue's entry costs besides
            let permit = self.memory.take(bytes.len() as u64 + 256);
            (self.queue)(Piece::Bytes(bytes), permit);
        }
    }

    /// Passes on a member as it is; `begun` of its data was read.
    fn pass_member(&mut self, member: &Member, begun: Vec<u8>) -> Result<(), TarError> {
        let left = member.stored + padding(member.stored) as u64 - begun.len() as u64;
        let mut head = Vec::new();
        member.encode_into(&mut head);
        self.pass(head);
        self.pass(begun);
        self.chunks(left, |reader, chunk| {
            reader.pass(chunk);
            Ok(())
        })
    }

    /// Reads `left` bytes in chunks.
    fn chunks(
        &mut self,
        mut left: u64,
        mut take: impl FnMut(&mut Self, Vec<u8>) -> Result<(), TarError>,
    ) -> Result<(), TarError> {
        while left > 0 && !self.stop.load(Ordering::Relaxed) {
            let size = left.min(CHUNK as u64);
            let mut chunk = vec![0; size as usize];
            self.stream.read_exact(&mut chunk)?;
            take(self, chunk)?;
            left -= size;
        }
        Ok(())
    }

    fn member(&mut self, mut member: Member) -> Result<(), TarError> {
        let label = member.label();
        let label = label.map_err(|(offset, kind)| TarError::Malformed { offset, kind })?;
        let path = below_root(&path_of(&member));
        let is_selected = self.selection.selects(&path);
        match member.kind {
            MemberKind::Other => {
                self.labels.insert(&member.path, NO_FILE);
                return self.pass_member(&member, Vec::new());
            }
            MemberKind::HardLink => return self.link(member, is_selected, label.as_deref()),
            MemberKind::File if !is_selected => self.labels.insert(&member.path, NOT_SELECTED),
            MemberKind::File => {
                let label = self.labels.label(label.as_deref());
                self.labels.insert(&member.path, label);
            }
        }
        let all = member.stored + padding(member.stored) as u64;
        // with this member: what it holds, and what the rest of the queue is told to wait for
        let in_memory = all.min(IN_MEMORY);
        let permit = self.memory.take(in_memory + held(&member));
        let mut begun = Vec::new();
        self.stream.bytes(in_memory as usize, &mut begun)?;
        let stored = begun.len().min(usize::try_from(member.stored).unwrap_or(usize::MAX));
        let starts_with_hole = |sparse: &ima_format::tar::SparseMap| {
            sparse.segments().first().map_or(true, |segment| segment.offset > 0)
        };
        let head = match member.sparse.as_ref().is_some_and(starts_with_hole) {
            true => &[],
            false => &begun[..stored.min(4)],
        };
        if !is_selected || !self.selection.wants_head(&path, head) {
            drop(permit);
            return self.pass_member(&member, begun);
        }
        self.progress.found(member.stored);
        let left = all - in_memory;
        let wants = self.operation.wants(&member);
        if !matches!(wants, Wants::Nothing) {
            self.count_zeros(&member)?;
        }
        let (data, spool) = match wants {
            _ if left == 0 => (Data::Memory(begun), None),
            Wants::Held(spool) => {
                let turn = self.spools.take(1);
                (Data::Spooled(self.spool(&spool, &member, begun, left)?), Some(turn))
            }
            Wants::Digest(algorithm) => {
                let digest = self.digest(&mut member, algorithm, &begun[..stored], left);
                (digest?, None)
            }
            Wants::Nothing if self.writes => {
                drop(permit);
                return self.edit(member, begun, left);
            }
            Wants::Nothing => {
                self.chunks(left, |_, _| Ok(()))?;
                (Data::Digested(None), None)
            }
        };
        (self.queue)(Piece::File(Box::new(member), data, spool), permit);
        Ok(())
    }

    /// Counts the holes of a member that is going to be digested.
    fn count_zeros(&mut self, member: &Member) -> Result<(), TarError> {
        self.zeros = self.zeros.saturating_add(member.size().saturating_sub(member.stored));
        match self.zeros <= self.max_sparse {
            true => Ok(()),
            false => Err(TarError::Sparse {
                path: path_of(member),
                holes: self.zeros,
                limit: self.max_sparse,
            }),
        }
    }

    /// Has a member dealt with whose data is not looked at, and passes that on.
    fn edit(&mut self, member: Member, begun: Vec<u8>, left: u64) -> Result<(), TarError> {
        let permit = self.memory.take(begun.len() as u64 + held(&member));
        (self.queue)(Piece::File(Box::new(member), Data::Memory(begun), None), permit);
        self.chunks(left, |reader, chunk| {
            reader.pass(chunk);
            Ok(())
        })
    }

    fn link(
        &mut self,
        member: Member,
        is_selected: bool,
        label: Option<&[u8]>,
    ) -> Result<(), TarError> {
        let target = self.labels.link(&member.path, &member.link, label);
        let target = match target {
            Some(target @ (Target::NotSelected | Target::Missing)) => target,
            Some(target) if member.mentions_label() => target,
            _ => return self.pass_member(&member, Vec::new()),
        };
        if !is_selected {
            return self.pass_member(&member, Vec::new());
        }
        self.progress.found(0);
        let permit = self.memory.take(held(&member));
        (self.queue)(Piece::Link(Box::new(member), target), permit);
        Ok(())
    }

    /// Puts a large member's data aside.
    fn spool(
        &mut self,
        spool: &Spool<'_>,
        member: &Member,
        begun: Vec<u8>,
        left: u64,
    ) -> Result<File, TarError> {
        let fail = |source| TarError::Spool { directory: spool.directory.to_owned(), source };
        (spool.announce)(&path_of(member), begun.len() as u64 + left);
        let mut file = tempfile::tempfile_in(spool.directory).map_err(fail)?;
        file.write_all(&begun).map_err(fail)?;
        self.chunks(left, |_, chunk| file.write_all(&chunk).map_err(fail))?;
        Ok(file)
    }

    /// Digests a large member while it is read.
    fn digest(
        &mut self,
        member: &mut Member,
        algorithm: HashAlgorithm,
        begun: &[u8],
        left: u64,
    ) -> Result<Data, TarError> {
        let path = path_of(member);
        let fail = |source| TarError::Digest { path: path.clone(), source };
        // without an implementation, the worker tells
        let Ok(mut hasher) = Hasher::new(algorithm) else {
            self.chunks(left, |_, _| Ok(()))?;
            return Ok(Data::Digested(None));
        };
        let mut expander = Expander::new(member.sparse.as_ref());
        expander.update(begun, &mut hasher).map_err(fail)?;
        let mut stored = member.stored - begun.len() as u64;
        self.chunks(left, |reader, chunk| {
            let data = chunk.len().min(usize::try_from(stored).unwrap_or(usize::MAX));
            stored -= data as u64;
            reader.progress.read(data as u64);
            expander.update(&chunk[..data], &mut hasher).map_err(fail)
        })?;
        expander.finish(&mut hasher).map_err(fail)?;
        let digest = hasher.finish().map_err(fail)?;
        Ok(Data::Digested(Some(digest)))
    }
}

/// A worker that digests.
pub(super) fn digest(
    hasher: &mut FileHasher,
    member: &Member,
    data: &Data,
    algorithm: HashAlgorithm,
    progress: &dyn Progress,
) -> Result<ima_format::hash::Digest, crate::digest::DigestError> {
    data.digest(member, hasher, algorithm, &|bytes| progress.read(bytes))
}
