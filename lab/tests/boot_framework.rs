//! imactl-init as the last module of an initramfs that sources its modules, as in OpenEmbedded's
//! initramfs-framework.

use lab::boot::Boot;
use lab::host;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::Errno;

/// The framework as modules see it: its functions and variables, `bootparam_` for words of the command
/// line, hooks before and after each module, all in one shell.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
ROOTFS_DIR=/rootfs
MODULE_PRE_HOOKS=
MODULE_POST_HOOKS=
add_module_pre_hook() { MODULE_PRE_HOOKS="$MODULE_PRE_HOOKS $1"; }
add_module_post_hook() { MODULE_POST_HOOKS="$MODULE_POST_HOOKS $1"; }
msg() { echo "$@" >/dev/console; }
info() { test -z "$bootparam_verbose" || msg "$@"; }
debug() { test -z "$bootparam_debug" || msg "DEBUG: $@"; }
fatal() { msg "$1"; while true; do sleep 3600; done; }

mkdir -p /proc /sys /dev "$ROOTFS_DIR"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for word in $(cat /proc/cmdline); do
	case "$word" in
	*=*) eval "bootparam_$(echo "${word%%=*}" | tr .- __)=\"${word#*=}\"" ;;
	*) eval "bootparam_$(echo "$word" | tr .- __)=true" ;;
	esac
done

for file in /init.d/*; do
	module=${file##*/??-}
	for hook in $MODULE_PRE_HOOKS; do eval "$hook pre $module"; done
	. "$file"
	eval "${module}_enabled" || continue
	eval "${module}_run"
	for hook in $MODULE_POST_HOOKS; do eval "$hook post $module"; done
done
fatal "no module handed over"
"#;

/// A module with a hook that cleans up before the module `finish`, as that of udev does.
const CLEANER: &str = r#"cleaner_hook() {
	if [ "$1 $2" = "pre finish" ]; then
		echo "the hook before finish" >/dev/kmsg
	fi
}
cleaner_enabled() { return 0; }
cleaner_run() { add_module_pre_hook cleaner_hook; }
"#;

const ROOTFS: &str = r#"rootfs_enabled() { test -n "$bootparam_root"; }
rootfs_run() { mount -t ext4 -o ro "$bootparam_root" "$ROOTFS_DIR"; }
"#;

/// A module that starts the root's init itself, as OpenEmbedded's overlayroot does.
const OVERLAYROOT: &str = r#"for directory in proc sys dev; do
	mount --move /$directory $ROOTFS_DIR/$directory
done
exec chroot $ROOTFS_DIR ${bootparam_init:-/sbin/init}
"#;

/// A machine with the framework and our module in its initramfs.
fn framework(boot: &Boot) -> anyhow::Result<()> {
    let initramfs = &boot.initramfs;
    initramfs.write("/init", INIT, 0o755)?;
    initramfs.install("/usr/bin/busybox", "busybox-static")?;
    initramfs.write("/init.d/01-cleaner", CLEANER, 0o644)?;
    initramfs.write("/init.d/90-rootfs", ROOTFS, 0o644)?;
    let module = host::checkout().join("contrib/initramfs-framework/imactl");
    initramfs.take(&module, "/init.d/98-imactl")?;
    initramfs.write(
        "/init.d/99-finish",
        "finish_enabled() { return 0; }\nfinish_run() { fatal late; }\n",
        0o644,
    )
}

on_each_kernel! {
    fn the_module_secures_the_kernel_and_hands_over(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        framework(&boot)?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = boot.append("root=/dev/vda").up()?;
        assert_eq!(guest.agent(), 1);
        assert!(guest.boot_says("the hook before finish"));
        assert!(guest.boot_says(": 1 certificate, 1 policy, 7 rules in force"));
        assert!(guest.read("/proc/mounts")?.text().contains("/dev/vda / ext4 ro"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }

    fn a_module_that_starts_init_before_ours_leaves_no_policy_and_status_says_so(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        framework(&boot)?;
        boot.initramfs.write("/init.d/91-overlayroot", OVERLAYROOT, 0o644)?;
        boot.root.install_imactl()?;
        boot.root.sign_all(&store)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        let mut guest = boot.append("root=/dev/vda").up_large()?;
        guest.execute(&["/opt/unsigned"])?.is_allowed();
        guest.execute(&["/usr/bin/imactl", "status", "--require", "enforced"])?.exits(1);
        Ok(())
    }

    fn it_starts_the_init_of_the_command_line(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        framework(&boot)?;
        boot.root.install_agent("/opt/other-init")?;
        boot.root.remove("/usr/sbin/init")?;
        boot.root.sign_all(&store)?;
        let guest = boot.append("root=/dev/vda init=/opt/other-init").up()?;
        assert_eq!(guest.agent(), 1);
        Ok(())
    }
}
