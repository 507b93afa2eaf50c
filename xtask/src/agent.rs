//! Builds the lab's agent for a guest of any architecture.

use anyhow::{bail, Result};

use crate::cross::Toolchain;

/// `cargo xtask agent --target TRIPLE`: builds the static program `target/lab/TRIPLE/debug/lab-agent`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let target = match arguments {
        [flag, target] if flag == "--target" => target,
        _ => bail!("usage: cargo xtask agent --target TRIPLE"),
    };
    let build = ["build", "--locked", "--quiet", "--package", "lab-agent"];
    crate::run(Toolchain::of(target)?.cargo_for_tests(&build, target))
}
