//! The work of a thread: a batch to template digests and findings.

use std::fmt;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::{Entry, Record};
use ima_format::Error as FormatError;

use super::reader::{Batch, Item};
use super::signature::{RecordVerifier, SignatureState};
use super::{hash, ListError};
use crate::digest::{DigestError, FileHasher, Hasher};
use crate::verify::{Keyring, Verifier};

/// A fact about a record that a user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The number of the record.
    pub index: u64,
    /// The offset of the record in its segment.
    pub offset: u64,
    /// The file's name, or the event's.
    pub name: Vec<u8>,
    /// The kind of finding.
    pub kind: FindingKind,
}

/// The kind of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The listed template digest is not that of the template data.
    TemplateDigest,
    /// The template data are malformed; the offset counts from the start of the record.
    Malformed(FormatError),
    /// A file was read while it was open for writing, or the reverse.
    Violation,
    /// A signature that is invalid, or that cannot be verified.
    Signature(SignatureState),
}

impl FindingKind {
    /// The name of the kind in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TemplateDigest => "template-digest",
            Self::Malformed(_) => "malformed",
            Self::Violation => "violation",
            Self::Signature(state) => state.word(),
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TemplateDigest => f.write_str("its data do not result in its template digest"),
            Self::Malformed(error) => error.fmt(f),
            Self::Violation => {
                f.write_str("violation: the file was open for writing while it was measured")
            }
            Self::Signature(state) => state.fmt(f),
        }
    }
}

/// A batch with its results.
#[derive(Debug)]
pub struct Checked {
    /// The batch.
    pub batch: Batch,
    /// The template digests of all records, concatenated, for each requested algorithm.
    pub digests: Vec<Vec<u8>>,
    /// The effect of each record on a PCR.
    pub extensions: Vec<Extension>,
    /// Records that belong to a boot.
    pub landmarks: Vec<Landmark>,
    /// Findings, in the list's order.
    pub findings: Vec<Finding>,
    /// Counts of records by kind.
    pub counts: Counts,
}

/// The effect of a record on a PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// The PCR.
    pub pcr: u32,
    /// Whether the record extends it by ones instead of its digest.
    pub by_ones: bool,
}

/// A record that belongs to a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landmark {
    /// The number of the record.
    pub index: u64,
    /// The event.
    pub event: BootEvent,
}

/// An event of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootEvent {
    /// A kernel started: the digest of the PCRs before it; `None` if it is zeros, without a TPM.
    BootAggregate(Option<Digest>),
    /// The next kernel was loaded.
    KexecLoad,
    /// The next kernel was about to be started.
    KexecExecute,
}

impl BootEvent {
    /// The event of a record.
    pub fn of(entry: &Entry<'_>) -> Option<Self> {
        Some(match (entry.name, entry.buffer) {
            (b"boot_aggregate" | b"boot_aggregate_late", None) => {
                Self::BootAggregate(entry.digest.and_then(|digest| digest.digest))
            }
            (b"kexec_load", Some(_)) => Self::KexecLoad,
            (b"kexec_execute", Some(_)) => Self::KexecExecute,
            _ => return None,
        })
    }
}

/// Counts of records by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records.
    pub records: u64,
    /// Violations.
    pub violations: u64,
    /// Records with another digest than that of their data, or with malformed data.
    pub malformed: u64,
    /// Records with a signature.
    pub signed: u64,
    /// Signatures that are valid.
    pub valid: u64,
    /// Signatures that are invalid or malformed.
    pub invalid: u64,
    /// Signatures of unknown keys.
    pub unknown: u64,
    /// Signatures that cannot be verified.
    pub unverifiable: u64,
}

impl Counts {
    /// Adds the counts of another part of the list.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.violations += other.violations;
        self.malformed += other.malformed;
        self.signed += other.signed;
        self.valid += other.valid;
        self.invalid += other.invalid;
        self.unknown += other.unknown;
        self.unverifiable += other.unverifiable;
    }
}

