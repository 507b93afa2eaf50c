//! Installs the files that users need: programs, man pages, completions, policies and documents.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::{cargo, init, root, target_directory};

/// The policies that `imactl policy default` prints.
const POLICIES: [&str; 3] = ["appraise", "strict", "measure"];

/// Files and directories of the checkout that are installed as documents.
const DOCUMENTS: [&str; 6] =
    ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "docs", "contrib"];

/// What users of the documents cannot use: tests, their traces, and a crate that is built in the checkout.
const LEFT_OUT: [&str; 3] = ["test_fleet.py", "__pycache__", "wheel"];

/// `cargo xtask install`: installs below `$DESTDIR$PREFIX`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [] = arguments else { bail!("usage: [DESTDIR=DIR] [PREFIX=DIR] cargo xtask install") };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let prefix = Some(variable("PREFIX")).filter(|it| !it.is_empty());
    let prefix = prefix.unwrap_or_else(|| "/usr/local".into());
    // joined as strings: an absolute path would replace DESTDIR
    let directory = PathBuf::from(variable("DESTDIR") + &prefix);
    let (imactl, init) = programs()?;
    below(&directory, &imactl, &init)?;
    println!("installed below {}", directory.display());
    Ok(())
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// The programs that the environment names, else release builds.
pub(crate) fn programs() -> Result<(PathBuf, PathBuf)> {
    let imactl = match named("IMACTL_PROGRAM") {
        Some(program) => program,
        None => {
            crate::run(cargo(&["build", "--locked", "--release", "--package", "imactl"]))?;
            target_directory().join("release/imactl")
        }
    };
    let init = match named("IMACTL_INIT_PROGRAM") {
        Some(program) => program,
        None => init::build(&crate::cross::host()?)?,
    };
    Ok((imactl, init))
}

/// `cargo xtask man [DIR]`: writes DIR/man/man1 and man8; DIR is `target` by default.
pub(crate) fn man(arguments: &[String]) -> Result<()> {
    generated("man", arguments)
}

/// `cargo xtask completions [DIR]`: writes them to the directories in which bash, zsh and fish search below
/// /usr/share.
pub(crate) fn completions(arguments: &[String]) -> Result<()> {
    generated("completions", arguments)
}

fn generated(what: &str, arguments: &[String]) -> Result<()> {
    let directory = match arguments {
        [] => target_directory(),
        // cargo runs in the workspace's root, so the path must be absolute
        [directory] => std::env::current_dir()?.join(directory),
        _ => bail!("usage: cargo xtask {what} [DIR]"),
    };
    generate(what, &directory, &[])?;
    println!("{}", directory.display());
    Ok(())
}

fn generate(what: &str, directory: &Path, profile: &[&str]) -> Result<()> {
    let mut manual = cargo(&["run", "--locked", "--quiet", "--package", "imactl-manual"]);
    crate::run({
        manual.args(profile).args(["--", what]).arg(directory);
        manual
    })
}

/// Installs these programs, and all files that belong to them, below a prefix.
pub(crate) fn below(prefix: &Path, imactl: &Path, init: &Path) -> Result<()> {
    let share = prefix.join("share");
    copy(imactl, &prefix.join("bin/imactl"), 0o755)?;
    copy(init, &prefix.join("bin/imactl-init"), 0o755)?;
    // in the profile of the program, or all of it would be compiled once more
    let profile: &[_] = if named("IMACTL_PROGRAM").is_none() { &["--release"] } else { &[] };
    generate("man", &share, profile)?;
    generate("completions", &share, profile)?;
    for kind in POLICIES {
        let name = format!("{kind}.policy");
        let policy = root().join("crates/ima-format/src/policy/builtin").join(&name);
        copy(&policy, &share.join("imactl/policies").join(name), 0o644)?;
    }
    for name in DOCUMENTS {
        copy_all(&root().join(name), &share.join("doc/imactl").join(name))?;
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let mode = fs::metadata(from)?.permissions().mode();
        return copy(from, to, if mode & 0o100 == 0 { 0o644 } else { 0o755 });
    }
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let name = entry?.file_name();
        if LEFT_OUT.iter().all(|left_out| name != *left_out) {
            copy_all(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Replaces a file, even if it is being executed.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let content = fs::read(from).with_context(|| from.display().to_string())?;
    if to.exists() {
        fs::remove_file(to).with_context(|| to.display().to_string())?;
    }
    let parent = to.parent().context("a file without a directory")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    fs::write(to, content).with_context(|| to.display().to_string())?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}
