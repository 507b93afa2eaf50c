//! The file system of a block device: its type, UUID and label, from the superblock.
//!
//! | file system | magic, at | UUID at | label at, size | kernel source |
//! |---|---|---|---|---|
//! | ext2, 3, 4 | `53 ef`, 0x438 | 0x468 | 0x478, 16 | `fs/ext4/ext4.h` |
//! | xfs | `XFSB`, 0 | 0x20 | 0x6c, 12 | `fs/xfs/libxfs/xfs_format.h` |
//! | btrfs | `_BHRfS_M`, 0x10040 | 0x10020 | 0x1012b, 256 | `fs/btrfs/accessors.h` |
//! | f2fs | `10 20 f5 f2`, 0x400 | 0x46c | 0x47c, UTF-16 | `include/linux/f2fs_fs.h` |
//! | erofs | `e2 e1 f5 e0`, 0x400 | 0x430 | 0x440, 16 | `fs/erofs/erofs_fs.h` |
//! | squashfs | `hsqs`, 0 | - | - | `fs/squashfs/squashfs_fs.h` |
//! | FAT32 | `FAT32   `, 0x52 | 0x43, 4 bytes | 0x47, 11 | `fs/fat`, `msdos_fs.h` |
//! | FAT12, 16 | `FAT1`, 0x36 | 0x27, 4 bytes | 0x2b, 11 | the same |
//!
//! Not a file system, as blkid calls it:
//!
//! | content | magic, at |
//! |---|---|
//! | LUKS | `LUKS\xba\xbe`, 0 |
//! | LVM physical volume | `LABELONE` at one of the first four sectors, with `LVM2 001` 24 bytes on |
//! | swap | `SWAPSPACE2`, 0xff6 (pages of 4 KiB) |
//! | dm-verity hash tree | `verity`, NUL, NUL, 0 |
//! | md array | `fc 4e 2b a9`, at one of [`array_offsets`] |

use alloc::string::String;
use alloc::vec::Vec;

/// How much of a device's beginning [`identify`] looks at.
pub const HEAD_SIZE: usize = 0x1000;
/// Where btrfs has its superblock, and how much of that is looked at.
pub const BTRFS_OFFSET: u64 = 0x10000;

/// A recognized file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Names under which the kernel may mount it, the best first.
    pub types: &'static [&'static str],
    /// The UUID in its usual spelling; `XXXX-XXXX` for FAT.
    pub uuid: Option<String>,
    /// The label, without padding.
    pub label: Option<Vec<u8>>,
}

/// Recognizes a file system by the device's first [`HEAD_SIZE`] bytes and as many at
/// [`BTRFS_OFFSET`]; either may be shorter. The first of several.
pub fn identify(head: &[u8], at_btrfs: &[u8]) -> Option<Superblock> {
    all(head, at_btrfs).next()
}

/// All file systems that a device could be mounted as. More than one is left of an earlier use,
/// or made for a reader to see other files than the kernel.
pub fn all<'a>(head: &'a [u8], at_btrfs: &'a [u8]) -> impl Iterator<Item = Superblock> + 'a {
    TYPES.iter().filter_map(|recognize| recognize(head, at_btrfs))
}

/// Recognizes file systems of one type, as [`identify`].
type Recognize = fn(&[u8], &[u8]) -> Option<Superblock>;

const TYPES: [Recognize; 8] = [ext, xfs, squashfs, erofs, f2fs, btrfs, fat32, fat];

fn ext(head: &[u8], _: &[u8]) -> Option<Superblock> {
    is_ext(head).then(|| Superblock {
        types: &["ext4", "ext3", "ext2"],
        uuid: uuid(head, 0x468),
        label: label(head, 0x478, 16),
    })
}

fn xfs(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (uuid(head, 0x20), label(head, 0x6c, 12));
    is(head, 0, b"XFSB").then_some(Superblock { types: &["xfs"], uuid, label })
}

fn squashfs(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let found = Superblock { types: &["squashfs"], uuid: None, label: None };
    is(head, 0, b"hsqs").then_some(found)
}

fn erofs(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (uuid(head, 0x430), label(head, 0x440, 16));
    is(head, 0x400, b"\xe2\xe1\xf5\xe0").then_some(Superblock { types: &["erofs"], uuid, label })
}

fn f2fs(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (uuid(head, 0x46c), utf16_label(head, 0x47c, 512));
    is(head, 0x400, b"\x10\x20\xf5\xf2").then_some(Superblock { types: &["f2fs"], uuid, label })
}

