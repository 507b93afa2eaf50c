//! The PCRs that the firmware extended, and boot_aggregate.

use ima::attest::verify::{BootAggregate, Origin};
use ima_format::hex::Hex;
use serde::Serialize;

use crate::output::{Level, Output, Style};

#[derive(Serialize)]
#[serde(tag = "type", rename = "firmware-pcr")]
struct JsonFirmware {
    bank: &'static str,
    pcr: u32,
    verdict: &'static str,
    expected: String,
    replayed: String,
}

/// Prints a PCR next to the value that the firmware's event log results in.
pub(super) fn print_firmware(
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
#[serde(tag = "type", rename = "boot-aggregate")]
struct JsonBootAggregate {
    index: u64,
    hash: Option<&'static str>,
    digest: Option<String>,
    expected: Vec<String>,
    origin: &'static str,
    matches: Option<bool>,
}

pub(super) fn print_boot_aggregate(
    aggregate: &BootAggregate,
    output: &mut Output,
) -> std::io::Result<()> {
    let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
    output.json(&JsonBootAggregate {
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
