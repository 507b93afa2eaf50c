//! The project's own programs, built by Cargo when they are first asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{anyhow, Result};

use crate::host;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `imactl`, the program under test: the one that `IMACTL_PROGRAM` names, else the
/// checkout's.
pub fn imactl() -> Result<Command> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = built(&PROGRAM, "imactl", || {
        if let Some(program) = std::env::var_os("IMACTL_PROGRAM") {
            return Ok(program.into());
        }
        host::run(cargo().args(["build", "--quiet", "--package", "imactl"]))?;
        Ok(host::target_directory().join("debug/imactl"))
    })?;
    let mut command = Command::new(program);
    command.env_remove("IMACTL_KEYS");
    Ok(command)
}

/// The agent, static, as it goes into the guest; it has a target directory of its own, since
/// its flags would have all else built again.
pub fn agent() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&PROGRAM, "the agent", || {
        let directory = host::target_directory().join("lab");
        let mut cargo = cargo();
        cargo.args(["build", "--quiet", "--release", "--package", "lab-agent"]);
        cargo.args(["--target", TARGET, "--target-dir"]).arg(&directory);
        host::run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
        Ok(directory.join(TARGET).join("release/lab-agent"))
    })
}

/// `imactl-init`, as it goes into an initramfs: the one that `IMACTL_INIT_PROGRAM` names,
/// else the checkout's.
pub fn imactl_init() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&PROGRAM, "imactl-init", || {
        if let Some(program) = std::env::var_os("IMACTL_INIT_PROGRAM") {
            return Ok(program.into());
        }
        let arguments = ["run", "--quiet", "--package", "xtask", "--", "init", "--target", TARGET];
        host::run(cargo().args(arguments))?;
        Ok(host::target_directory().join(TARGET).join("release/imactl-init"))
    })
}

fn built(
    program: &'static OnceLock<Result<PathBuf, String>>,
    name: &str,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<&'static Path> {
    let built = program.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("build {name}: {error}"))
}

/// Cargo in the checkout, without the flags that an outer Cargo hands on.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::checkout());
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    cargo
}
