//! Checks of the images and packages of a build.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use super::build::{layer, Build};
use crate::{cargo, output, root};

const IMAGE: &str = "lab-image-qemux86-64.rootfs";
const INITRAMFS: &str = "integrity-initramfs-qemux86-64.cpio.gz";

/// The lines of a configuration for an image with rpm, dnf and their databases, as an ext4 file system alone.
pub(super) const PACKAGE_MANAGEMENT: &str =
    "IMAGE_FEATURES:pn-lab-image = \"package-management\"\n\
     IMAGE_FSTYPES:pn-lab-image = \"ext4\"\nLAB_ROOT_EXTRA = \"env\"\n";

/// Verifies all files of the image's tar and ext4 with a store's certificate, and checks that they have no
/// private key. Returns a hash of the tar.
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

    // on the disk with partitions, the root file system begins after the first MiB
    for (kind, offset) in [("ext4", 0), ("squashfs", 0), ("erofs", 0), ("wic", 1 << 20)] {
        mounted(build, &disk(build, kind)?, offset, |tree| verify(build, &certificate, tree))
            .with_context(|| kind.to_owned())?;
    }

    let sum = output(Command::new("sha256sum").arg(&tar))?;
    let sum = String::from_utf8(sum)?;
    Ok(sum.split(' ').next().unwrap_or_default().to_owned())
}

/// Checks that the policy of the initramfs has a valid detached signature.
pub(super) fn check_initramfs(build: &Build, store: &Path) -> Result<()> {
    let unpacked = build.directory().with_extension("unpacked");
    remove(&unpacked)?;
    fs::create_dir(&unpacked)?;
    let mut extract = Command::new("sh");
    extract.args(["-ec", "gzip -dc \"$1\" | cpio -id --quiet -D \"$2\" 'etc/*' './etc/*'", "sh"]);
    output(extract.arg(build.images().join(INITRAMFS)).arg(&unpacked))?;
    let mut verify = build.imactl();
    verify.args(["verify", "--detached", "--cert"]).arg(store.join("ima_keys/x509_ima.der"));
    output(verify.arg(unpacked.join("etc/ima/ima_policy.default")))?;
    remove(&unpacked)
}

/// An image of lab-image.
fn disk(build: &Build, kind: &str) -> Result<PathBuf> {
    let path = build.images().join(format!("{IMAGE}.{kind}"));
    path.canonicalize().with_context(|| format!("{}", path.display()))
}

/// Calls a function on the mounted file system of an image, at an offset on a disk.
fn mounted(
    build: &Build,
    disk: &Path,
    offset: u64,
    look: impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    let mount = build.directory().with_extension("mounted");
    fs::create_dir_all(&mount)?;
    let options = format!("ro,loop,offset={offset}");
    output(Command::new("mount").args(["-o", &options]).arg(disk).arg(&mount))?;
    let looked = look(&mount);
    output(Command::new("umount").arg(&mount))?;
    looked
}

/// The names of the image's files without a signature.
pub(super) fn bare_files(build: &Build) -> Result<Vec<String>> {
    let bare = RefCell::new(Vec::new());
    mounted(build, &disk(build, "ext4")?, 0, |tree| {
        let text = output(build.imactl().args(["--json", "inspect"]).arg(tree))?;
        for line in String::from_utf8(text)?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            if line["type"] == "file" && line["attribute"].is_null() {
                let path = line["path"].as_str().unwrap_or_default();
                bare.borrow_mut().push(path.rsplit('/').next().unwrap_or_default().to_owned());
            }
        }
        Ok(())
    })?;
    Ok(bare.into_inner())
}

/// The names of the image's files that are valid.
pub(super) fn valid_files(build: &Build, store: &Path) -> Result<Vec<String>> {
    valid_files_with(build, store, &[])
}

/// The same with EVM enabled.
pub(super) fn valid_files_under_evm(build: &Build, store: &Path) -> Result<Vec<String>> {
    let certificate = store.join("evm_keys/x509_evm.der");
    valid_files_with(build, store, &["--evm".as_ref(), "--evm-cert".as_ref(), certificate.as_ref()])
}

