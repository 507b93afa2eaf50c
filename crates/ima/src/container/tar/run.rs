//! An archive as a stream: a reader, workers, and a writer, in the threads of the [`pool`].
//!
//! 1. The reader ([`Reader::read`], the producer) parses members, and reads the data of each into memory, into a
//!    temporary file, or past a hasher if only the digest is needed ([`Data`]). Members that are not selected, and
//!    everything that is not a file, become [`Piece::Bytes`]. Hard links are resolved here, because only the reader sees
//!    the members in order ([`Names`]).
//! 2. A worker ([`process`]) gives a file to the operation, changes the attributes in its header, and encodes it.
//! 3. The writer ([`write()`], in the caller's thread) writes header and data, and reports the outcome.
//!
//! The order of pieces is that of the archive throughout, so that bytes which do not change are the same in the result.
//! The header must be written before the data, but the signature in it depends on the data: that is why a member is
//! held at all. Two budgets bound this. Each piece has a [`Permit`] for its memory (together [`HELD`] bytes), and each
//! temporary file has one as well. The reader waits for permits, and only the writer gives them back, after it has
//! written the piece. Workers therefore take one piece at a time (`batch: 1`): a batch would keep the permits of its
//! pieces until the last one is done, while the reader waits for them. When a write fails, both budgets are closed,
//! which wakes the reader.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use ima_format::evm::{self, Metadata};
use ima_format::hash::Digest;
use ima_format::kind::Nested;
use ima_format::tar::{
    padding, Input as _, Item as Parsed, Member, MemberKind, Parser, BLOCK_SIZE,
};

use ima_format::ErrorKind;

use super::content::{Budget, Data, End, Expander, Permit, HELD, IN_MEMORY};
use super::input::Stream;
use super::names::{Found, Names};
use super::{below_root, path_of, Extent, TarError};
use crate::container::error::{Anomaly, ContainerError, ItemError};
use crate::container::{
    pool, settle, AttributeName, Change, Content, FurtherName, Item, Operation, Progress, Report,
    Reports, Run,
};
use crate::digest::{DigestKind, FileHasher, Hasher};

/// A chunk of data that passes.
const CHUNK: usize = 256 << 10;

/// The target of a hard link, compared with the attributes of the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A file with the same attributes.
    SameAttributes,
    /// A file with other attributes.
    OtherAttributes,
    /// A file that is not selected.
    NotSelected,
    /// Nothing that came before.
    Missing,
}

/// A piece of the archive, from the reader to a worker.
enum Piece {
    /// Bytes that pass.
    Bytes(Vec<u8>),
    File(Box<Member>, Data, Option<Permit>),
    Link(Box<Member>, Target),
    Failed(TarError),
}

/// A member, as an operation sees it.
struct TarItem<'a> {
    member: &'a Member,
    path: &'a Path,
    data: &'a Data,
    hasher: &'a mut FileHasher,
    progress: &'a dyn Progress,
}

impl Item for TarItem<'_> {
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError> {
        let value = self.member.attribute(name.as_str()).map_err(malformed)?;
        Ok(value.map(Cow::Owned))
    }

    fn has_attribute(&self, name: AttributeName) -> Result<bool, ItemError> {
        Ok(self.member.mentions_attribute(name.as_str()))
    }

    fn path(&self) -> Option<&Path> {
        Some(self.path)
    }

    fn metadata(&self) -> Result<Metadata, ItemError> {
        let (mode, uid, gid) = self.member.access().map_err(malformed)?;
        if self.member.mentions_keyword(b"RHT.security.selinux") {
            let reason = "an SELinux label that only GNU tar with --selinux unpacks \
                          (RHT.security.selinux)";
            return Err(ItemError::NoMetadata(reason));
        }
        // no permission is lost: there are 12 bits
        Ok(Metadata { uid, gid, mode: evm::REGULAR | mode as u16 })
    }

    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError> {
        let progress = |bytes| self.progress.read(bytes);
        Ok(self.data.digest(self.member, self.hasher, kind, &progress)?)
    }

    fn content(&self) -> Option<&dyn Content> {
        self.end().filter(|_| self.data.start(self.member.stored) == Some(0))
    }

    fn end(&self) -> Option<&dyn Content> {
        // offsets of a sparse file are not those of its data
        let has_end = self.data.start(self.member.stored).is_some();
        (self.member.sparse.is_none() && has_end).then_some(self)
    }
}

impl Content for TarItem<'_> {
    fn size(&self) -> u64 {
        self.member.stored
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ItemError> {
        self.data.read_at(self.member.stored, offset, buffer)
    }
}

