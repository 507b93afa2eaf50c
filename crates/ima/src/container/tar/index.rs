//! A root that is in a tar archive, compressed or not.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use ima_format::kind::{Compression, Content as Kind, Nested, HEAD_SIZE};
use ima_format::tar::{
    padding, AfterEnd, FileType, Input, Item, Member, MemberKind, Parser, SparseMap, BLOCK_SIZE,
};
use ima_format::ErrorKind;

use super::names::{Found, Names};
use super::TarError;
use crate::compression;
use crate::container::source::{part, Entry, EntryKind, Source, SourceError, SourceFile, Visit};
use crate::container::AttributeName;
use crate::input;

/// A tar archive that will be unpacked as the root of a machine. One that is compressed, or
/// that a program writes, is kept in an unnamed temporary file meanwhile.
#[derive(Debug)]
pub struct Index {
    file: File,
    entries: BTreeMap<PathBuf, Entry>,
    /// The contents, by the second part of an entry's identity.
    contents: Vec<Stored>,
    compression: Option<Compression>,
    /// A path, not of a directory, that two members have.
    repeated: Option<PathBuf>,
    /// Directories that no member names.
    implied: HashSet<PathBuf>,
}

/// Where a file's content is.
#[derive(Debug)]
struct Stored {
    offset: u64,
    length: u64,
    sparse: Option<SparseMap>,
    /// Those of the namespace `security`.
    attributes: Vec<(String, Vec<u8>)>,
}

/// Whether a member is copied, or was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::container) enum Original {
    Stays,
    Goes,
}

/// Whose temporary file or archive cannot be read.
fn read_error(offset: u64) -> impl Fn(io::Error) -> TarError {
    move |source| TarError::Read { offset, source }
}

impl Index {
    /// Lists the archive at `path`.
    ///
    /// # Errors
    /// An archive that cannot be read, or is malformed.
    pub fn open(path: &Path) -> Result<Self, TarError> {
        Self::open_in(path, &std::env::temp_dir())
    }

    /// The same, with the directory for a temporary file.
    ///
    /// # Errors
    /// As those of [`Index::open`].
    pub(in crate::container) fn open_in(path: &Path, spool: &Path) -> Result<Self, TarError> {
        let mut file = input::open(path).map_err(read_error(0))?;
        let mut head = Vec::new();
        Read::by_ref(&mut file)
            .take(HEAD_SIZE as u64)
            .read_to_end(&mut head)
            .map_err(read_error(0))?;
        file.rewind().map_err(read_error(0))?;
        match Kind::of(&head) {
            Some(Kind::Compressed(form)) => {
                let archive = compression::decoder(form, file).map_err(read_error(0))?;
                let index = Self::unpacked(archive, spool)?;
                Ok(Self { compression: Some(form), ..index })
            }
            _ => Self::of(file),
        }
    }

