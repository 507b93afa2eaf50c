//! Inodes.
//!
//! Mirrors `__ext4_iget` of `fs/ext4/inode.c`: an inode that it refuses is refused here.

use alloc::vec::Vec;

use super::{u16_at, u32_at, Disk, Fault, Volume};
use super::{INCOMPAT_64BIT, INCOMPAT_EA_INODE, RO_COMPAT_HUGE_FILE};

const ENCRYPTED: u32 = 0x800;
const INDEX: u32 = 0x1000;
const EXTENTS: u32 = 0x8_0000;
const EA_INODE: u32 = 0x20_0000;
const INLINE_DATA: u32 = 0x1000_0000;

/// Where block numbers stand.
pub(super) const BLOCKS: usize = 0x28;
/// `EXT4_GOOD_OLD_INODE_SIZE`
const OLD_SIZE: usize = 128;

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, a pipe, a socket.
    Other,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    number: u32,
    offset: u64,
    bytes: Vec<u8>,
    /// The file system's incompatible features: they say which fields are in use.
    incompat: u32,
}

impl Inode {
    pub(super) fn new(number: u32, offset: u64, bytes: Vec<u8>, incompat: u32) -> Self {
        Self { number, offset, bytes, incompat }
    }

    /// The field that makes the kernel reject the inode.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let extra = self.half(OLD_SIZE);
        let has_extra = self.bytes.len() > OLD_SIZE;
        if has_extra && (extra % 4 != 0 || OLD_SIZE + usize::from(extra) > self.bytes.len()) {
            return Some("i_extra_isize");
        }
        if self.is_inline() && self.flags() & (EXTENTS | INDEX) != 0 {
            return Some("inline data, and extents or an index");
        }
        None
    }

    /// Where the fields end and attributes may begin, if there is room for them. A kernel
    /// that finds no size of the additional fields looks no further.
    pub(super) fn extra_end(&self) -> Option<usize> {
        let extra = self.half(OLD_SIZE);
        (self.bytes.len() > OLD_SIZE && extra > 0).then(|| OLD_SIZE + usize::from(extra))
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where it lies in the image.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn half(&self, offset: usize) -> u16 {
        u16_at(&self.bytes, offset).unwrap_or_default()
    }

    pub(super) fn word(&self, offset: usize) -> u32 {
        u32_at(&self.bytes, offset).unwrap_or_default()
    }

    /// Its type; `None` if it is not in use.
    pub fn kind(&self) -> Option<FileKind> {
        if self.links() == 0 {
            return None;
        }
        match self.half(0) & 0xf000 {
            0x8000 => Some(FileKind::File),
            0x4000 => Some(FileKind::Directory),
            0xa000 | 0x6000 | 0x2000 | 0x1000 | 0xc000 => Some(FileKind::Other),
            _ => None,
        }
    }

    /// Its permissions, with the set-user-ID and set-group-ID bits.
    pub fn mode(&self) -> u32 {
        u32::from(self.half(0) & 0o7777)
    }

    /// Its owner (`i_uid`, `l_i_uid_high`).
    pub fn uid(&self) -> u32 {
        u32::from(self.half(0x78)) << 16 | u32::from(self.half(0x02))
    }

    /// Its group (`i_gid`, `l_i_gid_high`).
    pub fn gid(&self) -> u32 {
        u32::from(self.half(0x7a)) << 16 | u32::from(self.half(0x18))
    }

    /// Its generation (`i_generation`), which distinguishes it from earlier ones with the same number.
    pub fn generation(&self) -> u32 {
        self.word(0x64)
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.half(0) & 0xf000 == 0xa000
    }

    /// How many names it has.
    pub fn links(&self) -> u16 {
        self.half(0x1a)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.word(0x6c)) << 32 | u64::from(self.word(0x04))
    }

    pub(super) fn attribute_block(&self) -> u64 {
        let high = if self.incompat & INCOMPAT_64BIT != 0 { self.half(0x76) } else { 0 };
        u64::from(high) << 32 | u64::from(self.word(0x68))
    }

    pub(super) fn is_attribute(&self) -> bool {
        self.flags() & EA_INODE != 0
    }

    fn flags(&self) -> u32 {
        self.word(0x20)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.flags() & ENCRYPTED != 0
    }

    pub(super) fn has_extents(&self) -> bool {
        self.flags() & EXTENTS != 0
    }

    pub(super) fn has_index(&self) -> bool {
        self.flags() & INDEX != 0
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags() & INLINE_DATA != 0
    }

    /// The 60 bytes with block numbers, or content.
    pub(super) fn block_bytes(&self) -> &[u8] {
        self.bytes.get(BLOCKS..BLOCKS + 60).unwrap_or_default()
    }
}

/// The longest target of a link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

impl<D: Disk> Volume<D> {
    /// Where a symbolic link leads to: in place of block numbers, else its content.
    pub fn link_target(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        let size = inode.size();
        if inode.is_encrypted() {
            return Err(self.fail(inode.offset + 0x20, Fault::Encrypted));
        }
        let fits = size < inode.block_bytes().len() as u64;
        let is_fast = match self.has_incompat(INCOMPAT_EA_INODE) {
            true => fits && size > 0,
            false => !inode.is_inline() && self.has_no_content_blocks(inode),
        };
        if size >= TARGET_MAX || (is_fast != fits && !inode.is_inline()) {
            return Err(self.fail(inode.offset + 4, Fault::InlineSize(size)));
        }
        let mut target = alloc::vec![0; usize::try_from(size).unwrap_or_default()];
        match is_fast {
            true => {
                let bytes = inode.block_bytes().get(..target.len()).unwrap_or_default();
                target.copy_from_slice(bytes);
            }
            false => {
                let mut content = self.content(inode)?;
                let mut filled = 0;
                while let Some(rest) = target.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    filled += self.read_at(&mut content, filled as u64, rest)?;
                }
            }
        }
        // the kernel reads it as a string
        match target.contains(&0) {
            true => Err(self.fail(inode.offset + BLOCKS as u64, Fault::EntryName)),
            false => Ok(target),
        }
    }

    /// `ext4_inode_is_fast_symlink`, for a file system without `ea_inode`.
    fn has_no_content_blocks(&self, inode: &Inode) -> bool {
        let huge = self.ro_compat & RO_COMPAT_HUGE_FILE != 0;
        let high = if huge { inode.half(0x74) } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(inode.word(0x1c));
        let of_attributes = if inode.attribute_block() == 0 { 0 } else { self.cluster_size >> 9 };
        blocks == of_attributes
    }
}
