//! `imactl log verify`

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ima::attest::check::{Counts, Finding, FindingKind};
use ima::attest::explain::{judge, Explanation, ExtendedBy, Hypothesis, Judged, Verdict};
use ima::attest::firmware;
use ima::attest::pcr::{self, PcrInput};
use ima::attest::signature::{SignatureState, Unverifiable};
use ima::attest::source::Reading;
use ima::attest::verify::{boot_aggregates, verify, BootAggregate, Options, Origin};
use ima::attest::ListError;
use ima::system::Machine;
use ima::verify::Keyring;
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::measure::{PcrValue, PcrValues};
use ima_format::printable::Printable;
use serde::Serialize;

use super::{report_fault, ListArgs};
use crate::args::{jobs, KeyringArgs};
use crate::hint::hinted;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::Outcome;

/// Verify a measurement list against PCR values and certificates
///
/// Template digests are computed again and every bank with a known PCR value is replayed. A list that
/// is newer than the value matches up to some entry; the entries after it are reported as unverified.
/// If a list does not match, imactl tries what could explain it and names the first entry to look at.
/// With certificates, the signatures in the list are verified over the digests in the list. The exit
/// status is 1 on a mismatch, a changed or malformed entry, a violation, or a signature that is bad or
/// by an unknown key; 2 if the list cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    list: ListArgs,
    /// PCR values: output of tpm2_pcrread, ALGORITHM,FILE with lines "PCR-10: HEX" as evmctl reads
    /// them, or a directory with pcr-sha256/10 [default for this machine: its TPM]
    #[arg(long, value_name = "FILE")]
    pcrs: Vec<PathBuf>,
    /// The firmware's event log (/sys/kernel/security/tpm0/binary_bios_measurements): replayed, compared
    /// with the PCR values and with boot_aggregate [default for this machine: its log]
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// Verify template digests and signatures only; print the PCR values that the list results in
    #[arg(long, conflicts_with = "pcrs")]
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
        // before the list: then it has all that extended them
        let values = self.values()?;
        let certificates = self.keyring.given(output)?;
        let keyring = Keyring::of_certificates(&certificates);
        let options = Options {
            banks: self.banks(&values)?,
            values: &values,
            keyring: (!keyring.is_empty()).then_some(&keyring),
            jobs: jobs(self.jobs),
        };
        let reading = if self.no_pcrs { Reading::Once } else { Reading::Again };
        let sources = self.list.open(reading)?;

        let (mut outcome, mut written) = (Outcome::Good, Ok(()));
        let report = verify(&sources, &options, &mut |finding| {
            if self.is_bad(&finding) {
                outcome = Outcome::Finding;
            }
            if written.is_ok() {
                written = print_finding(&finding, output);
            }
        })?;
        written?;
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
        let event_log = self.event_log()?;
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
        let mut inputs: Vec<_> = self.pcrs.iter().map(|path| PcrInput::from(&**path)).collect();
        if inputs.is_empty() && self.list.is_here() {
            let tpm = Machine::here().tpm_with_pcrs();
            inputs.extend(tpm.map(|path| PcrInput { bank: None, path }));
        }
        if inputs.is_empty() {
            return Err(hinted(
                "no PCR values to compare the list with",
                "give --pcrs FILE (tpm2_pcrread > FILE), or --no-pcrs to check entries only",
            ));
        }
        Ok(pcr::read(&inputs)?)
    }

    fn event_log(&self) -> Result<PcrValues> {
        let here = || self.list.is_here().then(|| Machine::here().event_log()).flatten();
        match self.event_log.clone().or_else(here) {
            Some(path) => Ok(firmware::replay(&path)?),
            None => Ok(PcrValues::default()),
        }
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

#[derive(Serialize)]
struct JsonFinding<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u64,
    offset: u64,
    #[serde(flatten)]
    path: JsonPath,
    finding: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

/// A finding in a word and in a sentence.
fn describe(kind: &FindingKind) -> (&'static str, String) {
    let text = |text: &str| text.to_owned();
    match kind {
        FindingKind::TemplateDigest => {
            ("template-digest", text("its data do not result in its template digest"))
        }
        FindingKind::Malformed(error) => ("malformed", error.to_string()),
        FindingKind::Violation => {
            ("violation", text("violation: the file was open for writing while it was measured"))
        }
        FindingKind::Signature(state) => match state {
            SignatureState::Valid(key_id) => {
                ("valid-signature", format!("valid signature by key {key_id}"))
            }
            SignatureState::Invalid(key_id) => (
                "invalid-signature",
                format!("not a signature by key {key_id} over the measured digest"),
            ),
            SignatureState::UnknownKey(key_id) => ("unknown-key", format!("unknown key {key_id}")),
            SignatureState::Malformed(error) => {
                ("malformed-signature", format!("malformed signature: {error}"))
            }
            SignatureState::Unverifiable(why) => {
                ("unverifiable-signature", format!("signature not verified: {}", reason(why)))
            }
            _ => ("signature", text("signature not verified")),
        },
        _ => ("other", text("unknown finding")),
    }
}

fn reason(why: &Unverifiable) -> String {
    match why {
        Unverifiable::Version1 => "obsolete version 1".into(),
        Unverifiable::OtherDigest { signed, measured: Some(measured) } => {
            format!("it is over a {signed} digest, the list has {measured}")
        }
        Unverifiable::OtherDigest { signed, measured: None } => {
            format!("it is over a {signed} digest, the list has none")
        }
        Unverifiable::OtherType => "it is over another type of digest than was measured".into(),
        Unverifiable::Metadata => "it is over metadata, which the list does not have".into(),
        Unverifiable::Appended => "appended signatures are not supported".into(),
        Unverifiable::Violation => "a violation has no digest".into(),
        Unverifiable::NotASignature => "not a signature".into(),
    }
}

fn print_finding(finding: &Finding, output: &mut Output) -> std::io::Result<()> {
    let (word, detail) = describe(&finding.kind);
    let key_id = match &finding.kind {
        FindingKind::Signature(
            SignatureState::Invalid(key_id) | SignatureState::UnknownKey(key_id),
        ) => Some(key_id.to_string()),
        _ => None,
    };
    output.json(&JsonFinding {
        kind: "finding",
        index: finding.index,
        offset: finding.offset,
        path: Path::new(OsStr::from_bytes(&finding.name)).into(),
        finding: word,
        detail: &detail,
        key_id,
    })?;
    let level = match finding.kind {
        FindingKind::Signature(SignatureState::Unverifiable(_)) => Level::Verbose,
        _ => Level::Quiet,
    };
    if !output.shows(level) {
        return Ok(());
    }
    let name = output.paint(Style::Bold, &Printable(&finding.name).to_string());
    let detail = output.paint(Style::Bad, &detail);
    output.line(level, format_args!("entry {} {name}: {detail}", finding.index))
}

#[derive(Serialize)]
struct JsonPcr<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    bank: &'static str,
    pcr: u32,
    verdict: &'static str,
    expected: Option<String>,
    replayed: String,
    entries: u64,
    matched: u64,
    unverified: u64,
    padded_sha1: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

fn print_pcr(judged: &Judged, output: &mut Output) -> std::io::Result<()> {
    let Judged { bank, register, verdict } = judged;
    let (word, matched, padded, explanation) = match *verdict {
        Verdict::Match { reached, extended_by } => {
            ("match", reached.records, extended_by == ExtendedBy::PaddedSha1, None)
        }
        Verdict::Mismatch(explanation) => ("mismatch", 0, false, Some(explanation)),
        Verdict::NoValue(explanation) => ("no-value", 0, false, explanation),
    };
    let why = explanation.map(|explanation| sentence(&explanation));
    let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
    output.json(&JsonPcr {
        kind: "pcr",
        bank: bank.name(),
        pcr: register.pcr,
        verdict: word,
        expected: register.expected.as_ref().map(hex),
        replayed: hex(&register.value),
        entries: register.records,
        matched,
        unverified: register.records - matched,
        padded_sha1: padded,
        explanation: explanation.map(|explanation| word_of(&explanation.hypothesis)),
        proven: explanation.map(|explanation| explanation.reached.is_some()),
        first: explanation.and_then(|explanation| explanation.hypothesis.first()),
        why: why.as_deref(),
    })?;
    let head = output.paint(Style::Bold, &format!("{bank} PCR {}", register.pcr));
    let (level, mut line) = match verdict {
        Verdict::Match { reached, .. } if reached.records == register.records => {
            (Level::Normal, output.paint(Style::Good, "matches"))
        }
        Verdict::Match { .. } => {
            let newer =
                count(register.records - matched, "newer entry").replace("entrys", "entries");
            let word = output.paint(Style::Good, "matches");
            (Level::Normal, format!("{word} up to entry {}; {newer} not verified", last(verdict)))
        }
        Verdict::Mismatch(_) => (Level::Quiet, output.paint(Style::Bad, "does not match")),
        Verdict::NoValue(_) => (Level::Normal, format!("results in {}", hex(&register.value))),
    };
    if padded {
        line += " (extended by padded SHA-1 digests, as Linux before 5.8 does)";
    }
    output.line(level, format_args!("{head}: {line}"))?;
    if let (Some(expected), Verdict::Mismatch(_)) = (&register.expected, verdict) {
        output.line(level, format_args!("  value     {}", hex(expected)))?;
        output.line(level, format_args!("  replayed  {}", hex(&register.value)))?;
    }
    if let Some(why) = why {
        output.line(level, format_args!("  why       {why}"))?;
    }
    Ok(())
}

fn last(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Match { reached, .. } => reached.index,
        _ => 0,
    }
}

