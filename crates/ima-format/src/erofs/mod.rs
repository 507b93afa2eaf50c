//! EROFS file systems: files, their content, their attributes.
//!
//! Mirrors `fs/erofs/erofs_fs.h`, `super.c`, `inode.c`, `data.c`, `zmap.c`, `dir.c` and
//! `xattr.c` of Linux 6.12. All numbers are little-endian. The superblock lies at offset 1024;
//! offsets within it:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0x00 | 4 | magic number 0xe0f5e1e2 |
//! | 0x04 | 4 | CRC-32C from here to the end of the block, with zeros in this field |
//! | 0x08, 0x50 | 4 | features: compatible, incompatible |
//! | 0x0c, 0x0d | 1 | log2 of the block size; slots of 16 bytes after the superblock's 128 |
//! | 0x0e | 2 | the root directory's number |
//! | 0x24 | 4 | blocks |
//! | 0x28, 0x2c | 4 | first block of inodes, of shared attributes |
//! | 0x54 | 2 | forms of compression, a bit each |
//! | 0x56 | 2 | further devices |
//! | 0x5a | 1 | log2 of the size of a directory's blocks, less that of a block: zero |
//! | 0x5b, 0x5c | 1, 4 | prefixes of attributes: how many; where, in units of 4 bytes |
//! | 0x60 | 8 | number of the packed inode, which holds ends of files |
//! | 0x68 | 1 | whether the filter of attribute names is another one than is known |
//!
//! An inode's number is its place in units of 32 bytes from the first block of inodes. The
//! submodules have the layouts of inodes (`inode`), compressed content (`cluster`), directories
//! (`directory`) and attributes (`attribute`).
//!
//! Refused: unknown features (the 48-bit layout and the compressed metadata of Linux 6.15 and
//! later among them), content on further devices, and whatever points past the end of the image.
//! Refused as well is what the kernel and fsck.erofs read differently: directories whose names
//! are not sorted, since the kernel searches them by halves, and attributes that are there twice.

mod attribute;
mod cluster;
mod content;
mod directory;
mod fault;
mod inode;
mod lz4;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use crate::crc32c::crc32c;
use crate::ErrorKind;

pub use crate::ext4::{Disk, Memory};
pub use attribute::Attribute;
pub use content::Content;
pub use directory::{Found, Walk};
pub use fault::Fault;
pub use inode::{FileKind, Inode};

/// Where the superblock lies (`EROFS_SUPER_OFFSET`).
const SUPERBLOCK: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;

const COMPAT_CHECKSUM: u32 = 0x1;
const COMPAT_ATTRIBUTE_FILTER: u32 = 0x4;
/// Prefixes of attributes lie outside of the packed inode (Linux 6.18).
const COMPAT_PLAIN_PREFIXES: u32 = 0x10;
const INCOMPAT_ZERO_PADDING: u32 = 0x1;
const INCOMPAT_COMPRESSION_CONFIGURED: u32 = 0x2;
/// Also `COMPR_HEAD2`.
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
/// Also `DEDUPE`.
const INCOMPAT_FRAGMENTS: u32 = 0x20;
/// `EROFS_ALL_FEATURE_INCOMPAT`
const INCOMPAT_KNOWN: u32 = 0x7f;

/// A form of compression (`Z_EROFS_COMPRESSION_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// An LZ4 block.
    Lz4,
    /// An LZMA stream without header, whose first byte has the properties inverted.
    MicroLzma,
    /// RFC 1951, bare.
    Deflate,
    /// RFC 8878, a frame.
    Zstd,
}

impl Algorithm {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Lz4,
            1 => Self::MicroLzma,
            2 => Self::Deflate,
            3 => Self::Zstd,
            _ => return None,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4 => "LZ4",
            Self::MicroLzma => "MicroLZMA",
            Self::Deflate => "DEFLATE",
            Self::Zstd => "Zstandard",
        })
    }
}

/// Undoes the compression that is not undone here: LZ4 is.
pub trait Unpack {
    /// Fills `unpacked` from the start of `packed`, which may have more. Returns
    /// whether it could.
    fn unpack(&self, algorithm: Algorithm, packed: &[u8], unpacked: &mut [u8]) -> bool;
}

/// Knows nothing but LZ4.
#[derive(Debug, Clone, Copy)]
pub struct Lz4Only;

impl Unpack for Lz4Only {
    fn unpack(&self, _: Algorithm, _: &[u8], _: &mut [u8]) -> bool {
        false
    }
}

/// A prefix that names of attributes refer to by number.
#[derive(Debug, Clone)]
struct Prefix {
    base: u8,
    infix: Vec<u8>,
}

/// A file system in an image.
pub struct Volume<D, U> {
    disk: D,
    unpack: U,
    compat: u32,
    incompat: u32,
    block_bits: u8,
    root: u64,
    /// Where inodes and shared attributes begin.
    inodes: u64,
    shared_attributes: u64,
    algorithms: u16,
    packed_inode: Option<u64>,
    /// Of the packed inode, which many files have a piece of.
    packed: Cell<Option<Box<Content>>>,
    /// Steps back through cluster indexes, since the walk began.
    walked: Cell<u64>,
    attribute_filter: bool,
    prefixes: Vec<Prefix>,
}

