//! Faults of images.

use core::fmt;

use crate::ErrorKind;

/// A fault of an image, or a feature that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No ext superblock.
    NoSuperblock,
    /// A field of the superblock that cannot be.
    Superblock(&'static str),
    /// Features that are not known, by their bits.
    Features(u32),
    /// The journal has to be replayed.
    Journal,
    /// An inode number past the last.
    InodeNumber(u32),
    /// A block number past the last.
    BlockNumber(u64),
    /// An extent tree without its magic number, or too deep.
    ExtentHeader,
    /// Extents out of order.
    ExtentOrder,
    /// A file that claims more blocks than there are.
    TooManyBlocks,
    /// A file with more than [`HOLES_MAX`] of holes.
    Holes(u64),
    /// Content in the inode, more than fits there.
    InlineSize(u64),
    /// A directory entry whose length cannot be.
    EntryLength(u16),
    /// A name that cannot be: with a slash or a zero byte, or none.
    EntryName,
    /// A directory that is in itself, or in two.
    DirectoryLoop(u32),
    /// An entry for something that is not there.
    DanglingEntry(u32),
    /// Attributes without their magic number.
    AttributeMagic(u32),
    /// An attribute's entry or value past the end of its room.
    AttributeBounds,
    /// An attribute's value in an inode that holds none.
    AttributeInode(u32),
    /// Content that is encrypted.
    Encrypted,
    /// A metadata checksum that does not match: the kernel rejects the metadata.
    Checksum,
    /// An inode whose fields contradict each other, so that the kernel rejects it.
    Inode(&'static str),
    /// An inode with a reserved number, or one that holds the value of an attribute.
    ReservedInode(u32),
    /// A directory that is not made of whole blocks, or has more or fewer blocks than its size.
    DirectorySize(u64),
    /// A name that a directory has twice.
    EntryTwice,
    /// A directory's index that does not lead to every block once.
    Index(&'static str),
    /// An attribute that an inode has twice.
    AttributeTwice,
    /// Attributes that are not sorted: the kernel does not find this one.
    AttributeOrder,
    /// A size that the file's map of blocks cannot reach.
    Size(u64),
}

/// How much of holes a file may have: zeros take time to digest.
pub const HOLES_MAX: u64 = 64 << 30;

impl Fault {
    /// Whether the file system is known and damaged.
    pub fn is_repairable(&self) -> bool {
        !matches!(self, Self::NoSuperblock | Self::Features(_) | Self::Journal | Self::Encrypted)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuperblock => f.write_str("no ext2, ext3 or ext4 superblock"),
            Self::Superblock(field) => write!(f, "superblock: {field} cannot be"),
            Self::Features(bits) => write!(f, "superblock: unknown features {bits:#x}"),
            Self::Journal => f.write_str("the journal has to be replayed"),
            Self::InodeNumber(number) => write!(f, "no inode {number}"),
            Self::BlockNumber(number) => write!(f, "block {number} lies past the end"),
            Self::ExtentHeader => f.write_str("not an extent tree"),
            Self::ExtentOrder => f.write_str("extents out of order"),
            Self::TooManyBlocks => f.write_str("a file with more blocks than there are"),
            Self::Holes(size) => {
                write!(f, "a file with {size} bytes of holes; {HOLES_MAX} are read at most")
            }
            Self::InlineSize(size) => write!(f, "{size} bytes do not fit into an inode"),
            Self::EntryLength(length) => write!(f, "directory entry of {length} bytes"),
            Self::EntryName => f.write_str("directory entry with an impossible name"),
            Self::DirectoryLoop(number) => {
                write!(f, "directory {number} is in itself, or in two directories")
            }
            Self::DanglingEntry(number) => {
                write!(f, "an entry for inode {number}, which does not exist")
            }
            Self::AttributeMagic(magic) => write!(f, "not attributes: {magic:#x}"),
            Self::AttributeBounds => f.write_str("attribute past the end of its room"),
            Self::AttributeInode(number) => {
                write!(f, "reference to an attribute in inode {number}, which has none")
            }
            Self::Encrypted => f.write_str("encrypted content"),
            Self::Checksum => f.write_str("metadata checksum does not match"),
            Self::Inode(field) => write!(f, "invalid inode: {field}"),
            Self::ReservedInode(number) => {
                write!(f, "inode {number} is reserved, or has an attribute as content")
            }
            Self::DirectorySize(size) => {
                write!(f, "directory with {size} bytes does not have as many blocks")
            }
            Self::EntryTwice => f.write_str("directory with the same name twice"),
            Self::Index(fault) => write!(f, "invalid directory index: {fault}"),
            Self::AttributeTwice => f.write_str("the same attribute twice"),
            Self::AttributeOrder => {
                f.write_str("attributes are not sorted: the kernel does not find this one")
            }
            Self::Size(size) => write!(f, "a size of {size} bytes, which no file can have"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Ext4(fault)
    }
}
