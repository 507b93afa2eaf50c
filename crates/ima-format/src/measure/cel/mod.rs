//! The TCG's Canonical Event Log: the same records in three encodings.
//!
//! TCG Canonical Event Log Format 1.1. A log is an array or a sequence of records (CBOR, JSON), or records
//! one after the other (TLV). Records of IMA templates are the entries of a measurement list. A log may also
//! have records of the firmware, of systemd and of the log itself: of these only the PCR is read.
//!
//! | field | TLV type, big-endian | CBOR key | JSON |
//! |---|---|---|---|
//! | number of the record, for each PCR from 0 | 0 | 0 | `recnum` |
//! | PCR | 1 | 1 | `pcr` |
//! | digests | 3: for each the low byte of `TPM_ALG` and the digest | 3: `[{0: TPM_ALG, 1: digest}]` | `digests`: `[{hashAlg, digest}]` |
//! | type of the content | | 9 | `content_type` |
//! | content: an IMA template | 7: name 0, data 1 | 10: `{0: name, 1: data}` | `content`: `{template_name, template_data}` |
//!
//! A TLV is a type (1), a length (4, big-endian) and a value; numbers have any length. The digests are those
//! that extended the PCR: a violation has ones, not the zeros of the list.

mod cbor;
mod json;
mod tlv;

use alloc::vec::Vec;

use super::{Endian, Entry, Fault, Record, Template, MAX_DATA, PCRS};
use crate::cbor::Writer;
use crate::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use crate::{Error, ErrorKind};

/// `content_type`: an IMA template.
const IMA_TEMPLATE: u64 = 7;
/// The types of content that are not IMA's, with their names in JSON: the log itself, firmware, systemd.
const OTHERS: [(u64, &str); 3] = [(4, "cel"), (5, "pcclient_std"), (9, "systemd")];
/// The longest record in bytes: data in hexadecimal, and room for the rest.
const MAX_RECORD: usize = 2 * MAX_DATA + (1 << 16);

/// An encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CelEncoding {
    /// Type, length, value.
    Tlv,
    /// CBOR (RFC 8949).
    Cbor,
    /// JSON; records may begin with 0x1e (RFC 7464).
    Json,
}

/// A record of an IMA template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CelRecord {
    /// Its number among the records of its PCR.
    pub number: u64,
    /// The PCR.
    pub pcr: u32,
    /// The digests that extended the PCR; those of unknown algorithms are left out.
    pub digests: Vec<Digest>,
    /// The name of the template.
    pub name: Vec<u8>,
    /// The template data.
    pub data: Vec<u8>,
}

/// A record that is not IMA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CelOther {
    /// The PCR that it extends; `None` if it extends an NV index.
    pub pcr: Option<u32>,
    /// The type of its content.
    pub content: u64,
}

/// A record as it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parsed {
    Ima(CelRecord),
    Other(CelOther),
}

impl Parsed {
    fn step(self, size: usize) -> CelStep {
        match self {
            Self::Ima(record) => CelStep::Record(record, size),
            Self::Other(other) => CelStep::Other(other, size),
        }
    }
}

/// Whether content of this type is not IMA's.
fn is_other(content: u64) -> bool {
    OTHERS.iter().any(|(other, _)| *other == content)
}

/// Reads a log from windows, which may be shorter than the log.
#[derive(Debug, Clone)]
pub struct CelReader {
    encoding: CelEncoding,
    log: Log,
}

/// The structure around the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// Nothing was read.
    Start,
    /// No structure: records one after the other.
    Sequence,
    /// An array with so many more records; `None`: of indefinite length.
    Array(Option<u64>),
    /// The array has ended.
    Closed,
}

/// The result of reading from the start of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CelStep {
    /// A record, and its size.
    Record(CelRecord, usize),
    /// A record that is not IMA's, and its size.
    Other(CelOther, usize),
    /// So many bytes of separators between records.
    Between(usize),
    /// A part of a record: at least so many bytes are needed.
    Incomplete(usize),
}

