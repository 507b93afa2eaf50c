//! `imactl clear`

mod report;
mod tar;
pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::container::ResultArgs;
use crate::kind::{not_dealt_with, KindArgs};
use crate::output::Output;
use crate::Outcome;

/// Remove the signatures of files
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    files: tree::ClearTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    result: ResultArgs,
}

impl ClearArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self.kind.resolve(&self.files.tree)? {
            Kind::Tree => {
                self.result.refuse_for(Kind::Tree)?;
                self.files.run(output)
            }
            Kind::Tar => self.tar(output),
            kind @ (Kind::Rpm | Kind::Image) => Err(not_dealt_with(kind)),
        }
    }
}
