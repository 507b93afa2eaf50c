//! Building and running for other architectures than this machine's.
//!
//! rustup's toolchain has no libraries for them, unless `rustup target add` installed them. Debian's has
//! their source (rust-web-src), from which Cargo builds those that a program needs (`-Zbuild-std`).
//! Debian's cross compilers link, and QEMU runs a program of another architecture.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

use crate::{output, root, target_directory};

/// An architecture, and its names for Rust, GNU and QEMU.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// Rust's name.
    pub(crate) target: &'static str,
    /// GNU's name: the prefix of its compiler, and the directory of its C library below `/usr`.
    pub(crate) gnu: &'static str,
    /// The NAME in `qemu-NAME-static`.
    pub(crate) qemu: &'static str,
}

/// The architectures of the layer's `COMPATIBLE_HOST`.
pub(crate) const ARCHITECTURES: &[Architecture] = &[
    Architecture { target: "x86_64-unknown-linux-gnu", gnu: "x86_64-linux-gnu", qemu: "x86_64" },
    Architecture { target: "i686-unknown-linux-gnu", gnu: "i686-linux-gnu", qemu: "i386" },
    Architecture { target: "aarch64-unknown-linux-gnu", gnu: "aarch64-linux-gnu", qemu: "aarch64" },
    Architecture {
        target: "armv7-unknown-linux-gnueabihf",
        gnu: "arm-linux-gnueabihf",
        qemu: "arm",
    },
    Architecture {
        target: "riscv64gc-unknown-linux-gnu",
        gnu: "riscv64-linux-gnu",
        qemu: "riscv64",
    },
];

impl Architecture {
    /// The architecture with this Rust name.
    pub(crate) fn of(target: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.target == target)
    }

    /// The command that runs a program of this architecture in QEMU, with its C library.
    fn runner(&self) -> [String; 3] {
        [format!("qemu-{}-static", self.qemu), "-L".into(), format!("/usr/{}", self.gnu)]
    }

    /// A command that runs a program of this architecture in QEMU.
    pub(crate) fn run(&self, program: &Path) -> Command {
        let [qemu, arguments @ ..] = self.runner();
        let mut command = Command::new(qemu);
        command.args(arguments).arg(program);
        command
    }

    /// Whether its programs can be linked and run here; if not, prints why, and fails in CI.
    pub(crate) fn is_available(&self) -> Result<bool> {
        let [qemu, ..] = self.runner();
        let missing = [format!("{}-gcc", self.gnu), qemu].into_iter().find(|program| {
            !Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success())
        });
        let Some(missing) = missing else { return Ok(true) };
        eprintln!("SKIPPED: {}: no {missing} (Debian: tools/packages cross)", self.target);
        ensure!(std::env::var_os("CI").is_none(), "no {missing}, and CI must not skip");
        Ok(false)
    }
}

/// A Cargo that builds for a target.
#[derive(Debug)]
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    host: String,
    libraries: Libraries,
}

/// The form of Rust's own libraries for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Libraries {
    Installed,
    Source,
}

impl Toolchain {
    /// The toolchain in use if it has the target's libraries or their source, else Debian's.
    pub(crate) fn of(target: &str) -> Result<Self> {
        let named = |variable, name| std::env::var_os(variable).unwrap_or(name).into();
        let at_hand: (PathBuf, PathBuf) =
            (named("CARGO", "cargo".into()), named("RUSTC", "rustc".into()));
        for (cargo, rustc) in [at_hand, ("/usr/bin/cargo".into(), "/usr/bin/rustc".into())] {
            let Ok(sysroot) = output(Command::new(&rustc).args(["--print", "sysroot"])) else {
                continue;
            };
            let sysroot = String::from_utf8(sysroot).context("rustc --print sysroot")?;
            let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
            let libraries = if rustlib.join(target).join("lib").is_dir() {
                Libraries::Installed
            } else if rustlib.join("src/rust/library/core").is_dir() {
                Libraries::Source
            } else {
                continue;
            };
            return Ok(Self { cargo, rustc, host: host()?, libraries });
        }
        bail!(
            "no Rust for {target}: neither its libraries (rustup target add {target}) nor their \
             source (Debian: tools/packages cross)"
        )
    }

    /// Cargo with `arguments`, in the workspace's root; `libraries` are the crates of Rust itself that the
    /// program is linked with.
    pub(crate) fn cargo(&self, arguments: &[&str], target: &str, libraries: &str) -> Command {
        let mut cargo = Command::new(&self.cargo);
        cargo.args(arguments).args(["--target", target]).current_dir(root());
        cargo.env("RUSTC", &self.rustc);
        if self.libraries == Libraries::Source {
            // a stable compiler accepts -Z only with this variable; Debian builds its own packages like this
            cargo.arg(format!("-Zbuild-std={libraries}")).env("RUSTC_BOOTSTRAP", "1");
        }
        if let Some(architecture) = Architecture::of(target).filter(|_| self.host != target) {
            let runner = architecture.runner().join(" ");
            let linker = format!("{}-gcc", architecture.gnu);
            for (setting, value) in [("LINKER", linker), ("RUNNER", runner)] {
                let name = format!("CARGO_TARGET_{}_{setting}", target.to_uppercase());
                let name = name.replace('-', "_");
                if std::env::var_os(&name).is_none() {
                    cargo.env(name, value);
                }
            }
        }
        cargo
    }

    /// The same for a program that only tests run: static, in `target/lab/TRIPLE/debug`, where these flags do not
    /// cause a rebuild of everything else. All of them share one std, which is not optimized, as compiling it takes
    /// longer than running them.
    pub(crate) fn cargo_for_tests(&self, arguments: &[&str], target: &str) -> Command {
        let mut cargo = self.cargo(arguments, target, "std,panic_unwind");
        cargo.arg("--target-dir").arg(target_directory().join("lab"));
        cargo.args(["--config", "profile.dev.package.'*'.opt-level=0"]);
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_STRIP", "symbols");
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
        cargo
    }
}

/// Rust's name for this machine.
pub(crate) fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = String::from_utf8(output(Command::new(rustc).arg("-vV"))?).context("rustc -vV")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(String::from).context("rustc -vV names no host")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::root;

    #[test]
    fn the_architectures_are_those_that_the_layer_builds_for() {
        let recipe = "meta-integrity/recipes-support/imactl/imactl-init_0.1.0.bb";
        let recipe = fs::read_to_string(root().join(recipe)).unwrap();
        let pattern = recipe.lines().find_map(|line| line.strip_prefix("COMPATIBLE_HOST = \"("));
        let alternatives = pattern.and_then(|rest| rest.split(')').next()).unwrap();
        let names = ARCHITECTURES.iter().map(|architecture| architecture.gnu.split('-').next());
        let names: Vec<_> = names.map(|name| name.unwrap().replace("i686", "i.86")).collect();
        assert_eq!(names, alternatives.split('|').collect::<Vec<_>>());
    }
}
