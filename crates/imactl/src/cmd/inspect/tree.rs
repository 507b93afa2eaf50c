//! `imactl inspect` for files and trees of them

use anyhow::Result;
use clap::Args;
use ima::container::tree;

use super::report::Reporter;
use crate::args::{PlaceArgs, TreeArgs};
use crate::output::Output;
use crate::progress::Bar;
use crate::Outcome;

/// How files are inspected
#[derive(Debug, Args)]
pub(crate) struct InspectTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    /// Show the attribute's bytes too
    #[arg(long)]
    pub(super) raw: bool,
    #[command(flatten, next_help_heading = "Place")]
    pub(super) place: PlaceArgs,
}

impl InspectTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.tree.resolve()?;
        let bar = Bar::new("inspecting", output);
        let mut reporter = Reporter::new(self.raw);
        tree::inspect(&tree, self.place.resolve(), &bar, &mut |report| {
            let path = report.path.as_path();
            bar.suspend(|| match report.outcome {
                Ok(inspection) => {
                    reporter.inspection(path.into(), report.size, &inspection, output)
                }
                Err(error) => reporter.failures.report(path, &error, output),
            })
        })?;
        bar.finish();
        Ok(reporter.conclude())
    }
}
