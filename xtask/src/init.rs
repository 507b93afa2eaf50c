//! Builds imactl-init, and checks the properties that an initramfs relies on.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::cross::{host, Architecture, Toolchain, ARCHITECTURES};
use crate::target_directory;

/// The maximum size of the program, in bytes.
const SIZE_LIMIT: u64 = 600 << 10;

/// The release profile for a program without unwinding, set in the environment, so that other programs
/// keep the default.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

const USAGE: &str = "usage: cargo xtask init [--target TRIPLE | --all]";

/// `cargo xtask init [--target TRIPLE | --all]`: builds `target/TRIPLE/release/imactl-init`, also if the
/// target is this machine. With `--all`, builds it for each architecture that the layer supports, runs it,
/// and runs its tests.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => build(&host()?).map(drop),
        [flag, target] if flag == "--target" => build(target).map(drop),
        [flag] if flag == "--all" => all(),
        _ => bail!(USAGE),
    }
}

/// Builds and tests it for every architecture, except for tests that need a kernel of that architecture.
fn all() -> Result<()> {
    let host = host()?;
    for architecture in ARCHITECTURES {
        let target = architecture.target;
        if target == host {
            build(target)?;
            continue; // its tests run with all others
        }
        if architecture.is_available()? {
            let program = build(target)?;
            starts(architecture, &program).with_context(|| target.to_owned())?;
            let test = ["test", "--locked", "--quiet", "--package", "imactl-init", "--lib"];
            crate::run(Toolchain::of(target)?.cargo_for_tests(&test, target))?;
        }
    }
    Ok(())
}

/// Checks that start code, allocator and system calls work: it prints its version, and opens /proc to
/// detect that it is not the first process.
fn starts(architecture: &Architecture, program: &Path) -> Result<()> {
    let version = architecture.run(program).arg("--version").output().context("qemu")?;
    let text = String::from_utf8_lossy(&version.stderr);
    ensure!(version.status.success() && text.starts_with("imactl-init "), "--version: {text}");
    let switch = architecture.run(program).args(["switch-root", "/nowhere", "/init"]).output()?;
    let text = String::from_utf8_lossy(&switch.stderr);
    ensure!(
        switch.status.code() == Some(6) && text.contains("for the first process"),
        "switch-root: {text}"
    );
    Ok(())
}

/// Builds and checks it for a target.
pub(crate) fn build(target: &str) -> Result<PathBuf> {
    let arguments =
        ["build", "--locked", "--release", "--package", "imactl-init", "--features", "start"];
    let mut build = Toolchain::of(target)?.cargo(&arguments, target, "core,alloc");
    build.envs(PROFILE);
    crate::run(build)?;
    let program = target_directory().join(target).join("release/imactl-init");
    let size = check(&program).with_context(|| format!("{}", program.display()))?;
    println!("{}: static, {size} bytes (at most {SIZE_LIMIT})", program.display());
    Ok(program)
}

/// Checks that the program needs no interpreter, and its size, which it returns.
fn check(program: &Path) -> Result<u64> {
    let bytes = std::fs::read(program)?;
    ensure!(!program_headers(&bytes)?.contains(&PT_INTERP), "wants a dynamic linker");
    let size = bytes.len() as u64;
    ensure!(size <= SIZE_LIMIT, "{size} bytes are more than {SIZE_LIMIT}");
    Ok(size)
}

const PT_INTERP: u32 = 3;

/// The types of an ELF file's program headers.
fn program_headers(elf: &[u8]) -> Result<Vec<u32>> {
    let field = |offset: usize, size: usize| -> Result<u64> {
        let bytes = elf.get(offset..offset + size).context("cut short")?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Ok(match elf.get(5) {
            Some(1) => bytes.iter().rev().fold(0, fold),
            _ => bytes.iter().fold(0, fold),
        })
    };
    ensure!(elf.starts_with(b"\x7fELF"), "not an ELF file");
    let (offset, size, count) = match elf.get(4) {
        Some(2) => (field(32, 8)?, field(54, 2)?, field(56, 2)?),
        _ => (field(28, 4)?, field(42, 2)?, field(44, 2)?),
    };
    (0..count).map(|index| Ok(field((offset + index * size) as usize, 4)? as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_wants_a_dynamic_linker() {
        let this = std::env::current_exe().unwrap();
        let error = check(&this).unwrap_err();
        assert!(error.to_string().contains("dynamic linker"), "{error}");
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(program_headers(b"#!/bin/sh\n").is_err());
        assert!(program_headers(b"\x7fELF\x02\x01").is_err());
    }
}
