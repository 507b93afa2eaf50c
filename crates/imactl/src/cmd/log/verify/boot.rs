//! The PCRs that the firmware extended, and boot_aggregate.

use ima::attest::verify::{BootAggregate, Origin};
use ima_format::hex::Hex;

use crate::output::{Level, Output, Style};

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
    output
        .object("firmware-pcr")
        .field("bank", bank.name())
        .field("pcr", pcr)
        .field("verdict", verdict)
        .field("expected", Hex(expected.as_bytes()).to_string())
        .field("replayed", Hex(replayed.as_bytes()).to_string())
        .end()?;
    let head = output.paint(Style::Bold, &format!("{bank} PCR {pcr}"));
    output.line(level, format_args!("{head}: {said}"))
}

pub(super) fn print_boot_aggregate(
    aggregate: &BootAggregate,
    output: &mut Output,
) -> std::io::Result<()> {
    let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
    output
        .object("boot-aggregate")
        .field("index", aggregate.index)
        .field("hash", aggregate.listed.map(|listed| listed.algorithm().name()))
        .field("digest", aggregate.listed.as_ref().map(hex))
        .field("expected", aggregate.expected.iter().map(hex).collect::<Vec<_>>())
        .field(
            "origin",
            match aggregate.origin {
                Origin::Pcrs => "pcrs",
                Origin::EventLog => "event-log",
            },
        )
        .field("matches", aggregate.matches())
        .end()?;
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
