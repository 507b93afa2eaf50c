//! Faults of images.

use alloc::string::String;
use core::fmt;

use super::Algorithm;
use crate::ErrorKind;

/// A fault of an image, or a feature that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No EROFS superblock.
    NoSuperblock,
    /// A field of the superblock that cannot be.
    Superblock(&'static str),
    /// The superblock's checksum is another.
    Checksum {
        /// The stated value.
        expected: u32,
        /// The real one.
        computed: u32,
    },
    /// Features that are not known, by their bits.
    Features(u32),
    /// Content on so many other devices.
    FurtherDevices(u16),
    /// A range that ends past the image's end.
    PastEnd {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// An inode's format that is not known.
    InodeFormat(u16),
    /// A mode that no inode has.
    InodeMode(u16),
    /// The root is no directory.
    Root,
    /// The end of a file next to its inode, longer than its block.
    Tail(u64),
    /// A form of chunks that is not known.
    ChunkFormat(u16),
    /// Content in a chunk of another device.
    ChunkDevice(u16),
    /// A form of compression, by its number, that is not known or not said in the superblock.
    Algorithm(u8),
    /// Logical clusters of this size, as log2.
    ClusterSize(u32),
    /// Compressed content with extents instead of cluster indexes (Linux 6.15).
    Extents,
    /// A cluster index that contradicts itself or those before it.
    Cluster(&'static str),
    /// A physical cluster of so many bytes.
    PackedSize(u64),
    /// Content that is unpacked from one physical cluster, of so many bytes.
    UnpackedSize(u64),
    /// Compressed data is damaged.
    Packed(Algorithm),
    /// A piece of the packed inode, where there is none.
    Fragment,
    /// A directory entry whose name begins where it cannot.
    EntryOffset(u16),
    /// A name that cannot be.
    EntryName(String),
    /// A directory whose names are not sorted, or one of them is there twice: the kernel does not
    /// find all of them.
    EntryOrder(String),
    /// More or larger directories than an image of this size holds.
    Directories,
    /// A path that is longer than any can be.
    Path,
    /// A directory that is in itself, or in two.
    DirectoryLoop(u64),
    /// A directory or the target of a link that is too large.
    Size(u64),
    /// Attributes past the end of their room.
    AttributeBounds,
    /// An attribute that an inode has twice.
    AttributeTwice(String),
    /// The target of a symbolic link with a zero byte, at which the kernel ends it.
    Target,
    /// An attribute's prefix that is not there.
    AttributePrefix(u8),
    /// An attribute that the inode's filter of names denies: the kernel does not find it.
    AttributeFilter(String),
}

impl Fault {
    /// Whether the image may well be whole: a kernel reads it that knows more.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Features(_) | Self::FurtherDevices(_) | Self::Extents)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuperblock => f.write_str("no EROFS superblock"),
            Self::Superblock(field) => write!(f, "superblock: {field} cannot be"),
            Self::Checksum { expected, computed } => {
                write!(f, "superblock: checksum {expected:#010x}, but it is {computed:#010x}")
            }
            Self::Features(bits) => write!(f, "superblock: unknown features {bits:#x}"),
            Self::FurtherDevices(count) => {
                write!(f, "superblock: content on {count} more devices, which are not read")
            }
            Self::PastEnd { offset, length } => {
                write!(f, "{length} bytes from {offset} on lie past the end")
            }
            Self::InodeFormat(format) => write!(f, "unknown format of an inode {format:#x}"),
            Self::InodeMode(mode) => write!(f, "inode with the impossible mode {mode:#o}"),
            Self::Root => f.write_str("the root is no directory"),
            Self::Tail(length) => write!(f, "the end of a file, {length} bytes, leaves its block"),
            Self::ChunkFormat(format) => write!(f, "unknown form of chunks {format:#x}"),
            Self::ChunkDevice(number) => write!(f, "a chunk on device {number}, which is not read"),
            Self::Algorithm(number) => write!(f, "unknown or unannounced compression {number}"),
            Self::ClusterSize(bits) => write!(f, "clusters of 2^{bits} bytes"),
            Self::Extents => f.write_str("extents of compressed content, which are not read"),
            Self::Cluster(what) => write!(f, "cluster index: {what}"),
            Self::PackedSize(size) => write!(f, "{size} bytes in one physical cluster"),
            Self::UnpackedSize(size) => write!(f, "{size} bytes unpacked from one cluster"),
            Self::Packed(algorithm) => write!(f, "damaged {algorithm} data"),
            Self::Fragment => f.write_str("a piece of the packed inode, which is not there"),
            Self::EntryOffset(offset) => write!(f, "directory entry with a name at {offset}"),
            Self::EntryName(name) => write!(f, "directory entry with an impossible name {name:?}"),
            Self::EntryOrder(name) => {
                write!(f, "directory entry {name:?} is not after the one before it")
            }
            Self::Directories => {
                f.write_str("more or larger directories than an image of this size can hold")
            }
            Self::Path => f.write_str("a path that is longer than any can be"),
            Self::DirectoryLoop(number) => {
                write!(f, "directory {number} is in itself, or in two directories")
            }
            Self::Size(size) => write!(f, "a directory or target of {size} bytes"),
            Self::AttributeBounds => f.write_str("attribute past the end of its room"),
            Self::AttributeTwice(name) => write!(f, "attribute {name} twice"),
            Self::Target => f.write_str("target of a symbolic link with a zero byte"),
            Self::AttributePrefix(number) => write!(f, "no prefix of attributes {number}"),
            Self::AttributeFilter(name) => {
                write!(f, "attribute {name}, which the inode's filter hides from the kernel")
            }
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Erofs(fault)
    }
}
