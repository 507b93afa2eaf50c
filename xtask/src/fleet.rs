//! The Python module and the Spark job for fleets: packaged as a wheel, installed, tested.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{bail, Result};

use crate::counts::{count, Counts};
use crate::{python, root, run as succeed, target_directory};

/// Makes the test measure with this size: MACHINES,ENTRIES.
const SIZE: &str = "IMACTL_FLEET";

pub(crate) fn run(counts: &mut Counts) -> Result<()> {
    let java = Command::new("java").arg("-version").stderr(Stdio::null()).status();
    if !java.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no Java, which Spark needs (Debian: default-jre-headless)");
        if std::env::var_os("CI").is_some() {
            bail!("java is not installed, and CI must not skip");
        }
        return Ok(());
    }
    let tools = python::environment("fleet", "contrib/fleet/requirements.txt")?;
    let fleet = root().join("contrib/fleet");
    let (wheels, module) =
        (target_directory().join("fleet/wheels"), target_directory().join("fleet/python"));
    for made in [&wheels, &module] {
        if made.exists() {
            fs::remove_dir_all(made)?;
        }
    }
    let mut maturin = Command::new(tools.join("bin/maturin"));
    // linked with this machine's C library, so it is not for older distributions
    maturin.args(["build", "--quiet", "--compatibility", "linux", "--manifest-path"]);
    maturin.arg(fleet.join("wheel/Cargo.toml")).arg("--out").arg(&wheels);
    if std::env::var_os(SIZE).is_some() {
        maturin.arg("--release");
    }
    succeed({
        maturin.env("CARGO_TARGET_DIR", target_directory());
        maturin
    })?;
    let mut pip = Command::new(tools.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--no-index", "--find-links"]).arg(&wheels).arg("--target").arg(&module);
    succeed({
        pip.arg("imactl");
        pip
    })?;
    let mut test = Command::new(tools.join("bin/python"));
    test.arg("-B").arg(fleet.join("test_fleet.py")).env("PYTHONPATH", module);
    // for the workers' Python, too
    test.env("PYSPARK_PYTHON", tools.join("bin/python"));
    count(&mut test, counts)
}
