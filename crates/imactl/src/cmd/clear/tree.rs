//! `imactl clear` for files and trees of them

use anyhow::Result;
use clap::Args;
use ima::container::tree;

use super::report::Reporter;
use crate::args::{PlaceArgs, TreeArgs};
use crate::output::Output;
use crate::progress::Bar;
use crate::Outcome;

/// How files are cleared
#[derive(Debug, Args)]
pub(crate) struct ClearTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    /// Do everything but remove
    #[arg(long, short = 'n', help_heading = None)]
    pub(super) dry_run: bool,
    #[command(flatten, next_help_heading = "Place")]
    pub(super) place: PlaceArgs,
}

impl ClearTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.tree.resolve()?;
        let place = self.place.resolve();
        let bar = Bar::new("clearing", output);
        let mut reporter = Reporter::new(self.dry_run);
        tree::clear(&tree, place, self.dry_run, &bar, &mut |report| {
            let path = report.path.as_path();
            match report.outcome {
                Ok(cleared) => reporter.cleared(path.into(), cleared, output),
                Err(error) => {
                    return bar.suspend(|| reporter.failures.report(path, &error, output))
                }
            }
            Ok(())
        })?;
        bar.finish();
        reporter.conclude(output)
    }
}
