//! Images of file systems, read without mounting them: no privilege is needed, and no kernel
//! has to parse hostile ones.
//!
//! ext2, ext3 and ext4 are read by [`ima_format::ext4`], EROFS by [`ima_format::erofs`]; both are
//! a [`Source`]. Attributes are written to ext4 alone, by e2fsprogs' debugfs, which keeps every
//! checksum and bitmap right, and then read again and compared. An image is opened once: everything
//! that is read or written later goes through that file descriptor, whatever its name leads to
//! meanwhile.

mod copy;
mod debugfs;
mod disk;
mod erofs;
mod ext;
mod run;
mod squashfs;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use ima_format::ext4::{Disk, Volume};
use ima_format::kind::Content;
use ima_format::ErrorKind;

use self::disk::{Layout, Window};
use self::erofs::Erofs;
use self::ext::Ext;
use super::error::ContainerError;
use super::source::{Source, SourceError};
use super::{Part, MAX_SPARSE};
use crate::advice::{Advice, Failure};
use crate::container::AttributeName;
use crate::input;

pub(super) use copy::copy;
use squashfs::squashfs_as_tar;

/// An image in a file: a file system, or a disk with partitions.
#[derive(Debug)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// The partitions that are processed, by number, label or PARTUUID; all if there are none here.
    pub partitions: Vec<String>,
}

/// An open image.
#[derive(Debug)]
struct Volumes {
    bytes: Bytes,
    file_system: FileSystem,
}

#[derive(Debug)]
enum FileSystem {
    Ext(Ext),
    Erofs(Erofs),
}

impl FileSystem {
    fn open(bytes: Bytes) -> Result<Self, ImageError> {
        match bytes.content()? {
            Some(Content::Squashfs) => Err(ImageError::ReadOnly("a squashfs image")),
            Some(Content::Erofs) => Erofs::open(bytes).map(Self::Erofs),
            _ => Ok(Self::Ext(Ext { volume: Volume::open(bytes)? })),
        }
    }
}

/// The files of an image, or of the partition that is named by its number, label or PARTUUID.
///
/// # Errors
/// A file that is not an image of a file system that is read here, or has unknown features; a disk
/// with several file systems of which none is selected.
pub fn source(path: &Path, partition: Option<&str>) -> Result<Box<dyn Source>, ContainerError> {
    let partitions = partition.into_iter().map(String::from).collect();
    let mut sources = Image { path: path.to_owned(), partitions }.sources()?;
    match (sources.len(), sources.pop()) {
        (1, Some(source)) => Ok(source),
        (count, _) => Err(ImageError::FileSystems(count).into()),
    }
}

impl Image {
    /// The files of each file system.
    ///
    /// # Errors
    /// Those of [`source`], but for the last one.
    pub fn sources(&self) -> Result<Vec<Box<dyn Source>>, ContainerError> {
        let file = input::open(&self.path);
        let file = file.map_err(|source| ImageError::Read { offset: 0, source })?;
        let layout = Layout::read(&Bytes::new(file, MAX_SPARSE)?, &self.partitions)?;
        layout.windows.iter().map(Window::source).collect()
    }
}

/// A path in an image, from its root.
fn path_of(below_root: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(below_root))
}

