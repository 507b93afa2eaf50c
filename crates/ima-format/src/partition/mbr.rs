//! Master boot record, and the chain of extended boot records with logical partitions.
//!
//! | at | bytes | contents |
//! |---|---|---|
//! | 440 | 4 | disk signature, little-endian |
//! | 446 | 4 x 16 | entries |
//! | 510 | 2 | `55 aa` |
//!
//! | entry at | bytes | contents |
//! |---|---|---|
//! | 4 | 1 | type; 0x05, 0x0f, 0x85: extended; 0xee: protective, there is a GPT |
//! | 8 | 4 | first sector |
//! | 12 | 4 | number of sectors; 0: not used |
//!
//! In an extended boot record the first entry is a logical partition, counted from that record;
//! the second one is the next record, counted from the start of the extended partition
//! (`parse_extended()`).

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{check_ranges, Fault, Partition, Table, TableFormat, Used, SECTOR};
use crate::ext4::{u32_at, Disk};

pub(super) const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// More than the kernel has numbers for on a disk.
const LOGICAL_MAX: usize = 256;

/// An entry of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: u8,
    start: u64,
    size: u64,
    pub(super) stated_at: u64,
}

impl Entry {
    pub(super) fn is_used(&self) -> bool {
        self.size > 0
    }

    fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }
}

/// The entries of a boot record; `None` without its magic number.
pub(super) fn entries(sector: &[u8]) -> Option<Vec<Entry>> {
    if sector.get(510..512) != Some(b"\x55\xaa") {
        return None;
    }
    let entry = |offset: usize| {
        Some(Entry {
            kind: *sector.get(offset + 4)?,
            start: u64::from(u32_at(sector, offset + 8)?) * SECTOR,
            size: u64::from(u32_at(sector, offset + 12)?) * SECTOR,
            stated_at: offset as u64,
        })
    };
    [446, 462, 478, 494].into_iter().map(entry).collect()
}

struct Reader<'a, D> {
    disk: &'a D,
    signature: u32,
    used: Vec<Used>,
    partitions: Vec<Partition>,
}

impl<D: Disk> Reader<'_, D> {
    fn fail(&self, offset: u64, fault: Fault) -> D::Error {
        self.disk.malformed(offset, fault.into())
    }

    fn add(&mut self, number: u32, entry: Entry) -> Result<(), D::Error> {
        if entry.kind == 0 {
            return Err(self.fail(entry.stated_at, Fault::NoType));
        }
        let Entry { start, size, stated_at, .. } = entry;
        self.used.push(Used { start, end: start + size, stated_at, number });
        let uuid = format!("{:08x}-{number:02x}", self.signature);
        self.partitions.push(Partition { number, start, size, uuid, name: None });
        Ok(())
    }

    fn extended(&mut self, extended: Entry) -> Result<(), D::Error> {
        let end = extended.start + extended.size;
        if end > self.disk.size() {
            return Err(self.fail(extended.stated_at, Fault::PastEnd { number: 0, end }));
        }
        let inside = |start: u64, size: u64| start >= extended.start && start + size <= end;
        let (mut at, mut stated_at) = (extended.start, extended.stated_at);
        for number in 5.. {
            let broken = |what| Fault::Logical(what);
            if self.partitions.len() > LOGICAL_MAX {
                return Err(self.fail(stated_at, broken("too many")));
            }
            if !inside(at, SECTOR) {
                return Err(self.fail(stated_at, broken("outside the extended partition")));
            }
            let mut sector = [0; SECTOR as usize];
            self.disk.read(at, &mut sector)?;
            self.used.push(Used { start: at, end: at + SECTOR, stated_at, number: 0 });
            let found = entries(&sector);
            let found = found.ok_or_else(|| self.fail(at + 510, broken("no boot record")))?;
            let [first, next, rest @ ..] = &found[..] else { return Ok(()) };
            if let Some(entry) = rest.iter().find(|entry| entry.is_used()) {
                return Err(self.fail(at + entry.stated_at, broken("more than two entries")));
            }
            if first.is_used() {
                let (start, stated_at) = (at + first.start, at + first.stated_at);
                if first.is_extended() || !inside(start, first.size) {
                    return Err(self.fail(stated_at, broken("outside the extended partition")));
                }
                self.add(number, Entry { start, stated_at, ..*first })?;
            }
            match next {
                next if !next.is_used() => return Ok(()),
                // a second entry for data would get a number, too
                next if !next.is_extended() || !first.is_used() => {
                    return Err(self.fail(at + next.stated_at, broken("no logical partition")));
                }
                next => (at, stated_at) = (extended.start + next.start, at + next.stated_at),
            }
        }
        Ok(())
    }
}

/// Reads the partitions of an MBR.
pub(super) fn read<D: Disk>(disk: &D, sector: &[u8], entries: &[Entry]) -> Result<Table, D::Error> {
    let signature = u32_at(sector, 440).unwrap_or_default();
    let own = Used { start: 0, end: SECTOR, stated_at: 446, number: 0 };
    let mut reader = Reader { disk, signature, used: vec![own], partitions: Vec::new() };
    let mut extended = None;
    for (number, entry) in (1..).zip(entries).filter(|(_, entry)| entry.is_used()) {
        match extended {
            _ if !entry.is_extended() => reader.add(number, *entry)?,
            None => extended = Some(*entry),
            Some(_) => return Err(reader.fail(entry.stated_at, Fault::SecondExtended)),
        }
    }
    if let Some(extended) = extended {
        let primary = reader.used.clone();
        reader.extended(extended)?;
        // primary partitions are outside the extended one
        let Entry { start, size, stated_at, .. } = extended;
        let all = Used { start, end: start + size, stated_at, number: 0 };
        check_ranges(disk, primary.into_iter().chain([all]).collect())?;
    }
    check_ranges(disk, reader.used)?;
    Ok(Table { format: TableFormat::Mbr, partitions: reader.partitions })
}