impl CelEncoding {
    /// Detects the encoding from the first bytes of a log; `None` also for the kernel's binary form.
    pub fn detect(head: &[u8]) -> Option<Self> {
        match head {
            // the record number has 1 to 8 bytes; a PCR or an NV index follows
            [0, 0, 0, 0, length @ 1..=8, rest @ ..] => {
                let next = rest.get(usize::from(*length));
                matches!(next, Some(1 | 2)).then_some(Self::Tlv)
            }
            [0x80..=0xbf, ..] => Some(Self::Cbor),
            _ => {
                let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
                matches!(first, Some(b'[' | b'{' | 0x1e)).then_some(Self::Json)
            }
        }
    }

    /// Appends the bytes before the first of `count` records.
    pub fn start_into(self, count: u64, output: &mut Vec<u8>) {
        match self {
            Self::Tlv => {}
            Self::Cbor => {
                Writer(output).array(count);
            }
            Self::Json => output.push(b'['),
        }
    }

    /// Appends the bytes after the last record.
    pub fn end_into(self, output: &mut Vec<u8>) {
        if self == Self::Json {
            output.extend_from_slice(b"\n]\n");
        }
    }
}

impl CelReader {
    /// A reader at the start of a log.
    pub fn new(encoding: CelEncoding) -> Self {
        Self { encoding, log: Log::Start }
    }

    /// Reads from the start of the window. `ended`: the window is the end of the input.
    ///
    /// # Errors
    /// A malformed record, or one of an unknown type of content; offsets count from the start of the window.
    pub fn step(&mut self, window: &[u8], ended: bool) -> Result<CelStep, Error> {
        let step = match self.encoding {
            CelEncoding::Tlv => incomplete(tlv::record(window)),
            CelEncoding::Cbor => self.cbor(window),
            CelEncoding::Json => self.json(window, ended),
        }?;
        match step {
            CelStep::Incomplete(length) if length > MAX_RECORD => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                Err(Error::new(Fault::DataLength(length), 0))
            }
            step => Ok(step),
        }
    }

    /// Whether the input may end here.
    pub fn may_end(&self) -> bool {
        matches!(self.log, Log::Start | Log::Sequence | Log::Closed | Log::Array(Some(0)))
    }

    fn cbor(&mut self, window: &[u8]) -> Result<CelStep, Error> {
        match self.log {
            Log::Start => {
                let array = match cbor::array_start(window) {
                    Ok(array) => array,
                    Err(error) => return incomplete(Err(error)),
                };
                self.log = array.map_or(Log::Sequence, |(count, _)| Log::Array(count));
                Ok(CelStep::Between(array.map_or(0, |(_, size)| size)))
            }
            Log::Array(None) if window.first() == Some(&cbor::BREAK) => {
                self.log = Log::Closed;
                Ok(CelStep::Between(1))
            }
            Log::Array(Some(0)) | Log::Closed => {
                Err(Error::new(ErrorKind::TrailingBytes { count: window.len() }, 0))
            }
            log => {
                let step = incomplete(cbor::record(window))?;
                if let (Log::Array(Some(left)), CelStep::Record(..) | CelStep::Other(..)) =
                    (log, &step)
                {
                    self.log = Log::Array(Some(left.saturating_sub(1)));
                }
                Ok(step)
            }
        }
    }

    fn json(&mut self, window: &[u8], ended: bool) -> Result<CelStep, Error> {
        let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0x1e | b',');
        let count = window.iter().take_while(|byte| between(byte)).count();
        if count > 0 {
            return Ok(CelStep::Between(count));
        }
        match (self.log, window.first()) {
            (_, None) => Ok(CelStep::Incomplete(1)),
            (Log::Start, Some(b'[')) => {
                self.log = Log::Array(None);
                Ok(CelStep::Between(1))
            }
            (Log::Array(_), Some(b']')) => {
                self.log = Log::Closed;
                Ok(CelStep::Between(1))
            }
            (Log::Start | Log::Sequence | Log::Array(_), Some(b'{')) => {
                if self.log == Log::Start {
                    self.log = Log::Sequence;
                }
                match json::object_end(window) {
                    Some(end) => json::record(window.get(..end).unwrap_or_default())
                        .map(|parsed| parsed.step(end)),
                    None if ended => Err(Error::new(Fault::Cel("the end of an object"), 0)),
                    // the length of the object is unknown: doubling the window keeps the total work linear
                    None => Ok(CelStep::Incomplete(window.len().saturating_mul(2))),
                }
            }
            _ => Err(Error::new(Fault::Cel("a record"), 0)),
        }
    }
}

