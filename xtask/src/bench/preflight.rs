//! Preflight of a root with 100,000 files. No other program does this, so there is no peer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::trees::make_once;
use super::Bench;
use crate::run;

/// 100,000 files: 2,500 programs with the libraries of `/usr/bin/true`, 2,500 scripts, and data.
pub(super) fn large_root(bench: &Bench) -> Result<()> {
    let root = bench.directory.join("preflight");
    let keys = bench.keys("p-256")?;
    make_once(&root, |root| fill(bench, &keys, root))?;
    println!("preflight: 100,000 files");
    let root_text = root.to_str().context("a path that is text")?;
    for policy in ["default:appraise", "builtin:appraise_tcb"] {
        let args = ["preflight", "--quiet", root_text, "--policy", policy, "--keys", &keys];
        let ours = bench.imactl(&args, || Ok(()))?;
        let memory = ours.memory as f64 / 1024.0;
        println!("  {policy:<28} imactl {:>7.2} s   {memory:>5.1} MiB", ours.seconds);
    }
    Ok(())
}

fn fill(bench: &Bench, keys: &str, root: &Path) -> Result<()> {
    let program = fs::read("/usr/bin/true")?;
    let listed = Command::new("ldd").arg("/usr/bin/true").output().context("ldd")?;
    let listed = String::from_utf8(listed.stdout)?;
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::copy(library, to)?;
    }
    let mut random = 1_u64;
    for number in 0..100_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number);
        let (directory, content, mode) = match number % 40 {
            0 => ("usr/bin".to_owned(), [&program[..], &number.to_le_bytes()].concat(), 0o755),
            20 => ("usr/bin".to_owned(), format!("#!/usr/bin/0\n# {number}\n").into(), 0o755),
            _ => {
                let content = vec![(random >> 48) as u8; 100 + (random >> 33) as usize % 16_000];
                (format!("usr/share/{}", number / 500), content, 0o644)
            }
        };
        let directory = root.join(directory);
        fs::create_dir_all(&directory)?;
        let path = directory.join(number.to_string());
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir_all(root.join("sbin"))?;
    fs::copy(root.join("usr/bin/0"), root.join("sbin/init"))?;
    let mut sign = Command::new(&bench.imactl);
    sign.args(["sign", "--quiet", "--keys", keys]).arg(root);
    run(sign)
}