fn word_of(hypothesis: &Hypothesis) -> &'static str {
    match hypothesis {
        Hypothesis::PaddedSha1 => "padded-sha1",
        Hypothesis::Changed { .. } => "changed-entry",
        Hypothesis::Added { .. } => "added-entry",
        Hypothesis::Swapped { .. } => "swapped-entries",
        Hypothesis::ForgedViolation { .. } => "forged-violation",
        Hypothesis::OtherByteOrder => "other-byte-order",
        Hypothesis::EarlierBoot { .. } => "earlier-boot",
        Hypothesis::OtherPcr { .. } => "other-pcr",
        Hypothesis::AllPcrs => "all-pcrs",
        Hypothesis::ZeroViolations => "zero-violations",
        Hypothesis::NeverExtended => "never-extended",
        Hypothesis::HeadMissing => "head-missing",
        Hypothesis::LostInKexec { .. } => "lost-in-kexec",
        Hypothesis::Unread { .. } => "unread",
        _ => "unknown",
    }
}

/// An explanation in words.
fn sentence(explanation: &Explanation) -> String {
    let proven = explanation.reached.is_some();
    match explanation.hypothesis {
        Hypothesis::PaddedSha1 => "the bank was extended by padded SHA-1 digests".into(),
        Hypothesis::Changed { index } if proven => format!(
            "entry {index} was changed after it was measured: with the listed template digests the \
             list results in the value"
        ),
        Hypothesis::Changed { index } => {
            format!("entry {index} was changed: its data do not result in its template digest")
        }
        Hypothesis::Added { index } => {
            format!("entry {index} was added: without it the list results in the value")
        }
        Hypothesis::Swapped { index } => format!(
            "entries {index} and the next were exchanged: in the other order the list results in the \
             value"
        ),
        Hypothesis::ForgedViolation { index } => format!(
            "entry {index} is not a violation: its own digest extended the PCR"
        ),
        Hypothesis::OtherByteOrder => "the list was converted to the other byte order".into(),
        Hypothesis::EarlierBoot { index } => {
            format!("entries before {index} are from an earlier boot; the PCR was reset since")
        }
        Hypothesis::OtherPcr { pcr } => format!("this is the value of PCR {pcr}"),
        Hypothesis::AllPcrs => "entries for other PCRs extended this one".into(),
        Hypothesis::ZeroViolations => {
            "violations extended the PCR by zeros, not ones; no kernel does this".into()
        }
        Hypothesis::NeverExtended => {
            "the PCR was never extended: the kernel does not use this bank, or the value is from \
             another TPM"
                .into()
        }
        Hypothesis::HeadMissing => {
            "the list does not begin with boot_aggregate: earlier entries are missing (trimmed, \
             staged, or in another segment)"
                .into()
        }
        Hypothesis::LostInKexec { index } => {
            format!("entries before the boot_aggregate {index} were lost in a kexec")
        }
        Hypothesis::Unread { index } => {
            format!("the list cannot be read from entry {index} on")
        }
        _ => "no known cause fits: entries are missing at the end, or some were removed, added or \
              replaced together with their digests"
            .into(),
    }
}

