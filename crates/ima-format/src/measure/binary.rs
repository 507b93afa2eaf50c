//! Binary records, from a window of a list that may be longer than memory.

use alloc::vec::Vec;

use super::template::{ima_digest_size, FieldId, Fields, Template, MAX_FIELDS};
use super::{Endian, Fault};
use crate::reader::Reader;
use crate::{Error, ErrorKind};

/// The longest name of a template: a list of the most fields, each of the longest name
/// (`IMA_TEMPLATE_FIELD_ID_MAX_LEN`), with separators.
pub const MAX_NAME: usize = MAX_FIELDS * 17 - 1;
/// The longest template data that are read: far more than a policy or a key, and little enough to
/// be held in memory.
pub const MAX_DATA: usize = 16 << 20;
/// PCRs that a policy can name (`INVALID_PCR`, `ima_policy.c`): more than a TPM has, which refuses to
/// extend the others, but the record is in the list.
pub const PCRS: u32 = 64;
/// In template `ima` a name is padded to this size before it is hashed.
const IMA_NAME_SIZE: usize = 256;

/// How the records of a list are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The byte order.
    pub endian: Endian,
    /// The size of template digests: the bank's.
    pub digest_size: usize,
}

/// A record, its parts as they are in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The PCR that it extended.
    pub pcr: u32,
    /// The digest of its data: zeros if it is a violation.
    pub digest: &'a [u8],
    /// Its template.
    pub template: Template<'a>,
    /// Its template data.
    pub data: &'a [u8],
    /// Where the data begin, from the start of the record.
    pub data_offset: usize,
    /// The byte order of its lengths.
    pub endian: Endian,
}

/// What a window of a list begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record, and its size.
    Record(Record<'a>, usize),
    /// Part of a record: so many bytes are needed, as far as can be seen.
    Incomplete(usize),
}

impl Layout {
    /// The layout under which a list that begins with `head` has a template's name in its first
    /// record. Half a kilobyte is enough.
    ///
    /// # Errors
    /// [`Fault::NotAList`] where there is none.
    pub fn detect(head: &[u8]) -> Result<Self, Error> {
        for digest_size in [20, 32, 48, 64] {
            for endian in [Endian::Little, Endian::Big] {
                let layout = Self { endian, digest_size };
                if layout.header(&mut Reader::new(head)).is_ok() {
                    return Ok(layout);
                }
            }
        }
        Err(Error::new(Fault::NotAList, 0))
    }

    /// The PCR, the digest and the template that a record begins with.
    fn header<'a>(&self, reader: &mut Reader<'a>) -> Result<(u32, &'a [u8], Template<'a>), Error> {
        let at = reader.offset();
        let pcr = self.endian.u32(reader.array()?);
        if pcr >= PCRS {
            return Err(Error::new(Fault::Pcr(pcr), at));
        }
        let digest = reader.take(self.digest_size)?;
        let at = reader.offset();
        let length = self.endian.u32(reader.array()?);
        if !(1..=MAX_NAME).contains(&(length as usize)) {
            return Err(Error::new(Fault::NameLength(length), at));
        }
        let at = reader.offset();
        let name = reader.take(length as usize)?;
        let template = Template::of(name).ok_or(Error::new(Fault::Template, at))?;
        Ok((pcr, digest, template))
    }

    /// Reads the record that `window` begins with.
    ///
    /// # Errors
    /// A malformed record; offsets count from the start of the window. That the window ends early
    /// is not an error.
    pub fn step<'a>(&self, window: &'a [u8]) -> Result<Step<'a>, Error> {
        let mut reader = Reader::new(window);
        match self.record(&mut reader) {
            Ok(record) => Ok(Step::Record(record, reader.offset())),
            Err(Error { kind: ErrorKind::Truncated { needed, .. }, offset }) => {
                Ok(Step::Incomplete(offset.saturating_add(needed)))
            }
            Err(error) => Err(error),
        }
    }

    fn record<'a>(&self, reader: &mut Reader<'a>) -> Result<Record<'a>, Error> {
        let (pcr, digest, template) = self.header(reader)?;
        let at = reader.offset();
        let (data_offset, length) = match template.is_ima() {
            true => {
                // looked at in a copy: the digest, and a name that has a length
                let mut ahead = reader.clone();
                let digest = ima_digest_size(ahead.clone().rest(), self.endian);
                ahead.take(digest)?;
                let length = self.endian.u32(ahead.array()?);
                (at, u64::from(length) + digest as u64 + 4)
            }
            false => {
                let length = self.endian.u32(reader.array()?);
                (reader.offset(), u64::from(length))
            }
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_DATA {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            return Err(Error::new(Fault::DataLength(length), at));
        }
        let data = reader.take(length)?;
        Ok(Record { pcr, digest, template, data, data_offset, endian: self.endian })
    }
}

