//! `imactl clear`

use std::io;
use std::path::Path;

use clap::Args;
use ima::container::rpm::PackageSummary;
use ima::container::Report;
use ima::operation::{Clear, Cleared, EvmEffect, Strip};

use crate::error::Result;
use crate::inputs::InputArgs;
use crate::output::{count, Name, Output};
use crate::outputs::ResultArgs;
use crate::report::{self, Changed, Printer, Results};
use crate::Outcome;

/// Remove the signatures of files
///
/// Removes security.ima from files, archives and images, and the file signatures from packages. With --evm it also
/// removes security.evm.
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Also remove security.evm
    #[arg(long, help_heading = "EVM")]
    evm: bool,
    /// Remove only security.evm, and leave security.ima
    #[arg(long, requires = "evm", help_heading = "EVM")]
    evm_only: bool,
    /// Remove the signature appended to the content, as in modules and kernels
    #[arg(long, conflicts_with_all = ["evm", "xattr_namespace", "detached"])]
    #[arg(help_heading = "Signature")]
    appended: bool,
    /// Show what would be done, without removing
    #[arg(long, short = 'n', help_heading = None)]
    dry_run: bool,
    #[command(flatten)]
    result: ResultArgs,
}

impl ClearArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let inputs = self.inputs.resolve()?;
        let results = match self.dry_run {
            true => Results::DryRun(Some(&self.result)),
            false => Results::At(Some(&self.result)),
        };
        let operation = match (self.evm, self.evm_only) {
            (_, true) => Clear::Evm,
            (true, false) => Clear::Both,
            (false, false) => Clear::Ima,
        };
        let mut printer = Clearer { args: self, outdated: 0 };
        let totals = match self.appended {
            true => report::run(&Strip, inputs, results, "clearing", output, &mut printer)?,
            false => report::run(&operation, inputs, results, "clearing", output, &mut printer)?,
        };
        if printer.outdated > 0 {
            let files = count(printer.outdated, "file");
            output.warn(&format!(
                "{files}: security.evm without the security.ima that it covers is not valid; \
                 --evm removes both"
            ));
        }
        totals.summarize(("cleared", "unsigned"), None, output)?;
        let (cleared, bare) = (totals.tally.matched, totals.tally.other);
        let done = if self.dry_run { "would clear" } else { "cleared" };
        let had = match totals.noun {
            "package" => "had no file signatures",
            _ if self.appended => "had no appended signature",
            _ => "had no attribute",
        };
        let done = format!("{done} {}, {bare} {had}", count(cleared, totals.noun));
        totals.conclude(done, "", "not cleared", output)
    }

    fn print(
        &self,
        kind: &'static str,
        name: Name<'_>,
        cleared: bool,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let dry_run = self.dry_run;
        let result = match (cleared, dry_run) {
            (true, false) => "cleared",
            (true, true) => "would-clear",
            (false, _) => "unsigned",
        };
        let (size, files, hash, key_id, evm, evm_key_id) = Default::default();
        let changed =
            Changed { kind, name, size, result, files, hash, key_id, evm, evm_key_id, dry_run };
        (cleared, output.show(&changed))
    }
}

/// Prints what was removed.
struct Clearer<'a> {
    args: &'a ClearArgs,
    /// Files whose `security.evm` is no longer valid.
    outdated: u64,
}

impl Printer<Cleared> for Clearer<'_> {
    fn file(
        &mut self,
        name: Name<'_>,
        _: u64,
        cleared: &Cleared,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        self.outdated += u64::from(*cleared == Cleared::Cleared(EvmEffect::Outdated));
        self.args.print("file", name, *cleared != Cleared::Bare, output)
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        _: &[Report<Cleared>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        self.args.print("package", path.into(), package.changed, output)
    }
}
