//! `imactl policy load`

use std::fs;
use std::path::PathBuf;

use clap::Args;
use ima::system::{load_policy, Machine};
use ima_format::policy::kernel::KernelVersion;
use ima_format::policy::{check, Kernel};

use super::check::tell;
use super::source::PolicyText;
use crate::error::Result;
use crate::kernel::warn_of_hearsay;
use crate::output::{Level, Output};
use crate::Outcome;

/// Have the running kernel load a policy
///
/// The kernel reads the file itself, and accepts it only with a signature if the policy in force
/// demands one. It rejects the whole file at the first invalid rule. imactl checks the policy first
/// and prints the findings, but the kernel decides.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Load without checking
    #[arg(long)]
    no_check: bool,
}

impl LoadArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        if !self.no_check {
            let kernel = running();
            warn_of_hearsay(kernel.version, output);
            let text = PolicyText::of(&self.file, &kernel)?;
            let found = check(&text.bytes, &kernel, text.loading);
            let counts = tell(&found, &self.file, &text, output)?;
            if counts.errors > 0 {
                let version = kernel.version;
                output.warn(&format!("Linux {version} will probably reject this policy"));
            } else if counts.warnings > 0 {
                output.warn("loaded policies stay until the next boot");
            }
        }
        load_policy(&Machine::here(), &self.file)?;
        output.line(Level::Normal, format_args!("{}: loaded", self.file.display()))?;
        Ok(Outcome::Good)
    }
}

/// The running kernel, or the default one if its version is unknown.
pub(crate) fn running() -> Kernel {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().parse::<KernelVersion>().map_or_else(|_| Kernel::default(), Kernel::new)
}
