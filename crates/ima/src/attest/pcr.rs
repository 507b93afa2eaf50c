//! The actual values of PCRs: files written by tools, and sysfs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::hex;
use ima_format::measure::{PcrFault, PcrValue, PcrValues};

use crate::advice::Advice;
use crate::input::{self, ReadError, TEXT_MAX};

/// Why values of PCRs could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcrError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not in a known form.
    #[error("{}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line and the fault.
        fault: PcrFault,
    },
    /// A binary file that is not in the format of tpm2-tools.
    #[error("{}: expected the PCR values that tpm2_quote --pcr writes", path.display())]
    NotSerialized {
        /// The file.
        path: PathBuf,
    },
    /// A directory without `pcr-ALGORITHM/NUMBER`.
    #[error("{}: no PCR banks (expected pcr-sha256/10 and the like)", path.display())]
    NoBanks {
        /// The directory.
        path: PathBuf,
    },
    /// A file in sysfs that is not a digest of its bank.
    #[error("{}: expected the {bank} value of a PCR", path.display())]
    NotAValue {
        /// The file.
        path: PathBuf,
        /// The bank.
        bank: HashAlgorithm,
    },
    /// Two inputs have different values of a PCR.
    #[error("{}: PCR {pcr} has another value in an earlier input", path.display())]
    Conflict {
        /// The second input.
        path: PathBuf,
        /// The PCR.
        pcr: u32,
    },
}

impl Advice for PcrError {}

/// An input: `FILE`, `ALGORITHM,FILE`, or a TPM's directory in sysfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrInput {
    /// The bank of values for which the file names no bank.
    pub bank: Option<HashAlgorithm>,
    /// The file or directory.
    pub path: PathBuf,
}

impl From<&Path> for PcrInput {
    fn from(given: &Path) -> Self {
        let split = given.to_str().and_then(|text| text.split_once(','));
        match split.and_then(|(bank, path)| Some((bank.parse().ok()?, path))) {
            Some((bank, path)) => Self { bank: Some(bank), path: path.into() },
            None => Self { bank: None, path: given.to_owned() },
        }
    }
}

impl fmt::Display for PcrInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Reads all inputs.
///
/// # Errors
/// The first input that is malformed, or that differs from an earlier one.
pub fn read(inputs: &[PcrInput]) -> Result<PcrValues, PcrError> {
    let mut values = PcrValues::default();
    for PcrInput { bank, path } in inputs {
        let read = match path.is_dir() {
            true => read_directory(path, &|_| true)?,
            false => read_file(path, *bank)?,
        };
        for value in read.iter() {
            let conflict = PcrError::Conflict { path: path.clone(), pcr: value.pcr };
            values.add(value).map_err(|_| conflict)?;
        }
    }
    Ok(values)
}

fn read_file(path: &Path, bank: Option<HashAlgorithm>) -> Result<PcrValues, PcrError> {
    let text = match path.to_str() {
        Some("-") => input::read_stream(io::stdin(), TEXT_MAX).map_err(ReadError::at(path))?,
        _ => input::read_path(path, TEXT_MAX)?,
    };
    if PcrValues::is_serialized(&text) {
        let values = PcrValues::parse_serialized(&text);
        return values.ok_or(PcrError::NotSerialized { path: path.to_owned() });
    }
    PcrValues::parse(&text, bank)
        .map_err(|fault| PcrError::Malformed { path: path.to_owned(), fault })
}

/// Reads `pcr-ALGORITHM/NUMBER` of these PCRs in a TPM's directory in sysfs (Linux 5.12).
pub(super) fn read_directory(
    path: &Path,
    wanted: &dyn Fn(u32) -> bool,
) -> Result<PcrValues, PcrError> {
    let mut values = PcrValues::default();
    for entry in fs::read_dir(path).map_err(ReadError::at(path))? {
        let entry = entry.map_err(ReadError::at(path))?;
        let name = entry.file_name();
        let bank = name.to_str().and_then(|name| name.strip_prefix("pcr-"));
        let Some(bank) = bank.and_then(|name| name.parse::<HashAlgorithm>().ok()) else { continue };
        for file in fs::read_dir(entry.path()).map_err(ReadError::at(&entry.path()))? {
            let file = file.map_err(ReadError::at(&entry.path()))?.path();
            let number = file.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
            let Some(pcr) = number.filter(|pcr| wanted(*pcr)) else { continue };
            let text = input::read_path(&file, TEXT_MAX)?;
            let text = std::str::from_utf8(&text).unwrap_or_default().trim();
            let bytes = hex::decode(text.as_bytes()).ok();
            let value = bytes.and_then(|bytes| Digest::new(bank, &bytes));
            let value = value.ok_or(PcrError::NotAValue { path: file, bank })?;
            let conflict = PcrError::Conflict { path: entry.path(), pcr };
            values.add(PcrValue { pcr, value }).map_err(|_| conflict)?;
        }
    }
    match values.is_empty() {
        true => Err(PcrError::NoBanks { path: path.to_owned() }),
        false => Ok(values),
    }
}
