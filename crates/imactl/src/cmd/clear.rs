//! `imactl clear`

use std::io;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use ima::container::rpm::PackageSummary;
use ima::container::Report;
use ima::operation::{Clear, Cleared};
use ima_format::kind::Kind;
use serde::Serialize;

use crate::args::PlaceArgs;
use crate::cmd::packages::DestinationArgs;
use crate::inputs::InputArgs;
use crate::output::{count, JsonPath, Level, Name, Output, Style};
use crate::outputs::ResultArgs;
use crate::report::{self, Printer, Results, Totals};
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
        let outcome = self.containers(self.inputs.kind()?, output)?;
        self.inputs.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn containers(&self, kind: Kind, output: &mut Output) -> Result<Outcome> {
        let mut inputs = self.inputs.resolve(kind, self.place.resolve())?;
        if let Some(packages) = inputs.packages() {
            packages.output = self.packages.resolve(packages, self.dry_run)?;
        }
        let results = match self.dry_run {
            true => Results::DryRun,
            false => Results::At(&self.result),
        };
        let mut printer = self;
        let totals = report::run(&Clear, inputs, results, "clearing", output, &mut printer)?;
        match kind {
            Kind::Rpm => self.conclude_packages(&totals, output),
            _ => self.conclude(&totals, output),
        }
    }

    fn print(
        &self,
        kind: &'static str,
        name: Name<'_>,
        cleared: Cleared,
        output: &mut Output,
    ) -> io::Result<()> {
        let result = match (cleared, self.dry_run) {
            (Cleared::Cleared, false) => "cleared",
            (Cleared::Cleared, true) => "would-clear",
            (Cleared::Bare, _) => "bare",
        };
        if output.is_json() {
            return output.json(&JsonFile { kind, path: name.into(), result });
        }
        let level = if self.dry_run { Level::Normal } else { Level::Verbose };
        output.line(level, format_args!("{result:<11} {name}"))
    }

    fn conclude_packages(&self, totals: &Totals, output: &mut Output) -> Result<Outcome> {
        let (cleared, bare) = (totals.tally.matched, totals.tally.other);
        let (failed, passed_over) = (totals.failures.count(), totals.passed_over);
        let kind = "summary";
        output.json(&JsonPackages { kind, cleared, bare, passed_over, failed })?;
        let done = if self.dry_run { "would clear" } else { "cleared" };
        let mut line = match totals.is_empty() {
            true => "no packages".to_owned(),
            false => {
                format!("{done} {}, {bare} had no file signatures", count(cleared, "package"))
            }
        };
        if passed_over > 0 {
            line += &format!(", passed over {}", count(passed_over, "other file"));
        }
        if let Some(failures) = totals.failures.describe() {
            line += &format!("; {}", output.paint(Style::Bad, &format!("{failures} not cleared")));
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
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

impl Printer<Cleared> for &ClearArgs {
    fn file(
        &mut self,
        name: Name<'_>,
        _: u64,
        cleared: &Cleared,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        (*cleared == Cleared::Cleared, self.print("file", name, *cleared, output))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        _: &[Report<Cleared>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let cleared = if package.changed { Cleared::Cleared } else { Cleared::Bare };
        (package.changed, self.print("package", path.into(), cleared, output))
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

#[derive(Serialize)]
struct JsonPackages {
    #[serde(rename = "type")]
    kind: &'static str,
    cleared: u64,
    bare: u64,
    passed_over: u64,
    failed: u64,
}
