//! An initramfs as a tree of files: archives of cpio one after the other, each compressed or not.
//!
//! Mirrors `unpack_to_rootfs` and `do_name` in the kernel's `init/initramfs.c`: zeros between archives are
//! skipped, a name is below the root, links to directories in it are followed, the last entry of a name is the
//! one that stays, and nothing is made in a directory that is not there. The kernel measures and appraises these
//! files by their paths in it. There are no attributes. The archives are unpacked into a temporary file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use ima_format::kind::{Compression, Content};
use ima_format::rpm::cpio::{self, Form, Inode};

use super::links::follow;
use super::source::{Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit};
use super::swu::Open;
use crate::advice::Advice;
use crate::compression::single;
use crate::input;

/// The most bytes that an initramfs is unpacked to: the machine has them in memory.
const LARGEST: u64 = 8 << 30;
/// More files than any initramfs has.
const MOST: usize = 1 << 20;

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Why an initramfs is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// It cannot be read, or unpacked.
    #[error("archive {archive}: {source}")]
    Read {
        /// The archive in it, from 1.
        archive: u32,
        /// Why.
        source: io::Error,
    },
    /// Neither cpio nor compressed in a way that is read here.
    #[error("archive {0}: not cpio (newc), nor compressed by gzip, bzip2, xz, lzma or zstd")]
    Unknown(u32),
    /// An entry that is malformed; the offset is that in the unpacked archive.
    #[error("archive {archive}: {error}")]
    Malformed {
        /// The archive in it, from 1.
        archive: u32,
        /// What is wrong.
        error: ima_format::Error,
    },
    /// A name that has a NUL, or leads out of its directory.
    #[error("archive {archive}: invalid name {name:?}")]
    Name {
        /// The archive in it, from 1.
        archive: u32,
        /// The name.
        name: String,
    },
    /// Too much for a machine's memory.
    #[error("more than {LARGEST} bytes or {MOST} files")]
    Large,
}

impl Advice for InitramfsError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unknown(_) => Some("unpack it (lz4 -d, lzop -d), and give the result"),
            _ => None,
        }
    }
}

/// The files of an initramfs.
#[derive(Debug)]
pub struct Initramfs {
    /// The contents of all files.
    contents: File,
    tree: Tree,
}

/// Names, and what they are of.
#[derive(Debug, Default)]
struct Tree {
    /// By their numbers in `inodes`.
    names: BTreeMap<PathBuf, usize>,
    inodes: Vec<Placed>,
    /// Entries in directories that are not there.
    lost: BTreeSet<PathBuf>,
}

/// A file, and where its content begins.
#[derive(Debug, Clone)]
struct Placed {
    kind: EntryKind,
    at: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Initramfs {
    /// Unpacks an initramfs.
    ///
    /// # Errors
    /// An initramfs of which the kernel would not unpack all; one that cannot be read.
    pub fn open(path: &Path) -> Result<Self, InitramfsError> {
        let first = |source| InitramfsError::Read { archive: 1, source };
        let mut input = BufReader::with_capacity(1 << 16, input::open(path).map_err(first)?);
        let mut unpacker = Unpacker::new().map_err(first)?;
        loop {
            unpacker.archive += 1;
            let archive = unpacker.archive;
            let read = |source| InitramfsError::Read { archive, source };
            if !skip_zeros(&mut input).map_err(read)? {
                break;
            }
            let head = input.fill_buf().map_err(read)?;
            if head.starts_with(b"07070") {
                unpacker.take(&mut input)?;
                continue;
            }
            match Content::of(head) {
                Some(Content::Compressed(compression)) => {
                    unpacker.decompressed(compression, &mut input)?;
                }
                _ => return Err(InitramfsError::Unknown(archive)),
            }
        }
        Ok(Self { contents: unpacker.contents, tree: unpacker.tree })
    }
}

/// Skips zeros; whether anything follows.
fn skip_zeros(input: &mut dyn BufRead) -> io::Result<bool> {
    loop {
        let window = input.fill_buf()?;
        if window.is_empty() {
            return Ok(false);
        }
        let zeros = window.iter().take_while(|byte| **byte == 0).count();
        let is_over = zeros < window.len();
        input.consume(zeros);
        if is_over {
            return Ok(true);
        }
    }
}

struct Unpacker {
    /// The archive that is read, from 1.
    archive: u32,
    contents: File,
    written: u64,
    tree: Tree,
    /// The files of this archive that have several names.
    links: HashMap<(u32, (u32, u32)), usize>,
}

impl Unpacker {
    fn new() -> io::Result<Self> {
        let mut tree = Tree::default();
        // the kernel's own initramfs, which is always there (usr/default_cpio_list)
        for path in ["/", "/dev", "/root"] {
            let kind = EntryKind::Directory;
            tree.place(path.into(), Placed { kind, at: 0, mode: 0o755, uid: 0, gid: 0 });
        }
        let (contents, links) = (tempfile::tempfile()?, HashMap::new());
        Ok(Self { archive: 0, contents, written: 0, tree, links })
    }

