//! Why a list and a PCR differ: the list is replayed a second time, under all hypotheses at once.
//!
//! A hypothesis is proven if the replay under it reaches the PCR's value. Hypotheses that no replay can prove are
//! reported if the list suggests them.

use std::collections::BTreeMap;
use std::fmt;

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::measure::{PcrValues, Record};

use super::check::{BootEvent, Landmark};
pub use super::hypothesis::Hypothesis;
use super::reader::{Batch, ListReader};
use super::replay::{extend, zeros, Reached, Register, ONES};
use super::source::Source;
use super::verify::Report;
use super::{edit, hash, ListError};
use crate::digest::Hasher;

/// A PCR with a value that no prefix of the list results in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// The bank.
    pub bank: HashAlgorithm,
    /// The PCR.
    pub pcr: u32,
    /// Its value, if known.
    pub expected: Option<Digest>,
}

/// A PCR compared with the result of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The bank.
    pub bank: HashAlgorithm,
    /// The replayed PCR.
    pub register: Register,
    /// The result of the comparison.
    pub verdict: Verdict,
}

/// The result of comparing a PCR with the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The list, or a prefix of it, results in its value.
    Match {
        /// The last record of the prefix.
        reached: Reached,
        /// The digests that extended its bank.
        extended_by: ExtendedBy,
    },
    /// No prefix of the list results in its value.
    Mismatch(Explanation),
    /// Its value is unknown. The explanation is set if the list results in the value of another PCR.
    NoValue(Option<Explanation>),
}

/// The digests that extend the bank of a PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedBy {
    /// Digests of its own algorithm.
    OwnDigests,
    /// SHA-1 digests padded with zeros: the bank is as weak as SHA-1.
    PaddedSha1,
}

/// Compares each PCR that the list extends, and explains differences.
///
/// # Errors
/// A list that cannot be read as it was the first time.
pub fn judge(
    sources: &[Source],
    report: &Report,
    values: &PcrValues,
) -> Result<Vec<Judged>, ListError> {
    let registers = report.banks.iter().flat_map(|bank| {
        let extended = bank.registers().iter().filter(|register| register.records > 0);
        extended.map(|register| (bank.algorithm(), register.clone()))
    });
    let registers: Vec<_> = registers.collect();
    let is_open = |register: &Register| register.reached.is_none() && !values.is_empty();
    let differing = registers.iter().filter(|(_, register)| is_open(register));
    let mismatches: Vec<_> = differing
        .map(|(bank, register)| Mismatch {
            bank: *bank,
            pcr: register.pcr,
            expected: register.expected,
        })
        .collect();
    let mut explanations = match mismatches.is_empty() {
        true => Vec::new(),
        false => explain(sources, report, values, &mismatches)?,
    }
    .into_iter();
    let judged = registers.into_iter().map(|(bank, register)| {
        let extended_by = ExtendedBy::OwnDigests;
        let explained = is_open(&register).then(|| explanations.next()).flatten();
        let verdict = match (register.reached, register.expected, explained) {
            (Some(reached), _, _) => Verdict::Match { reached, extended_by },
            (None, None, explained) => {
                Verdict::NoValue(explained.filter(|explained| explained.reached.is_some()))
            }
            (
                None,
                Some(_),
                Some(Explanation { hypothesis: Hypothesis::PaddedSha1, reached: Some(reached) }),
            ) => Verdict::Match { reached, extended_by: ExtendedBy::PaddedSha1 },
            (None, Some(_), explained) => Verdict::Mismatch(
                explained.unwrap_or(Explanation { hypothesis: Hypothesis::Unknown, reached: None }),
            ),
        };
        Judged { bank, register, verdict }
    });
    Ok(judged.collect())
}

