//! `docs/seed.md` names a proof in each row. This detects tests that were renamed or removed.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

use crate::root;

const PAGE: &str = "docs/seed.md";

/// Checks the names in backticks in the last column: a scenario or a module of the lab, a step of `xtask oe`,
/// a file, a cargo task.
pub(crate) fn check() -> Result<()> {
    let mut tests = fs::read_to_string(root().join("xtask/src/oe/mod.rs"))?;
    read_all(&root().join("lab/tests"), &mut tests)?;
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let (mut rows, mut unknown) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let proof = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let names: Vec<_> = proof.split('`').skip(1).step_by(2).collect();
        ensure!(!names.is_empty(), "{PAGE}: no proof: {row}");
        rows += 1;
        unknown.extend(names.into_iter().filter(|name| !is_known(name, &tests)));
    }
    ensure!(rows > 40, "{PAGE}: {rows} rows");
    ensure!(unknown.is_empty(), "{PAGE} names what is not there: {}", unknown.join(", "));
    Ok(())
}

fn is_known(name: &str, tests: &str) -> bool {
    let start = name.split(['*', ':']).next().unwrap_or_default();
    let places = ["", "crates/imactl/tests/cli"].map(|place| root().join(place).join(name));
    name.starts_with("cargo xtask ")
        || places.iter().any(|path| path.exists())
        || [format!("fn {start}"), format!("mod {start}"), format!("(\"{start}\"")]
            .iter()
            .any(|text| tests.contains(text.as_str()))
}

/// The text of all files below a directory.
fn read_all(directory: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, text)?;
        } else {
            text.push_str(&fs::read_to_string(&path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proof_is_there() {
        check().unwrap();
        assert!(is_known("some_scenario*", "fn some_scenario_of_many() {"));
        assert!(!is_known("some_scenario", "fn another_scenario() {"));
    }
}
