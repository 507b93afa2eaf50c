//! A tree of files that can be listed and read, wherever it is kept: in a directory, an archive,
//! an image. Verbs and preflight read containers through it.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ima_format::evm::{self, InodeId, Metadata};
use ima_format::hash::Digest;

use super::AttributeName;
use crate::advice::{Advice, Failure};
use crate::digest::{DigestError, DigestKind, FileHasher};

/// A tree of files.
pub trait Source: Sync {
    /// Gives every entry to `visit`, and the errors of listing.
    fn list(&self, visit: &mut dyn Visit);

    /// Opens a regular file that was listed. Files are opened from several threads.
    ///
    /// # Errors
    /// Those of opening; a file that is no longer the one that was listed.
    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError>;
}

/// Takes the entries of a source.
pub trait Visit {
    /// Takes an entry: every name of a file, in any order; a directory before its entries.
    fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()>;

    /// Whether to list the entries of this directory; not every source asks.
    fn descends(&self, _: &Path) -> bool {
        true
    }
}

/// Takes everything.
impl<F: FnMut(Result<Entry, Unread>)> Visit for F {
    fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
        self(found);
        ControlFlow::Continue(())
    }
}

/// One entry of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the root of the source, which is `/`.
    pub path: PathBuf,
    /// Its kind.
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

/// The kind of an entry.
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

/// Something that could not be listed or read.
#[derive(Debug)]
pub struct Unread {
    /// Its path from the root of the source.
    pub path: PathBuf,
    /// Why.
    pub error: SourceError,
}

/// Why something of a source cannot be listed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The system's error.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// No digest could be made.
    #[error(transparent)]
    Digest(DigestError),
    /// The container cannot be read: an error of its format.
    #[error(transparent)]
    Format(#[from] Failure),
}

impl Advice for SourceError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.advice(),
            Self::Read(_) | Self::Digest(_) => None,
        }
    }
}

impl From<DigestError> for SourceError {
    fn from(error: DigestError) -> Self {
        match error {
            DigestError::Read(error) => Self::Read(error),
            other => Self::Digest(other),
        }
    }
}

/// An open file of a source.
pub trait SourceFile: Send {
    /// Reads at an offset; 0 bytes at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError>;

    /// The value of an attribute, if there is one.
    ///
    /// # Errors
    /// Those of reading it.
    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError>;

    /// Its inode; `None` where it gets one when it is unpacked.
    ///
    /// # Errors
    /// Those of reading it.
    fn inode(&self) -> Result<Option<InodeId>, SourceError> {
        Ok(None)
    }

    /// The digest of the whole; an error if it is not `size` bytes (any more).
    ///
    /// # Errors
    /// Those of reading and of the hash; a file that changed.
    fn digest(
        &self,
        hasher: &mut FileHasher,
        size: u64,
        kind: DigestKind,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, SourceError> {
        let read_at = |offset, buffer: &mut [u8]| self.read_at(offset, buffer);
        match hasher.digest_with(read_at, kind, progress)? {
            (digest, read) if read == size => Ok(digest),
            _ => Err(changed().into()),
        }
    }
}

/// The error for a file that is no longer the one that was listed.
pub(crate) fn changed() -> io::Error {
    io::Error::other("changed while it was read")
}

/// The whole of a small file; `None` if it is larger than `most`.
pub(crate) fn whole(file: &dyn SourceFile, most: usize) -> Result<Option<Vec<u8>>, SourceError> {
    let bytes = part(file, 0, most + 1)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// Up to `length` bytes at an offset.
pub(crate) fn part(
    file: &dyn SourceFile,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, SourceError> {
    read_part(|offset, buffer| file.read_at(offset, buffer), offset, length)
}

/// Up to `length` bytes at an offset, fewer only at the end of the file.
pub(crate) fn read_part<E>(
    mut read_at: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, E> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match read_at(offset.saturating_add(filled as u64), &mut bytes[filled..])? {
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

    /// Whether it has an execute bit: even root can execute it only then (`generic_permission()`).
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// The owner and mode of a regular file, which EVM covers.
    pub fn metadata(&self) -> Metadata {
        // no permission is lost: there are 12 bits
        let mode = evm::REGULAR | (self.mode & 0o7777) as u16;
        Metadata { uid: self.uid, gid: self.gid, mode }
    }

    /// The name's bytes.
    pub(crate) fn name(&self) -> &[u8] {
        use std::os::unix::ffi::OsStrExt;
        self.path.file_name().unwrap_or_default().as_bytes()
    }
}