/// Why an image was not processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// It is malformed.
    #[error("{kind} at offset {offset}")]
    Malformed {
        /// Where.
        offset: u64,
        /// The fault.
        kind: ErrorKind,
    },
    /// Sparse files with more zeros than are digested.
    #[error("sparse file has {holes} bytes of holes; {left} remain of the --max-sparse limit, at offset {offset}")]
    Sparse {
        /// Where its size stands.
        offset: u64,
        /// How many it has.
        holes: u64,
        /// How many would have been read.
        left: u64,
    },
    /// Attributes that are larger than a file of the image can have.
    #[error("no room for attributes of {size} bytes: each file can have {most}")]
    NoRoom {
        /// Of all attributes, with their names.
        size: usize,
        /// How much there is at most, if no file has other attributes.
        most: usize,
    },
    /// An image of a file system that is read-only.
    #[error("{0}, which is read-only")]
    ReadOnly(&'static str),
    /// A partition was selected of an image without partitions.
    #[error("not a disk with partitions")]
    NoPartitions,
    /// No partition has this number, label or PARTUUID.
    #[error("no partition has the number, label or PARTUUID {0:?}")]
    NoSuchPartition(String),
    /// One file system is needed, and there are so many.
    #[error("{0} file systems in its partitions")]
    FileSystems(usize),
    /// A partition whose files cannot be read here.
    #[error("{part}: {content}, which is not supported")]
    Unread {
        /// The partition.
        part: Part,
        /// Its content.
        content: &'static str,
    },
    /// A partition that could be read as two things.
    #[error("both {first} and {second}")]
    Ambiguous {
        /// A file system.
        first: &'static str,
        /// Something else.
        second: &'static str,
    },
    /// A partition table, and a file system on the disk as a whole.
    #[error("both a partition table and a file system on the whole disk: {0}")]
    TableAndFileSystem(&'static str),
    /// A file system that a dm-verity hash tree covers.
    #[error("covered by dm-verity ({0}), which a change makes invalid")]
    Verity(String),
    /// A program changed bytes outside the partitions that it was given.
    #[error("bytes outside the partitions were changed")]
    Outside,
    /// debugfs is not there, or cannot be run.
    #[error("cannot run debugfs: {0}")]
    Debugfs(io::Error),
    /// e2fsck is not there, or cannot be run.
    #[error("cannot run e2fsck: {0}")]
    E2fsck(io::Error),
    /// e2fsck could not count the quotas.
    #[error("its quotas cannot be counted: e2fsck: {0}")]
    Quotas(String),
    /// sqfs2tar is not there, or cannot be run.
    #[error("cannot run sqfs2tar: {0}")]
    Sqfs2tar(io::Error),
    /// The commands for debugfs cannot be written.
    #[error("cannot write the commands for debugfs: {0}")]
    Batch(io::Error),
    /// debugfs did not make a change.
    #[error("{}: the attribute was not written: debugfs: {said}", path.display())]
    NotWritten {
        /// The first file without its attribute.
        path: PathBuf,
        /// The message of debugfs.
        said: String,
    },
}

impl Advice for ImageError {
    fn advice(&self) -> Option<&'static str> {
        use ima_format::ext4::Fault;
        Some(match self {
            Self::Debugfs(_) | Self::E2fsck(_) => {
                "install e2fsprogs, or sign the tar archive that the image is built from"
            }
            Self::Quotas(_) => "fix it with e2fsck -f, or create it without the feature quota",
            Self::Sqfs2tar(_) => "install squashfs-tools-ng",
            Self::NoSuchPartition(_) => "sfdisk --dump lists the partitions, blkid their labels",
            Self::FileSystems(_) | Self::Unread { .. } => {
                "--partition NUMBER, LABEL or PARTUUID selects one"
            }
            Self::NoPartitions => "leave out --partition",
            Self::Ambiguous { .. } => "wipefs shows and removes signatures of earlier file systems",
            Self::TableAndFileSystem(_) => "wipefs shows both, and removes the outdated one",
            Self::Verity(_) => {
                "sign the root first, then create its hash tree (veritysetup format) and the disk"
            }
            Self::Malformed { kind: ErrorKind::Partition(_), .. } => {
                "sfdisk --verify and sgdisk --verify show details; gdisk repairs a copy"
            }
            Self::Sparse { .. } => "--max-sparse SIZE allows more",
            Self::NotWritten { said, .. } if said.contains("Insufficient space") => {
                "a file has one block for all its attributes: make the image with -O ea_inode or \
                 -I 1024, or use a key with shorter signatures (p-256)"
            }
            Self::NotWritten { .. } => {
                "check the free space (resize2fs enlarges the image), create it with -I 512, or \
                 use a \
                 key with shorter signatures (p-256)"
            }
            Self::NoRoom { .. } => {
                "make the image with -b 4096; or sign the tree that it is built from (mke2fs -d \
                 copies \
                 attributes, with -O ea_inode of any size), or use a key with shorter signatures"
            }
            Self::ReadOnly(_) => {
                "read-only images are not changed: sign or clear the tar archive that it is made \
                 of, \
                 then make it again (sqfstar, mkfs.erofs --tar)"
            }
            Self::Malformed { kind: ErrorKind::Erofs(fault), .. } if fault.is_unknown() => {
                "mount it, and give the directory"
            }
            Self::Malformed { kind: ErrorKind::Ext4(Fault::Journal), .. } => "e2fsck -p replays it",
            Self::Malformed { kind: ErrorKind::Ext4(fault), .. } if fault.is_repairable() => {
                "e2fsck -fn may say more, and e2fsck -f repairs a copy"
            }
            _ => return None,
        })
    }
}

