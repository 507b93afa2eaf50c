//! The agent, built for the guest.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{anyhow, Result};

use crate::host;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static program; built by Cargo on the first call, in a target directory of its own,
/// since its flags would have all else built again.
pub fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("build the agent: {error}"))
}

fn build() -> Result<PathBuf> {
    let directory = host::target_directory().join("lab");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--package", "lab-agent", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&directory).current_dir(host::checkout());
    // An outer cargo's flags and profile are not meant for the guest.
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    host::run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(directory.join(TARGET).join("release/lab-agent"))
}
