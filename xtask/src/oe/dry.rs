//! Task graphs (`bitbake -g`) of images with all of oe-core: every recipe must parse, and every task must have a
//! provider for each of its dependencies. The README's first image, an image for development, those of the kas
//! files, and the layer next to those of others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use super::build::{layer, Build, Checkout};

/// Settings that are only needed for a build without a network.
const OFFLINE: &str = "BB_NO_NETWORK = \"1\"\nCONNECTIVITY_CHECK_URIS = \"\"\n\
    SANITY_TESTED_DISTROS = \"\"\nINHERIT_DISTRO:remove = \"uninative\"\n\
    BB_NUMBER_THREADS = \"2\"\nBB_NUMBER_PARSE_THREADS = \"2\"\n";

/// The first image of the README, with its lines for `local.conf` and no others.
pub(super) fn first_image(checkout: &Checkout, builds: &Path) -> Result<()> {
    let readme = fs::read_to_string(layer().join("README.md"))?;
    let block = readme.split("In `conf/local.conf`:\n\n```\n").nth(1);
    let text = block.and_then(|rest| rest.split("```").next()).context("README.md: local.conf")?;
    let build = Build::whole(checkout, builds, "first-image", &[], OFFLINE)?;
    build.configure(text)?;
    for arguments in [
        &["core-image-minimal"][..],
        &["integrity-image-minimal"],
        &["-c", "populate_sdk", "core-image-minimal"],
        &["-c", "populate_sdk_ext", "core-image-minimal"],
    ] {
        resolves(&build, arguments)?;
    }
    build.configure(&format!(
        "{text}IMAGE_CLASSES += \"testimage\"\nTEST_SUITES:append = \" ima\"\nIMA_EVM = \"portable\"\n"
    ))?;
    resolves(&build, &["-c", "testimage", "core-image-minimal"])?;
    let usual = "require conf/distro/include/integrity.inc\nSIGNING_MODEL = \"sample\"\n";
    ensure!(text.contains(usual), "README.md: no line {usual}");
    build.configure(&text.replace(usual, "require conf/distro/include/integrity-devel.inc\n"))?;
    resolves(&build, &["core-image-minimal"])?;
    let words = build.variable("core-image-minimal", "QB_KERNEL_CMDLINE_APPEND")?;
    ensure!(words.contains("ima_appraise=log"), "integrity-devel.inc: the command line is {words}");
    Ok(())
}

/// Files to combine, as the first lines of each recommend: each is in one combination.
const KAS: [&[&str]; 3] =
    [&["qemux86-64", "full-cmdline"], &["qemuarm64", "musl", "ci"], &["qemuarm", "sysvinit"]];

/// The images that the kas files build, with their lines for `local.conf`.
pub(super) fn kas(checkout: &Checkout, builds: &Path) -> Result<()> {
    let build = Build::whole(checkout, builds, "kas", &[], OFFLINE)?;
    for names in KAS {
        let (target, text) = combined(names)?;
        build.configure(&text)?;
        resolves(&build, &[target.as_str()]).with_context(|| names.join(", "))?;
    }
    Ok(())
}

/// The image that these files build together, and their lines for `local.conf`.
fn combined(names: &[&str]) -> Result<(String, String)> {
    let (mut target, mut machine, mut blocks) = (None, None, BTreeMap::new());
    for name in [&["base"], names].concat() {
        let path = layer().join(format!("kas/{name}.yml"));
        let file = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if let Some((_, rest)) = file.split_once("\ntarget:\n  - ") {
            target = rest.lines().next().map(str::to_owned);
        }
        let named = file.lines().find_map(|line| line.strip_prefix("machine: "));
        machine = named.map(str::to_owned).or(machine);
        let mut block = String::new();
        let header = file.split("\nlocal_conf_header:\n").nth(1).unwrap_or_default();
        for line in header.lines() {
            if let Some(name) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(": |")) {
                block = name.to_owned();
            } else if let Some(line) = line.strip_prefix("    ") {
                *blocks.entry(block.clone()).or_insert_with(String::new) += &format!("{line}\n");
            }
        }
    }
    let machine = format!("MACHINE = \"{}\"\n", machine.context("no machine")?);
    // kas sorts the blocks by their names
    let blocks: Vec<_> = blocks.into_values().collect();
    Ok((target.context("no target")?, machine + &blocks.concat()))
}