fn valid_files_with(build: &Build, store: &Path, more: &[&OsStr]) -> Result<Vec<String>> {
    let certificate = store.join("ima_keys/x509_ima.der");
    let valid = RefCell::new(Vec::new());
    mounted(build, &disk(build, "ext4")?, 0, |tree| {
        let mut verify = build.imactl();
        // exit status 1: there are others as well
        let verified = verify
            .args(["verify", "-v", "--cert"])
            .arg(&certificate)
            .args(more)
            .arg(tree)
            .output()?;
        for line in String::from_utf8(verified.stdout)?.lines() {
            if let Some(path) = line.strip_prefix("valid ") {
                let name = path.split_whitespace().next().and_then(|path| path.rsplit('/').next());
                valid.borrow_mut().extend(name.map(str::to_owned));
            }
        }
        Ok(())
    })?;
    Ok(valid.into_inner())
}

/// Checks that each package has a signature for each of its files, and that its other digests and signatures are valid.
pub(super) fn check_packages(build: &Build, store: &Path) -> Result<()> {
    let certificate = store.join("ima_keys/x509_ima.der");
    let list = output(Command::new("find").arg(build.packages()).args(["-name", "*.rpm"]))?;
    let list = String::from_utf8(list)?;
    let (mut signed, mut excluded) = (0, 0);
    for package in list.lines() {
        let mut query = Command::new("rpm");
        query.args(["-qp", "--nosignature", "--qf"]);
        // the first two digits of the mode are 10 for regular files
        query.args(["[%{FILEMODES:octal} x%{FILESIGNATURES}\n]", package]);
        let files = String::from_utf8(output(&mut query)?)?;
        let mut regular = files.lines().filter(|line| line.starts_with("10"));
        if ["-dbg-", "-src-"].iter().any(|kind| package.contains(kind)) {
            excluded += 1;
            ensure!(regular.all(|line| line.ends_with(" x")), "{package} is not excluded: {files}");
            continue;
        }
        let mut count = 0;
        for line in regular {
            ensure!(line.contains(" x0302"), "{package}: a file is not signed:\n{files}");
            count += 1;
        }
        if count > 0 {
            let mut verify = build.imactl();
            output(verify.args(["verify", "--cert"]).arg(&certificate).arg(package))?;
            output(Command::new("rpmkeys").args(["-K", "--nosignature", package]))?;
            signed += 1;
        }
    }
    ensure!(signed > 3 && excluded > 3, "{signed} packages signed, {excluded} excluded:\n{list}");
    Ok(())
}

/// Checks that every file below a directory has a valid signature.
fn verify(build: &Build, certificate: &Path, directory: &Path) -> Result<()> {
    let mut verify = build.imactl();
    let text = output(verify.args(["verify", "--cert"]).arg(certificate).arg(directory))?;
    let text = String::from_utf8(text)?;
    for name in ["init", "busybox", "script", "imactl-init", "hostname"] {
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

/// Boots the image with its initramfs in the lab, and checks the kernel's decisions.
pub(super) fn boot(build: &Build, store: &Path) -> Result<()> {
    let mut lab = Command::new(lab()?);
    lab.arg("image").args(machine(build, store));
    crate::run(lab)
}

/// Runs the layer's runtime test cases on a machine with the image, and those of the package manager with
/// the packages in a directory.
pub(super) fn runtime_cases(
    build: &Build,
    store: &Path,
    meta: &Path,
    evm: &str,
    packages: Option<&Path>,
) -> Result<()> {
    let mut python = Command::new("python3");
    python.arg("-B").arg(root().join("xtask/oe/runtime.py")).arg(meta).arg(layer()).arg(evm);
    python.arg(packages.unwrap_or(Path::new("")));
    python.arg(lab()?).arg("image").args(machine(build, store)).args(["--commands", "6.12"]);
    crate::run(python)
}

fn lab() -> Result<PathBuf> {
    crate::run(cargo(&["build", "--quiet", "--package", "lab", "--bin", "lab"]))?;
    Ok(root().join("target/debug/lab"))
}

fn machine(build: &Build, store: &Path) -> Vec<OsString> {
    let images = build.images();
    vec![
        "--disk".into(),
        images.join(format!("{IMAGE}.ext4")).into(),
        "--initramfs".into(),
        images.join(INITRAMFS).into(),
        "--keys".into(),
        store.into(),
    ]
}
