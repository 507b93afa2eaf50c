//! Finds the files below a root.

use std::collections::HashSet;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::Selection;
use crate::temporary::{is_store_temporary, is_temporary};

/// A regular file that the walk found.
#[derive(Debug)]
pub struct Candidate {
    /// Its path: the root, and what follows below it.
    pub path: PathBuf,
    /// The device of its file system.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// It is a root itself: its path was named.
    pub named: bool,
}

/// Why something that was asked for is not among the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// It cannot be looked at.
    #[error("{0}")]
    Read(io::Error),
    /// A path that was named is a symbolic link.
    #[error("a symbolic link, which is not followed")]
    SymbolicLink,
    /// A path that was named is neither a file nor a directory.
    #[error("a {0}, not a regular file")]
    NotRegular(&'static str),
}

/// What the walk comes upon.
pub(in crate::target) enum Found {
    File(Candidate),
    Failed(PathBuf, WalkError),
    /// A temporary file or directory of a run that was cut short.
    LeftOut(PathBuf),
}

/// What was found before, by device and inode.
pub(in crate::target) struct Seen {
    inodes: HashSet<(u64, u64)>,
    again: bool,
}

impl Seen {
    /// Nothing yet. Where the same files may be come upon `again`, below another root, all that
    /// is found is remembered.
    pub(in crate::target) fn new(again: bool) -> Self {
        Self { inodes: HashSet::new(), again }
    }

    /// Whether a root is not one, nor below one, that was walked before. What cannot be looked
    /// at is told where it is opened.
    fn is_first_root(&mut self, root: &DirEntry) -> bool {
        root.metadata().map_or(true, |found| self.inodes.insert((found.dev(), found.ino())))
    }

    /// Whether a file below a root was not found before.
    fn is_first(&mut self, file: &Metadata) -> bool {
        let inode = (file.dev(), file.ino());
        match self.again || file.nlink() > 1 {
            true => self.inodes.insert(inode),
            false => !self.inodes.contains(&inode),
        }
    }
}

/// Walks `root` depth first, directories sorted by name; symbolic links are not followed. A
/// file with several names, or below several roots, is found once; `seen` remembers. `found`
/// returns whether to go on.
pub(in crate::target) fn walk(
    root: &Path,
    selection: &Selection,
    seen: &mut Seen,
    found: &mut dyn FnMut(Found) -> bool,
) {
    let mut entries = WalkDir::new(root)
        .follow_links(false)
        .follow_root_links(false)
        .same_file_system(selection.one_file_system)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !selection.excludes(below(root, entry)));
    while let Some(entry) = entries.next() {
        let found_one = match entry {
            Ok(entry) if entry.depth() == 0 && !seen.is_first_root(&entry) => return,
            Ok(entry) if is_left_over(&entry) => {
                if entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                Some(Found::LeftOut(entry.into_path()))
            }
            Ok(entry) => look_at(root, entry, selection, seen),
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                let error = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                Some(Found::Failed(path, WalkError::Read(error)))
            }
        };
        if let Some(found_one) = found_one {
            if !found(found_one) {
                return;
            }
        }
    }
}

fn below<'a>(root: &Path, entry: &'a DirEntry) -> &'a Path {
    entry.path().strip_prefix(root).unwrap_or(entry.path())
}

/// Whether a run that was cut short has left it. What was named is dealt with as it is.
fn is_left_over(entry: &DirEntry) -> bool {
    let file_type = entry.file_type();
    entry.depth() > 0
        && (file_type.is_file() && is_temporary(entry.path())
            || file_type.is_dir() && is_store_temporary(entry.path()))
}

fn look_at(root: &Path, entry: DirEntry, selection: &Selection, seen: &mut Seen) -> Option<Found> {
    let file_type = entry.file_type();
    if !file_type.is_file() {
        // below a root other kinds are passed over; a root was asked for by name
        let refused = entry.depth() == 0 && !file_type.is_dir();
        return refused.then(|| Found::Failed(entry.into_path(), refusal(file_type)));
    }
    if entry.depth() > 0 && !selection.includes(below(root, &entry)) {
        return None;
    }
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            let error = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
            return Some(Found::Failed(entry.into_path(), WalkError::Read(error)));
        }
    };
    let named = entry.depth() == 0;
    if !named && !seen.is_first(&metadata) {
        return None;
    }
    let (dev, ino) = (metadata.dev(), metadata.ino());
    Some(Found::File(Candidate { path: entry.into_path(), dev, ino, size: metadata.len(), named }))
}

fn refusal(file_type: FileType) -> WalkError {
    if file_type.is_symlink() {
        WalkError::SymbolicLink
    } else if file_type.is_fifo() {
        WalkError::NotRegular("FIFO")
    } else if file_type.is_socket() {
        WalkError::NotRegular("socket")
    } else if file_type.is_block_device() || file_type.is_char_device() {
        WalkError::NotRegular("device")
    } else {
        WalkError::NotRegular("file of another kind")
    }
}
