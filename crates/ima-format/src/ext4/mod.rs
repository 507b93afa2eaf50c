//! ext2, ext3 and ext4 file systems: files, their content, their attributes. Read only.
//!
//! Mirrors `fs/ext4/ext4.h`, `ext4_extents.h` and `xattr.h` of Linux 6.12. All numbers are
//! little-endian. The superblock lies at offset 1024; offsets within it:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0x00, 0x04, 0x150 | 4 | inodes; blocks, low and high |
//! | 0x14, 0x18 | 4 | first data block; log2 of the block size, less 10 |
//! | 0x20, 0x28 | 4 | blocks, inodes a group |
//! | 0x30 | 4 | time of the last write |
//! | 0x38 | 2 | magic number 0xef53 |
//! | 0x4c, 0x58 | 4, 2 | revision, size of an inode |
//! | 0x54 | 4 | first inode that is not reserved |
//! | 0x5c, 0x60, 0x64 | 4 | features: compatible, incompatible, for reading only |
//! | 0x68, 0x270, 0x3fc | 16, 4, 4 | UUID; seed of checksums, if not made of it; checksum |
//! | 0xfe, 0x104 | 2, 4 | size of a group descriptor, first meta group |
//! | 0x240, 0x244, 0x26c, 0x280 | 4 | inodes of quotas and of orphans |
//!
//! An inode:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0x00, 0x1a | 2 | mode, links |
//! | 0x04, 0x6c | 4 | size, low and high |
//! | 0x20 | 4 | flags |
//! | 0x28 | 60 | an extent tree's root, or 15 block numbers, or content |
//! | 0x68, 0x76 | 4, 2 | the block with attributes, low and high |
//! | 0x80 | 2 | how much of what follows belongs to the inode; attributes come after it |
//!
//! Attributes in an inode begin with the magic number 0xea020000, in a block with a header
//! of 32 bytes; then come entries of 16 bytes and a name, until four bytes of zero. Values
//! lie in the same room, or in an inode of their own (`ea_inode`).
//!
//! Refused: unknown features, compressed and encrypted content, a journal that has to be
//! replayed, and whatever points past the end of the image. Refused as well is everything that
//! the kernel rejects or reads differently from debugfs, so that a digest is always that of the
//! content which the kernel gives to programs: metadata checksums that do not match, directories
//! whose index does not lead to all blocks, names and attributes that are there twice, inline
//! content without its attribute, inodes whose fields contradict each other.

mod attribute;
mod checksum;
mod content;
mod directory;
mod fault;
mod index;
mod inode;

use alloc::vec::Vec;

use crate::crc32c::crc32c;
use crate::ErrorKind;

pub use content::Content;
pub use directory::Entry;
pub use fault::{Fault, HOLES_MAX};
pub use inode::{FileKind, Inode};

/// Where the superblock lies.
const SUPERBLOCK: u64 = 1024;
/// The root directory.
pub const ROOT: u32 = 2;

const COMPAT_DIR_INDEX: u32 = 0x20;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_EA_INODE: u32 = 0x400;
const INCOMPAT_CHECKSUM_SEED: u32 = 0x2000;
const INCOMPAT_LARGE_DIRECTORIES: u32 = 0x4000;
/// filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir,
/// inline_data, encrypt (there may be no such files), casefold.
const INCOMPAT_KNOWN: u32 =
    0x2 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_QUOTA: u32 = 0x100;
const RO_COMPAT_BIG_CLUSTERS: u32 = 0x200;
const RO_COMPAT_METADATA_CHECKSUM: u32 = 0x400;
/// Where the superblock has the numbers of quota and orphan files, which have no names.
const INTERNAL_INODES: [usize; 4] = [0x240, 0x244, 0x26c, 0x280];

/// An image's bytes.
pub trait Disk {
    /// The error: the image is malformed, or cannot be read.
    type Error;

    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from an offset.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error>;

    /// Called for zeros of a hole before they are returned; may refuse them; `at` is
    /// where the size of their file stands.
    ///
    /// # Errors
    /// More than [`HOLES_MAX`] of them, unless it is implemented otherwise.
    fn zeros(&self, count: u64, at: u64) -> Result<(), Self::Error> {
        match count {
            0..=HOLES_MAX => Ok(()),
            _ => Err(self.malformed(at, Fault::Holes(count).into())),
        }
    }

