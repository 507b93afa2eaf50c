//! The OpenEmbedded layer in a real BitBake, without downloads: parsed with the recipes that it appends to,
//! built into packages and images, which are verified, searched for secrets, and booted.
//!
//! | module | purpose |
//! |---|---|
//! | [`build`] | build directories, and running BitBake in them |
//! | [`cases`] | configurations to refuse, secrets to keep, keys to support |
//! | [`debian`] | rpm and dnf for a target |
//! | [`dry`] | task graphs with all of oe-core |
//! | [`image`] | checks of the images and packages |
//! | [`kernel`] | a kernel's certificates and modules |
//! | [`mod@leaks`] | searches all results of a build for keys and passphrases |
//! | [`models`] | the owners of the signing keys |
//! | [`sdk`] | the extensible SDK |
//! | [`recipe`] | the recipes of imactl and imactl-init, without OpenEmbedded's Rust |
//!
//! `IMACTL_OE_DIR` has a directory for each series: `SERIES/oe-core` with bitbake in it. Builds are in
//! `IMACTL_OE_BUILD`, else `IMACTL_OE_DIR/build`. Recipes that need downloads (the kernel, imactl by the
//! cargo classes) are not built: the layer in `xtask/oe` replaces them.

mod build;
mod cases;
mod debian;
mod dry;
mod image;
mod kernel;
mod leaks;
mod models;
mod recipe;
mod sdk;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::{agent, cargo, init, root};
use build::{Build, Checkout};
use cases::SAMPLE;
use leaks::Secret;

const SERIES: [&str; 3] = ["scarthgap", "wrynose", "blacksail"];
/// The recipes that the layer appends to; none of its appends may dangle.
const APPENDED: [&str; 3] = ["base-files", "rpm", "systemd"];
/// Kernel recipes, configured by the layer's class. (In oe-core, linux-yocto-tiny is a kernel only if it is
/// the preferred one.)
const KERNELS: [&str; 3] = ["linux-yocto", "linux-yocto-dev", "linux-yocto-rt"];
/// The commit for linux-yocto-dev, which would ask the network for the newest one.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Variables of another layer, whose defaults must not change.
const THEIRS: [&str; 5] = [
    "SIGNING_MODEL",
    "IMA_KEYS_DIR",
    "SYSTEM_TRUSTED_KEYS_DIR",
    "SECONDARY_TRUSTED_KEYS_DIR",
    "MODSIGN_KEYS_DIR",
];
const PASSPHRASE: &str = "Zwei-Huehner-auf-dem-Weg-nach-vorgestern";

/// A step: its name, its description, and its function.
type Step = (&'static str, &'static str, fn(&Run) -> Result<()>);

