//! Builds the lab's agent for a guest of any architecture.

use anyhow::{bail, Result};

use crate::cross::Toolchain;
use crate::target_directory;

/// `cargo xtask agent --target TRIPLE`: builds the static program
/// `target/lab/TRIPLE/release/lab-agent`. It has its own target directory, because its flags would
/// otherwise cause a rebuild of everything else.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let target = match arguments {
        [flag, target] if flag == "--target" => target,
        _ => bail!("usage: cargo xtask agent --target TRIPLE"),
    };
    let directory = target_directory().join("lab").to_string_lossy().into_owned();
    let package = ["build", "--locked", "--quiet", "--release", "--package", "lab-agent"];
    let arguments = [&package[..], &["--target-dir", &directory]].concat();
    let mut cargo = Toolchain::of(target)?.cargo(&arguments, target, "std,panic_unwind");
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    crate::run(cargo)
}
