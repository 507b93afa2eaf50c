//! GUID partition table (UEFI specification, chapter 5).
//!
//! | header at | bytes | contents |
//! |---|---|---|
//! | 0 | 8 | `EFI PART` |
//! | 12, 16 | 4, 4 | size of the header (92 or more), its CRC-32 with this field as zero |
//! | 24, 32 | 8, 8 | block of this header, block of the other one |
//! | 40, 48 | 8, 8 | first and last block that partitions may use |
//! | 56 | 16 | GUID of the disk |
//! | 72, 80, 84, 88 | 8, 4, 4, 4 | first block of the entries, how many, size of one (128), their CRC-32 |
//!
//! | entry at | bytes | contents |
//! |---|---|---|
//! | 0 | 16 | GUID of its type; all zero: not used |
//! | 16 | 16 | GUID of the partition |
//! | 32, 40 | 8, 8 | first and last block |
//! | 56 | 72 | name, UTF-16 |

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::uuid::guid;
use super::{check_ranges, Fault, Partition, Table, TableFormat, Used, SECTOR};
use crate::ext4::{u16_at, u32_at, Disk};

const MAGIC: &[u8; 8] = b"EFI PART";
const HEADER_SIZE: u32 = 92;
/// The kernel takes no other size.
const ENTRY_SIZE: u32 = 128;
/// The kernel gives numbers to no more.
const ENTRIES_MAX: u32 = 256;

/// The block sizes for which there is a header, and whether there is one at the end of the disk.
pub(super) fn find<D: Disk>(disk: &D) -> Result<(Vec<u64>, bool), D::Error> {
    let is_header = |offset: u64| {
        let mut magic = [0; MAGIC.len()];
        if offset.saturating_add(SECTOR) > disk.size() {
            return Ok(false);
        }
        disk.read(offset, &mut magic).map(|()| magic == *MAGIC)
    };
    let (mut found, mut backup) = (Vec::new(), false);
    for block_size in [SECTOR, 4096] {
        if is_header(block_size)? {
            found.push(block_size);
        }
        let last = (disk.size() / block_size).saturating_sub(1) * block_size;
        backup |= is_header(last)?;
    }
    Ok((found, backup))
}

/// CRC-32 of IEEE 802.3, as `efi_crc32()` of the kernel computes it.
fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes.get(offset..offset + 8).and_then(|field| field.try_into().ok());
    field.map(u64::from_le_bytes).unwrap_or_default()
}

struct Header {
    bytes: [u8; HEADER_SIZE as usize],
    /// In bytes.
    at: u64,
    block_size: u64,
}

impl Header {
    fn word(&self, offset: usize) -> u32 {
        u32_at(&self.bytes, offset).unwrap_or_default()
    }

    /// A block's number as an offset in bytes.
    fn block(&self, field: usize) -> Option<u64> {
        u64_at(&self.bytes, field).checked_mul(self.block_size)
    }

    /// Reads the header at an offset and checks it as `is_gpt_valid()` does.
    fn read<D: Disk>(disk: &D, at: u64, block_size: u64) -> Result<Self, D::Error> {
        let fail = |offset: u64, fault: Fault| disk.malformed(at + offset, fault.into());
        let mut block = vec![0; block_size as usize];
        if at.checked_add(block_size).map_or(true, |end| end > disk.size()) {
            return Err(disk.malformed(at, Fault::Header("position").into()));
        }
        disk.read(at, &mut block)?;
        let mut bytes = [0; HEADER_SIZE as usize];
        // a block is larger
        bytes.iter_mut().zip(&block).for_each(|(to, from)| *to = *from);
        let header = Self { bytes, at, block_size };
        let size = header.word(12);
        let covered = usize::try_from(size).ok().and_then(|size| block.get(20..size));
        let Some(covered) = covered.filter(|_| size >= HEADER_SIZE) else {
            return Err(fail(12, Fault::Header("size")));
        };
        let start = header.bytes.get(..16).unwrap_or_default();
        let (stored, computed) = (header.word(16), crc32(&[start, &[0; 4], covered]));
        if stored != computed {
            return Err(fail(16, Fault::Checksum { of: "header", stored, computed }));
        }
        let (first, last) = (header.block(40), header.block(48));
        for (good, offset, field) in [
            (header.bytes.starts_with(MAGIC), 0, "magic number"),
            (header.block(24) == Some(at), 24, "block of its own"),
            (first.is_some() && first <= last, 40, "first usable block"),
            (last.is_some_and(|last| last < disk.size()), 48, "last usable block"),
            (header.word(80) <= ENTRIES_MAX, 80, "number of entries"),
            (header.word(84) == ENTRY_SIZE, 84, "size of an entry"),
        ] {
            if !good {
                return Err(fail(offset, Fault::Header(field)));
            }
        }
        Ok(header)
    }

