//! Speed compared with other programs, measured in one run: ratios, not claims.

mod fleet;
mod images;
mod manifests;
mod measurements;
mod packages;
mod preflight;
mod token;
mod trees;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};

use crate::{cargo, root, run};

/// A benchmark: its name, and its function.
type Benchmark = (&'static str, fn(&Bench) -> Result<()>);

const BENCHMARKS: &[Benchmark] = &[
    ("a", trees::many_small),
    ("b", trees::programs),
    ("c", trees::one_large),
    ("preflight", preflight::large_root),
    ("packages", packages::packages),
    ("images", images::images),
    ("manifests", manifests::manifests),
    ("measurements", measurements::measurements),
    ("fleet", fleet::fleet),
    ("boot", boot),
    ("token", token::token),
];

/// The environment of benchmarks.
pub(crate) struct Bench {
    /// The release build of the program.
    imactl: PathBuf,
    /// The program that measures the minimum time.
    floor: PathBuf,
    /// The directory of the input files, outside the checkout; kept for the next run.
    directory: PathBuf,
}

/// Runs all benchmarks, or those named.
pub(crate) fn bench(names: &[String]) -> Result<()> {
    run(cargo(&["build", "--release", "--package", "imactl"]))?;
    let examples = ["--example", "floor", "--example", "measurement_list"];
    run(cargo(&[&["build", "--release", "--package", "ima"], &examples[..]].concat()))?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let directory = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let bench = Bench {
        imactl: root().join("target/release/imactl"),
        floor: root().join("target/release/examples/floor"),
        directory: directory.join("imactl/bench"),
    };
    fs::create_dir_all(&bench.directory)?;
    for (name, benchmark) in BENCHMARKS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            benchmark(&bench)?;
        }
    }
    Ok(())
}

/// The cost of imactl-init in a boot; the lab measures it in its machines.
fn boot(_: &Bench) -> Result<()> {
    println!("\nboot, under QEMU without KVM");
    run(cargo(&["run", "--quiet", "--package", "lab", "--", "bench"]))
}

/// The maximum number of runs of a program; the best time counts. Slow programs run less often.
const RUNS: u32 = 3;
const LONG: f64 = 20.0;

/// The best time of several runs, and the peak memory.
#[derive(Debug, Clone, Copy)]
struct Measure {
    seconds: f64,
    /// The largest resident set, in KiB.
    memory: u64,
}

impl Bench {
    /// Runs imactl several times; `before` runs before each, untimed.
    fn imactl(&self, args: &[&str], before: impl Fn() -> Result<()>) -> Result<Measure> {
        let mut memory = 0;
        let seconds = repeated(|| {
            before()?;
            let mut command = Command::new("/usr/bin/time");
            command.args(["--format", "%M"]).arg(&self.imactl).args(args);
            let start = Instant::now();
            let output = command.output().context("/usr/bin/time (Debian: time)")?;
            let seconds = start.elapsed().as_secs_f64();
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{command:?}: {stderr}");
            memory = memory.max(stderr.lines().last().unwrap_or_default().parse()?);
            Ok(seconds)
        })?;
        Ok(Measure { seconds, memory })
    }

    /// A key store for benchmarks, made once.
    fn keys(&self, algorithm: &str) -> Result<String> {
        let store = self.directory.join(format!("keys-{algorithm}"));
        let store_text = store.to_str().context("a path that is text")?.to_owned();
        if !store.exists() {
            let args = ["keys", "create", "--quiet", "--sample", "--algorithm", algorithm];
            let mut command = Command::new(&self.imactl);
            command.args(args).arg(&store).stderr(Stdio::null());
            run(command)?;
        }
        Ok(store_text)
    }
}

/// The best time of several runs, for imactl and its peers alike.
fn repeated(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let seconds = run()?;
        best = best.min(seconds);
        if seconds > LONG {
            break;
        }
    }
    Ok(best)
}

/// The time of one run of another program.
fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdout(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(seconds)
}

/// The ratio that the project aims for.
#[derive(Debug, Clone, Copy)]
enum Goal {
    None,
    /// At least this many times faster than the peer.
    Faster(f64),
}

/// Prints a line: benchmark, our time, the peer's time, the ratio, and notes.
fn line(what: &str, ours: Measure, peer: &str, theirs: f64, goal: Goal, notes: &str) {
    let ratio = theirs / ours.seconds;
    let goal = match goal {
        Goal::None => String::new(),
        Goal::Faster(least) if ratio >= least => format!("(goal {least}x: reached)"),
        Goal::Faster(least) => format!("(goal {least}x: MISSED)"),
    };
    println!(
        "  {what:<24} imactl {:>7.2} s   {peer} {theirs:>7.2} s   {ratio:>6.1}x {goal:<23} {:>5.1} MiB   {notes}",
        ours.seconds,
        ours.memory as f64 / 1024.0,
    );
}