/// Layers of others: their checkout next to oe-core, a directory for each layer, and the packages to build.
const OTHERS: [(&str, &[&str], &str); 2] = [
    (
        "meta-secure-core",
        &[
            "meta-secure-core-common",
            "meta-signing-key",
            "meta-efi-secure-boot",
            "meta-encrypted-storage",
            "meta-tpm2",
            "meta-ids",
        ],
        "DISTRO_FEATURES:append = \" efi-secure-boot tpm2 luks\"\n",
    ),
    (
        "meta-security",
        &["", "meta-tpm", "meta-hardening", "meta-parsec"],
        "DISTRO_FEATURES:append = \" security tpm2\"\n",
    ),
];
/// Layers of meta-openembedded that these depend on.
const OPENEMBEDDED: [&str; 4] = ["meta-oe", "meta-python", "meta-perl", "meta-networking"];

/// Builds next to other layers, except for their counterparts of this one, if the series has a checkout of them.
pub(super) fn next_to_others(checkout: &Checkout, builds: &Path) -> Result<()> {
    for (name, layers, features) in OTHERS {
        let (others, core) = (checkout.beside(name), checkout.beside("meta-oe"));
        if !others.exists() || !core.exists() {
            eprintln!("   SKIPPED: no {} or no {}", others.display(), core.display());
            continue;
        }
        let core = OPENEMBEDDED.map(|layer| core.join(layer));
        let others: Vec<PathBuf> = layers.iter().map(|layer| others.join(layer)).collect();
        let layers = [&core[..], &others].concat();
        let build = Build::whole(checkout, builds, name, &layers, OFFLINE)?;
        build.configure(&format!(
            "MACHINE = \"qemux86-64\"\nINIT_MANAGER = \"systemd\"\n\
             require conf/distro/include/integrity.inc\nSIGNING_MODEL = \"sample\"\n\
             CORE_IMAGE_EXTRA_INSTALL += \"packagegroup-ima packagegroup-ima-tools\"\n{features}"
        ))?;
        resolves(&build, &["core-image-minimal"]).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Checks that BitBake resolves all dependencies of the arguments.
fn resolves(build: &Build, arguments: &[&str]) -> Result<()> {
    let graph = build.directory().join("task-depends.dot");
    if graph.exists() {
        fs::remove_file(&graph)?;
    }
    build.bitbake(&[&["-g"], arguments].concat())?;
    let text = fs::read_to_string(&graph).with_context(|| graph.display().to_string())?;
    let tasks = text.lines().filter(|line| line.contains("[label=")).count();
    ensure!(tasks > 0, "{arguments:?}: {} has no task", graph.display());
    eprintln!("   {}: {tasks} tasks", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A variable that one block sets must not lose the words that an earlier block added.
    #[test]
    fn no_block_of_the_kas_files_undoes_another() {
        for names in KAS {
            let (_, text) = combined(names).unwrap();
            assert!(text.contains("SIGNING_MODEL = "), "{names:?}: {text}");
            let mut added = Vec::new();
            for line in text.lines() {
                if let Some((name, _)) = line.split_once(" += ") {
                    added.push(name);
                } else if let Some((name, _)) = line.split_once(" = ") {
                    assert!(
                        !added.contains(&name),
                        "{names:?}: {name} is set after words were added"
                    );
                }
            }
        }
        let (target, text) = combined(KAS[0]).unwrap();
        assert_eq!(target, "core-image-full-cmdline");
        assert!(text.contains("package-management"), "{text}");
    }
}
