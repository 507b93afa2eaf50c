//! `imactl verify` for files and trees of them

use anyhow::Result;
use clap::{Args, ValueEnum};
use ima::container::tree::{self, VerifyOptions};
use ima::verify::{Keyring, Requirement};

use super::report::Reporter;
use crate::args::{KeyringArgs, PlaceArgs, TreeArgs};
use crate::output::Output;
use crate::progress::Bar;
use crate::Outcome;

/// How files are verified
#[derive(Debug, Args)]
pub(crate) struct VerifyTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// What the policy asks for: with digest, a matching digest is valid too
    /// [default: signature]
    #[arg(long, value_name = "WHAT", help_heading = "Verdict")]
    require: Option<Require>,
    /// Exit with 0 if there was nothing to verify [default: 1]
    #[arg(long, help_heading = "Verdict")]
    pub(super) allow_empty: bool,
    #[command(flatten, next_help_heading = "Place")]
    pub(super) place: PlaceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Require {
    Signature,
    Digest,
}

impl VerifyTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.tree.resolve()?;
        let (keyring, requirement) = self.trust(output)?;
        let options = VerifyOptions { keyring: &keyring, requirement, place: self.place.resolve() };
        let bar = Bar::new("verifying", output);
        let mut reporter = self.reporter();
        tree::verify(&tree, &options, &bar, &mut |report| {
            let path = report.path.as_path();
            bar.suspend(|| match report.outcome {
                Ok(verdict) => reporter.verdict(path.into(), report.size, &verdict, output),
                Err(error) => reporter.failures.report(path, &error, output),
            })
        })?;
        reporter.conclude(bar.finish(), output)
    }

    /// Who tells the verdicts.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(self.nothing())
    }

    /// How a run is judged that verified nothing.
    pub(super) fn nothing(&self) -> Outcome {
        match self.allow_empty {
            true => Outcome::Good,
            false => Outcome::Finding,
        }
    }

    /// The options that mean nothing for packages, and whether they were given.
    pub(super) fn not_for_packages(&self) -> Vec<(bool, &'static str)> {
        self.place.given().into_iter().chain([(self.require.is_some(), "--require")]).collect()
    }

    /// The trusted keys, and what is asked of files.
    pub(super) fn trust(&self, output: &mut Output) -> Result<(Keyring, Requirement)> {
        let requirement = match self.require {
            None | Some(Require::Signature) => Requirement::Signature,
            Some(Require::Digest) => Requirement::Digest,
        };
        Ok((self.keyring.resolve(output)?, requirement))
    }
}
