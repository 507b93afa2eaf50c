//! `/etc/ld.so.cache`: where glibc's loader finds libraries that no search path names.
//!
//! ```text
//! old part, of glibc before 2.32, may come first: "ld.so-1.7.0", padding to 12, u32 count,
//!   count entries of 12 bytes, padding to 8, and then the new part; offsets count from there
//! header, 48 bytes
//!   0   "glibc-ld.so.cache1.1"
//!   20  u32  number of entries
//!   24  u32  bytes of strings
//!   28  u8   byte order: 2 little, 3 big, 0 not said (before 2.33: the writer's own)
//!   29  3    zero
//!   32  u32  offset of the extensions, 0 without (from 2.33 on)
//!   36  12   zero
//! entry, 24 bytes
//!   0   u32  flags: the low byte is the kind (3: glibc's ELF), the next one the machine
//!   4   u32  offset of the name
//!   8   u32  offset of the path
//!   12  u32  unused
//!   16  u64  0; with bit 62, the low 32 bits are the number of a glibc-hwcaps directory;
//!            other bits are processor capabilities, of before 2.33
//! extensions: u32 0xeaa42174, u32 count, sections of u32 tag, flags, offset, size
//!   tag 1: offsets of the names of glibc-hwcaps directories, u32 each
//! strings end with a NUL
//! ```
//!
//! Mirrors `sysdeps/generic/dl-cache.h` and `elf/dl-cache.c` of glibc, which takes no notice of
//! a cache of another byte order, or one that is malformed.

use alloc::vec::Vec;
use core::fmt;

use crate::{Error, ErrorKind};

/// The libraries that a cache knows, in its order: that of the search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cache<'a> {
    /// All of them, those that are there in several variants several times.
    pub entries: Vec<Entry<'a>>,
}

/// One library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name that programs ask for.
    pub name: &'a [u8],
    /// The file.
    pub path: &'a [u8],
    /// The kind of library, and the machine it is for.
    pub flags: u32,
    /// For which processors.
    pub variant: Variant<'a>,
}

/// For which processors a library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant<'a> {
    /// For all.
    Any,
    /// For those that this directory of `glibc-hwcaps` is for.
    Directory(&'a [u8]),
    /// For those with all of these capabilities, in the numbering of before glibc 2.33.
    Capabilities(u64),
}

/// A fault of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin as a cache does.
    NotACache,
    /// Nothing but the part for glibc before 2.2.
    OldOnly,
    /// An unknown byte order.
    UnknownByteOrder(u8),
    /// A string that is too long, or not ended by a NUL.
    UnendedString,
    /// The extensions do not begin as they should.
    BadExtensions(u32),
    /// A `glibc-hwcaps` directory without a name.
    UnknownDirectory(u32),
    /// More `glibc-hwcaps` directories than there can be.
    TooManyDirectories,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACache => f.write_str("not a cache of libraries"),
            Self::OldOnly => f.write_str("a cache of libraries in the form before glibc 2.2"),
            Self::UnknownByteOrder(order) => write!(f, "unknown byte order {order}"),
            Self::UnendedString => f.write_str("a string without end"),
            Self::BadExtensions(magic) => write!(f, "extensions begin with {magic:#010x}"),
            Self::TooManyDirectories => f.write_str("too many glibc-hwcaps directories"),
            Self::UnknownDirectory(number) => write!(f, "no glibc-hwcaps directory {number}"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::LoaderCache(fault)
    }
}

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const HEADER_SIZE: usize = 48;
const ENTRY_SIZE: usize = 24;
const OLD_HEADER_SIZE: usize = 16;
const OLD_ENTRY_SIZE: usize = 12;
const EXTENSIONS_MAGIC: u32 = 0xeaa4_2174;
const TAG_HWCAPS: u32 = 1;
/// `DL_CACHE_HWCAP_EXTENSION`
const HWCAP_EXTENSION: u64 = 1 << 62;
/// The longest path (`PATH_MAX`).
const STRING_MAX: usize = 4096;
/// More `glibc-hwcaps` directories than any machine has levels.
const DIRECTORIES_MAX: usize = 256;

impl<'a> Cache<'a> {
    /// Reads a whole cache. One that does not say its byte order is little-endian where that
    /// makes the number of entries fit.
    ///
    /// # Errors
    /// A malformed cache, with the offset from the start.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let start = new_part(bytes)?;
        let bytes = bytes.get(start..).unwrap_or_default();
        let in_file = |error: Error| Error { offset: error.offset.saturating_add(start), ..error };
        Part::open(bytes).and_then(|part| part.cache()).map_err(in_file)
    }
}

