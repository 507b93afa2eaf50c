//! Runs libFuzzer on the properties of `fuzz`, with the stable compiler.
//!
//! LLVM's own pass instruments coverage; `-Cpasses` enables it without a nightly compiler. libfuzzer-sys
//! builds the runtime. There is no memory sanitizer: the parsers have no unsafe code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

use crate::cross::host;
use crate::{cargo, root};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET...] [--seconds N]";
const DEFAULT_SECONDS: u32 = 60;
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks \
    -Ccodegen-units=1";

/// `cargo xtask fuzz [TARGET...] [--seconds N]`: fuzzes each target for N seconds; all by default.
///
/// Inputs that reach new code are kept in `fuzz/corpus/TARGET` for the next run. Inputs that violate the
/// property are kept in `fuzz/seeds/TARGET`, where the seeded tests run them from then on.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut wanted, mut seconds) = (Vec::new(), DEFAULT_SECONDS);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                seconds = arguments.next().context(USAGE)?.parse().context("--seconds")?;
            }
            option if option.starts_with('-') => bail!(USAGE),
            target => wanted.push(target),
        }
    }
    let targets = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|it| it == *name)) {
        bail!("no target {unknown}; there are {}", targets.join(", "));
    }
    let program = build()?;
    let mut broken = Vec::new();
    for target in targets.iter().filter(|it| wanted.is_empty() || wanted.contains(&it.as_str())) {
        if !fuzz(&program, target, seconds)? {
            broken.push(target.as_str());
        }
    }
    ensure!(broken.is_empty(), "inputs that break {} are in fuzz/seeds", broken.join(", "));
    Ok(())
}

/// All targets: those with seeds, which the seeded tests require.
fn targets() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root().join("fuzz/seeds")).context("fuzz/seeds")?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let host = host()?; // naming the target excludes build scripts from the instrumentation
    let mut build = cargo(&["build", "--locked", "--quiet", "--release", "--target", &host]);
    build.args(["--manifest-path", "fuzz/Cargo.toml"]).env("RUSTFLAGS", FLAGS);
    crate::run(build)?;
    Ok(root().join("fuzz/target").join(host).join("release/imactl-fuzz"))
}

/// Whether the property holds for all inputs tried.
fn fuzz(program: &Path, target: &str, seconds: u32) -> Result<bool> {
    let of = |kind: &str| root().join("fuzz").join(kind).join(target);
    let (corpus, seeds) = (of("corpus"), of("seeds"));
    std::fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
    let mut command = Command::new(program);
    command.env("IMACTL_FUZZ_TARGET", target);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", seeds.display()));
    command.args(["-timeout=60", "-report_slow_units=60", "-print_final_stats=1", "-verbosity=0"]);
    let ran = command.arg(&corpus).arg(&seeds).output().context("imactl-fuzz")?;
    let text = String::from_utf8_lossy(&ran.stderr);
    let executed =
        text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let (holds, result) = match ran.status.success() {
        true => (true, "ok"),
        false => (false, "FAILED"),
    };
    // in the format of cargo's results, so that the same parsers find it
    println!("test fuzz::{target} ... {result} ({} inputs)", executed.unwrap_or("no").trim());
    if !holds {
        println!("{target}: {}\n{text}", ran.status);
    }
    Ok(holds)
}