fn malformed((offset, kind): (u64, ErrorKind)) -> ItemError {
    ItemError::Container(Box::new(TarError::Malformed { offset, kind }.into()))
}

/// A processed piece, from a worker to the writer.
struct Done<T> {
    bytes: Vec<u8>,
    data: Option<Data>,
    report: Option<Report<T>>,
    /// Given back when it is written.
    _permits: (Permit, Option<Permit>),
}

/// Reads an archive, has its members processed, and writes the result to `output`, if there is
/// one.
pub(in crate::container) fn run<O: Operation>(
    archive: Box<dyn Read + Send + '_>,
    run: &Run<'_, O>,
    mut output: Option<&mut dyn Write>,
    reports: &mut Reports<'_, O>,
) -> Result<Extent, ContainerError> {
    let stop = AtomicBool::new(false);
    let (memory, spools) = (Budget::new(HELD), Budget::new(run.jobs.get().max(2) as u64));
    let writes = output.is_some();
    let mut extent = Extent::default();
    let produce = |queue: &mut dyn FnMut((Piece, Permit), u64)| {
        let mut reader = Reader {
            stream: Stream::new(archive),
            writes,
            run,
            stop: &stop,
            memory: &memory,
            spools: &spools,
            names: Names::default(),
            foreign: 0,
            holes: run.max_sparse,
            // in the order of the archive: each is as large as any other
            queue: &mut |piece, permit| queue((piece, permit), 0),
        };
        if let Err(error) = reader.read() {
            (reader.queue)(Piece::Failed(error), memory.take(0));
        }
        extent = Extent {
            size: reader.stream.offset(),
            foreign: reader.foreign,
            holes: run.max_sparse - reader.holes,
        };
    };
    let start = || {
        let mut worker = (run.operation.worker(), FileHasher::default());
        move |(piece, permit)| process(run, &mut worker, piece, permit)
    };
    // a batch would keep the permits of its pieces until the last of them is done
    let workers = pool::Workers { jobs: run.jobs, batch: 1 };
    pool::run(workers, &stop, produce, start, &mut |done| {
        let written = done.and_then(|done| write::<O>(done, &mut output, run.progress, reports));
        if written.is_err() {
            stop.store(true, Ordering::Relaxed);
            memory.close();
            spools.close();
        }
        written
    })?;
    Ok(extent)
}

fn process<O: Operation>(
    Run { operation, progress, .. }: &Run<'_, O>,
    (worker, hasher): &mut (O::Worker, FileHasher),
    piece: Piece,
    permit: Permit,
) -> Result<Done<O::Outcome>, ContainerError> {
    let mut done = Done { bytes: Vec::new(), data: None, report: None, _permits: (permit, None) };
    match piece {
        Piece::Failed(error) => return Err(error.into()),
        Piece::Bytes(bytes) => done.bytes = bytes,
        Piece::File(mut member, data, spool) => {
            let path = path_of(&member);
            let (below, progress) = (below_root(&path), *progress);
            let mut item = TarItem { member: &member, path: &below, data: &data, hasher, progress };
            let processed = operation.item(worker, &mut item);
            let (outcome, change) = settle::<O>(&path, processed)?;
            edit(&mut member, &change)?;
            member.encode_into(&mut done.bytes);
            done.report =
                Some(Report { part: None, path, size: member.size(), outcome, listed: None });
            (done.data, done._permits.1) = (Some(data), spool);
        }
        Piece::Link(mut member, target) => {
            let attributes = operation.attributes();
            let has_attribute = mentions(&member, attributes);
            let anomaly = anomaly(&member, target);
            let outcome = operation.further_name(FurtherName { has_attribute, anomaly });
            if O::ACCESS.writes() {
                let removed = |change: Change, name: &_| change.and_remove(*name);
                edit(&mut member, &attributes.iter().fold(Change::none(), removed))?;
            }
            member.encode_into(&mut done.bytes);
            let path = path_of(&member);
            done.report = outcome.map(|outcome| {
                let outcome = outcome.map_err(ItemError::Anomaly);
                Report { part: None, path, size: 0, outcome, listed: None }
            });
        }
    }
    Ok(done)
}

/// Whether anything is said of one of these attributes of a member.
fn mentions(member: &Member, attributes: &[AttributeName]) -> bool {
    attributes.iter().any(|name| member.mentions_attribute(name.as_str()))
}

