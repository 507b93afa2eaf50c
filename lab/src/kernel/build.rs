//! Building kernels.
//!
//! Each series has one source tree and one object tree in the cache, in which all of its
//! variants are built one after the other: only what a change of configuration touches is
//! compiled again, a minute instead of seven. What a build gives is copied out of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::config::Config;
use super::{Kernel, Series, Variant};
use crate::cache::{self, BuildLock, Inputs, Publication};
use crate::host;

/// To be raised when the way of building changes its result.
const RECIPE: &str = "2";

/// The layer's fragments, which are under test.
const LAYER: &str = "meta-integrity/recipes-kernel/linux/linux-yocto";
const FRAGMENTS: [&str; 3] = ["integrity.cfg", "ima.cfg", "modsign.cfg"];

/// What a build needs: (program, package).
const TOOLS: [(&str, &str); 10] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("cpio", "cpio"),
    ("openssl", "openssl"),
    ("dpkg-query", "dpkg"),
];
/// Headers and libraries that a build needs: (file, package).
const LIBRARIES: [(&str, &str); 2] =
    [("/usr/include/libelf.h", "libelf-dev"), ("/usr/include/openssl/ssl.h", "libssl-dev")];

/// The kernel, built now or before.
pub fn prepare(series: Series, variant: Variant) -> Result<Kernel> {
    let recipe = Recipe::read(series, variant)?;
    let place = cache::root()?.join("kernels").join(recipe.name());
    let kernel = Kernel { series, variant, directory: place };
    if !kernel.directory.exists() {
        let lock = BuildLock::take()?;
        if !kernel.directory.exists() {
            recipe.build(&kernel.directory, &lock)?;
        }
    }
    Ok(kernel)
}

/// All that decides what a kernel is.
struct Recipe {
    series: Series,
    variant: Variant,
    tarball: PathBuf,
    package_version: String,
    wanted: Config,
}

impl Recipe {
    fn read(series: Series, variant: Variant) -> Result<Self> {
        let package = format!("linux-source-{}", series.name());
        let tarball = PathBuf::from(format!("/usr/src/{package}.tar.xz"));
        host::file(&tarball, &package)?;
        let mut query = host::command("dpkg-query", "dpkg")?;
        let version = host::run(query.args(["--show", "--showformat=${Version}", &package]))?;

        let checkout = host::checkout();
        let mut wanted = Config::default();
        let layer = FRAGMENTS.map(|name| checkout.join(LAYER).join(name));
        for path in [checkout.join("lab/kernel/guest.cfg")].iter().chain(&layer) {
            let text =
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            wanted.merge(&text);
        }
        variant.lost().iter().for_each(|beginning| wanted.forget(beginning));
        variant.off().iter().for_each(|name| wanted.switch_off(name));
        let package_version = String::from_utf8(version.stdout)?;
        Ok(Self { series, variant, tarball, package_version, wanted })
    }

    /// As in `linux-6.1.192-2-full-0123456789abcdef`.
    fn name(&self) -> String {
        let mut inputs = Inputs::default();
        inputs.add(RECIPE).add(self.series.name()).add(&self.package_version);
        inputs.add(self.wanted.text());
        format!("linux-{}-{}-{}", self.package_version, self.variant.name(), inputs.name())
    }

    fn build(&self, place: &Path, lock: &BuildLock) -> Result<()> {
        for (name, package) in TOOLS {
            host::program(name, package)?;
        }
        for (path, package) in LIBRARIES {
            host::file(Path::new(path), package)?;
        }
        let name = format!("linux-{}-{}", self.series.name(), self.package_version);
        let tree = cache::root()?.join("build").join(name);
        let (source, object) = (tree.join("source"), tree.join("object"));
        self.unpack(&source)?;
        fs::create_dir_all(&object)?;
        self.configure(&source, &object)?;
        self.compile(&source, &object, lock)?;

        let publication = Publication::begin(place)?;
        collect(&object, publication.directory())?;
        publication.finish()?;
        host::say(&format!("{} is in {}", self.title(), place.display()));
        Ok(())
    }

    fn title(&self) -> String {
        format!("{} ({}, {})", self.series, self.package_version, self.variant.name())
    }

    fn unpack(&self, source: &Path) -> Result<()> {
        if source.exists() {
            return Ok(());
        }
        host::say(&format!("unpacking {}", self.tarball.display()));
        let publication = Publication::begin(source)?;
        let mut tar = host::command("tar", "tar")?;
        tar.args(["--extract", "--strip-components=1", "--file"]).arg(&self.tarball);
        host::run(tar.arg("--directory").arg(publication.directory()))?;
        publication.finish()
    }

