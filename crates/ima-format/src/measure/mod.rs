//! Measurement lists: the records that IMA appends and extends into a PCR.
//!
//! A binary record (`ima_measurements_show`, `security/integrity/ima/ima_fs.c`), in the byte order
//! of the machine, or little-endian with `ima_canonical_fmt`:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | PCR |
//! | 20, 32, 48 or 64 | template digest: SHA-1, or the bank's algorithm in `binary_runtime_measurements_<alg>` (Linux 6.10) |
//! | 4 | length of the template's name |
//! | n | the template's name, or its list of fields if it has no name |
//! | 4 | length of the template data; absent in template `ima` |
//! | n | template data: for each field a length (4) and its bytes |
//!
//! Template `ima` differs: its digest has 20 bytes (16 with `ima_hash=md5`) and no length, and its name has no
//! final NUL.
//!
//! The template digest is the hash of the template data as they are in the record; in template `ima`, of the
//! digest and the name, padded with zeros to 256 bytes (`ima_calc_field_array_hash_tfm`, `ima_crypto.c`). A
//! violation has a digest of zeros in the list and extends the PCR by ones.
//!
//! The record is the same in Linux 5.10, 6.12 and 7.3, whose sources were compared.
//!
//! A record shows neither the length of its digest nor its byte order: [`Layout::detect`] selects the layout
//! under which the first record has the name of a template.

mod ascii;
mod binary;
pub mod cel;
mod entry;
mod event_log;
mod pcr;
mod template;

pub use ascii::AsciiRecord;
pub use binary::{KexecHeader, Layout, Record, Step, KEXEC_HEADER_SIZE, MAX_DATA, MAX_NAME, PCRS};
pub use entry::{DigestType, Entry, FileDigest};
pub use event_log::{EventLog, FirmwareEvent};
pub use pcr::{PcrFault, PcrFaultKind, PcrValue, PcrValues};
pub use template::{Field, FieldId, Fields, Template, MAX_FIELDS};

use core::fmt;

/// The byte order of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// The least significant byte first.
    Little,
    /// The most significant byte first.
    Big,
}

impl Endian {
    /// The opposite order.
    pub fn other(self) -> Self {
        match self {
            Self::Little => Self::Big,
            Self::Big => Self::Little,
        }
    }

    /// Decodes 32 bits.
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Encodes 16 bits.
    pub fn u16_bytes(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// Encodes 64 bits.
    pub fn u64_bytes(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// Encodes 32 bits.
    pub fn bytes(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

impl fmt::Display for Endian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Little => "little-endian",
            Self::Big => "big-endian",
        })
    }
}

/// A fault of a measurement list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No byte order and digest size fit the first record.
    NotAList,
    /// A PCR with a number that no policy can name.
    Pcr(u32),
    /// The template's name is empty, or longer than any list of fields.
    NameLength(u32),
    /// The template's name is neither known nor a list of known fields.
    Template,
    /// The template data are longer than [`MAX_DATA`].
    DataLength(u32),
    /// A field is longer than the rest of the template data.
    FieldLength {
        /// Its length.
        length: u32,
        /// The size of the rest.
        left: usize,
    },
    /// Bytes follow the last field of the template.
    TrailingData(usize),
    /// A digest field has no algorithm, or an unknown one.
    DigestAlgorithm,
    /// A digest does not have the size of its algorithm.
    DigestSize(usize),
    /// A name field does not end with a NUL, or has one before its end.
    Name,
    /// A number does not have the size that the kernel gives it.
    NumberSize(usize),
    /// A line of an ASCII list does not have the fields of its template.
    Line,
    /// A field of an ASCII list is not hexadecimal.
    Hex,
    /// The list ends before this number of records, which its kexec header gives.
    KexecCount(u64),
    /// A record of a Canonical Event Log lacks this item.
    Cel(&'static str),
    /// A record of a Canonical Event Log has content of an unknown type.
    CelContent(u64),
    /// In a Canonical Event Log, entries of IMA and other events extend the same PCR.
    CelPcr(u32),
    /// An event of the firmware's log has a digest of an algorithm that the first event does not name.
    EventBank(u16),
    /// An event of the firmware's log has more digests than a TPM has banks.
    EventBanks(u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAList => f.write_str(
                "not a measurement list: no template name after the first digest, in any byte \
                 order and for any digest size",
            ),
            Self::Pcr(pcr) => write!(f, "PCR {pcr}: expected 0 to 63"),
            Self::NameLength(length) => {
                write!(f, "template name of {length} bytes: expected 1 to {MAX_NAME}")
            }
            Self::Template => f.write_str("unknown template: expected a name or a list of fields"),
            Self::DataLength(length) => {
                write!(f, "template data of {length} bytes: expected at most {MAX_DATA}")
            }
            Self::FieldLength { length, left } => {
                write!(f, "field of {length} bytes in template data with {left} bytes left")
            }
            Self::TrailingData(count) => {
                write!(f, "{count} bytes of template data after the last field")
            }
            Self::DigestAlgorithm => f.write_str(
                "file digest without a known algorithm: expected \"sha256:\" or the like",
            ),
            Self::DigestSize(size) => {
                write!(f, "file digest of {size} bytes, which is not its algorithm's size")
            }
            Self::Name => f.write_str("name without a NUL at its end, or with one before it"),
            Self::NumberSize(size) => write!(f, "number of {size} bytes: expected 2 or 4"),
            Self::Line => f.write_str(
                "expected a PCR, a digest, a template, and the template's fields, separated by \
                 single spaces",
            ),
            Self::Hex => f.write_str("expected hexadecimal digits in pairs"),
            Self::KexecCount(count) => {
                write!(f, "expected {count} more records, which the kexec header counts")
            }
            Self::Cel(expected) => write!(f, "CEL: expected {expected}"),
            Self::CelContent(kind) => {
                write!(f, "CEL: content of type {kind}, expected an IMA template (7)")
            }
            Self::CelPcr(pcr) => write!(
                f,
                "CEL: entries of IMA and other events extend PCR {pcr}, which cannot be replayed"
            ),
            Self::EventBank(algorithm) => write!(
                f,
                "digest of algorithm {algorithm:#x}, which the log's first event does not name"
            ),
            Self::EventBanks(count) => write!(f, "{count} digests: expected at most 16"),
        }
    }
}

impl From<Fault> for crate::ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Measure(fault)
    }
}

#[cfg(test)]
mod tests;
