//! Removing the segments of an earlier boot.
//!
//! Segments are evidence, and the only copy of it. They may be removed when a quote proves all their entries, since the
//! owner of the quote has accepted the list. All segments of a boot are removed together, as entries cannot be replayed
//! without those before them. The last boot stays: [`Keeper`](super::Keeper) continues its segments.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ima_format::measure::{PcrValue, PcrValues};

use super::error::KeepError;
use super::store::{self, BOOT};
use crate::attest::replay::Register;
use crate::attest::source::{Reading, Source};
use crate::attest::verify::{verify, Options, Report};
use crate::HashAlgorithm;

/// The prefix of a boot's directory, before its number, while its segments are removed.
const REMOVED: &str = "removed-";

/// The segments of an earlier boot.
#[derive(Debug)]
pub struct EarlierBoot {
    path: PathBuf,
    number: u64,
    segments: Vec<PathBuf>,
}

/// Whether a quote proves all entries of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// It proves all entries; their number.
    Whole(u64),
    /// Nothing was compared: there are no entries, or no quoted values.
    Nothing,
    /// Entries are malformed, or do not have their listed digests.
    Malformed,
    /// The list does not begin with the segments.
    OtherList,
    /// The quote is not over a PCR that entries extended.
    NotQuoted {
        /// The PCR.
        pcr: u32,
    },
    /// The proven entries end before the last segment, or no entry is proven.
    Short {
        /// The bank.
        bank: HashAlgorithm,
        /// The PCR.
        pcr: u32,
        /// How many entries of this PCR are proven.
        proven: u64,
        /// The number of entries of this PCR in the segments.
        entries: u64,
    },
}

impl EarlierBoot {
    /// Opens the directory of a boot.
    ///
    /// # Errors
    /// The directory is not that of a boot, or it is that of the last boot; it has other files; a segment is missing.
    pub fn open(path: &Path) -> Result<Self, KeepError> {
        // resolves a name such as `.`
        let path = fs::canonicalize(path).map_err(KeepError::file(path))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new("/"));
        let boots = store::numbers(parent, BOOT)?;
        let is_this = |number: &&u64| name == store::boot_name(**number);
        let Some(number) = boots.iter().find(is_this).copied() else {
            return Err(KeepError::NotABoot { path });
        };
        if boots.last() == Some(&number) {
            return Err(KeepError::LastBoot { path });
        }
        let segments = store::segments(&path)?;
        for entry in fs::read_dir(&path).map_err(KeepError::file(&path))? {
            let found = entry.map_err(KeepError::file(&path))?.path();
            if !segments.contains(&found) && !crate::staging::is_temporary(&found) {
                return Err(KeepError::OtherFile { path: found });
            }
        }
        Ok(Self { path, number, segments })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether quoted values prove every entry. They are the result of the given list, which begins with the
    /// segments, or without a list of the segments themselves.
    ///
    /// # Errors
    /// Reading fails; digests cannot be computed.
    pub fn coverage(
        &self,
        list: Option<&[Source]>,
        quoted: &PcrValues,
        jobs: NonZeroUsize,
    ) -> Result<Coverage, KeepError> {
        let banks = quoted.iter().map(|value| value.value.algorithm()).collect();
        let mut options = Options { banks, values: quoted, keyring: None, jobs };
        let opened = self.segments.iter().map(|segment| Source::open(segment, Reading::Once));
        let segments = opened.collect::<Result<Vec<_>, _>>()?;
        let list = list.unwrap_or(&segments);

        // the segments, and the list up to the quoted values
        let kept = verify(&segments, &options, &mut |_| {})?;
        let proven = verify(list, &options, &mut |_| {})?;
        let is_sound = |report: &Report| report.fault.is_none() && report.counts.malformed == 0;
        if !is_sound(&kept) || !is_sound(&proven) {
            return Ok(Coverage::Malformed);
        }
        // the list begins with the segments if it reaches their final values after as many records
        let mut ends = PcrValues::default();
        for (_, Register { pcr, value, .. }) in extended(&kept) {
            // a bank has each PCR once
            let _: Result<(), _> = ends.add(PcrValue { pcr: *pcr, value: *value });
        }
        options.values = &ends;
        let reached = verify(list, &options, &mut |_| {})?;
        for (bank, register) in extended(&kept) {
            let same = find(&reached, bank, register.pcr).and_then(|same| same.reached);
            if same.map(|same| same.records) != Some(register.records) {
                return Ok(Coverage::OtherList);
            }
        }
        judge(&kept, &proven)
    }

    /// Removes the segments. If this is interrupted, the next call removes the rest.
    ///
    /// # Errors
    /// Renaming or removing fails.
    pub fn remove(self) -> Result<(), KeepError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let removed = |number| parent.join(format!("{REMOVED}{number:08}"));
        let to = removed(self.number);
        let sync = || File::open(parent).and_then(|parent| parent.sync_all());
        let renamed = || -> io::Result<()> {
            fs::rename(&self.path, to)?;
            sync()
        };
        renamed().map_err(KeepError::file(&self.path))?;
        for number in store::numbers(parent, REMOVED)? {
            let path = removed(number);
            fs::remove_dir_all(&path).map_err(KeepError::file(&path))?;
        }
        sync().map_err(KeepError::file(parent))
    }
}

/// The PCRs that a list extended, with their banks.
fn extended(report: &Report) -> impl Iterator<Item = (HashAlgorithm, &Register)> {
    let registers = report
        .banks
        .iter()
        .flat_map(|bank| bank.registers().iter().map(move |register| (bank.algorithm(), register)));
    registers.filter(|(_, register)| register.records > 0)
}

fn find(report: &Report, bank: HashAlgorithm, pcr: u32) -> Option<&Register> {
    let mut registers = extended(report);
    registers.find_map(|(of, found)| (of == bank && found.pcr == pcr).then_some(found))
}

/// Every PCR that the segments extended must be quoted in a bank, and every quoted value of it must be that after
/// the last segment, or a later one.
fn judge(kept: &Report, proven: &Report) -> Result<Coverage, KeepError> {
    let quoted = |pcr| {
        extended(proven).any(|(_, register)| register.pcr == pcr && register.expected.is_some())
    };
    for (bank, Register { pcr, records, expected, .. }) in extended(kept) {
        if !quoted(*pcr) {
            return Ok(Coverage::NotQuoted { pcr: *pcr });
        }
        let reached = find(proven, bank, *pcr).and_then(|register| register.reached);
        let proven = reached.map_or(0, |reached| reached.records);
        if expected.is_some() && proven < *records {
            return Ok(Coverage::Short { bank, pcr: *pcr, proven, entries: *records });
        }
    }
    Ok(match extended(kept).next() {
        Some(_) => Coverage::Whole(kept.counts.records),
        None => Coverage::Nothing,
    })
}
