//! A whole distribution: Debian's minbase with systemd, as mmdebstrap makes it.

use std::path::PathBuf;

use anyhow::Result;

use super::Tree;
use crate::cache::{self, BuildLock, Inputs, Publication};
use crate::host;

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// Besides minbase: an init, devices, modules, and what units talk over.
const INCLUDE: &str = "systemd-sysv,udev,kmod,dbus";

impl Tree {
    /// Debian's minbase with systemd as its init; nothing of it is signed. It is made once
    /// and kept in the cache.
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
    let lock = BuildLock::take()?;
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
