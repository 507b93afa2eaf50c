//! RPM packages: the headers, which list the files, their digests and their signatures.
//!
//! Mirrors `lib/rpmlead.cc`, `lib/header.cc` (`hdrblobVerifyRegion`, `hdrblobVerifyInfo`,
//! `regionSwab`), `lib/signature.cc` and `sign/rpmsignfiles.cc` of rpm 4.18 to 6.0. All
//! numbers are big-endian.
//!
//! | part | size | content |
//! |---|---|---|
//! | lead | 96 | magic `ed ab ee db`, major, minor, type (0 binary, 1 source), ... |
//! | signature header | a header | digests, OpenPGP signatures, file signatures |
//! | pad | 0 to 7 | the signature header's size is rounded up to 8 |
//! | main header | a header | name, version, files, their digests |
//! | payload | the rest | a compressed cpio archive |
//!
//! A header:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `8e ad e8 01 00 00 00 00` |
//! | 8 | 4 | number of entries, `il` |
//! | 12 | 4 | size of the store, `dl` |
//! | 16 | 16 × `il` | index: tag, type, offset in the store, count |
//! | | `dl` | store: the values, each aligned as its type wants |
//!
//! The first entry is the region: tag 62 (signature header) or 63 (main header), type BIN,
//! count 16, its offset that of a trailer of 16 bytes at the region's end, which repeats tag,
//! type and count and gives the region's index size as a negative offset.
//!
//! rpm refuses, and so does this: more than 32 entries or 64 MiB in a signature header, 65,535
//! entries or 256 MiB in a main header; values that overlap, that are out of order, unaligned,
//! or past the store; gaps between values beyond the alignment; a main header that is not all
//! region; tags below 100 after the first. Refused here besides: duplicate tags, of which rpm
//! takes one or the other, and signature headers without region (before rpm 4).
//!
//! In a signature header, entries can follow the region: their index entries after the region's,
//! their values after its trailer. rpm reads them like the others; signing servers append
//! OpenPGP signatures so. They are kept where they are.
//!
//! File signatures are tag 274 of the signature header (STRING_ARRAY, one for each file: the
//! `security.ima` value in lowercase hexadecimal, empty where the file has no digest) and tag
//! 275 (INT32: the length of the longest value in bytes). They are put where rpm puts them, in
//! the order of tags; a header that rpm wrote is the same again when they are taken out.

pub mod cpio;
mod edit;
mod files;
mod header;

use core::fmt;

use crate::reader::Reader;
use crate::{Error, ErrorKind};

pub use edit::ReservedSpace;
pub use files::{File, FileList, FILE_CONFIG, FILE_GHOST};
pub use header::{Entry, Header, Intro, Section, INTRO_SIZE};

/// The lead's size in bytes.
pub const LEAD_SIZE: usize = 96;

/// Tags, as `include/rpm/rpmtag.h` names them.
pub mod tag {
    #![allow(missing_docs)] // rpm's names

    pub const HEADERIMAGE: u32 = 61;
    pub const HEADERSIGNATURES: u32 = 62;
    pub const HEADERIMMUTABLE: u32 = 63;
    /// Regions have smaller numbers, entries have this and greater ones.
    pub const HEADERI18NTABLE: u32 = 100;

    pub const SIG_SHA1: u32 = 269;
    pub const SIG_SHA256: u32 = 273;
    pub const SIG_FILESIGNATURES: u32 = 274;
    pub const SIG_FILESIGNATURELENGTH: u32 = 275;
    pub const SIG_SHA3_256: u32 = 279;
    /// The filler of format 6.
    pub const SIG_RESERVED: u32 = 999;
    pub const SIG_MD5: u32 = 1004;
    /// The filler of format 4.
    pub const SIG_RESERVEDSPACE: u32 = 1008;

    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const ARCH: u32 = 1022;
    /// Whole paths, before rpm 4.
    pub const OLDFILENAMES: u32 = 1027;
    pub const FILESIZES: u32 = 1028;
    pub const FILEMODES: u32 = 1030;
    pub const FILEDIGESTS: u32 = 1035;
    pub const FILELINKTOS: u32 = 1036;
    pub const FILEFLAGS: u32 = 1037;
    pub const SOURCERPM: u32 = 1044;
    pub const FILEDEVICES: u32 = 1095;
    pub const FILEINODES: u32 = 1096;
    pub const DIRINDEXES: u32 = 1116;
    pub const BASENAMES: u32 = 1117;
    pub const DIRNAMES: u32 = 1118;
    pub const ORIGBASENAMES: u32 = 1120;
    pub const PAYLOADFORMAT: u32 = 1124;
    pub const PAYLOADCOMPRESSOR: u32 = 1125;
    pub const LONGFILESIZES: u32 = 5008;
    pub const FILEDIGESTALGO: u32 = 5011;
    /// The tag that rpm maps the one of the signature header to; it also reads it from a main header.
    pub const FILESIGNATURES: u32 = 5090;
    pub const PAYLOADSHA256: u32 = 5092;
    pub const PAYLOADSHA256ALGO: u32 = 5093;
    pub const RPMFORMAT: u32 = 5114;
}

