//! The archive that the kernel unpacks as its initramfs: cpio, "newc".
//!
//! Mirrors `Documentation/driver-api/early-userspace/buffer-format.rst` and
//! `init/initramfs.c` (Linux 6.12).
//!
//! | bytes | field |
//! |---|---|
//! | 6 | `070701` |
//! | 13 × 8 | hexadecimal: inode, mode, uid, gid, links, mtime, size, device major, minor, device node's major, minor, size of the name with its NUL, check |
//! | name size | name and NUL, padded so that the header with the name is a multiple of 4 |
//! | size | content, padded to a multiple of 4 |
//!
//! The entry named `TRAILER!!!` is the last. The kernel takes nothing before a directory that
//! is not there: directories come before what is in them. Extended attributes have no place.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

/// `S_IFDIR`, `S_IFREG`, `S_IFCHR` of `include/uapi/linux/stat.h`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The entry after the last one: no inode, one link, a name of eleven bytes.
const TRAILER: &[u8] = b"070701\
    00000000000000000000000000000000000000010000000000000000\
    000000000000000000000000000000000000000b00000000TRAILER!!!\0\0\0\0";

/// Writes an archive whose entries belong to root and have no time: the same entries give
/// the same bytes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    inode: u32,
}

/// A file has 4 GiB or more, or a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("4 GiB or more do not fit into a cpio archive")
    }
}

#[cfg(feature = "std")]
impl std::error::Error for TooLarge {}

impl Writer {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; `name` is relative: `etc/keys`.
    pub fn directory(&mut self, name: &[u8], permissions: u32) -> Result<(), TooLarge> {
        self.entry(name, DIRECTORY | permissions, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &[u8], permissions: u32, content: &[u8]) -> Result<(), TooLarge> {
        self.entry(name, REGULAR | permissions, (0, 0), content)
    }

    /// Adds the node of a character device.
    pub fn character_device(
        &mut self,
        name: &[u8],
        permissions: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), TooLarge> {
        self.entry(name, CHARACTER_DEVICE | permissions, (major, minor), &[])
    }

    /// The archive, with its trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(TRAILER);
        self.bytes
    }

    fn entry(
        &mut self,
        name: &[u8],
        mode: u32,
        (major, minor): (u32, u32),
        content: &[u8],
    ) -> Result<(), TooLarge> {
        let name_size = u32::try_from(name.len() + 1).map_err(|_| TooLarge)?;
        let size = u32::try_from(content.len()).map_err(|_| TooLarge)?;
        self.inode += 1;
        self.bytes.extend_from_slice(b"070701");
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_trailer_is_the_last() {
        let mut archive = Writer::new();
        archive.directory(b"etc", 0o755).unwrap();
        archive.file(b"etc/five", 0o400, b"12345").unwrap();
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let directory = b"070701\
            00000001000041ed00000000000000000000000100000000000000000000000000000000\
            00000000000000000000000400000000etc\0\0\0";
        assert_eq!(&bytes[..directory.len()], directory);
        assert_eq!(bytes[directory.len()..][..6], *b"070701");
        assert_eq!(&bytes[bytes.len() - TRAILER.len() - 8..][..8], b"12345\0\0\0");
        assert!(bytes.ends_with(TRAILER));
        assert_eq!(TRAILER.len(), 6 + 13 * 8 + 14);
    }
}
