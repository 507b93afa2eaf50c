//! One open file: read, watched for changes, its attribute read and set.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ima_format::hash::{Digest, HashAlgorithm};
use rustix::fs::{
    fgetxattr, fremovexattr, fsetxattr, openat, statat, unlinkat, AtFlags, FileType, Mode, OFlags,
    XattrFlags,
};
use rustix::io::Errno;

use super::folder::{is_replaced, Folders};
use super::Candidate;
use crate::digest::{DigestError, FileHasher};
use crate::input;
use crate::key::SignError;
use crate::staging::{self, Location};

/// No attribute is larger (`XATTR_SIZE_MAX`).
const SIGNATURE_MAX: u64 = 1 << 16;

/// Where a file's label is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `security.ima`: what the kernel reads.
    Security,
    /// `user.ima`: for trials without privileges. No kernel looks at it.
    User,
    /// A file beside it, its name followed by `.sig`, holding the attribute's value.
    Detached,
}

/// Why a file was not dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open: {0}")]
    Open(io::Error),
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// It was changed, replaced or cut while it was read.
    #[error("changed while it was read; not signed")]
    Changed,
    /// No digest could be made.
    #[error(transparent)]
    Digest(DigestError),
    /// No signature could be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The signing key was lost at another file: this one was not tried.
    #[error("not signed: the key was lost before")]
    KeyLost,
    /// It was named, and is the signature of a file, which has none itself.
    #[error("a detached signature, which is not signed itself")]
    IsSignature,
    /// The attribute cannot be read.
    #[error("cannot read the attribute: {0}")]
    ReadAttribute(io::Error),
    /// No permission to set the attribute.
    #[error("no permission to change the attribute: {0}")]
    AttributeDenied(io::Error),
    /// The file system has no such attributes.
    #[error("the file system does not keep this attribute: {0}")]
    AttributeUnsupported(io::Error),
    /// The file system takes no changes.
    #[error("cannot change the attribute: {0}")]
    ReadOnly(io::Error),
    /// There is no room for the attribute.
    #[error("no room for an attribute of {size} bytes: {source}")]
    NoRoom {
        /// The attribute's size.
        size: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The attribute cannot be set for another reason.
    #[error("cannot change the attribute: {0}")]
    Attribute(io::Error),
    /// The signature's file cannot be written, read or removed.
    #[error("{}: {source}", path.display())]
    Detached {
        /// The signature's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Sign(error) => return error.hint(),
            Self::Changed => "sign it again when nothing writes to it",
            Self::AttributeDenied(_) => {
                "security.ima needs root (CAP_SYS_ADMIN) and a file that is not immutable \
                 (lsattr); without root: pseudo, --detached, or --xattr-namespace user"
            }
            Self::AttributeUnsupported(_) => {
                "sign on a file system with security attributes (ext4, xfs, btrfs), or \
                 --detached"
            }
            Self::IsSignature => "name the file that it belongs to",
            Self::ReadOnly(_) => READ_ONLY_HINT,
            Self::Detached { source, .. } => return hint_of_writing(source),
            Self::NoRoom { source, .. } if is(source, Errno::NOSPC) => {
                "make room; on ext4 a long signature needs a block of its own, unless inodes \
                 are larger (mkfs.ext4 -I 512) or keys make shorter signatures (p-256)"
            }
            Self::NoRoom { .. } => {
                "make ext4 with -I 512 or -O ea_inode, or use a key with shorter signatures \
                 (p-256)"
            }
            _ => return None,
        })
    }
}

const READ_ONLY_HINT: &str = "the file system is mounted read-only: remount it writable, or sign \
                              a copy or what it is made of; images of ext4 are signed as files";

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// What to do about a file that cannot be written or removed.
fn hint_of_writing(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::ROFS => Some(READ_ONLY_HINT),
        Errno::NOSPC | Errno::DQUOT => Some("make room on the file system"),
        Errno::PERM | Errno::ACCESS => {
            Some("the directory must be writable for you, and not immutable (lsattr -d)")
        }
        _ => None,
    }
}

impl From<DigestError> for FileError {
    fn from(error: DigestError) -> Self {
        match error {
            DigestError::Read(error) => Self::Read(error),
            other => Self::Digest(other),
        }
    }
}

/// Two states of a file with the same stamp hold the same bytes, if the change time is not
/// too fresh: see [`OpenFile::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Errno::INVAL.into());
        }
        Ok(Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// How long ago the file changed, where that is less than the grain of file systems'
    /// clocks: two changes within it can bear the same time.
    fn freshness(&self) -> Option<Duration> {
        const GRAIN: Duration = Duration::from_millis(20);
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let age = now.checked_sub(changed)?;
        GRAIN.checked_sub(age)
    }
}

/// A file that was opened without following a symbolic link and is the one that was found.
#[derive(Debug)]
pub(in crate::container) struct OpenFile<'a> {
    pub(in crate::container) file: File,
    path: &'a Path,
    /// The directory that it is in.
    directory: Arc<OwnedFd>,
    stamp: Stamp,
}

/// Opens the directory that a file was found in.
pub(super) fn directory(
    candidate: &Candidate,
    folders: &mut Folders,
) -> Result<Arc<OwnedFd>, FileError> {
    folders.open(&candidate.folder).map_err(replaced_or_unopened)
}

fn replaced_or_unopened(error: io::Error) -> FileError {
    match is_replaced(&error) {
        true => FileError::Changed,
        false => FileError::Open(error),
    }
}

