//! Finds the files below a root.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use rustix::fs::{statat, AtFlags, Dir, FileType, Stat};

use super::folder::{is_replaced, names_directory, Folder, Folders, Links};
use crate::container::error::{WalkError, LONGEST_PATH};
use crate::container::{LeftOver, Selection};
use crate::staging::{is_store_temporary, is_temporary};

/// A regular file that the walk found, or a directory that was named for itself.
#[derive(Debug)]
pub struct Candidate {
    /// Its path: the root as given, and the path below it.
    pub path: PathBuf,
    /// The device of its file system.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// It is a root itself: its path was named.
    pub named: bool,
    /// It is a directory, and not the files in it.
    pub(super) is_directory: bool,
    /// How many names of its path are below the root.
    depth: usize,
    /// The directory that it is in, or is.
    pub(in crate::container) folder: Arc<Folder>,
}

/// A result of the walk.
pub(in crate::container) enum Found {
    File(Candidate),
    Failed(PathBuf, WalkError),
    /// A temporary file or directory of a run that was cut short.
    LeftOut(PathBuf),
}

/// Walks roots one after the other.
pub(in crate::container) struct Walk<'a> {
    selection: &'a Selection,
    left_over: LeftOver,
    /// Where the same files may be found again, below another root, all of them are remembered.
    again: bool,
    /// The files that were found, by device and inode.
    seen: HashSet<(u64, u64)>,
    folders: Folders,
    /// The directory of the file that was named last.
    parent: Option<(PathBuf, Arc<Folder>)>,
}

/// A directory in which the walk is.
struct Level {
    folder: Arc<Folder>,
    path: PathBuf,
    /// Of what is in it.
    depth: usize,
    entries: vec::IntoIter<Entry>,
}

/// An entry of a directory that is selected.
struct Entry {
    name: PathBuf,
    kind: EntryKind,
}

enum EntryKind {
    Directory,
    File(Stat),
    LeftOver,
    Failed(WalkError),
}

/// Takes results, and returns whether to continue.
type Sink<'a> = dyn FnMut(Found) -> bool + 'a;

impl Found {
    /// The size of a file.
    pub(in crate::container) fn size(&self) -> u64 {
        match self {
            Self::File(candidate) => candidate.size,
            Self::Failed(..) | Self::LeftOut(_) => 0,
        }
    }
}

impl<'a> Walk<'a> {
    /// A walk that has found nothing yet. Files that are found `again`, below another root, are
    /// found once.
    pub(in crate::container) fn new(
        selection: &'a Selection,
        left_over: LeftOver,
        again: bool,
    ) -> Self {
        let (seen, folders, parent) = Default::default();
        Self { selection, left_over, again, seen, folders, parent }
    }

    /// Walks `root` depth first, directories sorted by name; symbolic links are not followed. A
    /// file with several names, or below several roots, is found once.
    pub(in crate::container) fn root(&mut self, root: &Path, found: &mut Sink<'_>) {
        let walked = match Folder::named(root, Links::Refused) {
            Ok((folder, descriptor)) => {
                self.walk(root, folder, descriptor, found);
                return;
            }
            Err(error) if is_replaced(&error) && !names_directory(root) => self.file(root),
            Err(error) => Err(WalkError::Read(error)),
        };
        named(root, walked, found);
    }

    /// Finds `root` without the files below it: a file, or a directory itself.
    pub(super) fn root_itself(&mut self, root: &Path, found: &mut Sink<'_>) {
        let candidate = match Folder::named(root, Links::Refused) {
            Ok((folder, _)) => {
                let is_first = self.seen.insert((folder.dev, folder.ino));
                Ok(is_first.then(|| Candidate::directory(root.to_owned(), folder)))
            }
            Err(error) if is_replaced(&error) && !names_directory(root) => self.file(root),
            Err(error) => Err(WalkError::Read(error)),
        };
        named(root, candidate, found);
    }