    /// As `make tinyconfig` does it, but with all fragments as its base: what none of them
    /// asks for is off. Then looks whether all they ask for is there.
    fn configure(&self, source: &Path, object: &Path) -> Result<()> {
        let wanted = object.join("wanted.config");
        fs::write(&wanted, self.wanted.text())?;
        let mut make = make(source, object)?;
        host::run(make.env("KCONFIG_ALLCONFIG", &wanted).arg("allnoconfig"))?;

        let result = Config::parse(&fs::read_to_string(object.join(".config"))?);
        let missing = self.wanted.missing_from(&result);
        ensure!(
            missing.is_empty(),
            "the final configuration of {} has not what the fragments ask for:\n  {}\n\
             (a dependency is missing, or the option has another name in this kernel)",
            self.title(),
            missing.join("\n  ")
        );
        Ok(())
    }

    fn compile(&self, source: &Path, object: &Path, lock: &BuildLock) -> Result<()> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let log_path = object.join("build.log");
        let log = File::create(&log_path)?;
        let mut make = make(source, object)?;
        make.arg(format!("--jobs={jobs}")).args(["bzImage", "modules"]);
        make.stdin(lock.input()?).stdout(Stdio::piped()).stderr(log.try_clone()?);
        let mut child = make.spawn().context("run make")?;
        let mut progress = Progress::begin(self.title());
        if let Some(stdout) = child.stdout.take() {
            let mut log = log;
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line?;
                log.write_all(&line)?;
                log.write_all(b"\n")?;
                progress.step();
            }
        }
        let status = child.wait()?;
        progress.end();
        if !status.success() {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            bail!("make: {status}; the end of {}:\n{tail}", log_path.display());
        }
        Ok(())
    }
}

/// `make` for an object tree, free of what an outer `make` or `cargo` has put into the
/// environment, and giving the same kernel for the same inputs.
fn make(source: &Path, object: &Path) -> Result<Command> {
    let mut make = host::command("make", "make")?;
    make.arg("-C").arg(source).arg(format!("O={}", object.display()));
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARCH", "O"] {
        make.env_remove(variable);
    }
    make.env("LC_ALL", "C").env("KBUILD_BUILD_TIMESTAMP", "1970-01-01");
    make.env("KBUILD_BUILD_USER", "lab").env("KBUILD_BUILD_HOST", "lab").stdin(Stdio::null());
    Ok(make)
}

/// Copies out of the object tree what machines and tests need.
fn collect(object: &Path, to: &Path) -> Result<()> {
    let copy = |from: &str, name: &str| {
        let from = object.join(from);
        fs::copy(&from, to.join(name)).with_context(|| format!("copy {}", from.display()))
    };
    copy("vmlinux", "vmlinux")?;
    copy("arch/x86/boot/bzImage", "bzImage")?;
    copy("System.map", "System.map")?;
    copy(".config", "config")?;
    copy("scripts/sign-file", "sign-file")?;
    fs::create_dir(to.join("modules"))?;
    let order = fs::read_to_string(object.join("modules.order"))?;
    for module in order.lines() {
        let module = Path::new(module).with_extension("ko");
        let name = module.file_name().and_then(|name| name.to_str()).context("a module's name")?;
        copy(&module.to_string_lossy(), &format!("modules/{name}"))?;
    }
    Ok(())
}

/// How far a build is: one line that is written over on a terminal, else one now and then.
struct Progress {
    title: String,
    steps: u32,
    start: Instant,
    told: Instant,
    terminal: bool,
}

impl Progress {
    fn begin(title: String) -> Self {
        host::say(&format!("building {title}: some minutes the first time"));
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { title, steps: 0, start: now, told: now, terminal }
    }

    fn step(&mut self) {
        self.steps += 1;
        let pause = Duration::from_secs(if self.terminal { 1 } else { 30 });
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let seconds = self.start.elapsed().as_secs();
        let line = format!("building {}: {} steps, {seconds} s", self.title, self.steps);
        if self.terminal {
            let _ = write!(std::io::stderr(), "\rlab: {line} ");
        } else {
            host::say(&line);
        }
    }

    fn end(&self) {
        if self.terminal {
            let _ = writeln!(std::io::stderr());
        }
        let seconds = self.start.elapsed().as_secs();
        host::say(&format!("{} steps in {seconds} s", self.steps));
    }
}