    /// The error for a defect at an offset.
    fn malformed(&self, offset: u64, kind: ErrorKind) -> Self::Error;
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// A file system in an image.
#[derive(Debug)]
pub struct Volume<D> {
    disk: D,
    block_size: u32,
    cluster_size: u64,
    blocks: u64,
    first_data_block: u32,
    blocks_per_group: u32,
    inodes: u32,
    inodes_per_group: u32,
    first_inode: u32,
    internal_inodes: [u32; 4],
    inode_size: u16,
    descriptor_size: u16,
    /// From this group of descriptors on they lie in their own groups.
    first_meta_group: Option<u32>,
    /// The first block of group descriptors, those of the first 8 GiB with blocks of 4 KiB: nearly every inode
    /// needs one of them.
    descriptors: Vec<u8>,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    /// Whether metadata has checksums, which begin with `seed`.
    has_checksums: bool,
    seed: u32,
    is_hurd: bool,
    written: u32,
    uuid: [u8; 16],
}

impl<D: Disk> Volume<D> {
    /// Reads the superblock.
    pub fn open(disk: D) -> Result<Self, D::Error> {
        let mut superblock = [0; 1024];
        if disk.size() < SUPERBLOCK + 1024 {
            return Err(disk.malformed(disk.size(), Fault::NoSuperblock.into()));
        }
        disk.read(SUPERBLOCK, &mut superblock)?;
        let word = |offset| u32_at(&superblock, offset).unwrap_or_default();
        let half = |offset| u16_at(&superblock, offset).unwrap_or_default();
        let fail = |offset: u64, fault: Fault| disk.malformed(SUPERBLOCK + offset, fault.into());
        if half(0x38) != 0xef53 {
            return Err(fail(0x38, Fault::NoSuperblock));
        }
        let dynamic = word(0x4c) > 0;
        let features = |offset| if dynamic { word(offset) } else { 0 };
        let (compat, incompat, ro_compat) = (features(0x5c), features(0x60), features(0x64));
        if incompat & INCOMPAT_RECOVER != 0 {
            return Err(fail(0x60, Fault::Journal));
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(fail(0x60, Fault::Features(incompat & !INCOMPAT_KNOWN)));
        }
        let sixty_four = incompat & INCOMPAT_64BIT != 0;
        let high = if sixty_four { word(0x150) } else { 0 };
        let meta = incompat & INCOMPAT_META_BG != 0;
        if meta && compat & COMPAT_SPARSE_SUPER2 != 0 {
            return Err(fail(0x5c, Fault::Features(COMPAT_SPARSE_SUPER2)));
        }
        let has_checksums = ro_compat & RO_COMPAT_METADATA_CHECKSUM != 0;
        let covered = superblock.get(..0x3fc).unwrap_or_default();
        if has_checksums && crc32c(u32::MAX, covered) != word(0x3fc) {
            return Err(fail(0x3fc, Fault::Checksum));
        }
        let uuid = superblock.get(0x68..0x78).unwrap_or_default();
        let log = word(0x18);
        let big_clusters = ro_compat & RO_COMPAT_BIG_CLUSTERS != 0;
        let cluster_log = if big_clusters { word(0x1c) } else { log };
        let mut volume = Self {
            block_size: 1024_u32.checked_shl(log).unwrap_or_default(),
            cluster_size: 1024_u64.checked_shl(cluster_log).unwrap_or_default(),
            blocks: u64::from(high) << 32 | u64::from(word(0x04)),
            first_data_block: word(0x14),
            blocks_per_group: word(0x20),
            inodes: word(0x00),
            inodes_per_group: word(0x28),
            first_inode: if dynamic { word(0x54) } else { 11 },
            internal_inodes: INTERNAL_INODES.map(features),
            inode_size: if dynamic { half(0x58) } else { 128 },
            descriptor_size: if sixty_four { half(0xfe) } else { 32 },
            first_meta_group: meta.then(|| word(0x104)),
            descriptors: Vec::new(),
            compat,
            incompat,
            ro_compat,
            has_checksums,
            seed: match incompat & INCOMPAT_CHECKSUM_SEED != 0 {
                true => word(0x270),
                false => crc32c(u32::MAX, uuid),
            },
            is_hurd: word(0x48) != 0,
            written: word(0x30),
            uuid: uuid.try_into().unwrap_or_default(),
            disk,
        };
        volume.check_superblock(log)?;
        let per_block = volume.block_size / u32::from(volume.descriptor_size);
        (_, volume.descriptors) =
            volume.block(volume.descriptor_block(0, per_block), SUPERBLOCK)?;
        Ok(volume)
    }