/// The steps in order. A step uses only files that earlier ones left, so that a run can begin at any step.
const STEPS: &[Step] = &[
    ("parse", "parse the layer, with all that it appends to", parse),
    ("sources", "the sources of imactl's recipes", sources),
    ("check-layer", "yocto-check-layer", check_layer),
    ("first-image", "resolve the README's first image", |run| {
        dry::first_image(&run.checkout, &run.builds)
    }),
    ("kas", "resolve the images of the kas files", |run| dry::kas(&run.checkout, &run.builds)),
    ("others", "resolve an image next to the layers of others", |run| {
        dry::next_to_others(&run.checkout, &run.builds)
    }),
    ("sample", "build with sample keys", sample),
    ("exclude", "leave out what was signed before", |run| cases::exclude(&run.build)),
    ("refusals", "what must not be built", |run| cases::refusals(&run.build)),
    ("packages", "package management", |run| cases::package_management(&run.build)),
    ("initramfs", "an initramfs that loads no policy", |run| cases::initramfs(&run.build)),
    ("shipped", "images as they ship", |run| cases::shipped(&run.build)),
    ("sample-on-target", "the sample key on the target, and certificates besides", |run| {
        models::key_on_target(&run.build)
    }),
    ("deploy", "devtool deploy-target", |run| {
        models::deploy_target(&run.build, &run.checkout.core())
    }),
    ("again", "build again: the same bytes", again),
    ("team", "sample keys that a team shares", |run| models::team(&run.build)),
    ("sample-sdk", "an extensible SDK", |run| sdk::with_sample_keys(&run.build)),
    ("openpgp", "OpenPGP signatures besides", |run| {
        cases::openpgp(&run.build, &run.build.sample_store())
    }),
    ("evm", "portable EVM signatures", |run| models::evm(&run.build, &run.checkout.meta())),
    ("sample-refused", "sample keys where SIGNING_MODEL is user", sample_refused),
    ("own", "build with keys of one's own, encrypted", own),
    ("sdk", "an extensible SDK without these keys", |run| {
        let secrets = store_secrets(&run.store(), Some(PASSPHRASE))?;
        let configuration = own_keys(&run.store(), &passphrase());
        sdk::extensible(&run.own_build(), &configuration, &run.store(), &secrets)
    }),
    ("cache", "a cache of signatures", |run| {
        models::cache(&run.own_build(), &run.store(), &passphrase())
    }),
    ("certificates", "their certificates alone", |run| {
        models::certificates_alone(&run.own_build(), &run.store(), &passphrase())
    }),
    ("two-keys", "a key for packages and another for the image", |run| {
        models::two_keys(&run.own_build(), &run.store(), &passphrase())
    }),
    ("server-log", "what the server logs, however it ends", |run| {
        let configuration = own_keys(&run.store(), &passphrase());
        cases::server_log(&run.own_build(), &configuration)
    }),
    ("modules", "modules from outside the kernel's tree", |run| {
        cases::modules(&run.own_build(), &run.store())
    }),
    ("kernel-keys", "a kernel made with the layer's arguments", kernel_keys),
    ("token", "build with other keys in the same place, in a token", token),
    ("root-policy", "the same, and a policy that the root brings", root_policy),
    ("boot", "boot the image under enforcement", |run| image::boot(&run.build, &run.store())),
    ("runtime", "the layer's cases for the target, on an image with rpm and dnf", runtime),
    ("leaks", "look for keys and passphrases in what the builds left", leaks),
];

/// The run of a series.
struct Run {
    checkout: Checkout,
    builds: PathBuf,
    build: Build,
}

impl Run {
    /// The key store next to the build directory.
    fn store(&self) -> PathBuf {
        self.build.store()
    }

    /// The build, with the passphrase of this store in its environment.
    fn own_build(&self) -> Build {
        let mut build = self.build.clone();
        build.set_environment(cases::VARIABLE, PASSPHRASE);
        build
    }
}

/// `cargo xtask oe [SERIES...] [--from STEP] [--to STEP]`: runs these series, by default all; of the steps, those
/// from the first to the last, by default all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let directory = std::env::var_os("IMACTL_OE_DIR").map(PathBuf::from);
    let directory = directory.context("IMACTL_OE_DIR names no directory of checkouts")?;
    let builds = std::env::var_os("IMACTL_OE_BUILD").map(PathBuf::from);
    let builds = builds.unwrap_or_else(|| directory.join("build"));
    let (named, last) = option(arguments, "--to", STEPS.len() - 1)?;
    let (named, first) = option(named, "--from", 0)?;
    ensure!(first <= last, "{} is after {}", STEPS[first].0, STEPS[last].0);
    if let Some(unknown) = named.iter().find(|name| !SERIES.contains(&name.as_str())) {
        bail!("no series {unknown}; the layer is for {}", SERIES.join(", "));
    }
    let programs = programs()?;
    for series in SERIES {
        if named.is_empty() || named.iter().any(|name| name == series) {
            let checkout = Checkout::find(&directory, series)?;
            // the search for secrets covers everything here, so it must be of this run
            if first == 0 {
                Build::remove(&checkout, &builds)?;
            }
            let build = Build::building(&checkout, &builds, &programs)?;
            let run = Run { checkout, builds: builds.clone(), build };
            for (name, what, step) in &STEPS[first..=last] {
                eprintln!("-- {series}: {name}: {what}");
                step(&run).with_context(|| format!("{series}, --from {name}"))?;
            }
        }
    }
    Ok(())
}

/// The arguments before an option at the end, and the step that it names.
fn option<'a>(
    arguments: &'a [String],
    name: &str,
    default: usize,
) -> Result<(&'a [String], usize)> {
    match arguments {
        [others @ .., option, step] if option == name => Ok((others, position(step)?)),
        all => Ok((all, default)),
    }
}

