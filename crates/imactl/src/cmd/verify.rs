//! `imactl verify`

mod rpm;

use std::fmt::Display;
use std::io;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ima::operation::Verify;
use ima::verify::{Requirement, Verdict};
use ima_format::kind::Kind;
use serde::Serialize;

use crate::args::{KeyringArgs, PlaceArgs};
use crate::inputs::InputArgs;
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::report::{self, Failures, Results, Tally};
use crate::Outcome;

/// Verify files: a verdict for each, in the kernel's words
///
/// Prints `valid`, or the cause that the kernel's audit record would give. Exit status 1 if
/// a file is not valid, 2 if one that was named or found could not be looked at (with --detached
/// also a signature that was named). If there was nothing to verify, the exit status is 1, unless
/// --allow-empty is given.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// What the policy asks for: with digest, a matching digest is valid too
    /// [default: signature]
    #[arg(long, value_name = "WHAT", help_heading = "Verdict")]
    require: Option<Require>,
    /// Exit with 0 if there was nothing to verify [default: 1]
    #[arg(long, help_heading = "Verdict")]
    allow_empty: bool,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
    /// Of RPM packages, unpack the payload, too, and compare each file with its digest
    #[arg(long, help_heading = "Packages")]
    payload: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Require {
    Signature,
    Digest,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = match self.inputs.kind()? {
            Kind::Rpm => self.rpm(output),
            kind => self.files(kind, output),
        }?;
        self.inputs.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn files(&self, kind: Kind, output: &mut Output) -> Result<Outcome> {
        let inputs = self.inputs.resolve(kind, self.place.resolve())?;
        let requirement = match self.require {
            None | Some(Require::Signature) => Requirement::Signature,
            Some(Require::Digest) => Requirement::Digest,
        };
        let keyring = self.keyring.resolve(output)?;
        let operation = Verify::new(&keyring, requirement);
        let mut print = |name: Name<'_>, size, verdict: &Verdict, output: &mut Output| {
            (verdict.is_valid(), print(name, size, verdict, output))
        };
        let totals =
            report::run(&operation, inputs, Results::None, "verifying", output, &mut print)?;
        let (valid, invalid) = (totals.tally.matched, totals.tally.other);
        let failed = totals.failures.count();
        let (kind, bytes, seconds) = ("summary", totals.bytes, totals.seconds);
        output.json(&JsonSummary { kind, valid, invalid, failed, bytes, seconds })?;
        match totals.is_empty() {
            true => nothing_verified(self.nothing(), output),
            false => conclude("file", totals.tally, &totals.failures, output),
        }
    }

    /// How a run is judged that verified nothing.
    fn nothing(&self) -> Outcome {
        match self.allow_empty {
            true => Outcome::Good,
            false => Outcome::Finding,
        }
    }
}

/// Sums up.
fn conclude(
    noun: &str,
    Tally { matched: valid, other: invalid }: Tally,
    failures: &Failures,
    output: &mut Output,
) -> Result<Outcome> {
    let failed = failures.count();
    let mut line = format!("{} valid", count(valid, noun));
    if invalid > 0 {
        line += &format!(", {}", output.paint(Style::Bad, &format!("{invalid} not valid")));
    }
    if failed > 0 {
        line += &format!(", {}", output.paint(Style::Bad, &format!("{failed} not verified")));
    }
    output.line(Level::Normal, &line)?;
    Ok(match (failed, invalid) {
        (1.., _) => Outcome::Failed,
        (_, 1..) => Outcome::Finding,
        _ => Outcome::Good,
    })
}

#[derive(Serialize)]
struct JsonFile {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    valid: bool,
    verdict: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    valid: u64,
    invalid: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

/// Tells that there was nothing to verify: a mistyped path or glob must not look like success.
fn nothing_verified(outcome: Outcome, output: &mut Output) -> Result<Outcome> {
    let (level, line) = match outcome {
        Outcome::Good => (Level::Normal, "no files"),
        _ => (Level::Quiet, "no files: nothing was verified (--allow-empty accepts that)"),
    };
    output.line(level, line)?;
    Ok(outcome)
}

fn print(name: Name<'_>, size: u64, verdict: &Verdict, output: &mut Output) -> io::Result<()> {
    let word = verdict.cause().unwrap_or("valid");
    if output.is_json() {
        let (key_id, hash) = match verdict {
            Verdict::ValidSignature { key_id, algorithm } => (Some(*key_id), Some(*algorithm)),
            Verdict::ValidDigest { algorithm } => (None, Some(*algorithm)),
            Verdict::UnknownKey(key_id) | Verdict::InvalidSignature(key_id) => {
                (Some(*key_id), None)
            }
            _ => (None, None),
        };
        return output.json(&JsonFile {
            kind: "file",
            path: name.into(),
            size,
            valid: verdict.is_valid(),
            verdict: word,
            detail: verdict.to_string(),
            key_id: key_id.map(|key_id| key_id.to_string()),
            hash: hash.map(|hash| hash.name()),
        });
    }
    let level = if verdict.is_valid() { Level::Normal } else { Level::Quiet };
    line(output, level, word, name, verdict)
}

/// Prints a verdict's word, on what, and what is behind it.
fn line(
    output: &mut Output,
    level: Level,
    word: &str,
    name: impl Display,
    detail: impl Display,
) -> io::Result<()> {
    // most runs show the findings alone: the others need not be painted
    if !output.shows(level) {
        return Ok(());
    }
    let style = match word {
        "valid" => Style::Good,
        "empty" => Style::Warning,
        _ => Style::Bad,
    };
    let word = output.paint(style, &format!("{word:<22}"));
    let detail = output.paint(Style::Dim, &format!("({detail})"));
    output.line(level, format_args!("{word} {name} {detail}"))
}
