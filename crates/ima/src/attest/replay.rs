//! Template digests to the expected values of PCRs.
//!
//! `PCR = H(PCR || digest)` for each record, from zeros; a violation extends by ones
//! (`ima_add_template_entry`, `security/integrity/ima/ima_queue.c`).

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::{PcrValue, PcrValues};

use crate::digest::{DigestError, Hasher};

/// A bank that is replayed.
#[derive(Debug)]
pub struct Bank {
    hasher: Hasher,
    registers: Vec<Register>,
}

/// A PCR that is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The PCR.
    pub pcr: u32,
    /// The value after the records so far.
    pub value: Digest,
    /// The number of records that extended it.
    pub records: u64,
    /// The expected value at the end.
    pub expected: Option<Digest>,
    /// The first records after which it has the expected value.
    pub reached: Option<Reached>,
}

/// The position at which a replay reached the value of a PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The number of the last record before it.
    pub index: u64,
    /// The number of records that had extended the PCR.
    pub records: u64,
}

/// `PCR = H(PCR || digest)`.
///
/// # Errors
/// The hash fails.
pub fn extend(hasher: &mut Hasher, value: &mut Digest, digest: &[u8]) -> Result<(), DigestError> {
    hasher.update(value.as_bytes())?;
    hasher.update(digest)?;
    *value = hasher.finish()?;
    Ok(())
}

/// The value of a PCR after a reset: zeros.
///
/// # Errors
/// An algorithm whose digests do not fit; there is none.
pub fn zeros(algorithm: HashAlgorithm) -> Result<Digest, DigestError> {
    let zeros = [0; ima_format::hash::MAX_DIGEST_SIZE];
    let zeros = Digest::new(algorithm, &zeros[..algorithm.digest_size()]);
    zeros.ok_or(DigestError::Unavailable(algorithm))
}

/// The input of an extension by a violation.
pub const ONES: [u8; ima_format::hash::MAX_DIGEST_SIZE] = [0xff; 64];

impl Bank {
    /// A bank with the known values of these PCRs.
    ///
    /// # Errors
    /// An algorithm that is not available.
    pub fn new(algorithm: HashAlgorithm, values: &PcrValues) -> Result<Self, DigestError> {
        let mut bank = Self { hasher: Hasher::new(algorithm)?, registers: Vec::new() };
        for PcrValue { pcr, value } in values.iter() {
            if value.algorithm() == algorithm {
                bank.register(pcr)?.expected = Some(value);
            }
        }
        Ok(bank)
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.hasher.algorithm()
    }

    /// Its PCRs: those with a known value, and those that a record extended.
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }

    fn register(&mut self, pcr: u32) -> Result<&mut Register, DigestError> {
        let position = match self.registers.iter().position(|register| register.pcr == pcr) {
            Some(position) => position,
            None => {
                let value = zeros(self.algorithm())?;
                let register = Register { pcr, value, records: 0, expected: None, reached: None };
                self.registers.push(register);
                self.registers.len() - 1
            }
        };
        Ok(&mut self.registers[position])
    }

    /// Extends a PCR by the digest of a record.
    ///
    /// # Errors
    /// The hash fails.
    pub fn extend(&mut self, pcr: u32, index: u64, digest: &[u8]) -> Result<(), DigestError> {
        self.register(pcr)?;
        let Self { hasher, registers } = self;
        for register in registers.iter_mut().filter(|register| register.pcr == pcr) {
            extend(hasher, &mut register.value, digest)?;
            register.records += 1;
            if register.reached.is_none() && register.expected.as_ref() == Some(&register.value) {
                register.reached = Some(Reached { index, records: register.records });
            }
        }
        Ok(())
    }
}
