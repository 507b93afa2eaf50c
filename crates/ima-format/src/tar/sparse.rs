//! Maps of sparse files, in all of GNU tar's forms.

use alloc::vec::Vec;

use super::header::number;
use super::pax::{decimal, Record, Records};
use super::{Fault, Field, Header, BLOCK_SIZE};
use crate::Error;

/// How much of holes a sparse file may have: as much as fits into a file of ext4. Who digests
/// them wants a tighter bound, since a header of 512 bytes can ask for any number of zeros.
pub const HOLES_MAX: u64 = 16 << 40;

/// A part of a sparse file that is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it belongs in the file.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// The segments of a sparse file that are in the archive; the rest of it is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    segments: Vec<Segment>,
    size: u64,
}

impl SparseMap {
    /// A map whose segments are in order, as long as the data, and end where the file does.
    /// Those before the last with data fill their blocks.
    fn new(segments: Vec<Segment>, size: u64, data: u64) -> Result<Self, Fault> {
        let (mut end, mut sum) = (0, 0_u64);
        for Segment { offset, length } in &segments {
            if *offset < end {
                return Err(Fault::SparseOrder);
            }
            if *length > 0 && sum % BLOCK_SIZE as u64 != 0 {
                return Err(Fault::SparseAlignment);
            }
            end = offset.checked_add(*length).ok_or(Fault::SparseOrder)?;
            // cannot overflow: the segments do not overlap
            sum += length;
        }
        if end > size {
            return Err(Fault::SparseOrder);
        }
        if sum != data {
            return Err(Fault::SparseSum { segments: sum, data });
        }
        if end < size {
            return Err(Fault::SparseEnd);
        }
        match size - sum {
            0..=HOLES_MAX => Ok(Self { segments, size }),
            holes => Err(Fault::Holes(holes)),
        }
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The size of the file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

const GNU_SEGMENTS: usize = 386;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: usize = 483;
const CONTINUATION_IS_EXTENDED: usize = 504;

/// Whether a GNU sparse header is followed by further parts of its map.
pub(super) fn is_extended(header: &Header) -> bool {
    header.byte(GNU_IS_EXTENDED) != 0
}

/// Whether a further part of a map is followed by another.
pub(super) fn continues(block: &[u8]) -> bool {
    block.get(CONTINUATION_IS_EXTENDED).is_some_and(|byte| *byte != 0)
}

/// The map of an old GNU sparse member; `continuations` are the blocks after the header.
/// Errors are relative to the header.
pub(super) fn gnu(header: &Header, continuations: &[u8], data: u64) -> Result<SparseMap, Error> {
    let block = header.as_bytes();
    let real_size = block.get(GNU_REAL_SIZE..GNU_REAL_SIZE + 12).unwrap_or_default();
    let size =
        number(real_size).ok_or(Error::new(Fault::Number(Field::SparseSize), GNU_REAL_SIZE))?;
    let mut segments = Vec::new();
    let mut has_ended = false;
    let in_header = block.get(GNU_SEGMENTS..GNU_IS_EXTENDED).unwrap_or_default();
    let further = continuations.chunks(BLOCK_SIZE).enumerate().map(|(index, block)| {
        (BLOCK_SIZE * (index + 1), block.get(..CONTINUATION_IS_EXTENDED).unwrap_or_default())
    });
    for (start, table) in core::iter::once((GNU_SEGMENTS, in_header)).chain(further) {
        if has_ended {
            return Err(Error::new(Fault::SparseTable, start));
        }
        for (index, entry) in table.chunks(24).enumerate() {
            let at = start + index * 24;
            let (offset, length) = (entry.get(..12), entry.get(12..));
            let (offset, length) = (offset.unwrap_or_default(), length.unwrap_or_default());
            let begins = |field: &[u8]| field.first().is_some_and(|byte| *byte != 0);
            // GNU tar looks for the end at the length, libarchive at the offset
            match (begins(offset), begins(length)) {
                (true, true) if !has_ended => {}
                (false, false) if entry.iter().all(|byte| *byte == 0) => {
                    has_ended = true;
                    continue;
                }
                _ => return Err(Error::new(Fault::SparseTable, at)),
            }
            segments.push(Segment {
                offset: number(offset).ok_or(Error::new(Fault::Number(Field::SparseOffset), at))?,
                length: number(length)
                    .ok_or(Error::new(Fault::Number(Field::SparseLength), at + 12))?,
            });
        }
    }
    SparseMap::new(segments, size, data).map_err(|fault| Error::new(fault, GNU_SEGMENTS))
}

/// The pax records about a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pax {
    /// Forms 0.0 and 0.1: the map is among the records.
    Map(SparseMap),
    /// Form 1.0: the map stands in front of the data; this is the file's size.
    InData(u64),
}

/// Whether a record makes a file sparse, for one program at least.
pub(super) fn is_sparse_record(record: &Record<'_>) -> bool {
    let keyword = record.keyword;
    keyword.starts_with(b"GNU.sparse") || matches!(keyword, b"SUN.holesdata" | b"SCHILY.realsize")
}

/// The sparse form of a pax member, if it has one. `data` follows the header.
pub(super) fn pax(records: Records<'_>, data: u64) -> Result<Option<Pax>, Error> {
    let mut form = Keywords::default();
    let mut last = None;
    for record in records.flatten().filter(is_sparse_record) {
        last = Some(record.offset);
        let word = record.keyword.strip_prefix(b"GNU.sparse.").unwrap_or_default();
        form.read(word, record.value).map_err(|fault| Error::new(fault, record.offset))?;
    }
    let Some(last) = last else { return Ok(None) };
    form.finish(data).map(Some).map_err(|fault| Error::new(fault, last))
}

#[derive(Default)]
struct Keywords {
    has_name: bool,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    real_size: Option<u64>,
    /// How many segments there will be: GNU tar wants to know first.
    count: Option<u64>,
    segments: Vec<Segment>,
    /// An offset whose length has not come yet.
    pending: Option<u64>,
    has_map: bool,
}

impl Keywords {
    /// Reads a record; none but those of a segment may come twice.
    fn read(&mut self, word: &[u8], value: &[u8]) -> Result<(), Fault> {
        let number = |field| decimal(value).ok_or(Fault::Number(field));
        let (place, field) = match word {
            b"name" if !self.has_name => {
                self.has_name = true;
                return Ok(());
            }
            b"major" => (&mut self.major, Field::SparseSize),
            b"minor" => (&mut self.minor, Field::SparseSize),
            b"size" => (&mut self.size, Field::SparseSize),
            b"realsize" => (&mut self.real_size, Field::SparseSize),
            b"numblocks" => (&mut self.count, Field::SparseSize),
            b"offset" if self.is_open() => (&mut self.pending, Field::SparseOffset),
            b"numbytes" if self.is_open() => {
                let offset = self.pending.take().ok_or(Fault::UnknownSparse)?;
                self.segments.push(Segment { offset, length: number(Field::SparseLength)? });
                return Ok(());
            }
            b"map" if self.is_open() && self.segments.is_empty() => {
                self.has_map = true;
                return self.map(value);
            }
            _ => return Err(Fault::UnknownSparse),
        };
        match place.replace(number(field)?) {
            None => Ok(()),
            Some(_) => Err(Fault::UnknownSparse),
        }
    }

