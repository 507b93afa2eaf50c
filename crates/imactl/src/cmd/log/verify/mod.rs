//! `imactl log verify`

mod boot;
mod finding;
mod quote;
mod reference;
mod register;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use clap::Args;
use ima::attest::check::{Counts, Finding, FindingKind};
use ima::attest::explain::{judge, Judged, Verdict};
use ima::attest::signature::SignatureState;
use ima::attest::source::Reading;
use ima::attest::verify::{boot_aggregates, verify, Options};
use ima::attest::ListError;
use ima::HashAlgorithm;
use ima_format::measure::{PcrValue, PcrValues};

use super::{note_others, report_fault, watched, ListArgs};
use crate::args::{jobs, KeyringArgs};
use crate::error::{hinted, Result};
use crate::output::{count, Level, Output};
use crate::Outcome;
use boot::{print_boot_aggregate, print_firmware};
use finding::print_finding;
pub(super) use quote::QuoteArgs;
pub(crate) use reference::{ListOf, ReferenceArgs};
use register::print_pcr;
pub(crate) use register::words;

/// Verify a measurement list against PCR values and certificates
///
/// Template digests are computed again and every bank with a known PCR value is replayed. A list that
/// is newer than the value matches up to some entry; the entries after it are reported as unverified.
/// If a list does not match, imactl tries what could explain it and names the first entry to look at.
/// With a quote, only values that the TPM signed are compared. With certificates, the signatures in the
/// list are verified over the digests in the list. The exit status is 1 on a mismatch, a quote that proves
/// nothing, a changed or malformed entry, a violation, or a signature that is bad or by an unknown key; 2
/// if the list cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Verify template digests and signatures only; print the PCR values that the list results in
    #[arg(long, conflicts_with_all = ["pcrs", "quote"])]
    no_pcrs: bool,
    /// Only these banks [default: every bank with a value; with --no-pcrs sha1 and sha256]
    #[arg(long, value_name = "ALGORITHM")]
    bank: Vec<HashAlgorithm>,
    /// Violations do not change the exit status
    #[arg(long)]
    ignore_violations: bool,
    /// Number of worker threads [default: number of CPUs; maximum 1024]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        // read the PCRs before the list: then every extension of them is in the list
        let values = self.values()?;
        let (values, mut outcome) = self.reference.quote.check(values, output)?;
        let keyring = self.keyring.measured(output)?;
        let options = Options {
            banks: self.banks(&values)?,
            values: &values,
            keyring: keyring.as_ref(),
            jobs: jobs(self.jobs),
        };
        let reading = if self.no_pcrs { Reading::Once } else { Reading::Again };
        let (sources, bar) = watched(self.list.open(reading)?, "verifying", output);

        let mut written = Ok(());
        let report = verify(&sources, &options, &mut |finding| {
            if self.is_bad(&finding) {
                outcome = Outcome::Finding;
            }
            if written.is_ok() {
                written = bar.suspend(|| print_finding(&finding, output));
            }
        });
        bar.finish();
        let report = report?;
        written?;
        note_others(&sources, output);
        if let Some(ListError::Malformed(fault)) = &report.fault {
            outcome = outcome.max(report_fault(fault, output)?);
        }
        let judged = judge(&sources, &report, &values)?;
        for judged in &judged {
            if !self.no_pcrs && !matches!(judged.verdict, Verdict::Match { .. }) {
                outcome = outcome.max(Outcome::Finding);
            }
            print_pcr(judged, output)?;
        }
        let event_log = self.reference.event_log(self.list.machine())?;
        for PcrValue { pcr, value } in event_log.iter() {
            if let Some(expected) =
                values.get(value.algorithm(), pcr).filter(|_| pcr < IMA_MAY_EXTEND)
            {
                if *expected != value {
                    outcome = outcome.max(Outcome::Finding);
                }
                print_firmware(pcr, expected, &value, output)?;
            }
        }
        for aggregate in boot_aggregates(&report, &values, &event_log)? {
            if aggregate.matches() == Some(false) {
                outcome = outcome.max(Outcome::Finding);
            }
            print_boot_aggregate(&aggregate, output)?;
        }
        let is_compared = |judged: &Judged| judged.register.expected.is_some();
        if !self.no_pcrs && !judged.iter().any(is_compared) {
            outcome = outcome.max(Outcome::Finding);
            output.warn(
                "no entry of the list extends a PCR whose value is given: nothing was compared",
            );
        }
        print_summary(&report.counts, options.keyring.is_some(), outcome, output)?;
        Ok(outcome)
    }

    fn values(&self) -> Result<PcrValues> {
        if self.no_pcrs {
            return Ok(PcrValues::default());
        }
        let values = self.reference.values(self.list.machine())?;
        values.ok_or_else(|| {
            hinted(
                "no PCR values to compare the list with",
                "give --pcrs FILE (tpm2_pcrread > FILE), or --no-pcrs to check entries only",
            )
        })
    }

    fn banks(&self, values: &PcrValues) -> Result<BTreeSet<HashAlgorithm>> {
        let known: BTreeSet<_> = match self.no_pcrs {
            true => BTreeSet::from([HashAlgorithm::Sha1, HashAlgorithm::Sha256]),
            false => values.iter().map(|value| value.value.algorithm()).collect(),
        };
        let wanted: BTreeSet<_> = self.bank.iter().copied().collect();
        match wanted.iter().find(|bank| !self.no_pcrs && !known.contains(bank)) {
            Some(bank) => Err(hinted(
                format!("--bank {bank}: no value of a PCR in this bank"),
                "give one with --pcrs",
            )),
            None if wanted.is_empty() => Ok(known),
            None => Ok(wanted),
        }
    }

    fn is_bad(&self, finding: &Finding) -> bool {
        match &finding.kind {
            FindingKind::Violation => !self.ignore_violations,
            FindingKind::Signature(SignatureState::Unverifiable(_)) => false,
            _ => true,
        }
    }
}

/// PCRs from this one on may be extended after the firmware's log was written, by the kernel or systemd.
pub(crate) const IMA_MAY_EXTEND: u32 = 8;

fn print_summary(
    counts: &Counts,
    verified: bool,
    outcome: Outcome,
    output: &mut Output,
) -> std::io::Result<()> {
    let Counts { records, violations, malformed, signed, valid, invalid, unknown, unverifiable } =
        *counts;
    output
        .object("summary")
        .field("good", outcome == Outcome::Good)
        .field("entries", records)
        .field("violations", violations)
        .field("malformed", malformed)
        .field("signed", signed)
        .field("valid", valid)
        .field("invalid", invalid)
        .field("unknown_key", unknown)
        .field("unverifiable", unverifiable)
        .end()?;
    let mut line = format!("{records} entries, {}", count(violations, "violation"));
    if malformed > 0 {
        line += &format!(", {malformed} changed or malformed");
    }
    line += &match verified {
        true => format!(
            "; signatures: {valid} valid, {invalid} invalid, {unknown} by unknown keys, \
             {unverifiable} not verifiable, {} entries without",
            records - signed
        ),
        false => format!("; {signed} signed (give certificates to verify)"),
    };
    output.line(Level::Normal, line)
}