/// PCRs from here on may be extended after the firmware's log was written: by the kernel, by systemd.
const IMA_MAY_EXTEND: u32 = 8;

#[derive(Serialize)]
struct JsonFirmware {
    #[serde(rename = "type")]
    kind: &'static str,
    bank: &'static str,
    pcr: u32,
    verdict: &'static str,
    expected: String,
    replayed: String,
}

/// A PCR next to what the firmware's event log makes of it.
fn print_firmware(
    pcr: u32,
    expected: &ima::Digest,
    replayed: &ima::Digest,
    output: &mut Output,
) -> std::io::Result<()> {
    let bank = expected.algorithm();
    let (verdict, level, said) = match expected == replayed {
        true => ("match", Level::Verbose, output.paint(Style::Good, "matches the event log")),
        false => {
            ("mismatch", Level::Quiet, output.paint(Style::Bad, "does not match the event log"))
        }
    };
    output.json(&JsonFirmware {
        kind: "firmware-pcr",
        bank: bank.name(),
        pcr,
        verdict,
        expected: Hex(expected.as_bytes()).to_string(),
        replayed: Hex(replayed.as_bytes()).to_string(),
    })?;
    let head = output.paint(Style::Bold, &format!("{bank} PCR {pcr}"));
    output.line(level, format_args!("{head}: {said}"))
}

