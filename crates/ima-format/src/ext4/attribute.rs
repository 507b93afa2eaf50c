//! Extended attributes, in the inode and in a block.
//!
//! Mirrors `check_xattrs`, `xattr_find_entry` and `ext4_xattr_inode_get` of `fs/ext4/xattr.c`:
//! all entries of a place are checked before one is used. The kernel looks in the inode first.
//! In a block it takes the entries for sorted, and stops at the first one that is not smaller.
//! An attribute that other programs find there and the kernel does not is refused.

use alloc::vec::Vec;

use super::{crc32c, u16_at, u32_at, Disk, Fault, Inode, Volume, INCOMPAT_EA_INODE, ROOT};

const MAGIC: u32 = 0xea02_0000;
/// `EXT4_XATTR_INDEX_*`: the name continues without its prefix.
const PREFIXES: [(u8, &str); 4] = [(1, "user."), (4, "trusted."), (6, "security."), (7, "system.")];
/// `EXT4_XATTR_INDEX_SYSTEM`, under which inline data continues as `data`.
const INDEX_SYSTEM: u8 = 7;
/// `struct ext4_xattr_header`
const BLOCK_HEADER: usize = 32;
/// `struct ext4_xattr_entry`
const ENTRY: usize = 16;
/// `EXT4_XATTR_SIZE_MAX`
const SIZE_MAX: u32 = 1 << 24;
/// `XATTR_SIZE_MAX`: no system call reads a larger value.
const VALUE_MAX: u32 = 1 << 16;

/// Room for attributes: entries from `first` on, values relative to `base`.
struct Room<'a> {
    bytes: &'a [u8],
    /// Of `bytes` in the image.
    offset: u64,
    first: usize,
    base: usize,
    order: Order,
}

/// How the kernel searches a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Any,
    Sorted,
}

/// An attribute's entry.
struct Entry<'a> {
    /// In the image.
    at: u64,
    index: u8,
    name: &'a [u8],
    start: usize,
    inode: u32,
    size: u32,
    hash: u32,
}

impl Entry<'_> {
    /// By which entries of a block are sorted.
    fn key(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), self.name)
    }
}

impl<D: Disk> Volume<D> {
    /// An inode's attribute with this name, as the kernel finds it.
    pub fn attribute(&self, inode: &Inode, name: &str) -> Result<Option<Vec<u8>>, D::Error> {
        let known = PREFIXES.iter().find_map(|(index, prefix)| {
            name.strip_prefix(prefix).map(|rest| (*index, rest.as_bytes()))
        });
        let Some((index, name)) = known else { return Ok(None) };
        let in_inode = match self.in_inode(inode) {
            Some(room) => self.find(inode, &room, index, name)?,
            None => None,
        };
        let number = inode.attribute_block();
        if number == 0 {
            return Ok(in_inode);
        }
        let (offset, block) = self.block(number, inode.offset() + 0x68)?;
        let magic = u32_at(&block, 0).unwrap_or_default();
        if magic != MAGIC || u32_at(&block, 8) != Some(1) {
            return Err(self.fail(offset, Fault::AttributeMagic(magic)));
        }
        self.check_attribute_block(&block, number, offset)?;
        let order = Order::Sorted;
        let room = Room { bytes: &block, offset, first: BLOCK_HEADER, base: 0, order };
        let in_block = self.find(inode, &room, index, name)?;
        match (&in_inode, &in_block) {
            (Some(_), Some(_)) => Err(self.fail(offset, Fault::AttributeTwice)),
            _ => Ok(in_inode.or(in_block)),
        }
    }

