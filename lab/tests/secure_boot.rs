//! UEFI Secure Boot with own keys: a unified image of kernel, initramfs and command line starts only if its
//! signature is valid, and the kernel enforces.

use anyhow::Result;
use lab::image::{Image, Tree};
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Disk, Machine, SecureBoot};
use lab::on_each_kernel;
use lab::protocol::Errno;
use lab::scenario::{run, DEFAULT_POLICY};

const ROOT_SIZE: u64 = 64 << 20;

fn root(store: &KeyStore) -> Result<Image> {
    let root = Tree::small_root()?;
    root.sign_all(store)?;
    root.copy("/usr/bin/true", "/opt/unsigned")?;
    root.ext4(ROOT_SIZE)
}

on_each_kernel! {
    fn a_signed_image_boots_and_enforces(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = Tree::boot_initramfs(&store, DEFAULT_POLICY)?;
        // the kernel's rules under Secure Boot (CONFIG_IMA_ARCH_POLICY) require it
        store.sign_with(&["--detached"], &initramfs.path("/etc/ima/ima_policy.default"))?;
        let initramfs = initramfs.initramfs()?;
        let root = root(&store)?;
        let machine = Machine::new(kernel).trusting(&store.system_certificate()?);
        let machine = machine.initramfs(&initramfs).disk(&root, Disk::Discarded);
        let machine = machine.append("root=/dev/vda").append("ima_appraise=off");
        let mut guest = machine.secure_boot(&SecureBoot::create("the owner's key")?).boot()?;

        assert!(guest.boot_says("ima_appraise=off has no effect: Secure Boot is on"));
        assert!(guest.boot_says("policy /etc/ima/ima_policy.default loaded: 7 rules"));
        assert!(guest.boot_says(" rules in force, appraisal mode enforce"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");

        // the firmware's keys are in .platform, not in .ima
        let keys = guest.read("/proc/keys")?.text();
        assert_eq!(size(&keys, ".platform"), Some("1"), "{keys}");
        assert!(keys.contains("the owner's key: "), "{keys}");
        assert_eq!(size(&keys, ".ima"), Some("2"), "{keys}");
        Ok(())
    }

    /// Linux 6.1 is built without `CONFIG_INTEGRITY_MACHINE_KEYRING` here. Linux 7 is Linus's in this respect: it trusts
    /// the list only if shim says so (`MokListTrustedRT`, `mokutil --trust-mok`). Debian's 6.12 always trusts it.
    fn a_machine_owner_key_vouches_for_certificates_only_if_the_kernel_trusts_it(kernel) {
        let (machine_keys, platform_keys) = match kernel.series() {
            Series::Linux6_1 => (None, "2"),
            Series::Linux6_12 => (Some("1"), "1"),
            Series::Linux7 => (Some("empty"), "2"),
        };
        let (store, owner) =
            (KeyStore::create(Algorithm::Rsa2048)?, KeyStore::create(Algorithm::Rsa2048)?);
        let initramfs = Tree::boot_initramfs(&store, DEFAULT_POLICY)?;
        store.sign_with(&["--detached"], &initramfs.path("/etc/ima/ima_policy.default"))?;
        initramfs.write("/etc/keys/x509_ima_owner.der", owner.ima_certificate()?, 0o644)?;
        let initramfs = initramfs.initramfs()?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        root.copy("/usr/bin/true", "/opt/owner")?;
        root.sign(&owner, &["/opt/owner"])?;
        let root = root.ext4(ROOT_SIZE)?;
        let machine = Machine::new(kernel).trusting(&store.system_certificate()?);
        let machine = machine.initramfs(&initramfs).disk(&root, Disk::Discarded);
        let firmware = SecureBoot::create("the owner's key")?;
        let firmware = firmware.machine_owner(&owner.system_certificate()?);
        let mut guest = machine.append("root=/dev/vda").secure_boot(&firmware).boot()?;

        let keys = guest.read("/proc/keys")?.text();
        assert_eq!(size(&keys, ".machine"), machine_keys, "{keys}");
        assert_eq!(size(&keys, ".platform"), Some(platform_keys), "{keys}");
        let run = guest.execute(&["/opt/owner"])?;
        if machine_keys == Some("1") {
            assert!(guest.boot_says("(/etc/keys/x509_ima_owner.der) loaded into .ima"));
            run.is_allowed();
        } else {
            assert!(guest.boot_says("(/etc/keys/x509_ima_owner.der) rejected by .ima: ENOKEY"));
            run.is_denied(Errno::EACCES, "invalid-signature");
        }
        Ok(())
    }
}

/// The number of keys in a keyring, or "empty", from /proc/keys.
fn size<'a>(keys: &'a str, keyring: &str) -> Option<&'a str> {
    let line = keys.lines().find(|line| line.contains(&format!(" {keyring}: ")));
    line.and_then(|line| line.rsplit(' ').next())
}

#[test]
fn rules_of_the_kernels_own_want_the_initramfss_policy_signed() {
    run(Series::Linux6_12, |kernel| {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = Tree::boot_initramfs(&store, DEFAULT_POLICY)?.initramfs()?;
        let root = root(&store)?;
        let machine = Machine::new(kernel).trusting(&store.system_certificate()?);
        let machine = machine.initramfs(&initramfs).disk(&root, Disk::Discarded);
        let machine = machine.append("root=/dev/vda").append("imactl.timeout=0");
        let console =
            machine.secure_boot(&SecureBoot::create("the owner's key")?).run_until("rebooting")?;
        assert!(console.contains("the policy in force requires signed policies"), "{console}");
        Ok(())
    })
}

/// Checks that the firmware rejects the image, and that the kernel does not start.
fn does_not_start(
    kernel: &Kernel,
    change: impl FnOnce(SecureBoot) -> Result<SecureBoot>,
) -> Result<()> {
    let store = KeyStore::create(Algorithm::Rsa2048)?;
    let initramfs = Tree::boot_initramfs(&store, DEFAULT_POLICY)?.initramfs()?;
    let machine = Machine::new(kernel).initramfs(&initramfs).append("root=/dev/vda");
    let secure_boot = change(SecureBoot::create("the owner's key")?)?;
    let console = machine.secure_boot(&secure_boot).run_until("Access Denied")?;
    assert!(!console.contains("Linux version"), "{console}");
    Ok(())
}

#[test]
fn an_image_with_another_policy_is_rejected() {
    run(Series::Linux6_12, |kernel| {
        does_not_start(kernel, |it| Ok(it.replacing("appraise func=BPRM", "dont_appraise func")))
    });
}

#[test]
fn an_image_with_another_command_line_is_rejected() {
    run(Series::Linux6_12, |kernel| {
        does_not_start(kernel, |it| Ok(it.replacing("root=/dev/vda", "root=/dev/vdb")))
    });
}

#[test]
fn an_image_signed_by_an_unknown_key_is_rejected() {
    run(Series::Linux6_12, |kernel| {
        does_not_start(kernel, |it| Ok(it.signed_by(&SecureBoot::create("another key")?)))
    });
}