    fn decompressed(
        &mut self,
        compression: Compression,
        input: &mut (dyn BufRead + Send),
    ) -> Result<(), InitramfsError> {
        let archive = self.archive;
        let read = |source| InitramfsError::Read { archive, source };
        let mut unpacked = BufReader::new(single(compression, input).map_err(read)?);
        while skip_zeros(&mut unpacked).map_err(read)? {
            self.take(&mut unpacked)?;
        }
        Ok(())
    }

    /// Takes the entries of one archive, up to its trailer or to the end of the input.
    fn take(&mut self, input: &mut dyn BufRead) -> Result<(), InitramfsError> {
        self.links.clear();
        let (archive, mut offset) = (self.archive, 0);
        let read = |source| InitramfsError::Read { archive, source };
        while !input.fill_buf().map_err(read)?.is_empty() {
            let (mut magic, mut fields) = ([0; cpio::MAGIC_SIZE], [0; cpio::NAMED_SIZE]);
            input.read_exact(&mut magic).map_err(read)?;
            let malformed = |error| InitramfsError::Malformed { archive, error };
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            // numbered entries are rpm's own
            if Form::of(magic, at).map_err(malformed)? == Form::Numbered {
                return Err(InitramfsError::Unknown(archive));
            }
            input.read_exact(&mut fields).map_err(read)?;
            let after = at.saturating_add(magic.len());
            let named = cpio::read_named(&fields, after).map_err(malformed)?;
            let inode = cpio::read_inode(&fields, after).map_err(malformed)?;
            let mut name = vec![0; named.name_size as usize];
            input.read_exact(&mut name).map_err(read)?;
            offset += (magic.len() + fields.len() + name.len()) as u64;
            offset += pad(input, offset).map_err(read)?;
            if name.pop() != Some(0) || name.contains(&0) {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(InitramfsError::Name { archive, name });
            }
            if name == cpio::TRAILER {
                return Ok(());
            }
            self.entry(name, &inode, named.size, input)?;
            offset += u64::from(named.size);
            offset += pad(input, offset).map_err(read)?;
        }
        Ok(())
    }

