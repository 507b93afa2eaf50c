//! `imactl why` explains every cause in the kernels' sources, which are scanned for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};
use lab::kernel::{self, Series};
use lab::{host, programs};

/// An operation and a cause of a record.
type Pair = (String, String);

/// `security/integrity` of a kernel's source.
fn source(series: Series, to: &Path) -> Result<PathBuf> {
    let mut tar = host::command("tar", "tar")?;
    tar.args(["--extract", "--strip-components=1", "--wildcards", "--file"]);
    tar.arg(kernel::source_archive(series)?).arg("--directory").arg(to);
    host::run(tar.arg("*/security/integrity"))?;
    Ok(to.join("security/integrity"))
}

/// The string literals of a text.
fn literals(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// The text between `head` and the next `tail`, for each occurrence of `head`.
fn between<'a>(text: &'a str, head: &'a str, tail: char) -> impl Iterator<Item = &'a str> {
    text.split(head).skip(1).filter_map(move |rest| rest.split(tail).next())
}

/// The causes that a function assigns to a variable.
fn assigned(function: &str) -> Vec<String> {
    let mut causes = Vec::new();
    for name in ["cause = ", "cause[] = ", "errmsg = ", "tpm_audit_cause, AUDIT_CAUSE_LEN_MAX, "] {
        for value in between(function, name, ';') {
            causes.extend(literals(value).into_iter().map(str::to_owned));
        }
    }
    causes
}

/// All operations and causes that a file may report.
fn pairs(text: &str) -> BTreeSet<Pair> {
    let mut found = BTreeSet::new();
    let states: Vec<_> =
        between(text, "integrity_status_msg[] = {", '}').flat_map(literals).collect();
    // functions end with a brace in the first column
    for function in text.split("\n}\n") {
        let own = ["char op[] = ", "char *op = "].map(|head| between(function, head, ';'));
        let own = own.into_iter().flatten().flat_map(literals).next();
        let assigned = assigned(function);
        let mut recorded = false;
        for name in ["integrity_audit_msg(", "integrity_audit_message(", "ima_add_violation("] {
            for call in between(function, name, ';') {
                recorded = true;
                let told = literals(call);
                let hook = call.contains("func_measure_str(").then_some("measuring_key");
                // an operation passed by the caller is that of a list entry
                let is_variable = call.contains(" op,");
                let variable = is_variable.then(|| own.unwrap_or("add_template_measure"));
                let (operation, told) = match (variable.or(hook), told.split_first()) {
                    (Some(operation), _) => (operation, &told[..]),
                    (None, Some((operation, told))) => (*operation, told),
                    // a declaration
                    (None, None) => continue,
                };
                let mut causes: Vec<String> = told.iter().map(|&cause| cause.to_owned()).collect();
                if causes.is_empty() && call.contains("integrity_status_msg[") {
                    causes = states.iter().map(|&state| state.to_owned()).collect();
                } else if causes.is_empty() {
                    causes.clone_from(&assigned);
                }
                found.extend(causes.into_iter().map(|cause| (operation.to_owned(), cause)));
            }
        }
        // the cause is passed to the caller, which appraises
        if !recorded {
            found.extend(assigned.into_iter().map(|cause| ("appraise_data".to_owned(), cause)));
        }
    }
    found
}

fn all_pairs(directory: &Path) -> Result<BTreeSet<Pair>> {
    let mut found = BTreeSet::new();
    for part in ["", "ima", "evm"] {
        for entry in fs::read_dir(directory.join(part))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "c") {
                found.extend(pairs(&fs::read_to_string(path)?));
            }
        }
    }
    // the only cause that never reports a failure
    found.remove(&("policy_update".to_owned(), "completed".to_owned()));
    Ok(found)
}

fn asks_of_each(series: Series) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let pairs = all_pairs(&source(series, directory.path())?)?;
    let count = |operation: &str| pairs.iter().filter(|(known, _)| known == operation).count();
    // make sure that the scan found something
    for (operation, least) in [
        ("appraise_data", 13),
        ("collect_data", 5),
        ("set_data", 2),
        ("policy_update", 2),
        ("update_policy", 2),
        ("add_template_measure", 3),
        ("invalid_pcr", 2),
        ("appraise_metadata", 7),
        ("measuring_key", 4),
    ] {
        ensure!(count(operation) >= least, "{series}: {operation}: {pairs:#?}");
    }
    let mut log = String::new();
    for (operation, cause) in &pairs {
        let cause = cause.replace("%d", "-62");
        log += &format!(
            "type=1800 audit(1.2:3): pid=1 uid=0 op={operation} cause={cause} comm=\"x\" res=0\n"
        );
    }
    let path = directory.path().join("log");
    fs::write(&path, log)?;
    let told = programs::imactl()?.arg("why").arg("--audit-log").arg(&path).output()?;
    let told = String::from_utf8(told.stdout)?;
    let unknown: Vec<_> = told
        .lines()
        .zip(told.lines().skip(1))
        .filter(|(_, why)| why.contains("a cause that imactl does not know"))
        .filter_map(|(head, _)| head.split(" (").next())
        .collect();
    ensure!(unknown.is_empty(), "{series}: {unknown:#?}");
    let explained = told.lines().filter(|line| line.starts_with("  why")).count();
    ensure!(explained == pairs.len(), "{series}: {explained} of {}: {told}", pairs.len());
    Ok(())
}

#[test]
fn each_cause_of_the_kernels_is_known() {
    for series in Series::ALL {
        lab::scenario::run_on_host(|| asks_of_each(series));
    }
}
