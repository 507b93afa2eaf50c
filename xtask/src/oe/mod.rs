//! The OpenEmbedded layer in a real BitBake, without a download: parsed with what it appends to,
//! built to packages and images that are verified, searched for secrets, and booted.
//!
//! | module | what it does |
//! |---|---|
//! | [`build`] | build directories, and BitBake in them |
//! | [`cases`] | what is refused, not left behind, and signed with |
//! | [`image`] | what is in the images and packages that came of it |
//! | [`leaks`] | looks for keys and passphrases in all that a build leaves behind |
//! | [`models`] | whose keys sign |
//! | [`recipe`] | the recipes of imactl and imactl-init, without OpenEmbedded's Rust |
//!
//! `IMACTL_OE_DIR` holds a directory for each series: `SERIES/oe-core` with bitbake in it. Builds
//! go to `IMACTL_OE_BUILD`, else `IMACTL_OE_DIR/build`. What cannot be built without downloads (the
//! kernel, imactl by the cargo classes) is not built: `xtask/oe` has the layer that stands in for it.

mod build;
mod cases;
mod image;
mod leaks;
mod models;
mod recipe;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::{cargo, init, root};
use build::{Build, Checkout};
use leaks::Secret;

const SERIES: [&str; 3] = ["scarthgap", "wrynose", "blacksail"];
/// The recipes that the layer appends to, whose appends must not dangle.
const APPENDED: [&str; 3] = ["base-files", "rpm", "systemd"];
/// Kernel recipes, which have what they need from the layer's class. (linux-yocto-tiny is a kernel of
/// oe-core only where it is the preferred one.)
const KERNELS: [&str; 3] = ["linux-yocto", "linux-yocto-dev", "linux-yocto-rt"];
/// For linux-yocto-dev, which asks the network for the newest commit.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Variables of another layer, whose defaults must stay.
const THEIRS: [&str; 5] = [
    "SIGNING_MODEL",
    "IMA_KEYS_DIR",
    "SYSTEM_TRUSTED_KEYS_DIR",
    "SECONDARY_TRUSTED_KEYS_DIR",
    "MODSIGN_KEYS_DIR",
];
const PASSPHRASE: &str = "Zwei-Huehner-auf-dem-Weg-nach-vorgestern";

/// `cargo xtask oe [SERIES...]`: the series named, else all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let directory = std::env::var_os("IMACTL_OE_DIR").map(PathBuf::from);
    let directory = directory.context("IMACTL_OE_DIR names no directory of checkouts")?;
    let build = std::env::var_os("IMACTL_OE_BUILD").map(PathBuf::from);
    let build = build.unwrap_or_else(|| directory.join("build"));
    if let Some(unknown) = arguments.iter().find(|name| !SERIES.contains(&name.as_str())) {
        bail!("no series {unknown}; the layer is for {}", SERIES.join(", "));
    }
    let programs = programs()?;
    for series in SERIES {
        if arguments.is_empty() || arguments.iter().any(|name| name == series) {
            let checkout = Checkout::find(&directory, series)?;
            check(&checkout, &build, &programs).with_context(|| series.to_owned())?;
        }
    }
    Ok(())
}

/// The programs that go into the builds, by cargo.
fn programs() -> Result<Vec<PathBuf>> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    init::run(&["--target".into(), TARGET.into()])?;
    crate::run(cargo(&["build", "--quiet", "--package", "imactl"]))?;
    let mut agent = cargo(&["build", "--quiet", "--release", "--package", "lab-agent"]);
    agent.args(["--target", TARGET, "--target-dir", "target/lab"]);
    crate::run({
        agent.env("RUSTFLAGS", "-C target-feature=+crt-static");
        agent
    })?;
    let target = root().join("target");
    Ok(vec![
        target.join("debug/imactl"),
        target.join(TARGET).join("release/imactl-init"),
        target.join("lab").join(TARGET).join("release/lab-agent"),
        "/bin/busybox".into(),
        sign_file()?,
    ])
}

/// The program of a kernel that the lab has built which signs modules.
fn sign_file() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let kernels = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let kernels = kernels.join("imactl/lab/kernels");
    let built = fs::read_dir(&kernels).with_context(|| kernels.display().to_string())?;
    let mut found: Vec<_> = built.flatten().map(|kernel| kernel.path().join("sign-file")).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().context("no kernel of the lab has sign-file: cargo xtask kernels")
}

