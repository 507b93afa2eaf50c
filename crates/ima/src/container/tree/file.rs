//! One open file: read, watched for changes, its attribute read and set.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ima_format::evm::{InodeId, Metadata};
use ima_format::hash::Digest;
use rustix::fs::{
    fgetxattr, fremovexattr, fsetxattr, openat, statat, unlinkat, AtFlags, FileType, Mode, OFlags,
    XattrFlags,
};
use rustix::io::{pread, Errno};

use super::folder::{is_replaced, Folders};
use super::inode;
use super::walk::Candidate;
use crate::container::error::{ItemError, WalkError};
use crate::container::{AttributeName, Content, Edit, End};
use crate::digest::{DigestKind, FileHasher};
use crate::input;
use crate::staging::{self, Location, Staged};

/// No attribute is larger (`XATTR_SIZE_MAX`).
const SIGNATURE_MAX: u64 = 1 << 16;

/// Where a file's signature is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `security.ima`, which the kernel reads.
    Security,
    /// `user.ima`: for trials without privileges. No kernel looks at it.
    User,
    /// A file next to it, with `.sig` after its name, that has the attribute's value.
    Detached,
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
    is_directory: bool,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(Errno::INVAL.into());
        }
        Ok(Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_directory: metadata.is_dir(),
        })
    }

    /// How long to wait until a further change cannot bear the same change time as the last one.
    fn freshness(&self, now: SystemTime) -> Option<Duration> {
        // Linux stamps changes with the tick of its clock, 10 ms at most; file systems with 32-bit
        // times (ext4 with inodes of 128 bytes, ext3) keep whole seconds, FAT even ones.
        const TICK: Duration = Duration::from_millis(20);
        const WHOLE_SECONDS: Duration = Duration::from_secs(2);
        let (seconds, nanoseconds) = self.changed;
        let grain = if nanoseconds == 0 { WHOLE_SECONDS } else { TICK };
        let changed = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let age = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(changed)?;
        grain.checked_sub(age).filter(|wait| !wait.is_zero())
    }
}

/// A file that was opened without following a symbolic link and is the one that was found.
#[derive(Debug)]
pub(in crate::container) struct OpenFile<'a> {
    pub(in crate::container) file: File,
    path: Cow<'a, Path>,
    /// The directory that it is in.
    directory: Arc<OwnedFd>,
    stamp: Stamp,
}

/// Opens the directory that a file was found in.
pub(super) fn directory(
    candidate: &Candidate,
    folders: &mut Folders,
) -> Result<Arc<OwnedFd>, ItemError> {
    folders.open(&candidate.folder).map_err(replaced_or_unopened)
}

fn replaced_or_unopened(error: io::Error) -> ItemError {
    match is_replaced(&error) {
        true => ItemError::Changed,
        false => ItemError::Open(error),
    }
}

impl<'a> OpenFile<'a> {
    /// Opens a file that the walk found, where it was found. A file that changed within the last moments
    /// is waited for, so that a change during the reading cannot hide behind the same time stamp.
    pub(in crate::container) fn open(
        candidate: &'a Candidate,
        folders: &mut Folders,
    ) -> Result<Self, ItemError> {
        Self::open_in(directory(candidate, folders)?, candidate)
    }

    /// Opens a file that the walk found in this directory.
    pub(super) fn open_in(
        directory: Arc<OwnedFd>,
        candidate: &'a Candidate,
    ) -> Result<Self, ItemError> {
        let file = open_file(&directory, candidate.name()).map_err(replaced_or_unopened)?;
        let mut stamp = Stamp::of(&file).map_err(ItemError::Read)?;
        let Candidate { dev, ino, is_directory, .. } = *candidate;
        if (stamp.dev, stamp.ino, stamp.is_directory) != (dev, ino, is_directory) {
            return Err(ItemError::Changed);
        }
        if let Some(wait) = stamp.freshness(SystemTime::now()) {
            std::thread::sleep(wait);
            stamp = Stamp::of(&file).map_err(ItemError::Read)?;
        }
        Ok(Self { file, path: Cow::Borrowed(&candidate.path), directory, stamp })
    }

    /// It, whatever becomes of the candidate.
    pub(in crate::container) fn into_owned(self) -> OpenFile<'static> {
        let Self { file, path, directory, stamp } = self;
        OpenFile { file, path: Cow::Owned(path.into_owned()), directory, stamp }
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
        kind: DigestKind,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, ItemError> {
        if self.stamp.is_directory {
            return Err(WalkError::NotRegular("directory").into());
        }
        let (digest, read) = hasher.digest(&self.file, self.stamp.size, kind, progress)?;
        match read == self.stamp.size {
            true => Ok(digest),
            false => Err(ItemError::Changed),
        }
    }

    /// Sees that it is as it was when it was opened.
    pub(in crate::container) fn check_unchanged(&self) -> Result<(), ItemError> {
        match Stamp::of(&self.file).map_err(ItemError::Read)? == self.stamp {
            true => Ok(()),
            false => Err(ItemError::Changed),
        }
    }

