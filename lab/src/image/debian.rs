//! A complete distribution: Debian's minbase with systemd, made by mmdebstrap. And some of its
//! programs for other architectures.

use std::path::PathBuf;

use anyhow::Result;

use super::Tree;
use crate::archive::Archive;
use crate::cache::{self, Inputs, Lock, Publication, Work};
use crate::host;
use crate::kernel::Architecture;

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// Packages in addition to minbase: an init, device management, modules, D-Bus.
const INCLUDE: &str = "systemd-sysv,udev,kmod,dbus";

impl Tree {
    /// Debian's minbase with systemd as its init, unsigned. It is made once and kept in the cache.
    pub fn debian() -> Result<Self> {
        let archive = archive()?;
        let tree = Self::empty()?;
        let mut tar = host::command("tar", "tar")?;
        tar.args(["--extract", "--numeric-owner", "--preserve-permissions", "--file"]);
        host::run(tar.arg(archive).arg("--directory").arg(tree.directory()))?;
        Ok(tree)
    }
}

fn archive() -> Result<PathBuf> {
    host::root()?;
    let mut mmdebstrap = host::command("mmdebstrap", "mmdebstrap")?;
    let mut inputs = Inputs::default();
    inputs.add(SUITE).add(MIRROR).add(INCLUDE);
    let place = cache::root()?.join("debian").join(format!("{SUITE}-{}", inputs.name()));
    let archive = place.join("root.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let lock = Lock::take(Work::Fetching)?;
    // another process may have made it while this one waited
    if archive.exists() {
        return Ok(archive);
    }
    host::say("fetching a Debian minbase");
    let publication = Publication::begin(&place)?;
    let made = publication.directory().join("root.tar");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--include", INCLUDE, SUITE]);
    host::run(mmdebstrap.arg(&made).arg(MIRROR).stdin(lock.input()?))?;
    publication.finish()?;
    Ok(archive)
}

/// The packages of [`programs`], and of their libraries.
const PACKAGES: [&str; 6] =
    ["busybox-static", "coreutils", "dash", "libc6", "libpcre2-8-0", "libselinux1"];
const PROGRAMS: [&str; 5] = ["busybox", "cat", "dash", "ls", "true"];
const LIBRARIES: [&str; 3] = ["libc.so.6", "libpcre2-8.so.0", "libselinux.so.1"];

/// Programs of another architecture: their paths on the host, and in the guest.
pub(super) fn programs(architecture: Architecture) -> Result<Vec<(PathBuf, String)>> {
    let loader = match architecture {
        Architecture::X86_64 => "lib64/ld-linux-x86-64.so.2",
        Architecture::Arm64 => "lib/ld-linux-aarch64.so.1",
        Architecture::Arm => "lib/ld-linux-armhf.so.3",
    };
    let mut inputs = Inputs::default();
    PACKAGES.iter().for_each(|package| _ = inputs.add(package));
    let name = format!("{SUITE}-{}-{}", architecture.debian(), inputs.name());
    let place = cache::root()?.join("debian").join(name);
    if !place.exists() {
        let _lock = Lock::take(Work::Fetching)?;
        if !place.exists() {
            host::say(&format!("fetching programs of {architecture} from Debian's archive"));
            let archive = Archive::open(&[SUITE], architecture.debian())?;
            let publication = Publication::begin(&place)?;
            for package in PACKAGES {
                archive.download(package)?.unpack(publication.directory())?;
            }
            publication.finish()?;
        }
    }
    let libraries = format!("lib/{}", architecture.multiarch());
    let found = |path: &str| match place.join(path) {
        inside if inside.exists() => inside,
        _ => place.join("usr").join(path),
    };
    let paths = PROGRAMS.map(|name| format!("bin/{name}")).into_iter();
    let paths = paths.chain(LIBRARIES.map(|name| format!("{libraries}/{name}")));
    let paths = paths.chain([loader.to_owned()]);
    Ok(paths.map(|path| (found(&path), format!("/usr/{path}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_other_architectures_come_with_their_libraries() {
        crate::scenario::run_on_host(|| {
            for (architecture, machine) in [(Architecture::Arm64, 183), (Architecture::Arm, 40)] {
                for (from, to) in programs(architecture)? {
                    let program = std::fs::read(&from)?;
                    assert_eq!(program[18..20], [machine, 0], "{} for {to}", from.display());
                }
            }
            Ok(())
        });
    }
}
