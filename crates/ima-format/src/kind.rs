//! The content of a file, by its first bytes.
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | `ed ab ee db` | RPM package (`RPMLEAD_MAGIC`, rpm `lib/rpmlead.cc`) |
//! | 257 | `ustar` | tar archive (POSIX.1 pax and ustar, GNU) |
//! | 148 | octal sum of the first 512 bytes | tar archive, version 7 |
//! | 0 | `1f 8b` | gzip (RFC 1952) |
//! | 0 | `BZh1` to `BZh9` | bzip2 |
//! | 0 | `fd 37 7a 58 5a 00` | xz |
//! | 0 | `28 b5 2f fd` | Zstandard (RFC 8878) |
//! | 1080 | `53 ef` | ext2, ext3 or ext4 (`EXT4_SUPER_MAGIC`, `fs/ext4/ext4.h`) |
//! | 0 | `hsqs` | squashfs (`SQUASHFS_MAGIC`) |
//! | 1024 | `e2 e1 f5 e0` | erofs (`EROFS_SUPER_MAGIC_V1`) |
//! | 512 | `EFI PART` | disk with partitions (GPT) |
//! | 510 | `55 aa`, after a table whose first entry makes sense | disk with partitions (MBR, or GPT of any block size) |

use core::fmt;

use crate::superblock::is_ext;

/// How paths are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Files, and trees of them, on a mounted file system.
    Tree,
    /// RPM packages.
    Rpm,
    /// Tar archives, compressed or not.
    Tar,
    /// Images of file systems, and of disks with partitions.
    Image,
    /// Container images: OCI layouts and archives, and those of docker save.
    Oci,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Tree, Self::Rpm, Self::Tar, Self::Image, Self::Oci];

    /// The word for it on the command line, one of it, several of it.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Tree => ["tree", "a file or directory", "files and directories"],
            Self::Rpm => ["rpm", "an RPM package", "packages"],
            Self::Tar => ["tar", "a tar archive", "archives"],
            Self::Image => ["image", "an image of a file system or disk", "images"],
            Self::Oci => ["oci", "a container image", "container images"],
        }
    }

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        let [word, _, _] = self.names();
        word
    }

    /// Several of it, as in "tar archives".
    pub fn several(self) -> &'static str {
        let [_, _, several] = self.names();
        several
    }
}

/// One of it, as in "a tar archive".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, one, _] = self.names();
        f.write_str(one)
    }
}

spelled! {
    /// A form of compression.
    Compression {
        /// RFC 1952.
        Gzip = "gzip",
        /// bzip2.
        Bzip2 = "bzip2",
        /// xz.
        Xz = "xz",
        /// RFC 8878.
        Zstd = "zstd",
        /// The older `.lzma`, which has no magic number.
        Lzma = "lzma",
    }
}

/// The content of a file, as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An RPM package.
    Rpm,
    /// A tar archive.
    Tar,
    /// Something compressed.
    Compressed(Compression),
    /// An ext2, ext3 or ext4 file system.
    Ext,
    /// A squashfs file system.
    Squashfs,
    /// An erofs file system.
    Erofs,
    /// A disk with partitions.
    Disk,
}

/// How many bytes from the start of a file [`Content::of`] looks at.
pub const HEAD_SIZE: usize = 2048;

impl Content {
    /// The content of a file that begins with `head`, if it is one of these.
    pub fn of(head: &[u8]) -> Option<Self> {
        Self::all(head).next()
    }

    /// Everything that a file that begins with `head` could be read as. File systems come after
    /// the disk whose partition table they leave room for; any other two are there only if
    /// the file was made for two readers.
    pub fn all(head: &[u8]) -> impl Iterator<Item = Self> + '_ {
        let starts = |magic: &[u8]| head.starts_with(magic);
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
        };
        let bzip2 = matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', ..]);
        let contents = [
            (Self::Rpm, starts(&[0xed, 0xab, 0xee, 0xdb])),
            (Self::Compressed(Compression::Gzip), starts(&[0x1f, 0x8b])),
            (Self::Compressed(Compression::Bzip2), bzip2),
            (Self::Compressed(Compression::Xz), starts(&[0xfd, b'7', b'z', b'X', b'Z', 0])),
            (Self::Compressed(Compression::Zstd), starts(&[0x28, 0xb5, 0x2f, 0xfd])),
            (Self::Squashfs, starts(b"hsqs")),
            (Self::Tar, at(257, b"ustar") || is_v7_tar(head)),
            (Self::Disk, at(512, b"EFI PART") || is_mbr(head)),
            (Self::Erofs, at(1024, &[0xe2, 0xe1, 0xf5, 0xe0])),
            (Self::Ext, is_ext(head)),
        ];
        contents.into_iter().filter_map(|(content, found)| found.then_some(content))
    }
}

