//! `imactl policy fmt`

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::staging::{Location, Staged};
use ima_format::policy::diagnostic::Diagnostic;
use ima_format::policy::kernel::Feature;
use ima_format::policy::{read, Fault, Kernel};

use super::snippet;
use super::source::PolicyText;
use crate::error::{hinted, Context, Error, Result};
use crate::output::{Level, Output};
use crate::Outcome;

/// Print policies in the kernel's own spelling
///
/// Rules are printed as the kernel shows them: one space between words, keys in the kernel's
/// order, old names of hooks replaced, numbers in one form. Comments and empty lines stay. A
/// missing newline at the end is added; anything else that a kernel rejects stays an error.
#[derive(Debug, Args)]
pub(super) struct FmtArgs {
    /// The policies
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Do not write; print the names of files that would change, and exit with status 1
    #[arg(long)]
    check: bool,
    /// Replace the files, each atomically; their signatures are lost
    #[arg(long, short, conflicts_with = "check")]
    in_place: bool,
}

impl FmtArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        if self.files.len() > 1 && !self.check && !self.in_place {
            return Err(hinted("more than one file", "give --check or --in-place"));
        }
        let mut outcome = Outcome::Good;
        for file in &self.files {
            outcome = outcome.max(self.format(file, output)?);
        }
        Ok(outcome)
    }

    fn format(&self, file: &Path, output: &mut Output) -> Result<Outcome> {
        let kernel = newest();
        let text = PolicyText::of(file, &kernel)?;
        let reading = read(&text.bytes, &kernel, text.loading);
        let refusals = reading.refusals.iter().filter(|it| it.fault != Fault::NoFinalNewline);
        let refusals: Vec<_> =
            refusals.map(|refusal| Diagnostic::of_refusal(refusal, &text.bytes)).collect();
        if !refusals.is_empty() {
            for refusal in &refusals {
                snippet::print(refusal, &text.name, &text.bytes, Level::Quiet, output)?;
            }
            return Ok(Outcome::Finding);
        }
        let formatted = reading.policy.to_bytes();
        let changed = formatted != text.bytes;
        if self.check {
            if changed {
                output.line(Level::Quiet, &text.name)?;
            }
            return Ok(if changed { Outcome::Finding } else { Outcome::Good });
        }
        if self.in_place {
            if changed {
                replace(file, &formatted).with_context(|| text.name.clone())?;
                output.line(Level::Normal, format_args!("{}: formatted", text.name))?;
            }
        } else {
            output.text(&formatted)?;
        }
        Ok(Outcome::Good)
    }
}

/// A kernel of the newest version that added a known feature.
fn newest() -> Kernel {
    let versions = Feature::ALL.iter().map(|feature| feature.since());
    versions.max().map_or_else(Kernel::default, Kernel::new)
}

/// Replaces the content of a file; owner, mode and attributes stay. If the path is a symbolic link,
/// the file that it points to is replaced, not the link.
fn replace(file: &Path, content: &[u8]) -> Result<()> {
    if !fs::metadata(file)?.is_file() {
        return Err(Error::new("not a regular file"));
    }
    let staged = Staged::replacing(Location::at_end_of(file)?, 0o644)?;
    staged.as_file().write_all(content)?;
    staged.complete()?;
    staged.persist()?;
    Ok(())
}
