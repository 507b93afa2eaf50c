//! The project's own programs, built by Cargo on first use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{anyhow, Context, Result};
use serde_json::Value;

use crate::host;
use crate::kernel::Architecture;

/// A program that is built once for all threads.
type Program = OnceLock<Result<PathBuf, String>>;

/// `imactl`, the program under test: the one that `IMACTL_PROGRAM` names, else the
/// checkout's.
pub fn imactl() -> Result<Command> {
    static PROGRAM: Program = Program::new();
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

/// The test program of `imactl`.
pub fn imactl_tests() -> Result<PathBuf> {
    const BUILD: &[&str] = &["test", "--quiet", "--package", "imactl", "--test", "cli", "--no-run"];
    let built = host::run(cargo().args(BUILD).arg("--message-format=json"))?;
    let messages = serde_json::Deserializer::from_slice(&built.stdout).into_iter();
    let messages = messages.collect::<Result<Vec<Value>, _>>()?;
    let test =
        messages.iter().find(|it| it["target"]["name"] == "cli" && it["executable"].is_string());
    test.and_then(|it| it["executable"].as_str()).map(PathBuf::from).context("no tests were built")
}

/// The agent: a static program for guests of an architecture.
pub fn agent(architecture: Architecture) -> Result<&'static Path> {
    static PROGRAMS: [Program; 3] = [Program::new(), Program::new(), Program::new()];
    built(&PROGRAMS[architecture as usize], "the agent", || {
        let target = architecture.triple();
        host::run(xtask().args(["agent", "--target", target]))?;
        Ok(host::target_directory().join("lab").join(target).join("debug/lab-agent"))
    })
}

/// `imactl-init` for the host's architecture, for an initramfs: the one that `IMACTL_INIT_PROGRAM`
/// names, else the checkout's.
pub fn imactl_init() -> Result<&'static Path> {
    imactl_init_for(Architecture::X86_64)
}

/// The same for any architecture; the variable applies only to the host's.
pub fn imactl_init_for(architecture: Architecture) -> Result<&'static Path> {
    static PROGRAMS: [Program; 3] = [Program::new(), Program::new(), Program::new()];
    built(&PROGRAMS[architecture as usize], "imactl-init", || {
        if let (Architecture::X86_64, Some(program)) =
            (architecture, std::env::var_os("IMACTL_INIT_PROGRAM"))
        {
            return Ok(program.into());
        }
        let target = architecture.triple();
        host::run(xtask().args(["init", "--target", target]))?;
        Ok(host::target_directory().join(target).join("release/imactl-init"))
    })
}

fn built(
    program: &'static Program,
    name: &str,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<&'static Path> {
    let built = program.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("build {name}: {error}"))
}

/// A command that runs xtask.
pub fn xtask() -> Command {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
    cargo
}

/// Cargo in the checkout, without the flags of an outer Cargo.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::checkout());
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    cargo
}
