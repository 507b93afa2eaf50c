//! One header: its index, checked, and its values.

use alloc::vec::Vec;

use super::{tag, Fault};
use crate::reader::Reader;
use crate::Error;

/// Bytes in front of a header's index: magic, number of entries, size of the store.
pub const INTRO_SIZE: usize = 16;
/// Bytes of an index entry, and of a region's trailer.
pub(super) const ENTRY_SIZE: usize = 16;
pub(super) const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
/// `HEADER_ARRAY_MAX`.
const ARRAY_LIMIT: u32 = 0x000f_ffff;

/// Which of a package's two headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The signature header.
    Signature,
    /// The main header.
    Main,
}

impl Section {
    /// The largest number of entries, and bytes of the store (`hdrblobVerifyLengths`).
    pub(super) const fn limits(self) -> (u32, u32) {
        match self {
            Self::Signature => (32, 64 << 20),
            Self::Main => (0xffff, 0x0fff_ffff),
        }
    }
}

/// How large a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intro {
    entries: u32,
    store: u32,
}

impl Intro {
    /// Reads a header's first 16 bytes, which stand at `offset` in the package.
    ///
    /// # Errors
    /// Another magic number, and sizes beyond the limits.
    pub fn read(bytes: &[u8], offset: usize, section: Section) -> Result<Self, Error> {
        read_intro(bytes, section).map_err(|error| error.after(offset))
    }

    /// The header's size in bytes, these 16 and a signature header's pad included.
    pub fn size(self, section: Section) -> usize {
        let size = INTRO_SIZE + self.entries as usize * ENTRY_SIZE + self.store as usize;
        match section {
            Section::Signature => size.next_multiple_of(8),
            Section::Main => size,
        }
    }
}

fn read_intro(bytes: &[u8], section: Section) -> Result<Intro, Error> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(Error::new(Fault::HeaderMagic, 0));
    }
    let (entries, store) = (reader.u32_be()?, reader.u32_be()?);
    let (entry_limit, store_limit) = section.limits();
    if entries == 0 || entries > entry_limit {
        return Err(Error::new(Fault::EntryCount { declared: entries, limit: entry_limit }, 8));
    }
    if store > store_limit {
        return Err(Error::new(Fault::StoreSize { declared: store, limit: store_limit }, 12));
    }
    Ok(Intro { entries, store })
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    Char,
    Int8,
    Int16,
    Int32,
    Int64,
    String,
    Bin,
    StringArray,
    I18nString,
}

impl ValueType {
    pub(super) fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            1 => Self::Char,
            2 => Self::Int8,
            3 => Self::Int16,
            4 => Self::Int32,
            5 => Self::Int64,
            6 => Self::String,
            7 => Self::Bin,
            8 => Self::StringArray,
            9 => Self::I18nString,
            _ => return None,
        })
    }

    /// The alignment of a value (`typeAlign` of rpm's `lib/header.cc`).
    pub(super) fn alignment(self) -> usize {
        match self {
            Self::Int16 => 2,
            Self::Int32 => 4,
            Self::Int64 => 8,
            _ => 1,
        }
    }

    fn is_string(self) -> bool {
        matches!(self, Self::String | Self::StringArray | Self::I18nString)
    }
}

/// An entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its type.
    pub tag: u32,
    pub(super) value_type: ValueType,
    /// Where in the store it begins.
    pub(super) offset: usize,
    /// How many values it has.
    pub count: u32,
    /// How many bytes they take.
    pub(super) length: usize,
}

/// A header whose every value lies within its store.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    /// All of it, a signature header's pad included.
    pub(super) bytes: &'a [u8],
    /// Where in the package it begins.
    pub(super) position: usize,
    store: &'a [u8],
    /// All entries but the region, in the order of the index.
    pub(super) entries: Vec<Entry>,
    /// How many of them are in the region; those of a signature header that rpm's signing
    /// server appended follow its trailer.
    region_entries: usize,
    /// Entry numbers, by tag.
    by_tag: Vec<usize>,
    /// The tag in the region's trailer; old signature headers have that of another region.
    pub(super) trailer_tag: u32,
}

impl<'a> Header<'a> {
    /// Reads a header, all [`Intro::size`] bytes of it, which stand at `position` in the
    /// package.
    ///
    /// # Errors
    /// A malformed header, with the offset in the package.
    pub fn read(bytes: &'a [u8], position: usize, section: Section) -> Result<Self, Error> {
        read(bytes, position, section).map_err(|error| error.after(position))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entry with this tag.
    pub fn find(&self, tag: u32) -> Option<&Entry> {
        let tag_of = |number: &usize| self.entries.get(*number).map_or(0, |entry| entry.tag);
        let found = self.by_tag.binary_search_by_key(&tag, tag_of).ok()?;
        self.entries.get(*self.by_tag.get(found)?)
    }

    /// The entries in the region, and those after it.
    pub(super) fn parts(&self) -> (&[Entry], &[Entry]) {
        // never beyond the entries: read as many of them as there are
        self.entries.split_at(self.region_entries.min(self.entries.len()))
    }

    /// Where in the package an entry's value begins.
    pub fn offset_of(&self, entry: &Entry) -> usize {
        let index = INTRO_SIZE + (self.entries.len() + 1) * ENTRY_SIZE;
        self.position + index + entry.offset
    }

    /// An entry's bytes in the store.
    pub(super) fn value(&self, entry: &Entry) -> &'a [u8] {
        // checked when the header was read
        self.store.get(entry.offset..entry.offset + entry.length).unwrap_or_default()
    }

