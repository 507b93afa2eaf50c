//! The crates that the layer's recipes fetch: Cargo.lock in the form of OpenEmbedded's class
//! cargo-update-recipe-crates. Also checks that the oldest supported Rust accepts them, and that they are
//! from crates.io with allowed licences (cargo-deny checks the same, but takes longer to build than the
//! workspace).

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use serde::Deserialize;

use crate::{cargo, output, root};

const LIST: &str = "meta-integrity/recipes-support/imactl/imactl-crates.inc";
/// The sources that the recipes fetch.
const SOURCES: &str = "meta-integrity/recipes-support/imactl/imactl-files.inc";

/// `cargo xtask crates [--check]`: writes the list, or checks that it is up to date.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let path = root().join(LIST);
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?;
    let wanted = list(&lock).context("Cargo.lock")?;
    let metadata = metadata()?;
    check_rust(&metadata)?;
    check_origin(&metadata)?;
    check_members(&metadata)?;
    match arguments {
        [] => fs::write(&path, wanted).context(LIST),
        [check] if check == "--check" => {
            ensure!(
                fs::read_to_string(&path).context(LIST)? == wanted,
                "{LIST} is not what Cargo.lock says; cargo xtask crates writes it"
            );
            Ok(())
        }
        _ => bail!("usage: cargo xtask crates [--check]"),
    }
}

/// The output of `cargo metadata` for the packages in Cargo.lock, on all platforms.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    edition: String,
    rust_version: Option<String>,
    license: Option<String>,
    /// `None` for packages of this workspace.
    source: Option<String>,
    dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// The only registry, and the allowed licences.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn metadata() -> Result<Metadata> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_slice(&text).context("cargo metadata")
}

/// Rejects crates that need a newer Rust than the workspace's `rust-version`.
///
/// BitBake gives cargo a directory with all of them, including those that only other platforms or tests
/// need, and cargo parses every manifest there. It fails on an edition that it does not know; and a crate
/// of that edition need not have a `rust-version` that the resolver could check.
fn check_rust(metadata: &Metadata) -> Result<()> {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let mut refused = String::new();
    for Package { name, version, edition, rust_version, .. } in &metadata.packages {
        if !["2015", "2018", "2021"].contains(&edition.as_str()) {
            write!(refused, "\n  {name} {version}: edition {edition}")?;
        } else if rust_version.as_deref().is_some_and(|wanted| minor(wanted) > minor(oldest)) {
            let wanted = rust_version.as_deref().unwrap_or_default();
            write!(refused, "\n  {name} {version}: Rust {wanted}")?;
        }
    }
    ensure!(
        refused.is_empty(),
        "Rust {oldest} does not take these of Cargo.lock; cargo update --precise:{refused}"
    );
    Ok(())
}

/// Checks that the recipes have the manifest of every member of the workspace: cargo builds nothing if one is missing.
fn check_members(metadata: &Metadata) -> Result<()> {
    let recipe = fs::read_to_string(root().join(SOURCES)).context(SOURCES)?;
    let listed: Vec<_> = recipe
        .split_whitespace()
        .map(|word| word.trim_matches('"'))
        .map(|word| word.strip_suffix("/Cargo.toml").unwrap_or(word))
        .collect();
    for Package { name, manifest_path, .. } in
        metadata.packages.iter().filter(|it| it.source.is_none())
    {
        let directory = manifest_path.parent().and_then(|it| it.strip_prefix(root()).ok());
        let directory = directory.and_then(Path::to_str).with_context(|| name.to_owned())?;
        ensure!(listed.contains(&directory), "{SOURCES} does not have {directory}/Cargo.toml");
    }
    Ok(())
}

/// Rejects crates from elsewhere, with other licences, and wildcard dependencies.
fn check_origin(metadata: &Metadata) -> Result<()> {
    for Package { name, version, license, source, dependencies, .. } in &metadata.packages {
        let Some(source) = source else {
            let any = dependencies.iter().find(|it| it.req == "*" && it.path.is_none());
            if let Some(Dependency { name: any, .. }) = any {
                bail!("{name} depends on any version of {any}");
            }
            continue;
        };
        ensure!(source == REGISTRY, "{name} {version} is from {source}, not from crates.io");
        let license = license.as_deref().unwrap_or("unknown");
        ensure!(
            is_allowed(&license.replace('/', " OR ")),
            "{name} {version}: licence {license} is not among those of xtask/src/crates.rs"
        );
    }
    Ok(())
}

