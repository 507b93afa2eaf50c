//! Directories, and the walk through them.
//!
//! A directory's content is made of blocks. Each has entries of 12 bytes, in the order of
//! their names, and then the names:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | the inode's number |
//! | 8 | 2 | where in the block the name begins; it ends where the next one begins, the last one at a zero byte or the end |
//! | 10 | 1 | kind of file |

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::{u16_at, u64_at, Disk, Fault, FileKind, Inode, Unpack, Volume, SUPERBLOCK};

/// A directory larger than this is none: a million names of usual length.
const DIRECTORY_MAX: u64 = 1 << 28;
/// How much larger than the image all directories can be: those that are compressed are, and
/// those that lie, and share their content, would have no end.
const DIRECTORIES_MAX: u64 = 16;
/// `EROFS_NAME_LEN`
const NAME_MAX: usize = 255;
/// `PATH_MAX`: a longer path cannot be opened, nor be a link's target.
const PATH_MAX: usize = 4096;
/// `struct erofs_dirent`
const ENTRY: usize = 12;

/// A name in a directory.
#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    inode: u64,
    /// The directory's inode, in the image.
    at: u64,
    /// Length of the directory's path.
    parent: usize,
}

/// A result of a walk.
#[derive(Debug)]
pub struct Found {
    /// Its path below the root, which itself is not found.
    pub path: Vec<u8>,
    /// Its inode.
    pub inode: Inode,
}

/// A walk through all directories, sorted by name, a directory before its entries.
#[derive(Debug)]
pub struct Walk {
    /// The entries that remain, the next one last.
    waiting: Vec<Entry>,
    /// The path of the last result.
    path: Vec<u8>,
    directories: BTreeSet<u64>,
    /// How many more bytes directories can have.
    left: u64,
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// The root directory.
    pub fn root(&self) -> Result<Inode, D::Error> {
        let at = SUPERBLOCK + 0x0e;
        let root = self.inode(self.root, at)?;
        match root.kind() {
            FileKind::Directory => Ok(root),
            _ => Err(self.fail(at, Fault::Root)),
        }
    }

    /// Begins at the root.
    pub fn walk(&self) -> Result<Walk, D::Error> {
        let root = self.root()?;
        let mut walk = Walk {
            waiting: Vec::new(),
            path: Vec::new(),
            directories: BTreeSet::from([self.root]),
            left: self.disk.size().saturating_mul(DIRECTORIES_MAX),
        };
        self.walked.set(0);
        self.enter(&mut walk, &root)?;
        Ok(walk)
    }

    /// Continues with the next name. `descend` decides whether a directory is walked into.
    pub fn next(
        &self,
        walk: &mut Walk,
        descend: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Option<Found>, D::Error> {
        let Some(Entry { name, inode: number, at, parent }) = walk.waiting.pop() else {
            return Ok(None);
        };
        // the last result is in the same directory, or in one below
        walk.path.truncate(parent);
        if parent > 0 {
            walk.path.push(b'/');
        }
        walk.path.extend(name);
        if walk.path.len() > PATH_MAX {
            return Err(self.fail(at, Fault::Path));
        }
        let inode = self.inode(number, at)?;
        if inode.kind() == FileKind::Directory {
            if !walk.directories.insert(number) {
                return Err(self.fail(at, Fault::DirectoryLoop(number)));
            }
            if descend(&walk.path) {
                self.enter(walk, &inode)?;
            }
        }
        Ok(Some(Found { path: walk.path.clone(), inode }))
    }

    /// Where a symbolic link leads to.
    pub fn link_target(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        if inode.size() >= PATH_MAX as u64 {
            return Err(self.fail(inode.size_at(), Fault::Size(inode.size())));
        }
        let mut content = self.content(inode)?;
        let target = self.range(&mut content, 0, inode.size(), inode.size_at())?;
        match target.contains(&0) {
            true => Err(self.fail(inode.size_at(), Fault::Target)),
            false => Ok(target),
        }
    }

    /// Has the entries of a directory looked at next.
    fn enter(&self, walk: &mut Walk, directory: &Inode) -> Result<(), D::Error> {
        if directory.size() > DIRECTORY_MAX {
            return Err(self.fail(directory.size_at(), Fault::Size(directory.size())));
        }
        walk.left = walk
            .left
            .checked_sub(directory.size())
            .ok_or_else(|| self.fail(directory.size_at(), Fault::Directories))?;
        let mut content = self.content(directory)?;
        let mut entries = Vec::new();
        let mut last = Vec::new();
        let mut position = 0;
        while position < content.size() {
            let length = (content.size() - position).min(self.block_size());
            let block = self.range(&mut content, position, length, directory.size_at())?;
            self.parse(&block, directory.offset(), walk.path.len(), &mut last, &mut entries)?;
            position += length;
        }
        walk.waiting.extend(entries.into_iter().rev());
        Ok(())
    }

    /// Takes a block of a directory apart, whose inode lies at `at` and whose path has a length.
    /// Names ascend, those of `.` and `..` too, from the `last` one of the block before.
    fn parse(
        &self,
        block: &[u8],
        at: u64,
        parent: usize,
        last: &mut Vec<u8>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), D::Error> {
        let first = u16_at(block, 8);
        let end = usize::from(first);
        if end == 0 || end % ENTRY != 0 || end >= block.len() {
            return Err(self.fail(at, Fault::EntryOffset(first)));
        }
        let mut rest = block.get(..end).unwrap_or_default();
        while let Some((entry, others)) = rest.get(..ENTRY).zip(rest.get(ENTRY..)) {
            let begins = u16_at(entry, 8);
            let name = block.get(usize::from(begins)..).filter(|_| usize::from(begins) >= end);
            let name = name.ok_or_else(|| self.fail(at, Fault::EntryOffset(begins)))?;
            let length = match others.is_empty() {
                true => name.iter().position(|byte| *byte == 0).unwrap_or(name.len()),
                false => {
                    let next = u16_at(others, 8);
                    let length = usize::from(next).checked_sub(usize::from(begins));
                    length.ok_or_else(|| self.fail(at, Fault::EntryOffset(next)))?
                }
            };
            let name = name.get(..length).unwrap_or_default();
            let fits = (1..=NAME_MAX).contains(&name.len());
            if !fits || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                let name = name.get(..NAME_MAX).unwrap_or(name);
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(self.fail(at, Fault::EntryName(name)));
            }
            if name <= last.as_slice() {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(self.fail(at, Fault::EntryOrder(name)));
            }
            last.clear();
            last.extend_from_slice(name);
            if name != b"." && name != b".." {
                let (name, inode) = (name.to_vec(), u64_at(entry, 0));
                entries.push(Entry { name, inode, at, parent });
            }
            rest = others;
        }
        Ok(())
    }
}
