//! Images of file systems, some of them damaged or crafted, mounted by the kernel: it sees the files that
//! imactl sees, or imactl refuses the image. The program's own tests make and compare the images; here
//! they run in the guest.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::image::Tree;
use lab::kernel::Series;
use lab::machine::{Disk, Machine};
use lab::random::{cases, seed};
use lab::scenario::run;
use lab::{host, programs};

/// The number of images of each kind.
const IMAGES: usize = 12;

/// Programs that make, unpack and mount the images: (program, package).
const TOOLS: [(&str, &str); 10] = [
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/sbin/debugfs", "e2fsprogs"),
    ("/usr/sbin/e2fsck", "e2fsprogs"),
    ("/usr/bin/mkfs.erofs", "erofs-utils"),
    ("/usr/bin/fsck.erofs", "erofs-utils"),
    ("/usr/bin/mksquashfs", "squashfs-tools"),
    ("/usr/bin/unsquashfs", "squashfs-tools"),
    ("/usr/bin/sqfs2tar", "squashfs-tools-ng"),
    ("/usr/bin/mount", "mount"),
    ("/usr/bin/umount", "mount"),
];

fn the_kernel_sees_the_same_files(kernel: &lab::kernel::Kernel) -> Result<()> {
    let root = Tree::small_root()?;
    root.install_program(&programs::imactl_tests()?, "/opt/tests")?;
    for (program, package) in TOOLS {
        root.install(program, package)?;
    }
    // the directory in which the tests create theirs
    let temporary = host::target_directory().join("tmp/.keep");
    root.write(&temporary.to_string_lossy(), "", 0o600)?;

    let initramfs = Tree::new()?;
    initramfs.install_agent("/init")?;
    let (initramfs, disk) = (initramfs.initramfs()?, root.ext4(1 << 30)?);
    let machine = Machine::new(kernel).initramfs(&initramfs).disk(&disk, Disk::Discarded);
    let images = cases(IMAGES);
    // emulated, on a busy host, for three kinds
    let patience = Duration::from_secs(120 + 20 * images as u64);
    let mut guest = machine.memory(1024).patience(patience).boot()?;
    guest.mount("/dev/vda", "ext4", "/sysroot")?.is_allowed();
    assert!(guest.switch_root("/sysroot", "/sbin/init")?.is_none());
    let (images, seed) = (images.to_string(), seed(1).to_string());
    let environment = [
        ("CI", "true"),
        ("IMACTL_DIFF_MOUNT", "1"),
        ("IMACTL_DIFF_CASES", &*images),
        ("IMACTL_DIFF_SEED", &*seed),
    ];
    let tests = ["/opt/tests", "--nocapture", "--test-threads=1", "image_differential"];
    let seen = guest.execute_with(&environment, &tests)?;
    let said = seen.exits(0);
    println!("{said}");
    // if the kernel mounted none of the images, the test would prove nothing
    for kind in ["ext4", "erofs", "squashfs"] {
        let mounted = said.lines().find_map(|line| line.strip_prefix(&format!("{kind}: ")));
        let mounted = mounted.and_then(|line| line.split(", ").nth(3)).context("mounted")?;
        assert!(!mounted.starts_with("0 "), "{kind}: {mounted}");
    }
    Ok(())
}

#[test]
fn linux_6_1() {
    run(Series::Linux6_1, the_kernel_sees_the_same_files);
}

#[test]
fn linux_7() {
    run(Series::Linux7, the_kernel_sees_the_same_files);
}
