//! Disks with partitions, for the kernel's `block/partitions/msdos.c` and `efi.c`.

use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::Image;

const SECTOR: u64 = 512;
/// The first sector of the first partition, and its size in sectors; it has no content.
const FIRST: u64 = 2048;
const FIRST_SIZE: u64 = 2048;
/// The first sector of the second partition, which has the file system.
const SECOND: u64 = FIRST + FIRST_SIZE;
/// The sectors of header and entries of a GPT.
const GPT_SECTORS: u64 = 33;

/// A partition table.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    /// MBR, with this disk signature.
    Mbr(u32),
    /// GPT; the second partition has this GUID, in the order of its text, and this name.
    Gpt([u8; 16], &'static str),
}

impl Image {
    /// A disk with two partitions: an empty one, and one with this file system.
    pub fn partitioned(table: Table, root: &Self) -> Result<Self> {
        let content = std::fs::read(root.path()).context("read the root disk")?;
        let sectors = (content.len() as u64).div_ceil(SECTOR);
        let disk = Self::blank((SECOND + sectors + GPT_SECTORS) * SECTOR)?;
        let file = disk.file.as_file();
        file.write_all_at(&content, SECOND * SECTOR)?;
        match table {
            Table::Mbr(signature) => {
                let parts = [(0x83, FIRST, FIRST_SIZE), (0x83, SECOND, sectors)];
                file.write_all_at(&mbr(signature, &parts), 0)?;
            }
            Table::Gpt(guid, name) => {
                let last = SECOND + sectors + GPT_SECTORS - 1;
                // the protective MBR: one partition over the whole disk
                file.write_all_at(&mbr(0, &[(0xee, 1, last)]), 0)?;
                let mut entries = vec![0; 128 * 128];
                entry(&mut entries[..128], [1; 16], FIRST, FIRST_SIZE, "first");
                entry(&mut entries[128..256], guid, SECOND, sectors, name);
                file.write_all_at(&header(&entries, last), SECTOR)?;
                file.write_all_at(&entries, 2 * SECTOR)?;
            }
        }
        Ok(disk)
    }
}

fn mbr(signature: u32, partitions: &[(u8, u64, u64)]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    // type, first sector and size; the CHS fields stay 0
    for (index, (kind, start, size)) in partitions.iter().enumerate() {
        let entry = &mut sector[446 + 16 * index..][..16];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&(*start as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&(*size as u32).to_le_bytes());
    }
    sector[510..].copy_from_slice(b"\x55\xaa");
    sector
}

fn entry(entry: &mut [u8], guid: [u8; 16], start: u64, size: u64, name: &str) {
    // the type GUID of Linux file system data
    let kind = b"\x0f\xc6\x3d\xaf\x84\x83\x47\x72\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
    entry[..16].copy_from_slice(&mixed(*kind));
    entry[16..32].copy_from_slice(&mixed(guid));
    entry[32..40].copy_from_slice(&start.to_le_bytes());
    entry[40..48].copy_from_slice(&(start + size - 1).to_le_bytes());
    for (place, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

/// Converts a GUID from text order: its first three fields are little-endian on disk.
fn mixed(mut guid: [u8; 16]) -> [u8; 16] {
    for range in [0..4, 4..6, 6..8] {
        guid[range].reverse();
    }
    guid
}

fn header(entries: &[u8], last: u64) -> Vec<u8> {
    // signature, revision and size; checksum; own LBA, that of the backup (which is not written), first and last
    // usable LBA; the disk's GUID; LBA, number, size and checksum of the entries
    let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
    header.extend([0; 8]); // the header's checksum, filled in below, and reserved
    for number in [1, last, 2 + GPT_SECTORS - 1, last - GPT_SECTORS] {
        header.extend(number.to_le_bytes());
    }
    header.extend([2; 16]); // the disk's GUID
    header.extend(2_u64.to_le_bytes());
    header.extend([128, 128, crc32(entries)].map(u32::to_le_bytes).concat());
    let checksum = crc32(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The CRC-32 of Ethernet, gzip and GPT.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
