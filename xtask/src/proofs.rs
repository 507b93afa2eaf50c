//! `docs/seed.md` names a place and a proof in each row. This detects tests, files and variables of the layer
//! that were renamed or removed.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

use crate::root;

const PAGE: &str = "docs/seed.md";

/// Checks the names in backticks: in the last column a scenario or a module of the lab, a step of `xtask oe`, a
/// file, a cargo task; in the column before, a file of the layer or a word in one.
pub(crate) fn check() -> Result<()> {
    let mut tests = fs::read_to_string(root().join("xtask/src/oe/mod.rs"))?;
    read_all(&root().join("lab/tests"), &mut tests)?;
    let mut layer = String::new();
    for part in ["classes", "conf", "lib", "recipes-core", "recipes-devtools", "recipes-support"] {
        read_all(&root().join("meta-integrity").join(part), &mut layer)?;
    }
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let (mut rows, mut unknown) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let mut cells = row.trim_end_matches([' ', '|']).rsplit('|').map(names);
        let (proofs, places) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        ensure!(!proofs.is_empty(), "{PAGE}: no proof: {row}");
        rows += 1;
        unknown.extend(proofs.into_iter().filter(|name| !is_known(name, &tests)));
        let places = places.into_iter().filter(|name| !name.starts_with("imactl "));
        unknown.extend(places.filter(|name| !layer.contains(name)));
    }
    ensure!(rows > 40, "{PAGE}: {rows} rows");
    ensure!(unknown.is_empty(), "{PAGE} names what is not there: {}", unknown.join(", "));
    Ok(())
}

/// The words in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
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

/// The paths and the text of all files below a directory.
fn read_all(directory: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, text)?;
        } else {
            let content = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            // BitBake's name of a recipe
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = stem.split('_').next().unwrap_or_default();
            *text += &format!("{}\n{}", path.display(), content.replace("${PN}", name));
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
        assert_eq!(names(" `one`, two, `three four` "), ["one", "three four"]);
    }
}
