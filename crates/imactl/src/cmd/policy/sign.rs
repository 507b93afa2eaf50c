//! `imactl policy sign`

use clap::Args;

use super::accepted;
use crate::args::PlaceArgs;
use crate::cmd::sign::SignFilesArgs;
use crate::error::Result;
use crate::inputs::TreeArgs;
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{Output, Style};
use crate::Outcome;

/// Check policies, then sign them
///
/// As imactl sign, but nothing is signed if the kernel would reject one of them: a machine that
/// requires its policy would not boot.
#[derive(Debug, Args)]
pub(super) struct PolicySignArgs {
    #[command(flatten)]
    tree: TreeArgs,
    #[command(flatten)]
    sign: SignFilesArgs,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Sign without checking
    #[arg(long)]
    no_check: bool,
}

impl PolicySignArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let roots = self.tree.roots()?;
        if !self.no_check {
            let kernel = self.kernel.resolve()?;
            warn_of_hearsay(kernel.version, output);
            let mut refused = false;
            for path in &roots {
                refused |= accepted(path, &kernel, output)?.is_none();
            }
            if refused {
                let told = format!(
                    "nothing signed: Linux {} rejects this policy; --no-check signs it anyway",
                    kernel.version
                );
                output.complain(Style::Bad, "error:", &told);
                return Ok(Outcome::Finding);
            }
        }
        let inputs = self.tree.as_tree(roots, self.place.resolve())?;
        self.sign.run(inputs, self.kernel.config(), None, output)
    }
}
