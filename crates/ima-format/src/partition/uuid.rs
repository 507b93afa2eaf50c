//! A partition's PARTUUID, from the partition table of its disk.
//!
//! Mirrors what `block/partitions/efi.c` and `msdos.c` give the kernel's own `root=PARTUUID=`:
//! the unique GUID of the entry for GPT, `SSSSSSSS-NN` (disk signature, partition number) for
//! MBR. Extended partitions need no reading: they share the disk's signature.
//!
//! | structure | at | what |
//! |---|---|---|
//! | MBR | 440 | disk signature, little-endian |
//! | MBR | 450 | type of the first entry; 0xee: protective, there is a GPT |
//! | MBR | 510 | `55 aa` |
//! | GPT header, in block 1 | 0 | `EFI PART` |
//! | | 72, 80, 84 | block of the entries, how many, size of one |
//! | GPT entry | 16 | unique GUID: its first three fields are little-endian |

use alloc::string::String;

use crate::superblock::hyphenated;

/// Bytes of a disk by offset, as many as asked for or none.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> Option<()>;

/// The PARTUUID of partition `number` (from 1) of a disk with blocks of `block_size` bytes.
pub fn partuuid(read: ReadAt<'_>, block_size: u64, number: u32) -> Option<String> {
    let mut mbr = [0; 512];
    read(0, &mut mbr)?;
    if mbr.get(510..) != Some(b"\x55\xaa") {
        return None;
    }
    let protective = mbr.get(450) == Some(&0xee);
    if protective {
        return gpt_entry(read, block_size, number);
    }
    let signature = u32::from_le_bytes(array(&mbr, 440)?);
    Some(alloc::format!("{signature:08x}-{number:02x}"))
}

fn gpt_entry(read: ReadAt<'_>, block_size: u64, number: u32) -> Option<String> {
    let mut header = [0; 92];
    read(block_size, &mut header)?;
    let first = u64::from_le_bytes(array(&header, 72)?);
    let count = u32::from_le_bytes(array(&header, 80)?);
    let size = u32::from_le_bytes(array(&header, 84)?);
    let index = number.checked_sub(1)?;
    if header.get(..8) != Some(b"EFI PART") || index >= count || size < 128 {
        return None;
    }
    let offset = first.checked_mul(block_size)?.checked_add(u64::from(index) * u64::from(size))?;
    let mut entry = [0; 32];
    read(offset, &mut entry)?;
    guid(entry.get(16..)?)
}

/// The usual spelling of a GUID, whose first three fields are little-endian.
pub(super) fn guid(bytes: &[u8]) -> Option<String> {
    let mut guid: [u8; 16] = array(bytes, 0)?;
    for range in [0..4, 4..6, 6..8] {
        guid.get_mut(range)?.reverse();
    }
    hyphenated(&guid)
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.get(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn partuuid_of(disk: &[u8], block_size: u64, number: u32) -> Option<String> {
        let read = |offset: u64, buffer: &mut [u8]| {
            let offset = usize::try_from(offset).ok()?;
            buffer.copy_from_slice(disk.get(offset..)?.get(..buffer.len())?);
            Some(())
        };
        partuuid(&read, block_size, number)
    }

    fn mbr(first_type: u8) -> Vec<u8> {
        let mut disk = vec![0; 64 * 1024];
        disk[440..444].copy_from_slice(&0x00c0_ffee_u32.to_le_bytes());
        disk[450] = first_type;
        disk[510..512].copy_from_slice(b"\x55\xaa");
        disk
    }

    fn gpt(block_size: usize, entry_size: u32) -> Vec<u8> {
        let mut disk = mbr(0xee);
        let header = &mut disk[block_size..];
        header[..8].copy_from_slice(b"EFI PART");
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&4_u32.to_le_bytes());
        header[84..88].copy_from_slice(&entry_size.to_le_bytes());
        let second = 2 * block_size + entry_size as usize;
        let guid = b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        disk[second + 16..second + 32].copy_from_slice(guid);
        disk
    }

    #[test]
    fn mbr_has_the_disk_signature_and_the_number() {
        assert_eq!(partuuid_of(&mbr(0x83), 512, 2).as_deref(), Some("00c0ffee-02"));
        assert_eq!(partuuid_of(&mbr(0x83), 512, 12).as_deref(), Some("00c0ffee-0c"));
    }

    #[test]
    fn gpt_has_a_guid_for_each_entry() {
        let guid = Some("00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(partuuid_of(&gpt(512, 128), 512, 2).as_deref(), guid);
        assert_eq!(partuuid_of(&gpt(4096, 256), 4096, 2).as_deref(), guid);
        assert_eq!(partuuid_of(&gpt(512, 128), 512, 1), None, "an unused entry");
    }

    #[test]
    fn rejects_what_is_no_table() {
        assert_eq!(partuuid_of(&[0; 4096], 512, 1), None);
        assert_eq!(partuuid_of(b"short", 512, 1), None);
        assert_eq!(partuuid_of(&gpt(512, 128), 512, 5), None, "more than there are entries");
        assert_eq!(partuuid_of(&gpt(512, 128), 512, 0), None);
        assert_eq!(partuuid_of(&gpt(512, 64), 512, 2), None, "entries too small");
        let mut far = gpt(512, 128);
        far[512 + 72..512 + 80].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(partuuid_of(&far, 512, 2), None, "entries beyond the disk");
    }
}