    /// The bytes of a tag of type BIN.
    pub fn binary(&self, tag: u32) -> Result<Option<&'a [u8]>, Error> {
        self.typed(tag, &[ValueType::Bin]).map(|entry| entry.map(|entry| self.value(entry)))
    }

    /// The only or first string of a tag.
    pub fn string(&self, tag: u32) -> Result<Option<&'a [u8]>, Error> {
        Ok(self.strings(tag)?.and_then(|mut strings| strings.next()).map(|(_, string)| string))
    }

    /// The strings of a tag, each with its offset in the package.
    pub fn strings(
        &self,
        tag: u32,
    ) -> Result<Option<impl Iterator<Item = (usize, &'a [u8])> + Clone>, Error> {
        let types = [ValueType::StringArray, ValueType::String, ValueType::I18nString];
        let Some(entry) = self.typed(tag, &types)? else { return Ok(None) };
        let mut offset = self.offset_of(entry);
        let value = self.value(entry);
        let strings = value.strip_suffix(&[0]).unwrap_or(value).split(|byte| *byte == 0);
        Ok(Some(strings.map(move |string| {
            let start = offset;
            offset += string.len() + 1;
            (start, string)
        })))
    }

    /// The numbers of a tag, of 16, 32 or 64 bits, each with its offset in the package.
    pub fn numbers(
        &self,
        tag: u32,
    ) -> Result<Option<impl Iterator<Item = (usize, u64)> + Clone + 'a>, Error> {
        let Some(entry) = self.typed(tag, &[number_type(tag)])? else { return Ok(None) };
        let size = entry.value_type.alignment();
        let start = self.offset_of(entry);
        let chunks = self.value(entry).chunks_exact(size).enumerate();
        let number = |chunk: &[u8]| chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Some(chunks.map(move |(index, chunk)| (start + index * size, number(chunk)))))
    }

    /// The only or first number of a tag.
    pub fn number(&self, tag: u32) -> Result<Option<u64>, Error> {
        Ok(self.numbers(tag)?.and_then(|mut numbers| numbers.next()).map(|(_, number)| number))
    }

    pub(super) fn typed(&self, tag: u32, types: &[ValueType]) -> Result<Option<&Entry>, Error> {
        match self.find(tag) {
            Some(entry) if !types.contains(&entry.value_type) => {
                let value_type = entry.value_type as u32 + 1;
                Err(Error::new(Fault::TagType { tag, value_type }, self.offset_of(entry)))
            }
            found => Ok(found),
        }
    }
}

/// The type that rpm wants a tag's numbers to be of (`hdrchkTagType`).
fn number_type(tag: u32) -> ValueType {
    match tag {
        tag::FILEMODES => ValueType::Int16,
        tag::LONGFILESIZES => ValueType::Int64,
        _ => ValueType::Int32,
    }
}

fn read(bytes: &[u8], position: usize, section: Section) -> Result<Header<'_>, Error> {
    let intro = read_intro(bytes, section)?;
    let mut reader = Reader::new(bytes);
    reader.take(INTRO_SIZE)?;
    let index_size = intro.entries as usize * ENTRY_SIZE;
    let mut index = Reader::new(reader.take(index_size)?);
    let store_position = reader.offset();
    let store = reader.take(intro.store as usize)?;
    let pad = intro.size(section) - reader.offset();
    reader.take(pad)?;
    reader.finish()?;

    let region = read_region(&mut index, store, store_position, section)?;
    let mut entries = Vec::with_capacity(index_size / ENTRY_SIZE);
    // reads entries whose values fill the store from `end` to `limit`
    let mut read_entries = |count: usize, mut end: usize, limit: usize| {
        for _ in 0..count {
            let at = INTRO_SIZE + index.offset();
            let entry = read_entry(&mut index, store.get(..limit).unwrap_or_default(), end)
                .map_err(|fault| Error::new(fault, at))?;
            end = entry.offset + entry.length;
            entries.push(entry);
        }
        match end == limit {
            true => Ok(()),
            false => Err(Error::new(Fault::RegionSize, store_position + end)),
        }
    };
    read_entries(region.entries, 0, region.trailer)?;
    read_entries(region.entries_after, region.trailer + ENTRY_SIZE, store.len())?;
    let mut by_tag: Vec<usize> = (0..entries.len()).collect();
    let tag_of = |number: &usize| entries.get(*number).map_or(0, |entry: &Entry| entry.tag);
    by_tag.sort_by_key(tag_of);
    for (first, second) in by_tag.iter().zip(by_tag.iter().skip(1)) {
        if tag_of(first) == tag_of(second) {
            let at = INTRO_SIZE + (second + 1) * ENTRY_SIZE;
            return Err(Error::new(Fault::DuplicateTag(tag_of(second)), at));
        }
    }
    let (region_entries, trailer_tag) = (region.entries, region.trailer_tag);
    Ok(Header { bytes, position, store, entries, region_entries, by_tag, trailer_tag })
}

