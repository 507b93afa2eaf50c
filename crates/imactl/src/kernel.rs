//! The kernel that is meant.

use clap::Args;
use ima_format::policy::kernel::{Kernel, KernelVersion};

use crate::output::Output;

/// The kernel that a policy is meant for
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// The kernel's version, 5.10 or later; the output of uname -r works
    #[arg(long, value_name = "VERSION", default_value = "6.12", help_heading = "Kernel")]
    kernel: KernelVersion,
}

impl KernelArgs {
    /// A kernel of this version, as the layer's fragments configure it.
    pub(crate) fn resolve(&self) -> Kernel {
        Kernel::new(self.kernel)
    }
}

/// Says so where the grammar was not read off the kernel's source.
pub(crate) fn warn_of_hearsay(version: KernelVersion, output: &mut Output) {
    if !version.is_verified() && !output.is_json() {
        let text = format!(
            "the source of Linux {version} was not read: its rules are taken from the versions \
             before and after it, and from the kernel's history"
        );
        output.warn(&text);
    }
}
