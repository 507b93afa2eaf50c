//! Tables that are made here, and what is wrong with them; those that other programs make are in the
//! tests of imactl.

use alloc::vec;
use core::ops::Range;

use super::*;
use crate::ext4::Memory;
use crate::{Error, ErrorKind};

/// An MBR with entries: place, type, first sector, number of sectors.
fn mbr(entries: &[(usize, u8, u32, u32)]) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[440..444].copy_from_slice(&0x00c0_ffee_u32.to_le_bytes());
    record(&mut disk, 0, entries);
    disk
}

fn record(disk: &mut [u8], at: usize, entries: &[(usize, u8, u32, u32)]) {
    for (place, kind, start, size) in entries {
        let entry = &mut disk[at + 446 + 16 * place..][..16];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&size.to_le_bytes());
    }
    disk[at + 510..at + 512].copy_from_slice(b"\x55\xaa");
}

/// Number and sectors of a partition.
type Found = (u32, Range<u64>);

fn read(disk: Vec<u8>) -> Result<Vec<Found>, (Fault, usize)> {
    match Table::read(&Memory(&disk)) {
        Ok(table) => {
            let sectors = |it: &Partition| it.start / 512..(it.start + it.size) / 512;
            Ok(table.partitions.iter().map(|it| (it.number, sectors(it))).collect())
        }
        Err(Error { kind: ErrorKind::Partition(fault), offset }) => Err((fault, offset)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn primary_partitions_have_the_number_of_their_entry() {
    let disk = mbr(&[(1, 0x83, 100, 50), (3, 0x0c, 10, 20)]);
    assert_eq!(read(disk), Ok(vec![(2, 100..150), (4, 10..30)]));
}

#[test]
fn logical_partitions_follow_a_chain() {
    let mut disk = mbr(&[(0, 0x83, 10, 20), (1, 0x0f, 100, 500)]);
    record(&mut disk, 100 * 512, &[(0, 0x83, 2, 30), (1, 0x05, 200, 100)]);
    record(&mut disk, 300 * 512, &[(0, 0x83, 1, 40)]);
    assert_eq!(read(disk), Ok(vec![(1, 10..30), (5, 102..132), (6, 301..341)]));
}

#[test]
fn damaged_chains_are_rejected() {
    let extended = [(1, 0x05, 100, 500)];
    type Case = (&'static [(usize, u8, u32, u32)], usize);
    let cases: &[Case] = &[
        // the next record is this one
        (&[(0, 0x83, 2, 30), (1, 0x05, 0, 100)], 100 * 512 + 462),
        (&[(0, 0x83, 2, 600)], 100 * 512 + 446),
        (&[(0, 0x83, 2, 30), (1, 0x05, 600, 10)], 100 * 512 + 462),
        (&[(0, 0x83, 2, 30), (2, 0x83, 50, 10)], 100 * 512 + 478),
        (&[(0, 0x83, 2, 30), (1, 0x83, 50, 10)], 100 * 512 + 462),
        (&[(0, 0x83, 0, 30)], 100 * 512),
        (&[(0, 0x83, 2, 30), (1, 0x05, 10, 10)], 110 * 512 + 510),
    ];
    for (entries, offset) in cases {
        let mut disk = mbr(&extended);
        record(&mut disk, 100 * 512, entries);
        let (fault, at) = read(disk).unwrap_err();
        // the range that begins later is the one that is reported
        assert!(
            at == *offset || matches!(fault, Fault::Overlap { .. }),
            "{entries:?}: {fault} at {at}"
        );
    }
}

#[test]
fn primary_entries_that_programs_read_differently_are_rejected() {
    type Case = (&'static [(usize, u8, u32, u32)], Fault, usize);
    let cases: &[Case] = &[
        (&[(0, 0x83, 10, 20), (1, 0x83, 29, 5)], Fault::Overlap { first: 1, other: 2 }, 462),
        (&[(0, 0x83, 0, 20)], Fault::Overlap { first: 0, other: 1 }, 446),
        (&[(0, 0x83, 2000, 49)], Fault::PastEnd { number: 1, end: 2049 * 512 }, 446),
        (&[(0, 0, 10, 20)], Fault::NoType, 446),
        (&[(0, 0x05, 10, 20), (1, 0x0f, 50, 20)], Fault::SecondExtended, 462),
        (&[(0, 0xee, 1, 20), (1, 0x83, 50, 20)], Fault::NoHeader, 512),
    ];
    for (entries, fault, offset) in cases {
        assert_eq!(read(mbr(entries)), Err((fault.clone(), *offset)), "{entries:?}");
    }
    assert_eq!(read(vec![0; 4096]), Err((Fault::NoTable, 510)));
    assert_eq!(read(vec![0; 100]), Err((Fault::NoTable, 0)));
}
