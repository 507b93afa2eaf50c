//! Python environments with pinned packages, outside the checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{root, run};

/// The environment of this name with the packages of a requirements file, updated if that has changed.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let wanted = root().join(requirements);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let cache = cache.join("imactl");
    let process = std::process::id();
    let (tools, new) = (cache.join(name), cache.join(format!("{name}.{process}")));
    if fs::read(tools.join("requirements.txt")).ok() == Some(fs::read(&wanted)?) {
        return Ok(tools);
    }
    fs::create_dir_all(&cache)?;
    run({
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(&new);
        python
    })
    .context("Debian: apt-get install python3-venv")?;
    run({
        let mut pip = Command::new(new.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.arg("--requirement").arg(&wanted);
        pip
    })?;
    fs::copy(&wanted, new.join("requirements.txt"))?;
    if tools.exists() {
        fs::remove_dir_all(&tools)?;
    }
    fs::rename(&new, &tools)?;
    Ok(tools)
}