impl<'a> OpenFile<'a> {
    /// Opens what the walk found, where it was found. A file that changed within the last moments
    /// is waited for, so that a change during the reading cannot hide behind the same time stamp.
    pub(in crate::container) fn open(
        candidate: &'a Candidate,
        folders: &mut Folders,
    ) -> Result<Self, FileError> {
        Self::open_in(directory(candidate, folders)?, candidate)
    }

    /// Opens what the walk found in this directory.
    pub(super) fn open_in(
        directory: Arc<OwnedFd>,
        candidate: &'a Candidate,
    ) -> Result<Self, FileError> {
        let file = open_file(&directory, candidate.path.file_name().unwrap_or_default())
            .map_err(replaced_or_unopened)?;
        let mut stamp = Stamp::of(&file).map_err(FileError::Read)?;
        if (stamp.dev, stamp.ino) != (candidate.dev, candidate.ino) {
            return Err(FileError::Changed);
        }
        if let Some(wait) = stamp.freshness() {
            std::thread::sleep(wait);
            stamp = Stamp::of(&file).map_err(FileError::Read)?;
        }
        Ok(Self { file, path: &candidate.path, directory, stamp })
    }

    /// Where it is.
    pub(in crate::container) fn location(&self) -> Location {
        let name = self.path.file_name().unwrap_or_default().to_owned();
        Location::new(Arc::clone(&self.directory), name)
    }

    /// The digest of its content.
    pub(super) fn digest(
        &self,
        hasher: &mut FileHasher,
        algorithm: HashAlgorithm,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, FileError> {
        let (digest, read) = hasher.digest(&self.file, self.stamp.size, algorithm, progress)?;
        match read == self.stamp.size {
            true => Ok(digest),
            false => Err(FileError::Changed),
        }
    }

    /// Sees that it is as it was when it was opened.
    pub(in crate::container) fn check_unchanged(&self) -> Result<(), FileError> {
        match Stamp::of(&self.file).map_err(FileError::Read)? == self.stamp {
            true => Ok(()),
            false => Err(FileError::Changed),
        }
    }

    /// The label in `place`, if there is one.
    pub(super) fn label(&self, place: Place) -> Result<Option<Vec<u8>>, FileError> {
        let Some(name) = attribute_name(place) else { return self.detached() };
        // larger than any signature but the largest post-quantum ones
        let mut value = vec![0; 1024];
        loop {
            match fgetxattr(&self.file, name, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                // XATTR_SIZE_MAX is 64 KiB, so that this ends
                Err(Errno::RANGE) if value.len() <= 1 << 16 => {
                    value.resize(value.len() * 8, 0);
                }
                Err(error) => return Err(FileError::ReadAttribute(error.into())),
            }
        }
    }

    /// The location of its detached signature.
    fn signature(&self) -> Location {
        let mut location = self.location();
        location.name.push(".sig");
        location
    }

    fn detached(&self) -> Result<Option<Vec<u8>>, FileError> {
        let Location { directory, name, .. } = self.signature();
        let read = open_file(&directory, &name).and_then(|file| input::read(&file, SIGNATURE_MAX));
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                Err(self.detached_error(io::Error::other("a symbolic link, which is not followed")))
            }
            Err(error) => Err(self.detached_error(error)),
        }
    }

    fn detached_error(&self, source: io::Error) -> FileError {
        FileError::Detached { path: detached_path(self.path), source }
    }

    /// Sets the label in `place`: whole, or not at all.
    pub(super) fn set_label(&self, place: Place, value: &[u8]) -> Result<(), FileError> {
        let Some(name) = attribute_name(place) else { return self.set_detached(value) };
        fsetxattr(&self.file, name, value, XattrFlags::empty()).map_err(|errno| {
            let error = errno.into();
            match errno {
                Errno::PERM | Errno::ACCESS => FileError::AttributeDenied(error),
                Errno::OPNOTSUPP => FileError::AttributeUnsupported(error),
                Errno::ROFS => FileError::ReadOnly(error),
                Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE => {
                    FileError::NoRoom { size: value.len(), source: error }
                }
                _ => FileError::Attribute(error),
            }
        })
    }

    fn set_detached(&self, value: &[u8]) -> Result<(), FileError> {
        staging::write(&self.signature(), 0o644, value).map_err(|error| self.detached_error(error))
    }

    /// Removes the label from `place`; tells whether there was one.
    pub(super) fn remove_label(&self, place: Place) -> Result<bool, FileError> {
        let Some(name) = attribute_name(place) else {
            let Location { directory, name, .. } = self.signature();
            return match unlinkat(&*directory, &name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(self.detached_error(error.into())),
            };
        };
        match fremovexattr(&self.file, name) {
            Ok(()) => Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(errno @ (Errno::PERM | Errno::ACCESS)) => {
                Err(FileError::AttributeDenied(errno.into()))
            }
            Err(errno @ Errno::ROFS) => Err(FileError::ReadOnly(errno.into())),
            Err(errno) => Err(FileError::Attribute(errno.into())),
        }
    }
}

fn attribute_name(place: Place) -> Option<&'static str> {
    match place {
        Place::Security => Some(ima_format::xattr::XATTR_NAME_IMA),
        Place::User => Some("user.ima"),
        Place::Detached => None,
    }
}

/// The path of a file's detached signature.
fn detached_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".sig");
    PathBuf::from(name)
}

/// The file that a path is the detached signature of, in the directory that both are in.
pub(super) fn signed_by(path: &Path, directory: &OwnedFd) -> Option<PathBuf> {
    let signed = path.with_extension("");
    if path.extension()? != "sig" {
        return None;
    }
    let found = statat(directory, signed.file_name()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then_some(signed)
}

/// Opens a file in a directory, not through a symbolic link. Should it have become a FIFO by now,
/// opening does not wait for a writer.
fn open_file(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}
