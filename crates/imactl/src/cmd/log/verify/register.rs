//! PCRs next to the values that the list results in, and why the two differ.

use ima::attest::explain::{Explanation, ExtendedBy, Hypothesis, Judged, Verdict};
use ima_format::hex::Hex;
use serde::Serialize;

use crate::output::{count, Level, Output, Style};

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

pub(super) fn print_pcr(judged: &Judged, output: &mut Output) -> std::io::Result<()> {
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
            let newer = count(register.records - matched, "newer entry");
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
