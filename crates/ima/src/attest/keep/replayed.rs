//! The PCR values after a sequence of records, in all banks of a TPM.

use std::collections::{BTreeMap, BTreeSet};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::PcrValues;

use super::error::KeepError;
use crate::attest::check::Checker;
use crate::attest::reader::{Batch, ListReader};
use crate::attest::replay::{extend, zeros, ONES};
use crate::attest::source::Source;
use crate::digest::Hasher;

/// A bank and the number of a PCR.
pub(super) type Key = (HashAlgorithm, u32);

/// The PCR values after the records so far.
#[derive(Debug, Clone)]
pub(super) struct Replayed {
    banks: Vec<HashAlgorithm>,
    values: BTreeMap<Key, Digest>,
    records: u64,
}

impl Replayed {
    /// The values before any record.
    pub(super) fn new(banks: &[HashAlgorithm]) -> Result<Self, KeepError> {
        // fails for an unavailable algorithm before entries are staged
        Checker::new(banks, None)?;
        Ok(Self { banks: banks.to_vec(), values: BTreeMap::new(), records: 0 })
    }

    /// The number of records.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The PCRs that records extended.
    pub(super) fn pcrs(&self) -> BTreeSet<u32> {
        self.values.keys().map(|(_, pcr)| *pcr).collect()
    }

    pub(super) fn value(&self, key: &Key) -> Option<&Digest> {
        self.values.get(key)
    }

    /// The given values that differ from the replayed ones, for PCRs that records extended.
    pub(super) fn differing(&self, given: &PcrValues) -> BTreeMap<Key, Digest> {
        let given = given.iter().map(|value| ((value.value.algorithm(), value.pcr), value.value));
        given.filter(|(key, value)| self.value(key).is_some_and(|own| own != value)).collect()
    }

    /// Adds the records of a list; `each` is called with the values after each record.
    pub(super) fn add(
        &mut self,
        source: Source,
        each: &mut dyn FnMut(&Self),
    ) -> Result<(), KeepError> {
        let (mut reader, mut batch) = (ListReader::new([source]), Batch::default());
        let mut checker = Checker::new(&self.banks, None)?;
        let mut hashers =
            self.banks.iter().map(|bank| Hasher::new(*bank)).collect::<Result<Vec<_>, _>>()?;
        loop {
            reader.next(&mut batch)?;
            if batch.is_empty() {
                return Ok(());
            }
            let checked = checker.check(std::mem::take(&mut batch))?;
            for (number, extension) in checked.extensions.iter().enumerate() {
                for (hasher, digests) in hashers.iter_mut().zip(&checked.digests) {
                    let bank = hasher.algorithm();
                    let size = bank.digest_size();
                    let by = match extension.by_ones {
                        true => &ONES[..size],
                        false => &digests[number * size..][..size],
                    };
                    let value = match self.values.entry((bank, extension.pcr)) {
                        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                        std::collections::btree_map::Entry::Vacant(new) => new.insert(zeros(bank)?),
                    };
                    extend(hasher, value, by)?;
                }
                self.records += 1;
                each(self);
            }
            batch = checked.batch;
        }
    }
}
