//! `imactl verify`

mod image;
mod report;
mod rpm;
mod tar;
pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::kind::{refuse_options, KindArgs};
use crate::output::Output;
use crate::Outcome;

/// Verify files: a verdict for each, in the kernel's words
///
/// Prints `valid`, or the cause that the kernel's audit record would give. Exit status 1 if
/// a file is not valid, 2 if one that was named or found could not be looked at (with --detached
/// also a signature that was named). If there was nothing to verify, the exit status is 1, unless
/// --allow-empty is given.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    files: tree::VerifyTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
    /// Of RPM packages, unpack the payload, too, and compare each file with its digest
    #[arg(long, help_heading = "Packages")]
    payload: bool,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.run_on_kind(output)?;
        self.files.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn run_on_kind(&self, output: &mut Output) -> Result<Outcome> {
        let kind = self.kind.resolve(&self.files.tree)?;
        if kind != Kind::Rpm {
            refuse_options(kind, &[(self.payload, "--payload")])?;
        }
        match kind {
            Kind::Rpm => {
                refuse_options(Kind::Rpm, &self.files.not_for_packages())?;
                self.rpm(output)
            }
            Kind::Tree => self.files.run(output),
            Kind::Tar => self.tar(output),
            Kind::Image => self.image(output),
        }
    }
}