impl<D: fmt::Debug, U> fmt::Debug for Volume<D, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    crate::ext4::u16_at(bytes, offset).unwrap_or_default()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    crate::ext4::u32_at(bytes, offset).unwrap_or_default()
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset + 4)) << 32 | u64::from(u32_at(bytes, offset))
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// Reads the superblock.
    pub fn open(disk: D, unpack: U) -> Result<Self, D::Error> {
        let mut superblock = [0; 128];
        if disk.size() < SUPERBLOCK + 128 {
            return Err(disk.malformed(disk.size(), Fault::NoSuperblock.into()));
        }
        disk.read(SUPERBLOCK, &mut superblock)?;
        let fail = |offset: u64, fault: Fault| disk.malformed(SUPERBLOCK + offset, fault.into());
        let word = |offset| u32_at(&superblock, offset);
        let byte = |offset: usize| superblock.get(offset).copied().unwrap_or_default();
        if word(0x00) != MAGIC {
            return Err(fail(0x00, Fault::NoSuperblock));
        }
        let block_bits = byte(0x0c);
        // up to the largest page that there is
        if !(9..=16).contains(&block_bits) {
            return Err(fail(0x0c, Fault::Superblock("block size")));
        }
        let (compat, incompat) = (word(0x08), word(0x50));
        if compat & COMPAT_CHECKSUM != 0 {
            check(&disk, block_bits, word(0x04))?;
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(fail(0x50, Fault::Features(incompat & !INCOMPAT_KNOWN)));
        }
        let devices = u16_at(&superblock, 0x56);
        if incompat & INCOMPAT_DEVICE_TABLE != 0 && devices > 0 {
            return Err(fail(0x56, Fault::FurtherDevices(devices)));
        }
        if byte(0x5a) != 0 {
            return Err(fail(0x5a, Fault::Superblock("size of directory blocks")));
        }
        if u64::from(word(0x24)) << block_bits > disk.size() {
            return Err(fail(0x24, Fault::Superblock("number of blocks")));
        }
        let configured = incompat & INCOMPAT_COMPRESSION_CONFIGURED != 0;
        let packed_inode = u64_at(&superblock, 0x60);
        let has_packed = incompat & INCOMPAT_FRAGMENTS != 0 && packed_inode != 0;
        let mut volume = Self {
            disk,
            unpack,
            compat,
            incompat,
            block_bits,
            root: u64::from(u16_at(&superblock, 0x0e)),
            inodes: u64::from(word(0x28)) << block_bits,
            shared_attributes: u64::from(word(0x2c)) << block_bits,
            // LZ4 alone before there was a choice
            algorithms: if configured { u16_at(&superblock, 0x54) } else { 1 },
            packed_inode: has_packed.then_some(packed_inode),
            packed: Cell::new(None),
            walked: Cell::new(0),
            attribute_filter: compat & COMPAT_ATTRIBUTE_FILTER != 0 && byte(0x68) == 0,
            prefixes: Vec::new(),
        };
        volume.prefixes = volume.read_prefixes(byte(0x5b), u64::from(word(0x5c)) << 2)?;
        Ok(volume)
    }

    /// The image.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The same file system, for another thread: each keeps the data that it unpacked last.
    pub fn share(&self) -> Self
    where
        D: Clone,
        U: Clone,
    {
        Self {
            disk: self.disk.clone(),
            unpack: self.unpack.clone(),
            packed: Cell::new(None),
            walked: Cell::new(0),
            prefixes: self.prefixes.clone(),
            ..*self
        }
    }

    fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    fn fail(&self, offset: u64, fault: Fault) -> D::Error {
        self.disk.malformed(offset, fault.into())
    }

    /// Checks that a range is in the image; `at` is where it is said.
    fn contains(&self, offset: u64, length: u64, at: u64) -> Result<(), D::Error> {
        match offset.checked_add(length) {
            Some(end) if end <= self.disk.size() => Ok(()),
            _ => Err(self.fail(at, Fault::PastEnd { offset, length })),
        }
    }

    /// Reads a range of the image; `at` is where it is said.
    fn bytes(&self, offset: u64, length: u64, at: u64) -> Result<Vec<u8>, D::Error> {
        self.contains(offset, length, at)?;
        let too_long = |_| self.fail(at, Fault::PastEnd { offset, length });
        let mut bytes = alloc::vec![0; usize::try_from(length).map_err(too_long)?];
        self.disk.read(offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// Checks the superblock's checksum, which covers the rest of its block.
fn check<D: Disk>(disk: &D, block_bits: u8, expected: u32) -> Result<(), D::Error> {
    let block = 1_u64 << block_bits;
    let length = if block > SUPERBLOCK { block - SUPERBLOCK } else { block };
    if disk.size() < SUPERBLOCK + length {
        return Err(disk.malformed(SUPERBLOCK + 0x0c, Fault::Superblock("block size").into()));
    }
    let mut bytes = alloc::vec![0; usize::try_from(length).unwrap_or_default()];
    disk.read(SUPERBLOCK, &mut bytes)?;
    if let Some(field) = bytes.get_mut(4..8) {
        field.fill(0);
    }
    let computed = crc32c(u32::MAX, &bytes);
    match computed == expected {
        true => Ok(()),
        false => {
            let fault: ErrorKind = Fault::Checksum { expected, computed }.into();
            Err(disk.malformed(SUPERBLOCK + 4, fault))
        }
    }
}
