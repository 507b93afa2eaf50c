//! A root file system that can be listed and read, wherever it is kept.

use std::io;
use std::path::{Path, PathBuf};

use ima_format::hash::{Digest, HashAlgorithm};

use crate::digest::{DigestError, FileHasher};

/// A root file system before it is booted: a directory, an archive, an image.
pub trait Root: Sync {
    /// Gives every entry once, in any order, and what could not be looked at.
    fn list(&self, found: &mut dyn FnMut(Result<Entry, Unread>));

    /// Opens a regular file that was listed. Files are opened from several threads.
    ///
    /// # Errors
    /// Those of opening; a file that is no longer the one that was listed.
    fn open<'a>(&'a self, entry: &Entry) -> io::Result<Box<dyn Content + 'a>>;
}

/// One entry of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path as the booted machine sees it: absolute.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Its permissions, with the set-user-ID and set-group-ID bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The same for all names of one file (device and inode).
    pub identity: (u64, u64),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(PathBuf),
    /// A device, a FIFO, a socket.
    Other,
}

/// What could not be looked at, and why.
#[derive(Debug)]
pub struct Unread {
    /// Its path as the booted machine sees it.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// An open file of a root.
pub trait Content {
    /// Reads at an offset; 0 bytes at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// `security.ima`, if there is one.
    ///
    /// # Errors
    /// Those of reading it.
    fn attribute(&self) -> io::Result<Option<Vec<u8>>>;

    /// The digest of the whole; an error if it is not `size` bytes (any more).
    ///
    /// # Errors
    /// Those of reading and of the hash; a file that changed.
    fn digest(
        &self,
        hasher: &mut FileHasher,
        size: u64,
        algorithm: HashAlgorithm,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, DigestError> {
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        let hasher = hasher.hasher(algorithm)?;
        hasher.reset()?;
        loop {
            let read = self.read_at(offset, &mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read])?;
            offset += read as u64;
            progress(read as u64);
        }
        let digest = hasher.finish()?;
        match offset == size {
            true => Ok(digest),
            false => Err(changed().into()),
        }
    }
}

/// For a file that is no longer what was listed.
pub(super) fn changed() -> io::Error {
    io::Error::other("changed while it was read")
}

/// The whole of a small file; `None` if it is larger than `most`.
pub(super) fn whole(content: &dyn Content, most: usize) -> io::Result<Option<Vec<u8>>> {
    let bytes = part(content, 0, most + 1)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// Up to `length` bytes at an offset.
pub(super) fn part(content: &dyn Content, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match content.read_at(offset.saturating_add(filled as u64), &mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl Entry {
    /// Its size, if it is a regular file.
    pub fn size(&self) -> Option<u64> {
        match self.kind {
            EntryKind::File { size } => Some(size),
            _ => None,
        }
    }

    /// Whether anybody may execute it; root needs that much, too.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The name's bytes.
    pub(super) fn name(&self) -> &[u8] {
        use std::os::unix::ffi::OsStrExt;
        self.path.file_name().unwrap_or_default().as_bytes()
    }
}

/// Whether `path` is `directory` or below it.
pub(super) fn is_below(path: &Path, directory: &str) -> bool {
    path.starts_with(directory)
}
