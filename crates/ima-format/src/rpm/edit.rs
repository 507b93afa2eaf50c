//! File signatures in the signature header: read, put in, taken out.

use alloc::string::String;
use alloc::vec::Vec;

use super::header::{Entry, Section, ValueType, ENTRY_SIZE, INTRO_SIZE, MAGIC};
use super::{tag, Fault, Header};
use crate::{hex, Error};

/// The treatment of the reserved space of the signature header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservedSpace {
    /// It stays as it was: the header grows.
    Keep,
    /// Signatures take its room if it is large enough: the header keeps its size, and the rest of the
    /// package its offset. A mark in the remaining space records that; when the signatures are removed,
    /// the space is restored.
    Use,
}

/// The mark at the start of reserved space that has given room. rpm writes zeros, and looks at
/// neither.
const TAKEN: [u8; 8] = *b"imactl\0\x01";

/// A value of the new header.
struct Value<'a> {
    tag: u32,
    value_type: ValueType,
    count: u32,
    bytes: &'a [u8],
}

impl Value<'_> {
    fn is_filler(&self) -> bool {
        let tagged = matches!(self.tag, tag::SIG_RESERVED | tag::SIG_RESERVEDSPACE);
        tagged && self.value_type == ValueType::Bin
    }
}

impl<'a> Header<'a> {
    /// The file signatures of a signature header: the value of `security.ima` for each file,
    /// empty where it has none. `None` where the package has no file signatures.
    ///
    /// # Errors
    /// If there are not as many as files, or if one is not hexadecimal.
    pub fn file_signatures(&self, files: usize) -> Result<Option<Vec<Vec<u8>>>, Error> {
        // strings of another kind are none to rpm (`headerMergeLegacySigs`)
        let array = [ValueType::StringArray];
        let Some(entry) = self.typed(tag::SIG_FILESIGNATURES, &array)? else { return Ok(None) };
        if entry.count as usize != files {
            let expected = u32::try_from(files).unwrap_or(u32::MAX);
            let fault = Fault::FileCount { tag: entry.tag, count: entry.count, expected };
            return Err(Error::new(fault, self.offset_of(entry)));
        }
        let Some(strings) = self.strings(tag::SIG_FILESIGNATURES)? else { return Ok(None) };
        let decode = |(at, text)| {
            hex::decode(text).map_err(|offset| Error::new(Fault::FileSignature, at + offset))
        };
        strings.map(decode).collect::<Result<_, _>>().map(Some)
    }

    /// The signature header, its pad included, with these file signatures in place of those
    /// that it has; everything else stays as it is.
    ///
    /// # Errors
    /// [`Fault::TooLarge`], and [`Fault::NotCanonical`].
    pub fn with_file_signatures(
        &self,
        signatures: &[Vec<u8>],
        reserved: ReservedSpace,
    ) -> Result<Vec<u8>, Error> {
        let mut text = String::new();
        for signature in signatures {
            hex::push(&mut text, signature);
            text.push('\0');
        }
        let longest = signatures.iter().map(Vec::len).max().unwrap_or(0);
        let length = u32::try_from(longest).unwrap_or(u32::MAX).to_be_bytes();
        let strings = Value {
            tag: tag::SIG_FILESIGNATURES,
            value_type: ValueType::StringArray,
            count: u32::try_from(signatures.len()).unwrap_or(u32::MAX),
            bytes: text.as_bytes(),
        };
        let length = Value {
            tag: tag::SIG_FILESIGNATURELENGTH,
            value_type: ValueType::Int32,
            count: 1,
            bytes: &length,
        };
        // as rpm: no length where no file has a signature, nothing where there is no file
        let added = match (signatures.is_empty(), longest) {
            (true, _) => Vec::new(),
            (false, 0) => [strings].into(),
            (false, _) => [strings, length].into(),
        };
        self.rewritten(added, reserved)
    }

    /// The signature header, its pad included, without file signatures: as it was before it
    /// had any.
    ///
    /// # Errors
    /// [`Fault::NotCanonical`].
    pub fn without_file_signatures(&self) -> Result<Vec<u8>, Error> {
        self.rewritten(Vec::new(), ReservedSpace::Keep)
    }

    /// Whether file signatures took their room from the filler.
    pub fn room_is_taken(&self) -> bool {
        self.parts().0.last().is_some_and(|entry| {
            let filler = self.as_value(entry);
            filler.is_filler() && filler.bytes.starts_with(&TAKEN)
        })
    }

