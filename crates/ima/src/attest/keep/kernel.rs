//! The list in the kernel, and what can be done with it (`security/integrity/ima/ima_fs.c`, Linux 7.2).
//!
//! The kernel lets many read the list, or one write, and refuses others when they open it. It counts the
//! openings of a writer by its thread. If a process that has two open for writing is killed, another of its
//! threads may close them, and the count is wrong from then on: nobody can stage any more until the next
//! boot. So no more than one is open for writing at any time.

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

/// What errors call the list in the kernel.
pub(super) const KERNEL: &str = "the kernel's list";

/// A part of the list in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The entries that are staged, which come first.
    Staged,
    /// The others.
    Current,
}

/// Whether the kernel has entries to stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Entries are staged: these, or earlier ones.
    Staged,
    /// The list is empty.
    Empty,
}

/// A kernel that can stage its list, and the TPM that it extends.
pub trait KernelList {
    /// Opens a part to read it.
    ///
    /// # Errors
    /// Those of opening it.
    fn open(&self, part: Part) -> Result<File, KeepError>;

    /// How many entries the current part has.
    ///
    /// # Errors
    /// Those of reading it.
    fn count(&self) -> Result<u64, KeepError>;

    /// Stages all entries, unless some are staged.
    ///
    /// # Errors
    /// What the kernel said.
    fn stage(&self) -> Result<Stage, KeepError>;

    /// Deletes what is staged, if it is the content of a segment.
    ///
    /// # Errors
    /// [`KeepError::Changed`] if it is not; what the kernel said.
    fn delete(&self, segment: &Path) -> Result<(), KeepError>;

    /// The banks of the TPM.
    ///
    /// # Errors
    /// [`KeepError::NoTpm`]
    fn banks(&self) -> Result<Vec<HashAlgorithm>, KeepError>;

    /// The values of these PCRs in all banks.
    ///
    /// # Errors
    /// Those of reading them.
    fn values(&self, pcrs: &BTreeSet<u32>) -> Result<PcrValues, KeepError>;
}

/// How often, and after which time, a file that is in use is tried again: others read the list, and only
/// for a moment.
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
    /// Those of a machine.
    ///
    /// # Errors
    /// A kernel without staging; a machine without a TPM.
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

    /// Asks for something; the kernel takes a request in one write, with a line feed.
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
        let text = input::read_path(&self.count, input::TEXT_MAX);
        let text = text.map_err(KeepError::file(&self.count))?;
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| KeepError::file(&self.count)(io::ErrorKind::InvalidData.into()))
    }

    fn stage(&self) -> Result<Stage, KeepError> {
        let file = self.try_open(&self.staged, OpenOptions::new().write(true))?;
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
