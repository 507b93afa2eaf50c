//! Build directories, and running BitBake in them as an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::{output, root};

/// The user who builds if this task runs as root, because BitBake refuses to run as root.
const USER: &str = "oebuild";

/// The layers of a series, as checked out.
#[derive(Debug)]
pub(super) struct Checkout {
    series: String,
    directory: PathBuf,
    /// The program `wic`: newer series have it in a separate repository, and use the program of the oldest
    /// series here.
    wic: PathBuf,
}

impl Checkout {
    pub(super) fn find(all: &Path, series: &str) -> Result<Self> {
        let directory = all.join(series);
        for part in ["oe-core/meta/conf/layer.conf", "oe-core/bitbake/bin/bitbake"] {
            let path = directory.join(part);
            ensure!(path.exists(), "{} is not there", path.display());
        }
        // BitBake writes its parser's tables there. If it cannot, newer ones fail at their second start
        own(&directory.join("oe-core/bitbake/lib/bb/pysh"), &[])?;
        let wic = all.join(super::SERIES[0]).join("oe-core/scripts/wic");
        ensure!(wic.exists(), "{} is not there", wic.display());
        Ok(Self { series: series.to_owned(), directory, wic })
    }

    pub(super) fn core(&self) -> PathBuf {
        self.directory.join("oe-core")
    }

    /// The path of a checkout next to oe-core.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The layer in oe-core.
    pub(super) fn meta(&self) -> PathBuf {
        self.core().join("meta")
    }

    fn layers(&self) -> Vec<PathBuf> {
        vec![self.meta(), layer()]
    }
}

/// A build directory.
#[derive(Debug, Clone)]
pub(super) struct Build {
    series: String,
    core: PathBuf,
    directory: PathBuf,
    fixed: String,
    environment: Vec<(String, String)>,
}

impl Build {
    /// A build that only parses: the layer's own recipes and those that it appends to, nothing else of oe-core.
    pub(super) fn parsing(checkout: &Checkout, builds: &Path) -> Result<Self> {
        let directory = builds.join(format!("{}-parse", checkout.series));
        let keep = "(?!.*/(base-files|linux-yocto|linux-yocto-dev|linux-yocto-rt|rpm|systemd)(_[^/]*)?[.]bb)";
        let fixed = format!(
            "require conf/distro/include/integrity.inc\n\
             MACHINE = \"qemux86-64\"\nDISTRO = \"nodistro\"\nCONF_VERSION = \"2\"\n\
             INIT_MANAGER = \"systemd\"\nBB_NO_NETWORK = \"1\"\nCONNECTIVITY_CHECK_URIS = \"\"\n\
             INHERIT_DISTRO:remove = \"uninative\"\nPACKAGE_CLASSES = \"package_rpm\"\n\
             BBMASK = \"/oe-core/meta/recipes-{keep}\"\n\
             require conf/task.conf\n"
        );
        Self::make(checkout, directory, &checkout.layers(), fixed)
    }

    /// A build with all of oe-core, and other layers.
    pub(super) fn whole(
        checkout: &Checkout,
        builds: &Path,
        name: &str,
        layers: &[PathBuf],
        fixed: &str,
    ) -> Result<Self> {
        let directory = builds.join(format!("{}-{name}", checkout.series));
        let layers = [checkout.layers(), layers.to_vec()].concat();
        let fixed =
            format!("DISTRO = \"nodistro\"\nCONF_VERSION = \"2\"\n{fixed}require conf/task.conf\n");
        Self::make(checkout, directory, &layers, fixed)
    }

    /// A build for yocto-check-layer, which adds the layer itself.
    pub(super) fn checking(checkout: &Checkout, builds: &Path) -> Result<Self> {
        let directory = builds.join(format!("{}-check", checkout.series));
        let layers = [checkout.meta(), stand_in()];
        let text = fs::read_to_string(root().join("xtask/oe/local.conf"))?;
        let fixed = format!(
            "{}CHECKING = \"1\"\nBBMASK += \"/recipes/(lab|rpm)/\"\n{text}",
            given(checkout, &directory)
        );
        Self::make(checkout, directory, &layers, fixed)
    }

    /// Runs yocto-check-layer; an error if a check fails.
    pub(super) fn yocto_check_layer(&self) -> Result<()> {
        let layer = layer().display().to_string();
        let text = self.tool("yocto-check-layer", &["--no-auto-dependency", &layer])?;
        ensure!(text.contains("meta-integrity ... PASS"), "yocto-check-layer: {text}");
        Ok(())
    }

    /// Removes the build directory of an earlier run, and its keys.
    pub(super) fn remove(checkout: &Checkout, builds: &Path) -> Result<()> {
        let directory = builds.join(&checkout.series);
        for directory in ["", "keys", "former-keys"].map(|part| directory.with_extension(part)) {
            if directory.exists() {
                fs::remove_dir_all(&directory)
                    .with_context(|| format!("remove {}", directory.display()))?;
            }
        }
        Ok(())
    }

