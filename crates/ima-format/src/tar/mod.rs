//! Tar archives, member by member, so that a label can be set without touching another byte.
//!
//! Mirrors POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Interchange Format"), GNU
//! tar's `tar.h`, `xheader.c` and `sparse.c`, and for attributes star's `SCHILY.xattr.` and
//! libarchive's `LIBARCHIVE.xattr.` (`archive_write_set_format_pax.c`).
//!
//! An archive is a series of blocks of 512 bytes. A member is, in this order:
//!
//! | blocks | what | typeflag |
//! |---|---|---|
//! | any number | extensions: a header each, and its body, padded to a block | `x` pax, `g` pax for all that follow, `L` and `K` GNU long name and link |
//! | 1 | the header | `0` NUL `7` file, `1` hard link, `2` to `6` without content, `S` GNU sparse, ... |
//! | any number | old GNU sparse: further parts of the map | |
//! | any number | pax sparse 1.0: the map, in front of the data | |
//! | size | data, padded to a block | |
//!
//! Two blocks of zeros end an archive. What follows is padding, or another archive.
//!
//! The header, offsets in bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 100 | name |
//! | 100 | 8, 8, 8 | mode, uid, gid |
//! | 124 | 12 | size: octal, or base-256 with the first bit set (GNU) |
//! | 136 | 12 | mtime |
//! | 148 | 8 | checksum: the sum of all bytes, these eight taken as spaces |
//! | 156 | 1 | typeflag |
//! | 157 | 100 | name of the link's target |
//! | 257 | 8 | `ustar\0` `00` (POSIX), `ustar  \0` (GNU), anything else (v7) |
//! | 265 | 32, 32 | user, group |
//! | 329 | 8, 8 | device |
//! | 345 | 155 | POSIX: prefix of the name |
//! | 386 | 4 x 24 | GNU sparse: offset and size of segments; at 482 whether more blocks follow, at 483 the file's size |
//!
//! A pax record is `LENGTH KEYWORD=VALUE\n`; LENGTH counts itself. A later record overrides
//! an earlier one, one for the member overrides one for all.
//!
//! Refused, with the offset: checksums that are wrong, records whose length lies, numbers
//! that are none, segments out of order or past the file's end, names with `..`, types that
//! nobody defines, volumes of a larger archive. Reserved bytes are kept as they are.

mod archive;
mod header;
mod pax;
mod sparse;

use core::fmt;

pub use archive::{Extension, FileType, Input, Item, Member, MemberKind, Parser, Slice};
pub use header::{Format, Header};
pub use pax::{records, Record};
pub use sparse::{Segment, SparseMap, HOLES_MAX};

/// The size of a block.
pub const BLOCK_SIZE: usize = 512;

/// The largest extension that is read: long names, records, maps of sparse files. Real ones
/// are smaller than the 64 KiB of an attribute, except for maps.
pub const EXTENSION_MAX: u64 = 16 << 20;

/// The bytes after so many of content, up to the next block.
pub fn padding(size: u64) -> usize {
    // less than a block
    (size.wrapping_neg() % BLOCK_SIZE as u64) as usize
}

/// A field that holds a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named by what they hold
pub enum Field {
    Checksum,
    Mode,
    Owner,
    Group,
    Size,
    SparseOffset,
    SparseLength,
    SparseSize,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "checksum",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Size => "size",
            Self::SparseOffset => "offset of a sparse segment",
            Self::SparseLength => "length of a sparse segment",
            Self::SparseSize => "size of a sparse file",
        })
    }
}

/// What is malformed in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A field is no number that it could hold.
    Number(Field),
    /// The header's checksum is not the sum of its bytes.
    Checksum {
        /// What the field says.
        declared: u64,
        /// The sum.
        sum: u64,
    },
    /// An extension that claims more than [`EXTENSION_MAX`].
    ExtensionTooLarge(u64),
    /// A pax record without a length.
    RecordWithoutLength,
    /// A pax record whose length lies.
    RecordLength {
        /// What the record says.
        declared: u64,
        /// What is left of the records.
        left: usize,
    },
    /// A pax record without `=`.
    RecordWithoutEquals,
    /// An attribute in Base64 that is none.
    Base64,
    /// `SCHILY.xattr.` and `LIBARCHIVE.xattr.` do not say the same of `security.ima`.
    Contradiction,
    /// A name with `..`, which leads out of the archive's root.
    Escapes,
    /// A name with a zero byte.
    NameWithZero,
    /// A type of member that nobody defines, or that holds what cannot be known.
    UnknownType(u8),
    /// A member that began in another volume.
    MultiVolume,
    /// A link, a directory or a device with data of its own.
    UnexpectedData,
    /// A second extension of the same kind for one member.
    TwoExtensions,
    /// An extension for all members with what only one can have: a name, a size, a label.
    GlobalRecord,
    /// A sparse member in a form that is not known.
    UnknownSparse,
    /// Segments of a sparse file that overlap, are out of order or lie past its end.
    SparseOrder,
    /// Segments of a sparse file that are not as long, together, as the data.
    SparseSum {
        /// The segments.
        segments: u64,
        /// The data.
        data: u64,
    },
    /// A sparse file with more than [`HOLES_MAX`] of holes.
    Holes(u64),
    /// Extensions, and no member after them.
    ExtensionsWithoutMember,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(field) => write!(f, "no number in the {field}"),
            Self::Checksum { declared, sum } => {
                write!(f, "not a member's header: the checksum says {declared}, the sum is {sum}")
            }
            Self::ExtensionTooLarge(size) => {
                write!(f, "extended header of {size} bytes; {EXTENSION_MAX} are read at most")
            }
            Self::RecordWithoutLength => f.write_str("pax record without a length"),
            Self::RecordLength { declared, left } => {
                write!(f, "pax record says {declared} bytes, {left} are there or it ends elsewhere")
            }
            Self::RecordWithoutEquals => f.write_str("pax record without ="),
            Self::Base64 => f.write_str("attribute that is not Base64"),
            Self::Contradiction => {
                f.write_str("SCHILY.xattr and LIBARCHIVE.xattr give different security.ima")
            }
            Self::Escapes => f.write_str("name with .., which leads out of the archive"),
            Self::NameWithZero => f.write_str("name with a zero byte"),
            Self::UnknownType(typeflag) => {
                write!(f, "unknown type of member '{}'", typeflag.escape_ascii())
            }
            Self::MultiVolume => f.write_str("a member that began in another volume"),
            Self::UnexpectedData => f.write_str("a link, directory or device with data"),
            Self::TwoExtensions => f.write_str("two extended headers of one kind for one member"),
            Self::GlobalRecord => {
                f.write_str("a pax header for all members gives what only one can have")
            }
            Self::UnknownSparse => f.write_str("unknown form of sparse member"),
            Self::SparseOrder => {
                f.write_str("segments of a sparse file overlap, or lie past its end")
            }
            Self::SparseSum { segments, data } => {
                write!(f, "segments of a sparse file have {segments} bytes, the data {data}")
            }
            Self::Holes(size) => {
                write!(f, "a sparse file with {size} bytes of holes; {HOLES_MAX} are read at most")
            }
            Self::ExtensionsWithoutMember => f.write_str("extended headers without a member"),
        }
    }
}

impl From<Fault> for crate::ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Tar(fault)
    }
}

#[cfg(test)]
mod tests;
