//! `imactl clear` for files and trees of them

use anyhow::Result;
use clap::Args;
use ima::target::tree::{self, Cleared};
use serde::Serialize;

use crate::args::{PlaceArgs, TreeArgs};
use crate::cmd::tally::{Failures, Tally};
use crate::output::{count, JsonPath, Level, Output};
use crate::progress::Bar;
use crate::Outcome;

/// How files are cleared
#[derive(Debug, Args)]
pub(crate) struct ClearTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    /// Do everything but remove
    #[arg(long, short = 'n', help_heading = None)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
}

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

impl ClearTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.tree.resolve()?;
        let place = self.place.resolve();
        let bar = Bar::new("clearing", output.shows_progress());
        let (mut tally, mut failures) = (Tally::default(), Failures::default());
        tree::clear(&tree, place, self.dry_run, &bar, &mut |report| {
            let cleared = match report.outcome {
                Ok(cleared) => cleared,
                Err(error) => {
                    return bar.suspend(|| failures.report(&report.path, &error, output));
                }
            };
            tally.count(cleared == Cleared::Cleared);
            let result = match (cleared, self.dry_run) {
                (Cleared::Cleared, false) => "cleared",
                (Cleared::Cleared, true) => "would-clear",
                (Cleared::Bare, _) => "bare",
            };
            // clearing goes on when nobody listens any more
            drop(match output.is_json() {
                true => output.json(&JsonFile {
                    kind: "file",
                    path: report.path.as_path().into(),
                    result,
                }),
                false => {
                    let level = if self.dry_run { Level::Normal } else { Level::Verbose };
                    output.line(level, &format!("{result:<11} {}", report.path.display()))
                }
            });
            Ok(())
        })?;
        bar.finish();
        let Tally { matched: cleared, other: bare } = tally;
        let failed = failures.count();
        output.json(&JsonSummary { kind: "summary", cleared, bare, failed })?;
        let done = if self.dry_run { "would clear" } else { "cleared" };
        let line = format!("{done} {}, {bare} had no attribute", count(cleared, "file"));
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
}
