//! Tells what was signed.

use anyhow::Result;
use ima::container::tree::{SignMode, Signed};
use ima::HashAlgorithm;
use serde::Serialize;

use crate::cmd::tally::{Failures, Tally};
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::Outcome;

#[derive(Serialize)]
struct JsonFile<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    result: &'static str,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    signed: u64,
    unchanged: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

/// Tells of each file, counts, and sums up.
pub(super) struct Reporter {
    pub(super) failures: Failures,
    tally: Tally,
    hash: HashAlgorithm,
    mode: SignMode,
    dry_run: bool,
}

impl Reporter {
    pub(super) fn new(hash: HashAlgorithm, mode: SignMode, dry_run: bool) -> Self {
        Self { failures: Failures::default(), tally: Tally::default(), hash, mode, dry_run }
    }

    /// Tells of a file that was signed, or needed not be.
    pub(super) fn signed(
        &mut self,
        name: Name<'_>,
        size: u64,
        signed: &Signed,
        output: &mut Output,
    ) {
        let (result, key_id) = match signed {
            Signed::Signed { key_id } if self.dry_run => ("would-sign", *key_id),
            Signed::Signed { key_id } => ("signed", *key_id),
            Signed::Unchanged { key_id } => ("unchanged", *key_id),
        };
        self.tally.count(matches!(signed, Signed::Unchanged { .. }));
        // signing goes on when nobody listens any more
        drop(match output.is_json() {
            true => {
                let key_id = key_id.map(|key_id| key_id.to_string());
                let (kind, path, hash) = ("file", name.into(), self.hash.name());
                output.json(&JsonFile { kind, path, size, result, hash, key_id })
            }
            false => {
                let level = if self.dry_run { Level::Normal } else { Level::Verbose };
                output.line(level, format_args!("{result:<10} {name}"))
            }
        });
    }

    /// Sums up a run that read so many bytes in so many seconds.
    pub(super) fn conclude(
        self,
        (bytes, seconds): (u64, f64),
        output: &mut Output,
    ) -> Result<Outcome> {
        let Tally { matched: unchanged, other: signed } = self.tally;
        let failed = self.failures.count();
        let kind = "summary";
        output.json(&JsonSummary { kind, signed, unchanged, failed, bytes, seconds })?;
        let done = if self.dry_run { "would sign" } else { "signed" };
        let mut line = format!("{done} {}", count(signed, "file"));
        if self.mode == SignMode::Changed {
            line += &format!(", left {} unchanged", count(unchanged, "file"));
        }
        line += &format!(" ({}) in {seconds:.2} s", indicatif::DecimalBytes(bytes));
        if failed > 0 {
            let word = output.paint(Style::Bad, &format!("{} not signed", count(failed, "file")));
            line += &format!("; {word}");
        }
        if signed + unchanged + failed == 0 {
            line = "no files".to_owned();
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
}
