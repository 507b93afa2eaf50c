//! `imactl policy check`

use std::path::{Path, PathBuf};

use clap::Args;
use ima_format::policy::diagnostic::{Diagnostic, Severity};
use ima_format::policy::{check, lint, Kernel};

use super::snippet;
use super::source::PolicyText;
use crate::error::Result;
use crate::kernel::{source, warn_of_hearsay, KernelArgs};
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// Check policies for errors, and for rules that are accepted but dangerous
///
/// The kernel loads a policy completely or not at all: it stops at the first line that it cannot
/// parse. Rules that it would reject are errors (exit status 1). If it accepts the policy, lints
/// look for dangerous rules (docs/policy-lints.md). A comment switches a lint off: "# imactl:
/// allow(NAME)" for the next rule, "# imactl: allow-file(NAME)" for the file.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The policies, each checked on its own
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Also exit with status 1 on warnings
    #[arg(long)]
    deny_warnings: bool,
}

/// The number of findings of each severity.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) errors: u64,
    pub(super) warnings: u64,
    notes: u64,
}

impl CheckArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kernel = self.kernel.resolve()?;
        warn_of_hearsay(kernel.version, output);
        let mut outcome = Outcome::Good;
        for file in &self.files {
            let text = match PolicyText::of(file, &kernel) {
                Ok(text) => text,
                Err(error) => {
                    output.fail(file, &error.to_string())?;
                    outcome = outcome.max(Outcome::Failed);
                    continue;
                }
            };
            let found = check(&text.bytes, &kernel, text.loading);
            let counts = tell(&found, file, &text, output)?;
            summarize(&found, counts, file, &text, &kernel, output)?;
            if counts.errors > 0 || (self.deny_warnings && counts.warnings > 0) {
                outcome = outcome.max(Outcome::Finding);
            }
        }
        Ok(outcome)
    }
}

/// The text of a policy that a machine will depend on, if `kernel` accepts it. Findings are
/// printed.
pub(crate) fn accepted(
    path: &Path,
    kernel: &Kernel,
    output: &mut Output,
) -> Result<Option<Vec<u8>>> {
    let text = PolicyText::of(path, kernel)?;
    let found = check(&text.bytes, kernel, text.loading);
    let errors = tell(&found, path, &text, output)?.errors;
    Ok((errors == 0).then_some(text.bytes))
}

/// Prints the findings and counts them.
pub(super) fn tell(
    found: &[Diagnostic],
    path: &Path,
    text: &PolicyText,
    output: &mut Output,
) -> Result<Counts> {
    let mut counts = Counts::default();
    for found in found {
        *match found.severity {
            Severity::Error => &mut counts.errors,
            Severity::Warning => &mut counts.warnings,
            Severity::Note => &mut counts.notes,
        } += 1;
        let is_lint = lint::find(found.name).is_some() && found.severity != Severity::Error;
        output
            .object("finding")
            .field("severity", found.severity.name())
            .optional("lint", is_lint.then_some(found.name))
            .optional("error", (!is_lint).then_some(found.name))
            .field("line", found.location.map(|location| location.line))
            .field("column", found.location.map(|location| location.column))
            .field("message", &found.message)
            .field("reason", found.reason)
            .field("hint", found.hint.as_deref())
            .path(path)
            .end()?;
        let level = match found.severity {
            Severity::Note => Level::Normal,
            _ => Level::Quiet,
        };
        snippet::print(found, &text.name, &text.bytes, level, output)?;
    }
    Ok(counts)
}

fn summarize(
    found: &[Diagnostic],
    counts: Counts,
    path: &Path,
    text: &PolicyText,
    kernel: &Kernel,
    output: &mut Output,
) -> Result<()> {
    let Counts { errors, warnings, notes } = counts;
    output
        .object("summary")
        .path(path)
        .field("kernel", kernel.version.to_string())
        .field("kernel_source", source(kernel.version))
        .field("accepted", errors == 0)
        .field("errors", errors)
        .field("warnings", warnings)
        .field("notes", notes)
        .end()?;
    let version = kernel.version;
    let line = if errors > 0 {
        let refused = output.paint(Style::Bad, &format!("rejected by Linux {version}"));
        let line = found.iter().find_map(|found| found.location).map_or(1, |it| it.line);
        let whole = format!("it stops at line {line} and loads no rule of the file");
        format!("{}: {refused}, {}: {whole}", text.name, count(errors, "error"))
    } else {
        let accepted = output.paint(Style::Good, &format!("accepted by Linux {version}"));
        let counts = [(warnings, "warning"), (notes, "note")];
        let counts = counts.iter().filter(|(number, _)| *number > 0);
        let counts: Vec<_> = counts.map(|(number, noun)| count(*number, noun)).collect();
        let counts = if counts.is_empty() { "nothing to say".into() } else { counts.join(", ") };
        format!("{}: {accepted}, {counts}", text.name)
    };
    Ok(output.line(Level::Normal, &line)?)
}