    /// Makes the same checks as the kernel when it mounts (`ext4_fill_super`).
    fn check_superblock(&self, log: u32) -> Result<(), D::Error> {
        let Self { inode_size, descriptor_size, blocks_per_group, .. } = *self;
        let descriptor_min = if self.has_incompat(INCOMPAT_64BIT) { 64 } else { 32 };
        let in_groups = self.blocks.saturating_sub(u64::from(self.first_data_block));
        let groups = in_groups.div_ceil(u64::from(blocks_per_group.max(1)));
        let inodes = groups.saturating_mul(u64::from(self.inodes_per_group));
        let sizes = [
            (log <= 6, 0x18, "block size"),
            (self.first_data_block <= 1, 0x14, "first data block"),
            (blocks_per_group > 0, 0x20, "blocks per group"),
            (self.inodes_per_group > 0, 0x28, "inodes per group"),
            (inode_size >= 128 && inode_size.is_power_of_two(), 0x58, "size of an inode"),
            (u32::from(inode_size) <= self.block_size, 0x58, "size of an inode"),
            (self.first_inode >= 11, 0x54, "first inode"),
            (descriptor_size >= descriptor_min, 0xfe, "descriptor size"),
            (descriptor_size.is_power_of_two(), 0xfe, "descriptor size"),
            (descriptor_size <= 1024, 0xfe, "descriptor size"),
        ];
        for (good, offset, name) in sizes {
            if !good {
                return Err(self.fail(SUPERBLOCK + offset, Fault::Superblock(name)));
            }
        }
        let bytes = self.blocks.checked_mul(u64::from(self.block_size));
        if bytes.map_or(true, |bytes| bytes > self.disk.size()) {
            return Err(self.fail(SUPERBLOCK + 4, Fault::Superblock("number of blocks")));
        }
        match u64::from(self.inodes) == inodes {
            true => Ok(()),
            false => Err(self.fail(SUPERBLOCK, Fault::Superblock("number of inodes"))),
        }
    }

    /// How many bytes of attributes a file can have in its inode and its block, each of
    /// [`attribute_size`](Self::attribute_size). With `ea_inode` the kernel keeps larger values in
    /// inodes of their own; debugfs (1.47) cuts them to a block.
    pub fn attribute_room(&self) -> usize {
        // a header and four bytes of zero in both; 32 bytes are the kernel's own fields
        let in_block = (self.block_size as usize).saturating_sub(32 + 4);
        let in_inode = usize::from(self.inode_size).saturating_sub(128 + 32 + 4 + 4);
        // an attribute is in one of the two, and a short one does not fill the inode
        if in_inode > 512 {
            in_block + in_inode
        } else {
            in_block
        }
    }

    /// The room for `security.ima` or `security.evm` with a value of `size` bytes: an
    /// entry, a name of three bytes, the value, in fours.
    pub const fn attribute_size(size: usize) -> usize {
        16 + 4 + size.div_ceil(4) * 4
    }

