//! A root that is a directory of this machine.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ima_format::hash::Digest;
use ima_format::policy::filesystem::{with_magic, Purpose};
use rustix::fs::{fgetxattr, OFlags};
use rustix::io::Errno;
use walkdir::{DirEntry, WalkDir};

use crate::container::source::{
    changed, Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit,
};
use crate::container::AttributeName;
use crate::digest::{DigestKind, FileHasher};

/// A directory that will be the root of a machine. File systems of the kernel's own that are
/// mounted in it are passed over. Through libc alone, so that pseudo sees every call.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`.
    ///
    /// # Errors
    /// If it is none, or cannot be looked at.
    pub fn open(path: &Path) -> io::Result<Self> {
        match path.metadata()?.is_dir() {
            true => Ok(Self { path: path.to_owned() }),
            false => Err(Errno::NOTDIR.into()),
        }
    }

    /// A path of this machine as the booted one sees it.
    fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(&self.path).unwrap_or(path))
    }

    fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The entry at a path as the booted machine sees it; links in it are followed as this
    /// machine follows them.
    ///
    /// # Errors
    /// Those of looking at it.
    pub fn look_up(&self, path: &Path) -> io::Result<Entry> {
        let outside = self.outside(path);
        self.entry(&outside, &outside.symlink_metadata()?)
    }

    fn entry(&self, path: &Path, metadata: &Metadata) -> io::Result<Entry> {
        let file_type = metadata.file_type();
        let kind = if file_type.is_file() {
            EntryKind::File { size: metadata.len() }
        } else if file_type.is_dir() {
            EntryKind::Directory
        } else if file_type.is_symlink() {
            EntryKind::Link(std::fs::read_link(path)?)
        } else {
            EntryKind::Other
        };
        Ok(Entry {
            path: self.inside(path),
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }
}

impl Source for Directory {
    fn list(&self, visit: &mut dyn Visit) {
        let mut last_device = None;
        let mut walk = WalkDir::new(&self.path).follow_links(false).into_iter();
        while let Some(next) = walk.next() {
            let entry = match next {
                Ok(entry) => entry,
                Err(error) => {
                    let path = self.inside(error.path().unwrap_or(&self.path));
                    let other = || io::Error::other("cannot be walked");
                    let error = error.into_io_error().unwrap_or_else(other);
                    match visit.found(Err(Unread { path, error: error.into() })) {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return,
                    }
                }
            };
            if entry.file_type().is_dir() && is_pseudo(&entry, &mut last_device) {
                walk.skip_current_dir();
                continue;
            }
            let path = || self.inside(entry.path());
            if entry.file_type().is_dir() && !visit.descends(&path()) {
                walk.skip_current_dir();
            }
            let listed = entry.metadata().map_err(io::Error::from);
            let listed = listed.and_then(|metadata| self.entry(entry.path(), &metadata));
            if visit
                .found(listed.map_err(|error| Unread { path: path(), error: error.into() }))
                .is_break()
            {
                return;
            }
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        // NONBLOCK: should it have become a FIFO by now, opening does not wait for a writer
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = self.outside(&entry.path);
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(flags.bits() as i32).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || (metadata.dev(), metadata.ino()) != entry.identity {
            return Err(changed().into());
        }
        Ok(Box::new(Open { file, metadata }))
    }
}

/// Whether a directory is on a file system that holds no files but the kernel's state.
fn is_pseudo(entry: &DirEntry, last_device: &mut Option<u64>) -> bool {
    let Ok(metadata) = entry.metadata() else { return false };
    if last_device.replace(metadata.dev()) == Some(metadata.dev()) {
        return false;
    }
    let magic = rustix::fs::statfs(entry.path()).map(|statfs| statfs.f_type as u64);
    magic.is_ok_and(|magic| with_magic(magic).any(|known| known.purpose == Purpose::Pseudo))
}

struct Open {
    file: File,
    metadata: Metadata,
}

impl SourceFile for Open {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        Ok(self.file.read_at(buffer, offset)?)
    }

    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        // larger than any signature but the largest post-quantum ones
        let mut value = vec![0; 1024];
        loop {
            match fgetxattr(&self.file, name.as_str(), &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                // XATTR_SIZE_MAX is 64 KiB, so that this ends
                Err(Errno::RANGE) if value.len() <= 1 << 16 => value.resize(value.len() * 8, 0),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn digest(
        &self,
        hasher: &mut FileHasher,
        size: u64,
        kind: DigestKind,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, SourceError> {
        let (digest, read) = hasher.digest(&self.file, size, kind, progress)?;
        let now = self.file.metadata()?;
        let stamp = |metadata: &Metadata| {
            let (changed, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
            (metadata.len(), changed, nanoseconds)
        };
        match read == size && stamp(&now) == stamp(&self.metadata) {
            true => Ok(digest),
            false => Err(changed().into()),
        }
    }
}