/// Formats that no command supports and that are easily mistaken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// LZ4: a frame (`04 22 4d 18`), or the kernel's older form (`02 21 4c 18`).
    Lz4,
    /// cpio: `070701`, `070702`, `070707`, or 070707 as a number of 16 bits.
    Cpio,
    /// A Debian package, or one of opkg: an `ar` archive of tar archives.
    Debian,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4 => "compressed by lz4, which is not supported",
            Self::Cpio => "a cpio archive, which cannot have attributes",
            Self::Debian => "a Debian or opkg package: its files are in archives inside it",
        })
    }
}

impl Foreign {
    /// The format of a file that begins with `head`, if it is one of these.
    pub fn of(head: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| head.starts_with(magic);
        if starts(&[0x04, 0x22, 0x4d, 0x18]) || starts(&[0x02, 0x21, 0x4c, 0x18]) {
            return Some(Self::Lz4);
        }
        if starts(b"!<arch>\ndebian-binary") {
            return Some(Self::Debian);
        }
        let number = starts(&[0xc7, 0x71]) || starts(&[0x71, 0xc7]);
        let text = [b"070701", b"070702", b"070707"].iter().any(|magic| starts(*magic));
        (number || text).then_some(Self::Cpio)
    }
}

/// A container of other containers: to change attributes of its own members, which are archives,
/// changes no file that is in these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nested {
    /// An OCI image layout (image-spec, `image-layout.md`), as a directory or an archive.
    OciLayout,
    /// The archive that `docker save` and `podman save` write.
    DockerSave,
    /// A package of opkg in its tar form.
    Opkg,
    /// An image in the directory form of skopeo (`dir:`).
    SkopeoDirectory,
    /// An ostree repository: attributes of files are parts of the digests of its objects.
    Ostree,
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OciLayout => "an OCI image layout",
            Self::DockerSave => "a container image of docker save",
            Self::Opkg => "an opkg package",
            Self::SkopeoDirectory => "a container image in the dir: form of skopeo",
            Self::Ostree => "an ostree repository",
        })
    }
}

impl Nested {
    /// The names of files in its top directory, one of which every such container has.
    pub const MARKERS: [&'static str; 5] =
        ["oci-layout", "manifest.json", "debian-binary", "version", "config"];
    /// How much of such a file [`Self::of`] looks at.
    pub const HEAD_SIZE: usize = 64 << 10;

    /// Whether a file with this name may identify its container.
    pub fn is_marker(name: &[u8]) -> bool {
        Self::MARKERS.iter().any(|marker| marker.as_bytes() == name)
    }

    /// The container that has a file with this name and content in its top directory.
    pub fn of(name: &[u8], content: &[u8]) -> Option<Self> {
        let content = content.get(..Self::HEAD_SIZE).unwrap_or(content);
        let has = |word: &[u8]| content.windows(word.len()).any(|window| window == word);
        match name {
            b"oci-layout" if has(b"\"imageLayoutVersion\"") => Some(Self::OciLayout),
            b"manifest.json" if has(b"\"Config\"") && has(b"\"Layers\"") => Some(Self::DockerSave),
            b"debian-binary" if content.starts_with(b"2.") => Some(Self::Opkg),
            b"version" if content.starts_with(b"Directory Transport Version: ") => {
                Some(Self::SkopeoDirectory)
            }
            b"config" if has(b"[core]") && has(b"repo_version=") => Some(Self::Ostree),
            _ => None,
        }
    }

    /// The advice: how its files can be signed.
    pub fn hint(self) -> &'static str {
        match self {
            Self::OciLayout | Self::DockerSave => {
                "an OCI layout, or an archive as it was saved, can be signed if it is named itself, \
                 without --kind (images cannot be streamed)"
            }
            Self::SkopeoDirectory => "skopeo copy dir:... oci:... writes a layout that can be signed",
            Self::Opkg => "sign the image or the root file system that packages are installed into",
            Self::Ostree => {
                "sign the files of a commit (ostree-ext-cli ima-sign), or the root before it is \
                 committed"
            }
        }
    }
}

/// Whether a partition table is there: entries that are active or not, and one that is used.
fn is_mbr(head: &[u8]) -> bool {
    let entries = head.get(446..510).unwrap_or_default();
    let mut entries = entries.chunks(16);
    let sane = entries.clone().all(|entry| matches!(entry.first(), Some(0 | 0x80)));
    let used = entries.any(|entry| {
        let kind = entry.get(4).copied().unwrap_or_default();
        let size = entry.get(12..16).unwrap_or_default();
        kind != 0 && size.iter().any(|byte| *byte != 0)
    });
    sane && used && head.get(510..512) == Some(&[0x55, 0xaa])
}