    /// A root that is not a directory.
    fn file(&mut self, root: &Path) -> Result<Option<Candidate>, WalkError> {
        let directory = root.parent().unwrap_or(Path::new(""));
        let folder = match &self.parent {
            Some((path, folder)) if path == directory => Arc::clone(folder),
            _ => {
                let named = Folder::named(directory, Links::Followed);
                let (folder, descriptor) = named.map_err(WalkError::Read)?;
                let folder = Arc::new(folder);
                self.folders.keep(&folder, descriptor);
                self.parent = Some((directory.to_owned(), Arc::clone(&folder)));
                folder
            }
        };
        let descriptor = self.folders.open(&folder).map_err(WalkError::Read)?;
        let name = root.file_name().unwrap_or_default();
        let stat = statat(&*descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(refused) = refusal(FileType::from_raw_mode(stat.st_mode)) {
            return Err(refused);
        }
        let is_first = self.seen.insert((stat.st_dev as _, stat.st_ino as _));
        Ok(is_first.then(|| Candidate::new(root.to_owned(), &stat, &folder, 0)))
    }

    /// Walks a directory.
    fn walk(&mut self, root: &Path, folder: Folder, descriptor: OwnedFd, found: &mut Sink<'_>) {
        if !self.seen.insert((folder.dev, folder.ino)) {
            return;
        }
        let mut levels = Vec::new();
        let dev = folder.dev;
        match self.enter(Arc::new(folder), descriptor, root, Path::new("")) {
            Ok(level) => levels.push(level),
            Err(error) => drop(found(Found::Failed(root.to_owned(), error))),
        }
        while let Some(level) = levels.last_mut() {
            let Some(Entry { name, kind }) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let path = level.path.join(&name);
            let found_one = match kind {
                _ if path.as_os_str().len() > LONGEST_PATH => {
                    Some(Found::Failed(path, WalkError::TooLong))
                }
                EntryKind::File(stat) => self
                    .is_first(&stat)
                    .then(|| Found::File(Candidate::new(path, &stat, &level.folder, level.depth))),
                EntryKind::LeftOver => Some(Found::LeftOut(path)),
                EntryKind::Failed(error) => Some(Found::Failed(path, error)),
                EntryKind::Directory => match self.descend(level, &name) {
                    Ok((below, _)) if self.selection.one_file_system && below.dev != dev => None,
                    Ok((below, descriptor)) => {
                        let within = path.strip_prefix(root).unwrap_or(&path);
                        match self.enter(Arc::new(below), descriptor, &path, within) {
                            Ok(level) => {
                                levels.push(level);
                                None
                            }
                            Err(error) => Some(Found::Failed(path, error)),
                        }
                    }
                    Err(error) => Some(Found::Failed(path, error)),
                },
            };
            if found_one.is_some_and(|found_one| !found(found_one)) {
                return;
            }
        }
    }

    /// Opens a directory below another one.
    fn descend(&mut self, level: &Level, name: &Path) -> Result<(Folder, OwnedFd), WalkError> {
        let opened = self
            .folders
            .open(&level.folder)
            .and_then(|parent| Folder::below(&level.folder, parent.as_fd(), name));
        opened.map_err(|error| match is_replaced(&error) {
            true => WalkError::Replaced,
            false => WalkError::Read(error),
        })
    }

    /// Reads a directory, which is `within` below its root.
    fn enter(
        &mut self,
        folder: Arc<Folder>,
        descriptor: OwnedFd,
        path: &Path,
        within: &Path,
    ) -> Result<Level, WalkError> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&descriptor)? {
            let entry = entry?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if name == Path::new(".") || name == Path::new("..") {
                continue;
            }
            if let Some(kind) = self.kind(&descriptor, within, name, entry.file_type()) {
                entries.push(Entry { name: name.to_owned(), kind });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.as_os_str().cmp(b.name.as_os_str()));
        self.folders.keep(&folder, descriptor);
        let depth = 1 + within.components().count();
        Ok(Level { folder, path: path.to_owned(), depth, entries: entries.into_iter() })
    }