/// Whether an SPDX expression offers a combination of allowed licences.
fn is_allowed(expression: &str) -> bool {
    let is_term = |term: &str| {
        let term = term.trim();
        match term.strip_prefix('(').and_then(|term| term.strip_suffix(')')) {
            Some(inner) => is_allowed(inner),
            None => LICENCES.contains(&term),
        }
    };
    split(expression, " OR ").iter().any(|choice| split(choice, " AND ").into_iter().all(is_term))
}

/// The parts of an expression between operators outside of parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

/// The first two numbers of a Rust version.
fn minor(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[derive(Debug, Default)]
struct Crate<'a> {
    name: &'a str,
    version: &'a str,
    source: Option<&'a str>,
    checksum: Option<&'a str>,
}

/// The include file for this lock file.
fn list(lock: &str) -> Result<String> {
    let mut text = String::from(
        "# Autogenerated with 'bitbake -c update_crates imactl'\n\n# from Cargo.lock\nSRC_URI += \" \\\n",
    );
    let mut checksums = String::new();
    for package in lock.split("[[package]]\n").skip(1) {
        let found = read(package);
        // a member of the workspace has no source
        let Some(source) = found.source else { continue };
        let Crate { name, version, checksum, .. } = found;
        ensure!(!name.is_empty() && !version.is_empty(), "a package without name or version");
        ensure!(source.contains("crates.io"), "{name} {version} comes from {source}");
        let checksum = checksum.with_context(|| format!("{name} {version} has no checksum"))?;
        writeln!(text, "    crate://crates.io/{name}/{version} \\")?;
        write!(checksums, "\nSRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"")?;
    }
    Ok(text + "\"\n" + &checksums + "\n")
}

fn read(package: &str) -> Crate<'_> {
    let mut found = Crate::default();
    for line in package.lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"');
        match key {
            "name" => found.name = value,
            "version" => found.version = value,
            "source" => found.source = Some(value),
            "checksum" => found.checksum = Some(value),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_allowed_if_one_choice_is() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", true),
            ("unknown", false),
        ] {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn lists_what_is_fetched_and_nothing_of_the_workspace() {
        let lock = format!(
            "version = 3\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{REGISTRY}\"\n\
             checksum = \"00ff\"\ndependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"own\"\n\
             version = \"0.1.0\"\n"
        );
        assert_eq!(
            list(&lock).unwrap(),
            "# Autogenerated with 'bitbake -c update_crates imactl'\n\n# from Cargo.lock\n\
             SRC_URI += \" \\\n    crate://crates.io/a/1.0.0 \\\n\"\n\n\
             SRC_URI[a-1.0.0.sha256sum] = \"00ff\"\n"
        );
    }

    #[test]
    fn refuses_editions_and_crates_that_the_oldest_rust_does_not_know() {
        let package = |edition: &str, rust_version: Option<&str>| Metadata {
            packages: vec![Package {
                name: "a".into(),
                version: "1.0.0".into(),
                edition: edition.into(),
                rust_version: rust_version.map(str::to_owned),
                license: None,
                source: None,
                dependencies: Vec::new(),
                manifest_path: "Cargo.toml".into(),
            }],
        };
        let refusal = |metadata| check_rust(&metadata).err().map(|error| error.to_string());
        assert_eq!(refusal(package("2021", None)), None);
        assert_eq!(refusal(package("2018", Some("1.75.0"))), None);
        assert!(refusal(package("2021", Some("1.76"))).unwrap().contains("a 1.0.0: Rust 1.76"));
        assert!(refusal(package("2021", Some("2.0"))).is_some());
        assert!(refusal(package("2024", None)).unwrap().contains("a 1.0.0: edition 2024"));
    }

    #[test]
    fn refuses_what_bitbake_could_not_fetch_as_a_crate() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"git+https://example.org/a\"\n";
        assert!(list(lock).unwrap_err().to_string().contains("git+https"));
    }
}
