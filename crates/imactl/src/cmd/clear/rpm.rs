//! `imactl clear` for RPM packages

use anyhow::Result;
use ima::container::rpm::{self, ClearOptions, Cleared};
use serde::Serialize;

use super::ClearArgs;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::progress::Bar;
use crate::report::{Failures, Tally};
use crate::Outcome;

#[derive(Serialize)]
struct JsonPackage {
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
    passed_over: u64,
    failed: u64,
}

impl ClearArgs {
    /// Takes the file signatures out of packages.
    pub(super) fn rpm(&self, output: &mut Output) -> Result<Outcome> {
        run(self, output)
    }
}

fn run(args: &ClearArgs, output: &mut Output) -> Result<Outcome> {
    let packages = args.inputs.packages()?;
    let dry_run = args.dry_run;
    let options = ClearOptions { destination: args.packages.resolve(&packages, dry_run)?, dry_run };
    let bar = Bar::of("packages", "clearing", output);
    let (mut tally, mut failures) = (Tally::default(), Failures::default());
    let mut passed_over = 0;
    rpm::clear(&packages, &options, &bar, &mut |report| {
        let cleared = match report.outcome {
            Ok(Some(cleared)) => cleared,
            Ok(None) => {
                passed_over += 1;
                return Ok(());
            }
            Err(error) => {
                return bar.suspend(|| {
                    failures.container(report.path.as_path().into(), "package", &error, output)
                })
            }
        };
        tally.count(cleared == Cleared::Cleared);
        let result = match (cleared, dry_run) {
            (Cleared::Cleared, false) => "cleared",
            (Cleared::Cleared, true) => "would-clear",
            (Cleared::Bare, _) => "bare",
        };
        // clearing goes on when nobody listens any more
        drop(match output.is_json() {
            true => {
                let path = report.path.as_path().into();
                output.json(&JsonPackage { kind: "package", path, result })
            }
            false => {
                let level = if dry_run { Level::Normal } else { Level::Verbose };
                output.line(level, format_args!("{result:<11} {}", report.path.display()))
            }
        });
        Ok(())
    })?;
    bar.finish();
    let Tally { matched: cleared, other: bare } = tally;
    let failed = failures.count();
    output.json(&JsonSummary { kind: "summary", cleared, bare, passed_over, failed })?;
    let done = if dry_run { "would clear" } else { "cleared" };
    let mut line = match cleared + bare + failed {
        0 => "no packages".to_owned(),
        _ => format!("{done} {}, {bare} had no file signatures", count(cleared, "package")),
    };
    if passed_over > 0 {
        line += &format!(", passed over {}", count(passed_over, "other file"));
    }
    if failed > 0 {
        let word = format!("{} not cleared", count(failed, "package"));
        line += &format!("; {}", output.paint(Style::Bad, &word));
    }
    output.line(Level::Normal, &line)?;
    Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
}