    /// The kind of an entry, if it is selected.
    fn kind(
        &self,
        directory: &OwnedFd,
        within: &Path,
        name: &Path,
        listed: FileType,
    ) -> Option<EntryKind> {
        let below = || within.join(name);
        let is_all = self.selection.is_all();
        if !is_all && self.selection.excludes(&below()) {
            return None;
        }
        let included = is_all || self.selection.includes(&below());
        if listed == FileType::RegularFile && !included {
            return None;
        }
        let stat = match listed {
            FileType::RegularFile | FileType::Unknown => {
                match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Some(stat),
                    Err(error) => return Some(EntryKind::Failed(error.into())),
                }
            }
            _ => None,
        };
        let left_out = self.left_over == LeftOver::LeftOut;
        let kind = stat.as_ref().map_or(listed, |stat| FileType::from_raw_mode(stat.st_mode));
        match (kind, stat) {
            (FileType::Directory, _) if left_out && is_store_temporary(name) => {
                Some(EntryKind::LeftOver)
            }
            (FileType::Directory, _) => Some(EntryKind::Directory),
            (FileType::RegularFile, _) if left_out && is_temporary(name) => {
                Some(EntryKind::LeftOver)
            }
            (FileType::RegularFile, Some(stat)) => included.then_some(EntryKind::File(stat)),
            _ if listed == FileType::RegularFile => Some(EntryKind::Failed(WalkError::Replaced)),
            // other kinds are skipped
            _ => None,
        }
    }

    /// Whether a file below a root was not found before.
    fn is_first(&mut self, file: &Stat) -> bool {
        let inode = (file.st_dev as _, file.st_ino as _);
        match self.again || file.st_nlink > 1 {
            true => self.seen.insert(inode),
            false => !self.seen.contains(&inode),
        }
    }
}

impl Candidate {
    fn new(path: PathBuf, stat: &Stat, folder: &Arc<Folder>, depth: usize) -> Self {
        let (dev, ino, size) = (stat.st_dev as _, stat.st_ino as _, stat.st_size as _);
        let (named, folder) = (depth == 0, Arc::clone(folder));
        Self { path, dev, ino, size, named, is_directory: false, depth, folder }
    }

    fn directory(path: PathBuf, folder: Folder) -> Self {
        let (dev, ino, folder) = (folder.dev, folder.ino, Arc::new(folder));
        Self { path, dev, ino, size: 0, named: true, is_directory: true, depth: 0, folder }
    }

    /// Its name in `folder`.
    pub(super) fn name(&self) -> &OsStr {
        match self.is_directory {
            true => OsStr::new("."),
            false => self.path.file_name().unwrap_or_default(),
        }
    }

    /// Its path below the root; `None` if it is the root.
    pub(super) fn below_root(&self) -> Option<&Path> {
        let above = self.path.components().count().checked_sub(self.depth)?;
        let mut components = self.path.components();
        components.by_ref().take(above).for_each(drop);
        (!self.named).then_some(components.as_path())
    }
}

/// Reports a root that was looked up.
fn named(root: &Path, candidate: Result<Option<Candidate>, WalkError>, found: &mut Sink<'_>) {
    match candidate {
        Ok(None) => {}
        Ok(Some(candidate)) => drop(found(Found::File(candidate))),
        Err(error) => drop(found(Found::Failed(root.to_owned(), error))),
    }
}

/// Why something that was named is not for signing.
fn refusal(file_type: FileType) -> Option<WalkError> {
    Some(match file_type {
        FileType::RegularFile => return None,
        FileType::Symlink => WalkError::SymbolicLink,
        // a directory was not one when it was opened as one
        FileType::Directory => WalkError::Replaced,
        FileType::Fifo => WalkError::NotRegular("FIFO"),
        FileType::Socket => WalkError::NotRegular("socket"),
        FileType::BlockDevice | FileType::CharacterDevice => WalkError::NotRegular("device"),
        FileType::Unknown => WalkError::NotRegular("file of another kind"),
    })
}
