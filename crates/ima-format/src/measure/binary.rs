//! Binary records, read from a window of a list that may be larger than memory.

use alloc::vec::Vec;

use super::template::{ima_digest_size, FieldId, Fields, Template, MAX_FIELDS};
use super::{Endian, Fault};
use crate::reader::Reader;
use crate::{Error, ErrorKind};

/// The longest name of a template: a list of the most fields, each with the longest name
/// (`IMA_TEMPLATE_FIELD_ID_MAX_LEN`) and a separator.
pub const MAX_NAME: usize = MAX_FIELDS * 17 - 1;
/// The most template data that are read, in bytes: far more than a policy or a key, and small enough to
/// keep in memory.
pub const MAX_DATA: usize = 16 << 20;
/// The number of PCRs that a policy can name (`INVALID_PCR`, `ima_policy.c`). A TPM has fewer and rejects
/// the others, but their records are in the list.
pub const PCRS: u32 = 64;
/// In template `ima` a name is padded to this size before it is hashed.
const IMA_NAME_SIZE: usize = 256;

/// The encoding of a list's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The byte order.
    pub endian: Endian,
    /// The size of template digests in bytes, which depends on the bank.
    pub digest_size: usize,
}

/// A record, with its parts as they are in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The PCR that it extended.
    pub pcr: u32,
    /// The digest of its data; zeros in a violation.
    pub digest: &'a [u8],
    /// Its template.
    pub template: Template<'a>,
    /// Its template data.
    pub data: &'a [u8],
    /// The offset of the data from the start of the record.
    pub data_offset: usize,
    /// The byte order of its lengths.
    pub endian: Endian,
}

/// The result of reading from the start of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record, and its size.
    Record(Record<'a>, usize),
    /// A part of a record: at least so many bytes are needed.
    Incomplete(usize),
}

impl Layout {
    /// Detects the layout from the first bytes of a list: the layout under which the first record has the name
    /// of a template. 512 bytes are enough.
    ///
    /// # Errors
    /// [`Fault::NotAList`] if no layout fits.
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

    /// Reads the PCR, the digest and the template of a record.
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

    /// Reads the record at the start of `window`.
    ///
    /// # Errors
    /// A malformed record; offsets count from the start of the window. A window that ends early is not an error
    /// but [`Step::Incomplete`].
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
                // only looks ahead, at the digest and a name that has a length: the reader itself does not move
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
    /// Whether it is a violation: the file was measured while it was open for writing, or opened for writing
    /// while it was open after a measurement.
    pub fn is_violation(&self) -> bool {
        self.digest.iter().all(|byte| *byte == 0)
    }

    /// Its fields.
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.template, self.data, self.endian)
    }

    /// Passes the bytes that the template digest covers to `update`, in one or more parts.
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

    /// Its data as a machine of the other byte order would write them.
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
            // numbers have the byte order of the lengths
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

    /// Appends the record in its binary form.
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

/// The size of [`KexecHeader`] in bytes.
pub const KEXEC_HEADER_SIZE: usize = 24;

/// The header of a list that kexec hands over (`struct ima_kexec_hdr`, `security/integrity/ima/ima.h`):
/// version (2), reserved (2 and 4), size of the buffer with this header (8), number of records (8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KexecHeader {
    /// The byte order.
    pub endian: Endian,
    /// The size of the list in bytes, with this header.
    pub buffer_size: u64,
    /// The number of records.
    pub count: u64,
}

impl KexecHeader {
    /// The header, if `head` begins with one. A record of PCR 1 can be mistaken for it only if its digest begins with
    /// four zeros; a violation cannot, since the size would be 0.
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
