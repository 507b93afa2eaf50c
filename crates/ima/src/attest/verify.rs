//! Verification of a list in one pass: replay, template digests, signatures.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::PcrValues;

use super::check::{BootEvent, Checked, Checker, Counts, Finding, FindingKind, Landmark};
use super::reader::{Batch, ListReader};
use super::replay::{Bank, ONES};
use super::source::Source;
use super::ListError;
use crate::container::pool::{self, Workers};
use crate::digest::{DigestError, Hasher};
use crate::verify::Keyring;

/// The data against which a list is verified.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The banks to replay.
    pub banks: BTreeSet<HashAlgorithm>,
    /// The values of PCRs.
    pub values: &'a PcrValues,
    /// The keys that sign files; without them, signatures are not verified.
    pub keyring: Option<&'a Keyring>,
    /// The number of threads that hash and verify.
    pub jobs: NonZeroUsize,
}

/// The result of verifying a list.
#[derive(Debug)]
pub struct Report {
    /// Counts of records by kind.
    pub counts: Counts,
    /// The replayed banks.
    pub banks: Vec<Bank>,
    /// The boots in the list; only the first ones if there are very many.
    pub landmarks: Vec<Landmark>,
    /// The first record whose data do not have the listed digest.
    pub first_changed: Option<u64>,
    /// Why the list could not be read to its end.
    pub fault: Option<ListError>,
}

/// The most landmarks that are kept: no machine is booted by kexec so often.
const LANDMARKS: usize = 1 << 10;

/// Batches per worker: one in use, one waiting.
const BATCHES: usize = 2;

/// Verifies a list; findings are passed to `sink` in the order of the list.
///
/// # Errors
/// Digests that cannot be computed. A list that cannot be read to its end is not an error: the report covers the
/// records that were read, and has the fault.
pub fn verify(
    sources: &[Source],
    options: &Options<'_>,
    sink: &mut dyn FnMut(Finding),
) -> Result<Report, ListError> {
    verify_batches(sources, options, &mut |checked| checked.findings.drain(..).for_each(&mut *sink))
}

/// Verifies a list; its batches are passed to `sink` in the order of the list.
///
/// # Errors
/// As [`verify`].
pub fn verify_batches(
    sources: &[Source],
    options: &Options<'_>,
    sink: &mut dyn FnMut(&mut Checked),
) -> Result<Report, ListError> {
    let banks: Vec<_> = options.banks.iter().copied().collect();
    // unavailable algorithms and keys are found before any thread starts
    let mut pass = Pass::new(&banks, options.values)?;
    Checker::new(&banks, options.keyring)?;

    let workers = Workers { jobs: options.jobs, batch: 1 };
    let around = BATCHES * options.jobs.get() + 1;
    let (give_back, empty) = sync_channel(around);
    for _ in 0..around {
        // never full: the channel has room for all batches
        drop(give_back.try_send(Batch::default()));
    }
    let stop = AtomicBool::new(false);
    let mut reader = ListReader::new(sources.iter().cloned());
    let stopped = &stop;
    let produce = move |push: &mut dyn FnMut(Result<Batch, ListError>, u64)| {
        while let Ok(mut batch) = empty.recv() {
            match reader.next(&mut batch) {
                Ok(()) if batch.is_empty() => return,
                Ok(()) => push(Ok(batch), 0),
                Err(error) => return push(Err(error), 0),
            }
            if stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let start = || {
        let mut checker = Checker::new(&banks, options.keyring);
        move |read: Result<Batch, ListError>| match (read, &mut checker) {
            (Ok(batch), Ok(checker)) => checker.check(batch),
            (Ok(_), Err(_)) => Err(DigestError::Unavailable(HashAlgorithm::Sha1).into()),
            (Err(error), _) => Err(error),
        }
    };
    let consume = &mut |checked: Result<Checked, ListError>| {
        // even after an error, batches are returned: the reader waits for them until it has seen `stop`
        let batch = match checked.and_then(|checked| pass.take(checked, sink)) {
            Ok(batch) => batch,
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                pass.report.fault.get_or_insert(error);
                Batch::default()
            }
        };
        drop(give_back.try_send(batch));
        Result::<(), ListError>::Ok(())
    };
    pool::run(workers, &AtomicBool::new(false), produce, start, consume)?;
    match pass.report.fault {
        // not a fault of the list
        Some(error @ (ListError::Digest(_) | ListError::Read { .. })) => Err(error),
        _ => Ok(pass.report),
    }
}

struct Pass {
    report: Report,
}

impl Pass {
    fn new(banks: &[HashAlgorithm], values: &PcrValues) -> Result<Self, DigestError> {
        let banks = banks.iter().map(|bank| Bank::new(*bank, values)).collect::<Result<_, _>>()?;
        let report = Report {
            counts: Counts::default(),
            banks,
            landmarks: Vec::new(),
            first_changed: None,
            fault: None,
        };
        Ok(Self { report })
    }

    /// Extends the banks by the records of a batch, and returns the batch for reuse.
    fn take(
        &mut self,
        mut checked: Checked,
        sink: &mut dyn FnMut(&mut Checked),
    ) -> Result<Batch, ListError> {
        let report = &mut self.report;
        if report.fault.is_some() {
            return Ok(checked.batch);
        }
        for (bank, digests) in report.banks.iter_mut().zip(&checked.digests) {
            let size = bank.algorithm().digest_size();
            let ones = &ONES[..size];
            let records = checked.extensions.iter().zip(digests.chunks(size));
            for ((extension, digest), index) in records.zip(report.counts.records..) {
                let by = if extension.by_ones { ones } else { digest };
                bank.extend(extension.pcr, index, by)?;
            }
        }
        let room = LANDMARKS.saturating_sub(report.landmarks.len());
        report.landmarks.extend(checked.landmarks.iter().take(room));
        report.counts.add(&checked.counts);
        let mut findings = checked.findings.iter();
        let changed = findings.find(|finding| finding.kind == FindingKind::TemplateDigest);
        report.first_changed = report.first_changed.or(changed.map(|finding| finding.index));
        sink(&mut checked);
        Ok(checked.batch)
    }
}

/// The source of the values of the first PCRs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The TPM.
    Pcrs,
    /// The firmware's event log.
    EventLog,
}

