//! `imactl inspect`

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

/// Show what files carry: the attribute decoded
///
/// Tells whether a digest fits its file; signatures are shown, not verified. Exit status 1
/// if an attribute is malformed or a digest does not fit.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    files: tree::InspectTreeArgs,
    #[command(flatten)]
    kind: KindArgs,
}

impl InspectArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.run_on_kind(output)?;
        self.files.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn run_on_kind(&self, output: &mut Output) -> Result<Outcome> {
        match self.kind.resolve(&self.files.tree)? {
            Kind::Tree => self.files.run(output),
            Kind::Rpm => {
                refuse_options(Kind::Rpm, &self.files.place.given())?;
                self.rpm(output)
            }
            Kind::Tar => self.tar(output),
            Kind::Image => self.image(output),
        }
    }
}
