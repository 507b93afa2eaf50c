//! All checks of CI, and one line of summary at the end.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::counts::{count, Counts};
use crate::{cargo, fleet, fuzz, init, kernels, layer, lint, python, root, run as succeed};
use crate::{target_directory, varied};

/// A part of the test run: its name, and its function.
type Part = (&'static str, fn(&mut Counts) -> Result<()>);

const PARTS: &[Part] = &[
    ("lint", |_| lint(&[])),
    ("crates", |counts| {
        python::environment("python", "xtask/python-requirements.txt")?;
        cargo_test(&["--workspace", "--exclude", "lab", "--no-fail-fast"], counts)
    }),
    ("varied", varied::run),
    ("fuzz", |counts| {
        // a separate workspace
        cargo_test(&["--manifest-path", "fuzz/Cargo.toml", "--no-default-features"], counts)?;
        fuzz::run(&["--seconds".into(), "2".into()])
    }),
    ("fleet", fleet::run),
    ("init", |_| init::run(&["--all".into()])),
    ("layer", |_| layer::check()),
    ("lab", lab),
];

/// Runs all parts, or the named ones; a failure does not stop the others.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        let known: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("no part {unknown}; there are {}", known.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let ahead = wanted("lab").then(build_kernels_ahead).transpose()?;
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("== {name}");
        let start = Instant::now();
        if let Err(error) = part(&mut counts) {
            eprintln!("== {name}: {error:#}");
            broken.push(*name);
        }
        eprintln!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    if let Some(mut ahead) = ahead {
        ahead.wait().context("wait for the lab's kernels")?;
    }
    // a part that fails without a failed test, such as lint, counts as one failure
    let Counts { passed, failed, ignored } = counts;
    let failed = failed.max(broken.len() as u64);
    println!("{passed} passed, {failed} failed, {ignored} skipped");
    if !broken.is_empty() {
        bail!("failed: {}", broken.join(", "));
    }
    Ok(())
}

/// Runs the scenarios of a kernel while the next ones are still being built.
fn lab(counts: &mut Counts) -> Result<()> {
    // the first is a prefix of the second's
    const SCENARIOS: [(&str, &[&str]); 3] = [
        ("6.1", &["linux_6_1", "--skip", "linux_6_12"]),
        ("6.12", &["linux_6_12"]),
        ("7", &["--skip", "linux_6_1"]), // and all others; they wait for kernels of other architectures
    ];
    let mut results = Vec::new();
    for (series, scenarios) in SCENARIOS {
        kernels(&[series.to_owned()])?; // before scenarios fail one by one
        let test = ["--package", "lab", "--no-fail-fast", "--"];
        results.push(cargo_test(&[&test, scenarios].concat(), counts));
    }
    results.into_iter().collect()
}

/// Starts building the lab's kernels with the processor time that the other parts leave: with an empty cache
/// it takes half an hour. Scenarios wait for them, and report failures.
fn build_kernels_ahead() -> Result<Child> {
    // not `cargo run`: it would wait for cargo's locks, or hold them
    succeed(cargo(&["build", "--quiet", "--package", "lab-kernels"]))?;
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(target_directory().join("debug/lab-kernels"));
    nice.current_dir(root()).stdin(Stdio::null());
    nice.spawn().context("run nice (Debian's coreutils)")
}

/// Runs `cargo test`, passes its output on, and adds up its results.
fn cargo_test(args: &[&str], counts: &mut Counts) -> Result<()> {
    count(cargo(&["test"]).args(args), counts)
}
