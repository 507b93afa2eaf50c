//! `imactl verify`

mod report;
mod tar;
pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::kind::{not_dealt_with, KindArgs};
use crate::output::Output;
use crate::Outcome;

/// Verify files: a verdict for each, in the kernel's words
///
/// Prints `valid`, or the cause that the kernel's audit record would give. Exit status 1 if
/// a file is not valid, 2 if one could not be looked at.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    files: tree::VerifyTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self.kind.resolve(&self.files.tree)? {
            Kind::Tree => self.files.run(output),
            Kind::Tar => self.tar(output),
            kind @ (Kind::Rpm | Kind::Image) => Err(not_dealt_with(kind)),
        }
    }
}
