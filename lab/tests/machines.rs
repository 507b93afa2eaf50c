//! The lab itself: machines of other kinds, and the report of unexpected ends.

use std::time::Duration;

use lab::image::Tree;
use lab::kernel::Series;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Ended, Ending, Guest, Machine, Part, Tpm};
use lab::on_each_kernel;
use lab::protocol::{Access, Action, Errno};
use lab::scenario::{run, Enforced, DEFAULT_POLICY};

on_each_kernel! {
    fn read_only_roots_boot(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        root.copy("/usr/bin/true", "/opt/unsigned")?;
        for disk in [("squashfs", root.squashfs()?), ("erofs", root.erofs()?)] {
            let mut guest = Enforced::with_root(kernel, &store, disk, DEFAULT_POLICY)?.boot()?;
            guest.execute(&["/usr/bin/true"])?.is_allowed();
            guest
                .execute(&["/opt/unsigned"])?
                .is_denied(Errno::EACCES, "IMA-signature-required");
            guest.copy("/usr/bin/true", "/opt/copied")?.fails(Errno::EROFS);

            // a writable overlay of the same files
            guest.mount("tmpfs", "tmpfs", "/mnt")?.is_allowed();
            for path in ["/mnt/upper", "/mnt/work", "/mnt/merged"] {
                guest.request(Action::MakeDirectory { path: path.into() })?.is_allowed();
            }
            guest
                .request(Action::Mount {
                    source: "overlay".into(),
                    target: "/mnt/merged".into(),
                    kind: "overlay".into(),
                    access: Access::ReadWrite,
                    options: "lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work".into(),
                })?
                .is_allowed();
            guest.execute(&["/mnt/merged/bin/true"])?.is_allowed();
            guest.copy("/usr/bin/true", "/mnt/merged/copied")?.is_allowed();
            guest
                .execute(&["/mnt/merged/copied"])?
                .is_denied(Errno::EACCES, "IMA-signature-required");
        }
        Ok(())
    }

    fn measurements_extend_the_tpm(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = Tree::small_initramfs(&store, DEFAULT_POLICY)?.initramfs()?;
        let machine = Machine::new(kernel).initramfs(&initramfs).tpm(Tpm::Version2);
        let mut guest = machine.append("ima_policy=tcb").boot()?;
        let measurements = "/sys/kernel/security/ima/ascii_runtime_measurements";
        assert!(guest.read(measurements)?.text().contains("boot_aggregate"));
        let register = guest.read("/sys/class/tpm/tpm0/pcr-sha256/10")?.text();
        assert_eq!(register.trim().len(), 64);
        assert!(register.trim().contains(|digit| digit != '0'), "PCR 10 was never extended");
        Ok(())
    }

    fn kernels_can_do_without_ima_and_securityfs(kernel) {
        let initramfs = Tree::new()?;
        initramfs.install_agent("/init")?;
        let initramfs = initramfs.initramfs()?;
        let machine = |part| Machine::new(kernel).initramfs(&initramfs).without(part);
        let securityfs = |guest: &mut Guest| guest.mount("x", "securityfs", "/mnt");

        let mut guest = machine(Part::Ima).boot()?;
        securityfs(&mut guest)?.is_allowed();
        guest.read("/mnt/ima/policy")?.fails(Errno::ENOENT);
        if kernel.series() != Series::Linux7 {
            // on this series EVM is disabled together with IMA
            guest.read("/mnt/evm")?.is_allowed();
        }
        let keys = guest.read("/proc/keys")?.text();
        assert!(keys.contains(" .builtin_trusted_keys") && !keys.contains(" .ima"), "{keys}");

        let mut guest = machine(Part::Securityfs).boot()?;
        securityfs(&mut guest)?.fails(Errno::ENODEV);
        let directory = "/sys/kernel/security";
        guest.request(Action::Remove { path: directory.into() })?.fails(Errno::ENOENT);
        Ok(())
    }

    fn too_many_certificates_are_an_error(kernel) {
        let to = tempfile::NamedTempFile::new()?;
        let error = kernel.write_trusting(&[0; 8193], to.path()).unwrap_err();
        assert!(format!("{error:#}").contains("CONFIG_SYSTEM_EXTRA_CERTIFICATE_SIZE is 8192"));
        Ok(())
    }
}

#[test]
fn a_panic_is_told_with_the_kernels_words() {
    run(Series::Linux6_12, |kernel| {
        let record = Machine::new(kernel).run()?;
        let Ending::Panicked(words) = record.ending else { panic!("{record:?}") };
        assert!(words.starts_with("VFS: Unable to mount root fs"), "{words}");

        let error = Machine::new(kernel).boot().unwrap_err();
        let ended: &Ended = error.downcast_ref().expect("the typed error");
        assert!(matches!(ended.record.ending, Ending::Panicked(_)));
        Ok(())
    });
}

#[test]
fn a_hang_is_ended() {
    run(Series::Linux6_12, |kernel| {
        let initramfs = Tree::new()?;
        initramfs.install("/usr/bin/busybox", "busybox-static")?;
        initramfs.write("/init", "#!/bin/busybox sh\nexec /bin/busybox sleep 10000\n", 0o755)?;
        let initramfs = initramfs.initramfs()?;
        let machine = Machine::new(kernel).initramfs(&initramfs);
        let record = machine.patience(Duration::from_secs(3)).run()?;
        assert_eq!(record.ending, Ending::Hung);
        Ok(())
    });
}