/// A fault of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The lead's magic number is not there.
    LeadMagic,
    /// The lead is of another version than 3 or 4.
    LeadVersion(u8),
    /// A header's magic number is not there.
    HeaderMagic,
    /// A header says that it has more entries than it may have, or none.
    EntryCount {
        /// Its value.
        declared: u32,
        /// How many there may be.
        limit: u32,
    },
    /// A header says that its store is larger than it may be.
    StoreSize {
        /// Its value, in bytes.
        declared: u32,
        /// How large it may be.
        limit: u32,
    },
    /// The first entry is not the region that belongs there.
    NoRegion,
    /// The region's trailer is not in the store, or does not fit its entry.
    RegionTrailer,
    /// The region does not hold all entries, or not all of the store.
    RegionSize,
    /// An entry has the tag of a region.
    RegionTag(u32),
    /// A tag stands twice.
    DuplicateTag(u32),
    /// A type that no value has.
    ValueType {
        /// The entry's tag.
        tag: u32,
        /// The type's number.
        value_type: u32,
    },
    /// A count that is zero, or more than the type allows.
    ValueCount {
        /// The entry's tag.
        tag: u32,
        /// Its value.
        count: u32,
    },
    /// A value that does not begin where the one before it ends, after alignment.
    ValueOffset {
        /// The entry's tag.
        tag: u32,
        /// Where it begins in the store.
        offset: u32,
        /// Where it has to begin.
        expected: u32,
    },
    /// A value that continues past the region's end.
    ValuePastStore {
        /// The entry's tag.
        tag: u32,
    },
    /// A tag whose value is of another type than rpm gives it.
    TagType {
        /// The entry's tag.
        tag: u32,
        /// The type's number.
        value_type: u32,
    },
    /// A tag with as many values as there are files, or directories, has another number.
    FileCount {
        /// The entry's tag.
        tag: u32,
        /// How many values it has.
        count: u32,
        /// How many there have to be.
        expected: u32,
    },
    /// A tag is missing.
    MissingTag(u32),
    /// The main header has files by another tag, which rpm prefers.
    OtherList(u32),
    /// The last part of a file's name leads to another directory.
    FileName,
    /// A file with this mode is of no type, or a symbolic link without a target.
    FileType(u16),
    /// A directory's name has no slash at its end, or leads back.
    DirectoryName,
    /// A file stands in a directory that is not in the list.
    DirectoryIndex(u32),
    /// A file's digest is not hexadecimal, or not of its algorithm's length.
    FileDigest,
    /// The file digests' algorithm is none that is known.
    DigestAlgorithm(u32),
    /// A file signature is not hexadecimal.
    FileSignature,
    /// The new signature header would be larger than rpm reads.
    TooLarge {
        /// Bytes that its store would have.
        size: usize,
    },
    /// The signature header is one that rpm reads and would not write, so that it cannot be
    /// changed and still be brought back byte for byte.
    NotCanonical,
    /// A payload's entry does not begin with a cpio magic number.
    CpioMagic,
    /// A field of a payload's entry is not hexadecimal.
    CpioField,
    /// A name in the payload is longer than any path.
    CpioName {
        /// Its length in bytes.
        length: u32,
    },
    /// The payload holds a file that the header does not list.
    CpioUnknownFile,
    /// The payload holds a file twice.
    CpioTwice,
    /// The payload does not hold the names of a file one after another, the last of them with
    /// the content.
    CpioNames,
    /// The payload says another size than the header does.
    CpioSize {
        /// Its value.
        declared: u64,
        /// The value in the header.
        expected: u64,
    },
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Rpm(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeadMagic => f.write_str("not an RPM package"),
            Self::LeadVersion(version) => {
                write!(f, "RPM lead of version {version}; 3 and 4 are known")
            }
            Self::HeaderMagic => f.write_str("no header's magic number"),
            Self::EntryCount { declared: 0, .. } => f.write_str("a header without entries"),
            Self::EntryCount { declared, limit } => {
                write!(f, "a header of {declared} entries, where {limit} are allowed")
            }
            Self::StoreSize { declared, limit } => {
                write!(f, "a header's store of {declared} bytes, where {limit} are allowed")
            }
            Self::NoRegion => f.write_str("the first entry is not the header's region"),
            Self::RegionTrailer => f.write_str("the region's trailer is not where it has to be"),
            Self::RegionSize => f.write_str("the region does not hold the whole header"),
            Self::RegionTag(tag) => {
                write!(f, "tag {tag} is not the first entry's, but is a region's")
            }
            Self::DuplicateTag(tag) => write!(f, "duplicate tag {tag}"),
            Self::ValueType { tag, value_type } => {
                write!(f, "tag {tag} is of type {value_type}, which there is not")
            }
            Self::ValueCount { tag, count } => write!(f, "tag {tag} has {count} values"),
            Self::ValueOffset { tag, offset, expected } => {
                write!(f, "tag {tag} begins at {offset} in the store, not at {expected}")
            }
            Self::ValuePastStore { tag } => write!(f, "tag {tag} continues past the store"),
            Self::TagType { tag, value_type } => write!(f, "tag {tag} is of type {value_type}"),
            Self::FileCount { tag, count, expected } => {
                write!(f, "tag {tag} has {count} values, where {expected} have to be")
            }
            Self::MissingTag(tag) => write!(f, "tag {tag} is missing"),
            Self::OtherList(tag) => {
                write!(f, "tag {tag} in the main header: rpm reads it in place of another")
            }
            Self::FileName => f.write_str("a file name that leads to another directory"),
            Self::FileType(mode) => {
                write!(f, "mode {mode:o}: an unknown type, or a symbolic link without a target")
            }
            Self::DirectoryName => {
                f.write_str("a directory name that leads back, or does not end with a slash")
            }
            Self::DirectoryIndex(index) => write!(f, "there is no directory {index}"),
            Self::FileDigest => f.write_str("not a digest of the package's algorithm"),
            Self::DigestAlgorithm(id) => write!(f, "unknown digest algorithm {id}"),
            Self::FileSignature => f.write_str("a file signature that is not hexadecimal"),
            Self::TooLarge { size } => {
                write!(f, "{size} bytes of signatures are more than rpm reads")
            }
            Self::NotCanonical => f.write_str("not as rpm writes it; cannot be changed and undone"),
            Self::CpioMagic => f.write_str("no cpio entry's magic number"),
            Self::CpioField => f.write_str("a cpio field that is not hexadecimal"),
            Self::CpioName { length } => write!(f, "a name of {length} bytes"),
            Self::CpioUnknownFile => f.write_str("a file that the header does not list"),
            Self::CpioTwice => f.write_str("a file that is in the payload twice"),
            Self::CpioNames => f.write_str("the names of a hard link do not follow one another"),
            Self::CpioSize { declared, expected } => {
                write!(f, "a file of {declared} bytes, where the header says {expected}")
            }
        }
    }
}

/// The type of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageType {
    /// Software to be installed.
    Binary,
    /// A source package.
    Source,
}

/// Reads the lead: `bytes` is the file's start.
///
/// # Errors
/// If it is not a package's.
pub fn read_lead(bytes: &[u8]) -> Result<PackageType, Error> {
    let mut reader = Reader::new(bytes);
    if bytes.get(..4) != Some(&[0xed, 0xab, 0xee, 0xdb]) {
        return Err(Error::new(Fault::LeadMagic, 0));
    }
    reader.take(4)?;
    let major = reader.u8()?;
    if !(3..=4).contains(&major) {
        return Err(Error::new(Fault::LeadVersion(major), 4));
    }
    reader.u8()?;
    let package_type = match reader.u16_be()? {
        1 => PackageType::Source,
        _ => PackageType::Binary,
    };
    reader.take(LEAD_SIZE - 8)?;
    Ok(package_type)
}
