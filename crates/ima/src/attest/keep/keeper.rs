//! The cycles.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::KeepError;
use super::kernel::{KernelList, Part, Stage, KERNEL};
use super::replayed::Replayed;
use super::snapshot::Snapshot;
use super::store::{self, Store};
use crate::attest::source::Source;

/// Moves the list of a kernel into the segments of a directory. There is one for a directory at a time.
#[derive(Debug)]
pub struct Keeper<K> {
    kernel: K,
    store: Store,
    /// What all segments result in.
    replayed: Replayed,
    last: Last,
}

/// Where the entries of the last segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Only in the segment.
    Kept,
    /// In the segment, and staged.
    Staged,
}

/// The result of a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cycle {
    /// The list had no entries.
    Nothing,
    /// Its entries were moved.
    Moved {
        /// The new segment.
        segment: PathBuf,
        /// Entries in all segments of this boot.
        records: u64,
    },
}

impl<K: KernelList> Keeper<K> {
    /// Opens a directory of segments, which is made if it is not there, and finds out which entries are
    /// where.
    ///
    /// # Errors
    /// Segments and list that do not result in the PCRs; another keeper; those of reading.
    pub fn open(kernel: K, directory: &Path) -> Result<Self, KeepError> {
        let store = Store::open(directory)?;
        let banks = kernel.banks()?;
        let mut before_last = Replayed::new(&banks)?;
        let fresh = before_last.clone();
        let (last, others) = match store.segments().split_last() {
            Some((last, others)) => (Some(last), others),
            None => (None, &[][..]),
        };
        for segment in others {
            before_last.add(Source::of_path(segment)?, &mut |_| {})?;
        }
        let mut all = before_last.clone();
        if let Some(last) = last {
            all.add(Source::of_path(last)?, &mut |_| {})?;
        }
        let is_staged = match last {
            Some(last) => store::is_same(kernel.open(Part::Staged)?, last)?,
            None => false,
        };
        let mut keeper = Self { kernel, store, replayed: all, last: Last::Kept };
        if keeper.matches(&keeper.replayed, Part::Staged)? {
            return Ok(keeper);
        }
        if keeper.store.segments().is_empty() {
            return Err(KeepError::Mismatch { directory: directory.to_owned() });
        }
        if keeper.matches(&before_last, Part::Staged)? {
            if is_staged {
                keeper.last = Last::Staged;
            } else {
                // handed over by kexec: the list has these entries, and will be staged again
                keeper.store.remove_last()?;
                keeper.replayed = before_last;
            }
            return Ok(keeper);
        }
        if !keeper.matches(&fresh, Part::Staged)? {
            return Err(KeepError::Mismatch { directory: directory.to_owned() });
        }
        keeper.store.start_boot()?;
        keeper.replayed = fresh;
        Ok(keeper)
    }

    /// Moves all entries of the kernel's list into a new segment.
    ///
    /// # Errors
    /// What went wrong; no entry is lost, and the next cycle continues from there.
    pub fn cycle(&mut self) -> Result<Cycle, KeepError> {
        if self.last == Last::Kept {
            if self.kernel.stage()? == Stage::Empty {
                return Ok(Cycle::Nothing);
            }
            let staged = self.kernel.open(Part::Staged)?;
            let mut replayed = self.replayed.clone();
            let segment = self.store.add(staged)?;
            self.last = Last::Staged;
            replayed.add(Source::of_path(&segment)?, &mut |_| {})?;
            self.replayed = replayed;
        }
        if !self.matches(&self.replayed, Part::Current)? {
            return Err(KeepError::Mismatch { directory: self.store.directory().to_owned() });
        }
        let Some(segment) = self.store.segments().last().cloned() else {
            return Ok(Cycle::Nothing);
        };
        self.kernel.delete(&segment)?;
        self.last = Last::Kept;
        Ok(Cycle::Moved { segment, records: self.replayed.records() })
    }

    /// How many entries the kernel's list has, without staged ones.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn waiting(&self) -> Result<u64, KeepError> {
        self.kernel.count()
    }

    /// How many entries the complete list has; `None` if some are staged that are in no segment, as
    /// the kernel does not count these.
    ///
    /// # Errors
    /// Those of reading the kernel's number, and what is staged.
    pub(super) fn entries(&self) -> Result<Option<u64>, KeepError> {
        let count = self.replayed.records() + self.kernel.count()?;
        let mut staged = self.kernel.open(Part::Staged)?;
        let read = staged.read(&mut [0]).map_err(KeepError::file(Path::new(KERNEL)))?;
        Ok((read == 0 || self.last == Last::Staged).then_some(count))
    }

    /// The complete list, as it is now.
    ///
    /// # Errors
    /// Those of reading the kernel's part, and of a temporary file.
    pub fn snapshot(&self) -> Result<Snapshot, KeepError> {
        let parts = match self.last {
            Last::Staged => &[Part::Current][..],
            Last::Kept => &[Part::Staged, Part::Current],
        };
        let parts =
            parts.iter().map(|part| self.kernel.open(*part)).collect::<Result<Vec<_>, _>>()?;
        Snapshot::new(self.store.segments(), parts)
    }

    /// Whether a replay and then the list, from this part on, result in the PCRs. What is staged must be in
    /// the PCRs; the list may be newer.
    fn matches(&self, replayed: &Replayed, from: Part) -> Result<bool, KeepError> {
        let mut replayed = replayed.clone();
        let source = |part| self.kernel.open(part).map(|file| Source::of_file(KERNEL, file));
        if from == Part::Staged {
            replayed.add(source(Part::Staged)?, &mut |_| {})?;
        }
        let values = self.kernel.values(&replayed.pcrs())?;
        let mut missing = replayed.differing(&values);
        if !missing.is_empty() {
            replayed.add(source(Part::Current)?, &mut |now| {
                missing.retain(|key, value| now.value(key) != Some(value));
            })?;
        }
        Ok(missing.is_empty())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