    /// Inline content that does not fit next to the inode's fields; `None` where the kernel takes
    /// the inode for one without inline content (`ext4_has_inline_data`).
    pub(super) fn inline_attribute(&self, inode: &Inode) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(room) = self.in_inode(inode) else { return Ok(None) };
        let entries = self.attribute_entries(&room)?;
        let is_data = |entry: &&Entry<'_>| entry.key() == (INDEX_SYSTEM, 4, b"data".as_slice());
        match entries.iter().find(is_data) {
            Some(entry) if entry.inode != 0 => {
                Err(self.fail(entry.at, Fault::AttributeInode(entry.inode)))
            }
            _ => self.find(inode, &room, INDEX_SYSTEM, b"data"),
        }
    }

    /// The attributes in an inode, if it has room for them.
    fn in_inode<'a>(&self, inode: &'a Inode) -> Option<Room<'a>> {
        let start = inode.extra_end()?;
        let first = start + 4;
        let has_room = first + 4 <= inode.bytes().len();
        let found = has_room && u32_at(inode.bytes(), start) == Some(MAGIC);
        let (bytes, offset, order) = (inode.bytes(), inode.offset(), Order::Any);
        found.then_some(Room { bytes, offset, first, base: first, order })
    }

    /// The entries of one place, checked.
    fn attribute_entries<'a>(&self, room: &Room<'a>) -> Result<Vec<Entry<'a>>, D::Error> {
        let mut entries = Vec::new();
        let mut next = room.first;
        loop {
            let at = room.offset + next as u64;
            let bounds = || self.fail(at, Fault::AttributeBounds);
            if u32_at(room.bytes, next).ok_or_else(bounds)? == 0 {
                break;
            }
            let entry = room.bytes.get(next..next + ENTRY).ok_or_else(bounds)?;
            let [name_length, index, ..] = *entry else { return Err(bounds()) };
            let length = usize::from(name_length);
            let name = room.bytes.get(next + ENTRY..next + ENTRY + length).ok_or_else(bounds)?;
            if name.contains(&0) {
                return Err(bounds());
            }
            let word = |offset| u32_at(entry, offset).unwrap_or_default();
            let start = room.base + usize::from(u16_at(entry, 2).unwrap_or_default());
            let (inode, size, hash) = (word(4), word(8), word(12));
            entries.push(Entry { at, index, name, start, inode, size, hash });
            next += ENTRY + length.next_multiple_of(4);
        }
        let names_end = next + 4;
        for entry in &entries {
            let bounds = || self.fail(entry.at, Fault::AttributeBounds);
            if entry.size > SIZE_MAX {
                return Err(bounds());
            }
            if entry.inode != 0 {
                let allowed = self.has_incompat(INCOMPAT_EA_INODE) && entry.size > 0;
                if !allowed || entry.inode == ROOT {
                    return Err(self.fail(entry.at + 4, Fault::AttributeInode(entry.inode)));
                }
                continue;
            }
            let end = entry.start + (entry.size as usize).next_multiple_of(4);
            if entry.size > 0 && (entry.start < names_end || end > room.bytes.len()) {
                return Err(bounds());
            }
        }
        Ok(entries)
    }

    /// Finds an attribute in one place.
    fn find(
        &self,
        owner: &Inode,
        room: &Room<'_>,
        index: u8,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let key = (index, name.len(), name);
        let entries = self.attribute_entries(room)?;
        let mut found = entries.iter().filter(|entry| entry.key() == key);
        let Some(entry) = found.next() else { return Ok(None) };
        if let Some(second) = found.next() {
            return Err(self.fail(second.at, Fault::AttributeTwice));
        }
        let mut before = entries.iter().take_while(|other| other.at < entry.at);
        if room.order == Order::Sorted && !before.all(|other| other.key() < key) {
            return Err(self.fail(entry.at, Fault::AttributeOrder));
        }
        let bounds = || self.fail(entry.at, Fault::AttributeBounds);
        if entry.size > VALUE_MAX {
            return Err(bounds());
        }
        if entry.inode != 0 {
            return self.value_in_inode(owner, entry).map(Some);
        }
        let value = match entry.size {
            0 => &[],
            size => room.bytes.get(entry.start..entry.start + size as usize).ok_or_else(bounds)?,
        };
        Ok(Some(value.to_vec()))
    }

    /// A large value, which is the content of an inode of its own. Its hash is in the time of
    /// the inode's last access and, together with the name, in the entry.
    fn value_in_inode(&self, owner: &Inode, entry: &Entry<'_>) -> Result<Vec<u8>, D::Error> {
        let (number, at) = (entry.inode, entry.at + 4);
        let no_value = || self.fail(at, Fault::AttributeInode(number));
        let inode = self.inode(number, at)?;
        let is_bare = inode.attribute_block() == 0 && self.in_inode(&inode).is_none();
        let is_value = inode.is_attribute() && is_bare && number != owner.number();
        if !is_value || inode.size() != u64::from(entry.size) || inode.is_inline() {
            return Err(no_value());
        }
        let mut content = self.content(&inode)?;
        if content.holes() > 0 {
            return Err(no_value());
        }
        let mut value = alloc::vec![0; entry.size as usize];
        let mut filled = 0;
        while let Some(rest) = value.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(&mut content, filled as u64, rest)? {
                0 => return Err(no_value()),
                read => filled += read,
            }
        }
        let hash = crc32c(self.seed, &value);
        let named =
            entry.name.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        match inode.word(0x08) == hash && entry.hash == named.rotate_left(16) ^ hash {
            true => Ok(value),
            false => Err(no_value()),
        }
    }
}
