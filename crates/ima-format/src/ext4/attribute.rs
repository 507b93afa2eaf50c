//! Extended attributes, in the inode and in a block.

use alloc::vec::Vec;

use super::{u16_at, u32_at, Disk, Fault, Inode, Volume};

const MAGIC: u32 = 0xea02_0000;
/// `EXT4_XATTR_INDEX_SECURITY`: the name goes on without `security.`.
const INDEX_SECURITY: u8 = 6;
/// `EXT4_XATTR_INDEX_SYSTEM`, under which inline data goes on as `data`.
const INDEX_SYSTEM: u8 = 7;
/// `struct ext4_xattr_header`
const BLOCK_HEADER: usize = 32;
/// `XATTR_SIZE_MAX`
const VALUE_MAX: u32 = 1 << 16;

/// Room for attributes: entries from `first` on, values relative to `base`.
struct Room<'a> {
    bytes: &'a [u8],
    /// Of `bytes` in the image.
    offset: u64,
    first: usize,
    base: usize,
}

impl<D: Disk> Volume<D> {
    /// An inode's `security.ima`.
    pub fn label(&self, inode: &Inode) -> Result<Option<Vec<u8>>, D::Error> {
        self.attribute(inode, INDEX_SECURITY, b"ima")
    }

    /// What of inline content does not fit beside the inode's fields.
    pub(super) fn inline_attribute(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        Ok(self.attribute(inode, INDEX_SYSTEM, b"data")?.unwrap_or_default())
    }

    fn attribute(
        &self,
        inode: &Inode,
        index: u8,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let extra =
            u16_at(inode.bytes(), 0x80).map(usize::from).filter(|_| inode.bytes().len() > 128);
        if let Some(extra) = extra {
            let start = 128 + extra;
            if u32_at(inode.bytes(), start) == Some(MAGIC) {
                let (offset, first) = (inode.offset(), start + 4);
                let room = Room { bytes: inode.bytes(), offset, first, base: first };
                if let Some(value) = self.find(&room, index, name)? {
                    return Ok(Some(value));
                }
            }
        }
        let number = inode.attribute_block();
        if number == 0 {
            return Ok(None);
        }
        let (offset, block) = self.block(number, inode.offset() + 0x68)?;
        match u32_at(&block, 0) {
            Some(MAGIC) => {
                let room = Room { bytes: &block, offset, first: BLOCK_HEADER, base: 0 };
                self.find(&room, index, name)
            }
            other => Err(self.fail(offset, Fault::AttributeMagic(other.unwrap_or_default()))),
        }
    }

    /// Finds an attribute among the entries of one room.
    fn find(&self, room: &Room<'_>, index: u8, name: &[u8]) -> Result<Option<Vec<u8>>, D::Error> {
        let mut at = room.first;
        loop {
            let offset = room.offset + at as u64;
            let bounds = || self.fail(offset, Fault::AttributeBounds);
            // the room may end without a terminator
            match u32_at(room.bytes, at) {
                None | Some(0) => return Ok(None),
                Some(_) => {}
            }
            let entry = room.bytes.get(at..at + 16).ok_or_else(bounds)?;
            let [name_length, name_index, ..] = *entry else { return Err(bounds()) };
            let length = usize::from(name_length);
            let entry_name = room.bytes.get(at + 16..at + 16 + length).ok_or_else(bounds)?;
            if name_index == index && entry_name == name {
                let word = |offset| u32_at(entry, offset).unwrap_or_default();
                let start = u16_at(entry, 2).map_or(0, usize::from);
                let (inode, size) = (word(4), word(8));
                if size > VALUE_MAX {
                    return Err(bounds());
                }
                if inode != 0 {
                    return self.value_in_inode(inode, size, offset + 4).map(Some);
                }
                let start = room.base + start;
                let value = room.bytes.get(start..start + size as usize).ok_or_else(bounds)?;
                return Ok(Some(value.to_vec()));
            }
            at += 16 + length.div_ceil(4) * 4;
        }
    }

    /// A large value, which is the content of an inode of its own.
    fn value_in_inode(&self, number: u32, size: u32, at: u64) -> Result<Vec<u8>, D::Error> {
        let inode = self.inode(number, at)?;
        let no_value = || self.fail(at, Fault::AttributeInode(number));
        if !inode.is_attribute() || inode.size() != u64::from(size) || inode.is_inline() {
            return Err(no_value());
        }
        let mut value = Vec::new();
        self.content(&inode, &mut |part| {
            value.extend_from_slice(part);
            Ok(())
        })?;
        Ok(value)
    }
}
