//! Everything that CI checks, and one line at the end that sums it up.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::{cargo, fuzz, init, kernels, layer, lint, python, varied};

/// A part of the test run: its name, and what it does.
type Part = (&'static str, fn(&mut Counts) -> Result<()>);

const PARTS: &[Part] = &[
    ("lint", |_| lint(&[])),
    ("crates", |counts| {
        python::environment("python", "xtask/python-requirements.txt")?;
        cargo_test(&["--workspace", "--exclude", "lab", "--no-fail-fast"], counts)
    }),
    ("varied", varied::run),
    ("fuzz", |counts| {
        // a workspace of its own
        cargo_test(&["--manifest-path", "fuzz/Cargo.toml", "--no-default-features"], counts)?;
        fuzz::run(&["--seconds".into(), "3".into()])
    }),
    ("init", |_| init::run(&["--all".into()])),
    ("layer", |_| layer::check()),
    ("lab", |counts| {
        kernels(&[])?;
        cargo_test(&["--package", "lab", "--no-fail-fast"], counts)
    }),
];

#[derive(Debug, Default)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs all parts, or those named; one that fails does not keep the others from running.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        let known: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("no part {unknown}; there are {}", known.join(", "));
    }
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for (name, part) in PARTS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("== {name}");
        let start = Instant::now();
        if let Err(error) = part(&mut counts) {
            eprintln!("== {name}: {error:#}");
            broken.push(*name);
        }
        eprintln!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    // a part that broke without a failed test, such as lint, is a failure of its own
    let Counts { passed, failed, ignored } = counts;
    let failed = failed.max(broken.len() as u64);
    println!("{passed} passed, {failed} failed, {ignored} skipped");
    if !broken.is_empty() {
        bail!("failed: {}", broken.join(", "));
    }
    Ok(())
}

/// Runs `cargo test`, passing its output on and adding up its results.
fn cargo_test(args: &[&str], counts: &mut Counts) -> Result<()> {
    count(cargo(&["test"]).args(args), counts)
}

pub(crate) fn count(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test")?;
    let stdout = child.stdout.take().context("no pipe")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        // test result: ok. 15 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; ...
        let Some(results) = line.strip_prefix("test result: ") else { continue };
        let words: Vec<_> = results.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" => counts.ignored += number,
                _ => {}
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
