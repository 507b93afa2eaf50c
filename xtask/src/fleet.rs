//! The Python module and the Spark job for fleets: packaged as a wheel, installed, tested.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{bail, Result};

use crate::counts::{count, Counts};
use crate::{python, root, run as succeed, target_directory};

/// Makes the test measure with this size: MACHINES,ENTRIES.
const SIZE: &str = "IMACTL_FLEET";

/// How the module is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Without optimizations.
    Debug,
    /// As it is packaged.
    Release,
}

/// The module, installed next to the environment with Spark.
#[derive(Debug)]
pub(crate) struct Module {
    python: PathBuf,
    directory: PathBuf,
}

impl Module {
    /// Builds and installs the wheel.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        let tools = python::environment("fleet", "contrib/fleet/requirements.txt")?;
        let fleet = root().join("contrib/fleet");
        let (wheels, directory) =
            (target_directory().join("fleet/wheels"), target_directory().join("fleet/python"));
        for made in [&wheels, &directory] {
            if made.exists() {
                fs::remove_dir_all(made)?;
            }
        }
        let mut maturin = Command::new(tools.join("bin/maturin"));
        // linked with this machine's C library, so it is not for older distributions
        maturin.args(["build", "--quiet", "--compatibility", "linux", "--manifest-path"]);
        maturin.arg(fleet.join("wheel/Cargo.toml")).arg("--out").arg(&wheels);
        if profile == Profile::Release {
            maturin.arg("--release");
        }
        succeed({
            maturin.env("CARGO_TARGET_DIR", target_directory());
            maturin
        })?;
        let python = tools.join("bin/python");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-index", "--find-links"]).arg(&wheels).arg("--target").arg(&directory);
        succeed({
            pip.arg("imactl");
            pip
        })?;
        Ok(Self { python, directory })
    }

    /// Python with the module and Spark, for this process and the workers.
    pub(crate) fn python(&self) -> Command {
        let mut python = Command::new(&self.python);
        python.env("PYTHONPATH", &self.directory).env("PYSPARK_PYTHON", &self.python);
        python
    }
}

pub(crate) fn run(counts: &mut Counts) -> Result<()> {
    let java = Command::new("java").arg("-version").stderr(Stdio::null()).status();
    if !java.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no Java, which Spark needs (Debian: default-jre-headless)");
        if std::env::var_os("CI").is_some() {
            bail!("java is not installed, and CI must not skip");
        }
        return Ok(());
    }
    let profile = match std::env::var_os(SIZE) {
        Some(_) => Profile::Release,
        None => Profile::Debug,
    };
    let mut test = Module::build(profile)?.python();
    test.arg("-B").arg(root().join("contrib/fleet/test_fleet.py"));
    count(&mut test, counts)
}