    /// Reads an archive that comes as a stream, and is not compressed; it is kept in a temporary file
    /// in `spool`.
    ///
    /// # Errors
    /// As those of [`Index::open`].
    pub(in crate::container) fn unpacked(
        mut archive: impl Read,
        spool: &Path,
    ) -> Result<Self, TarError> {
        let directory = spool;
        let spool = |source| TarError::Spool { directory: directory.to_owned(), source };
        let mut file = tempfile::tempfile_in(directory).map_err(spool)?;
        let (mut buffer, mut offset) = (vec![0; 256 << 10], 0);
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all(&buffer[..read]).map_err(spool)?;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(offset)(error)),
            }
        }
        Self::of(file)
    }

    fn of(file: File) -> Result<Self, TarError> {
        let (entries, contents, implied) = Default::default();
        let (compression, repeated) = (None, None);
        let mut archive = Self { file, entries, contents, compression, repeated, implied };
        archive.read()?;
        archive.add_directories();
        Ok(archive)
    }

    fn read(&mut self) -> Result<(), TarError> {
        let size = self.file.metadata().map_err(read_error(0))?.len();
        let file = self.file.try_clone().map_err(read_error(0))?;
        let mut input = Blocks { file, offset: 0 };
        let (mut parser, mut names) = (Parser::new(AfterEnd::Refuse), Names::default());
        while let Some(item) = parser.next(&mut input)? {
            let member = match item {
                Item::Member(member) => member,
                Item::Global(_) | Item::Zeros | Item::Foreign(_) => continue,
            };
            let offset = input.offset;
            let length = member.stored;
            if size.saturating_sub(offset) < length {
                let needed = usize::try_from(length).unwrap_or(usize::MAX);
                let available = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
                let kind = ErrorKind::Truncated { needed, available };
                return Err(TarError::Malformed { offset, kind });
            }
            input.offset = offset + length + padding(length) as u64;
            self.add(&member, offset, &mut names)?;
        }
        match (self.entries.is_empty(), size) {
            (true, 0) => Err(TarError::Empty),
            _ => Ok(()),
        }
    }

    /// Enters a member; of two with one name the later stays, as when they are unpacked.
    fn add(&mut self, member: &Member, offset: u64, names: &mut Names) -> Result<(), TarError> {
        let path = inside(&member.path);
        match member.file_type() {
            FileType::VolumeLabel => return Ok(()),
            FileType::File => names.enter(member, Found::NotSelected)?,
            FileType::HardLink => drop(names.link(member)?),
            _ => names.enter_other(member)?,
        }
        let linked = || self.entries.get(&inside(&member.link)).filter(|it| it.size().is_some());
        if let (MemberKind::HardLink, Some(first)) = (member.kind, linked()) {
            // the header of a link may say nothing of the file
            let entry = Entry { path, ..first.clone() };
            self.insert(entry);
            return Ok(());
        }
        let mut identity = (0, u64::MAX);
        let kind = match member.file_type() {
            FileType::File => {
                let read = |name: String| {
                    let value = member.attribute(&name);
                    value.map(|value| value.map(|value| (name, value))).transpose()
                };
                let attributes = member.security_attributes().into_iter().filter_map(read);
                let attributes = attributes.collect::<Result<_, _>>();
                let attributes =
                    attributes.map_err(|(offset, kind)| TarError::Malformed { offset, kind })?;
                identity.1 = self.contents.len() as u64;
                let (length, sparse) = (member.stored, member.sparse.clone());
                self.contents.push(Stored { offset, length, sparse, attributes });
                EntryKind::File { size: member.size() }
            }
            FileType::SymbolicLink => {
                EntryKind::Link(PathBuf::from(OsString::from_vec(member.link.clone())))
            }
            FileType::Directory => EntryKind::Directory,
            // a hard link to something without content
            FileType::HardLink | FileType::Special | FileType::VolumeLabel => EntryKind::Other,
        };
        let access = member.access();
        let (mode, uid, gid) =
            access.map_err(|(offset, kind)| TarError::Malformed { offset, kind })?;
        self.insert(Entry { path, kind, mode, uid, gid, identity });
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        let is_directory = entry.kind == EntryKind::Directory;
        let path = entry.path.clone();
        if self.entries.insert(path.clone(), entry).is_some() && !is_directory {
            self.repeated.get_or_insert(path);
        }
    }

    /// How it was compressed.
    pub(in crate::container) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// A path, not of a directory, that two members have.
    pub(in crate::container) fn repeated(&self) -> Option<&Path> {
        self.repeated.as_deref()
    }

    /// Whether no member names a directory: it is only the parent of others.
    pub(in crate::container) fn is_implied(&self, path: &Path) -> bool {
        self.implied.contains(path)
    }

    /// Its form, if its members are archives or objects, which have the files.
    pub(in crate::container) fn nested(&self) -> Result<Option<Nested>, SourceError> {
        for marker in Nested::MARKERS {
            let entry = self.entries.get(&Path::new("/").join(marker));
            if let Some(entry) = entry.filter(|entry| entry.size().is_some()) {
                let head = part(&*self.open(entry)?, 0, Nested::HEAD_SIZE)?;
                if let Some(nested) = Nested::of(marker.as_bytes(), &head) {
                    return Ok(Some(nested));
                }
            }
        }
        Ok(None)
    }

    /// Copies the archive member by member. `substitute` is called for each, and may write others in
    /// its place; every other byte is the same.
    pub(in crate::container) fn copy<E: From<TarError>>(
        &self,
        output: &mut dyn Write,
        substitute: &mut dyn FnMut(&Member, &mut dyn Write) -> Result<Original, E>,
    ) -> Result<(), E> {
        let file = self.file.try_clone().map_err(read_error(0))?;
        let mut input = Blocks { file, offset: 0 };
        let mut parser = Parser::new(AfterEnd::Refuse);
        while let Some(item) = parser.next(&mut input)? {
            let mut head = Vec::new();
            let mut left = 0;
            match item {
                Item::Member(member) => {
                    let all = member.stored + padding(member.stored) as u64;
                    match substitute(&member, output)? {
                        Original::Stays => {
                            member.encode_into(&mut head);
                            left = all;
                        }
                        Original::Goes => input.offset += all,
                    }
                }
                Item::Global(extension) => extension.encode_into(&mut head),
                Item::Zeros => head.resize(BLOCK_SIZE, 0),
                Item::Foreign(bytes) => head = bytes,
            }
            output.write_all(&head).map_err(TarError::Write)?;
            input.pass(left, output)?;
        }
        Ok(())
    }

    /// Directories that no member names.
    fn add_directories(&mut self) {
        let paths: Vec<PathBuf> = self.entries.keys().cloned().collect();
        for parent in paths.iter().flat_map(|path| path.ancestors().skip(1)) {
            if !self.entries.contains_key(parent) {
                let (path, kind) = (parent.to_owned(), EntryKind::Directory);
                let identity = (0, u64::MAX);
                let entry = Entry { path, kind, mode: 0o755, uid: 0, gid: 0, identity };
                self.entries.insert(parent.to_owned(), entry);
                self.implied.insert(parent.to_owned());
            }
        }
    }
}

