//! The extensible SDK of an image, without the toolchain that only a real build can give it: what the SDK's build
//! directory is made of, and what its installer builds there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Result};

use super::build::Build;
use super::leaks::{self, Secret};
use super::{image, store_secrets};
use crate::output;

/// Variables that name files of this machine, which an SDK for another one would not have.
const ALLOWED: &str =
    "ESDK_LOCALCONF_ALLOW = \"BBMASK FAKEROOTCMD HOST_WIC IMACTL_PROGRAMS PSEUDO_IGNORE_PATHS\"\n";
/// In the build, the recipes of imactl are replaced by those of the other directory.
const MASKED: [&str; 2] = ["/meta-integrity/recipes-support/imactl/", "/meta-host/recipes/imactl/"];

/// Makes an SDK with this configuration, and installs it: all tasks that sign come from shared state, because the
/// SDK has no private key. Its parser finds the sources of imactl's own recipes.
pub(super) fn extensible(
    build: &Build,
    configuration: &str,
    store: &Path,
    secrets: &[Secret],
) -> Result<()> {
    build.configure_in_one(&format!("{ALLOWED}{configuration}"))?;
    build.bitbake(&["lab-image"])?;
    build.bitbake(&["-c", "lab_sdk", "lab-image"])?;
    let made = build.variable("lab-image", "SDK_OUTPUT")?.trim().to_owned()
        + build.variable("lab-image", "SDKPATH")?.trim();
    let place = build.directory().with_extension("sdk");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    output(Command::new("mv").arg(PathBuf::from(made)).arg(&place))?;
    leaks::check(&place, secrets)?;

    // the installer checks that shared state has all but the tasks of the image, and of key-store
    let sdk = build.sdk(&place)?;
    let mut installer = sdk.clone();
    installer.set_environment("BB_SETSCENE_ENFORCE", "1");
    let said = installer.bitbake(&["lab-image"])?;
    ensure!(!said.contains("but the sig is locked"), "tasks have other hashes: {said}");
    // and a developer builds the image
    let said = sdk.bitbake(&["lab-image"])?;
    ensure!(said.contains("files of the image would need the key"), "no list: {said}");
    let valid = image::valid_files(&sdk, store)?;
    for name in ["init", "busybox", "script", "imactl-init", "hostname"] {
        ensure!(valid.iter().any(|valid| valid == name), "{name} is not among {valid:?}");
    }

    let local = place.join("conf/local.conf");
    let text = fs::read_to_string(&local)?;
    ensure!(text.contains(MASKED[0]), "no {} in {text}", MASKED[0]);
    fs::write(&local, text.replace(MASKED[0], MASKED[1]))?;
    for recipe in ["imactl", "imactl-init"] {
        let sources = sdk.variable(recipe, "SRC_URI")?;
        ensure!(sources.contains("file://Cargo.lock;"), "sources of {recipe}: {sources}");
    }
    fs::remove_dir_all(&place)?;
    Ok(())
}

/// The SDK of a build with sample keys.
pub(super) fn with_sample_keys(build: &Build) -> Result<()> {
    let store = build.sample_store();
    extensible(build, super::SAMPLE, &store, &store_secrets(&store, None)?)
}
