//! `imactl inspect` for tar archives

use anyhow::{Context, Result};
use ima::container::tar;

use super::report::Reporter;
use super::InspectArgs;
use crate::container::{check_place, open_archive, tell_foreign};
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl InspectArgs {
    /// Shows what the files in tar archives carry.
    pub(super) fn tar(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        let bar = Bar::new("inspecting", output);
        let mut reporter = Reporter::new(self.files.raw);
        for path in &self.files.tree.resolve()?.roots {
            let tree = self.files.tree.resolve()?;
            let archive = open_archive(path, tree, &self.kind)?;
            let extent = tar::inspect(archive, &bar, &mut |report| {
                let name = Name { container: Some(path), path: &report.path };
                bar.suspend(|| match report.outcome {
                    Ok(inspection) => reporter.inspection(name, report.size, &inspection, output),
                    Err(error) => reporter.failures.tell(name, &error, None, output),
                })
            });
            let extent = extent.with_context(|| path.display().to_string())?;
            tell_foreign(path, extent, output);
        }
        bar.finish();
        Ok(reporter.conclude())
    }
}