/// A member's name as the booted machine sees it.
fn inside(name: &[u8]) -> PathBuf {
    let name = PathBuf::from(OsString::from_vec(name.to_vec()));
    let normal = |component: &Component<'_>| matches!(component, Component::Normal(_));
    let below: PathBuf = name.components().filter(normal).collect();
    Path::new("/").join(below)
}

impl Source for Index {
    fn list(&self, visit: &mut dyn Visit) {
        for entry in self.entries.values() {
            if visit.found(Ok(entry.clone())).is_break() {
                return;
            }
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let number = usize::try_from(entry.identity.1).unwrap_or(usize::MAX);
        let stored = self.contents.get(number).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(Open { file: &self.file, stored }))
    }
}

struct Open<'a> {
    file: &'a File,
    stored: &'a Stored,
}

impl SourceFile for Open<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let Stored { offset: start, length, sparse, .. } = self.stored;
        let Some(map) = sparse else {
            let left = length.saturating_sub(offset);
            let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            return Ok(self.file.read_at(&mut buffer[..count], start + offset)?);
        };
        let left = map.size().saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..count];
        let mut data = *start;
        for segment in map.segments() {
            if offset < segment.offset {
                // a hole, up to the segment
                let hole = usize::try_from(segment.offset - offset).unwrap_or(usize::MAX);
                let count = count.min(hole);
                buffer[..count].fill(0);
                return Ok(count);
            }
            let within = offset - segment.offset;
            if within < segment.length {
                let rest = usize::try_from(segment.length - within).unwrap_or(usize::MAX);
                let count = count.min(rest);
                return Ok(self.file.read_at(&mut buffer[..count], data + within)?);
            }
            data += segment.length;
        }
        buffer.fill(0);
        Ok(count)
    }

    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        let mut attributes = self.stored.attributes.iter();
        Ok(attributes.find(|(stored, _)| stored == name.as_str()).map(|(_, value)| value.clone()))
    }
}

/// The blocks of a file, read where they stand.
struct Blocks {
    file: File,
    offset: u64,
}

impl Blocks {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let offset = self.offset + filled as u64;
            match self.file.read_at(&mut buffer[filled..], offset).map_err(read_error(offset))? {
                0 => break,
                read => filled += read,
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}

impl Blocks {
    /// Writes the next bytes to `output`.
    fn pass(&mut self, mut left: u64, output: &mut dyn Write) -> Result<(), TarError> {
        let mut buffer = vec![0; 256 << 10];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let (offset, needed) = (self.offset, wanted);
            let available = self.fill(&mut buffer[..wanted])?;
            if available < needed {
                let kind = ErrorKind::Truncated { needed, available };
                return Err(TarError::Malformed { offset, kind });
            }
            output.write_all(&buffer[..wanted]).map_err(TarError::Write)?;
            left -= wanted as u64;
        }
        Ok(())
    }
}

impl Input for Blocks {
    type Error = TarError;

    fn offset(&self) -> u64 {
        self.offset
    }

    fn block(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<usize, TarError> {
        self.fill(block)
    }

    fn bytes(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), TarError> {
        let (offset, mut left) = (self.offset, count);
        let mut chunk = [0; 1 << 12];
        while left > 0 {
            let wanted = left.min(chunk.len());
            let read = self.fill(&mut chunk[..wanted])?;
            bytes.extend_from_slice(&chunk[..read]);
            left -= read;
            if read == 0 {
                let kind = ErrorKind::Truncated { needed: count, available: count - left };
                return Err(TarError::Malformed { offset, kind });
            }
        }
        Ok(())
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> TarError {
        TarError::Malformed { offset, kind }
    }
}
