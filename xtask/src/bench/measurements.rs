//! Measurement lists, compared with `evmctl ima_measurement` and Keylime's parser.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::manifests::{small_root, FILES};
use super::trees::{floor, make_once};
use super::{line, timed, Bench, Goal};
use crate::{python, root, run};

const ENTRIES: u32 = 1_000_000;
/// Signing them, once, takes minutes.
const SIGNED: u32 = 1_000_000;
/// The goal on two cores, in signatures per second.
const RATE: f64 = 110_000.0;

/// A million `ima-ng` entries, replayed in SHA-1 and SHA-256.
pub(super) fn measurements(bench: &Bench) -> Result<()> {
    println!("Measurement list: {ENTRIES} ima-ng entries, SHA-1 and SHA-256");
    let directory = bench.directory.join("measurements");
    let generator = root().join("target/release/examples/measurement_list");
    make_once(&directory, |directory| {
        let mut command = Command::new(&generator);
        command.arg(ENTRIES.to_string()).arg(directory.join("list"));
        run(command)
    })?;
    let list = directory.join("list");
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is text");
    let pcrs = ["sha1", "sha256"].map(|bank| format!("{bank},{}.{bank}", list.display()));
    let list = text(&list)?;

    let mut evmctl = Command::new("evmctl");
    evmctl.args(["ima_measurement", "--pcrs", &pcrs[0], "--pcrs", &pcrs[1], &list]);
    let theirs = timed(&mut evmctl)?;
    // evmctl does not verify boot_aggregate, which the zeros of the other PCRs do not result in: values of
    // PCR 10 alone
    let only = directory.join("pcrs");
    let (mut values, mut sha256) = (String::new(), String::new());
    for bank in ["sha1", "sha256"] {
        let file = std::fs::read_to_string(format!("{list}.{bank}"))?;
        let value = file.lines().find_map(|line| line.strip_prefix("PCR-10:")).context("PCR 10")?;
        values += &format!("{bank}:\n  10: 0x{value}\n");
        value.clone_into(&mut sha256);
    }
    std::fs::write(&only, values)?;
    let args = ["log", "verify", "--quiet", "--pcrs", &text(&only)?, &list];
    let ours = bench.imactl(&args, || Ok(()))?;
    line("verify", ours, "evmctl", theirs, Goal::Faster(4.0), "");
    keylime(bench, &list, &sha256)?;
    signatures(bench, &directory, &generator)
}

/// The same list in Keylime, which parses the ASCII form and replays one bank.
fn keylime(bench: &Bench, list: &str, value: &str) -> Result<()> {
    let tools = python::environment("python", "xtask/python-requirements.txt")?;
    let (text, pcrs) = (format!("{list}.ascii"), format!("{list}.pcr-10"));
    let convert = ["log", "convert", "--quiet", "--to", "ascii", "-o", &text, list];
    run({
        let mut command = Command::new(&bench.imactl);
        command.args(convert);
        command
    })?;
    std::fs::write(&pcrs, format!("sha256:\n  10: 0x{value}\n"))?;
    let mut python = Command::new(tools.join("bin/python"));
    let theirs = timed(python.arg(root().join("xtask/bench/replay.py")).args([&text, value]))?;
    let args = ["log", "verify", "--quiet", "--pcrs", &pcrs, &text];
    let ours = bench.imactl(&args, || Ok(()))?;
    line("verify, ASCII, SHA-256", ours, "keylime", theirs, Goal::None, "");
    Ok(())
}

/// Writes a file with the line of PCR 10 alone: the zeros of the others do not result in boot_aggregate.
fn pcr_10(list: &str, bank: &str) -> Result<String> {
    let (from, to) = (format!("{list}.{bank}"), format!("{list}.{bank}.pcr-10"));
    let text = std::fs::read_to_string(from)?;
    let line = text.lines().find(|line| line.starts_with("PCR-10:")).context("PCR 10")?;
    std::fs::write(&to, format!("{line}\n"))?;
    Ok(to)
}

/// `ima-sig` entries, each with its own RSA-2048 signature.
fn signatures(bench: &Bench, directory: &Path, generator: &Path) -> Result<()> {
    println!("Measurement list: {SIGNED} ima-sig entries with RSA-2048 signatures");
    let keys = bench.keys("rsa-2048")?;
    let directory = directory.with_file_name(format!("measurements-signed-{SIGNED}"));
    make_once(&directory, |directory| {
        let mut command = Command::new(generator);
        command.arg(SIGNED.to_string()).arg(directory.join("list")).arg(&keys);
        run(command)
    })?;
    let list = directory.join("list");
    let list = list.to_str().context("a path that is text")?;
    let certificate = format!("{keys}/ima_keys/x509_ima.der");
    let mut evmctl = Command::new("evmctl");
    evmctl.args(["ima_measurement", "--verify-sig", "--key", &certificate]);
    let theirs = timed(evmctl.args(["--pcrs", &format!("sha1,{list}.sha1"), list]))?;
    // as evmctl: the value of PCR 10 in one bank
    let pcrs = format!("sha1,{}", pcr_10(list, "sha1")?);
    let args = ["log", "verify", "--quiet", "--pcrs", &pcrs, "--cert", &certificate, list];
    let ours = bench.imactl(&args, || Ok(()))?;
    // the public-key operations alone, on all cores, for as many signatures as the small root has files
    let root = small_root(bench)?;
    let floor = floor(bench, &keys, root.to_str().context("a path that is text")?)?;
    let alone = floor["verify"].as_f64().context("floor of verify")?;
    let (rate, limit) = (f64::from(SIGNED) / ours.seconds, FILES as f64 / alone);
    let goal = if rate >= RATE { "reached" } else { "MISSED" };
    let part = rate / limit;
    let rate = format!("{rate:.0} signatures/s (goal {RATE:.0}: {goal}), {part:.2} of {limit:.0}");
    line("verify signatures", ours, "evmctl", theirs, Goal::None, &rate);
    Ok(())
}