    /// Takes an entry, and reads its content.
    fn entry(
        &mut self,
        name: Vec<u8>,
        inode: &Inode,
        size: u32,
        input: &mut dyn BufRead,
    ) -> Result<(), InitramfsError> {
        let archive = self.archive;
        let read = |source| InitramfsError::Read { archive, source };
        let invalid = |name: &Path| InitramfsError::Name {
            archive,
            name: name.to_string_lossy().into_owned(),
        };
        if self.tree.inodes.len() >= MOST || self.written + u64::from(size) > LARGEST {
            return Err(InitramfsError::Large);
        }
        let mut content = input.take(size.into());
        let (at, is_regular) = (self.written, inode.mode & TYPE == REGULAR);
        let mut link = Vec::new();
        let copied = match inode.mode & TYPE {
            REGULAR => {
                let copied = io::copy(&mut content, &mut self.contents).map_err(read)?;
                self.written += copied;
                copied
            }
            LINK => content.read_to_end(&mut link).map_err(read)? as u64,
            _ => io::copy(&mut content, &mut io::sink()).map_err(read)?,
        };
        if copied < size.into() {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        }
        let name = PathBuf::from(OsString::from_vec(name));
        let path = Path::new("/").join(&name);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(invalid(&name));
        }
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let Some(path) = self.tree.resolved(&path) else {
            self.tree.lost.insert(path);
            return Ok(());
        };
        let kind = match inode.mode & TYPE {
            DIRECTORY => EntryKind::Directory,
            REGULAR => EntryKind::File { size: size.into() },
            LINK => EntryKind::Link(PathBuf::from(OsString::from_vec(link))),
            _ => EntryKind::Other,
        };
        let Inode { mode, uid, gid, .. } = *inode;
        let placed = Placed { kind, at, mode: mode & 0o7777, uid, gid };
        let key = (inode.number, inode.device);
        match self.links.get(&key).filter(|_| is_regular && inode.links > 1) {
            Some(first) => self.tree.link(path, *first, placed),
            None => {
                let number = self.tree.place(path, placed);
                if is_regular && inode.links > 1 {
                    self.links.insert(key, number);
                }
            }
        }
        Ok(())
    }
}

impl Tree {
    /// Puts something at a path. A file there gets another content, by all its names; all else is replaced.
    fn place(&mut self, path: PathBuf, placed: Placed) -> usize {
        let is_file = |kind: &EntryKind| matches!(kind, EntryKind::File { .. });
        let known = self.names.get(&path).copied();
        match known.and_then(|number| Some((number, self.inodes.get_mut(number)?))) {
            Some((number, before)) if is_file(&before.kind) && is_file(&placed.kind) => {
                *before = placed;
                number
            }
            _ => {
                self.inodes.push(placed);
                self.names.insert(path, self.inodes.len() - 1);
                self.inodes.len() - 1
            }
        }
    }

    /// Puts another name of a file at a path; the content may come with any of the names.
    fn link(&mut self, path: PathBuf, number: usize, placed: Placed) {
        self.names.insert(path, number);
        if let Some(known) = self.inodes.get_mut(number) {
            let has_content = placed.kind != EntryKind::File { size: 0 };
            let (kind, at) = (known.kind.clone(), known.at);
            *known = match has_content {
                true => placed,
                false => Placed { kind, at, ..placed },
            };
        }
    }

    /// A path without links to directories; `None` if its directory is not there.
    fn resolved(&self, path: &Path) -> Option<PathBuf> {
        let Some((directory, name)) = path.parent().zip(path.file_name()) else {
            return Some("/".into());
        };
        let kind = |path: &Path| Some(&self.inodes.get(*self.names.get(path)?)?.kind);
        let directory = follow(directory, kind)?;
        (kind(&directory)? == &EntryKind::Directory).then(|| directory.join(name))
    }
}

/// Skips up to the next multiple of 4; at the end of the input there may be nothing to skip.
fn pad(input: &mut dyn BufRead, offset: u64) -> io::Result<u64> {
    let count = offset.next_multiple_of(4) - offset;
    io::copy(&mut input.take(count), &mut io::sink())
}

impl Source for Initramfs {
    fn list(&self, visit: &mut dyn Visit) {
        for (path, number) in &self.tree.names {
            let Some(Placed { kind, mode, uid, gid, .. }) = self.tree.inodes.get(*number).cloned()
            else {
                continue;
            };
            let (path, identity) = (path.clone(), (0, *number as u64));
            if visit.found(Ok(Entry { path, kind, mode, uid, gid, identity })).is_break() {
                return;
            }
        }
        for path in &self.tree.lost {
            let error = io::Error::other("no such directory before it: the kernel leaves it out");
            let unread = Unread { path: path.clone(), error: error.into() };
            if visit.found(Err(unread)).is_break() {
                return;
            }
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let number = self.tree.names.get(&entry.path);
        let placed = number.and_then(|number| self.tree.inodes.get(*number));
        let Some(Placed { kind: EntryKind::File { size }, at, .. }) = placed else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        Ok(Box::new(Open { file: &self.contents, start: *at, size: *size }))
    }
}