/// Where the header is that glibc reads.
fn new_part(bytes: &[u8]) -> Result<usize, Error> {
    if bytes.starts_with(MAGIC) {
        return Ok(0);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return Err(Error::new(Fault::NotACache, 0));
    }
    // the old part has the byte order of the new one behind it, which is not known yet
    for big_endian in [false, true] {
        let Ok(count) = number(bytes, 12, big_endian) else { continue };
        let behind = (count as usize)
            .checked_mul(OLD_ENTRY_SIZE)
            .and_then(|size| size.checked_add(OLD_HEADER_SIZE + 7))
            .map(|end| end & !7);
        let found = behind
            .filter(|start| bytes.get(*start..).is_some_and(|behind| behind.starts_with(MAGIC)));
        if let Some(start) = found {
            return Ok(start);
        }
    }
    Err(Error::new(Fault::OldOnly, 0))
}

/// The part from the new header on.
struct Part<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    count: usize,
}

impl<'a> Part<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let room = bytes.len().saturating_sub(HEADER_SIZE) / ENTRY_SIZE;
        let fits = |big_endian| {
            number(bytes, 20, big_endian).map(|count| count as usize).ok().filter(|it| *it <= room)
        };
        let order = bytes.get(28).copied().ok_or_else(|| truncated(28, 1, bytes.len()))?;
        let big_endian = match order & 3 {
            2 => false,
            3 => true,
            0 => fits(false).is_none() && fits(true).is_some(),
            _ => return Err(Error::new(Fault::UnknownByteOrder(order), 28)),
        };
        let Some(count) = fits(big_endian) else {
            let wanted = (number(bytes, 20, big_endian)? as usize).saturating_mul(ENTRY_SIZE);
            return Err(truncated(HEADER_SIZE, wanted, bytes.len()));
        };
        Ok(Self { bytes, big_endian, count })
    }

    fn cache(&self) -> Result<Cache<'a>, Error> {
        let directories = self.directories()?;
        let mut entries = Vec::new();
        for index in 0..self.count {
            let at = HEADER_SIZE + index * ENTRY_SIZE;
            let (high, low) = match self.big_endian {
                true => (at + 16, at + 20),
                false => (at + 20, at + 16),
            };
            let (high, low) = (self.number(high)?, self.number(low)?);
            let capabilities = u64::from(high) << 32 | u64::from(low);
            let variant = if capabilities == 0 {
                Variant::Any
            } else if capabilities & HWCAP_EXTENSION != 0 {
                let directory = directories.get(low as usize);
                let unknown = || Error::new(Fault::UnknownDirectory(low), at + 16);
                Variant::Directory(directory.ok_or_else(unknown)?)
            } else {
                Variant::Capabilities(capabilities)
            };
            let (name, path) = (self.string(at + 4)?, self.string(at + 8)?);
            entries.push(Entry { name, path, flags: self.number(at)?, variant });
        }
        Ok(Cache { entries })
    }

    /// The names of the directories that entries are numbered by.
    fn directories(&self) -> Result<Vec<&'a [u8]>, Error> {
        let at = self.number(32)? as usize;
        let mut directories = Vec::new();
        if at == 0 {
            return Ok(directories);
        }
        let magic = self.number(at)?;
        if magic != EXTENSIONS_MAGIC {
            return Err(Error::new(Fault::BadExtensions(magic), at));
        }
        for section in 0..self.number(at.saturating_add(4))? as usize {
            let header = at.saturating_add(8).saturating_add(section.saturating_mul(16));
            let tag = self.number(header)?;
            let start = self.number(header.saturating_add(8))? as usize;
            let size = self.number(header.saturating_add(12))? as usize;
            if tag != TAG_HWCAPS {
                continue;
            }
            for index in 0..size / 4 {
                if directories.len() == DIRECTORIES_MAX {
                    return Err(Error::new(Fault::TooManyDirectories, header));
                }
                directories.push(self.string(start.saturating_add(index.saturating_mul(4)))?);
            }
        }
        Ok(directories)
    }

    fn number(&self, offset: usize) -> Result<u32, Error> {
        number(self.bytes, offset, self.big_endian)
    }

    /// The string whose offset is at `offset`.
    fn string(&self, offset: usize) -> Result<&'a [u8], Error> {
        let start = self.number(offset)? as usize;
        let bytes = self.bytes.get(start..).unwrap_or_default();
        let bytes = bytes.get(..STRING_MAX).unwrap_or(bytes);
        let unended = || Error::new(Fault::UnendedString, start.min(self.bytes.len()));
        let end = bytes.iter().position(|byte| *byte == 0).ok_or_else(unended)?;
        Ok(bytes.get(..end).unwrap_or_default())
    }
}