fn check(checkout: &Checkout, builds: &Path, programs: &[PathBuf]) -> Result<()> {
    let series = checkout.series();
    step(series, "parse, with all that it appends to");
    let parsing = Build::parsing(checkout, builds)?;
    parse(&parsing)?;

    step(series, "the sources of imactl's recipes");
    parsing.configure("SIGNING_MODEL = \"sample\"\n")?;
    recipe::check(&parsing)?;

    step(series, "yocto-check-layer");
    let checking = Build::checking(checkout, builds)?;
    checking.configure("")?;
    checking.yocto_check_layer()?;

    let mut build = Build::building(checkout, builds, programs)?;
    let mut secrets = with_sample_keys(checkout, &build)?;
    let (own, more) = with_own_keys(series, &mut build)?;
    secrets.extend(more);

    step(series, "look for keys and passphrases in what the builds left");
    leaks::check(build.directory(), &secrets)?;

    step(series, "boot the image under enforcement");
    image::boot(&build, &own)?;

    step(series, "the layer's cases for the target, on that image");
    image::runtime_cases(&build, &own, &checkout.meta(), &build::layer())
}

/// The keys that the build made are the result.
fn with_sample_keys(checkout: &Checkout, build: &Build) -> Result<Vec<Secret>> {
    let series = checkout.series();
    step(series, "build with sample keys");
    build.configure("SIGNING_MODEL = \"sample\"\n")?;
    let log = build.bitbake(&["lab-image", "integrity-initramfs"])?;
    ensure!(log.contains("SAMPLE KEYS"), "nobody said that the keys are samples");
    let sample = build.directory().join("sample-keys/store");
    let first = image::check(build, &sample)?;
    image::check_packages(build, &sample)?;

    step(series, "leave out what was signed before");
    cases::exclude(build)?;

    step(series, "what must not be built");
    cases::refusals(build)?;

    step(series, "package management");
    cases::package_management(build)?;

    step(series, "an initramfs that loads no policy");
    cases::initramfs(build)?;

    step(series, "images as they ship");
    cases::shipped(build)?;

    step(series, "the sample key on the target, and certificates besides");
    models::key_on_target(build)?;

    step(series, "devtool deploy-target");
    models::deploy_target(build, &checkout.core())?;

    step(series, "build again: the same bytes");
    build.configure("SIGNING_MODEL = \"sample\"\n")?;
    build.bitbake(&["-c", "cleansstate", "lab-image"])?;
    build.bitbake(&["lab-image"])?;
    ensure!(image::check(build, &sample)? == first, "the image's tar is another");

    step(series, "OpenPGP signatures besides");
    cases::openpgp(build, &sample)?;

    step(series, "sample keys where SIGNING_MODEL is user");
    build.configure(&own_keys(&sample, ""))?;
    let refusal = build.bitbake_fails(&["lab-image"])?;
    ensure!(refusal.contains("sample keys are refused"), "not refused: {refusal}");
    store_secrets(&sample, None)
}

/// The key store of the image that is there in the end, and all keys and passphrases.
fn with_own_keys(series: &str, build: &mut Build) -> Result<(PathBuf, Vec<Secret>)> {
    let variable = cases::VARIABLE;
    let mut secrets = vec![Secret::text("the passphrase", PASSPHRASE)];
    let passphrase =
        ["IMA", "MODSIGN"].map(|role| format!("{role}_PASSPHRASE_ENV = \"{variable}\"\n")).concat();

    step(series, "build with keys of one's own, encrypted");
    let own = build.keys(PASSPHRASE)?;
    build.configure(&own_keys(&own, &passphrase))?;
    build.set_environment(variable, PASSPHRASE);
    build.bitbake(&["lab-image", "integrity-initramfs"])?;
    image::check(build, &own)?;
    image::check_packages(build, &own)?;
    secrets.extend(store_secrets(&own, Some(PASSPHRASE))?);

    step(series, "a cache of signatures");
    models::cache(build, &own, &passphrase)?;

    step(series, "their certificates alone");
    models::certificates_alone(build, &own, &passphrase)?;

    step(series, "a key for packages and another for the image");
    models::two_keys(build, &own, &passphrase)?;

    step(series, "what the server logs, however it ends");
    cases::server_log(build, &own_keys(&own, &passphrase))?;

    step(series, "modules from outside the kernel's tree");
    cases::modules(build, &own)?;

    step(series, "build with other keys in the same place, in a token");
    let own = build.keys(PASSPHRASE)?;
    secrets.extend(cases::token(build, &own)?);
    secrets.extend(store_secrets(&own, Some(PASSPHRASE))?);

    step(series, "build with other keys in the same place, and a policy that the root brings");
    let own = build.keys(PASSPHRASE)?;
    let policy = build.directory().join("conf/further");
    fs::write(&policy, "audit func=MODULE_CHECK\n")?;
    let policy = format!("IMA_POLICY_ROOT = \"{}\"\nIMA_SIGN_POLICY = \"1\"\n", policy.display());
    build.configure(&own_keys(&own, &(passphrase + &policy)))?;
    build.bitbake(&["lab-image", "integrity-initramfs"])?;
    image::check(build, &own)?;
    image::check_packages(build, &own)?;
    image::check_initramfs(build, &own)?;
    secrets.extend(store_secrets(&own, Some(PASSPHRASE))?);
    Ok((own, secrets))
}

