//! Faults of archives.

use core::fmt;

use super::{
    BLOCK_SIZE, COMPONENT_MAX, EXTENSIONS_MAX, EXTENSION_MAX, HOLES_MAX, MAP_MAX, NAME_MAX,
};

/// A field that holds a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named by what they hold
pub enum Field {
    Checksum,
    Mode,
    Owner,
    Group,
    Size,
    Time,
    Device,
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
            Self::Time => "modification time",
            Self::Device => "device number",
            Self::SparseOffset => "offset of a sparse segment",
            Self::SparseLength => "length of a sparse segment",
            Self::SparseSize => "size of a sparse file",
        })
    }
}

/// A fault of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A field does not hold a number that all programs read alike: octal digits after spaces,
    /// before spaces or zero bytes; zero bytes alone; base-256 after a byte 0x80.
    Number(Field),
    /// A magic that begins with `ustar`, and is neither that of POSIX nor that of GNU tar.
    Magic,
    /// The header's checksum is not the sum of its bytes.
    Checksum {
        /// The value of the field.
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
        /// The length in the record.
        declared: u64,
        /// The length of the remaining records.
        left: usize,
    },
    /// A pax record without `=`.
    RecordWithoutEquals,
    /// A pax record whose keyword begins with a blank or has a zero byte.
    RecordKeyword,
    /// An attribute in Base64 that is none.
    Base64,
    /// An attribute's name in `SCHILY.xattr.` with `%` in a place where GNU tar writes none.
    AttributeName,
    /// `SCHILY.xattr.` does not give the `security.ima` that `LIBARCHIVE.xattr.` gives: GNU tar
    /// reads the first, libarchive both.
    Contradiction,
    /// A name with `..`, which leads out of the archive's root.
    Escapes,
    /// A name with a zero byte.
    NameWithZero,
    /// A name that is empty, or one of a file that ends as those of directories do.
    EmptyName,
    /// A name or a component that Linux cannot open.
    NameTooLong,
    /// A GNU long name with bytes after its end.
    LongName,
    /// A name both in a GNU extension and in a pax record: the order decides, and not for all.
    TwoNames,
    /// A name below one that an earlier member gave to something other than a directory.
    ThroughOther,
    /// The name of an earlier member that is something else, and no file to be replaced by a file.
    OtherRole,
    /// A hard link to its own name.
    LinkToItself,
    /// An archive with more names than are kept.
    TooManyNames(usize),
    /// A type of member that is not defined, or whose content has no defined size.
    UnknownType(u8),
    /// A member that began in another volume.
    MultiVolume,
    /// A link, a directory or a device with data of its own.
    UnexpectedData,
    /// An extension with the target of a link, for a member that is not a link.
    UnexpectedLink,
    /// A second extension of the same kind for one member.
    TwoExtensions,
    /// An extension for all members with a property that only one can have: a name, a size, an attribute.
    GlobalRecord,
    /// Sparse in a form that is not known, in two forms, or in one that its type cannot have.
    UnknownSparse,
    /// An old GNU map that continues after an entry that ends it.
    SparseTable,
    /// A map of a sparse file that is larger than [`MAP_MAX`].
    MapTooLarge,
    /// Segments of a sparse file that overlap, are out of order or lie past its end.
    SparseOrder,
    /// A segment before others whose length is not a multiple of [`BLOCK_SIZE`]: GNU tar begins
    /// each with a block.
    SparseAlignment,
    /// A map of a sparse file that ends before the file does: GNU tar cuts the file there.
    SparseEnd,
    /// Segments of a sparse file that are not as long, together, as the data.
    SparseSum {
        /// The segments.
        segments: u64,
        /// The data.
        data: u64,
    },
    /// A sparse file with more than [`HOLES_MAX`] of holes.
    Holes(u64),
    /// Extensions, and no member after them that they could belong to.
    ExtensionsWithoutMember,
    /// More than [`EXTENSIONS_MAX`] extensions before a member.
    TooManyExtensions,
    /// Something other than zeros after the end.
    AfterEnd,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(field) => write!(f, "no valid number in the {field}"),
            Self::Magic => f.write_str("unknown variant of ustar"),
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
            Self::RecordKeyword => {
                f.write_str("pax record with a blank or zero byte in its keyword")
            }
            Self::Base64 => f.write_str("attribute that is not Base64"),
            Self::AttributeName => f.write_str("SCHILY.xattr keyword with an unknown escape"),
            Self::Contradiction => f.write_str(
                "LIBARCHIVE.xattr gives a security.ima that SCHILY.xattr does not: GNU tar and \
                 bsdtar would set different ones",
            ),
            Self::Escapes => f.write_str("name with .., which leads out of the archive"),
            Self::NameWithZero => f.write_str("name with a zero byte"),
            Self::EmptyName => f.write_str("name without a last component"),
            Self::NameTooLong => write!(
                f,
                "name of more than {NAME_MAX} bytes, or of more than {COMPONENT_MAX} in a component"
            ),
            Self::LongName => f.write_str("long name with bytes after its end"),
            Self::TwoNames => f.write_str("name both in a GNU long name and in a pax record"),
            Self::ThroughOther => f.write_str(
                "name that leads through an earlier member, which is not a directory: programs \
                 unpack it in different places",
            ),
            Self::OtherRole => f.write_str(
                "name of an earlier member that is something else: programs differ in which they \
                 keep",
            ),
            Self::LinkToItself => f.write_str("hard link to its own name"),
            Self::TooManyNames(limit) => write!(f, "more than {limit} names in one archive"),
            Self::UnknownType(typeflag) => {
                write!(f, "unknown type of member '{}'", typeflag.escape_ascii())
            }
            Self::MultiVolume => f.write_str("a member that began in another volume"),
            Self::UnexpectedData => f.write_str("a link, directory or device with data"),
            Self::UnexpectedLink => f.write_str("link target for a member that is not a link"),
            Self::TwoExtensions => f.write_str("two extended headers of one kind for one member"),
            Self::GlobalRecord => {
                f.write_str("a pax header for all members has a record that is for one member")
            }
            Self::UnknownSparse => f.write_str("unknown or ambiguous form of sparse member"),
            Self::SparseTable => f.write_str("sparse map continues after its end"),
            Self::MapTooLarge => write!(f, "sparse map of more than {MAP_MAX} bytes"),
            Self::SparseOrder => {
                f.write_str("segments of a sparse file overlap, or lie past its end")
            }
            Self::SparseAlignment => {
                write!(f, "segment of a sparse file is not a multiple of {BLOCK_SIZE} bytes")
            }
            Self::SparseEnd => f.write_str("sparse map ends before the file does"),
            Self::SparseSum { segments, data } => {
                write!(f, "segments of a sparse file have {segments} bytes, the data {data}")
            }
            Self::Holes(size) => {
                write!(f, "a sparse file with {size} bytes of holes; {HOLES_MAX} are read at most")
            }
            Self::ExtensionsWithoutMember => f.write_str("extended headers without a member"),
            Self::TooManyExtensions => {
                write!(f, "more than {EXTENSIONS_MAX} extended headers before a member")
            }
            Self::AfterEnd => f.write_str("data after the end of the archive"),
        }
    }
}

impl From<Fault> for crate::ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Tar(fault)
    }
}
