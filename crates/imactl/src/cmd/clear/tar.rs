//! `imactl clear` for tar archives

use std::path::Path;

use anyhow::{Context, Result};
use ima::container::tar;

use super::report::Reporter;
use super::ClearArgs;
use crate::container::{check_place, open_archive, tell_foreign, Destination};
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl ClearArgs {
    /// Takes the labels out of tar archives.
    pub(super) fn tar(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        if self.result.is_stdout() {
            output.give_way();
        }
        let archives = self.files.tree.resolve()?.roots;
        let mut outcome = Outcome::Good;
        for path in &archives {
            outcome = outcome.max(self.clear_tar(path, archives.len(), output)?);
        }
        Ok(outcome)
    }

    fn clear_tar(&self, path: &Path, count: usize, output: &mut Output) -> Result<Outcome> {
        let tree = self.files.tree.resolve()?;
        let destination = match self.files.dry_run {
            true => Destination::Nowhere,
            false => self.result.destination(path, count)?,
        };
        destination.tell_left_over(output);
        let jobs = tree.jobs;
        let archive = open_archive(path, tree, &self.kind)?;
        let compression = self.result.compression(archive.compression());
        let bar = Bar::new("clearing", output);
        let mut reporter = Reporter::new(self.files.dry_run);
        let extent = destination.write(compression, jobs, |result| {
            let extent = tar::clear(archive, result, &bar, &mut |report| {
                let name = Name { container: Some(path), path: &report.path };
                match report.outcome {
                    Ok(cleared) => reporter.cleared(name, cleared, output),
                    Err(error) => return reporter.failures.tell(name, &error, None, output),
                }
                Ok(())
            });
            extent.with_context(|| path.display().to_string())
        })?;
        tell_foreign(path, extent, output);
        bar.finish();
        reporter.conclude(output)
    }
}
