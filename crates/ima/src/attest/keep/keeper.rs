//! Cycles of moving the kernel's list into segments.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::KeepError;
use super::kernel::{KernelList, Part, Stage, KERNEL};
use super::replayed::Replayed;
use super::snapshot::Snapshot;
use super::store::{self, Store};
use crate::attest::source::Source;

/// Moves the list of a kernel into the segments of a directory. At most one keeper uses a directory at a time.
#[derive(Debug)]
pub struct Keeper<K> {
    kernel: K,
    store: Store,
    /// The PCR values after all segments.
    replayed: Replayed,
    last: Last,
}

/// The location of the last segment's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Only in the segment.
    Kept,
    /// In the segment, and staged; `replayed` lacks the segment, as long as it could not be read.
    Added,
    /// In the segment, and staged.
    Staged,
}

/// The result of a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cycle {
    /// The list was empty.
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
    /// Opens a directory of segments, creates it if it is missing, and finds out which entries are in the kernel, in
    /// segments, or in both.
    ///
    /// # Errors
    /// Segments and list do not result in the PCRs; another keeper uses the directory; reading fails.
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
        // the kernel has only entries after those of all segments
        if keeper.matches(&keeper.replayed, Part::Staged)? {
            return Ok(keeper);
        }
        if keeper.store.segments().is_empty() {
            return Err(KeepError::Mismatch { directory: directory.to_owned() });
        }
        // the kernel still has the entries of the last segment
        if keeper.matches(&before_last, Part::Staged)? {
            if is_staged {
                keeper.last = Last::Staged;
            } else {
                // handed over by kexec: the list contains these entries, which will be staged again
                keeper.store.remove_last()?;
                keeper.replayed = before_last;
            }
            return Ok(keeper);
        }
        // the kernel's list begins at the reset of the PCRs: a new boot
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
    /// The failed step. No entry is lost, and the next cycle continues from there.
    pub fn cycle(&mut self) -> Result<Cycle, KeepError> {
        if self.last == Last::Kept {
            if self.kernel.stage()? == Stage::Empty {
                return Ok(Cycle::Nothing);
            }
            let staged = self.kernel.open(Part::Staged)?;
            self.store.add(staged)?;
            self.last = Last::Added;
        }
        if let (Last::Added, Some(segment)) = (self.last, self.store.segments().last()) {
            let mut replayed = self.replayed.clone();
            replayed.add(Source::of_path(segment)?, &mut |_| {})?;
            (self.replayed, self.last) = (replayed, Last::Staged);
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

    /// The number of entries in the kernel's list, without staged ones.
    ///
    /// # Errors
    /// Reading the list fails.
    pub fn waiting(&self) -> Result<u64, KeepError> {
        self.kernel.count()
    }

    /// The number of entries in the complete list; `None` if staged entries are not in a segment, or not read from
    /// it yet, since the kernel does not count them.
    ///
    /// # Errors
    /// Reading the kernel's count or the staged entries fails.
    pub(super) fn entries(&self) -> Result<Option<u64>, KeepError> {
        if self.last == Last::Added {
            return Ok(None);
        }
        let count = self.replayed.records() + self.kernel.count()?;
        let mut staged = self.kernel.open(Part::Staged)?;
        let read = staged.read(&mut [0]).map_err(KeepError::file(Path::new(KERNEL)))?;
        Ok((read == 0 || self.last == Last::Staged).then_some(count))
    }

    /// The complete list at this time.
    ///
    /// # Errors
    /// Reading the kernel's list or writing a temporary file fails.
    pub fn snapshot(&self) -> Result<Snapshot, KeepError> {
        let parts = match self.last {
            Last::Added | Last::Staged => &[Part::Current][..],
            Last::Kept => &[Part::Staged, Part::Current],
        };
        let parts =
            parts.iter().map(|part| self.kernel.open(*part)).collect::<Result<Vec<_>, _>>()?;
        Snapshot::new(self.store.segments(), parts)
    }

    /// Whether a replay, continued with the list from this part on, results in the PCRs. The PCRs must include
    /// the staged entries; the list may be newer than the PCRs.
    fn matches(&self, replayed: &Replayed, from: Part) -> Result<bool, KeepError> {
        let mut replayed = replayed.clone();
        let source = |part| self.kernel.open(part).map(|file| Source::of_file(KERNEL, file));
        if from == Part::Staged {
            replayed.add(source(Part::Staged)?, &mut |_| {})?;
        }
        let values = self.kernel.values(&replayed.pcrs())?;
        // read before the rest of the list, which may be newer: each value must be reached on the way
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
