//! The part of a report on a measurement list: whether it agrees with the PCRs, and its entries.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use ima::attest::check::{is_signed, BootEvent, Checked, Counts, Finding, FindingKind};
use ima::attest::explain::{judge, Judged, Verdict};
use ima::attest::quote::Checked as Quote;
use ima::attest::signature::SignatureState;
use ima::attest::source::Source;
use ima::attest::timeline::{timeline, Audited, Event};
use ima::attest::verify::{boot_aggregates, verify_batches, BootAggregate, Options, Report};
use ima::attest::ListError;
use ima_format::measure::{Entry, PcrValue, PcrValues};
use ima_format::xattr::Attribute;

use super::groups::{directory, Groups};
use super::html::ROWS;
use super::strip::Strip;
use crate::cmd::log::IMA_MAY_EXTEND;
use crate::error::Result;

/// The number of entries of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) entries: u64,
    pub(super) signed: u64,
    /// Entries with a finding.
    pub(super) bad: u64,
    /// Entries with a signature and without a finding.
    pub(super) good: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.signed += other.signed;
        self.bad += other.bad;
        self.good += other.good;
    }
}

/// An entry as a table row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) index: u64,
    pub(super) pcr: u32,
    pub(super) template: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) digest: Option<String>,
    /// The key ID of the signature, or `yes` if the signature has none.
    pub(super) signed: Option<String>,
}

/// The timeline with the audit log.
#[derive(Debug)]
pub(super) struct Events {
    /// The first [`ROWS`] events.
    pub(super) shown: Vec<Event>,
    pub(super) all: u64,
    /// Events in which a file went back to an earlier digest.
    pub(super) back: Vec<Event>,
    pub(super) backs: u64,
}

/// A list, and the values that it is compared with.
pub(super) struct Inputs<'a> {
    pub(super) sources: &'a [Source],
    pub(super) options: Options<'a>,
    pub(super) event_log: PcrValues,
    pub(super) quote: Option<Quote>,
    pub(super) audited: Option<Vec<Audited>>,
}

/// The results for a list.
pub(super) struct List {
    pub(super) names: Vec<String>,
    pub(super) has_keys: bool,
    pub(super) counts: Counts,
    pub(super) judged: Vec<Judged>,
    pub(super) quote: Option<Quote>,
    /// PCRs next to the values that the firmware's event log results in.
    pub(super) firmware: Vec<(PcrValue, ima::Digest)>,
    pub(super) aggregates: Vec<BootAggregate>,
    pub(super) boots: Vec<(u64, BootEvent)>,
    /// Why the list could not be read to its end.
    pub(super) fault: Option<String>,
    pub(super) directories: Groups<Tally>,
    /// Entries that are not files: buffers, boot_aggregate.
    pub(super) events: Tally,
    pub(super) strip: Strip,
    pub(super) first: Vec<Row>,
    pub(super) findings: Vec<Finding>,
    /// The number of findings by kind.
    pub(super) found: BTreeMap<&'static str, u64>,
    pub(super) timeline: Option<Events>,
}

/// Collects the results of the batches of a list.
#[derive(Default)]
struct Collector {
    directories: Groups<Tally>,
    events: Tally,
    strip: Strip,
    first: Vec<Row>,
    findings: Vec<Finding>,
    found: BTreeMap<&'static str, u64>,
}

impl Collector {
    fn take(&mut self, checked: &mut Checked) {
        let mut bad = Vec::new();
        for finding in checked.findings.drain(..) {
            *self.found.entry(finding.kind.word()).or_default() += 1;
            if matches!(finding.kind, FindingKind::Signature(SignatureState::Unverifiable(_))) {
                continue;
            }
            bad.push(finding.index);
            if self.findings.len() < ROWS {
                self.findings.push(finding);
            }
        }
        for item in checked.batch.items() {
            // a malformed entry has no name; it is among the findings
            let entry = Entry::decode(&item.record).unwrap_or_default();
            let is_bad = bad.binary_search(&item.index).is_ok();
            let is_signed = is_signed(&entry);
            let tally = Tally {
                entries: 1,
                signed: is_signed.into(),
                bad: is_bad.into(),
                good: (is_signed && !is_bad).into(),
            };
            match directory(entry.name).filter(|_| entry.buffer.is_none()) {
                Some(directory) => self.directories.add(directory, tally),
                None => self.events += tally,
            }
            self.strip.add(item.index, is_signed, is_bad);
            if self.first.len() < ROWS {
                self.first.push(Row {
                    index: item.index,
                    pcr: item.record.pcr,
                    template: item.record.template.name().to_vec(),
                    name: entry.name.to_vec(),
                    digest: match item.record.is_violation() {
                        true => None,
                        false => entry.digest.and_then(|file| Some(file.digest?.to_string())),
                    },
                    signed: is_signed.then(|| key_of(&entry)),
                });
            }
        }
    }
}

