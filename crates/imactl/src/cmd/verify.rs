//! `imactl verify`

mod rpm;

use std::fmt::Display;
use std::io;
use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ima::container::rpm::{PackageSummary, Payload};
use ima::container::{Anomaly, Report};
use ima::operation::{Judgement, Verify};
use ima::verify::{Requirement, Rule, Verdict};
use ima_format::kind::Kind;
use serde::Serialize;

use crate::args::{KeyringArgs, PlaceArgs};
use crate::cmd::policy::{warn_of_hearsay, KernelArgs};
use crate::inputs::InputArgs;
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::report::{self, Printer, Results, Totals};
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
    /// What the policy asks for: sigv3 is a signature of version 3; with digest, a matching digest
    /// is valid too [default: signature]
    #[arg(long, value_name = "WHAT", help_heading = "Verdict")]
    require: Option<Require>,
    #[command(flatten)]
    kernel: KernelArgs,
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
    Sigv3,
    Digest,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.containers(self.inputs.kind()?, output)?;
        self.inputs.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn containers(&self, kind: Kind, output: &mut Output) -> Result<Outcome> {
        let mut inputs = self.inputs.resolve(kind, self.place.resolve())?;
        if let Some(packages) = inputs.packages() {
            packages.payload = if self.payload { Payload::Unpacked } else { Payload::Left };
        }
        let requirement = match self.require {
            None | Some(Require::Signature) => Requirement::Signature,
            Some(Require::Sigv3) => Requirement::SignatureV3,
            Some(Require::Digest) => Requirement::Digest,
        };
        let keyring = self.keyring.resolve(output)?;
        let kernel = self.kernel.resolve().version;
        warn_of_hearsay(kernel, output);
        let operation = Verify::new(&keyring, Rule { requirement, kernel });
        let mut printer = Verdicts::default();
        let totals =
            report::run(&operation, inputs, Results::None, "verifying", output, &mut printer)?;
        let (valid, invalid) = (totals.tally.matched, totals.tally.other);
        let (failed, passed_over) = (totals.failures.count(), totals.passed_over);
        let (bytes, seconds) = (totals.bytes, totals.seconds);
        let is_packages = kind == Kind::Rpm;
        let passed_over = is_packages.then_some(passed_over);
        let kind = "summary";
        output.json(&JsonSummary { kind, valid, invalid, passed_over, failed, bytes, seconds })?;
        // a package without files is good, and nothing of it was verified
        match invalid + failed + printer.files {
            0 => nothing_verified(self.nothing(), output),
            _ => conclude(if is_packages { "package" } else { "file" }, &totals, output),
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
fn conclude(noun: &str, totals: &Totals, output: &mut Output) -> Result<Outcome> {
    let (valid, invalid) = (totals.tally.matched, totals.tally.other);
    let failed = totals.failures.count();
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
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<u64>,
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

/// Prints verdicts.
#[derive(Default)]
struct Verdicts {
    /// Files that have one.
    files: u64,
}

impl Printer<Judgement> for Verdicts {
    fn file(
        &mut self,
        name: Name<'_>,
        size: u64,
        judgement: &Judgement,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        self.files += 1;
        (judgement.is_good(), print(name, size, judgement, output))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Judgement>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let package = rpm::Package { path, package, files };
        self.files += package.verified();
        let printed = match output.is_json() {
            true => package.print_json(output),
            false => package.print(output),
        };
        (package.is_good(), printed)
    }
}

/// The word for a judgement, and the reason for it.
fn words(judgement: &Judgement) -> (&'static str, String) {
    match judgement {
        Judgement::Kernel(verdict) => (verdict.cause().unwrap_or("valid"), verdict.to_string()),
        Judgement::NotSigned => ("valid", "not signed".to_owned()),
        Judgement::Anomaly(anomaly) => {
            let word = match anomaly {
                Anomaly::OtherAlgorithm(_) => "invalid-signature",
                Anomaly::NoDigest => "no-digest",
                Anomaly::NameDisagrees => "hard-link-differs",
                Anomaly::NoContent => "no-content",
                _ => "invalid",
            };
            (word, anomaly.to_string())
        }
    }
}

/// The key of a signature.
fn key_id(judgement: &Judgement) -> Option<String> {
    match judgement {
        Judgement::Kernel(
            Verdict::ValidSignature { key_id, .. }
            | Verdict::UnknownKey(key_id)
            | Verdict::InvalidSignature(key_id),
        ) => Some(key_id.to_string()),
        _ => None,
    }
}

fn print(name: Name<'_>, size: u64, judgement: &Judgement, output: &mut Output) -> io::Result<()> {
    let (verdict, detail) = words(judgement);
    if output.is_json() {
        let hash = match judgement {
            Judgement::Kernel(
                Verdict::ValidSignature { algorithm, .. } | Verdict::ValidDigest { algorithm },
            ) => Some(algorithm.name()),
            _ => None,
        };
        return output.json(&JsonFile {
            kind: "file",
            path: name.into(),
            size,
            valid: judgement.is_good(),
            verdict,
            detail,
            key_id: key_id(judgement),
            hash,
        });
    }
    let level = if judgement.is_good() { Level::Normal } else { Level::Quiet };
    line(output, level, verdict, name, detail)
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
