//! imactl for ARM: built by Debian's cross compilers, and run by QEMU next to the one of this machine.
//!
//! Not a part of `cargo xtask test`: OpenSSL and Rust's libraries are built for each architecture, which
//! takes several minutes. imactl-init, which is small, is built and tested for all architectures there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

use crate::cross::{Architecture, Toolchain};
use crate::{cargo, output, target_directory};

const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

/// `cargo xtask cross [TARGET...]`: those named, else all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        bail!("no target {unknown}; there are {}", TARGETS.join(", "));
    }
    crate::run(cargo(&["build", "--quiet", "--package", "imactl"]))?;
    let here = target_directory().join("debug/imactl");
    let is_wanted = |target: &&str| arguments.is_empty() || arguments.iter().any(|it| it == target);
    for target in TARGETS.into_iter().filter(is_wanted) {
        let architecture = Architecture::of(target).context("not among the architectures")?;
        if architecture.is_available()? {
            let build = ["build", "--locked", "--quiet", "--package", "imactl"];
            crate::run(Toolchain::of(target)?.cargo(&build, target, "std,panic_unwind"))?;
            let program = target_directory().join(target).join("debug/imactl");
            sign_and_verify(architecture, &program, &here).with_context(|| target.to_owned())?;
            println!("{target}: signs and verifies as the one of this machine does");
        }
    }
    Ok(())
}

/// Each signs a tree with keys of its own, and the other verifies it, and finds the file that changed.
fn sign_and_verify(architecture: &Architecture, program: &Path, here: &Path) -> Result<()> {
    let scratch = target_directory().join("tmp/emulated");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    let there = || architecture.run(program);
    let here = || Command::new(here);
    for (name, signs, verifies) in [
        ("there", &there as &dyn Fn() -> Command, &here as &dyn Fn() -> Command),
        ("here", &here, &there),
    ] {
        let (tree, keys) = (scratch.join(name), scratch.join(format!("{name}-keys")));
        write_tree(&tree)?;
        output(signs().args(["keys", "create", "--quiet", "--no-passphrase"]).arg(&keys))?;
        let namespace = ["--xattr-namespace", "user"];
        output(
            signs().args(["sign", "--quiet"]).args(namespace).arg("--keys").arg(&keys).arg(&tree),
        )?;
        let verify = || {
            let mut verify = verifies();
            verify.args(["verify", "--quiet"]).args(namespace).arg("--keys").arg(&keys).arg(&tree);
            verify
        };
        output(&mut verify())?;
        fs::write(tree.join("small"), "changed")?;
        let found = verify().output()?;
        let text = String::from_utf8_lossy(&found.stdout);
        ensure!(
            found.status.code() == Some(1) && text.contains("small") && text.lines().count() == 1,
            "{:?}: {text}{}",
            found.status,
            String::from_utf8_lossy(&found.stderr)
        );
    }
    fs::remove_dir_all(&scratch).map_err(Into::into)
}

fn write_tree(tree: &Path) -> Result<()> {
    fs::create_dir_all(tree.join("directory"))?;
    let files: [(PathBuf, Vec<u8>); 3] = [
        (tree.join("empty"), Vec::new()),
        (tree.join("small"), b"#!/bin/sh\n".to_vec()),
        (tree.join("directory/large"), vec![7; 3 << 20]),
    ];
    for (path, content) in files {
        fs::write(path, content)?;
    }
    Ok(())
}
