//! Checksums of metadata (`metadata_csum`): the kernel uses nothing that fails them.
//!
//! Each begins with a seed: of the file system for blocks of attributes, of the inode (its
//! number and generation) for everything that belongs to a file.

use super::{crc32c, u16_at, u32_at, Disk, Fault, Inode, Volume};

/// Where the lower and the upper half of an inode's checksum are.
const INODE_LOW: usize = 0x7c;
const INODE_HIGH: usize = 0x82;
/// A block of attributes has its checksum here.
const ATTRIBUTES: usize = 0x10;
/// `struct ext4_dir_entry_tail`: an entry for no inode, 12 bytes long, of this kind.
const TAIL: usize = 12;
const TAIL_KIND: u8 = 0xde;

impl<D: Disk> Volume<D> {
    fn compare(&self, stored: Option<u32>, computed: u32, at: u64) -> Result<(), D::Error> {
        match stored == Some(computed) {
            true => Ok(()),
            false => Err(self.fail(at, Fault::Checksum)),
        }
    }

    /// `ext4_inode_csum_verify`
    pub(super) fn check_inode(&self, inode: &Inode) -> Result<(), D::Error> {
        if !self.has_checksums || self.is_hurd {
            return Ok(());
        }
        let bytes = inode.bytes();
        let high = inode.extra_end().filter(|end| *end >= INODE_HIGH + 2).map(|_| INODE_HIGH);
        let (mut sum, mut from) = (self.inode_seed(inode), 0);
        for field in [Some(INODE_LOW), high].into_iter().flatten() {
            sum = crc32c(sum, bytes.get(from..field).unwrap_or_default());
            sum = crc32c(sum, &[0; 2]);
            from = field + 2;
        }
        sum = crc32c(sum, bytes.get(from..).unwrap_or_default());
        let half = |offset| u16_at(bytes, offset).map(u32::from);
        let (stored, mask) = match high {
            Some(high) => (half(INODE_LOW).zip(half(high)).map(|(low, high)| high << 16 | low), !0),
            None => (half(INODE_LOW), 0xffff),
        };
        self.compare(stored, sum & mask, inode.offset() + INODE_LOW as u64)
    }

    pub(super) fn inode_seed(&self, inode: &Inode) -> u32 {
        let sum = crc32c(self.seed, &inode.number().to_le_bytes());
        crc32c(sum, &inode.word(0x64).to_le_bytes())
    }

    /// `ext4_extent_block_csum_verify`: after as many entries as fit.
    pub(super) fn check_extents(&self, seed: u32, node: &[u8], at: u64) -> Result<(), D::Error> {
        if !self.has_checksums {
            return Ok(());
        }
        let end = 12 + usize::from(u16_at(node, 4).unwrap_or_default()) * 12;
        let covered = node.get(..end).unwrap_or_default();
        self.compare(u32_at(node, end), crc32c(seed, covered), at)
    }

    /// `ext4_xattr_block_csum_verify`
    pub(super) fn check_attribute_block(
        &self,
        block: &[u8],
        number: u64,
        at: u64,
    ) -> Result<(), D::Error> {
        if !self.has_checksums {
            return Ok(());
        }
        let mut sum = crc32c(self.seed, &number.to_le_bytes());
        sum = crc32c(sum, block.get(..ATTRIBUTES).unwrap_or_default());
        sum = crc32c(sum, &[0; 4]);
        sum = crc32c(sum, block.get(ATTRIBUTES + 4..).unwrap_or_default());
        self.compare(u32_at(block, ATTRIBUTES), sum, at)
    }

    /// `ext4_dirblock_csum_verify`: in an entry for no inode at the end.
    pub(super) fn check_directory_block(
        &self,
        directory: &Inode,
        block: &[u8],
    ) -> Result<(), D::Error> {
        if !self.has_checksums {
            return Ok(());
        }
        let (entries, tail) = block.split_at(block.len().saturating_sub(TAIL));
        let is_tail = tail.starts_with(&[0, 0, 0, 0, TAIL as u8, 0, 0, TAIL_KIND]);
        let stored = u32_at(tail, 8).filter(|_| is_tail);
        self.compare(stored, crc32c(self.inode_seed(directory), entries), directory.offset())
    }

    /// `ext4_dx_csum_verify`: of an index's node with so many entries from `first` on, in use and
    /// in all.
    pub(super) fn check_index_node(
        &self,
        directory: &Inode,
        node: &[u8],
        first: usize,
        (count, limit): (usize, usize),
    ) -> Result<(), D::Error> {
        if !self.has_checksums {
            return Ok(());
        }
        let tail = first + limit * 8;
        let used = node.get(..first + count * 8).unwrap_or_default();
        let mut sum = crc32c(self.inode_seed(directory), used);
        sum = crc32c(sum, node.get(tail..tail + 4).unwrap_or_default());
        sum = crc32c(sum, &[0; 4]);
        self.compare(u32_at(node, tail + 4), sum, directory.offset())
    }
}