/// Turns the error of a window that ends early into [`CelStep::Incomplete`].
fn incomplete(read: Result<(Parsed, usize), Error>) -> Result<CelStep, Error> {
    match read {
        Ok((parsed, size)) => Ok(parsed.step(size)),
        Err(Error { kind: ErrorKind::Truncated { needed, .. }, offset }) => {
            Ok(CelStep::Incomplete(offset.saturating_add(needed)))
        }
        Err(error) => Err(error),
    }
}

impl CelRecord {
    /// Checks that the record can be one of a measurement list.
    fn checked(self, at: usize) -> Result<Self, Error> {
        if self.pcr >= PCRS {
            return Err(Error::new(Fault::Pcr(self.pcr), at));
        }
        match Template::of(&self.name) {
            None => Err(Error::new(Fault::Template, at)),
            Some(_) if self.digests.is_empty() => {
                Err(Error::new(Fault::Cel("a digest of a known algorithm"), at))
            }
            Some(_) if self.data.len() > MAX_DATA => {
                let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
                Err(Error::new(Fault::DataLength(length), at))
            }
            Some(_) => Ok(self),
        }
    }

    /// The digest of an algorithm as a list has it: zeros for the ones of a violation.
    pub fn listed(&self, algorithm: HashAlgorithm) -> Option<Digest> {
        let digest = self.digests.iter().find(|digest| digest.algorithm() == algorithm)?;
        let is_violation = digest.as_bytes().iter().all(|byte| *byte == 0xff);
        let zeros = Digest::new(algorithm, [0; MAX_DIGEST_SIZE].get(..algorithm.digest_size())?);
        zeros.filter(|_| is_violation).or(Some(*digest))
    }

    /// The record as a list has it. The data do not show their byte order: it is the one in which they have the
    /// form of their template, little-endian if both fit.
    pub fn record<'a>(&'a self, digest: &'a Digest) -> Option<Record<'a>> {
        let template = Template::of(&self.name)?;
        let with = |endian| Record {
            pcr: self.pcr,
            digest: digest.as_bytes(),
            template,
            data: &self.data,
            data_offset: 0,
            endian,
        };
        let (little, big) = (with(Endian::Little), with(Endian::Big));
        let is_big = Entry::decode(&little).is_err() && Entry::decode(&big).is_ok();
        Some(if is_big { big } else { little })
    }

    /// Appends the record. In JSON the first record has no comma before it.
    pub fn encode_into(&self, encoding: CelEncoding, is_first: bool, output: &mut Vec<u8>) {
        match encoding {
            CelEncoding::Tlv => tlv::encode_into(self, output),
            CelEncoding::Cbor => cbor::encode_into(self, output),
            CelEncoding::Json => {
                output.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                json::encode_into(self, output);
            }
        }
    }
}

/// The digest that extends a PCR: ones for a violation.
pub fn extension(record: &Record<'_>, algorithm: HashAlgorithm, digest: &Digest) -> Option<Digest> {
    let ones = [0xff; MAX_DIGEST_SIZE];
    match record.is_violation() {
        true => Digest::new(algorithm, ones.get(..algorithm.digest_size())?),
        false => Some(*digest),
    }
}

#[cfg(test)]
mod tests;
