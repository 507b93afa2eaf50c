//! The formats of containers: one row for each, from which detection, options and messages follow.

use std::fmt;

use ima_format::kind::{Content, Kind};

/// A format of containers.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its first bytes.
    pub content: Content,
    /// The kind of container that it is processed as.
    pub kind: Kind,
    /// Its name in messages.
    pub name: &'static str,
    /// The ends of its file names, in lower case.
    pub extensions: &'static [&'static str],
    /// How attributes in it are changed.
    pub changes: Changes,
}

/// How attributes in a container are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// It is written again, from one end to the other.
    Stream,
    /// Parts of a copy are changed.
    Copy,
    /// They are not.
    None,
}

/// All formats. Anything else is a file of a tree.
pub const FORMATS: &[Format] = &[
    Format {
        content: Content::Rpm,
        kind: Kind::Rpm,
        name: "an RPM package",
        extensions: &["rpm"],
        changes: Changes::Copy,
    },
    Format {
        content: Content::Tar,
        kind: Kind::Tar,
        name: "a tar archive",
        extensions: &["tar", "tgz", "tbz", "tbz2", "txz", "tzst", "tlz"],
        changes: Changes::Stream,
    },
    Format {
        content: Content::Ext,
        kind: Kind::Image,
        name: "an ext4 image",
        extensions: &["ext2", "ext3", "ext4"],
        changes: Changes::Copy,
    },
    Format {
        content: Content::Erofs,
        kind: Kind::Image,
        name: "an EROFS image",
        extensions: &["erofs"],
        changes: Changes::None,
    },
    Format {
        content: Content::Squashfs,
        kind: Kind::Image,
        name: "a squashfs image",
        extensions: &["squashfs", "sqfs"],
        changes: Changes::None,
    },
    Format {
        content: Content::Disk,
        kind: Kind::Image,
        name: "a disk with partitions",
        extensions: &["img", "raw", "wic"],
        changes: Changes::Copy,
    },
];

/// The ends of file names of formats that no command supports.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("deb", "a Debian package"),
    ("ipk", "an opkg package"),
    ("cpio", "a cpio archive"),
    ("iso", "an ISO image"),
];

/// The ends of file names that say how the content is compressed.
const COMPRESSED: &[&str] = &["gz", "bz2", "xz", "zst", "zstd", "lzma", "lz4", "lz", "lzo", "z"];

impl Format {
    /// The format of a container with this content; `None` of anything else.
    pub fn of(content: Content) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.content == content)
    }

    /// The format of a file that begins with these bytes, if it is a container.
    pub fn of_head(head: &[u8]) -> Option<&'static Self> {
        Content::of(head).and_then(Self::of)
    }

    /// Whether it can have a root file system.
    pub fn can_be_root(&self) -> bool {
        self.kind != Kind::Rpm
    }
}

/// The format that the name of a file claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// One of this kind.
    Container(Kind),
    /// One that is not supported.
    Unsupported(&'static str),
}

impl Named {
    /// By the end of the name, before that of a compression.
    pub fn of(name: &[u8]) -> Option<Self> {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let mut words = name.rsplit('.');
        let mut end = words.next()?;
        if COMPRESSED.contains(&end) {
            end = words.next()?;
        }
        // a name that is nothing but an extension is no extension
        words.next()?;
        let format = FORMATS.iter().find(|format| format.extensions.contains(&end));
        let other = || UNSUPPORTED.iter().find(|(other, _)| *other == end);
        let container = format.map(|format| Self::Container(format.kind));
        container.or_else(|| other().map(|(_, name)| Self::Unsupported(name)))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(kind) => kind.fmt(f),
            Self::Unsupported(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_claims_a_format() {
        let container = |kind| Some(Named::Container(kind));
        for (name, expected) in [
            ("a.rpm", container(Kind::Rpm)),
            ("root.tar", container(Kind::Tar)),
            ("root.v2.TAR.lz4", container(Kind::Tar)),
            ("root.tgz", container(Kind::Tar)),
            ("core-image.ext4.gz", container(Kind::Image)),
            ("disk.img", container(Kind::Image)),
            ("initramfs.cpio.xz", Some(Named::Unsupported("a cpio archive"))),
            ("root.tar.sig", None),
            ("notes.gz", None),
            (".img", container(Kind::Image)),
            ("img", None),
            ("program", None),
        ] {
            assert_eq!(Named::of(name.as_bytes()), expected, "{name}");
        }
    }
}
