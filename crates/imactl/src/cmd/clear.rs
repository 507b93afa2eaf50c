//! `imactl clear`

mod rpm;

use anyhow::Result;
use clap::Args;
use ima::operation::{Clear, Cleared};
use ima_format::kind::Kind;
use serde::Serialize;

use crate::args::PlaceArgs;
use crate::cmd::packages::DestinationArgs;
use crate::inputs::InputArgs;
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::outputs::ResultArgs;
use crate::report::{self, Results, Totals};
use crate::Outcome;

/// Remove the signatures of files
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Do everything but remove
    #[arg(long, short = 'n', help_heading = None)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    packages: DestinationArgs,
}

impl ClearArgs {
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
        let results = match self.dry_run {
            true => Results::DryRun,
            false => Results::At(&self.result),
        };
        let mut print = |name: Name<'_>, _, cleared: &Cleared, output: &mut Output| {
            (*cleared == Cleared::Cleared, self.print(name, *cleared, output))
        };
        let totals = report::run(&Clear, inputs, results, "clearing", output, &mut print)?;
        self.conclude(&totals, output)
    }

    fn print(&self, name: Name<'_>, cleared: Cleared, output: &mut Output) -> std::io::Result<()> {
        let result = match (cleared, self.dry_run) {
            (Cleared::Cleared, false) => "cleared",
            (Cleared::Cleared, true) => "would-clear",
            (Cleared::Bare, _) => "bare",
        };
        if output.is_json() {
            return output.json(&JsonFile { kind: "file", path: name.into(), result });
        }
        let level = if self.dry_run { Level::Normal } else { Level::Verbose };
        output.line(level, format_args!("{result:<11} {name}"))
    }

    fn conclude(&self, totals: &Totals, output: &mut Output) -> Result<Outcome> {
        let (cleared, bare) = (totals.tally.matched, totals.tally.other);
        let failed = totals.failures.count();
        output.json(&JsonSummary { kind: "summary", cleared, bare, failed })?;
        let done = if self.dry_run { "would clear" } else { "cleared" };
        let mut line = format!("{done} {}, {bare} had no attribute", count(cleared, "file"));
        if let Some(failures) = totals.failures.describe() {
            line += &format!("; {}", output.paint(Style::Bad, &format!("{failures} not cleared")));
        }
        if totals.is_empty() {
            line = "no files".to_owned();
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
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
