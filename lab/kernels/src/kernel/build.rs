//! Building kernels.
//!
//! Each series has one source tree and one object tree in the cache. Its variants are built there one
//! after the other: only files that depend on a changed option are compiled again, which takes one
//! minute instead of seven. The results are copied out of the object tree.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::config::Config;
use super::source::Source;
use super::{Architecture, Kernel, Series, Variant};
use crate::cache::{self, Inputs, Lock, Publication, Work};
use crate::host;

/// Increase this when a change of the build changes its result.
const RECIPE: &str = "3";

/// The layer's fragments, which are tested here.
const LAYER: &str = "meta-integrity/recipes-kernel/linux/linux-yocto";
const FRAGMENTS: [&str; 4] = ["integrity.cfg", "ima.cfg", "ima-modsig.cfg", "modsign.cfg"];
/// The lab's own fragments.
const LAB: &str = "lab/kernels/config";

/// The programs that a build needs: (program, package).
const TOOLS: [(&str, &str); 9] = [
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("cpio", "cpio"),
    ("openssl", "openssl"),
    ("gcc", "gcc"),
];
/// The headers and libraries that a build needs: (file, package).
const LIBRARIES: [(&str, &str); 2] =
    [("/usr/include/libelf.h", "libelf-dev"), ("/usr/include/openssl/ssl.h", "libssl-dev")];

/// A kernel for the host's architecture, from the cache or built now.
pub fn prepare(series: Series, variant: Variant) -> Result<Kernel> {
    prepare_for(Architecture::X86_64, series, variant)
}

/// A kernel for any architecture. Kernels for others than the host's have the layer's fragments and the
/// base of a guest, without the further options that scenarios need.
pub fn prepare_for(architecture: Architecture, series: Series, variant: Variant) -> Result<Kernel> {
    let recipe = Recipe::read(architecture, series, variant)?;
    let directory = cache::root()?.join("kernels").join(recipe.name());
    if !directory.exists() {
        let lock = Lock::take(Work::Building)?;
        if !directory.exists() {
            recipe.build(&directory, &lock)?;
        }
    }
    let version = recipe.source.version;
    Ok(Kernel { architecture, series, version, variant, directory })
}

/// All inputs of a kernel's build.
struct Recipe {
    architecture: Architecture,
    variant: Variant,
    source: Source,
    wanted: Config,
}

