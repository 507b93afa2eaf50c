//! The firmware's event log to the values of PCRs at the start of the kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::{EventLog, PcrValue, PcrValues};
use ima_format::Error as FormatError;

use super::replay::{extend, zeros};
use crate::advice::Advice;
use crate::digest::{DigestError, Hasher};
use crate::input::{self, ReadError, TEXT_MAX};

/// Why an event log could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not an event log.
    #[error("{}: malformed event log: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The offset and the fault.
        error: FormatError,
    },
    /// A digest cannot be computed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Advice for EventLogError {}

/// PCRs that locality 4 resets to ones (`TPM2_PT_PCR_RESET_L4`) for a dynamic launch, which is not in this log.
const DYNAMIC: std::ops::Range<u32> = 17..23;

/// Replays an event log: returns the values of PCRs 0 to 16, extended or not, in every bank that the log has
/// digests of.
///
/// # Errors
/// A log that cannot be read or is malformed.
pub fn replay(path: &Path) -> Result<PcrValues, EventLogError> {
    let log = input::read_path(path, TEXT_MAX)?;
    let malformed = |error| EventLogError::Malformed { path: path.to_owned(), error };
    let mut locality = 0;
    let mut banks: BTreeMap<HashAlgorithm, (Hasher, BTreeMap<u32, Digest>)> = BTreeMap::new();
    for event in EventLog::new(&log).map_err(malformed)? {
        let event = event.map_err(malformed)?;
        locality = event.startup_locality().unwrap_or(locality);
        if !event.extends() || DYNAMIC.contains(&event.pcr) {
            continue;
        }
        for digest in &event.digests {
            let bank = digest.algorithm();
            let (hasher, registers) = match banks.entry(bank) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    new.insert((Hasher::new(bank)?, fresh(bank, locality)?))
                }
            };
            if let Some(value) = registers.get_mut(&event.pcr) {
                extend(hasher, value, digest.as_bytes())?;
            }
        }
    }
    let mut values = PcrValues::default();
    for (pcr, value) in banks.into_values().flat_map(|(_, registers)| registers) {
        // no PCR is added twice
        let _: Result<(), Digest> = values.add(PcrValue { pcr, value });
    }
    Ok(values)
}

/// PCRs 0 to 16 after a reset, with the locality in PCR 0.
fn fresh(bank: HashAlgorithm, locality: u8) -> Result<BTreeMap<u32, Digest>, DigestError> {
    let zeros = zeros(bank)?;
    let mut registers: BTreeMap<_, _> = (0..DYNAMIC.start).map(|pcr| (pcr, zeros)).collect();
    let mut first = zeros.as_bytes().to_vec();
    if let Some(last) = first.last_mut() {
        *last = locality;
    }
    registers.extend(Digest::new(bank, &first).map(|value| (0, value)));
    Ok(registers)
}