/// A boot_aggregate, compared with the PCRs that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootAggregate {
    /// The number of the record.
    pub index: u64,
    /// The listed digest; `None` if it is zeros: the kernel had no TPM.
    pub listed: Option<Digest>,
    /// The digests of PCRs 0 to 7, and of 0 to 9 (Linux 5.8, banks other than SHA-1); empty if their values are
    /// unknown.
    pub expected: Vec<Digest>,
    /// The source of these values.
    pub origin: Origin,
}

impl BootAggregate {
    /// Whether the listed digest is one of the expected ones; `None` if it is not known.
    pub fn matches(&self) -> Option<bool> {
        let listed = self.listed?;
        (!self.expected.is_empty()).then(|| self.expected.contains(&listed))
    }
}

/// Compares each boot_aggregate with the values of PCRs, which kexec does not reset; if they are unknown, with those of
/// an event log.
///
/// # Errors
/// The hash fails.
pub fn boot_aggregates(
    report: &Report,
    values: &PcrValues,
    event_log: &PcrValues,
) -> Result<Vec<BootAggregate>, DigestError> {
    let mut aggregates = Vec::new();
    for Landmark { index, event } in &report.landmarks {
        let BootEvent::BootAggregate(listed) = *event else { continue };
        let (mut expected, mut origin) = (Vec::new(), Origin::Pcrs);
        if let Some(listed) = listed {
            expected = boot_aggregate(listed.algorithm(), values)?;
            if expected.is_empty() {
                origin = Origin::EventLog;
                expected = boot_aggregate(listed.algorithm(), event_log)?;
            }
        }
        aggregates.push(BootAggregate { index: *index, listed, expected, origin });
    }
    Ok(aggregates)
}

/// The digests of PCRs 0 to 9 and 0 to 7 of a bank; for SHA-1 only the latter
/// (`ima_calc_boot_aggregate_tfm`, `ima_crypto.c`).
///
/// # Errors
/// The hash fails.
pub fn boot_aggregate(bank: HashAlgorithm, values: &PcrValues) -> Result<Vec<Digest>, DigestError> {
    let counts: &[u32] = if bank == HashAlgorithm::Sha1 { &[8] } else { &[10, 8] };
    let mut expected = Vec::new();
    for count in counts {
        let pcrs: Option<Vec<_>> = (0..*count).map(|pcr| values.get(bank, pcr)).collect();
        let Some(pcrs) = pcrs else { continue };
        let mut hasher = Hasher::new(bank)?;
        pcrs.iter().try_for_each(|value| hasher.update(value.as_bytes()))?;
        expected.push(hasher.finish()?);
    }
    Ok(expected)
}
