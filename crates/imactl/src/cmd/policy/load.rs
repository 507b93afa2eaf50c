//! `imactl policy load`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ima::system::{load_policy, Machine};

use crate::output::{Level, Output};
use crate::Outcome;

/// Have the running kernel load a policy
///
/// The kernel reads the file itself and, where the policy in force says so, takes it only
/// with a signature. It refuses the whole file at the first rule that it does not like.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl LoadArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        load_policy(&Machine::here(), &self.file)?;
        output.line(Level::Normal, &format!("{}: loaded", self.file.display()))?;
        Ok(Outcome::Good)
    }
}
