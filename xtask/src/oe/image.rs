//! What is in the images and packages of a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::build::Build;
use super::output;
use crate::cargo;

const IMAGE: &str = "lab-image-qemux86-64.rootfs";
const INITRAMFS: &str = "integrity-initramfs-qemux86-64.cpio.gz";

/// Verifies all files of the image's tar and ext4 with a store's certificate, and that no private
/// key is in them. A hash of the tar is the result.
pub(super) fn check(build: &Build, store: &Path) -> Result<String> {
    let certificate = store.join("ima_keys/x509_ima.der");
    let tar = build.images().join(format!("{IMAGE}.tar"));
    let unpacked = build.directory().with_extension("unpacked");
    remove(&unpacked)?;
    fs::create_dir(&unpacked)?;
    let mut extract = Command::new("tar");
    extract.args(["--xattrs", "--xattrs-include=security.ima", "-xf"]).arg(&tar);
    output(extract.arg("-C").arg(&unpacked)).context("as root, for the attributes")?;
    verify(build, &certificate, &unpacked)?;
    remove(&unpacked)?;

    let mount = build.directory().with_extension("mounted");
    fs::create_dir_all(&mount)?;
    let disc = build.images().join(format!("{IMAGE}.ext4"));
    let disc = disc.canonicalize().with_context(|| format!("{}", disc.display()))?;
    output(Command::new("mount").args(["-o", "ro,loop"]).arg(&disc).arg(&mount))?;
    let verified = verify(build, &certificate, &mount);
    output(Command::new("umount").arg(&mount))?;
    verified?;

    let sum = output(Command::new("sha256sum").arg(&tar))?;
    let sum = String::from_utf8(sum)?;
    Ok(sum.split(' ').next().unwrap_or_default().to_owned())
}

/// Every file below a directory carries a valid signature.
fn verify(build: &Build, certificate: &Path, directory: &Path) -> Result<()> {
    let mut verify = build.imactl();
    let text = output(verify.args(["verify", "--cert"]).arg(certificate).arg(directory))?;
    let text = String::from_utf8(text)?;
    for name in ["sbin/init", "bin/busybox", "bin/script", "usr/bin/imactl-init", "etc/hostname"] {
        let line = text.lines().find(|line| line.contains(&format!("/{name} ")));
        let valid = line.is_some_and(|line| line.starts_with("valid "));
        ensure!(valid, "{name} is not among what is valid:\n{text}");
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

/// Has the lab boot the image with its initramfs, and try.
pub(super) fn boot(build: &Build, store: &Path) -> Result<()> {
    let images = build.images();
    let path = |name: &str| -> PathBuf { images.join(name) };
    let mut lab = cargo(&["run", "--quiet", "--package", "lab", "--bin", "lab", "--", "image"]);
    lab.arg("--disc").arg(path(&format!("{IMAGE}.ext4")));
    lab.arg("--initramfs").arg(path(INITRAMFS));
    lab.arg("--keys").arg(store);
    crate::run(lab)
}