/// The index of a step in `STEPS`.
fn position(name: &str) -> Result<usize> {
    let names: Vec<_> = STEPS.iter().map(|(name, ..)| *name).collect();
    let found = names.iter().position(|step| *step == name);
    found.with_context(|| format!("no step {name}; the steps are {}", names.join(", ")))
}

/// Builds the programs for the builds with cargo.
fn programs() -> Result<Vec<PathBuf>> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    init::run(&["--target".into(), TARGET.into()])?;
    crate::run(cargo(&["build", "--quiet", "--package", "imactl"]))?;
    agent::run(&["--target".into(), TARGET.into()])?;
    let target = root().join("target");
    let built = [
        target.join("debug/imactl"),
        target.join(TARGET).join("release/imactl-init"),
        target.join("lab").join(TARGET).join("debug/lab-agent"),
        "/bin/busybox".into(),
        sign_file()?,
    ];
    Ok([&built[..], &debian::archives(&target.join("oe"))?].concat())
}

/// sign-file of a kernel that the lab has built.
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

fn sources(run: &Run) -> Result<()> {
    let parsing = Build::parsing(&run.checkout, &run.builds)?;
    parsing.configure(SAMPLE)?;
    recipe::check(&parsing)
}

fn check_layer(run: &Run) -> Result<()> {
    let checking = Build::checking(&run.checkout, &run.builds)?;
    checking.configure("")?;
    checking.yocto_check_layer()
}

fn sample(run: &Run) -> Result<()> {
    let build = &run.build;
    build.configure(SAMPLE)?;
    let log = build.bitbake(&["lab-image", "integrity-initramfs"])?;
    ensure!(log.contains("SAMPLE KEYS"), "nobody said that the keys are samples");
    image::check(build, &build.sample_store())?;
    image::check_packages(build, &build.sample_store())
}

fn again(run: &Run) -> Result<()> {
    let (build, store) = (&run.build, run.build.sample_store());
    build.configure(SAMPLE)?;
    build.bitbake(&["lab-image"])?;
    let first = image::check(build, &store)?;
    build.bitbake(&["-c", "cleansstate", "lab-image"])?;
    build.bitbake(&["lab-image"])?;
    ensure!(image::check(build, &store)? == first, "the image's tar is another");
    Ok(())
}

fn sample_refused(run: &Run) -> Result<()> {
    run.build.configure(&own_keys(&run.build.sample_store(), ""))?;
    let refusal = run.build.bitbake_fails(&["lab-image"])?;
    ensure!(refusal.contains("sample keys are refused"), "not refused: {refusal}");
    Ok(())
}

/// Builds with new keys, and with further lines in the configuration.
fn with_new_keys(run: &Run, more: &str) -> Result<()> {
    let build = run.own_build();
    let store = build.keys(PASSPHRASE)?;
    build.configure(&own_keys(&store, &(passphrase() + more)))?;
    build.bitbake(&["lab-image", "integrity-initramfs"])?;
    image::check(&build, &store)?;
    image::check_packages(&build, &store)
}

fn own(run: &Run) -> Result<()> {
    with_new_keys(run, "")
}

fn kernel_keys(run: &Run) -> Result<()> {
    let build = run.own_build();
    build.configure(&own_keys(&run.store(), &passphrase()))?;
    // which leaves the key files
    build.bitbake(&["-c", "cleansstate", "lab-module"])?;
    build.bitbake(&["-c", "install", "lab-module"])?;
    kernel::keys(&build, &run.store())
}

fn token(run: &Run) -> Result<()> {
    let store = run.build.keys(PASSPHRASE)?;
    cases::token(run.own_build(), &store)
}

fn root_policy(run: &Run) -> Result<()> {
    with_new_keys(run, &further_policy(run)?)?;
    image::check_initramfs(&run.build, &run.store())
}

/// The lines of a configuration for a policy on the root, which the initramfs signs.
fn further_policy(run: &Run) -> Result<String> {
    let policy = run.build.directory().join("conf/further");
    fs::write(&policy, "audit func=MODULE_CHECK\n")?;
    let policy = policy.display();
    Ok(format!("IMA_POLICY_ROOT = \"{policy}\"\nIMA_SIGN_POLICY = \"1\"\n"))
}

