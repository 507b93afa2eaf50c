//! Tells the verdicts.

use std::fmt::Display;
use std::io;

use anyhow::Result;
use ima::verify::Verdict;
use serde::Serialize;

use crate::cmd::tally::{Failures, Tally};
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::Outcome;

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

/// Tells of each file, counts, and sums up.
pub(super) struct Reporter {
    pub(super) failures: Failures,
    tally: Tally,
    nothing: Outcome,
}

impl Reporter {
    /// One that judges a run in which nothing is verified as `nothing`.
    pub(super) fn new(nothing: Outcome) -> Self {
        Self { failures: Failures::default(), tally: Tally::default(), nothing }
    }

    /// Tells of a file.
    pub(super) fn verdict(
        &mut self,
        name: Name<'_>,
        size: u64,
        verdict: &Verdict,
        output: &mut Output,
    ) -> io::Result<()> {
        self.tally.count(verdict.is_valid());
        print(name, size, verdict, output)
    }

    /// Sums up a run that read so many bytes in so many seconds.
    pub(super) fn conclude(
        self,
        (bytes, seconds): (u64, f64),
        output: &mut Output,
    ) -> Result<Outcome> {
        let Tally { matched: valid, other: invalid } = self.tally;
        let failed = self.failures.count();
        let kind = "summary";
        output.json(&JsonSummary { kind, valid, invalid, failed, bytes, seconds })?;
        let mut line = format!("{} valid", count(valid, "file"));
        if invalid > 0 {
            line += &format!(", {}", output.paint(Style::Bad, &format!("{invalid} not valid")));
        }
        if failed > 0 {
            line += &format!(", {}", output.paint(Style::Bad, &format!("{failed} not verified")));
        }
        if valid + invalid + failed == 0 {
            return nothing_verified(self.nothing, output);
        }
        output.line(Level::Normal, &line)?;
        Ok(match (failed, invalid) {
            (1.., _) => Outcome::Failed,
            (_, 1..) => Outcome::Finding,
            _ => Outcome::Good,
        })
    }
}

/// Tells that there was nothing to verify: a mistyped path or glob must not look like success.
pub(super) fn nothing_verified(outcome: Outcome, output: &mut Output) -> Result<Outcome> {
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
pub(super) fn line(
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
