//! The single edit of a list that explains a PCR: every possible edit is tried.
//!
//! A hash has no inverse, so the rest of the list is replayed for each edit. The cost is the square of the
//! length, which limits the lists for which this is done.

use ima_format::hash::{Digest, HashAlgorithm};

use super::hypothesis::Hypothesis;
use super::replay::{extend, zeros};
use crate::digest::{DigestError, Hasher};

/// The most records of a PCR for which edits are tried.
pub(super) const MOST: usize = 1 << 11;

/// The effect of a record on a PCR, and its effect if it were not a violation.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The number of the record.
    pub(super) index: u64,
    /// The digest that extends the PCR.
    pub(super) by: Digest,
    /// The digest of its data, if it is a violation.
    pub(super) hidden: Option<Digest>,
}

/// The first edit after which the list results in `target`.
pub(super) fn find(
    bank: HashAlgorithm,
    steps: &[Step],
    target: &Digest,
) -> Result<Option<Hypothesis>, DigestError> {
    let mut hasher = Hasher::new(bank)?;
    let mut before = zeros(bank)?;
    for (number, step) in steps.iter().enumerate() {
        let (index, rest) = (step.index, &steps[number + 1..]);
        let mut replay = |by: &[&Digest], rest: &[Step]| {
            let mut value = before;
            let rest = rest.iter().map(|step| &step.by);
            for by in by.iter().copied().chain(rest) {
                extend(&mut hasher, &mut value, by.as_bytes())?;
            }
            Ok::<_, DigestError>(value == *target)
        };
        if replay(&[], rest)? {
            return Ok(Some(Hypothesis::Added { index }));
        }
        if let Some((next, rest)) = rest.split_first() {
            if replay(&[&next.by, &step.by], rest)? {
                return Ok(Some(Hypothesis::Swapped { index }));
            }
        }
        if let Some(hidden) = &step.hidden {
            if replay(&[hidden], rest)? {
                return Ok(Some(Hypothesis::ForgedViolation { index }));
            }
        }
        extend(&mut hasher, &mut before, step.by.as_bytes())?;
    }
    Ok(None)
}
