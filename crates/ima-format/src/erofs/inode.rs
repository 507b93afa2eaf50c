//! Inodes, in both of their sizes.
//!
//! | compact | extended | size | field |
//! |---|---|---|---|
//! | 0x00 | 0x00 | 2 | bit 0: extended; bits 1 to 3: layout of the content |
//! | 0x02 | 0x02 | 2 | attributes: a header of 12 bytes and, less one, units of 4 bytes |
//! | 0x04 | 0x04 | 2 | mode |
//! | 0x06 | 0x2c | 2, 4 | links |
//! | 0x08 | 0x08 | 4, 8 | size |
//! | 0x10 | 0x10 | 4 | first block, or form of the chunks, or a device's number |
//! | 0x18, 0x1a | 0x18, 0x1c | 2, 4 | owner, group |
//!
//! Attributes follow the inode, then comes what belongs to the layout: the end of the content,
//! or chunks, or cluster indexes.

use super::{u16_at, u32_at, u64_at, Disk, Fault, Unpack, Volume};

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device with its numbers.
    Character(u32, u32),
    /// A block device with its numbers.
    Block(u32, u32),
    /// A pipe with a name.
    Pipe,
    /// A socket with a name.
    Socket,
}

/// How content is kept (`EROFS_INODE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In one piece.
    Plain,
    /// Compressed, with an index of 8 bytes for each logical cluster.
    Full,
    /// In one piece, except for the end, which follows the inode.
    Inline,
    /// Compressed, with indexes of 4 or 2 bytes.
    Compact,
    /// In chunks.
    Chunks,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    number: u64,
    offset: u64,
    /// Of the inode's own fields.
    length: u64,
    attributes: u64,
    pub(super) layout: Layout,
    kind: FileKind,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
    size: u64,
    /// The field whose meaning depends on the layout (`i_u`).
    pub(super) place: u32,
}

impl Inode {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it lies in the image.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its type.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Its permissions, with the set-user-ID and set-group-ID bits.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// How many names it has.
    pub fn links(&self) -> u32 {
        self.links
    }

    /// Its owner.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where its attributes begin, and how many bytes they have.
    pub(super) fn attributes(&self) -> (u64, u64) {
        (self.offset + self.length, self.attributes)
    }

    /// The offset of the data that belongs to the layout.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.length + self.attributes
    }

    /// Where `place` stands.
    pub(super) fn place_at(&self) -> u64 {
        self.offset + 0x10
    }

    /// Where the size stands.
    pub(super) fn size_at(&self) -> u64 {
        self.offset + 0x08
    }
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// Reads an inode; `at` is where its number stands.
    pub fn inode(&self, number: u64, at: u64) -> Result<Inode, D::Error> {
        let offset = number.checked_mul(32).and_then(|offset| offset.checked_add(self.inodes));
        // an offset that overflows is past the end as well
        let offset = offset.unwrap_or(u64::MAX);
        let head = self.bytes(offset, 32, at)?;
        let format = u16_at(&head, 0);
        let layout = match format >> 1 {
            0 => Layout::Plain,
            1 => Layout::Full,
            2 => Layout::Inline,
            3 => Layout::Compact,
            4 => Layout::Chunks,
            _ => return Err(self.fail(offset, Fault::InodeFormat(format))),
        };
        let extended = format & 1 != 0;
        let length = if extended { 64 } else { 32 };
        let bytes = if extended { self.bytes(offset, 64, at)? } else { head };
        let units = u64::from(u16_at(&bytes, 0x02));
        let mode = u16_at(&bytes, 0x04);
        let place = u32_at(&bytes, 0x10);
        // `new_decode_dev`
        let (major, minor) = ((place >> 8) & 0xfff, (place & 0xff) | (place >> 12) & 0xf_ff00);
        let kind = match mode & 0xf000 {
            0x8000 => FileKind::File,
            0x4000 => FileKind::Directory,
            0xa000 => FileKind::Link,
            0x2000 => FileKind::Character(major, minor),
            0x6000 => FileKind::Block(major, minor),
            0x1000 => FileKind::Pipe,
            0xc000 => FileKind::Socket,
            _ => return Err(self.fail(offset + 0x04, Fault::InodeMode(mode))),
        };
        let half = |offset| u32::from(u16_at(&bytes, offset));
        let (links, uid, gid, size) = match extended {
            true => {
                let word = |offset| u32_at(&bytes, offset);
                (word(0x2c), word(0x18), word(0x1c), u64_at(&bytes, 0x08))
            }
            false => (half(0x06), half(0x18), half(0x1a), u64::from(u32_at(&bytes, 0x08))),
        };
        // as a signed number it is negative
        if i64::try_from(size).is_err() {
            return Err(self.fail(offset + 0x08, Fault::Size(size)));
        }
        let attributes = if units == 0 { 0 } else { 12 + 4 * (units - 1) };
        self.contains(offset + length, attributes, offset + 0x02)?;
        let mode = u32::from(mode & 0o7777);
        Ok(Inode {
            number,
            offset,
            length,
            attributes,
            layout,
            kind,
            mode,
            links,
            uid,
            gid,
            size,
            place,
        })
    }
}