/// Whether a tar header of version 7 is there, which has a check sum and no magic number.
fn is_v7_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    let Some(field) = header.get(148..156) else { return false };
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let mut declared = 0_u32;
    let mut count = 0;
    for digit in digits.take_while(|byte| (b'0'..=b'7').contains(byte)) {
        declared = declared * 8 + u32::from(digit - b'0'); // at most eight digits
        count += 1;
    }
    let sum = |bytes: &[u8]| bytes.iter().copied().map(u32::from).sum::<u32>();
    // the sum is made with blanks in its own field
    let computed = sum(header) - sum(field) + 8 * u32::from(b' ');
    count > 0 && header.first() != Some(&0) && declared == computed
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn at(offset: usize, magic: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD_SIZE];
        head[offset..offset + magic.len()].copy_from_slice(magic);
        head
    }

    #[test]
    fn each_magic_number_is_known() {
        for (head, expected) in [
            (at(0, b"\xed\xab\xee\xdb\x03"), Content::Rpm),
            (at(257, b"ustar\x0000"), Content::Tar),
            (at(257, b"ustar  \0"), Content::Tar),
            (b"\x1f\x8b\x08".to_vec(), Content::Compressed(Compression::Gzip)),
            (b"BZh9".to_vec(), Content::Compressed(Compression::Bzip2)),
            (b"\xfd7zXZ\0".to_vec(), Content::Compressed(Compression::Xz)),
            (b"\x28\xb5\x2f\xfd".to_vec(), Content::Compressed(Compression::Zstd)),
            (b"hsqs".to_vec(), Content::Squashfs),
            (at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), Content::Erofs),
        ] {
            assert_eq!(Content::of(&head), Some(expected));
        }
        for head in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", b"BZh0", &[0; HEAD_SIZE]] {
            assert_eq!(Content::of(head), None, "{head:?}");
        }
    }

    #[test]
    fn a_partition_table_has_entries_that_make_sense() {
        let mut mbr = at(510, &[0x55, 0xaa]);
        assert_eq!(Content::of(&mbr), None, "a boot sector without partitions");
        (mbr[446], mbr[450], mbr[459]) = (0x80, 0x83, 1);
        assert_eq!(Content::of(&mbr), Some(Content::Disk));
        mbr[462] = 0x7f;
        assert_eq!(Content::of(&mbr), None, "no table");
        assert_eq!(Content::of(&at(512, b"EFI PART")), Some(Content::Disk));
    }

    #[test]
    fn containers_of_containers_are_known_by_one_of_their_files() {
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let saved = br#"[{"Config":"a.json","RepoTags":null,"Layers":["b/layer.tar"]}]"#;
        for (name, content, expected) in [
            (&b"oci-layout"[..], &layout[..], Some(Nested::OciLayout)),
            (b"manifest.json", saved, Some(Nested::DockerSave)),
            (b"debian-binary", b"2.0\n", Some(Nested::Opkg)),
            (b"version", b"Directory Transport Version: 1.1\n", Some(Nested::SkopeoDirectory)),
            (b"config", b"[core]\nrepo_version=1\nmode=bare\n", Some(Nested::Ostree)),
            (b"config", b"[core]\n\trepositoryformatversion = 0\n", None),
            (b"version", b"1.1\n", None),
            (b"manifest.json", br#"{"name": "of a web application"}"#, None),
            (b"oci-layout", b"#!/bin/sh\n", None),
            (b"usr/oci-layout", layout, None),
        ] {
            assert_eq!(Nested::of(name, content), expected);
        }
    }

    #[test]
    fn what_is_foreign_is_known() {
        assert_eq!(Foreign::of(b"\x04\x22\x4d\x18"), Some(Foreign::Lz4));
        assert_eq!(Foreign::of(b"070701"), Some(Foreign::Cpio));
        assert_eq!(Foreign::of(&[0; HEAD_SIZE]), None);
    }

    #[test]
    fn a_version_7_header_is_told_by_its_sum() {
        let mut head = at(0, b"a-file");
        let sum = head.iter().copied().map(u32::from).sum::<u32>() + 8 * 32;
        head[148..156].copy_from_slice(std::format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(Content::of(&head), Some(Content::Tar));
        head[0] = b'b';
        assert_eq!(Content::of(&head), None);
    }

    #[test]
    fn a_superblock_is_more_than_its_magic_number() {
        let mut head = at(1024 + 56, &[0x53, 0xef]);
        assert_eq!(Content::of(&head), None);
        (head[1024], head[1028], head[1024 + 24], head[1024 + 76]) = (16, 64, 2, 1);
        assert_eq!(Content::of(&head), Some(Content::Ext));
    }
}