/// An explanation of a mismatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The hypothesis.
    pub hypothesis: Hypothesis,
    /// The record after which the replay under it reaches the PCR's value; if set, the hypothesis is proven.
    pub reached: Option<Reached>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proven = self.reached.is_some();
        match self.hypothesis {
            Hypothesis::PaddedSha1 => f.write_str("the bank was extended by padded SHA-1 digests"),
            Hypothesis::Changed { index } if proven => write!(
                f,
                "entry {index} was changed after it was measured: with the listed template digests \
                 the list results in the value"
            ),
            Hypothesis::Changed { index } => write!(
                f,
                "entry {index} was changed: its data do not result in its template digest"
            ),
            Hypothesis::Added { index } => {
                write!(f, "entry {index} was added: without it the list results in the value")
            }
            Hypothesis::Swapped { index } => write!(
                f,
                "entries {index} and the next were exchanged: in the other order the list results \
                 in the value"
            ),
            Hypothesis::ForgedViolation { index } => {
                write!(f, "entry {index} is not a violation: its own digest extended the PCR")
            }
            Hypothesis::OtherByteOrder => {
                f.write_str("the list was converted to the other byte order")
            }
            Hypothesis::EarlierBoot { index } => write!(
                f,
                "entries before {index} did not extend the PCR: they are from an earlier boot, or were \
                 added"
            ),
            Hypothesis::OtherPcr { pcr } => write!(f, "this is the value of PCR {pcr}"),
            Hypothesis::AllPcrs => f.write_str("entries for other PCRs extended this one"),
            Hypothesis::ZeroViolations => {
                f.write_str("violations extended the PCR by zeros, not ones; no kernel does this")
            }
            Hypothesis::NeverExtended => f.write_str(
                "the PCR was never extended: the kernel does not use this bank, or the value is \
                 from another TPM",
            ),
            Hypothesis::HeadMissing => f.write_str(
                "the list does not begin with boot_aggregate: earlier entries are probably missing \
                 (trimmed, staged, or in another segment)",
            ),
            Hypothesis::LostInKexec { index } => write!(
                f,
                "entries before the boot_aggregate {index} are probably missing: no kexec_execute \
                 precedes it, and older kernels copy the list when the next one is loaded"
            ),
            Hypothesis::Unread { index } => {
                write!(f, "the list cannot be read from entry {index} on")
            }
            Hypothesis::Unknown => f.write_str(
                "no known cause fits: entries are missing at the end, or some were removed, added \
                 or replaced together with their digests",
            ),
        }
    }
}

/// The most boots that are tried as the one after the PCR's reset.
const BOOTS: usize = 64;

/// Explains mismatches.
///
/// # Errors
/// A list that cannot be read as it was the first time.
pub fn explain(
    sources: &[Source],
    report: &Report,
    values: &PcrValues,
    mismatches: &[Mismatch],
) -> Result<Vec<Explanation>, ListError> {
    let mut cases = Vec::new();
    for mismatch in mismatches {
        cases.push(Case::new(mismatch, report, values)?);
    }
    let mut hashers = BTreeMap::from([(HashAlgorithm::Sha1, Hasher::new(HashAlgorithm::Sha1)?)]);
    for mismatch in mismatches {
        hashers.insert(mismatch.bank, Hasher::new(mismatch.bank)?);
    }
    let mut reader = ListReader::new(sources.iter().cloned());
    let mut batch = Batch::default();
    loop {
        match reader.next(&mut batch) {
            // the report already has this error
            Err(ListError::Malformed(_)) => break,
            result => result?,
        }
        // this machine's list may have grown since the first pass
        let items = batch.items().take_while(|item| item.index < report.counts.records);
        let mut count = 0;
        for item in items {
            count += 1;
            for case in &mut cases {
                case.take(&item.record, item.index, &mut hashers)?;
            }
        }
        if count == 0 {
            break;
        }
    }
    cases.iter().map(|case| case.explanation(report)).collect()
}

/// A mismatch, with one replay per hypothesis.
struct Case {
    mismatch: Mismatch,
    trials: Vec<Trial>,
    /// The records of the PCR, unless there are too many to try every edit.
    steps: Option<Vec<edit::Step>>,
}

struct Trial {
    hypothesis: Hypothesis,
    /// The value that the replay should reach.
    target: Digest,
    value: Digest,
    records: u64,
    reached: Option<Reached>,
}

