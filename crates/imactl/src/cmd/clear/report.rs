//! Tells what was cleared.

use anyhow::Result;
use ima::container::tree::Cleared;
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
    result: &'static str,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    cleared: u64,
    bare: u64,
    failed: u64,
}

/// Tells of each file, counts, and sums up.
pub(super) struct Reporter {
    pub(super) failures: Failures,
    tally: Tally,
    dry_run: bool,
}

impl Reporter {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { failures: Failures::default(), tally: Tally::default(), dry_run }
    }

    /// Tells of a file.
    pub(super) fn cleared(&mut self, name: Name<'_>, cleared: Cleared, output: &mut Output) {
        self.tally.count(cleared == Cleared::Cleared);
        let result = match (cleared, self.dry_run) {
            (Cleared::Cleared, false) => "cleared",
            (Cleared::Cleared, true) => "would-clear",
            (Cleared::Bare, _) => "bare",
        };
        // clearing goes on when nobody listens any more
        drop(match output.is_json() {
            true => output.json(&JsonFile { kind: "file", path: name.into(), result }),
            false => {
                let level = if self.dry_run { Level::Normal } else { Level::Verbose };
                output.line(level, format_args!("{result:<11} {name}"))
            }
        });
    }

    /// Sums up.
    pub(super) fn conclude(self, output: &mut Output) -> Result<Outcome> {
        let Tally { matched: cleared, other: bare } = self.tally;
        let failed = self.failures.count();
        output.json(&JsonSummary { kind: "summary", cleared, bare, failed })?;
        let done = if self.dry_run { "would clear" } else { "cleared" };
        let mut line = format!("{done} {}, {bare} had no attribute", count(cleared, "file"));
        if failed > 0 {
            let word = output.paint(Style::Bad, &format!("{} not cleared", count(failed, "file")));
            line += &format!("; {word}");
        }
        if cleared + bare + failed == 0 {
            line = "no files".to_owned();
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
}