    /// Where its entries are: offset and size.
    fn entries_range<D: Disk>(&self, disk: &D) -> Result<Used, D::Error> {
        let start = self.block(72).unwrap_or(u64::MAX);
        let end = start.saturating_add(u64::from(self.word(80)) * u64::from(ENTRY_SIZE));
        let used = Used { start, end, stated_at: self.at + 72, number: 0 };
        check_ranges(disk, vec![used])?;
        Ok(used)
    }

    /// Reads its entries, and checks their sum.
    fn entries<D: Disk>(&self, disk: &D) -> Result<Vec<u8>, D::Error> {
        let Used { start, end, .. } = self.entries_range(disk)?;
        let mut entries = vec![0; (end - start) as usize]; // at most 256 entries
        disk.read(start, &mut entries)?;
        let (stored, computed) = (self.word(88), crc32(&[&entries]));
        match stored == computed {
            true => Ok(entries),
            false => {
                let fault = Fault::Checksum { of: "entries", stored, computed };
                Err(disk.malformed(self.at + 88, fault.into()))
            }
        }
    }
}

/// Reads the partitions of a GPT, and compares its backup.
pub(super) fn read<D: Disk>(disk: &D, block_size: u64) -> Result<Table, D::Error> {
    let header = Header::read(disk, block_size, block_size)?;
    let entries = header.entries(disk)?;
    let backup = check_backup(disk, &header, &entries)?;
    let table = [
        Used { start: 0, end: 2 * block_size, stated_at: block_size, number: 0 },
        header.entries_range(disk)?,
    ];
    let mut used: Vec<_> = table.into_iter().chain(backup).collect();
    let first = header.block(40).unwrap_or(u64::MAX);
    let end = header.block(48).unwrap_or_default().saturating_add(block_size);
    let mut partitions = Vec::new();
    for ((number, entry), index) in
        (1..).zip(entries.chunks_exact(ENTRY_SIZE as usize)).zip(0_u64..)
    {
        if entry.iter().take(16).all(|byte| *byte == 0) {
            continue;
        }
        let stated_at = header.block(72).unwrap_or_default() + index * u64::from(ENTRY_SIZE) + 32;
        let (from, to) = (u64_at(entry, 32), u64_at(entry, 40));
        let from = from.checked_mul(block_size).filter(|from| *from >= first);
        let to = to.checked_add(1).and_then(|to| to.checked_mul(block_size));
        let to = to.filter(|to| *to <= end);
        let Some((start, until)) = from.zip(to).filter(|(from, to)| from < to) else {
            return Err(disk.malformed(stated_at, Fault::Unusable(number).into()));
        };
        used.push(Used { start, end: until, stated_at, number });
        let name = entry.get(56..).unwrap_or_default();
        partitions.push(Partition {
            number,
            start,
            size: until - start,
            uuid: entry.get(16..32).and_then(guid).unwrap_or_default(),
            name: Some(name_of(name)).filter(|name| !name.is_empty()),
        });
    }
    check_ranges(disk, used)?;
    Ok(Table { format: TableFormat::Gpt, partitions })
}

fn name_of(bytes: &[u8]) -> String {
    let units = (0..bytes.len()).step_by(2).filter_map(|offset| u16_at(bytes, offset));
    let units = units.take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Checks that the backup says the same: a program that finds the first table damaged later uses it.
/// Gives the ranges that it takes.
fn check_backup<D: Disk>(disk: &D, header: &Header, entries: &[u8]) -> Result<[Used; 2], D::Error> {
    let fail = |offset: u64, what| disk.malformed(offset, Fault::Backup(what).into());
    let at = header.block(32).unwrap_or(u64::MAX);
    let missing = || fail(header.at + 32, "no valid header where the first one says");
    if at <= header.at || at.checked_add(header.block_size).map_or(true, |end| end > disk.size()) {
        return Err(missing());
    }
    let mut magic = [0; MAGIC.len()];
    disk.read(at, &mut magic)?;
    if magic != *MAGIC {
        return Err(missing());
    }
    let backup = Header::read(disk, at, header.block_size)?;
    let same =
        |range: core::ops::Range<usize>| backup.bytes.get(range.clone()) == header.bytes.get(range);
    if backup.entries(disk)? != entries || !same(40..72) || !same(80..92) {
        return Err(fail(at, "differs from the first one"));
    }
    let own = Used { start: at, end: at + header.block_size, stated_at: header.at + 32, number: 0 };
    Ok([own, backup.entries_range(disk)?])
}
