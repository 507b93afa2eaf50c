//! `imactl sign` for tar archives

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use ima::container::tar::{self, SignOptions, Spool};
use ima::sign::Labeler;

use super::SignArgs;
use crate::container::{check_place, open_archive, tell_foreign, Destination};
use crate::output::{Level, Name, Output};
use crate::progress::Bar;
use crate::Outcome;

impl SignArgs {
    /// Signs the files in tar archives.
    pub(super) fn tar(&self, output: &mut Output) -> Result<Outcome> {
        check_place(self.files.place.resolve())?;
        if self.result.is_stdout() {
            output.give_way();
        }
        self.files.with_labeler(output, |labeler, output| {
            let archives = self.files.tree.resolve()?.roots;
            let mut outcome = Outcome::Good;
            for path in &archives {
                outcome = outcome.max(self.sign_tar(path, archives.len(), labeler, output)?);
            }
            Ok(outcome)
        })
    }

    fn sign_tar(
        &self,
        path: &Path,
        count: usize,
        labeler: Labeler<'_>,
        output: &mut Output,
    ) -> Result<Outcome> {
        let tree = self.files.tree.resolve()?;
        let destination = match self.files.dry_run {
            true => Destination::Nowhere,
            false => self.result.destination(path, count)?,
        };
        destination.tell_left_over(output);
        let jobs = tree.jobs;
        let archive = open_archive(path, tree, &self.kind)?;
        let compression = self.result.compression(archive.compression());
        let bar = Bar::new("signing", output);
        let directory = spool_directory();
        let told = AtomicBool::new(false);
        let (notes, verbose) = (output.shows(Level::Normal), output.shows(Level::Verbose));
        let announce = |member: &Path, size| {
            if notes && (verbose || !told.swap(true, Ordering::Relaxed)) {
                let (size, member) = (indicatif::DecimalBytes(size), member.display());
                bar.note(&format!("{member} ({size}) passes through {}", directory.display()));
            }
        };
        let options = SignOptions {
            labeler,
            algorithm: self.files.hash(),
            mode: self.files.mode(),
            spool: Spool { directory: &directory, announce: &announce },
        };
        let mut reporter = self.files.reporter();
        let extent = destination.write(compression, jobs, |result| {
            let extent = tar::sign(archive, &options, result, &bar, &mut |report| {
                let name = Name { container: Some(path), path: &report.path };
                match report.outcome {
                    Ok(signed) => reporter.signed(name, report.size, &signed, output),
                    Err(error) => return reporter.failures.tell(name, &error, None, output),
                }
                Ok(())
            });
            extent.with_context(|| path.display().to_string())
        })?;
        tell_foreign(path, extent, output);
        reporter.conclude(bar.finish(), output)
    }
}

/// Where large members wait: as for other temporary files, but by default not in memory,
/// where `/tmp` often is.
fn spool_directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
