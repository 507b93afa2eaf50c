//! Trees of files, compared with evmctl.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use super::{line, repeated, timed, Bench, Goal, Measure};
use crate::run;

/// 10,000 files of 1 to 16 KiB.
pub(super) fn many_small_files(bench: &Bench) -> Result<PathBuf> {
    let root = bench.directory.join("a");
    make_once(&root, |root| {
        let mut random = 1_u64;
        for number in 0..10_000 {
            let directory = root.join(format!("{:03}", number / 250));
            fs::create_dir_all(&directory)?;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number);
            let size = 1024 + (random >> 33) as usize % (15 * 1024);
            let byte = (random >> 48) as u8;
            fs::write(directory.join(format!("{number:05}")), vec![byte; size])?;
        }
        Ok(())
    })?;
    Ok(root)
}

/// A: many small files.
pub(super) fn many_small(bench: &Bench) -> Result<()> {
    let root = many_small_files(bench)?;
    println!("A: 10,000 files of 1-16 KiB");
    for (algorithm, sign, cache) in [
        ("rsa-2048", 8.5, Goal::Faster(5.0)),
        ("rsa-4096", 7.0, Goal::Faster(20.0)),
        ("p-256", 25.0, Goal::None),
    ] {
        let verify = Goal::Faster(2.4);
        let changed = Goal::Faster(50.0);
        let goals = Goals { sign: Goal::Faster(sign), verify, changed, cache };
        sign_and_verify(bench, &root, algorithm, goals)?;
    }
    Ok(())
}

/// B: 2,000 ELF files of this machine. Some compilers in /usr are as large as all files of a device, so
/// the set without them is measured, too.
pub(super) fn programs(bench: &Bench) -> Result<()> {
    for (name, largest, which) in
        [("b", u64::MAX, ""), ("b-small", 10 << 20, ", none larger than 10 MiB")]
    {
        let root = bench.directory.join(name);
        make_once(&root, |root| {
            let mut found = Vec::new();
            elf_files(Path::new("/usr"), largest, &mut found)?;
            ensure!(found.len() >= 2_000, "fewer than 2,000 ELF files in /usr");
            for (number, path) in found.iter().take(2_000).enumerate() {
                fs::copy(path, root.join(format!("{number:04}")))?;
            }
            Ok(())
        })?;
        let sizes = fs::read_dir(&root)?.map(|entry| Ok(entry?.metadata()?.len()));
        let bytes: u64 = sizes.sum::<Result<_>>()?;
        println!("B: 2,000 ELF files from /usr, {} MB{which}", bytes / 1_000_000);
        let none = Goals { sign: Goal::None, ..Goals::sign(0.0) };
        sign_and_verify(bench, &root, "rsa-2048", none)?;
        sign_and_verify(bench, &root, "rsa-4096", none)?;
        sign_and_verify(bench, &root, "p-256", Goals::sign(6.0))?;
    }
    Ok(())
}

/// C: one file of 2 GiB.
pub(super) fn one_large(bench: &Bench) -> Result<()> {
    let root = bench.directory.join("c");
    make_once(&root, |root| {
        let mut file = File::create(root.join("large"))?;
        let block: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte % 251) as u8).collect();
        (0..2048).try_for_each(|_| file.write_all(&block))?;
        Ok(())
    })?;
    println!("C: one file of 2 GiB");
    sign_and_verify(bench, &root, "rsa-2048", Goals::sign(1.2))?;
    sign_and_verify(bench, &root, "p-256", Goals::sign(1.2))
}

/// The goals; verifying and signing changed files matter for many small files.
#[derive(Debug, Clone, Copy)]
struct Goals {
    sign: Goal,
    verify: Goal,
    changed: Goal,
    /// Signing again with a cache, compared with signing without one.
    cache: Goal,
}

impl Goals {
    fn sign(times: f64) -> Self {
        let (verify, changed, cache) = (Goal::None, Goal::None, Goal::None);
        Self { sign: Goal::Faster(times), verify, changed, cache }
    }
}