impl Case {
    fn new(mismatch: &Mismatch, report: &Report, values: &PcrValues) -> Result<Self, ListError> {
        let Mismatch { bank, pcr, expected } = *mismatch;
        let mut hypotheses = vec![
            Hypothesis::Changed { index: report.first_changed.unwrap_or_default() },
            Hypothesis::OtherByteOrder,
        ];
        if bank != HashAlgorithm::Sha1 {
            hypotheses.insert(0, Hypothesis::PaddedSha1);
        }
        let boots =
            report.landmarks.iter().filter(|landmark| is_boot(landmark) && landmark.index > 0);
        let begins_with_boot = starts_with_boot(&report.landmarks);
        hypotheses.extend(boots.take(BOOTS).map(|boot| match boot.index {
            // a boot has a boot_aggregate, and so more than one entry if this is not it
            1 if !begins_with_boot => Hypothesis::Added { index: 0 },
            index => Hypothesis::EarlierBoot { index },
        }));
        hypotheses.extend([Hypothesis::AllPcrs, Hypothesis::ZeroViolations]);
        let start = zeros(bank)?;
        let trial = |hypothesis, target| Trial {
            hypothesis,
            target,
            value: start,
            records: 0,
            reached: None,
        };
        let mut trials: Vec<_> = hypotheses
            .into_iter()
            .filter_map(|hypothesis| Some(trial(hypothesis, expected?)))
            .collect();
        let others = values.iter().filter(|other| {
            other.value.algorithm() == bank && other.pcr != pcr && other.value != start
        });
        trials.extend(
            others.map(|other| trial(Hypothesis::OtherPcr { pcr: other.pcr }, other.value)),
        );
        let steps = expected.map(|_| Vec::new());
        Ok(Self { mismatch: *mismatch, trials, steps })
    }

    fn take(
        &mut self,
        record: &Record<'_>,
        index: u64,
        hashers: &mut BTreeMap<HashAlgorithm, Hasher>,
    ) -> Result<(), ListError> {
        let Mismatch { bank, pcr, .. } = self.mismatch;
        self.keep(record, index, hashers)?;
        for trial in &mut self.trials {
            let concerns = record.pcr == pcr || trial.hypothesis == Hypothesis::AllPcrs;
            if !concerns || trial.reached.is_some() {
                continue;
            }
            let Some(digest) = trial.extension(record, index, bank, hashers)? else { continue };
            let Some(hasher) = hashers.get_mut(&bank) else { continue };
            extend(hasher, &mut trial.value, &digest[..bank.digest_size()])?;
            trial.records += 1;
            if trial.value == trial.target {
                trial.reached = Some(Reached { index, records: trial.records });
            }
        }
        Ok(())
    }

    /// Records the effect of a record on the PCR, for the search of edits.
    fn keep(
        &mut self,
        record: &Record<'_>,
        index: u64,
        hashers: &mut BTreeMap<HashAlgorithm, Hasher>,
    ) -> Result<(), ListError> {
        let Mismatch { bank, pcr, .. } = self.mismatch;
        let (Some(steps), Some(hasher)) = (&mut self.steps, hashers.get_mut(&bank)) else {
            return Ok(());
        };
        if record.pcr != pcr {
            return Ok(());
        }
        if steps.len() == edit::MOST {
            self.steps = None;
            return Ok(());
        }
        let digest = hash(hasher, record)?;
        let ones = Digest::new(bank, &ONES[..bank.digest_size()]);
        steps.push(match ones.filter(|_| record.is_violation()) {
            Some(by) => edit::Step { index, by, hidden: Some(digest) },
            None => edit::Step { index, by: digest, hidden: None },
        });
        Ok(())
    }

