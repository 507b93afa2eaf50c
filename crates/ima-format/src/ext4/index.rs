//! A directory's index, a tree of hashes (`dx_root`, `dx_node` in `fs/ext4/namei.c`).
//!
//! | offset in the first block | size | field |
//! |---|---|---|
//! | 0, 12 | 12 | the entries `.` and `..`, the latter up to the end |
//! | 24 | 4 | zero |
//! | 28, 29 | 1 | kind of hash; 8, the length from 24 to the first entry |
//! | 30, 31 | 1 | levels below this one; flags |
//! | 32 | 8 each | entries |
//!
//! Further nodes begin with an entry for no inode, as long as the block, and have their entries
//! at 8. In the first entry the hash is replaced by two numbers of 2 bytes: how many entries fit,
//! how many there are.
//!
//! The kernel lists and finds only names in the blocks that the index leads to; other programs
//! list all blocks. Here every block must be reached once.

use super::{u16_at, u32_at, Disk, Fault, Inode, Volume, INCOMPAT_LARGE_DIRECTORIES};

/// Where the entries are in the first block, and in others.
const IN_ROOT: usize = 32;
const IN_NODE: usize = 8;
const ENTRY: usize = 8;

/// The role of a directory's block in its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Unreached,
    Node,
    Leaf,
}

impl<D: Disk> Volume<D> {
    /// Walks the index of a directory with this content, and returns the role of each block.
    pub(super) fn index_parts(
        &self,
        directory: &Inode,
        content: &[u8],
    ) -> Result<alloc::vec::Vec<Part>, D::Error> {
        let block_size = self.block_size as usize;
        let fail = |fault| self.fail(directory.offset(), Fault::Index(fault));
        let byte = |offset: usize| content.get(offset).copied().unwrap_or_default();
        let levels = byte(30);
        let most = if self.has_incompat(INCOMPAT_LARGE_DIRECTORIES) { 3 } else { 2 };
        let is_root = u16_at(content, 4) == Some(12)
            && u16_at(content, 16).map(usize::from) == Some(block_size - 12)
            && u32_at(content, 24) == Some(0);
        // hashes by name alone: legacy, half MD4, TEA
        if !is_root || byte(28) > 2 || byte(29) != 8 || byte(31) & 1 != 0 || levels >= most {
            return Err(fail("unknown form"));
        }
        let mut parts = alloc::vec![Part::Unreached; content.len() / block_size];
        let mut waiting = alloc::vec![(0, levels)];
        while let Some((number, level)) = waiting.pop() {
            let place = parts.get_mut(number).ok_or_else(|| fail("block past the end"))?;
            if *place != Part::Unreached {
                return Err(fail("block reached twice"));
            }
            *place = Part::Node;
            let start = number * block_size;
            let node = content.get(start..start + block_size).unwrap_or_default();
            let is_node =
                u32_at(node, 0) == Some(0) && u16_at(node, 4).map(usize::from) == Some(block_size);
            if number != 0 && !is_node {
                return Err(fail("leaf in place of a node"));
            }
            let first = if number == 0 { IN_ROOT } else { IN_NODE };
            let half = |offset| u16_at(node, offset).map_or(0, usize::from);
            let (limit, count) = (half(first), half(first + 2));
            let tail = if self.has_checksums { ENTRY } else { 0 };
            if limit != (block_size - first - tail) / ENTRY || !(1..=limit).contains(&count) {
                return Err(fail("wrong number of entries"));
            }
            self.check_index_node(directory, node, first, (count, limit))?;
            for entry in 0..count {
                let below = u32_at(node, first + entry * ENTRY + 4).unwrap_or_default();
                let below = (below & 0x0fff_ffff) as usize;
                match level.checked_sub(1) {
                    Some(level) => waiting.push((below, level)),
                    None => match parts.get_mut(below) {
                        Some(part) if *part == Part::Unreached => *part = Part::Leaf,
                        Some(_) => return Err(fail("block reached twice")),
                        None => return Err(fail("block past the end")),
                    },
                }
            }
        }
        match parts.contains(&Part::Unreached) {
            true => Err(fail("block not reached")),
            false => Ok(parts),
        }
    }
}