fn sign_and_verify(bench: &Bench, root: &Path, algorithm: &str, goals: Goals) -> Result<()> {
    let keys = bench.keys(algorithm)?;
    let root_text = root.to_str().context("a path that is text")?;
    let key = format!("{keys}/ima_keys/x509_ima.key");
    let certificate = format!("{keys}/ima_keys/x509_ima.der");
    let clear = || clear(bench, root_text);
    let evmctl_sign = repeated(|| {
        clear()?;
        let mut evmctl = Command::new("evmctl");
        // evmctl changes directories: the key's path must be absolute
        evmctl.args(["ima_sign", "-r", "-a", "sha256", "-k", &key, root_text]);
        timed(evmctl.stderr(Stdio::null()))
    })?;
    let evmctl_verify = repeated(|| {
        timed(Command::new("sh").args([
            "-c",
            "find \"$0\" -type f -print0 | xargs -0 evmctl ima_verify -k \"$1\" 2>/dev/null",
            root_text,
            &certificate,
        ]))
    })?;

    let floor = floor(bench, &keys, root_text)?;
    let sign = ["sign", "--quiet", "--keys", &keys, root_text];
    let ours = bench.imactl(&sign, clear)?;
    let notes = above(&floor, "signing", ours)?;
    line(&format!("sign {algorithm}"), ours, "evmctl", evmctl_sign, goals.sign, &notes);

    let evmctl = ["evmctl", "ima_sign", "-r", "-a", "sha256", "-k", &key, root_text];
    let as_evmctl = bench.imactl(&evmctl, clear)?;
    let what = format!("evmctl ima_sign {algorithm}");
    line(&what, as_evmctl, "imactl sign", ours.seconds, Goal::None, "");

    if let Goal::Faster(_) = goals.cache {
        let cache = bench.directory.join("cache").join(algorithm);
        let cache = cache.to_str().context("a path that is text")?;
        let sign = ["sign", "--quiet", "--cache", cache, "--keys", &keys, root_text];
        // the first run fills it
        let cached = bench.imactl(&sign, clear)?;
        line(
            &format!("sign --cache {algorithm}"),
            cached,
            "without",
            ours.seconds,
            goals.cache,
            "",
        );
    }

    let verify = ["verify", "--quiet", "--keys", &keys, root_text];
    let ours = bench.imactl(&verify, || Ok(()))?;
    let notes = above(&floor, "verifying", ours)?;
    line(&format!("verify {algorithm}"), ours, "evmctl", evmctl_verify, goals.verify, &notes);

    let spoil = || {
        let mut command = Command::new(&bench.imactl);
        command.args(["clear", "--quiet"]).args(every_hundredth(root)?);
        run(command)
    };
    let changed = ["sign", "--quiet", "--changed", "--keys", &keys, root_text];
    let ours = bench.imactl(&changed, spoil)?;
    let what = format!("sign --changed {algorithm}");
    let notes = format!("{}, 1% changed", above(&floor, "keeping", ours)?);
    line(&what, ours, "evmctl", evmctl_sign, goals.changed, &notes);
    Ok(())
}

/// Removes the attributes of a tree.
pub(super) fn clear(bench: &Bench, root: &str) -> Result<()> {
    let mut command = Command::new(&bench.imactl);
    command.args(["clear", "--quiet", root]);
    run(command)
}

/// The minimum times possible.
pub(super) fn floor(bench: &Bench, keys: &str, root: &str) -> Result<Value> {
    let output = Command::new(&bench.floor).args([keys, root]).output()?;
    ensure!(output.status.success(), "floor: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The ratio of a time to the minimum.
fn above(floor: &Value, what: &str, ours: Measure) -> Result<String> {
    let floor = floor[what].as_f64().with_context(|| format!("floor of {what}"))?;
    Ok(format!("floor {floor:.2} s: {:.2}x", ours.seconds / floor))
}

/// Fills a directory, unless an earlier run filled it.
pub(super) fn make_once(root: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    let staging = root.with_extension("new");
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    fs::create_dir_all(&staging)?;
    fill(&staging)?;
    Ok(fs::rename(staging, root)?)
}

fn every_hundredth(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => directories.push(path),
                false => paths.push(path),
            }
        }
    }
    paths.sort();
    Ok(paths.into_iter().step_by(100).collect())
}

/// ELF files below a directory, in the order of their names; links are not followed.
fn elf_files(directory: &Path, largest: u64, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            elf_files(&path, largest, found)?;
        } else if kind.is_file() && entry.metadata()?.len() <= largest {
            let mut magic = [0; 4];
            let read = File::open(&path).and_then(|mut file| file.read_exact(&mut magic));
            if read.is_ok() && magic == *b"\x7fELF" {
                found.push(path);
            }
        }
    }
    Ok(())
}
