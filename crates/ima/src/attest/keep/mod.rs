//! The list, moved from kernel memory to files (`CONFIG_IMA_STAGING`, Linux 7.2).
//!
//! The list grows without end in kernel memory. With staging, its entries can be deleted there once they
//! are kept elsewhere. A [`Keeper`] does this in cycles:
//!
//! | step | after a crash here |
//! |---|---|
//! | the kernel stages its list | the list is staged: the next cycle goes on from here |
//! | the staged entries become a new segment: a file that is there whole, or not at all | the last segment is also staged |
//! | all segments and the rest of the list are replayed, and result in the PCRs | the same |
//! | the kernel deletes what is staged, after it was compared with the segment | the list is in segments and kernel, each entry once |
//!
//! Nothing else is remembered. After a restart the entries of the last segment are in the kernel as well, or
//! not, and the list is that of the boot of the segments, or of a new one. Only one of these lists results
//! in the PCRs, which decide. This also holds after kexec, which hands over what was not deleted. The PCRs
//! are read after staging and before the rest of the list: they have at least what is staged, and at most
//! what is read. If none of the lists results in them, nothing is deleted.

mod error;
mod kernel;
mod publish;
mod replayed;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::KeepError;
pub use kernel::{KernelList, Part, Securityfs, Stage};
pub use publish::Publisher;
pub use snapshot::Snapshot;

use super::source::Source;
use replayed::Replayed;
use store::Store;

/// What errors call the list in the kernel.
const KERNEL: &str = "the kernel's list";

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
    /// What went wrong; no entry is lost, and the next cycle goes on from there.
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