impl Recipe {
    fn read(architecture: Architecture, series: Series, variant: Variant) -> Result<Self> {
        let source = Source::of(series)?;
        let mut lab = vec!["guest.cfg", architecture.fragment()];
        if architecture == Architecture::X86_64 {
            lab.push("scenarios.cfg");
            lab.extend(series.scenario_fragments());
        }
        lab.extend(series.guest_fragments());
        let lab = lab.iter().map(|name| Path::new(LAB).join(name));
        let layer = FRAGMENTS.iter().map(|name| Path::new(LAYER).join(name));
        let mut wanted = Config::default();
        for path in lab.chain(layer).map(|path| host::checkout().join(path)) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            wanted.merge(&text);
        }
        variant.lost().iter().for_each(|beginning| wanted.forget(beginning));
        variant.off().iter().for_each(|name| wanted.switch_off(name));
        Ok(Self { architecture, variant, source, wanted })
    }

    /// The name, as in `linux-6.1.192-2-x86_64-full-0123456789abcdef`.
    fn name(&self) -> String {
        let package_version = &self.source.package_version;
        let mut inputs = Inputs::default();
        inputs.add(RECIPE).add(self.architecture.name());
        inputs.add(&self.source.version).add(package_version).add(self.wanted.text());
        let (architecture, variant) = (self.architecture, self.variant.name());
        format!("linux-{package_version}-{architecture}-{variant}-{}", inputs.name())
    }

    fn build(&self, place: &Path, lock: &Lock) -> Result<()> {
        let (cross, compiler) = self.architecture.cross();
        host::program(&format!("{cross}gcc"), compiler)?;
        for (name, package) in TOOLS {
            host::program(name, package)?;
        }
        for (path, package) in LIBRARIES {
            host::file(Path::new(path), package)?;
        }
        let Source { version, package_version, .. } = &self.source;
        let tree = cache::root()?.join("build").join(format!("linux-{version}-{package_version}"));
        let source = tree.join("source");
        let object = tree.join(format!("object-{}", self.architecture));
        self.unpack(&source)?;
        fs::create_dir_all(&object)?;
        self.configure(&source, &object)?;
        self.compile(&source, &object, lock)?;

        let publication = Publication::begin(place)?;
        self.collect(&object, publication.directory())?;
        publication.finish()?;
        host::say(&format!("{} is in {}", self.title(), place.display()));
        Ok(())
    }

    fn title(&self) -> String {
        let Source { version, package_version, .. } = &self.source;
        let (architecture, variant) = (self.architecture, self.variant.name());
        format!("Linux {version} ({package_version}, {architecture}, {variant})")
    }

    fn unpack(&self, source: &Path) -> Result<()> {
        if source.exists() {
            return Ok(());
        }
        host::say(&format!("unpacking {}", self.source.tarball.display()));
        let publication = Publication::begin(source)?;
        let mut tar = host::command("tar", "tar")?;
        tar.args(["--extract", "--strip-components=1", "--file"]).arg(&self.source.tarball);
        host::run(tar.arg("--directory").arg(publication.directory()))?;
        publication.finish()
    }

    /// Configures as `make tinyconfig` does, but with all fragments as the base: an option that no fragment
    /// sets is off. Then checks that the result has all options of the fragments.
    fn configure(&self, source: &Path, object: &Path) -> Result<()> {
        let wanted = object.join("wanted.config");
        fs::write(&wanted, self.wanted.text())?;
        let mut make = self.make(source, object)?;
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

    fn compile(&self, source: &Path, object: &Path, lock: &Lock) -> Result<()> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let log_path = object.join("build.log");
        let log = File::create(&log_path)?;
        let mut make = self.make(source, object)?;
        make.arg(format!("--jobs={jobs}")).args([self.architecture.image().1, "modules"]);
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

    /// `make` for an object tree, without the environment of an outer `make` or `cargo`, and reproducible:
    /// the same inputs give the same kernel.
    fn make(&self, source: &Path, object: &Path) -> Result<Command> {
        let mut make = host::command("make", "make")?;
        make.arg("-C").arg(source).arg(format!("O={}", object.display()));
        for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "O"] {
            make.env_remove(variable);
        }
        make.env("LC_ALL", "C").env("KBUILD_BUILD_TIMESTAMP", "1970-01-01");
        let (cross, _) = self.architecture.cross();
        make.env("ARCH", self.architecture.name()).env("CROSS_COMPILE", cross);
        make.env("KBUILD_BUILD_USER", "lab").env("KBUILD_BUILD_HOST", "lab").stdin(Stdio::null());
        Ok(make)
    }

    /// Copies the files that machines and tests need out of the object tree.
    fn collect(&self, object: &Path, to: &Path) -> Result<()> {
        let copy = |from: &str, name: &str| {
            let from = object.join(from);
            fs::copy(&from, to.join(name)).with_context(|| format!("copy {}", from.display()))
        };
        copy("vmlinux", "vmlinux")?;
        let (directory, image) = self.architecture.image();
        copy(&format!("{directory}/{image}"), "image")?;
        copy("System.map", "System.map")?;
        copy(".config", "config")?;
        copy("scripts/sign-file", "sign-file")?;
        fs::create_dir(to.join("modules"))?;
        let order = fs::read_to_string(object.join("modules.order"))?;
        for module in order.lines() {
            // older kernels list *.ko, newer ones *.o
            let module = Path::new(module).with_extension("ko");
            let name =
                module.file_name().and_then(|name| name.to_str()).context("a module's name")?;
            copy(&module.to_string_lossy(), &format!("modules/{name}"))?;
        }
        Ok(())
    }
}

/// The progress of a build: one line that is overwritten on a terminal, else a line now and then.
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
