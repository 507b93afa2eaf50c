//! A list, compared with a manifest.

use std::collections::BTreeMap;

use ima_format::hash::Digest;
use ima_format::measure::Entry;
use ima_format::spelled;
use ima_format::xattr::KeyId;

use super::manifest::Manifest;
use super::reader::{Batch, ListReader};
use super::signature::{RecordVerifier, SignatureState};
use super::source::Source;
use super::ListError;
use crate::verify::{Keyring, Verifier};

spelled! {
    /// The result of comparing an entry with a manifest, as JSON spells it.
    Fit {
        /// The manifest has its digest.
        Expected = "expected",
        /// The manifest has other digests of the file.
        Changed = "changed",
        /// The manifest has no digest of this algorithm.
        OtherAlgorithm = "other-algorithm",
        /// The manifest does not have the file.
        Unexpected = "unexpected",
    }
}

/// An entry that differs from the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The number of the entry.
    pub index: u64,
    /// The file's name.
    pub name: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// The result of the comparison.
    pub fit: Fit,
    /// The trusted key that signed it.
    pub signed_by: Option<KeyId>,
}

/// The result of comparing a list with a manifest.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Entries of files with a digest.
    pub files: u64,
    /// Those with an expected digest.
    pub expected: u64,
    /// Those without an expected digest, but with a signature of a trusted key.
    pub signed: u64,
    /// Measured buffers, and boot_aggregate, which are not files.
    pub events: u64,
    /// Violations: the content that was read is unknown.
    pub violations: u64,
    /// Entries that cannot be decoded.
    pub malformed: u64,
    /// Files of the manifest without an entry.
    pub never_seen: Vec<Vec<u8>>,
}

/// Compares each entry with a manifest; those that differ are passed to `sink`, in order. Their signatures are
/// verified with the trusted keys.
///
/// # Errors
/// A list that cannot be read to its end; digests that cannot be computed.
pub fn compare(
    sources: &[Source],
    manifest: &Manifest,
    trusted: Option<&Keyring>,
    sink: &mut dyn FnMut(Deviation),
) -> Result<Comparison, ListError> {
    let manifest = manifest.as_measured();
    let mut seen: BTreeMap<&[u8], bool> =
        manifest.0.keys().map(|name| (&name[..], false)).collect();
    let (mut reader, mut batch) = (ListReader::new(sources.iter().cloned()), Batch::default());
    let mut comparison = Comparison::default();
    let mut verifier = trusted.cloned().map(Verifier::new).map(RecordVerifier::new);
    loop {
        reader.next(&mut batch)?;
        if batch.is_empty() {
            let never = seen.iter().filter(|(_, seen)| !**seen);
            comparison.never_seen = never.map(|(name, _)| name.to_vec()).collect();
            return Ok(comparison);
        }
        for item in batch.items() {
            let Ok(entry) = Entry::decode(&item.record) else {
                comparison.malformed += 1;
                continue;
            };
            if item.record.is_violation() {
                comparison.violations += 1;
                continue;
            }
            let Some(digest) = digest_of_file(&entry) else {
                comparison.events += 1;
                continue;
            };
            comparison.files += 1;
            if let Some(seen) = seen.get_mut(entry.name) {
                *seen = true;
            }
            match fit(&manifest, entry.name, &digest) {
                Fit::Expected => comparison.expected += 1,
                fit => {
                    let states = match &mut verifier {
                        Some(verifier) => verifier.states(&entry, &item.record)?,
                        None => Vec::new(),
                    };
                    let signed_by = signed_by(&states);
                    comparison.signed += u64::from(signed_by.is_some());
                    let (index, name) = (item.index, entry.name.to_vec());
                    sink(Deviation { index, name, digest, fit, signed_by });
                }
            }
        }
    }
}

/// The digest of a file; `None` for events and violations.
pub(super) fn digest_of_file(entry: &Entry<'_>) -> Option<Digest> {
    let is_event = entry.buffer.is_some() || is_boot_aggregate(entry.name);
    entry.digest.and_then(|digest| digest.digest).filter(|_| !is_event)
}

/// The key of a valid signature, unless another signature of the entry is not valid.
fn signed_by(states: &[SignatureState]) -> Option<KeyId> {
    let valid = |state: &SignatureState| match state {
        SignatureState::Valid(key_id) => Some(*key_id),
        _ => None,
    };
    states.iter().map(valid).collect::<Option<Vec<_>>>()?.pop()
}

fn is_boot_aggregate(name: &[u8]) -> bool {
    matches!(name, b"boot_aggregate" | b"boot_aggregate_late")
}

/// Compares a file with a manifest whose names are those of a list ([`Manifest::as_measured`]).
pub(super) fn fit(manifest: &Manifest, name: &[u8], digest: &Digest) -> Fit {
    let Some(expected) = manifest.0.get(name) else { return Fit::Unexpected };
    if expected.digests.contains(digest) {
        return Fit::Expected;
    }
    let same = |other: &Digest| other.algorithm() == digest.algorithm();
    match expected.digests.iter().any(same) {
        true => Fit::Changed,
        false => Fit::OtherAlgorithm,
    }
}
