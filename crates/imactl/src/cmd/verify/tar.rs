//! `imactl verify` for tar archives

use anyhow::{Context, Result};
use ima::container::tar::{self, VerifyOptions};

use super::VerifyArgs;
use crate::container::{check_place, open_archive, tell_foreign};
use crate::output::{Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl VerifyArgs {
    /// Verifies the files in tar archives.
    pub(super) fn tar(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        let (keyring, requirement) = self.files.trust(output)?;
        let options = VerifyOptions { keyring: &keyring, requirement };
        let bar = Bar::new("verifying", output);
        let mut reporter = self.files.reporter();
        for path in &self.files.tree.resolve()?.roots {
            let tree = self.files.tree.resolve()?;
            let archive = open_archive(path, tree, &self.kind)?;
            let extent = tar::verify(archive, &options, &bar, &mut |report| {
                let name = Name { container: Some(path), path: &report.path };
                bar.suspend(|| match report.outcome {
                    Ok(verdict) => reporter.verdict(name, report.size, &verdict, output),
                    Err(error) => reporter.failures.tell(name, &error, None, output),
                })
            });
            let extent = extent.with_context(|| path.display().to_string())?;
            tell_foreign(path, extent, output);
        }
        reporter.conclude(bar.finish(), output)
    }
}
