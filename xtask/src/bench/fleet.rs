//! The Spark job for fleets, compared with the program that is run for each machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use anyhow::{ensure, Context, Result};

use super::trees::make_once;
use super::{repeated, Bench};
use crate::fleet::{Module, Profile};
use crate::{root, run};

const MACHINES: u32 = 200;
const ENTRIES: u32 = 5_000;

/// Verifies the lists and quotes of many machines, and writes one table.
pub(super) fn fleet(bench: &Bench) -> Result<()> {
    let cores = available_parallelism()?.get();
    println!("Fleet: {MACHINES} machines, {ENTRIES} entries each, {cores} cores");
    let module = Module::build(Profile::Release)?;
    let python = || {
        let mut command = module.python();
        command.env("IMACTL_FLEET", format!("{MACHINES},{ENTRIES}"));
        command.arg("-B").arg(root().join("xtask/bench/fleet.py"));
        command
    };
    let directory = bench.directory.join("fleet");
    make_once(&directory, |directory| {
        let mut command = python();
        command.arg(directory);
        run(command)
    })?;
    let job = repeated(|| {
        let mut command = python();
        let output = command.arg(&directory).arg(cores.to_string()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        text.lines().last().unwrap_or_default().parse().context("seconds")
    })?;
    let alone = repeated(|| alone(bench, &directory, cores))?;
    let entries = f64::from(MACHINES * (ENTRIES + 1));
    let rate = |seconds: f64| entries / seconds / cores as f64;
    println!(
        "  {:<24} job {job:>10.2} s   imactl {alone:>7.2} s   {:>6.2}x   {:.0} and {:.0} entries/s per core",
        "verify, write a table",
        alone / job,
        rate(job),
        rate(alone),
    );
    Ok(())
}

/// The same with a process per machine: `log verify` and `log convert --to parquet`, one thread each.
fn alone(bench: &Bench, directory: &Path, cores: usize) -> Result<f64> {
    let mut machines =
        fs::read_dir(directory.join("input"))?.collect::<std::io::Result<Vec<_>>>()?;
    machines.sort_by_key(fs::DirEntry::path);
    let tables = directory.join("tables");
    fs::create_dir_all(&tables)?;
    let work = |core: usize| -> Result<()> {
        for machine in machines.iter().skip(core).step_by(cores) {
            let file = |name: &str| machine.path().join(name);
            let mut verify = Command::new(&bench.imactl);
            verify.args(["log", "verify", "--quiet", "--jobs", "1", "--pcrs"]).arg(file("pcrs"));
            if file("quote").exists() {
                verify.arg("--quote").arg(file("quote")).arg("--signature").arg(file("signature"));
                let nonce = fs::read_to_string(file("nonce")).unwrap_or_default();
                verify.arg("--ak").arg(file("ak")).args(["--nonce", &nonce]);
            }
            let mut convert = Command::new(&bench.imactl);
            convert.args(["log", "convert", "--quiet", "--to", "parquet", "--machine"]);
            convert.arg(machine.file_name()).arg("--manifest").arg(directory.join("manifest"));
            convert.arg("--output").arg(tables.join(machine.file_name()));
            for mut command in [verify, convert] {
                // some of the machines are broken, or do not agree with their quote
                command.arg(file("list")).output()?;
            }
        }
        Ok(())
    };
    let start = Instant::now();
    scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || work(core))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a thread panicked"),
        })
    })?;
    Ok(start.elapsed().as_secs_f64())
}
