//! imactl-init as the last step of an initramfs that dracut made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lab::boot::Boot;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::protocol::Errno;
use lab::scenario::DEFAULT_POLICY;
use lab::{host, on_each_kernel, programs};

/// The directory of Debian's dracut.
const DRACUT: &str = "/usr/lib/dracut";

/// An initramfs with these modules and ours, made by the host's dracut.
fn initramfs(directory: &Path, store: &KeyStore, modules: &str) -> Result<PathBuf> {
    host::file(Path::new("/usr/lib/systemd/systemd-udevd"), "udev")?;
    host::file(Path::new("/usr/lib/systemd/systemd"), "systemd")?;
    let mut dracut = host::command("dracut", "dracut-core")?;
    // dracut searches modules below one directory: links to its own ones, and ours
    let base = directory.join("dracut");
    fs::create_dir_all(base.join("modules.d"))?;
    for part in ["", "modules.d"] {
        for entry in fs::read_dir(Path::new(DRACUT).join(part))? {
            let entry = entry?;
            if entry.file_name() != "modules.d" {
                symlink(entry.path(), base.join(part).join(entry.file_name()))?;
            }
        }
    }
    let ours = host::checkout().join("contrib/dracut/98imactl");
    symlink(ours, base.join("modules.d/98imactl"))?;
    fs::create_dir(directory.join("keys"))?;
    fs::write(directory.join("keys/x509_ima.der"), store.ima_certificate()?)?;
    fs::write(directory.join("policy"), DEFAULT_POLICY)?;
    let (place, init) = (directory.display(), programs::imactl_init()?.display());
    let conf = directory.join("dracut.conf");
    fs::write(
        &conf,
        format!("imactl_init={init}\nimactl_keys={place}/keys\nimactl_policy={place}/policy\n"),
    )?;
    fs::create_dir(directory.join("conf.d"))?;
    let image = directory.join("initramfs.img");
    dracut.env("dracutbasedir", &base);
    dracut.args(["--force", "--no-kernel", "--no-hostonly", "--no-early-microcode"]);
    dracut.args(["--no-compress", "--quiet", "--modules", modules, "--conf"]).arg(&conf);
    host::run(dracut.arg("--confdir").arg(directory.join("conf.d")).arg(&image))?;
    contains(&image, "etc/keys/x509_ima.der")?;
    Ok(image)
}

fn contains(image: &Path, name: &str) -> Result<()> {
    let mut cpio: Command = host::command("cpio", "cpio")?;
    let listed = host::run(cpio.args(["--list", "--quiet", "--file"]).arg(image))?;
    let listed = String::from_utf8(listed.stdout)?;
    listed.lines().find(|line| *line == name).map(drop).context("no such file in the initramfs")
}

/// Boots a signed root from such an initramfs until its agent is up.
fn boots(kernel: &Kernel, modules: &str) -> Result<()> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let directory = tempfile::tempdir()?;
    let image = initramfs(directory.path(), &store, modules)?;
    let boot = Boot::of(kernel, &store, Tree::small_root()?)?;
    boot.root.sign_all(&store)?;
    boot.root.copy("/usr/bin/true", "/opt/copy")?;
    // systemd checks for it before it switches the root
    boot.root.write("/etc/os-release", "ID=lab\n", 0o644)?;
    let mut guest = boot.append("root=/dev/vda rw").up_with(&image)?;
    assert_eq!(guest.agent(), 1);
    assert!(guest.boot_says(": 1 certificate, 1 policy, 7 rules in force"));
    guest.execute(&["/usr/bin/true"])?.is_allowed();
    guest.execute(&["/opt/copy"])?.is_denied(Errno::EACCES, "IMA-signature-required");
    Ok(())
}

on_each_kernel! {
    fn a_dracut_initramfs_ends_with_imactl_init(kernel) {
        boots(kernel, "base bash dash udev-rules rootfs-block fs-lib imactl")
    }

    fn so_does_one_with_systemd(kernel) {
        let systemd = "systemd systemd-initrd systemd-udevd dracut-systemd";
        boots(kernel, &format!("base bash dash {systemd} udev-rules rootfs-block fs-lib imactl"))
    }
}
