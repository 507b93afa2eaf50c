//! Directories that a walk found, and how to open them again.
//!
//! The walk and each worker keep a few directories open ([`Folders`]). One that is no longer open is
//! opened again one name at a time from the nearest one that is, and only if it is the directory
//! that was found: below a path that was named no symbolic link is ever followed, a path may be
//! longer than `PATH_MAX`, and the number of open descriptors does not grow with the tree. The calls
//! are libc's `openat`, so that pseudo sees them.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{fstat, openat, Mode, OFlags, CWD};
use rustix::io::Errno;

/// The kernel takes no longer path, its zero byte included.
const PATH_MAX: usize = 4096;
/// Directories that a thread keeps open.
const KEPT: usize = 8;

/// A directory that was found.
#[derive(Debug)]
pub(in crate::container) struct Folder {
    /// The directory that it is in; `None` where its path was named.
    parent: Option<Arc<Folder>>,
    /// Its name in `parent`, or the path that was named.
    name: PathBuf,
    links: Links,
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// Whether a symbolic link at the end of a path stands for a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Followed,
    Refused,
}

impl Folder {
    /// The directory that a path leads to, and its descriptor.
    pub(super) fn named(path: &Path, links: Links) -> io::Result<(Self, OwnedFd)> {
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Self::found(None, name, links)
    }

    /// A directory in another one, which is open as `at`, and its descriptor.
    pub(super) fn below(
        parent: &Arc<Self>,
        at: BorrowedFd<'_>,
        name: &Path,
    ) -> io::Result<(Self, OwnedFd)> {
        Self::found(Some((parent, at)), name, Links::Refused)
    }

    fn found(
        parent: Option<(&Arc<Self>, BorrowedFd<'_>)>,
        name: &Path,
        links: Links,
    ) -> io::Result<(Self, OwnedFd)> {
        let descriptor = open(parent.map(|(_, at)| at), name, links)?;
        let stat = fstat(&descriptor)?;
        let parent = parent.map(|(parent, _)| Arc::clone(parent));
        let (dev, ino) = (stat.st_dev as _, stat.st_ino as _);
        Ok((Self { parent, name: name.to_owned(), links, dev, ino }, descriptor))
    }

    /// Opens it again.
    fn open(&self, parent: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
        let descriptor = open(parent, &self.name, self.links)?;
        let stat = fstat(&descriptor)?;
        match (stat.st_dev as u64, stat.st_ino as u64) == (self.dev, self.ino) {
            true => Ok(descriptor),
            false => Err(Errno::NOTDIR.into()),
        }
    }
}

/// Not one inside the other: a tree may be deeper than the stack.
impl Drop for Folder {
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut folder) = parent.and_then(Arc::into_inner) {
            parent = folder.parent.take();
        }
    }
}

/// Opens a directory: to list it, or, if its path was named for a file in it, to open that file.
fn open(parent: Option<BorrowedFd<'_>>, name: &Path, links: Links) -> io::Result<OwnedFd> {
    let mut flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if links == Links::Refused {
        flags |= OFlags::NOFOLLOW;
    }
    let (before, name) = reach(parent, name)?;
    let parent = before.as_ref().map(AsFd::as_fd).or(parent).unwrap_or(CWD);
    let open = |flags| openat(parent, &*name, flags, Mode::empty());
    match (open(flags), links) {
        (Err(Errno::ACCESS), Links::Followed) => Ok(open(flags | OFlags::PATH)?),
        (opened, _) => Ok(opened?),
    }
}

/// Goes along a path that is longer than the kernel takes, until the rest is not: the directory so
/// far, and the rest.
fn reach<'p>(
    parent: Option<BorrowedFd<'_>>,
    path: &'p Path,
) -> io::Result<(Option<OwnedFd>, Cow<'p, Path>)> {
    if path.as_os_str().len() < PATH_MAX {
        return Ok((None, Cow::Borrowed(path)));
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
    let mut reached: Option<OwnedFd> = None;
    let mut rest = PathBuf::new();
    for component in path.components() {
        if rest.as_os_str().len() + 1 + component.as_os_str().len() >= PATH_MAX {
            let at = reached.as_ref().map(AsFd::as_fd).or(parent).unwrap_or(CWD);
            reached = Some(openat(at, &rest, flags, Mode::empty())?);
            rest.clear();
        }
        rest.push(component);
    }
    Ok((reached, Cow::Owned(rest)))
}

/// Whether an error of opening a directory says that something else has its name.
pub(super) fn is_replaced(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

/// Whether a path can only be a directory's, as it ends with a slash or a dot.
pub(super) fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

/// The directories that a thread has open: those that it used last.
#[derive(Debug, Default)]
pub(in crate::container) struct Folders {
    open: Vec<(Arc<Folder>, Arc<OwnedFd>)>,
}

impl Folders {
    /// Opens a directory that was found.
    ///
    /// # Errors
    /// Those of opening it; [`Errno::NOTDIR`] if something else is there by now.
    pub(in crate::container) fn open(&mut self, folder: &Arc<Folder>) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut next = Some(folder);
        let mut descriptor = None;
        while let Some(folder) = next {
            descriptor = self.use_open(folder);
            if descriptor.is_some() {
                break;
            }
            closed.push(folder);
            next = folder.parent.as_ref();
        }
        for folder in closed.into_iter().rev() {
            let opened = folder.open(descriptor.as_deref().map(AsFd::as_fd))?;
            descriptor = Some(self.keep(folder, opened));
        }
        descriptor.ok_or_else(|| Errno::NOTDIR.into())
    }

    /// Keeps a directory open, in place of the one that was not used for longest.
    pub(super) fn keep(&mut self, folder: &Arc<Folder>, descriptor: OwnedFd) -> Arc<OwnedFd> {
        if self.open.len() == KEPT {
            self.open.remove(0);
        }
        let descriptor = Arc::new(descriptor);
        self.open.push((Arc::clone(folder), Arc::clone(&descriptor)));
        descriptor
    }

    fn use_open(&mut self, folder: &Arc<Folder>) -> Option<Arc<OwnedFd>> {
        let index = self.open.iter().rposition(|(open, _)| Arc::ptr_eq(open, folder))?;
        let used = self.open.remove(index);
        let descriptor = Arc::clone(&used.1);
        self.open.push(used);
        Some(descriptor)
    }
}
