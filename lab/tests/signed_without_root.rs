//! Roots signed by an ordinary user: through a tar archive, in an ext4 image, and in a container image.

use std::fs;
use std::os::unix::fs::{chown, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use lab::boot::Boot;
use lab::image::Image;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::protocol::Errno;
use lab::scenario::run;
use lab::{host, on_each_kernel, programs};

/// `nobody`
const USER: u32 = 65_534;

/// A command, run as an ordinary user.
fn as_user(mut command: Command) -> Command {
    command.uid(USER).gid(USER);
    command
}

/// A directory of that user, with a copy of the keys.
fn home(store: &KeyStore) -> Result<(tempfile::TempDir, PathBuf)> {
    let home = tempfile::Builder::new().prefix("lab-user-").tempdir()?;
    let keys = home.path().join("keys");
    host::run(host::command("cp", "coreutils")?.arg("-r").args([&store.directory(), &keys]))?;
    let mut own = host::command("chown", "coreutils")?;
    host::run(own.args(["-R", &format!("{USER}:{USER}")]).arg(home.path()))?;
    Ok((home, keys))
}

/// Checks that signed programs run, and others do not.
fn enforces(guest: &mut Guest) -> Result<()> {
    guest.execute(&["/usr/bin/true"])?.is_allowed();
    guest.execute(&["/usr/bin/busybox", "true"])?.is_allowed();
    guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
    Ok(())
}

/// A boot whose root has a program that is to stay unsigned.
fn boot(kernel: &lab::kernel::Kernel, store: &KeyStore) -> Result<Boot> {
    let boot = Boot::new(kernel, store)?;
    boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
    Ok(boot)
}

fn sign(keys: &Path) -> Result<Command> {
    let mut sign = as_user(programs::imactl()?);
    sign.args(["--quiet", "sign", "--exclude", "/opt", "--keys"]).arg(keys);
    Ok(sign)
}

on_each_kernel! {
    fn a_squashfs_of_a_signed_tar_archive_boots(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let boot = boot(kernel, &store)?;
        let (home, keys) = home(&store)?;
        let image = home.path().join("root.squashfs");

        // tar | imactl sign | sqfstar, all without root
        let mut tar = as_user(host::command("tar", "tar")?);
        tar.args(["--owner=0", "--group=0", "-C"]).arg(boot.root.directory());
        let mut tar = tar.args(["-cf", "-", "."]).stdout(Stdio::piped()).spawn()?;
        let mut sign = sign(&keys)?;
        sign.args(["-", "-o", "-"]).stdin(tar.stdout.take().context("a pipe")?);
        let mut sign = sign.stdout(Stdio::piped()).spawn()?;
        let mut sqfstar = as_user(host::command("sqfstar", "squashfs-tools")?);
        sqfstar.args(["-quiet", "-no-progress"]).arg(&image);
        host::run(sqfstar.stdin(sign.stdout.take().context("a pipe")?))?;
        assert!(sign.wait()?.success() && tar.wait()?.success());

        let mut guest = boot.up_from_disk(&Image::copy_of(&image)?)?;
        enforces(&mut guest)
    }

    fn an_ext4_image_that_was_signed_boots(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = boot(kernel, &store)?;
        let (home, keys) = home(&store)?;
        let image = home.path().join("root.ext4");
        fs::copy(boot.root.ext4(64 << 20)?.path(), &image)?;
        fs::set_permissions(&image, fs::Permissions::from_mode(0o644))?;
        chown(&image, Some(USER), Some(USER))?;

        host::run(sign(&keys)?.arg(&image))?;
        host::run(host::command("e2fsck", "e2fsprogs")?.arg("-fn").arg(&image))?;

        let mut guest = boot.up_from_disk(&Image::copy_of(&image)?)?;
        enforces(&mut guest)
    }
}

#[test]
fn a_root_unpacked_from_a_signed_container_image_boots() {
    run(Series::Linux6_12, |kernel| {
        let store = KeyStore::create(Algorithm::P256)?;
        let boot = boot(kernel, &store)?;
        let (home, keys) = home(&store)?;
        let (layout, root) = (home.path().join("app"), home.path().join("root"));
        let image = format!("{}:a", layout.display());
        let umoci = || host::command("umoci", "umoci");
        host::run(umoci()?.args(["init", "--layout"]).arg(&layout))?;
        host::run(umoci()?.args(["new", "--image", &image]))?;
        let top = boot.root.directory();
        host::run(umoci()?.args(["insert", "--image", &image]).arg(top).arg("/"))?;
        let mut own = host::command("chown", "coreutils")?;
        host::run(own.args(["-R", &format!("{USER}:{USER}")]).arg(&layout))?;

        host::run(sign(&keys)?.arg(&layout))?;

        // umoci sets the attributes as it unpacks, mke2fs copies them
        host::run(umoci()?.args(["raw", "unpack", "--image", &image]).arg(&root))?;
        let disk = home.path().join("root.ext4");
        fs::File::create(&disk)?.set_len(256 << 20)?;
        let mut mke2fs = host::command("mke2fs", "e2fsprogs")?;
        host::run(mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk))?;
        let mut guest = boot.up_from_disk(&Image::copy_of(&disk)?)?;
        enforces(&mut guest)
    });
}
