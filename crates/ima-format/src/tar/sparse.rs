//! Maps of sparse files, in all of GNU tar's forms.

use alloc::vec::Vec;

use super::header::number;
use super::pax::{decimal, Record};
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

/// What of a sparse file is in the archive; the rest of it is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    segments: Vec<Segment>,
    size: u64,
}

impl SparseMap {
    /// A map whose segments are in order, within the file, and as long as the data.
    fn new(segments: Vec<Segment>, size: u64, data: u64) -> Result<Self, Fault> {
        let (mut end, mut sum) = (0, 0_u64);
        for Segment { offset, length } in &segments {
            if *offset < end {
                return Err(Fault::SparseOrder);
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
    let in_header = block.get(GNU_SEGMENTS..GNU_IS_EXTENDED).unwrap_or_default();
    let further = continuations.chunks(BLOCK_SIZE).enumerate().map(|(index, block)| {
        (BLOCK_SIZE * (index + 1), block.get(..CONTINUATION_IS_EXTENDED).unwrap_or_default())
    });
    for (start, table) in core::iter::once((GNU_SEGMENTS, in_header)).chain(further) {
        for (index, entry) in table.chunks(24).enumerate() {
            let at = start + index * 24;
            let (offset, length) = (entry.get(..12), entry.get(12..));
            let (offset, length) = (offset.unwrap_or_default(), length.unwrap_or_default());
            // an entry without a length ends the table
            if length.first().map_or(true, |byte| *byte == 0) {
                break;
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

/// What pax records say of a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pax {
    /// Forms 0.0 and 0.1: the map is among the records.
    Map(SparseMap),
    /// Form 1.0: the map stands in front of the data; this is the file's size.
    InData(u64),
}

/// The sparse form of a pax member, if it has one. `data` is what follows the header.
pub(super) fn pax(records: &[Record<'_>], data: u64) -> Result<Option<Pax>, Error> {
    let mut form = Records::default();
    let mut last = 0;
    for record in records {
        let Some(word) = record.keyword.strip_prefix(b"GNU.sparse.") else { continue };
        last = record.offset;
        form.read(word, record.value).map_err(|fault| Error::new(fault, record.offset))?;
    }
    let fail = |fault: Fault| Error::new(fault, last);
    match form {
        Records { major: Some(1), minor: Some(0), real_size: Some(size), .. } => {
            Ok(Some(Pax::InData(size)))
        }
        Records { major: Some(_), .. } | Records { minor: Some(1..), .. } => {
            Err(fail(Fault::UnknownSparse))
        }
        Records { size: Some(size), pending: None, segments, .. } => {
            SparseMap::new(segments, size, data).map(|map| Some(Pax::Map(map))).map_err(fail)
        }
        Records { mentioned: true, .. } => Err(fail(Fault::UnknownSparse)),
        _ => Ok(None),
    }
}

#[derive(Default)]
struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    real_size: Option<u64>,
    segments: Vec<Segment>,
    /// An offset whose length has not come yet.
    pending: Option<u64>,
    mentioned: bool,
}

impl Records {
    fn read(&mut self, word: &[u8], value: &[u8]) -> Result<(), Fault> {
        let number = |field| decimal(value).ok_or(Fault::Number(field));
        match word {
            b"name" => return Ok(()),
            b"major" => self.major = Some(number(Field::SparseSize)?),
            b"minor" => self.minor = Some(number(Field::SparseSize)?),
            b"size" => self.size = Some(number(Field::SparseSize)?),
            b"realsize" => self.real_size = Some(number(Field::SparseSize)?),
            b"offset" => self.pending = Some(number(Field::SparseOffset)?),
            b"numbytes" => {
                let offset = self.pending.take().ok_or(Fault::UnknownSparse)?;
                self.segments.push(Segment { offset, length: number(Field::SparseLength)? });
            }
            b"map" => {
                self.segments.clear();
                let mut numbers = value.split(|byte| *byte == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    let offset = offset.ok_or(Fault::Number(Field::SparseOffset))?;
                    let length = numbers.next().flatten();
                    let length = length.ok_or(Fault::Number(Field::SparseLength))?;
                    self.segments.push(Segment { offset, length });
                }
            }
            // the number of segments, which they tell themselves
            _ => {}
        }
        self.mentioned = true;
        Ok(())
    }
}

/// Reads the map in front of the data (form 1.0), block by block.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    expected: Option<u64>,
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl DataMap {
    /// Takes a block; whether the map is complete with it.
    pub(super) fn push(&mut self, block: &[u8]) -> Result<bool, Error> {
        for (offset, byte) in block.iter().enumerate() {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(Error::new(Fault::Number(Field::SparseOffset), offset));
                }
                continue;
            }
            let number = decimal(&self.digits)
                .ok_or(Error::new(Fault::Number(Field::SparseOffset), offset))?;
            self.digits.clear();
            match self.expected {
                None => {
                    let twice = number.checked_mul(2);
                    let fault = Fault::Number(Field::SparseLength);
                    self.expected = Some(twice.ok_or(Error::new(fault, offset))?);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.is_complete() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> bool {
        self.expected == Some(self.numbers.len() as u64)
    }

    /// The map of a file of this size, of which so much data follows.
    pub(super) fn finish(self, size: u64, data: u64) -> Result<SparseMap, Fault> {
        let pairs = self.numbers.chunks(2).filter_map(|pair| match pair {
            [offset, length] => Some(Segment { offset: *offset, length: *length }),
            _ => None,
        });
        SparseMap::new(pairs.collect(), size, data)
    }
}
