//! Manifests, compared with hashing alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::trees::{floor, make_once};
use super::{line, repeated, timed, Bench, Goal, Measure};
use crate::python;

/// The number of files of a small Debian root.
pub(super) const FILES: usize = 8_000;

/// Files are taken in runs of this length, the mean number of files in a directory of a small root.
const RUN: usize = 8;

/// Copies runs of files at regular intervals from /usr, with their directories; made once.
pub(super) fn small_root(bench: &Bench) -> Result<PathBuf> {
    let root = bench.directory.join("small-root");
    make_once(&root, |root| {
        let mut found = Vec::new();
        for directory in ["bin", "sbin", "lib", "share"] {
            files(&Path::new("/usr").join(directory), &mut found)?;
        }
        ensure!(found.len() >= FILES, "fewer than {FILES} files in /usr");
        let step = found.len() / FILES;
        for path in found.chunks(RUN).step_by(step).flatten().take(FILES) {
            let to = root.join(path.strip_prefix("/")?);
            fs::create_dir_all(to.parent().context("a directory")?)?;
            fs::copy(path, to)?;
        }
        Ok(())
    })?;
    Ok(root)
}

/// A manifest of a small root.
pub(super) fn manifests(bench: &Bench) -> Result<()> {
    let root = small_root(bench)?;
    let mut copied = Vec::new();
    files(&root, &mut copied)?;
    let sizes = copied.iter().map(|path| Ok(path.metadata()?.len()));
    let bytes: u64 = sizes.sum::<Result<_>>()?;
    println!("Manifest: {FILES} files from /usr, {} MB", bytes / 1_000_000);

    let root = root.to_str().context("a path that is text")?;
    let keys = bench.keys("p-256")?;
    let hashing = repeated(|| {
        let floor = floor(bench, &keys, root)?;
        let part = |name: &str| floor[name].as_f64().with_context(|| format!("floor of {name}"));
        Ok(part("read")? + part("hash")?)
    })?;
    let result = bench.directory.join("manifest.jsonl");
    let result = result.to_str().context("a path that is text")?;
    let create = ["manifest", "create", "--quiet", "-o", result, root];
    let ours = bench.imactl(&create, || Ok(()))?;
    line("manifest create", ours, "read and hash", hashing, Goal::Faster(0.83), "");
    keylime(bench, root, result)
}

/// Keylime's own tool makes the same policy of the same root.
fn keylime(bench: &Bench, root: &str, manifest: &str) -> Result<()> {
    let tools = python::environment("python", "xtask/python-requirements.txt")?;
    let policies = ["imactl", "keylime"].map(|name| format!("{manifest}.{name}"));
    let mut create = Command::new(tools.join("bin/python"));
    create.arg(crate::root().join("xtask/bench/policy.py"));
    create.args(["create", "runtime", "--algo", "sha256", "--ima-measurement-list", "/dev/null"]);
    let theirs = timed(create.args(["--rootfs", root, "--output", &policies[1]]))?;
    let steps = [
        &["manifest", "create", "--quiet", "-o", manifest, root][..],
        &["manifest", "export", "--quiet", "--to", "keylime", "-o", &policies[0], manifest],
    ];
    let mut ours = Measure { seconds: 0.0, memory: 0 };
    for step in steps {
        let Measure { seconds, memory } = bench.imactl(step, || Ok(()))?;
        ours = Measure { seconds: ours.seconds + seconds, memory: ours.memory.max(memory) };
    }
    let digests = |policy: &String| -> Result<serde_json::Value> {
        let mut policy: serde_json::Value = serde_json::from_slice(&fs::read(policy)?)?;
        Ok(policy["digests"].take())
    };
    ensure!(digests(&policies[0])? == digests(&policies[1])?, "the policies differ");
    line("policy for Keylime", ours, "keylime-policy", theirs, Goal::None, "the same digests");
    Ok(())
}

/// Readable regular files, in the order of their paths.
fn files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let kind = path.symlink_metadata()?.file_type();
        if kind.is_dir() {
            files(&path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}