/// The key ID of a signature, or `yes` if it has none.
fn key_of(entry: &Entry<'_>) -> String {
    let value = entry.signature.or(entry.evm_signature).unwrap_or_default();
    match Attribute::decode(value) {
        Ok(Attribute::Signature(signature)) => signature.key_id.to_string(),
        _ => "yes".into(),
    }
}

impl List {
    /// Reads a list to its end. Memory is constant unless an audit log is merged with the list.
    pub(super) fn of(inputs: Inputs<'_>) -> Result<Self> {
        let Inputs { sources, options, event_log, quote, audited } = inputs;
        let values = options.values;
        let mut collector = Collector::default();
        let report = verify_batches(sources, &options, &mut |checked| collector.take(checked))?;
        let judged = judge(sources, &report, values)?;
        let firmware = event_log.iter().filter_map(|PcrValue { pcr, value }| {
            let expected = values.get(value.algorithm(), pcr).filter(|_| pcr < IMA_MAY_EXTEND)?;
            Some((PcrValue { pcr, value: *expected }, value))
        });
        let fault = report.fault.as_ref().map(ListError::to_string);
        let timeline = match audited {
            Some(audited) if fault.is_none() => Some(events(timeline(sources, audited)?)),
            _ => None,
        };
        let Collector { directories, events, strip, first, findings, found } = collector;
        Ok(Self {
            names: sources.iter().map(|source| source.name().to_string()).collect(),
            has_keys: options.keyring.is_some(),
            counts: report.counts,
            firmware: firmware.collect(),
            aggregates: boot_aggregates(&report, values, &event_log)?,
            boots: boots(&report),
            judged,
            quote,
            fault,
            directories,
            events,
            strip,
            first,
            findings,
            found,
            timeline,
        })
    }

    /// Whether list and PCRs agree; `None` if nothing was compared.
    pub(super) fn agrees(&self) -> Option<bool> {
        let mut verdicts = self.judged.iter().map(|judged| judged.verdict);
        let is_mismatch = |verdict: &Verdict| matches!(verdict, Verdict::Mismatch(_));
        let disagrees = self.fault.is_some()
            || self.counts.malformed > 0
            || self.judged.iter().any(|judged| is_mismatch(&judged.verdict))
            || self.quote.as_ref().is_some_and(|quote| !quote.faults.is_empty())
            || self.firmware.iter().any(|(expected, replayed)| expected.value != *replayed)
            || self.aggregates.iter().any(|aggregate| aggregate.matches() == Some(false));
        match (disagrees, verdicts.any(|verdict| matches!(verdict, Verdict::Match { .. }))) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    /// Whether there are no findings.
    pub(super) fn is_good(&self) -> bool {
        let went_back = self.timeline.as_ref().is_some_and(|timeline| timeline.backs > 0);
        self.agrees() == Some(true) && self.findings.is_empty() && !went_back
    }
}

fn boots(report: &Report) -> Vec<(u64, BootEvent)> {
    report.landmarks.iter().map(|landmark| (landmark.index, landmark.event)).collect()
}

fn events(events: Vec<Event>) -> Events {
    use ima::attest::timeline::EventKind;
    let is_back = |event: &&Event| event.kind == EventKind::Back;
    let backs = events.iter().filter(is_back).count() as u64;
    let back = events.iter().filter(is_back).take(ROWS).cloned().collect();
    Events { back, backs, all: events.len() as u64, shown: events.into_iter().take(ROWS).collect() }
}
