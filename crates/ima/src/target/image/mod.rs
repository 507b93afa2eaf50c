//! Images of file systems, read without mounting them: no privilege is needed, and no kernel
//! has to trust what is in them.
//!
//! ext2, ext3 and ext4 are read by [`ima_format::ext4`]; labels are written by e2fsprogs'
//! debugfs, which knows how to keep every checksum and bitmap right, and then read again
//! and compared.

mod copy;
mod debugfs;
mod erofs;
mod read_only;
mod run;
mod squashfs;

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ima_format::ext4::{Disk, Volume};
use ima_format::hash::HashAlgorithm;
use ima_format::kind::{Content, HEAD_SIZE};
use ima_format::ErrorKind;

use super::tar::TarError;
use super::tree::{Selection, SignMode};
use super::MAX_SPARSE;
use crate::digest::DigestError;
use crate::input;
use crate::key::SignError;
use crate::sign::Labeler;

pub use copy::copy;
pub use erofs::erofs_as_tar;
pub use read_only::{is_read_only, read_only_as_tar, read_only_error};
pub use run::{clear, inspect, sign, verify};
pub use squashfs::squashfs_as_tar;

/// An image, and what of it is meant.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    volume: Volume<Bytes>,
    /// Which of the files.
    pub selection: Selection,
    /// Worker threads.
    pub jobs: NonZeroUsize,
}

/// How files are signed.
#[derive(Debug, Clone, Copy)]
pub struct SignOptions<'a> {
    /// With what.
    pub labeler: Labeler<'a>,
    /// Over which digest.
    pub algorithm: HashAlgorithm,
    /// Which files need it.
    pub mode: SignMode,
    /// Whether to change anything.
    pub dry_run: bool,
}

/// Why an image was not dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is malformed.
    #[error("{kind} at offset {offset}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong there.
        kind: ErrorKind,
    },
    /// Sparse files with more zeros than are digested.
    #[error("a file with {holes} bytes of zeros in holes, of which {left} more are read, at offset {offset}")]
    Sparse {
        /// Where its size stands.
        offset: u64,
        /// How many it has.
        holes: u64,
        /// How many would have been read.
        left: u64,
    },
    /// An image of a file system that is read-only.
    #[error("{0}, which is read-only")]
    ReadOnly(&'static str),
    /// No image that is read here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// No digest of a file could be made.
    #[error("{}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DigestError,
    },
    /// A file could not be signed.
    #[error("{}", path.display())]
    Sign {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// debugfs is not there, or cannot be run.
    #[error("cannot run debugfs: {0}")]
    Debugfs(io::Error),
    /// e2fsck is not there, or cannot be run.
    #[error("cannot run e2fsck: {0}")]
    E2fsck(io::Error),
    /// e2fsck could not count the quotas.
    #[error("its quotas cannot be counted: e2fsck says: {0}")]
    Quotas(String),
    /// sqfs2tar is not there, or cannot be run.
    #[error("cannot run sqfs2tar: {0}")]
    Sqfs2tar(io::Error),
    /// What debugfs is told cannot be written.
    #[error("cannot write what debugfs is told: {0}")]
    Batch(io::Error),
    /// debugfs did not do what it was told.
    #[error("{}: the attribute was not written: debugfs says: {said}", path.display())]
    NotWritten {
        /// The first file without its label.
        path: PathBuf,
        /// What debugfs said.
        said: String,
    },
    /// A read-only image, read as an archive, could not be dealt with.
    #[error(transparent)]
    Archive(TarError),
    /// Who is told of the results cannot be told.
    #[error(transparent)]
    Report(io::Error),
}

impl ImageError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        use ima_format::ext4::Fault;
        Some(match self {
            Self::Debugfs(_) | Self::E2fsck(_) => {
                "install e2fsprogs, or sign the tar archive that the image is made of"
            }
            Self::Quotas(_) => "mend it with e2fsck -f, or make it without the feature quota",
            Self::Sqfs2tar(_) => "install squashfs-tools-ng",
            Self::Sparse { .. } => "--max-sparse SIZE allows more",
            Self::NotWritten { said, .. } if said.contains("Insufficient space") => {
                "a file has one block for all its attributes: make the image with -O ea_inode or \
                 -I 1024, or use a key with shorter signatures (p-256)"
            }
            Self::NotWritten { .. } => {
                "is there room? resize2fs makes the image larger; make it with -I 512, or use a \
                 key with shorter signatures (p-256)"
            }
            Self::ReadOnly(_) => {
                "read-only images are made anew: sign the tar archive, then sqfstar or \
                 mkfs.erofs --tar"
            }
            Self::Malformed { kind: ErrorKind::Erofs(fault), .. } if fault.is_unknown() => {
                "mount it, and give the directory"
            }
            Self::Archive(error) => return error.hint(),
            Self::Malformed { kind: ErrorKind::Ext4(Fault::Journal), .. } => "e2fsck -p replays it",
            _ => return None,
        })
    }
}

/// An image's file.
#[derive(Debug)]
pub(crate) struct Bytes {
    file: File,
    size: u64,
    /// How many zeros of sparse files may still be read.
    zeros: AtomicU64,
}

impl Bytes {
    fn open(path: &Path) -> Result<Self, ImageError> {
        let fail = |source| ImageError::Read { offset: 0, source };
        let file = input::open(path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok(Self { file, size, zeros: AtomicU64::new(MAX_SPARSE) })
    }
}

impl Disk for Bytes {
    type Error = ImageError;

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        use std::os::unix::fs::FileExt;
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|source| ImageError::Read { offset, source })
    }

    fn zeros(&self, count: u64, at: u64) -> Result<(), ImageError> {
        let less = |left: u64| left.checked_sub(count);
        let taken = self.zeros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(drop).map_err(|left| ImageError::Sparse { offset: at, holes: count, left })
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> ImageError {
        ImageError::Malformed { offset, kind }
    }
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// What is no image of ext2, ext3 or ext4, or has features that are not known.
    pub fn open(path: &Path, selection: Selection, jobs: NonZeroUsize) -> Result<Self, ImageError> {
        let volume = Self::volume(path)?;
        Ok(Self { path: path.to_owned(), volume, selection, jobs })
    }

    /// Has so many zeros of sparse files read at most.
    pub fn limit_zeros(&self, max_sparse: u64) {
        self.volume.disk().zeros.store(max_sparse, Ordering::Relaxed);
    }

    pub(crate) fn volume(path: &Path) -> Result<Volume<Bytes>, ImageError> {
        let bytes = Bytes::open(path)?;
        let mut head = vec![0; bytes.size.min(HEAD_SIZE as u64) as usize];
        bytes.read(0, &mut head)?;
        match Content::of(&head) {
            Some(Content::Squashfs) => Err(ImageError::ReadOnly("a squashfs image")),
            Some(Content::Erofs) => Err(ImageError::ReadOnly("an EROFS image")),
            _ => Volume::open(bytes),
        }
    }
}

/// What became of a file.
#[derive(Debug)]
pub struct Report<T> {
    /// Its path below the image's root.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The outcome.
    pub outcome: T,
}

/// Takes reports one by one; an error ends the run.
pub type Sink<'a, T> = dyn FnMut(Report<T>) -> io::Result<()> + 'a;