    /// A real build, with these programs instead of the ones that cargo would build in it.
    pub(super) fn building(
        checkout: &Checkout,
        builds: &Path,
        programs: &[PathBuf],
    ) -> Result<Self> {
        let directory = builds.join(&checkout.series);
        let own = directory.join("programs");
        fs::create_dir_all(&own).with_context(|| format!("make {}", own.display()))?;
        for program in programs {
            let name = program.file_name().context("a program without a name")?;
            fs::copy(program, own.join(name))
                .with_context(|| format!("copy {}", program.display()))?;
        }
        let text = fs::read_to_string(root().join("xtask/oe/local.conf"))?;
        let given = given(checkout, &directory);
        let fixed = format!("{given}require conf/distro/include/integrity.inc\n{text}");
        let layers = [checkout.layers(), vec![stand_in()]].concat();
        Self::make(checkout, directory, &layers, fixed)
    }

    fn make(
        checkout: &Checkout,
        directory: PathBuf,
        layers: &[PathBuf],
        fixed: String,
    ) -> Result<Self> {
        let (conf, home) = (directory.join("conf"), directory.join("home"));
        for directory in [&conf, &home] {
            fs::create_dir_all(directory)
                .with_context(|| format!("make {}", directory.display()))?;
        }
        let layers: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
        let text = format!(
            "BBPATH = \"${{TOPDIR}}\"\nBBFILES ?= \"\"\nBBLAYERS = \"{}\"\n",
            layers.join(" ")
        );
        fs::write(conf.join("bblayers.conf"), text)?;
        // by default Debian's rpm has its database in the home directory
        fs::write(home.join(".rpmmacros"), "%_dbpath /var/lib/rpm\n")?;
        let series = checkout.series.clone();
        Ok(Self { series, core: checkout.core(), directory, fixed, environment: Vec::new() })
    }

