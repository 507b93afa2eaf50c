//! `imactl verify` for files and trees of them

use anyhow::Result;
use clap::{Args, ValueEnum};
use ima::target::tree::{self, VerifyOptions};
use ima::verify::{Requirement, Verdict};
use serde::Serialize;

use crate::args::{KeyringArgs, PlaceArgs, TreeArgs};
use crate::cmd::tally::{Failures, Tally};
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::progress::Bar;
use crate::Outcome;

/// How files are verified
#[derive(Debug, Args)]
pub(crate) struct VerifyTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// What the policy asks for: with digest, a matching digest is valid too
    #[arg(long, value_name = "WHAT", default_value = "signature", help_heading = "Verdict")]
    require: Require,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Require {
    Signature,
    Digest,
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

impl VerifyTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.tree.resolve()?;
        let keyring = self.keyring.resolve(output)?;
        let requirement = match self.require {
            Require::Signature => Requirement::Signature,
            Require::Digest => Requirement::Digest,
        };
        let options = VerifyOptions { keyring: &keyring, requirement, place: self.place.resolve() };
        let bar = Bar::new("verifying", output.shows_progress());
        let (mut tally, mut failures) = (Tally::default(), Failures::default());
        tree::verify(&tree, &options, &bar, &mut |report| match report.outcome {
            Ok(verdict) => {
                tally.count(verdict.is_valid());
                bar.suspend(|| print(&report.path, report.size, &verdict, output))
            }
            Err(error) => bar.suspend(|| failures.report(&report.path, &error, output)),
        })?;
        let (bytes, seconds) = bar.finish();
        let Tally { matched: valid, other: invalid } = tally;
        let failed = failures.count();
        let kind = "summary";
        output.json(&JsonSummary { kind, valid, invalid, failed, bytes, seconds })?;
        let mut line = format!("{} valid", count(valid, "file"));
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
}

fn print(
    path: &std::path::Path,
    size: u64,
    verdict: &Verdict,
    output: &mut Output,
) -> std::io::Result<()> {
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
            path: path.into(),
            size,
            valid: verdict.is_valid(),
            verdict: word,
            detail: verdict.to_string(),
            key_id: key_id.map(|key_id| key_id.to_string()),
            hash: hash.map(|hash| hash.name()),
        });
    }
    let (level, style) = match verdict.is_valid() {
        true => (Level::Normal, Style::Good),
        false => (Level::Quiet, Style::Bad),
    };
    let word = output.paint(style, &format!("{word:<22}"));
    let detail = output.paint(Style::Dim, &format!("({verdict})"));
    output.line(level, &format!("{word} {} {detail}", path.display()))
}
