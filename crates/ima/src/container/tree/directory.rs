//! A root that is a directory of this machine.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use ima_format::evm::InodeId;
use ima_format::hash::Digest;
use ima_format::policy::filesystem::{with_magic, Purpose};
use rustix::fs::{
    fgetxattr, fstat, fstatfs, readlinkat, statat, AtFlags, Dir, FileType, OFlags, Stat, CWD,
};
use rustix::io::Errno;

use super::folder::{Folder, Folders, Links};
use super::inode;
use crate::container::source::{
    changed, Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit,
};
use crate::container::AttributeName;
use crate::digest::{DigestKind, FileHasher};

/// A directory that will be the root of a machine. File systems of the kernel's own that are
/// mounted in it are skipped. Through libc alone, so that pseudo sees every call.
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

    fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The entry at a path as the booted machine sees it; links in it are followed as this
    /// machine follows them.
    ///
    /// # Errors
    /// Those of looking at it.
    pub fn look_up(&self, path: &Path) -> io::Result<Entry> {
        let (directory, name) = (CWD, self.outside(path));
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        entry(path.to_owned(), &stat, || readlinkat(directory, &name, Vec::new()))
    }
}

fn entry(
    path: PathBuf,
    stat: &Stat,
    target: impl FnOnce() -> Result<CString, Errno>,
) -> io::Result<Entry> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File { size: stat.st_size as u64 },
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link(OsString::from_vec(target()?.into_bytes()).into()),
        _ => EntryKind::Other,
    };
    let identity = (stat.st_dev as _, stat.st_ino as _);
    let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    Ok(Entry { path, kind, mode, uid, gid, identity })
}

fn unread(path: PathBuf, error: impl Into<io::Error>) -> Result<Entry, Unread> {
    Err(Unread { path, error: error.into().into() })
}

/// Goes through the directories below a root, depth first and by descriptors.
#[derive(Default)]
struct Listing {
    folders: Folders,
    levels: Vec<Level>,
    last_device: Option<u64>,
}

/// A directory whose entries are listed.
struct Level {
    folder: Arc<Folder>,
    /// As the booted machine sees it.
    path: PathBuf,
    names: vec::IntoIter<PathBuf>,
}

impl Listing {
    /// Lists a directory, then its entries.
    fn enter(
        &mut self,
        path: PathBuf,
        (folder, descriptor): (Folder, OwnedFd),
        visit: &mut dyn Visit,
    ) -> ControlFlow<()> {
        if self.is_pseudo(&folder, &descriptor) {
            return ControlFlow::Continue(());
        }
        let descends = visit.descends(&path);
        let listed = fstat(&descriptor).map_err(io::Error::from);
        let listed = listed.and_then(|stat| entry(path.clone(), &stat, || Err(Errno::INVAL)));
        visit.found(listed.or_else(|error| unread(path.clone(), error)))?;
        if !descends {
            return ControlFlow::Continue(());
        }
        match names(&descriptor) {
            Ok(names) => {
                let folder = Arc::new(folder);
                self.folders.keep(&folder, descriptor);
                self.levels.push(Level { folder, path, names: names.into_iter() });
                ControlFlow::Continue(())
            }
            Err(error) => visit.found(unread(path, error)),
        }
    }

    /// Lists the next entry.
    fn next(&mut self, visit: &mut dyn Visit) -> ControlFlow<()> {
        let Some(Level { folder, path, names }) = self.levels.last_mut() else {
            return ControlFlow::Break(());
        };
        let Some(name) = names.next() else {
            self.levels.pop();
            return ControlFlow::Continue(());
        };
        let path = path.join(&name);
        let directory = match self.folders.open(folder) {
            Ok(directory) => directory,
            Err(error) => return visit.found(unread(path, error)),
        };
        let stat = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return visit.found(unread(path, error)),
        };
        let below = (FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            .then(|| Folder::below(folder, directory.as_fd(), &name));
        if let Some(Ok(below)) = below {
            return self.enter(path, below, visit);
        }
        let target = || readlinkat(&directory, &name, Vec::new());
        let listed = entry(path.clone(), &stat, target);
        visit.found(listed.or_else(|error| unread(path.clone(), error)))?;
        match below {
            Some(Err(error)) => visit.found(unread(path, error)),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Whether a directory is on a file system that holds no files but the kernel's state.
    fn is_pseudo(&mut self, folder: &Folder, descriptor: &OwnedFd) -> bool {
        if self.last_device.replace(folder.dev) == Some(folder.dev) {
            return false;
        }
        let magic = fstatfs(descriptor).map(|statfs| statfs.f_type as u64);
        magic.is_ok_and(|magic| with_magic(magic).any(|known| known.purpose == Purpose::Pseudo))
    }
}

/// The names in a directory, sorted.
fn names(directory: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(OsStr::from_bytes(name)));
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Source for Directory {
    fn list(&self, visit: &mut dyn Visit) {
        let (mut listing, root) = (Listing::default(), PathBuf::from("/"));
        let mut listed = match Folder::named(&self.path, Links::Followed) {
            Ok(folder) => listing.enter(root, folder, visit),
            Err(error) => visit.found(unread(root, error)),
        };
        while listed.is_continue() {
            listed = listing.next(visit);
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

    fn inode(&self) -> Result<Option<InodeId>, SourceError> {
        match inode::id_of(self.file.as_fd(), self.metadata.ino()) {
            Ok(inode) => Ok(Some(inode)),
            // a file system that does not show the generation
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTTY) => Ok(None),
            Err(error) => Err(error.into()),
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
