//! Checks of the OpenEmbedded layer that need no checkout of OpenEmbedded: BitBake's own parser over a stub
//! of the core layer, functions of the recipes run as tasks, shellcheck on the expanded shell functions, and
//! oelint-adv. `cargo xtask oe` does the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Result};

use crate::{python, root, run};

/// The file types that oelint-adv checks.
const LINTED: [&str; 4] = ["bb", "bbappend", "bbclass", "conf"];

pub(crate) fn check() -> Result<()> {
    let tools = python::environment("layer", "xtask/layer/requirements.txt")?;
    for script in ["kconfig.py", "functions.py"] {
        let mut python = Command::new(tools.join("bin/python"));
        python.arg("-B").arg(root().join("xtask/layer").join(script));
        python.arg(root().join("meta-integrity"));
        run(python)?;
    }
    shell_and_parser(&tools)?;
    lint(&tools)
}

fn shell_and_parser(tools: &Path) -> Result<()> {
    let scripts = root().join("target/layer");
    if scripts.exists() {
        fs::remove_dir_all(&scripts)?;
    }
    fs::create_dir_all(&scripts)?;
    let mut parse = Command::new(tools.join("bin/python"));
    parse.arg("-B").arg(root().join("xtask/layer/parse.py"));
    run({
        parse.arg(root().join("meta-integrity")).arg(&scripts);
        parse
    })?;
    let mut shellcheck = Command::new("shellcheck");
    // BitBake has expanded the variables, so comparisons with them are comparisons of constants
    shellcheck.args(["--shell", "sh", "--exclude", "SC2050,SC2157"]);
    let mut count = 0;
    for script in fs::read_dir(&scripts)? {
        shellcheck.arg(script?.path());
        count += 1;
    }
    ensure!(count > 0, "no shell function was found");
    run(shellcheck)
}

fn lint(tools: &Path) -> Result<()> {
    let layer = root().join("meta-integrity");
    let allowed = fs::read_to_string(root().join("xtask/layer/oelint.allow"))?;
    let mut lint = Command::new(tools.join("bin/python"));
    lint.args(["-m", "oelint_adv", "--quiet", "--relpaths", "--hide", "info"]);
    lint.args(["--release", "wrynose"]).current_dir(&layer);
    for rule in allowed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        lint.args(["--suppress", rule]);
    }
    let mut files = Vec::new();
    linted(&layer, &mut files)?;
    files.sort();
    run({
        lint.args(files);
        lint
    })
}

fn linted(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            linted(&path, files)?;
        } else if path.extension().is_some_and(|it| LINTED.iter().any(|kind| it == *kind)) {
            files.push(path);
        }
    }
    Ok(())
}
