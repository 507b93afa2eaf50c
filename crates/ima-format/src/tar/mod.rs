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
//! The first block of zeros ends an archive: GNU tar and libarchive stop there. Only zeros may
//! follow, or, where the caller asks for them, further archives.
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
//! An archive means the files that are unpacked from it, and programs unpack malformed ones
//! differently. So this reader accepts only members that GNU tar 1.34 and libarchive 3.6 read
//! alike, without an error, and refuses all others with the offset and the reason ([`Fault`]).
//! Reserved bytes are kept as they are.

mod archive;
mod fault;
mod header;
mod parser;
mod pax;
mod sparse;

pub use archive::{Extension, FileType, Input, Item, Member, MemberKind, Slice, Substitute};
pub use fault::{Fault, Field};
pub use header::{Format, Header};
pub use parser::{AfterEnd, Parser};
pub use pax::{records, Record, Records};
pub use sparse::{Segment, SparseMap, HOLES_MAX};

/// The size of a block.
pub const BLOCK_SIZE: usize = 512;

/// The largest extension that is read, and the largest record in one: libarchive reads no more.
pub const EXTENSION_MAX: u64 = 999_999;

/// The largest map of a sparse file between its header and its data: some 200,000 segments.
pub const MAP_MAX: u64 = 4 << 20;

/// How many extensions may follow one another: libarchive reads one more, which a label can need.
pub const EXTENSIONS_MAX: usize = 30;

/// The longest component of a name, as Linux has it (`NAME_MAX`).
pub const COMPONENT_MAX: usize = 255;

/// The longest name, without its end (`PATH_MAX`).
pub const NAME_MAX: usize = 4095;

/// The bytes after so many of content, up to the next block.
pub fn padding(size: u64) -> usize {
    // less than a block
    (size.wrapping_neg() % BLOCK_SIZE as u64) as usize
}

#[cfg(test)]
mod tests;