/// A worker, used by one thread.
#[allow(missing_debug_implementations)] // OpenSSL's contexts have nothing to show
pub struct Checker {
    banks: Vec<Hasher>,
    /// For listed digests of algorithms that are not requested.
    others: FileHasher,
    verifier: Option<RecordVerifier>,
}

impl Checker {
    /// A worker that computes digests of these algorithms, and verifies signatures with these keys.
    ///
    /// # Errors
    /// An algorithm that is not available.
    pub fn new(banks: &[HashAlgorithm], keyring: Option<&Keyring>) -> Result<Self, DigestError> {
        Ok(Self {
            banks: banks.iter().map(|bank| Hasher::new(*bank)).collect::<Result<_, _>>()?,
            others: FileHasher::default(),
            verifier: keyring.cloned().map(Verifier::new).map(RecordVerifier::new),
        })
    }

    /// Checks a batch.
    ///
    /// # Errors
    /// Digests that cannot be computed.
    pub fn check(&mut self, batch: Batch) -> Result<Checked, ListError> {
        let space =
            |bank: &Hasher| Vec::with_capacity(batch.len() * bank.algorithm().digest_size());
        let mut digests: Vec<_> = self.banks.iter().map(space).collect();
        let (mut extensions, mut landmarks) = (Vec::with_capacity(batch.len()), Vec::new());
        let (mut findings, mut counts) = (Vec::new(), Counts::default());
        for item in batch.items() {
            let Record { pcr, .. } = item.record;
            extensions.push(Extension { pcr, by_ones: item.record.is_violation() });
            let mut listed = None;
            for (bank, digests) in self.banks.iter_mut().zip(&mut digests) {
                let digest = hash(bank, &item.record)?;
                digests.extend_from_slice(digest.as_bytes());
                if bank.algorithm() == batch.algorithm() {
                    listed = Some(digest);
                }
            }
            let listed = match listed {
                Some(digest) => digest,
                None => hash(self.others.hasher(batch.algorithm())?, &item.record)?,
            };
            let event = self.look_at(&item, &listed, &mut counts, &mut findings)?;
            landmarks.extend(event.map(|event| Landmark { index: item.index, event }));
        }
        Ok(Checked { batch, digests, extensions, landmarks, findings, counts })
    }

    fn look_at(
        &mut self,
        item: &Item<'_>,
        digest: &Digest,
        counts: &mut Counts,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<BootEvent>, ListError> {
        let record = &item.record;
        let decoded = Entry::decode(record);
        let name = decoded.as_ref().map_or(&[][..], |entry| entry.name);
        let mut find = |kind| {
            let (index, offset, name) = (item.index, item.offset, name.to_vec());
            findings.push(Finding { index, offset, name, kind });
        };
        counts.records += 1;
        if record.is_violation() {
            counts.violations += 1;
            find(FindingKind::Violation);
        } else if digest.as_bytes() != record.digest {
            counts.malformed += 1;
            find(FindingKind::TemplateDigest);
        }
        let entry = match &decoded {
            Ok(entry) => entry,
            Err(error) => {
                counts.malformed += 1;
                find(FindingKind::Malformed(error.clone()));
                return Ok(None);
            }
        };
        counts.signed += u64::from(is_signed(entry));
        let event = BootEvent::of(entry);
        let Some(verifier) = &mut self.verifier else { return Ok(event) };
        for state in verifier.states(entry, record)? {
            *match &state {
                SignatureState::Valid(_) => &mut counts.valid,
                SignatureState::Invalid(_) | SignatureState::Malformed(_) => &mut counts.invalid,
                SignatureState::UnknownKey(_) => &mut counts.unknown,
                SignatureState::Unverifiable(_) => &mut counts.unverifiable,
            } += 1;
            if !matches!(state, SignatureState::Valid(_)) {
                find(FindingKind::Signature(state));
            }
        }
        Ok(event)
    }
}

/// Whether a record has a signature of any kind.
pub fn is_signed(entry: &Entry<'_>) -> bool {
    entry.signature.or(entry.evm_signature).or(entry.modsig).is_some()
}
