//! `imactl clear`

mod image;
mod report;
mod rpm;
mod tar;
pub(super) mod tree;

use anyhow::Result;
use clap::Args;
use ima_format::kind::Kind;

use crate::cmd::packages::DestinationArgs;
use crate::container::ResultArgs;
use crate::kind::{refuse_options, KindArgs};
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
    #[command(flatten)]
    packages: DestinationArgs,
}

impl ClearArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.run_on_kind(output)?;
        self.files.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn run_on_kind(&self, output: &mut Output) -> Result<Outcome> {
        let kind = self.kind.resolve(&self.files.tree)?;
        if kind != Kind::Rpm {
            refuse_options(kind, &self.packages.given())?;
        }
        match kind {
            Kind::Rpm => {
                self.result.refuse_for(Kind::Rpm)?;
                refuse_options(Kind::Rpm, &self.files.place.given())?;
                self.rpm(output)
            }
            Kind::Tree => {
                self.result.refuse_for(Kind::Tree)?;
                self.files.run(output)
            }
            Kind::Tar => self.tar(output),
            Kind::Image => self.image(output),
        }
    }
}