    /// Whether segments may come.
    fn is_open(&self) -> bool {
        self.count.is_some() && !self.has_map
    }

    fn map(&mut self, value: &[u8]) -> Result<(), Fault> {
        let mut numbers = value.split(|byte| *byte == b',').map(decimal);
        while let Some(offset) = numbers.next() {
            let offset = offset.ok_or(Fault::Number(Field::SparseOffset))?;
            let length = numbers.next().flatten();
            let length = length.ok_or(Fault::Number(Field::SparseLength))?;
            self.segments.push(Segment { offset, length });
        }
        Ok(())
    }

    fn finish(self, data: u64) -> Result<Pax, Fault> {
        let count = self.segments.len() as u64;
        match self {
            Self {
                major: Some(1),
                minor: Some(0),
                real_size: Some(size),
                size: None,
                count: None,
                ..
            } => Ok(Pax::InData(size)),
            Self {
                size: Some(size),
                count: Some(1..),
                major: None,
                minor: None,
                real_size: None,
                pending: None,
                segments,
                ..
            } if self.count == Some(count) => SparseMap::new(segments, size, data).map(Pax::Map),
            _ => Err(Fault::UnknownSparse),
        }
    }
}

/// Reads the map in front of the data (form 1.0), block by block.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    /// How many segments there will be.
    expected: Option<u64>,
    segments: Vec<Segment>,
    /// An offset whose length has not come yet.
    pending: Option<u64>,
    digits: Vec<u8>,
}

impl DataMap {
    /// Takes a block; whether the map is complete with it.
    pub(super) fn push(&mut self, block: &[u8]) -> Result<bool, Error> {
        for (offset, byte) in block.iter().enumerate() {
            let fail = || Error::new(Fault::Number(Field::SparseOffset), offset);
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(fail());
                }
                continue;
            }
            let number = decimal(&self.digits).ok_or_else(fail)?;
            self.digits.clear();
            match (self.expected, self.pending.take()) {
                (None, _) => self.expected = Some(number),
                (_, None) => self.pending = Some(number),
                (_, Some(offset)) => self.segments.push(Segment { offset, length: number }),
            }
            if self.expected == Some(self.segments.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The map of a file of this size, of which so much data follows.
    pub(super) fn finish(self, size: u64, data: u64) -> Result<SparseMap, Fault> {
        SparseMap::new(self.segments, size, data)
    }
}