fn number(bytes: &[u8], offset: usize, big_endian: bool) -> Result<u32, Error> {
    let field = offset.checked_add(4).and_then(|end| bytes.get(offset..end));
    let field = field.and_then(|field| <[u8; 4]>::try_from(field).ok());
    let field = field.ok_or_else(|| truncated(offset, 4, bytes.len()))?;
    Ok(if big_endian { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) })
}

fn truncated(offset: usize, needed: usize, length: usize) -> Error {
    let available = length.saturating_sub(offset);
    Error::new(ErrorKind::Truncated { needed, available }, offset.min(length))
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    /// A cache of either byte order: two variants of one library, and another.
    fn cache(big_endian: bool) -> Vec<u8> {
        let word = |value: u32| match big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let strings = b"liba.so\0/lib/liba.so\0/lib/glibc-hwcaps/x86-64-v3/liba.so\0x86-64-v3\0";
        let base = (HEADER_SIZE + 3 * ENTRY_SIZE) as u32;
        let extensions = base + strings.len() as u32;
        let mut bytes = MAGIC.to_vec();
        bytes.extend([word(3), word(strings.len() as u32)].concat());
        bytes.extend([if big_endian { 3 } else { 2 }, 0, 0, 0]);
        bytes.extend(word(extensions));
        bytes.extend([0; 12]);
        for (path, hwcap) in [(21, 1_u64 << 62), (8, 0), (8, 5)] {
            let fields = [word(0x303), word(base), word(base + path), word(0)];
            bytes.extend(fields.concat());
            bytes.extend(if big_endian { hwcap.to_be_bytes() } else { hwcap.to_le_bytes() });
        }
        bytes.extend(strings);
        let sections = [EXTENSIONS_MAGIC, 2, 0, 0, base, 3, TAG_HWCAPS, 0, extensions + 40, 4];
        bytes.extend(sections.map(word).concat());
        bytes.extend(word(base + 57));
        bytes
    }

    fn expected() -> Cache<'static> {
        let entry = |path: &'static str, variant| Entry {
            name: b"liba.so",
            path: path.as_bytes(),
            flags: 0x303,
            variant,
        };
        let entries = vec![
            entry("/lib/glibc-hwcaps/x86-64-v3/liba.so", Variant::Directory(b"x86-64-v3")),
            entry("/lib/liba.so", Variant::Any),
            entry("/lib/liba.so", Variant::Capabilities(5)),
        ];
        Cache { entries }
    }

    #[test]
    fn reads_either_byte_order_said_or_not() {
        for big_endian in [false, true] {
            let mut bytes = cache(big_endian);
            assert_eq!(Cache::parse(&bytes).unwrap(), expected());
            bytes[28] = 0;
            assert_eq!(Cache::parse(&bytes).unwrap(), expected());
        }
    }

    #[test]
    fn the_new_part_is_found_behind_an_old_one() {
        let mut bytes = b"ld.so-1.7.0\0\x01\0\0\0".to_vec();
        bytes.extend([0; 12]);
        bytes.extend([0; 4]);
        let start = bytes.len();
        bytes.extend(cache(false));
        assert_eq!(Cache::parse(&bytes).unwrap(), expected());
        bytes[start + 28] = 1;
        let error = Cache::parse(&bytes).unwrap_err();
        assert_eq!(error, Error::new(Fault::UnknownByteOrder(1), start + 28));
        assert_eq!(Cache::parse(&bytes[..start]).unwrap_err().kind, Fault::OldOnly.into());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = cache(false);
        for end in 0..whole.len() {
            let error = Cache::parse(&whole[..end]).unwrap_err();
            assert!(error.offset <= end, "{error}");
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[end] = value;
                if let Err(error) = Cache::parse(&changed) {
                    assert!(error.offset <= whole.len(), "{error}");
                }
            }
        }
        assert_eq!(Cache::parse(b"text").unwrap_err(), Error::new(Fault::NotACache, 0));
    }
}