    /// The value of an attribute, if there is one.
    pub(super) fn attribute(
        &self,
        name: AttributeName,
        place: Place,
    ) -> Result<Option<Vec<u8>>, ItemError> {
        let Some(name) = place.name_of(name) else { return self.detached() };
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
                Err(error) => return Err(ItemError::ReadAttribute(error.into())),
            }
        }
    }

    /// The owner and mode, which EVM covers.
    pub(super) fn metadata(&self) -> Result<Metadata, ItemError> {
        let metadata = self.file.metadata().map_err(ItemError::Read)?;
        Ok(Metadata { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() as u16 })
    }

    /// Its inode.
    pub(super) fn inode(&self) -> Result<InodeId, ItemError> {
        inode::id_of(self.file.as_fd(), self.stamp.ino).map_err(ItemError::Inode)
    }

    /// The location of its detached signature.
    fn signature(&self) -> Location {
        let mut location = self.location();
        location.name.push(".sig");
        location
    }

    fn detached(&self) -> Result<Option<Vec<u8>>, ItemError> {
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

    fn detached_error(&self, source: io::Error) -> ItemError {
        ItemError::Detached { path: detached_path(&self.path), source }
    }

    /// Whether there is an attribute, whatever its value.
    pub(super) fn has_attribute(
        &self,
        name: AttributeName,
        place: Place,
    ) -> Result<bool, ItemError> {
        // it covers security.ima, which a detached signature does not change
        if (place, name) == (Place::Detached, AttributeName::Evm) {
            return Ok(false);
        }
        if place.name_of(name).is_some() {
            return Ok(self.attribute(name, place)?.is_some());
        }
        let Location { directory, name, .. } = self.signature();
        match statat(&*directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.detached_error(error.into())),
        }
    }

    /// Changes an attribute: completely, or not at all.
    pub(super) fn edit(
        &self,
        name: AttributeName,
        place: Place,
        edit: &Edit,
    ) -> Result<(), ItemError> {
        match (place.name_of(name), edit) {
            (Some(name), Edit::Set(value)) => {
                fsetxattr(&self.file, name, value, XattrFlags::empty())
                    .map_err(|errno| attribute_error(errno, value.len()))
            }
            (Some(name), Edit::Remove) => match fremovexattr(&self.file, name) {
                Ok(()) | Err(Errno::NODATA) => Ok(()),
                Err(errno) => Err(attribute_error(errno, 0)),
            },
            (None, Edit::Set(value)) => self.set_detached(value),
            (None, Edit::Remove) => {
                let Location { directory, name, .. } = self.signature();
                match unlinkat(&*directory, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(error) => Err(self.detached_error(error.into())),
                }
            }
        }
    }

    /// Writes the file again, with another end, whole or not at all.
    pub(super) fn write_again(&self, end: &End) -> Result<(), ItemError> {
        if self.file.metadata().map_err(ItemError::Read)?.nlink() > 1 {
            return Err(ItemError::SeveralNames);
        }
        let mut original = self.file.try_clone().map_err(ItemError::Read)?;
        original.rewind().map_err(ItemError::Read)?;
        let staged = Staged::replacing(self.location(), 0o600).map_err(ItemError::Rewrite)?;
        let copied = io::copy(&mut original.take(end.start), &mut staged.as_file())
            .map_err(ItemError::Rewrite)?;
        self.check_unchanged()?;
        if copied != end.start {
            return Err(ItemError::Changed);
        }
        staged
            .as_file()
            .write_all(&end.bytes)
            .and_then(|()| staged.complete())
            .and_then(|()| staged.persist())
            .map_err(ItemError::Rewrite)
    }

    fn set_detached(&self, value: &[u8]) -> Result<(), ItemError> {
        staging::write(&self.signature(), 0o644, value).map_err(|error| self.detached_error(error))
    }
}

impl Content for OpenFile<'_> {
    fn size(&self) -> u64 {
        self.stamp.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ItemError> {
        let read = || pread(&self.file, &mut *buffer, offset);
        rustix::io::retry_on_intr(read).map_err(io::Error::from).map_err(ItemError::Read)
    }
}

/// Why an attribute of so many bytes was not changed.
pub(super) fn attribute_error(errno: Errno, size: usize) -> ItemError {
    let error = errno.into();
    match errno {
        Errno::PERM | Errno::ACCESS => ItemError::AttributeDenied(error),
        Errno::OPNOTSUPP => ItemError::AttributeUnsupported(error),
        Errno::ROFS => ItemError::ReadOnly(error),
        Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE => {
            ItemError::NoRoom { size, source: error }
        }
        _ => ItemError::Attribute(error),
    }
}

impl Place {
    /// The name under which an attribute is kept; `None` in a file of its own.
    pub(super) fn name_of(self, name: AttributeName) -> Option<&'static str> {
        match (self, name) {
            (Self::User, AttributeName::Ima) => Some("user.ima"),
            (Self::User, AttributeName::Evm) => Some("user.evm"),
            (Self::Detached, AttributeName::Ima) => None,
            (_, name) => Some(name.as_str()),
        }
    }
}

/// The path of a file's detached signature.
pub fn detached_path(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_is_waited_for_by_the_grain_of_its_clock() {
        let at = |changed, milliseconds| {
            let is_directory = false;
            let stamp = Stamp { dev: 1, ino: 1, size: 0, modified: changed, changed, is_directory };
            let now = UNIX_EPOCH + Duration::from_millis(milliseconds);
            stamp.freshness(now).map(|wait| wait.as_millis())
        };
        assert_eq!(at((100, 5_000_000), 100_010), Some(15));
        assert_eq!(at((100, 5_000_000), 100_025), None);
        assert_eq!(at((100, 0), 100_700), Some(1_300), "a file system that keeps whole seconds");
        assert_eq!(at((100, 0), 102_000), None);
        assert_eq!(at((200, 0), 100_000), None, "changed in the future: a clock that was set back");
    }
}
