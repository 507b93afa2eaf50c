//! `imactl policy default` and `imactl policy builtin`: ready-made policies.

use clap::Args;
use ima_format::policy::builtin::{Builtin, Preset};

use super::source::builtin;
use crate::args::spelling;
use crate::error::Result;
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{Level, Output};
use crate::Outcome;

/// Print imactl's default policy, with comments
#[derive(Debug, Args)]
pub(super) struct DefaultArgs {
    /// Purpose: appraise restricts root, strict restricts all users, measure only records
    #[arg(long, value_name = "KIND", default_value = "appraise",
        value_parser = spelling(Preset::ALL, Preset::name))]
    kind: Preset,
}

impl DefaultArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        output.text(self.kind.text().as_bytes())?;
        Ok(Outcome::Good)
    }
}

/// Print a built-in policy of the kernel (ima_policy= on its command line)
///
/// Without a name, lists them. They are those of Linux 5.10, 6.1, 6.12, 7.2 and 7.3, whose sources were
/// read; for other versions the kernel's history fills in, and a warning says so.
#[derive(Debug, Args)]
pub(super) struct BuiltinArgs {
    /// ima_tcb, tcb, secure_boot, appraise_tcb, critical_data or arch
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl BuiltinArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match &self.name {
            Some(name) => {
                let kernel = self.kernel.resolve()?;
                warn_of_hearsay(kernel.version, output);
                output.text(builtin(name)?.text(&kernel).as_bytes())?;
            }
            None => {
                for builtin in Builtin::ALL {
                    let what = what_for(*builtin);
                    output.line(Level::Normal, format_args!("{builtin:<14} {what}"))?;
                }
            }
        }
        Ok(Outcome::Good)
    }
}

const fn what_for(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::OriginalTcb => "measures programs, and files that real root reads (ima_tcb alone)",
        Builtin::Tcb => "measures programs, files that root reads, and policies",
        Builtin::SecureBoot => "modules, firmware, kernels and policies must be signed",
        Builtin::AppraiseTcb => "files of root's must have a digest or a signature",
        Builtin::CriticalData => "measures data that subsystems report",
        Builtin::Arch => {
            "under Secure Boot before all other rules, also custom ones (CONFIG_IMA_ARCH_POLICY)"
        }
    }
}
