//! The formats of containers: one row for each, from which detection, options and messages follow.

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
        changes: Changes::Copy,
    },
    Format {
        content: Content::Tar,
        kind: Kind::Tar,
        name: "a tar archive",
        changes: Changes::Stream,
    },
    Format {
        content: Content::Ext,
        kind: Kind::Image,
        name: "an ext4 image",
        changes: Changes::Copy,
    },
    Format {
        content: Content::Erofs,
        kind: Kind::Image,
        name: "an EROFS image",
        changes: Changes::None,
    },
    Format {
        content: Content::Squashfs,
        kind: Kind::Image,
        name: "a squashfs image",
        changes: Changes::None,
    },
    Format {
        content: Content::Disk,
        kind: Kind::Image,
        name: "a disk with partitions",
        changes: Changes::Copy,
    },
];

impl Format {
    /// The format of a container with this content; `None` of anything else.
    pub fn of(content: Content) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.content == content)
    }

    /// The format of a file that begins with these bytes, if it is a container.
    pub fn of_head(head: &[u8]) -> Option<&'static Self> {
        Content::of(head).and_then(Self::of)
    }
}
