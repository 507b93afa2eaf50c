//! `imactl policy sign`

use anyhow::Result;
use clap::Args;

use super::{accepted, KernelArgs};
use crate::cmd::sign::tree::SignTreeArgs;
use crate::output::{Output, Style};
use crate::Outcome;

/// Check policies, then sign them
///
/// As imactl sign, but nothing is signed if the kernel would refuse one of them: a signature
/// on it is of no use, and a machine that insists on its policy does not boot.
#[derive(Debug, Args)]
pub(super) struct PolicySignArgs {
    #[command(flatten)]
    sign: SignTreeArgs,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Sign whatever it is
    #[arg(long)]
    no_check: bool,
}

impl PolicySignArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let tree = self.sign.tree()?;
        if !self.no_check {
            let kernel = self.kernel.resolve();
            let mut refused = false;
            for path in &tree.roots {
                refused |= accepted(path, &kernel, output)?.is_none();
            }
            if refused {
                let told = format!(
                    "nothing signed: Linux {} refuses this; --no-check signs it all the same",
                    kernel.version
                );
                output.complain(Style::Bad, "error:", &told);
                return Ok(Outcome::Finding);
            }
        }
        self.sign.run_on(&tree, output)
    }
}