/// Changes the attributes of a member.
fn edit(member: &mut Member, change: &Change) -> Result<(), TarError> {
    let offset = member.offset;
    change.edits().try_for_each(|(name, edit)| {
        let edited = member.set_attribute(name.as_str(), edit.value());
        edited.map_err(|error| TarError::Malformed { offset, kind: error.kind })
    })
}

/// Why the result of its file does not apply to a hard link.
fn anomaly(member: &Member, target: Target) -> Option<Anomaly> {
    let path = OsString::from_vec(member.link.clone()).into();
    match target {
        Target::SameAttributes => None,
        Target::OtherAttributes => Some(Anomaly::LinkAttribute(path)),
        Target::NotSelected => Some(Anomaly::LinkNotSelected(path)),
        Target::Missing => Some(Anomaly::LinkMissing(path)),
    }
}

fn write<O: Operation>(
    done: Done<O::Outcome>,
    output: &mut Option<&mut dyn Write>,
    progress: &dyn Progress,
    reports: &mut Reports<'_, O>,
) -> Result<(), ContainerError> {
    if let Some(output) = output {
        output.write_all(&done.bytes).map_err(TarError::Write)?;
        if let Some(data) = done.data {
            data.write_to(output).map_err(TarError::Write)?;
        }
    }
    match done.report {
        Some(report) => {
            progress.finished(report.size);
            reports(report)
        }
        None => Ok(()),
    }
}

/// How much memory a member takes on its way, without its data: it is there as it was read,
/// changed, and encoded.
fn held(member: &Member) -> u64 {
    2048 + 3 * member.memory()
}

struct Reader<'a, O> {
    stream: Stream<'a>,
    /// Whether there is an output.
    writes: bool,
    run: &'a Run<'a, O>,
    stop: &'a AtomicBool,
    memory: &'a Arc<Budget>,
    /// How many temporary files there may be.
    spools: &'a Arc<Budget>,
    names: Names,
    /// Bytes after the end of the archive.
    foreign: u64,
    /// How many bytes of holes in sparse files may still be read; never more than `run.max_sparse`.
    holes: u64,
    queue: &'a mut dyn FnMut(Piece, Permit),
}

