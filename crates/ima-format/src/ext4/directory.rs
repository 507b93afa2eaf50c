//! Directories, and the walk through them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::index::Part;
use super::{u16_at, u32_at, Disk, Fault, FileKind, Inode, Volume, COMPAT_DIR_INDEX, ROOT};

/// A directory larger than this is none: a million names of usual length.
const DIRECTORY_MAX: u64 = 1 << 28;

/// `ext4_dir_rec_len(1)`: no entry is shorter.
const ENTRY_MIN: usize = 12;

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
        if directory.is_encrypted() {
            return Err(self.fail(at + 0x20, Fault::Encrypted));
        }
        let mut entries = Vec::new();
        if directory.is_inline() {
            // the number of the directory above, and then entries in both places
            let content = self.inline_content(directory)?;
            let (first, second) = (content.get(4..60), content.get(60..));
            self.parse(first.unwrap_or_default(), at, &mut entries)?;
            self.parse(second.unwrap_or_default(), at, &mut entries)?;
        } else {
            let content = self.directory_content(directory)?;
            let blocks = content.chunks(self.block_size as usize);
            let has_index = self.compat & COMPAT_DIR_INDEX != 0 && directory.has_index();
            let parts = match has_index {
                true => self.index_parts(directory, &content)?,
                false => alloc::vec![Part::Leaf; blocks.len()],
            };
            for (block, part) in blocks.zip(parts) {
                if part == Part::Leaf {
                    self.check_directory_block(directory, block)?;
                }
                self.parse(block, at, &mut entries)?;
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let mut pairs = entries.iter().zip(entries.iter().skip(1));
        match pairs.any(|(one, other)| one.name == other.name) {
            true => Err(self.fail(at, Fault::EntryTwice)),
            false => Ok(entries),
        }
    }

    /// The blocks of a directory. The kernel lists as many as the size says, debugfs lists all
    /// that there are: both must be the same. Neither expects a hole.
    fn directory_content(&self, directory: &Inode) -> Result<Vec<u8>, D::Error> {
        let (at, size) = (directory.offset() + 4, directory.size());
        if size > DIRECTORY_MAX {
            return Err(self.fail(at, Fault::TooManyBlocks));
        }
        let block_size = u64::from(self.block_size);
        let runs = self.runs(directory, u64::MAX)?;
        let mut end = 0;
        for run in runs {
            if run.logical != end {
                return Err(self.fail(at, Fault::DirectorySize(size)));
            }
            end += run.count;
        }
        if size == 0 || size != end * block_size {
            return Err(self.fail(at, Fault::DirectorySize(size)));
        }
        let mut content = self.content(directory)?;
        let mut bytes = alloc::vec![0; usize::try_from(size).unwrap_or_default()];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += self.read_at(&mut content, filled as u64, rest)?;
        }
        Ok(bytes)
    }

    /// Takes a block of entries apart, which fill it (`__ext4_check_dir_entry`).
    fn parse(&self, mut rest: &[u8], at: u64, entries: &mut Vec<Entry>) -> Result<(), D::Error> {
        while !rest.is_empty() {
            let inode = u32_at(rest, 0).unwrap_or_default();
            let length = u16_at(rest, 4).unwrap_or_default();
            let name_length = rest.get(6).copied().map_or(0, usize::from);
            // blocks of 64 KiB do not fit into the field
            let size = match length {
                0 | u16::MAX if self.block_size == 1 << 16 => rest.len(),
                length => usize::from(length),
            };
            let left = rest.len().checked_sub(size);
            let fits = left.is_some_and(|left| left == 0 || left >= ENTRY_MIN);
            if !fits || size < ENTRY_MIN || size % 4 != 0 || name_length + 8 > size {
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

    /// Walks all directories from the root, sorted by name, and gives everything to `found`
    /// with each of its names, a directory before its entries. `descend` decides whether a
    /// directory is gone into. `found` returns whether to go on.
    pub fn walk(
        &self,
        descend: &mut dyn FnMut(&[u8]) -> bool,
        found: &mut dyn FnMut(Vec<u8>, Inode) -> bool,
    ) -> Result<(), D::Error> {
        let mut seen = BTreeSet::new();
        let root = self.inode(ROOT, 0)?;
        if root.kind() != Some(FileKind::Directory) {
            return Err(self.fail(root.offset(), Fault::DanglingEntry(ROOT)));
        }
        seen.insert(ROOT);
        // the entries that remain, the next one last
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
        if !found(Vec::new(), root) {
            return Ok(());
        }
        while let Some((path, entry)) = waiting.pop() {
            let inode = self.inode(entry.inode, entry.at)?;
            if inode.is_attribute() {
                return Err(self.fail(entry.at, Fault::ReservedInode(entry.inode)));
            }
            match inode.kind() {
                None => return Err(self.fail(entry.at, Fault::DanglingEntry(entry.inode))),
                Some(FileKind::File | FileKind::Other) => {}
                Some(FileKind::Directory) => {
                    if !seen.insert(entry.inode) {
                        return Err(self.fail(entry.at, Fault::DirectoryLoop(entry.inode)));
                    }
                    if descend(&path) {
                        push(&mut waiting, &path, &inode)?;
                    }
                }
            }
            if !found(path, inode) {
                return Ok(());
            }
        }
        Ok(())
    }
}