fn btrfs(_: &[u8], at_btrfs: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (uuid(at_btrfs, 0x20), label(at_btrfs, 0x12b, 256));
    is(at_btrfs, 0x40, b"_BHRfS_M").then_some(Superblock { types: &["btrfs"], uuid, label })
}

fn fat32(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (fat_serial(head, 0x43), fat_label(head, 0x47));
    is(head, 0x52, b"FAT32   ").then_some(Superblock { types: &["vfat"], uuid, label })
}

fn fat(head: &[u8], _: &[u8]) -> Option<Superblock> {
    let (uuid, label) = (fat_serial(head, 0x27), fat_label(head, 0x2b));
    is(head, 0x36, b"FAT1").then_some(Superblock { types: &["vfat"], uuid, label })
}

/// Whether a superblock of ext2, ext3 or ext4 is there. The magic number is short, and what is
/// treated as an image is not signed as a program: a few more fields have to fit.
pub(crate) fn is_ext(head: &[u8]) -> bool {
    let word = |offset: usize| {
        let bytes = field(head, 0x400 + offset, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (inodes, blocks) = (word(0), word(4));
    let (first_data_block, log_block_size, revision) = (word(20), word(24), word(76));
    is(head, 0x438, b"\x53\xef")
        && inodes.is_some_and(|count| count > 0)
        && blocks.is_some_and(|count| count > 0)
        && first_data_block.is_some_and(|block| block <= 1)
        && log_block_size.is_some_and(|log| log <= 6)
        && revision.is_some_and(|revision| revision <= 1)
}

/// Where a member of an md array has its superblock: versions 0.90, 1.0, 1.1 and 1.2
/// (`calc_dev_sboffset` and `super_1_load` in `drivers/md/md.c`). Those of the first two are at
/// the end: the content of the array begins where the member begins, and looks as if it stood alone.
pub fn array_offsets(size: u64) -> [Option<u64>; 4] {
    const RESERVED: u64 = 64 << 10;
    let end = (size & !(RESERVED - 1)).checked_sub(RESERVED);
    let old_end = (size / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    [end, old_end, Some(0), Some(4096)]
}

/// How a superblock of an md array begins (`MD_SB_MAGIC`, `md_p.h`): version 0.90 in the byte
/// order of the machine, the others in little-endian order.
pub fn is_array(superblock: &[u8]) -> bool {
    const MAGIC: u32 = 0xa92b_4efc;
    [MAGIC.to_le_bytes(), MAGIC.to_be_bytes()].iter().any(|magic| superblock.starts_with(magic))
}

/// Recognizes content other than file systems by the first [`HEAD_SIZE`] bytes.
pub fn member(head: &[u8]) -> Option<&'static str> {
    let is = |offset: usize, magic: &[u8]| is(head, offset, magic);
    let is_lvm =
        |sector: usize| is(512 * sector, b"LABELONE") && is(512 * sector + 24, b"LVM2 001");
    Some(match head {
        _ if is(0, b"LUKS\xba\xbe") => "LUKS",
        _ if (0..4).any(is_lvm) => "LVM",
        _ if is(0xff6, b"SWAPSPACE2") => "swap",
        _ if is(0, b"verity\0\0") => "dm-verity hash tree",
        _ => return None,
    })
}

fn is(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    field(bytes, offset, magic.len()) == Some(magic)
}

fn field(bytes: &[u8], offset: usize, size: usize) -> Option<&[u8]> {
    bytes.get(offset..)?.get(..size)
}

/// `00112233-4455-6677-8899-aabbccddeeff` of 16 bytes in this order; none if all are zero.
pub fn hyphenated(bytes: &[u8; 16]) -> Option<String> {
    if bytes.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&alloc::format!("{byte:02x}"));
    }
    Some(text)
}

fn uuid(bytes: &[u8], offset: usize) -> Option<String> {
    hyphenated(field(bytes, offset, 16)?.try_into().ok()?)
}

fn fat_serial(bytes: &[u8], offset: usize) -> Option<String> {
    let serial: [u8; 4] = field(bytes, offset, 4)?.try_into().ok()?;
    let [a, b, c, d] = serial;
    Some(alloc::format!("{d:02X}{c:02X}-{b:02X}{a:02X}"))
}

/// A label ends at the first NUL or at the field's end.
fn label(bytes: &[u8], offset: usize, size: usize) -> Option<Vec<u8>> {
    let label = field(bytes, offset, size)?.split(|&byte| byte == 0).next()?;
    (!label.is_empty()).then(|| label.into())
}