#[derive(Serialize)]
struct JsonBootAggregate {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u64,
    hash: Option<&'static str>,
    digest: Option<String>,
    expected: Vec<String>,
    origin: &'static str,
    matches: Option<bool>,
}

fn print_boot_aggregate(aggregate: &BootAggregate, output: &mut Output) -> std::io::Result<()> {
    let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
    output.json(&JsonBootAggregate {
        kind: "boot-aggregate",
        index: aggregate.index,
        hash: aggregate.listed.map(|listed| listed.algorithm().name()),
        digest: aggregate.listed.as_ref().map(hex),
        expected: aggregate.expected.iter().map(hex).collect(),
        origin: match aggregate.origin {
            Origin::Pcrs => "pcrs",
            Origin::EventLog => "event-log",
        },
        matches: aggregate.matches(),
    })?;
    let with = match aggregate.origin {
        Origin::Pcrs => "the PCRs",
        Origin::EventLog => "the event log",
    };
    let (level, said) = match (aggregate.listed, aggregate.matches()) {
        (None, _) => (Level::Normal, "zeros: the kernel found no TPM when it started".into()),
        (Some(_), None) => {
            (Level::Normal, "not compared: needs the values of PCRs 0 to 9, or --event-log".into())
        }
        (_, Some(true)) => (Level::Normal, output.paint(Style::Good, &format!("matches {with}"))),
        (_, Some(false)) => {
            (Level::Quiet, output.paint(Style::Bad, &format!("does not match {with}")))
        }
    };
    output.line(level, format_args!("boot_aggregate (entry {}): {said}", aggregate.index))
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    good: bool,
    entries: u64,
    violations: u64,
    malformed: u64,
    signed: u64,
    valid: u64,
    invalid: u64,
    unknown_key: u64,
    unverifiable: u64,
}

fn print_summary(
    counts: &Counts,
    verified: bool,
    outcome: Outcome,
    output: &mut Output,
) -> std::io::Result<()> {
    let Counts { records, violations, malformed, signed, valid, invalid, unknown, unverifiable } =
        *counts;
    output.json(&JsonSummary {
        kind: "summary",
        good: outcome == Outcome::Good,
        entries: records,
        violations,
        malformed,
        signed,
        valid,
        invalid,
        unknown_key: unknown,
        unverifiable,
    })?;
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