fn step(series: &str, what: &str) {
    eprintln!("-- {series}: {what}");
}

/// Parses the layer with its own recipes for imactl and all recipes that it appends to, active
/// and asleep.
fn parse(build: &Build) -> Result<()> {
    build.configure("SIGNING_MODEL = \"sample\"\n")?;
    build.bitbake(&["-p"])?;
    let appends = build.tool("bitbake-layers", &["show-appends"])?;
    for recipe in APPENDED {
        let shown = appends.lines().any(|line| {
            line.strip_prefix(recipe).is_some_and(|rest| rest.starts_with('_'))
                && line.contains(".bb")
        });
        ensure!(shown, "nothing appends to {recipe}:\n{appends}");
    }
    for kernel in KERNELS {
        let preferred = format!(
            "SIGNING_MODEL = \"sample\"\nIMA_APPRAISE_BOOTPARAM = \"0\"\n\
             PREFERRED_PROVIDER_virtual/kernel = \"{kernel}\"\n\
             SRCREV_machine:pn-linux-yocto-dev = \"{COMMIT}\"\n\
             SRCREV_meta:pn-linux-yocto-dev = \"{COMMIT}\"\n"
        );
        build.configure(&preferred)?;
        let sources = build.variable(kernel, "SRC_URI")?;
        for name in ["integrity", "ima", "modsign", "no-bootparam"] {
            let wanted = format!("file://{name}.scc file://{name}.cfg");
            ensure!(sources.contains(&wanted), "{kernel} has no {wanted}: {sources}");
        }
        let make = build.variable(kernel, "EXTRA_OEMAKE")?;
        for wanted in ["CONFIG_SYSTEM_TRUSTED_KEYS=", "CONFIG_MODULE_SIG_KEY="] {
            ensure!(make.contains(wanted), "make of {kernel} has no {wanted}: {make}");
        }
    }
    build.configure("SIGNING_MODEL = \"sample\"\n")?;
    // the lab builds rpm with these words
    let words = root().join(format!("lab/rpm/{}.words", build.series()));
    let words = fs::read_to_string(&words).with_context(|| words.display().to_string())?;
    let printed = build.variable("rpm", "EXTRA_OECMAKE")?;
    let printed: Vec<_> = printed.split_whitespace().collect();
    ensure!(printed == words.lines().collect::<Vec<_>>(), "rpm is configured with {printed:?}");

    // meta-signing-key sets these defaults, before any class is read
    let defaults: String = THEIRS.iter().map(|name| format!("{name} ??= \"/{name}\"\n")).collect();
    build.configure(&defaults)?;
    for name in THEIRS {
        let value = build.variable("linux-yocto", name)?;
        ensure!(value.trim() == format!("/{name}"), "the layer changes {name} to {value}");
    }

    // asleep: the same recipes, and nothing of the layer in them
    build.configure("DISTRO_FEATURES:remove = \"ima modsign\"\n")?;
    build.bitbake(&["-p"])?;
    for (recipe, name, unwanted) in [
        ("linux-yocto", "SRC_URI", "integrity.scc"),
        ("linux-yocto", "EXTRA_OEMAKE", "CONFIG_"),
        ("rpm", "PACKAGECONFIG", "plugins"),
    ] {
        let value = build.variable(recipe, name)?;
        ensure!(
            !value.contains(unwanted),
            "without ima, {name} of {recipe} has {unwanted}: {value}"
        );
    }
    Ok(())
}

/// A configuration with a store's keys.
fn own_keys(store: &Path, more: &str) -> String {
    let mut text = String::from("SIGNING_MODEL = \"user\"\n");
    for (name, directory) in [
        ("IMA_KEYS_DIR", "ima_keys"),
        ("SYSTEM_TRUSTED_KEYS_DIR", "system_trusted_keys"),
        ("SECONDARY_TRUSTED_KEYS_DIR", "secondary_trusted_keys"),
        ("MODSIGN_KEYS_DIR", "modsign_keys"),
    ] {
        text += &format!("{name} = \"{}\"\n", store.join(directory).display());
    }
    text + more
}

/// The private keys of a store.
fn store_secrets(store: &Path, passphrase: Option<&str>) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for directory in fs::read_dir(store)? {
        let directory = directory?.path();
        if !directory.is_dir() {
            continue;
        }
        for file in fs::read_dir(&directory)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "key") {
                secrets.push(Secret::key(&path, passphrase)?);
            }
        }
    }
    // of both CAs, for files, for modules and for EVM
    ensure!(secrets.len() == 5, "{}: {} private keys", store.display(), secrets.len());
    Ok(secrets)
}
