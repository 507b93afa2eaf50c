//! The recipes of imactl and imactl-init: sources and crates as BitBake fetches and unpacks them, compiled by
//! cargo without a network. A file missing from the recipe is detected here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::build::{layer, Build};
use crate::{cargo, root, run};

/// A recipe, and the packages that its `CARGO_BUILD_FLAGS` select.
const RECIPES: [(&str, &[&str]); 2] = [
    // with the package that the native recipe adds
    (
        "imactl",
        &["--package", "imactl", "--bins", "--no-default-features", "--package", "imactl-manual"],
    ),
    ("imactl-init", &["--package", "imactl-init", "--features", "start"]),
];

pub(super) fn check(build: &Build) -> Result<()> {
    let downloads = build.directory().join("downloads");
    offer_crates(&downloads)?;
    build.give(&downloads)?;
    for (name, options) in RECIPES {
        let recipe = layer().join(format!("recipes-support/imactl/{name}_0.1.0.bb"));
        let recipe = recipe.display().to_string();
        build.bitbake(&["-b", &recipe, "-c", "unpack", "-f"])?;
        let path =
            |variable| build.variable(name, variable).map(|value| PathBuf::from(value.trim()));
        let (source, home) = (path("S")?, path("CARGO_HOME")?);
        // do_configure of the class cargo_common
        let vendored = shared(&home.join("bitbake"))?;
        let config = format!(
            "[source.bitbake]\ndirectory = {vendored:?}\n\n[source.crates-io]\nreplace-with = \"bitbake\"\n"
        );
        fs::write(home.join("config.toml"), config)?;
        for member in build.variable(name, "IMACTL_MEMBERS")?.split_whitespace() {
            let sources = source.join(member).join("src");
            fs::create_dir_all(&sources)?;
            fs::write(sources.join("lib.rs"), "")?;
        }
        // the next run unpacks again
        build.give(&source)?;
        // do_compile, without code generation
        let mut compile = cargo(&["check", "--quiet", "--frozen", "--offline", "--target-dir"]);
        compile.arg(root().join("target/recipe")).args(options);
        compile.current_dir(&source).env("CARGO_HOME", &home);
        // imactl-init has no std, and so cannot unwind
        compile.env("CARGO_PROFILE_DEV_PANIC", "abort");
        run(compile).with_context(|| format!("the sources of {name}"))?;
    }
    Ok(())
}

/// A link with the same path for all series and recipes: cargo recompiles a crate if its source has another
/// path.
fn shared(vendored: &Path) -> Result<PathBuf> {
    let link = root().join("target/recipe-crates");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    symlink(vendored, &link)?;
    Ok(link)
}

/// Lets BitBake find the crates that cargo downloaded for this workspace; BitBake checks their hashes.
fn offer_crates(downloads: &Path) -> Result<()> {
    run(cargo(&["fetch", "--quiet", "--locked"]))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let cache = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/cache");
    fs::create_dir_all(downloads)?;
    for registry in fs::read_dir(&cache).with_context(|| cache.display().to_string())? {
        for file in fs::read_dir(registry?.path())? {
            let file = file?;
            fs::copy(file.path(), downloads.join(file.file_name()))?;
        }
    }
    Ok(())
}