    /// The image.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// How many bytes of the image belong to it.
    pub fn size(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// When it was written last, in seconds since 1970.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Its UUID (`s_uuid`).
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Whether it counts the blocks of each owner, in files of its own (`quota`).
    pub fn keeps_quotas(&self) -> bool {
        self.ro_compat & RO_COMPAT_QUOTA != 0
    }

    fn has_incompat(&self, feature: u32) -> bool {
        self.incompat & feature != 0
    }

    fn fail(&self, offset: u64, fault: Fault) -> D::Error {
        self.disk.malformed(offset, fault.into())
    }

    /// The offset of a block that is there and can hold something
    /// (`ext4_inode_block_valid`).
    fn block_offset(&self, number: u64, at: u64) -> Result<u64, D::Error> {
        match (u64::from(self.first_data_block) + 1..self.blocks).contains(&number) {
            true => Ok(number * u64::from(self.block_size)),
            false => Err(self.fail(at, Fault::BlockNumber(number))),
        }
    }

    /// Reads a block; `at` is where its number stands.
    fn block(&self, number: u64, at: u64) -> Result<(u64, Vec<u8>), D::Error> {
        let offset = self.block_offset(number, at)?;
        let mut block = alloc::vec![0; self.block_size as usize];
        self.disk.read(offset, &mut block)?;
        Ok((offset, block))
    }

    /// Reads an inode; `at` is where its number stands.
    pub fn inode(&self, number: u32, at: u64) -> Result<Inode, D::Error> {
        let index = number.checked_sub(1).filter(|index| *index < self.inodes);
        let index = index.ok_or_else(|| self.fail(at, Fault::InodeNumber(number)))?;
        let is_reserved = number < self.first_inode && number != ROOT;
        if is_reserved || self.internal_inodes.contains(&number) {
            return Err(self.fail(at, Fault::ReservedInode(number)));
        }
        let (group, index) = (index / self.inodes_per_group, index % self.inodes_per_group);
        let per_block = self.block_size / u32::from(self.descriptor_size);
        let (table, slot) = (group / per_block, group % per_block);
        let block = self.descriptor_block(table, per_block);
        let in_block = slot * u32::from(self.descriptor_size);
        let descriptor = self.block_offset(block, at)? + u64::from(in_block);
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..usize::from(self.descriptor_size.min(64))).unwrap_or_default();
        let kept =
            self.descriptors.get(in_block as usize..).and_then(|rest| rest.get(..bytes.len()));
        match kept.filter(|_| table == 0) {
            Some(kept) => bytes.copy_from_slice(kept),
            None => self.disk.read(descriptor, bytes)?,
        }
        let low = u64::from(u32_at(bytes, 0x08).unwrap_or_default());
        let high = u64::from(u32_at(bytes, 0x28).unwrap_or_default());
        let in_table = u64::from(index) * u64::from(self.inode_size);
        let (block, rest) =
            (in_table / u64::from(self.block_size), in_table % u64::from(self.block_size));
        let table = high << 32 | low;
        let block = table.saturating_add(block);
        let offset = self.block_offset(block, descriptor + 0x08)? + rest;
        let mut bytes = alloc::vec![0; usize::from(self.inode_size)];
        self.disk.read(offset, &mut bytes)?;
        let inode = Inode::new(number, offset, bytes, self.incompat);
        self.check_inode(&inode)?;
        match inode.contradiction() {
            None => Ok(inode),
            Some(field) => Err(self.fail(offset, Fault::Inode(field))),
        }
    }

    /// The block with the `table`th `per_block` group descriptors (`descriptor_loc` in
    /// `fs/ext4/super.c`): behind the superblock, or in the first of their groups.
    fn descriptor_block(&self, table: u32, per_block: u32) -> u64 {
        let table = u64::from(table);
        if self.first_meta_group.map_or(true, |first| table < u64::from(first)) {
            return SUPERBLOCK / u64::from(self.block_size) + 1 + table;
        }
        let (group, first) = (table * u64::from(per_block), u64::from(self.first_data_block));
        // with blocks of 1 KiB counted from the first (bigalloc), that of the superblock is 1
        let is_second = self.block_size == 1024 && table == 0 && first == 0;
        let before = self.has_superblock(group) + u64::from(is_second);
        first + group * u64::from(self.blocks_per_group) + before
    }

    /// Whether a group begins with a copy of the superblock: the number of its blocks.
    fn has_superblock(&self, group: u64) -> u64 {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        let has = self.ro_compat & RO_COMPAT_SPARSE_SUPER == 0
            || group <= 1
            || [3, 5, 7].into_iter().any(power_of);
        u64::from(has)
    }
}

/// An image in memory.
#[derive(Debug)]
pub struct Memory<'a>(pub &'a [u8]);

impl Disk for Memory<'_> {
    type Error = crate::Error;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), crate::Error> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end));
        let kind = ErrorKind::Truncated { needed: buffer.len(), available: 0 };
        let bytes = bytes.ok_or(crate::Error::new(kind, self.0.len().min(start)))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> crate::Error {
        crate::Error::new(kind, usize::try_from(offset).unwrap_or(usize::MAX))
    }
}