/// The region: the first entry and its trailer.
struct Region {
    /// How many entries it has, without itself.
    entries: usize,
    /// How many entries follow it.
    entries_after: usize,
    /// Where its trailer begins in the store.
    trailer: usize,
    trailer_tag: u32,
}

fn read_region(
    index: &mut Reader<'_>,
    store: &[u8],
    store_position: usize,
    section: Section,
) -> Result<Region, Error> {
    let count = index.remaining() / ENTRY_SIZE;
    let expected = match section {
        Section::Signature => tag::HEADERSIGNATURES,
        Section::Main => tag::HEADERIMMUTABLE,
    };
    let tag = index.u32_be()?;
    let (value_type, offset, size) = (index.u32_be()?, index.u32_be()?, index.u32_be()?);
    let bin = ValueType::Bin as u32 + 1;
    if tag != expected || value_type != bin || size as usize != ENTRY_SIZE {
        return Err(Error::new(Fault::NoRegion, INTRO_SIZE));
    }
    let start = offset as usize;
    let Some(trailer) = store.get(start..).filter(|trailer| trailer.len() >= ENTRY_SIZE) else {
        return Err(Error::new(Fault::RegionTrailer, INTRO_SIZE + 8));
    };
    let mut trailer = Reader::new(trailer);
    let trailer_tag = trailer.u32_be()?;
    let fits = trailer_tag == expected
        || section == Section::Signature && trailer_tag == super::tag::HEADERIMAGE;
    let (value_type, offset, size) = (trailer.u32_be()?, trailer.u32_be()?, trailer.u32_be()?);
    if !fits || value_type != bin || size as usize != ENTRY_SIZE {
        return Err(Error::new(Fault::RegionTrailer, store_position + start));
    }
    let size = offset.wrapping_neg() as usize;
    let whole = size > 0 && size % ENTRY_SIZE == 0;
    let entries_after = whole.then_some(size / ENTRY_SIZE).and_then(|own| count.checked_sub(own));
    // rpm asks this of main headers only (`exact_size`)
    let exact = entries_after == Some(0) && trailer.remaining() == 0;
    match entries_after {
        Some(entries_after) if exact || section == Section::Signature => {
            let entries = count - entries_after - 1;
            Ok(Region { entries, entries_after, trailer: start, trailer_tag })
        }
        _ => Err(Error::new(Fault::RegionSize, store_position + start + 8)),
    }
}

/// Reads an entry whose value has to follow `end` in `store`, the region's values.
fn read_entry(index: &mut Reader<'_>, store: &[u8], end: usize) -> Result<Entry, Fault> {
    // the index was taken in whole entries
    let mut field = || index.u32_be().unwrap_or_default();
    let (tag, type_id, offset, count) = (field(), field(), field(), field());
    if tag < super::tag::HEADERI18NTABLE {
        return Err(Fault::RegionTag(tag));
    }
    let unknown = Fault::ValueType { tag, value_type: type_id };
    let value_type = ValueType::from_id(type_id).ok_or(unknown)?;
    let counted = match value_type {
        ValueType::String => count == 1,
        ValueType::Bin => count > 0,
        _ => (1..=ARRAY_LIMIT).contains(&count),
    };
    if !counted {
        return Err(Fault::ValueCount { tag, count });
    }
    let expected = end.next_multiple_of(value_type.alignment());
    if offset as usize != expected {
        // the store is smaller than 4 GiB
        let expected = u32::try_from(expected).unwrap_or(u32::MAX);
        return Err(Fault::ValueOffset { tag, offset, expected });
    }
    let past = Fault::ValuePastStore { tag };
    let rest = store.get(expected..).ok_or(past.clone())?;
    let length = match value_type.is_string() {
        true => strings_length(rest, count as usize).ok_or(past)?,
        false => {
            let length = (count as usize).saturating_mul(value_type.alignment());
            if length > rest.len() {
                return Err(past);
            }
            length
        }
    };
    Ok(Entry { tag, value_type, offset: expected, count, length })
}

/// How many bytes `count` strings take, each with its zero byte.
fn strings_length(bytes: &[u8], count: usize) -> Option<usize> {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0);
    ends.nth(count.checked_sub(1)?).map(|(end, _)| end + 1)
}
