//! imactl-init as /init: finding the real root, and handing over to it.

use std::time::Duration;

use lab::boot::{Boot, FileSystem};
use lab::image::{Image, Table, Tree};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Disk, Ending, Machine};
use lab::protocol::Errno;
use lab::{on_each_architecture, on_each_kernel};

on_each_architecture! {
    fn read_only_roots_keep_their_signatures(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        for (kind, name) in [(FileSystem::Squashfs, "squashfs"), (FileSystem::Erofs, "erofs")] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
            let mut guest = boot.up_from(kind)?;
            let words = format!("root /dev/vda is /dev/vda, {name}, mounted read-only");
            assert!(guest.boot_says(&words));
            guest.execute(&["/usr/bin/true"])?.is_allowed();
            guest
                .execute(&["/opt/unsigned"])?
                .is_denied(Errno::EACCES, "IMA-signature-required");
        }
        Ok(())
    }

    fn the_root_is_found_by_what_it_holds(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        for root in ["UUID=5AA5A55A-0000-4000-8000-0123456789AB", "\"LABEL=the root\"", "254:0"] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            let disk = boot.root.ext4(64 << 20)?;
            let mut tune = lab::host::command("tune2fs", "e2fsprogs")?;
            tune.args(["-L", "the root", "-U", "5aa5a55a-0000-4000-8000-0123456789ab"]);
            lab::host::run(tune.arg(disk.path()))?;
            let guest = boot.append(&format!("root={root}")).up_from_disk(&disk)?;
            assert!(guest.boot_says(" is /dev/vda, ext4, mounted read-only"), "{root}");
        }
        Ok(())
    }

    fn a_root_that_does_not_turn_up_is_told_with_what_there_is(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let record = Boot::new(kernel, &store)?.append("root=LABEL=nowhere rootwait=1").ends()?;
        assert_eq!(record.ending, Ending::Off);
        assert!(record.console.contains("root LABEL=nowhere did not appear within 1 seconds"));
        assert!(record.console.contains("/dev/vda ext4 UUID="));
        Ok(())
    }

    fn a_partition_is_found_by_its_table(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let guid = *b"\x5a\xa5\xa5\x5a\0\0\x40\0\x80\0\x01\x23\x45\x67\x89\xab";
        let gpt = Table::Gpt(guid, "the root");
        let mbr = Table::Mbr(0x5aa5_c0de);
        for (table, root) in [
            (gpt, "PARTUUID=5AA5A55A-0000-4000-8000-0123456789AB rootfstype=squashfs,ext4"),
            (gpt, "PARTUUID=01010101-0101-0101-0101-010101010101/PARTNROFF=1 rootdelay=1"),
            (gpt, r"PARTLABEL=the\x20root"),
            (gpt, "\"/dev/disk/by-partlabel/the root\""),
            (mbr, "PARTUUID=5AA5C0DE-02"),
            (mbr, "PARTUUID=5aa5c0de-01/PARTNROFF=1"),
        ] {
            let boot = Boot::new(kernel, &store)?;
            boot.root.sign_all(&store)?;
            let disk = Image::partitioned(table, &boot.root.ext4(64 << 20)?)?;
            let mut guest = boot.append(&format!("root={root}")).up_from_disk(&disk)?;
            assert!(guest.boot_says(" is /dev/vda2, ext4, mounted read-only"), "{root}");
            guest.execute(&["/usr/bin/true"])?.is_allowed();
        }
        Ok(())
    }

    fn a_root_that_turns_up_late_is_waited_for(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let disk = boot.root.ext4(64 << 20)?;
        let mut tune = lab::host::command("tune2fs", "e2fsprogs")?;
        lab::host::run(tune.args(["-L", "later"]).arg(disk.path()))?;
        let boot = boot.append("root=LABEL=later rootwait");
        let mut guest = boot.up_from_late_disk(&disk, "waiting for root LABEL=later")?;
        assert!(guest.boot_says("root LABEL=later is /dev/vda, ext4, mounted read-only"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        Ok(())
    }
}

on_each_kernel! {
    fn mounts_go_along_and_the_initramfs_is_freed(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::new(kernel, &store)?;
        boot.root.sign_all(&store)?;
        // 40 MB that must not stay in memory
        boot.initramfs.write("/usr/share/ballast", vec![7; 40 << 20], 0o644)?;
        let mut guest = boot.append("rw rootflags=noatime,iversion").up()?;
        assert_eq!(guest.agent(), 1);
        let mounts = guest.read("/proc/mounts")?.text();
        let mounted = |kind: &str, at: &str| {
            mounts.lines().any(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                (words[1], words[2]) == (at, kind)
            })
        };
        for (kind, at) in [
            ("devtmpfs", "/dev"),
            ("proc", "/proc"),
            ("sysfs", "/sys"),
            ("securityfs", "/sys/kernel/security"),
            ("ext4", "/"),
        ] {
            assert!(mounted(kind, at), "{kind} at {at}: {mounts}");
        }
        assert!(mounts.contains("/dev/vda / ext4 rw,noatime"), "{mounts}");
        let memory = guest.read("/proc/meminfo")?.text();
        let shmem: u64 = memory
            .lines()
            .filter(|line| line.starts_with("Shmem:") || line.starts_with("Unevictable:"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        assert!(shmem < 5 << 10, "{shmem} KiB of files stay in memory: {memory}");
        Ok(())
    }

    fn another_initramfs_secures_and_switches_in_one_process(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.sign_all(&store)?;
        let script = "#!/bin/busybox sh\n\
            B=/bin/busybox\n\
            $B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys\n\
            $B mount -t tmpfs run /run; $B mkdir /sysroot; $B mount -t ext4 -o ro /dev/vda /sysroot\n\
            exec /usr/bin/imactl-init switch-root --secure /sysroot /sbin/init\n";
        boot.initramfs.write("/init", script, 0o755)?;
        boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
        let mut guest = boot.up()?;
        assert!(guest.boot_says("1 certificate, 1 policy, 7 rules in force"));
        assert_eq!(guest.agent(), 1);
        assert!(guest.read("/proc/mounts")?.text().contains("run /run tmpfs"));
        Ok(())
    }

    fn a_signed_switch_root_on_the_real_root_serves_another_initramfs(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        let program = boot.initramfs.path("/usr/bin/imactl-init");
        boot.root.take(&program, "/usr/sbin/switch_root.static")?;
        boot.root.sign_all(&store)?;
        let script = "#!/bin/busybox sh\n\
            B=/bin/busybox\n\
            $B mount -t devtmpfs dev /dev; $B mkdir /sysroot; $B mount -t ext4 -o ro /dev/vda /sysroot\n\
            /usr/bin/imactl-init --enforce /sysroot\n\
            exec /sysroot/usr/sbin/switch_root.static /sysroot /sbin/init\n";
        boot.initramfs.write("/init", script, 0o755)?;
        boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
        let guest = boot.up()?;
        assert!(guest.boot_says("secured in "));
        assert_eq!(guest.agent(), 1);
        Ok(())
    }

    fn rootwait_waits(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = Tree::boot_initramfs(&store, "")?.initramfs()?;
        let disk = Image::blank(1 << 20)?;
        let machine = Machine::new(kernel).initramfs(&initramfs).disk(&disk, Disk::Discarded);
        let machine = machine.append("root=LABEL=later rootwait imactl.timeout=0");
        let record = machine.patience(Duration::from_secs(20)).run()?;
        assert_eq!(record.ending, Ending::Hung);
        assert!(record.console.contains("waiting for root LABEL=later"));
        assert!(!record.console.contains("the boot stops"));
        Ok(())
    }

    fn without_a_timeout_the_machine_halts(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let initramfs = Tree::boot_initramfs(&store, "")?.initramfs()?;
        let machine = Machine::new(kernel).initramfs(&initramfs);
        let record = machine.patience(Duration::from_secs(20)).run()?;
        assert_eq!(record.ending, Ending::Hung);
        assert!(record.console.contains("no root= on the command line"));
        assert!(record.console.contains("reboot: System halted"));
        Ok(())
    }

    fn an_overlay_is_a_root_like_any(kernel) {
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let boot = Boot::step(kernel, &store)?;
        boot.root.write("/etc/ima/ima_policy", "audit func=MODULE_CHECK\n", 0o400)?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        boot.root.sign_all(&store)?;
        boot.root.remove("/opt/unsigned")?;
        boot.root.copy("/usr/bin/true", "/opt/unsigned")?;
        let script = "#!/bin/busybox sh\n\
            B=/bin/busybox\n\
            $B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys\n\
            $B mount -t tmpfs run /run; $B mkdir -p /run/lower /run/upper /run/work /sysroot\n\
            $B mount -t ext4 -o ro /dev/vda /run/lower\n\
            $B mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work overlay /sysroot\n\
            exec /usr/bin/imactl-init switch-root --secure /sysroot /sbin/init\n";
        boot.initramfs.write("/init", script, 0o755)?;
        boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
        let mut guest = boot.up()?;
        assert_eq!(guest.agent(), 1);
        assert!(guest.boot_says("policy /sysroot/etc/ima/ima_policy loaded: 1 rule"));
        assert!(guest.read("/proc/mounts")?.text().contains("overlay / overlay rw"));
        guest.execute(&["/usr/bin/true"])?.is_allowed();
        guest.execute(&["/opt/unsigned"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        guest.copy("/usr/bin/true", "/copy")?.is_allowed();
        guest.execute(&["/copy"])?.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }
}
