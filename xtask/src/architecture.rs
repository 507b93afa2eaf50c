//! The direct dependencies that each crate may have.

use anyhow::{bail, Context, Result};

use crate::cargo;

/// imactl -> ima -> ima-format; imactl-init -> ima-format. A new dependency must be added here, and so is
/// seen in review.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ima-format", &[]),
    (
        "ima",
        &[
            "cryptoki-sys",
            "bzip2",
            "flate2",
            "globset",
            "ima-format",
            "libc",
            "liblzma",
            "openssl",
            "openssl-sys",
            "regex-automata",
            "rustix",
            "streebog",
            "tempfile",
            "thiserror",
            "zeroize",
            "zstd",
        ],
    ),
    (
        "imactl",
        &[
            "clap",
            "ima",
            "ima-format",
            "indicatif",
            "libc",
            "rpassword",
            "serde",
            "serde_json",
            "zeroize",
        ],
    ),
    ("imactl-init", &["ima-format", "linux-raw-sys", "rustix"]),
];

pub(crate) fn check() -> Result<()> {
    for (package, allowed) in ALLOWED {
        let mut tree = cargo(&["tree", "--package", package, "--edges", "normal"]);
        tree.args(["--depth", "1", "--prefix", "none", "--format", "{p}"]);
        let output = tree.output().context("cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        }
        let lines = String::from_utf8(output.stdout)?;
        let names = lines.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        for name in names {
            if !allowed.contains(&name) {
                bail!(
                    "{package} depends on {name}, which xtask/src/architecture.rs does not allow"
                );
            }
        }
    }
    Ok(())
}