impl<O: Operation> Reader<'_, O> {
    fn read(&mut self) -> Result<(), TarError> {
        let mut parser = Parser::new(self.run.after_end);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(item) = parser.next(&mut self.stream)? else {
                break;
            };
            match item {
                Parsed::Member(member) => self.member(member)?,
                Parsed::Zeros => self.pass(vec![0; BLOCK_SIZE]),
                Parsed::Global(extension) => {
                    let mut bytes = Vec::new();
                    extension.encode_into(&mut bytes);
                    self.pass(bytes);
                }
                Parsed::Foreign(bytes) => self.foreign(bytes)?,
            }
        }
        match self.stream.offset() {
            0 => Err(TarError::Empty),
            _ => Ok(()),
        }
    }

    /// Passes on the bytes after the end of the archive, up to the end of the input.
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
            // 256: the entry of the queue itself
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
        let read = |name: AttributeName| {
            let value = member.attribute(name.as_str());
            value.map_err(|(offset, kind)| TarError::Malformed { offset, kind })
        };
        let attribute = read(AttributeName::Ima)?;
        let attributes = self.run.operation.attributes().iter().map(|name| read(*name));
        let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
        let path = below_root(&path_of(&member));
        let is_selected = self.run.selection.selects(&path);
        match member.kind {
            MemberKind::Other => {
                self.names.enter_other(&member)?;
                return self.pass_member(&member, Vec::new());
            }
            MemberKind::HardLink => return self.link(member, is_selected, &attributes),
            MemberKind::File if !is_selected => self.names.enter(&member, Found::NotSelected)?,
            MemberKind::File => {
                let found = Found::File(self.names.hash(&attributes));
                self.names.enter(&member, found)?;
            }
        }
        let all = member.stored + padding(member.stored) as u64;
        // for the member itself, and so that the reader waits while too much is in the queue
        let in_memory = all.min(IN_MEMORY);
        let permit = self.memory.take(in_memory + held(&member));
        let mut begun = Vec::new();
        self.stream.bytes(in_memory as usize, &mut begun)?;
        let stored = begun.len().min(usize::try_from(member.stored).unwrap_or(usize::MAX));
        let nested = Nested::of(path.as_os_str().as_bytes(), &begun[..stored]);
        if let Some(nested) = nested.filter(|_| !self.run.selection.is_in_layer()) {
            return Err(TarError::Nested(nested));
        }
        let starts_with_hole = |sparse: &ima_format::tar::SparseMap| {
            sparse.segments().first().map_or(true, |segment| segment.offset > 0)
        };
        let head = match member.sparse.as_ref().is_some_and(starts_with_hole) {
            true => &[],
            false => &begun[..stored.min(4)],
        };
        // one whose mode cannot be read may be executable
        let mode = member.access().map_or(0o111, |(mode, ..)| mode);
        if !is_selected || !self.run.selection.wants_head(&path, head, mode) {
            drop(permit);
            return self.pass_member(&member, begun);
        }
        self.run.progress.found(member.stored);
        let left = all - in_memory;
        let digest = self.run.operation.digest_for(attribute.as_deref());
        if digest.is_some() {
            self.count_holes(&member)?;
        }
        let (data, spool) = match digest {
            _ if left == 0 => (Data::Memory(begun), None),
            // the header is written first, and depends on it
            Some(_) if self.writes => {
                let turn = self.spools.take(1);
                (Data::Spooled(self.spool(&member, begun, left)?), Some(turn))
            }
            Some(kind) => {
                let digest = self.digest(&mut member, kind, &begun[..stored], left);
                (digest?, None)
            }
            None if self.writes => {
                drop(permit);
                return self.edit(member, begun, left);
            }
            None => (self.skip(&member, &begun, left)?, None),
        };
        (self.queue)(Piece::File(Box::new(member), data, spool), permit);
        Ok(())
    }

    /// Counts the holes of a member that is going to be digested.
    fn count_holes(&mut self, member: &Member) -> Result<(), TarError> {
        let holes = member.size().saturating_sub(member.stored);
        match self.holes.checked_sub(holes) {
            Some(left) => {
                self.holes = left;
                Ok(())
            }
            None => Err(TarError::Sparse { path: path_of(member), holes, left: self.holes }),
        }
    }

    /// Processes a member whose data is not needed, and passes the data on.
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
        attributes: &[Option<Vec<u8>>],
    ) -> Result<(), TarError> {
        let target = match self.names.link(&member)? {
            None => Target::Missing,
            Some(Found::NotSelected) => Target::NotSelected,
            Some(Found::File(known)) if mentions(&member, self.run.operation.attributes()) => {
                match known == self.names.hash(attributes) {
                    true => Target::SameAttributes,
                    false => Target::OtherAttributes,
                }
            }
            Some(_) => return self.pass_member(&member, Vec::new()),
        };
        if !is_selected {
            return self.pass_member(&member, Vec::new());
        }
        self.run.progress.found(0);
        let permit = self.memory.take(held(&member));
        (self.queue)(Piece::Link(Box::new(member), target), permit);
        Ok(())
    }

    /// Puts a large member's data aside.
    fn spool(&mut self, member: &Member, begun: Vec<u8>, left: u64) -> Result<File, TarError> {
        let directory = &self.run.spool;
        let fail = |source| TarError::Spool { directory: directory.clone(), source };
        self.run.progress.spooled(&path_of(member), begun.len() as u64 + left, directory);
        let mut file = tempfile::tempfile_in(directory).map_err(fail)?;
        file.write_all(&begun).map_err(fail)?;
        self.chunks(left, |_, chunk| file.write_all(&chunk).map_err(fail))?;
        Ok(file)
    }

    /// Reads a large member whose digest is not needed.
    fn skip(&mut self, member: &Member, begun: &[u8], left: u64) -> Result<Data, TarError> {
        let mut end = End::of(member);
        end.update(begun);
        self.chunks(left, |_, chunk| {
            end.update(&chunk);
            Ok(())
        })?;
        Ok(Data::Passed { digest: None, end: end.bytes })
    }

    /// Digests a large member while it is read.
    fn digest(
        &mut self,
        member: &mut Member,
        kind: DigestKind,
        begun: &[u8],
        left: u64,
    ) -> Result<Data, TarError> {
        let path = path_of(member);
        let fail = |source| TarError::Digest { path: path.clone(), source };
        // without an implementation, the worker reports the error
        let Ok(mut hasher) = Hasher::new(kind) else {
            return self.skip(member, begun, left);
        };
        let mut expander = Expander::new(member.sparse.as_ref());
        expander.update(begun, &mut hasher).map_err(fail)?;
        let mut end = End::of(member);
        end.update(begun);
        self.chunks(left, |reader, chunk| {
            let data = end.update(&chunk);
            reader.run.progress.read(data.len() as u64);
            expander.update(data, &mut hasher).map_err(fail)
        })?;
        expander.finish(&mut hasher).map_err(fail)?;
        let digest = hasher.finish().map_err(fail)?;
        Ok(Data::Passed { digest: Some((kind, digest)), end: end.bytes })
    }
}