/// The image has a package manager and its database, as a full one has.
fn runtime(run: &Run) -> Result<()> {
    let build = run.own_build();
    build.configure(&own_keys(
        &run.store(),
        &(passphrase() + &further_policy(run)? + image::PACKAGE_MANAGEMENT),
    ))?;
    build.bitbake(&["lab-image"])?;
    let packages = Some(build.packages());
    image::runtime_cases(&build, &run.store(), &run.checkout.meta(), "none", packages.as_deref())
}

fn leaks(run: &Run) -> Result<()> {
    let mut secrets =
        vec![Secret::text("the passphrase", PASSPHRASE), Secret::text("the PIN", cases::PIN)];
    secrets.extend(store_secrets(&run.build.sample_store(), None)?);
    for store in run.build.stores()? {
        secrets.extend(store_secrets(&store, Some(PASSPHRASE))?);
    }
    leaks::check(run.build.directory(), &secrets)
}

/// The lines of a configuration that name the passphrase's variable.
fn passphrase() -> String {
    let variable = cases::VARIABLE;
    ["IMA", "MODSIGN"].map(|role| format!("{role}_PASSPHRASE_ENV = \"{variable}\"\n")).concat()
}

/// Parses the layer with its own recipes for imactl and all recipes that it appends to, with its features
/// enabled and disabled.
fn parse(run: &Run) -> Result<()> {
    let build = Build::parsing(&run.checkout, &run.builds)?;
    build.configure(SAMPLE)?;
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
            "SIGNING_MODEL = \"sample\"\nIMA_APPRAISE_BOOTPARAM = \"0\"\nIMA_EVM = \"portable\"\n\
             PREFERRED_PROVIDER_virtual/kernel = \"{kernel}\"\n\
             SRCREV_machine:pn-linux-yocto-dev = \"{COMMIT}\"\n\
             SRCREV_meta:pn-linux-yocto-dev = \"{COMMIT}\"\n"
        );
        build.configure(&preferred)?;
        let sources = build.variable(kernel, "SRC_URI")?;
        for name in ["integrity", "ima", "modsign", "evm", "no-bootparam"] {
            let wanted = format!("file://{name}.scc file://{name}.cfg");
            ensure!(sources.contains(&wanted), "{kernel} has no {wanted}: {sources}");
        }
        let make = build.variable(kernel, "EXTRA_OEMAKE")?;
        for wanted in ["CONFIG_SYSTEM_TRUSTED_KEYS=", "CONFIG_MODULE_SIG_KEY="] {
            ensure!(make.contains(wanted), "make of {kernel} has no {wanted}: {make}");
        }
    }
    build.configure(SAMPLE)?;
    // the lab builds rpm with these arguments
    let words = root().join(format!("lab/rpm/{}.words", build.series()));
    let words = fs::read_to_string(&words).with_context(|| words.display().to_string())?;
    let printed = build.variable("rpm", "EXTRA_OECMAKE")?;
    let printed: Vec<_> = printed.split_whitespace().collect();
    ensure!(printed == words.lines().collect::<Vec<_>>(), "rpm is configured with {printed:?}");

    // meta-signing-key sets these defaults before any class is parsed
    let defaults: String = THEIRS.iter().map(|name| format!("{name} ??= \"/{name}\"\n")).collect();
    build.configure(&defaults)?;
    for name in THEIRS {
        let value = build.variable("linux-yocto", name)?;
        ensure!(value.trim() == format!("/{name}"), "the layer changes {name} to {value}");
    }

    build.configure(SAMPLE)?;
    let enabled = build.variable("rpm", "PACKAGECONFIG")?;

    // features disabled: the same recipes, without any change by the layer
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
    // such as sequoia, which verifies OpenPGP signatures in series that have it
    let disabled = build.variable("rpm", "PACKAGECONFIG")?;
    let kept = disabled.split_whitespace().chain(["plugins"]);
    let same = enabled.split_whitespace().eq(kept);
    ensure!(same, "the layer changes PACKAGECONFIG of rpm from {disabled} to {enabled}");
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
        ("EVM_KEYS_DIR", "evm_keys"),
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
    // both CAs, and the keys for files, modules and EVM
    ensure!(secrets.len() == 5, "{}: {} private keys", store.display(), secrets.len());
    Ok(secrets)
}