    fn rewritten(&self, added: Vec<Value<'_>>, reserved: ReservedSpace) -> Result<Vec<u8>, Error> {
        let (region, after) = self.parts();
        let values = |entries: &[Entry]| -> Vec<_> {
            entries.iter().map(|entry| self.as_value(entry)).collect()
        };
        let old = self.encode(&values(region), &values(after));
        let old_size = old.len();
        if padded(old) != self.bytes {
            return Err(Error::new(Fault::NotCanonical, self.position));
        }
        let kept = |mut values: Vec<Value<'a>>| {
            values.retain(|value| !is_of_file_signatures(value.tag));
            values
        };
        let after = kept(values(after));
        let mut values: Vec<Value<'_>> = kept(values(region));
        let mut original = self.encode(&values, &after);
        let mut room = Vec::new();
        if self.room_is_taken() {
            // the header has had this size ever since
            let taken = old_size.saturating_sub(original.len());
            room.resize(values.last().map_or(0, |filler| filler.bytes.len()) + taken, 0);
            if let Some(filler) = values.last_mut() {
                filler.count = u32::try_from(room.len()).unwrap_or(u32::MAX);
                filler.bytes = &room;
            }
            original = self.encode(&values, &after);
        }
        if added.is_empty() {
            return Ok(padded(original));
        }
        // before the first greater tag: the index is in the order of tags
        let place = values.iter().position(|value| value.tag > tag::SIG_FILESIGNATURES);
        let place = place.unwrap_or(values.len());
        values.splice(place..place, added);
        let encoded = self.encode(&values, &after);
        let (entry_limit, store_limit) = Section::Signature.limits();
        let size = encoded.len();
        if size > store_limit as usize || values.len() + after.len() >= entry_limit as usize {
            return Err(Error::new(Fault::TooLarge { size }, self.position));
        }
        let fitted = match reserved {
            ReservedSpace::Use => self.fitted(values, &after, size, original.len()),
            ReservedSpace::Keep => None,
        };
        Ok(padded(fitted.unwrap_or(encoded)))
    }

    /// The header with these values, which take `size` bytes, at its original size, where the
    /// filler, the region's last value, can make up for the difference.
    fn fitted(
        &self,
        mut values: Vec<Value<'_>>,
        after: &[Value<'_>],
        size: usize,
        original: usize,
    ) -> Option<Vec<u8>> {
        let filler = values.pop()?;
        // space with anything but zeros is in use
        let is_empty = filler.bytes.iter().all(|byte| *byte == 0);
        if !filler.is_filler() || !is_empty {
            return None;
        }
        let count = (filler.bytes.len() + original).checked_sub(size)?;
        let mut left = alloc::vec![0; count];
        left.get_mut(..TAKEN.len())?.copy_from_slice(&TAKEN);
        let mut values: Vec<Value<'_>> = values;
        values.push(Value { count: u32::try_from(count).ok()?, bytes: &left, ..filler });
        let fitted = self.encode(&values, after);
        // the values after the region may be aligned otherwise
        (fitted.len() == original).then_some(fitted)
    }

    fn as_value(&self, entry: &Entry) -> Value<'a> {
        let Entry { tag, value_type, count, .. } = *entry;
        Value { tag, value_type, count, bytes: self.value(entry) }
    }

    /// A signature header with these values in its region and after it, as rpm lays it out,
    /// without the pad.
    fn encode(&self, region: &[Value<'_>], after: &[Value<'_>]) -> Vec<u8> {
        let all = || region.iter().chain(after);
        let entries = region.len() + after.len() + 1;
        let mut index = Vec::with_capacity(entries * ENTRY_SIZE);
        let mut store = Vec::with_capacity(all().map(|value| value.bytes.len() + 8).sum());
        push_values(&mut index, &mut store, region);
        let trailer = store.len() as u32;
        let region_size = ((region.len() + 1) * ENTRY_SIZE) as u32;
        push_entry(
            &mut store,
            self.trailer_tag,
            ValueType::Bin,
            region_size.wrapping_neg(),
            ENTRY_SIZE as u32,
        );
        push_values(&mut index, &mut store, after);
        let mut bytes = Vec::with_capacity(INTRO_SIZE + ENTRY_SIZE + index.len() + store.len() + 8);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(entries as u32).to_be_bytes());
        bytes.extend_from_slice(&(store.len() as u32).to_be_bytes());
        let region = tag::HEADERSIGNATURES;
        push_entry(&mut bytes, region, ValueType::Bin, trailer, ENTRY_SIZE as u32);
        bytes.extend_from_slice(&index);
        bytes.extend_from_slice(&store);
        bytes
    }
}

/// A header with the pad that follows it in the package.
fn padded(mut header: Vec<u8>) -> Vec<u8> {
    header.resize(header.len().next_multiple_of(8), 0);
    header
}

/// Puts values at the store's end, and their entries at the index's.
fn push_values(index: &mut Vec<u8>, store: &mut Vec<u8>, values: &[Value<'_>]) {
    for value in values {
        let offset = store.len().next_multiple_of(value.value_type.alignment());
        store.resize(offset, 0);
        push_entry(index, value.tag, value.value_type, offset as u32, value.count);
        store.extend_from_slice(value.bytes);
    }
}

fn push_entry(bytes: &mut Vec<u8>, tag: u32, value_type: ValueType, offset: u32, count: u32) {
    for field in [tag, value_type as u32 + 1, offset, count] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
}

fn is_of_file_signatures(tag: u32) -> bool {
    matches!(tag, tag::SIG_FILESIGNATURES | tag::SIG_FILESIGNATURELENGTH)
}
