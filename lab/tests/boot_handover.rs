//! Handing over to the real root: files in it have no effect on the treatment of the initramfs, and the
//! scripts of other initramfs can call imactl-init for both of their last steps.

use lab::boot::Boot;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Ending;
use lab::on_each_kernel;
use lab::programs;
use lab::protocol::Errno;

/// The order of meta-secure-core's init: the mounts move to the root first, so that `/init.ima`
/// has no `/proc`, `/sys` or `/dev`; then the switch_root of the root, by a relative path, or the
/// initramfs's own where `/init.ima` fails.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /rootfs
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -o ro /dev/vda /rootfs
for directory in proc sys dev; do
	/bin/busybox mount -o move "/$directory" "/rootfs/$directory"
done
cd /rootfs
if [ -x /init.ima ] && /init.ima /rootfs; then
	switch_root=usr/sbin/switch_root.static
else
	echo "init.ima failed with $?"
	switch_root="/bin/busybox switch_root"
fi
exec $switch_root /rootfs /sbin/init
"#;

/// The same with a mount at /run.
const WITH_RUN: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /sysroot
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t tmpfs of-initramfs /run
/bin/busybox mount -o ro /dev/vda /sysroot
exec /usr/bin/imactl-init switch-root --secure /sysroot /sbin/init
"#;

fn called_by_scripts(boot: &Boot) -> anyhow::Result<()> {
    boot.initramfs.write("/init", INIT, 0o755)?;
    boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
    boot.initramfs.take(programs::imactl_init()?, "/init.ima")?;
    for directory in ["proc", "sys", "dev"] {
        boot.root.write(&format!("/{directory}/.keep"), "", 0o644)?;
    }
    boot.root.take(programs::imactl_init()?, "/usr/sbin/switch_root.static")
}

on_each_kernel! {
    fn a_link_in_the_root_moves_no_mount_into_the_initramfs(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.initramfs.take(programs::imactl_init()?, "/usr/bin/imactl-init")?;
        boot.initramfs.write("/init", WITH_RUN, 0o755)?;
        boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
        // /etc is in the initramfs as well: resolved by path, /run would cover its policies and keys
        if boot.root.path("/run").exists() {
            std::fs::remove_dir_all(boot.root.path("/run"))?;
        }
        boot.root.symlink("/run", "/etc")?;
        boot.root.write("/etc/keep", "", 0o644)?;
        boot.root.sign_all(&store)?;
        let mut guest = boot.up()?;

        assert!(guest.boot_says("secured in "));
        assert!(!guest.boot_says("not moved"));
        let mounts = guest.read("/proc/mounts")?.text();
        assert!(mounts.lines().any(|line| line.starts_with("of-initramfs /etc tmpfs ")), "{mounts}");
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn the_scripts_of_others_call_it_as_init_ima_and_switch_root_static(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        called_by_scripts(&boot)?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = boot.up()?;

        assert!(guest.console().contains("1 certificate, 1 policy, 7 rules in force"));
        assert_eq!(guest.agent(), 1);
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        let mounts = guest.read("/proc/mounts")?.text();
        assert!(!mounts.contains("/rootfs"), "{mounts}");
        Ok(())
    }

    fn as_init_ima_a_failure_stops_a_boot_that_would_continue_without_a_policy(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let without_policy = || -> anyhow::Result<Boot> {
            let boot = Boot::new(kernel, &store)?;
            called_by_scripts(&boot)?;
            boot.initramfs.remove("/etc/ima/ima_policy.default")?;
            Ok(boot)
        };
        let record = without_policy()?.ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("the kernel is not secured: no policy"));
        assert!(!record.console.contains("init.ima failed"));

        let mut guest = without_policy()?.append("imactl.mode=permissive").up()?;
        assert!(guest.console().contains("init.ima failed with 4"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }

    fn certificates_of_the_root_can_be_left_out(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let old = store.another_signer("replaced", lab::keys::Issuer::System)?;
        let boot = || -> anyhow::Result<Boot> {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.root.copy("/usr/bin/true", "/opt/old")?;
            old.sign(&[boot.root.path("/opt/old")])?;
            boot.root.write("/etc/keys/x509_ima_old.der", old.certificate()?, 0o644)?;
            Ok(boot)
        };
        // the trusted key once signed its certificate, so an attacker with write access to the root can restore it
        boot()?.up()?.execute(&["/opt/old"])?.is_allowed();

        let configured = boot()?;
        let words = "# of this product\nimactl.root-certificates=skip\n";
        configured.initramfs.write("/etc/imactl/cmdline", words, 0o644)?;
        let by_command_line = boot()?.append("imactl.root-certificates=skip");
        for boot in [configured.append("imactl.root-certificates=load"), by_command_line] {
            let mut guest = boot.up()?;
            assert!(guest.boot_says("1 certificate of the real root not loaded"));
            guest.execute(&["/usr/bin/true"])?.is_allowed();
            guest.execute(&["/opt/old"])?.is_denied(Errno::EACCES, "invalid-signature");
        }
        Ok(())
    }
}