fn fat_label(bytes: &[u8], offset: usize) -> Option<Vec<u8>> {
    let label = label(bytes, offset, 11)?;
    let end = label.iter().rposition(|&byte| byte != b' ')? + 1;
    let label = label.get(..end)?;
    (label != b"NO NAME").then(|| label.into())
}

fn utf16_label(bytes: &[u8], offset: usize, units: usize) -> Option<Vec<u8>> {
    let units = field(bytes, offset, units * 2)?
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok())
        .map(u16::from_le_bytes)
        .take_while(|&unit| unit != 0);
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    (!text.is_empty()).then(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = alloc::vec![0; HEAD_SIZE];
        for (offset, bytes) in fields {
            head[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    const UUID: &[u8; 16] = b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    const HYPHENATED: &str = "00112233-4455-6677-8899-aabbccddeeff";

    const EXT: [(usize, &[u8]); 3] = [(0x400, b"\x10"), (0x404, b"\x40"), (0x438, b"\x53\xef")];

    #[test]
    fn ext4_has_uuid_and_label() {
        let head = head(&[&EXT[..], &[(0x468, UUID), (0x478, b"my root")]].concat());
        let superblock = identify(&head, &[]).unwrap();
        assert_eq!(superblock.types[0], "ext4");
        assert_eq!(superblock.uuid.as_deref(), Some(HYPHENATED));
        assert_eq!(superblock.label.as_deref(), Some(&b"my root"[..]));
    }

    #[test]
    fn a_label_may_fill_its_field() {
        let head = head(&[(0, b"XFSB"), (0x20, UUID), (0x6c, b"twelve chars+uuid")]);
        let superblock = identify(&head, &[]).unwrap();
        assert_eq!(superblock.label.as_deref(), Some(&b"twelve chars"[..]));
    }

    #[test]
    fn btrfs_is_looked_for_at_64_kib() {
        let at_btrfs = head(&[(0x40, b"_BHRfS_M"), (0x20, UUID), (0x12b, b"pool")]);
        let superblock = identify(&head(&[]), &at_btrfs).unwrap();
        assert_eq!(
            (superblock.types, superblock.uuid.as_deref()),
            (&["btrfs"][..], Some(HYPHENATED))
        );
    }

    #[test]
    fn fat_has_a_serial_number_and_a_padded_label() {
        let fat32 =
            head(&[(0x52, b"FAT32   "), (0x43, b"\x78\x56\x34\x12"), (0x47, b"EFI        ")]);
        let superblock = identify(&fat32, &[]).unwrap();
        assert_eq!(superblock.uuid.as_deref(), Some("1234-5678"));
        assert_eq!(superblock.label.as_deref(), Some(&b"EFI"[..]));
        let fat16 = head(&[(0x36, b"FAT16   "), (0x2b, b"NO NAME    ")]);
        assert_eq!(identify(&fat16, &[]).unwrap().label, None);
    }

    #[test]
    fn f2fs_labels_are_utf_16() {
        let head = head(&[(0x400, b"\x10\x20\xf5\xf2"), (0x46c, UUID), (0x47c, b"d\0\xe4\0\0\0")]);
        let superblock = identify(&head, &[]).unwrap();
        assert_eq!(superblock.label.as_deref(), Some("d\u{e4}".as_bytes()));
    }

    #[test]
    fn a_short_or_empty_device_is_nothing() {
        assert_eq!(identify(&[], &[]), None);
        assert_eq!(identify(b"XFS", &[]), None);
        let squashfs = identify(b"hsqs", &[]).unwrap();
        assert_eq!((squashfs.types[0], squashfs.uuid), ("squashfs", None));
        assert_eq!(identify(&head(&EXT), &[]).unwrap().uuid, None);
        assert_eq!(identify(&head(&EXT[2..]), &[]), None, "a magic number alone");
    }

    #[test]
    fn a_device_can_be_mounted_as_several() {
        let head = head(&[&EXT[..], &[(0, b"hsqs"), (0x36, b"FAT16   ")]].concat());
        let names: Vec<_> = all(&head, &[]).map(|found| found.types[0]).collect();
        assert_eq!(names, ["ext4", "squashfs", "vfat"]);
    }

    #[test]
    fn the_superblock_of_an_array_has_four_places() {
        assert_eq!(array_offsets(0), [None, None, Some(0), Some(4096)]);
        let size = (1 << 20) + 5000;
        let expected = [Some((1 << 20) - (64 << 10)), Some((1 << 20) - 4096), Some(0), Some(4096)];
        assert_eq!(array_offsets(size), expected);
    }
}