impl Image {
    /// Checks that a file of the image can have all these attributes. An image that cannot be read
    /// is reported when it is run.
    pub(super) fn check_room(
        &self,
        attributes: &[(AttributeName, usize)],
    ) -> Result<(), ImageError> {
        let Ok(file) = input::open(&self.path) else { return Ok(()) };
        let layout =
            Bytes::new(file, MAX_SPARSE).and_then(|it| Layout::read(&it, &self.partitions));
        let Ok(Layout { windows, .. }) = layout else { return Ok(()) };
        let sizes = attributes.iter().map(|(_, size)| Volume::<Bytes>::attribute_size(*size));
        let size = sizes.sum();
        for window in windows {
            let Ok(FileSystem::Ext(ext)) = FileSystem::open(window.bytes) else { continue };
            let most = ext.volume.attribute_room();
            if size > most {
                return Err(ImageError::NoRoom { size, most });
            }
        }
        Ok(())
    }
}

/// An image's file, or a window of it.
#[derive(Debug, Clone)]
struct Bytes {
    opened: Arc<Opened>,
    start: u64,
    size: u64,
}

#[derive(Debug)]
struct Opened {
    file: File,
    /// How many zeros of sparse files may still be read.
    zeros: AtomicU64,
}

impl Bytes {
    fn new(file: File, max_sparse: u64) -> Result<Self, ImageError> {
        let metadata = file.metadata();
        let size = metadata.map_err(|source| ImageError::Read { offset: 0, source })?.len();
        let opened = Arc::new(Opened { file, zeros: AtomicU64::new(max_sparse) });
        Ok(Self { opened, start: 0, size })
    }

    /// A part of it, which must be inside.
    fn window(&self, start: u64, size: u64) -> Self {
        Self { opened: Arc::clone(&self.opened), start: self.start + start, size }
    }

    fn file(&self) -> &File {
        &self.opened.file
    }
}

impl Disk for Bytes {
    type Error = ImageError;

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        use std::os::unix::fs::FileExt;
        let end = offset.checked_add(buffer.len() as u64);
        let read = match end.filter(|end| *end <= self.size) {
            Some(_) => self.file().read_exact_at(buffer, self.start + offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        read.map_err(|source| ImageError::Read { offset, source })
    }

    fn zeros(&self, count: u64, at: u64) -> Result<(), ImageError> {
        let less = |left: u64| left.checked_sub(count);
        let taken = self.opened.zeros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(drop).map_err(|left| ImageError::Sparse { offset: at, holes: count, left })
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> ImageError {
        ImageError::Malformed { offset, kind }
    }
}

impl Volumes {
    fn open(bytes: Bytes) -> Result<Self, ImageError> {
        let file_system = FileSystem::open(bytes.clone())?;
        Ok(Self { bytes, file_system })
    }

    fn source(&self) -> &dyn Source {
        match &self.file_system {
            FileSystem::Ext(ext) => ext,
            FileSystem::Erofs(erofs) => erofs,
        }
    }
}

impl From<ImageError> for ContainerError {
    fn from(error: ImageError) -> Self {
        Failure::new(error).into()
    }
}

impl From<ImageError> for SourceError {
    fn from(error: ImageError) -> Self {
        Failure::new(error).into()
    }
}
