//! Images, compared with debugfs alone: the time to write the same number of prepared attributes.
//! imactl also reads and hashes the files, signs them, and reads everything back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::trees::many_small_files;
use super::{line, repeated, timed, Bench, Goal};

/// The 10,000 small files in ext4, with attributes in inodes and in blocks.
pub(super) fn images(bench: &Bench) -> Result<()> {
    let root = many_small_files(bench)?;
    for size in ["512", "256"] {
        println!("Images: ext4 with inodes of {size} bytes, 10,000 files of 1-16 KiB");
        let original = bench.directory.join(format!("image-{size}"));
        if !original.exists() {
            let mut mke2fs = Command::new("/usr/sbin/mke2fs");
            mke2fs.args(["-q", "-F", "-t", "ext4", "-I", size, "-N", "20000", "-d"]);
            timed(mke2fs.arg(&root).arg(&original).arg("512M"))?;
        }
        for algorithm in ["rsa-2048", "p-256"] {
            sign(bench, &original, algorithm)?;
        }
    }
    Ok(())
}

fn sign(bench: &Bench, original: &Path, algorithm: &str) -> Result<()> {
    let keys = bench.keys(algorithm)?;
    let signed = bench.directory.join("image-signed");
    let value = bench.directory.join("image-value");
    // the length of a signature of this kind
    fs::write(&value, vec![3; if algorithm == "p-256" { 80 } else { 265 }])?;
    let batch = bench.directory.join("image-batch");
    let requests = (0..10_000).map(|number| {
        let directory = number / 250;
        format!("ea_set -f {} /{directory:03}/{number:05} security.ima\n", value.display())
    });
    fs::write(&batch, requests.collect::<String>())?;
    let theirs = repeated(|| {
        fs::copy(original, &signed)?;
        let mut debugfs = Command::new("/usr/sbin/debugfs");
        debugfs.args(["-w", "-f"]).args([&batch, &signed]);
        timed(debugfs.stderr(Stdio::null()))
    })?;
    let text = |path: &Path| path.display().to_string();
    let (from, to) = (text(original), text(&signed));
    let args = ["sign", "--quiet", "--keys", &keys, &from, "-o", &to];
    let ours = bench.imactl(&args, || Ok(()))?;
    for file in [&signed, &value, &batch] {
        fs::remove_file(file)?;
    }
    line(&format!("sign {algorithm}"), ours, "debugfs", theirs, Goal::None, "");
    Ok(())
}