impl<'a> Record<'a> {
    /// Whether it is a violation: a file that was open for writing while it was measured, or
    /// measured while it was open for writing.
    pub fn is_violation(&self) -> bool {
        self.digest.iter().all(|byte| *byte == 0)
    }

    /// Its fields.
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.template, self.data, self.endian)
    }

    /// Gives `update` the bytes that the template digest is made of, in one or several parts.
    ///
    /// # Errors
    /// Those of `update`.
    pub fn hashed<E>(&self, mut update: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if !self.template.is_ima() {
            return update(self.data);
        }
        let size = ima_digest_size(self.data, self.endian);
        let digest = self.data.get(..size).unwrap_or_default();
        let name = self.data.get(size + 4..).unwrap_or_default();
        update(digest)?;
        update(name)?;
        update([0; IMA_NAME_SIZE].get(name.len()..).unwrap_or_default())
    }

    /// Its data as a machine of the other byte order would have written them.
    ///
    /// # Errors
    /// Template data that do not have the form of the template.
    pub fn data_in_other_order(&self) -> Result<Vec<u8>, Error> {
        let mut data = Vec::with_capacity(self.data.len());
        for field in self.fields() {
            let field = field?;
            if !(self.template.is_ima() && field.id == FieldId::Digest) {
                let length = u32::try_from(field.bytes.len()).unwrap_or(u32::MAX);
                data.extend_from_slice(&self.endian.other().bytes(length));
            }
            // numbers are in that order, too
            match field.id {
                FieldId::Uid | FieldId::Gid | FieldId::Mode => {
                    data.extend(field.bytes.iter().rev())
                }
                FieldId::XattrLengths => {
                    let numbers = field.bytes.chunks(4);
                    data.extend(numbers.flat_map(|number| number.iter().rev()));
                }
                _ => data.extend_from_slice(field.bytes),
            }
        }
        Ok(data)
    }

    /// Appends the record as it is in a list.
    pub fn encode_into(&self, output: &mut Vec<u8>) {
        let length = |bytes: &[u8]| self.endian.bytes(u32::try_from(bytes.len()).unwrap_or(0));
        output.extend_from_slice(&self.endian.bytes(self.pcr));
        output.extend_from_slice(self.digest);
        output.extend_from_slice(&length(self.template.name()));
        output.extend_from_slice(self.template.name());
        if !self.template.is_ima() {
            output.extend_from_slice(&length(self.data));
        }
        output.extend_from_slice(self.data);
    }
}

/// The size of [`KexecHeader`].
pub const KEXEC_HEADER_SIZE: usize = 24;

/// What stands before a list that is handed over by kexec (`struct ima_kexec_hdr`,
/// `security/integrity/ima/ima.h`): version (2), reserved (2 and 4), size of the buffer with this
/// header (8), number of records (8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KexecHeader {
    /// The byte order.
    pub endian: Endian,
    /// Bytes of the list, this header among them.
    pub buffer_size: u64,
    /// Records in the list.
    pub count: u64,
}

impl KexecHeader {
    /// The header, if `head` begins with one. A record of PCR 1 would have to follow it by a
    /// digest that begins with four zeros, and not go on as a violation does, with more of them.
    pub fn read(head: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(head);
        let (version, reserved) = (reader.array::<2>().ok()?, reader.array::<6>().ok()?);
        let (size, count) = (reader.array::<8>().ok()?, reader.array::<8>().ok()?);
        let (endian, buffer_size, count) = match version {
            [1, 0] => (Endian::Little, u64::from_le_bytes(size), u64::from_le_bytes(count)),
            [0, 1] => (Endian::Big, u64::from_be_bytes(size), u64::from_be_bytes(count)),
            _ => return None,
        };
        let is_header = reserved == [0; 6] && buffer_size >= KEXEC_HEADER_SIZE as u64;
        is_header.then_some(Self { endian, buffer_size, count })
    }
}