    pub(super) fn series(&self) -> &str {
        &self.series
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory of the build's results; older series add the C library to the path.
    fn deployed(&self, name: &str) -> PathBuf {
        let old = self.directory.join("tmp-glibc/deploy");
        let new = self.directory.join("tmp/deploy");
        if old.exists() { old } else { new }.join(name)
    }

    /// The directory of the images.
    pub(super) fn images(&self) -> PathBuf {
        self.deployed("images/qemux86-64")
    }

    /// The directory of the packages.
    pub(super) fn packages(&self) -> PathBuf {
        self.deployed("rpm")
    }

    /// The build's own `imactl`.
    pub(super) fn imactl(&self) -> Command {
        let mut imactl = Command::new(self.directory.join("programs/imactl"));
        imactl.env_remove("IMACTL_KEYS").args(["--color", "never"]);
        imactl
    }

    /// Replaces the part of the configuration that depends on the step.
    pub(super) fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.directory.join("conf/local.conf"), &self.fixed)?;
        Ok(fs::write(self.directory.join("conf/task.conf"), text)?)
    }

    /// The same in one file, from which OpenEmbedded makes the configuration of an SDK.
    pub(super) fn configure_in_one(&self, text: &str) -> Result<()> {
        let whole = self.fixed.replace("require conf/task.conf\n", text);
        ensure!(whole.ends_with(text), "local.conf does not end with task.conf");
        Ok(fs::write(self.directory.join("conf/local.conf"), whole)?)
    }

    /// An extensible SDK as it is installed in a directory, with the programs of this build.
    pub(super) fn sdk(&self, directory: &Path) -> Result<Self> {
        let layers = directory.join("layers");
        let core = layers.join(self.core.file_name().context("oe-core")?);
        for part in ["programs", "home"] {
            let mut copy = Command::new("cp");
            output(copy.arg("-a").arg(self.directory.join(part)).arg(directory))?;
        }
        give(directory)?;
        Ok(Self {
            series: self.series.clone(),
            core,
            directory: directory.to_owned(),
            fixed: fs::read_to_string(directory.join("conf/local.conf"))?,
            environment: Vec::new(),
        })
    }

    /// Sets a variable in the environment of bitbake.
    pub(super) fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Makes an encrypted key store next to the build directory, readable by the building user. An existing one
    /// is moved away and kept.
    pub(super) fn keys(&self, passphrase: &str) -> Result<PathBuf> {
        let store = self.store();
        if store.exists() {
            let former = self.directory.with_extension("former-keys");
            fs::create_dir_all(&former)?;
            fs::rename(&store, former.join(self.stores()?.len().to_string()))?;
        }
        let mut create = self.imactl();
        create.args(["keys", "create", "--passphrase-env", "PASSPHRASE"]).arg(&store);
        output(create.env("PASSPHRASE", passphrase))?;
        give(&store)?;
        Ok(store)
    }

    /// The key store next to the build directory.
    pub(super) fn store(&self) -> PathBuf {
        self.directory.with_extension("keys")
    }

    /// This store, and those that it replaced.
    pub(super) fn stores(&self) -> Result<Vec<PathBuf>> {
        let mut stores = vec![self.store()];
        let former = self.directory.with_extension("former-keys");
        if former.exists() {
            for store in fs::read_dir(former)? {
                stores.push(store?.path());
            }
        }
        Ok(stores)
    }

    /// The store with the keys that the build itself generates.
    pub(super) fn sample_store(&self) -> PathBuf {
        self.directory.join("sample-keys/store")
    }

    /// The output of bitbake; an error if it fails.
    pub(super) fn bitbake(&self, arguments: &[&str]) -> Result<String> {
        self.tool("bitbake", arguments)
    }

    /// The output of bitbake; an error if it succeeds.
    pub(super) fn bitbake_fails(&self, arguments: &[&str]) -> Result<String> {
        let (succeeded, text) = self.attempt("bitbake", arguments)?;
        ensure!(!succeeded, "bitbake {arguments:?} succeeded");
        Ok(text)
    }

    /// Runs a tool; returns whether it succeeded, and its output.
    pub(super) fn attempt(&self, name: &str, arguments: &[&str]) -> Result<(bool, String)> {
        let output = self.command(name, arguments)?.output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok((output.status.success(), text))
    }

    /// Gives a directory to the building user.
    pub(super) fn give(&self, directory: &Path) -> Result<()> {
        give(directory)
    }

    /// The value of a recipe's variable.
    pub(super) fn variable(&self, recipe: &str, name: &str) -> Result<String> {
        self.tool("bitbake-getvar", &["--value", "-r", recipe, name])
    }

    /// The log of the last run of a recipe's task.
    pub(super) fn task_log(&self, recipe: &str, task: &str) -> Result<String> {
        let directory = self.variable(recipe, "T")?;
        let log = Path::new(directory.trim()).join(format!("log.{task}"));
        fs::read_to_string(&log).with_context(|| log.display().to_string())
    }

    pub(super) fn tool(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let (succeeded, text) = self.attempt(name, arguments)?;
        ensure!(succeeded, "{name} {} failed\n{text}", arguments.join(" "));
        Ok(text)
    }

    /// A tool in the environment that `oe-init-build-env` makes.
    fn command(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        // all else belongs to that user already, and a server that is ending may be removing files
        for part in ["conf", "home", "programs"] {
            let part = self.directory.join(part);
            if part.exists() {
                give(&part)?;
            }
        }
        own(&self.directory, &[])?;
        let mut command = if is_root()? {
            let mut setpriv = Command::new("setpriv");
            let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
            setpriv.args(user).args(["--clear-groups", "env"]);
            setpriv
        } else {
            Command::new("env")
        };
        command.args(["-i", "LC_ALL=en_US.UTF-8", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]);
        command.arg(format!("HOME={}", self.directory.join("home").display()));
        for (name, value) in &self.environment {
            command.arg(format!("{name}={value}"));
        }
        let script = "cd \"$1\" && . ./oe-init-build-env \"$2\" >/dev/null && shift 2 && \"$@\"";
        command.args(["bash", "-c", script, "bash"]).arg(&self.core).arg(&self.directory);
        command.arg(name).args(arguments);
        Ok(command)
    }
}

/// The path of the layer under test.
pub(super) fn layer() -> PathBuf {
    root().join("meta-integrity")
}

/// The path of the layer that replaces recipes that need downloads.
fn stand_in() -> PathBuf {
    root().join("xtask/oe/meta-host")
}

/// The programs for recipes that cannot be built, and masks for the others: of oe-core only a kernel recipe
/// without a kernel is left, of the layer the recipes that need no sources.
fn given(checkout: &Checkout, directory: &Path) -> String {
    format!(
        "IMACTL_PROGRAMS = \"{}\"\nHOST_WIC = \"{}\"\n\
         BBMASK = \"/oe-core/meta/recipes-(?!.*/linux-dummy) \
         /meta-integrity/recipes-support/imactl/ /meta-integrity/.*[.]bbappend$\"\n",
        directory.join("programs").display(),
        checkout.wic.display()
    )
}

/// Gives a directory and everything below it to the building user.
fn give(directory: &Path) -> Result<()> {
    own(directory, &["-R"])
}

fn own(directory: &Path, options: &[&str]) -> Result<()> {
    if is_root()? {
        let owner = format!("{USER}:{USER}");
        let hint = format!("chown to {USER}: is there such a user (useradd -m {USER})?");
        output(Command::new("chown").args(options).arg(owner).arg(directory)).context(hint)?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))? == b"0\n")
}