    /// The first proven hypothesis, otherwise the likeliest one.
    fn explanation(&self, report: &Report) -> Result<Explanation, ListError> {
        if let Some(trial) = self.trials.iter().find(|trial| trial.reached.is_some()) {
            return Ok(Explanation { hypothesis: trial.hypothesis, reached: trial.reached });
        }
        if let (Some(steps), Some(target)) = (&self.steps, &self.mismatch.expected) {
            if let Some(hypothesis) = edit::find(self.mismatch.bank, steps, target)? {
                let records = steps.len() as u64;
                let index = steps.last().map_or(0, |step| step.index);
                let reached = Some(Reached { index, records });
                return Ok(Explanation { hypothesis, reached });
            }
        }
        let is_fresh = |value: Digest| {
            let bytes = value.as_bytes();
            bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff)
        };
        let hypothesis = if self.mismatch.expected.is_some_and(is_fresh) {
            Hypothesis::NeverExtended
        } else if let Some(index) = report.first_changed {
            Hypothesis::Changed { index }
        } else if !starts_with_boot(&report.landmarks) {
            Hypothesis::HeadMissing
        } else if let Some(index) = lost_in_kexec(&report.landmarks) {
            Hypothesis::LostInKexec { index }
        } else if report.fault.is_some() {
            Hypothesis::Unread { index: report.counts.records }
        } else {
            Hypothesis::Unknown
        };
        Ok(Explanation { hypothesis, reached: None })
    }
}

impl Trial {
    /// The digest by which a record extends the PCR under the hypothesis; `None` if it does not extend it.
    fn extension(
        &self,
        record: &Record<'_>,
        index: u64,
        bank: HashAlgorithm,
        hashers: &mut BTreeMap<HashAlgorithm, Hasher>,
    ) -> Result<Option<[u8; MAX_DIGEST_SIZE]>, ListError> {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        let mut hashed = |algorithm, record: &Record<'_>| {
            let hasher = hashers.get_mut(&algorithm);
            hasher.map(|hasher| hash(hasher, record)).transpose()
        };
        let is_violation = record.is_violation();
        let digest = match self.hypothesis {
            Hypothesis::EarlierBoot { index: first } if index < first => return Ok(None),
            Hypothesis::Added { index: added } if index == added => return Ok(None),
            Hypothesis::ZeroViolations if is_violation => return Ok(Some(bytes)),
            Hypothesis::PaddedSha1 if is_violation => {
                bytes[..20].fill(0xff);
                return Ok(Some(bytes));
            }
            _ if is_violation => return Ok(Some(ONES)),
            Hypothesis::PaddedSha1 => hashed(HashAlgorithm::Sha1, record)?,
            Hypothesis::Changed { .. } => Digest::new(bank, record.digest),
            Hypothesis::OtherByteOrder => match record.data_in_other_order() {
                Ok(data) => {
                    let record = Record { data: &data, endian: record.endian.other(), ..*record };
                    hashed(bank, &record)?
                }
                Err(_) => None,
            },
            _ => hashed(bank, record)?,
        };
        let Some(digest) = digest else { return Ok(None) };
        let digest = digest.as_bytes();
        bytes[..digest.len()].copy_from_slice(digest);
        Ok(Some(bytes))
    }
}

/// Whether the first record is a boot_aggregate.
fn starts_with_boot(landmarks: &[Landmark]) -> bool {
    landmarks.first().is_some_and(|first| is_boot(first) && first.index == 0)
}

fn is_boot(landmark: &Landmark) -> bool {
    matches!(landmark.event, BootEvent::BootAggregate(_))
}

/// The first boot_aggregate after another one without a kexec_execute between them.
///
/// Linux 6.16 lists `kexec_load` and `kexec_execute` (`ima_measure_kexec_event`, `ima_kexec.c`) if the policy measures
/// critical data, and copies the list when the next kernel starts. Earlier kernels list neither, and copy it when
/// the next kernel is loaded: all later entries are lost. Stable kernels copy it late without listing anything
/// (`ima_kexec_post_load`, seen in 6.12.117).
fn lost_in_kexec(landmarks: &[Landmark]) -> Option<u64> {
    let (mut booted, mut executed) = (false, false);
    for landmark in landmarks {
        match landmark.event {
            BootEvent::KexecLoad => executed = false,
            BootEvent::KexecExecute => executed = true,
            BootEvent::BootAggregate(_) if booted && !executed => return Some(landmark.index),
            BootEvent::BootAggregate(_) => (booted, executed) = (true, false),
        }
    }
    None
}
