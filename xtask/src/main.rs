//! The project's tasks, called by CI and the Makefile.

mod agent;
mod architecture;
mod bench;
mod counts;
mod crates;
mod cross;
mod emulated;
mod fleet;
mod fuzz;
mod imports;
mod init;
mod install;
mod layer;
mod oe;
mod package;
mod proofs;
mod prose;
mod python;
mod test;
mod varied;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{bail, ensure, Context, Result};

/// A task: its name, its description, and its function.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const TASKS: &[Task] = &[
    ("agent", "build the lab's agent, static: --target TRIPLE", agent::run),
    ("bench", "measure the speed, next to evmctl [PART...]", bench::bench),
    ("completions", "write completions for bash, zsh and fish [DIR]", install::completions),
    ("crates", "write the layer's list of crates from Cargo.lock; --check compares them", crates::run),
    ("cross", "build imactl for ARM and run it under QEMU [TARGET...]; not a part of test", emulated::run),
    ("demo", "create keys, sign a small Debian, and boot it under enforcement", demo),
    ("fuzz", "run libFuzzer on the parsers [TARGET...] [--seconds N]; keeps findings as seeds", fuzz::run),
    ("install", "install all files for users below $DESTDIR$PREFIX (/usr/local)", install::run),
    ("init", "build imactl-init and check it [--target TRIPLE | --all]", init::run),
    ("lint", "check formatting, clippy, spelling, plain English, dependencies, licences and lists", lint),
    ("kernels", "build the lab's kernels, unless they are in its cache", kernels),
    ("man", "write the man pages [DIR]", install::man),
    ("oe", "build the layer with BitBake and boot its image [SERIES...] [--from STEP]; needs IMACTL_OE_DIR", oe::run),
    ("package", "write packages [deb|rpm [DIR]]; by default both, to target/packages", package::run),
    ("test", "run all tests of CI, or only some parts [PART...]", test::run),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some((_, _, task)) = TASKS.iter().find(|(task, ..)| *task == name) else {
        if !name.is_empty() {
            eprintln!("error: no task {name}");
        }
        eprintln!("tasks:");
        for (name, what, _) in TASKS {
            eprintln!("  cargo xtask {name:<14} {what}");
        }
        return ExitCode::from(2);
    };
    match task(&args.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lint(_: &[String]) -> Result<()> {
    crates::run(&["--check".into()])?;
    spelling()?;
    prose::check()?;
    proofs::check()?;
    imports::check()?;
    for tool in ["fmt", "clippy"] {
        let found =
            cargo(&[tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: cargo {tool} is not installed (Debian's Rust comes without it)");
            if std::env::var_os("CI").is_some() {
                bail!("cargo {tool} is not installed, and CI must not skip");
            }
            return architecture::check();
        }
    }
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run({
        // links must lead somewhere; to private modules, too
        let options = ["--quiet", "--no-deps", "--workspace", "--document-private-items"];
        let mut doc = cargo(&[&["doc"], &options[..]].concat());
        doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
        doc
    })?;
    // the fuzz targets without libFuzzer
    for (workspace, features) in [("contrib/fleet/wheel", "vendored"), ("fuzz", "")] {
        separate(workspace, "fmt", &["--check"])?;
        let options = ["--quiet", "--all-targets", "--no-default-features", "--features", features];
        separate(workspace, "clippy", &[&options[..], &["--", "-D", "warnings"]].concat())?;
    }
    architecture::check()
}

/// Runs a cargo tool on a separate workspace.
fn separate(workspace: &str, tool: &str, options: &[&str]) -> Result<()> {
    let mut cargo = cargo(&[tool, "--manifest-path", &format!("{workspace}/Cargo.toml")]);
    cargo.args(options).env("CARGO_TARGET_DIR", target_directory()).env("PYO3_NO_PYTHON", "1");
    run(cargo)
}

/// Checks the spelling.
fn spelling() -> Result<()> {
    match python::environment("lint", "xtask/lint/requirements.txt") {
        Ok(tools) => {
            let mut typos = Command::new(tools.join("bin/typos"));
            typos.current_dir(root());
            run(typos)
        }
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: typos cannot be installed: {error:#}");
            Ok(())
        }
        Err(error) => Err(error.context("typos cannot be installed, and CI must not skip")),
    }
}

fn kernels(args: &[String]) -> Result<()> {
    let mut lab = cargo(&["run", "--quiet", "--package", "lab", "--bin", "lab", "--", "kernels"]);
    lab.args(args);
    run(lab)
}

/// Runs the lab's demo with the program as installed for users. The lab is a release build, too: it has most crates in
/// common with the program, OpenSSL among them, which need not be built twice.
fn demo(args: &[String]) -> Result<()> {
    run(cargo(&["build", "--release", "--package", "imactl"]))?;
    let mut demo = cargo(&["run", "--release", "--quiet", "--package", "lab", "--", "demo"]);
    demo.args(args).env("IMACTL_PROGRAM", root().join("target/release/imactl"));
    run(demo)
}

/// A cargo command in the workspace's root.
fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(args).current_dir(root());
    cargo
}

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target directory.
fn target_directory() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(set.unwrap_or_else(|| "target".into()))
}

/// Runs a command; an error if it fails.
fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output; an error if it fails.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
