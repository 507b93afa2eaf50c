//! Faults of partition tables.

use core::fmt;

use crate::ErrorKind;

/// A damaged partition table, or one that programs read differently.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no partition table.
    NoTable,
    /// A protective MBR without a GPT header.
    NoHeader,
    /// The first GPT header is damaged or missing; there is one at the end.
    BackupOnly,
    /// A GPT whose MBR is not protective: the kernel uses the MBR, firmware the GPT.
    NotProtected,
    /// GPT headers for two sizes of blocks.
    TwoHeaders,
    /// An MBR with a protective entry and others.
    Hybrid,
    /// A field of a GPT header has an invalid value.
    Header(&'static str),
    /// The checksum of a GPT header or of its entries differs.
    Checksum {
        /// The part that it covers.
        of: &'static str,
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// The backup GPT is damaged, or differs from the first one.
    Backup(&'static str),
    /// A GPT partition outside the blocks that the header gives to partitions.
    Unusable(u32),
    /// A range ends after the end of the disk.
    PastEnd {
        /// Number of the partition; 0 for the table.
        number: u32,
        /// The first byte after it.
        end: u64,
    },
    /// Two ranges overlap.
    Overlap {
        /// Number of a partition; 0 for the table.
        first: u32,
        /// Number of another one.
        other: u32,
    },
    /// An MBR entry with a size and without a type: the kernel uses it, programs do not.
    NoType,
    /// A second extended partition.
    SecondExtended,
    /// The chain of logical partitions is damaged.
    Logical(&'static str),
}

/// A partition's number, in a message.
struct Range(u32);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("the partition table"),
            number => write!(f, "partition {number}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("no partition table"),
            Self::NoHeader => f.write_str("protective MBR without a GPT header"),
            Self::BackupOnly => {
                f.write_str("primary GPT header missing or damaged; only the backup is there")
            }
            Self::NotProtected => f.write_str("GPT header without a protective MBR"),
            Self::TwoHeaders => f.write_str("second GPT header, for another block size"),
            Self::Hybrid => f.write_str("hybrid MBR: an entry besides the protective one"),
            Self::Header(field) => write!(f, "GPT header: invalid {field}"),
            Self::Checksum { of, stored, computed } => {
                write!(f, "GPT {of}: checksum is {computed:#010x}, stored is {stored:#010x}")
            }
            Self::Backup(what) => write!(f, "backup GPT: {what}"),
            Self::Unusable(number) => {
                write!(f, "partition {number} is outside the usable blocks of the GPT")
            }
            Self::PastEnd { number, end } => {
                write!(f, "{} ends at {end}, after the end of the disk", Range(*number))
            }
            Self::Overlap { first, other } => {
                write!(f, "{} and {} overlap", Range(*first), Range(*other))
            }
            Self::NoType => f.write_str("MBR entry with a size and without a type"),
            Self::SecondExtended => f.write_str("second extended partition"),
            Self::Logical(what) => write!(f, "logical partitions: {what}"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Partition(fault)
    }
}
