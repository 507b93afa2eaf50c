//! The list in the kernel and its operations (`security/integrity/ima/ima_fs.c`, Linux 7.2).
//!
//! The kernel allows several readers of the list or one writer; `open` fails otherwise. It attributes the opens
//! of a writer to its thread. If a process with two files open for writing is killed, another of its threads may
//! close them, and the count stays wrong: staging is impossible until the next boot. Therefore at most one file
//! is open for writing at any time.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ima_format::hash::HashAlgorithm;
use ima_format::measure::PcrValues;

use super::error::KeepError;
use super::store::is_same;
use crate::attest::pcr;
use crate::input;
use crate::system::Machine;

/// The name of the kernel's list in errors.
pub(super) const KERNEL: &str = "the kernel's list";

/// A part of the list in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The staged entries, which come first.
    Staged,
    /// The entries that are not staged.
    Current,
}

/// The result of staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Entries are staged, now or earlier.
    Staged,
    /// The list is empty.
    Empty,
}

/// A kernel that can stage its list, and the TPM whose PCRs it extends.
pub trait KernelList {
    /// Opens a part to read it.
    ///
    /// # Errors
    /// Opening it fails.
    fn open(&self, part: Part) -> Result<File, KeepError>;

    /// The number of entries in the current part.
    ///
    /// # Errors
    /// Reading it fails.
    fn count(&self) -> Result<u64, KeepError>;

    /// Stages all entries, unless entries are already staged.
    ///
    /// # Errors
    /// The kernel's error.
    fn stage(&self) -> Result<Stage, KeepError>;

    /// Deletes the staged entries if they are equal to a segment.
    ///
    /// # Errors
    /// [`KeepError::Changed`] if they differ; the kernel's error.
    fn delete(&self, segment: &Path) -> Result<(), KeepError>;

    /// The banks of the TPM.
    ///
    /// # Errors
    /// [`KeepError::NoTpm`]
    fn banks(&self) -> Result<Vec<HashAlgorithm>, KeepError>;

    /// The values of these PCRs in all banks.
    ///
    /// # Errors
    /// Reading them fails.
    fn values(&self, pcrs: &BTreeSet<u32>) -> Result<PcrValues, KeepError>;
}

/// The number of attempts, and the delay between them, for a file that is in use: other readers have it open only for a
/// moment.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The list in securityfs, and the PCRs in sysfs.
#[derive(Debug)]
pub struct Securityfs {
    staged: PathBuf,
    current: PathBuf,
    count: PathBuf,
    tpm: PathBuf,
}

impl Securityfs {
    /// The list and the PCRs of a machine.
    ///
    /// # Errors
    /// The kernel has no staging, or the machine has no TPM.
    pub fn of(machine: &Machine) -> Result<Self, KeepError> {
        let [staged, current, count] = machine.staging();
        if !staged.exists() {
            return Err(KeepError::NoStaging { path: staged });
        }
        let tpm = machine.tpm_with_pcrs().ok_or(KeepError::NoTpm)?;
        Ok(Self { staged, current, count, tpm })
    }

    fn try_open(&self, path: &Path, options: &OpenOptions) -> Result<File, KeepError> {
        for _ in 0..TRIES {
            match options.open(path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => sleep(PAUSE),
                opened => return opened.map_err(KeepError::file(path)),
            }
        }
        Err(KeepError::Busy { path: path.to_owned() })
    }

    /// Writes a request; the kernel expects it in one write, with a newline.
    fn ask(&self, mut file: &File, request: &[u8; 2]) -> io::Result<()> {
        file.write_all(request)
    }
}

impl KernelList for Securityfs {
    fn open(&self, part: Part) -> Result<File, KeepError> {
        let path = match part {
            Part::Staged => &self.staged,
            Part::Current => &self.current,
        };
        self.try_open(path, OpenOptions::new().read(true))
    }

    fn count(&self) -> Result<u64, KeepError> {
        let text = input::read_path(&self.count, input::TEXT_MAX)
            .map_err(|error| KeepError::file(&self.count)(error.source))?;
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| KeepError::file(&self.count)(io::ErrorKind::InvalidData.into()))
    }

    fn stage(&self) -> Result<Stage, KeepError> {
        let file = self.try_open(&self.staged, OpenOptions::new().write(true))?;
        // EEXIST: entries are already staged; ENOENT: the list is empty; EACCES: measuring is suspended
        match self.ask(&file, b"A\n") {
            Ok(()) => Ok(Stage::Staged),
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => Ok(Stage::Staged),
                Some(libc::ENOENT) => Ok(Stage::Empty),
                Some(libc::EACCES) => Err(KeepError::Suspended),
                _ => Err(KeepError::file(&self.staged)(error)),
            },
        }
    }

    fn delete(&self, segment: &Path) -> Result<(), KeepError> {
        let file = self.try_open(&self.staged, OpenOptions::new().read(true).write(true))?;
        let staged = file.try_clone().map_err(KeepError::file(&self.staged))?;
        if !is_same(staged, segment)? {
            return Err(KeepError::Changed);
        }
        match self.ask(&file, b"D\n") {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Err(KeepError::Suspended),
            Err(error) => Err(KeepError::file(&self.staged)(error)),
        }
    }

    fn banks(&self) -> Result<Vec<HashAlgorithm>, KeepError> {
        let values = self.values(&BTreeSet::from([0]))?;
        let banks: Vec<_> = values.iter().map(|value| value.value.algorithm()).collect();
        if banks.is_empty() {
            return Err(KeepError::NoTpm);
        }
        Ok(banks)
    }

    fn values(&self, pcrs: &BTreeSet<u32>) -> Result<PcrValues, KeepError> {
        if pcrs.is_empty() {
            return Ok(PcrValues::default());
        }
        Ok(pcr::read_directory(&self.tpm, &|pcr| pcrs.contains(&pcr))?)
    }
}
