//! Partition tables: GPT and MBR, as the kernel reads them.
//!
//! Mirrors `block/partitions/efi.c` and `msdos.c`. [`Table::read`] is stricter than the kernel:
//! where the kernel, firmware and partitioning tools could read a table differently, it is refused.
//! Only fields that the kernel reads are needed here: a table is never written.
//!
//! | module | contents |
//! |---|---|
//! | `gpt` | the header in block 1, its entries, and the backup in the last block |
//! | `mbr` | four entries in the first sector, and the chain of logical partitions |
//! | `uuid` | the PARTUUID of one partition, read leniently, for `root=` |
//! | `verity` | the superblock of a dm-verity hash tree |

mod fault;
mod gpt;
mod mbr;
mod uuid;
pub mod verity;

use alloc::string::String;
use alloc::vec::Vec;

use crate::ext4::Disk;
pub use fault::Fault;
pub use uuid::{partuuid, ReadAt};

/// The size of the sector with the MBR, and of blocks where nothing says otherwise.
pub const SECTOR: u64 = 512;

/// The partitions of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its kind.
    pub format: TableFormat,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's number of it, from 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub size: u64,
    /// Its PARTUUID.
    pub uuid: String,
    /// Its name (PARTLABEL); MBR has none.
    pub name: Option<String>,
}

/// A range of a disk that is in use, and where the table says so.
#[derive(Debug, Clone, Copy)]
struct Used {
    start: u64,
    end: u64,
    stated_at: u64,
    /// 0 for a part of the table itself.
    number: u32,
}

impl Table {
    /// Reads the partition table of a disk.
    ///
    /// # Errors
    /// Those of reading; a table that is damaged, or that programs read differently.
    pub fn read<D: Disk>(disk: &D) -> Result<Self, D::Error> {
        let fail = |offset, fault: Fault| disk.malformed(offset, fault.into());
        if disk.size() < SECTOR {
            return Err(fail(0, Fault::NoTable));
        }
        let mut sector = [0; SECTOR as usize];
        disk.read(0, &mut sector)?;
        let mbr = mbr::entries(&sector).ok_or_else(|| fail(510, Fault::NoTable))?;
        let (headers, backups) = gpt::find(disk)?;
        let protective = mbr.iter().find(|entry| entry.kind == mbr::PROTECTIVE);
        let table = match (protective, &headers[..]) {
            (None, []) => mbr::read(disk, &sector, &mbr)?,
            (None, [block_size, ..]) => return Err(fail(*block_size, Fault::NotProtected)),
            (Some(_), [_, second, ..]) => return Err(fail(*second, Fault::TwoHeaders)),
            (Some(_), []) => {
                let fault = if backups { Fault::BackupOnly } else { Fault::NoHeader };
                return Err(fail(SECTOR, fault));
            }
            (Some(_), [block_size]) => {
                let mut others = mbr.iter().filter(|entry| entry.kind != mbr::PROTECTIVE);
                if let Some(other) = others.find(|entry| entry.is_used()) {
                    return Err(fail(other.stated_at, Fault::Hybrid));
                }
                gpt::read(disk, *block_size)?
            }
        };
        Ok(table)
    }
}

/// Checks that no two ranges have a byte in common, and that all are on the disk.
fn check_ranges<D: Disk>(disk: &D, mut used: Vec<Used>) -> Result<(), D::Error> {
    let fail = |at: &Used, fault: Fault| Err(disk.malformed(at.stated_at, fault.into()));
    used.sort_by_key(|range| (range.start, range.end));
    if let Some(past) = used.iter().find(|range| range.end > disk.size()) {
        return fail(past, Fault::PastEnd { number: past.number, end: past.end });
    }
    for pair in used.windows(2) {
        if let [first, second] = pair {
            if first.end > second.start {
                let (first, other) = (first.number, second.number);
                return fail(second, Fault::Overlap { first, other });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
