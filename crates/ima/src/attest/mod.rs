//! Measurement lists: read, replayed against PCRs, and explained if the two differ.
//!
//! | module | purpose |
//! |---|---|
//! | [`source`] | files, standard input, this machine's securityfs |
//! | [`reader`] | segments to batches of records, in constant memory |
//! | [`check`] | a batch to template digests and findings, on all CPUs |
//! | [`signature`] | the signatures in records, verified with the data in the record |
//! | [`replay`] | template digests to the expected values of PCRs |
//! | [`pcr`] | the actual values of PCRs |
//! | [`quote`] | those values, signed by a TPM |
//! | [`firmware`] | the firmware's event log to the values of PCRs at the start of the kernel |
//! | [`verify`] | all of it in one pass |
//! | [`convert`] | conversion of a list to another form |
//! | [`table`] | a list as rows with verdicts, for databases |
//! | [`parquet`] | such a table as a Parquet file |
//! | [`manifest`] | the files of a root or of packages, with their digests |
//! | [`envelope`] | signed manifests |
//! | [`compare`] | a list compared with a manifest |
//! | [`diff`] | two lists compared |
//! | [`timeline`] | a list merged with the audit log |
//! | [`keep`] | the list moved from kernel memory to files |
//! | [`explain`] | a second pass: why a list and a PCR differ |
//!
//! A pass has one thread that reads, workers that hash and verify, and the caller's thread, which extends in the
//! order of the list: that part cannot be parallel. Batches are reused, so memory does not grow with the list.

pub mod check;
pub mod compare;
pub mod convert;
pub mod diff;
mod edit;
pub mod envelope;
pub mod explain;
pub mod firmware;
mod hypothesis;
pub mod keep;
pub mod manifest;
pub mod parquet;
pub mod pcr;
pub mod quote;
pub mod reader;
pub mod replay;
pub mod signature;
pub mod source;
pub mod table;
pub mod timeline;
pub mod verify;

use std::fmt;
use std::io;
use std::sync::Arc;

use ima_format::hash::HashAlgorithm;
use ima_format::measure::Record;
use ima_format::ErrorKind;

use crate::advice::Advice;
use crate::digest::{DigestError, Hasher};

/// Why a list could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The input cannot be read.
    #[error("{name}: {source}")]
    Read {
        /// The input.
        name: Arc<str>,
        /// The system's error.
        source: io::Error,
    },
    /// The input is not a list, or not from an offset on.
    #[error("{0}")]
    Malformed(Box<Malformed>),
    /// Digests cannot be computed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Advice for ListError {
    fn advice(&self) -> Option<&'static str> {
        let Self::Read { name, source } = self else { return None };
        let is_here = name.starts_with("/sys/kernel/security/ima/");
        match (is_here, source.kind()) {
            (true, io::ErrorKind::NotFound) => {
                Some("mount securityfs; is the kernel built with CONFIG_IMA?")
            }
            (true, io::ErrorKind::PermissionDenied) => Some("only root can read it"),
            // with staging, the kernel allows one writer or several readers (Linux 7.2)
            (true, _) if source.raw_os_error() == Some(libc::EBUSY) => {
                Some("another program is staging or deleting entries; try again")
            }
            _ => None,
        }
    }
}

/// The record at which a list becomes malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The input.
    pub name: Arc<str>,
    /// The offset of the field that is wrong.
    pub offset: u64,
    /// The number of the record, from 0 over all segments.
    pub index: u64,
    /// The fault.
    pub kind: ErrorKind,
    /// The readable part after it.
    pub rest: Rest,
}

/// The readable part of a list after a malformed record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes from the start of the malformed record to the end of the input.
    pub bytes: u64,
    /// The offset of the first record that can be read again.
    pub resumes: Option<u64>,
    /// The number of records that can be read.
    pub records: u64,
    /// Their size in bytes.
    pub readable: u64,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, offset, index, kind, rest } = self;
        write!(f, "{name}: record {index} is malformed at offset {offset}: {kind}; ")?;
        match rest.resumes {
            None => write!(f, "nothing in the last {} bytes can be read", rest.bytes),
            Some(resumes) => write!(
                f,
                "{} records ({} of the last {} bytes) can be read, from offset {resumes} on",
                rest.records, rest.readable, rest.bytes
            ),
        }
    }
}

/// The algorithms with digests of this size, the likeliest first.
fn algorithms_of(digest_size: usize) -> &'static [HashAlgorithm] {
    use HashAlgorithm::{Sha1, Sha256, Sha384, Sha3_256, Sha3_384, Sha3_512, Sha512, Sm3};
    match digest_size {
        20 => &[Sha1],
        32 => &[Sha256, Sm3, Sha3_256],
        48 => &[Sha384, Sha3_384],
        64 => &[Sha512, Sha3_512],
        _ => &[],
    }
}

/// The algorithm of a record's template digest; `None` if no algorithm results in it.
fn algorithm_of(record: &Record<'_>) -> Option<HashAlgorithm> {
    let mut algorithms = algorithms_of(record.digest.len()).iter().copied();
    algorithms.find(|algorithm| {
        let digest = Hasher::new(*algorithm).and_then(|mut hasher| hash(&mut hasher, record));
        digest.is_ok_and(|digest| digest.as_bytes() == record.digest)
    })
}

/// Computes the template digest of a record.
fn hash(hasher: &mut Hasher, record: &Record<'_>) -> Result<crate::Digest, DigestError> {
    record.hashed(|part| hasher.update(part))?;
    hasher.finish()
}
