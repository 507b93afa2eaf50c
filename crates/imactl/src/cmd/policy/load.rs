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
use crate::output::{Level, Output};
use crate::Outcome;

/// Have the running kernel load a policy
///
/// The kernel reads the file itself and, where the policy in force says so, takes it only
/// with a signature. It refuses the whole file at the first rule that it does not like. The
/// policy is checked first, and what is found is told; the kernel has the last word.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Hand it over unchecked
    #[arg(long)]
    no_check: bool,
}

impl LoadArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        if !self.no_check {
            let kernel = running();
            let text = PolicyText::of(&self.file, &kernel)?;
            let found = check(&text.bytes, &kernel, text.loading);
            let counts = tell(&found, &self.file, &text, output)?;
            if counts.errors > 0 {
                let version = kernel.version;
                output.warn(&format!("Linux {version} can be expected to refuse this policy"));
            } else if counts.warnings > 0 {
                output.warn("loaded policies stay until the next boot");
            }
        }
        load_policy(&Machine::here(), &self.file)?;
        output.line(Level::Normal, format_args!("{}: loaded", self.file.display()))?;
        Ok(Outcome::Good)
    }
}

/// The running kernel, or the default one where its version cannot be made out.
pub(crate) fn running() -> Kernel {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().parse::<KernelVersion>().map_or_else(|_| Kernel::default(), Kernel::new)
}
