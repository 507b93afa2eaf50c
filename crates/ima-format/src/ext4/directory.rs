//! Directories, and the walk through them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{u16_at, u32_at, Disk, Fault, FileKind, Inode, Volume, ROOT};

/// A directory larger than this is none: a million names of usual length.
const DIRECTORY_MAX: u64 = 1 << 28;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// Its inode's number.
    pub inode: u32,
    /// Where the entry's directory says so, in the image or, as far as that is not known, the
    /// directory's inode.
    at: u64,
}

impl<D: Disk> Volume<D> {
    /// The entries of a directory without `.` and `..`, sorted by name.
    pub fn entries(&self, directory: &Inode) -> Result<Vec<Entry>, D::Error> {
        let at = directory.offset();
        let mut entries = Vec::new();
        if directory.is_inline() {
            // the number of the directory above, and then entries in both places
            let content = self.inline_content(directory)?;
            let (first, second) = (content.get(4..60), content.get(60..));
            self.parse(first.unwrap_or_default(), at, &mut entries)?;
            self.parse(second.unwrap_or_default(), at, &mut entries)?;
        } else {
            if directory.size() > DIRECTORY_MAX {
                return Err(self.fail(at + 4, Fault::TooManyBlocks));
            }
            let mut content = Vec::new();
            self.content(directory, &mut |part| {
                content.extend_from_slice(part);
                Ok(())
            })?;
            for block in content.chunks(self.block_size as usize) {
                self.parse(block, at, &mut entries)?;
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn parse(&self, mut rest: &[u8], at: u64, entries: &mut Vec<Entry>) -> Result<(), D::Error> {
        while rest.len() >= 8 {
            let inode = u32_at(rest, 0).unwrap_or_default();
            let length = u16_at(rest, 4).unwrap_or_default();
            let name_length = rest.get(6).copied().map_or(0, usize::from);
            // blocks of 64 KiB do not fit into the field
            let size = match length {
                0 | u16::MAX if self.block_size == 1 << 16 => rest.len(),
                length => usize::from(length),
            };
            let fits = size >= 8 && size % 4 == 0 && size <= rest.len();
            if !fits || name_length + 8 > size {
                return Err(self.fail(at, Fault::EntryLength(length)));
            }
            let name = rest.get(8..8 + name_length).unwrap_or_default();
            rest = rest.get(size..).unwrap_or_default();
            // zero: removed, or a checksum, or an inner node of the index
            if inode == 0 || name == b"." || name == b".." {
                continue;
            }
            if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                return Err(self.fail(at, Fault::EntryName));
            }
            entries.push(Entry { name: name.to_vec(), inode, at });
        }
        Ok(())
    }

    /// Walks all directories from the root, sorted by name, and gives each regular file to
    /// `found`, once, with the first of its names. `descend` tells whether a directory is
    /// gone into. `found` returns whether to go on.
    pub fn walk(
        &self,
        descend: &mut dyn FnMut(&[u8]) -> bool,
        found: &mut dyn FnMut(Vec<u8>, Inode) -> bool,
    ) -> Result<(), D::Error> {
        self.traverse(descend, &mut |path, inode, name| {
            let wanted = inode.kind() == Some(FileKind::File) && name == Name::First;
            !wanted || found(path, inode)
        })
    }

    /// Walks as [`Volume::walk`], and gives everything to `found` with each of its names, a
    /// directory before what is in it.
    pub fn traverse(
        &self,
        descend: &mut dyn FnMut(&[u8]) -> bool,
        found: &mut dyn FnMut(Vec<u8>, Inode, Name) -> bool,
    ) -> Result<(), D::Error> {
        let mut seen = BTreeSet::new();
        let root = self.inode(ROOT, 0)?;
        if root.kind() != Some(FileKind::Directory) {
            return Err(self.fail(root.offset(), Fault::DanglingEntry(ROOT)));
        }
        seen.insert(ROOT);
        // what is still to be looked at, the next one last
        let mut waiting = Vec::new();
        let push = |waiting: &mut Vec<(Vec<u8>, Entry)>, path: &[u8], directory: &Inode| {
            let entries = self.entries(directory)?;
            waiting.extend(entries.into_iter().rev().map(|entry| {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                ([path, separator, &entry.name].concat(), entry)
            }));
            Ok(())
        };
        push(&mut waiting, b"", &root)?;
        if !found(Vec::new(), root, Name::First) {
            return Ok(());
        }
        while let Some((path, entry)) = waiting.pop() {
            let inode = self.inode(entry.inode, entry.at)?;
            let name = match inode.kind() {
                None => return Err(self.fail(entry.at, Fault::DanglingEntry(entry.inode))),
                Some(FileKind::File | FileKind::Other) => {
                    match inode.links() == 1 || seen.insert(entry.inode) {
                        true => Name::First,
                        false => Name::Further,
                    }
                }
                Some(FileKind::Directory) => {
                    if !seen.insert(entry.inode) {
                        return Err(self.fail(entry.at, Fault::DirectoryLoop(entry.inode)));
                    }
                    if descend(&path) {
                        push(&mut waiting, &path, &inode)?;
                    }
                    Name::First
                }
            };
            if !found(path, inode, name) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Which of its names something was found under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The first, or the only one.
    First,
    /// Another one, of a file with several.
    Further,
}
