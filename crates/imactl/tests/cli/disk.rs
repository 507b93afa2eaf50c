//! Disks with partitions made by sfdisk, sgdisk and parted, signed without root.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::*;

const MIB: u64 = 1 << 20;

/// The content of a partition: its offset in MiB, and the file with its bytes.
pub(crate) type Content<'a> = (u64, &'a Path);

/// Makes a disk of 64 MiB from a script of sfdisk, with `contents`.
pub(crate) fn disk(path: &Path, script: &str, contents: &[Content<'_>]) -> Option<()> {
    File::create(path).unwrap().set_len(64 * MIB).unwrap();
    let mut sfdisk = tool("sfdisk")?;
    sfdisk.args(["--quiet", "--wipe", "never"]).arg(path).stdin(Stdio::piped());
    let mut child = sfdisk.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let disk = OpenOptions::new().write(true).open(path).unwrap();
    for (start, content) in contents {
        disk.write_all_at(&fs::read(content).unwrap(), start * MIB).unwrap();
    }
    Some(())
}

/// Copies the bytes of a partition into a file.
fn extract(disk: &Path, start: u64, size: u64, to: &Path) {
    let mut bytes = vec![0; (size * MIB) as usize];
    File::open(disk).unwrap().read_exact_at(&mut bytes, start * MIB).unwrap();
    fs::write(to, bytes).unwrap();
}

fn ext4(directory: &Path, name: &str, size: &str, options: &[&str]) -> Option<PathBuf> {
    let root = directory.join(format!("{name}-root"));
    let own = format!("etc/{name}");
    write_tree(&root, &[("bin/program", b"#!/bin/sh\n"), (&own, name.as_bytes())]);
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("bin/program"), executable).unwrap();
    let image = directory.join(name);
    let mut mke2fs = tool("mke2fs")?;
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", name]).args(options);
    finish(mke2fs.arg("-d").arg(root).arg(&image).arg(size)).exits(0);
    Some(image)
}

fn fat(directory: &Path) -> Option<PathBuf> {
    let image = directory.join("fat");
    let mut mkfs = tool("mkfs.vfat")?;
    finish(mkfs.args(["-C", "-n", "BOOT"]).arg(&image).arg("4096")).exits(0);
    Some(image)
}

/// GPT: FAT, ext4, swap, ext4.
const GPT: &str = "label: gpt
start=1MiB, size=4MiB, type=uefi, name=esp
start=5MiB, size=16MiB, type=linux, name=system, uuid=01234567-89ab-cdef-0123-456789abcdef
start=21MiB, size=4MiB, type=swap
start=25MiB, size=16MiB, type=linux, name=\"data of users\"
";

/// The same with MBR; the last two are logical partitions.
const MBR: &str = "label: dos
label-id: 0x00c0ffee
start=1MiB, size=4MiB, type=c
start=5MiB, size=16MiB, type=83, bootable
start=21MiB, size=40MiB, type=5
start=22MiB, size=2MiB, type=82
start=25MiB, size=16MiB, type=83
";

struct Made {
    directory: tempfile::TempDir,
    keys: PathBuf,
    disk: PathBuf,
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn made(script: &str) -> Option<Made> {
    let directory = directory();
    let path = directory.path();
    let (keys, disk_path) = (store(path, "p-256"), path.join("disk.wic"));
    let (fat, system) = (fat(path)?, ext4(path, "system-fs", "16M", &["-O", "quota"])?);
    let data = ext4(path, "data-fs", "12M", &[])?;
    let swap = path.join("swap");
    File::create(&swap).unwrap().set_len(MIB).unwrap();
    fs::set_permissions(&swap, fs::Permissions::from_mode(0o600)).unwrap();
    finish(tool("mkswap")?.arg(&swap)).exits(0);
    let at_swap = if script == GPT { 21 } else { 22 };
    disk(&disk_path, script, &[(1, &fat), (5, &system), (at_swap, &swap), (25, &data)])?;
    Some(Made { directory, keys, disk: disk_path })
}

#[test]
fn every_ext4_partition_is_signed_and_nothing_else_changes() {
    for (script, numbers) in [(GPT, ["2", "4"]), (MBR, ["2", "6"])] {
        let Some(made) = made(script) else { return };
        let Made { keys, disk, .. } = &made;
        let before = fs::read(disk).unwrap();
        let bare = run(args!["verify", "--json", "--keys", keys, disk]).exits(1);
        assert_eq!(bare.json().pop().unwrap()["invalid"], 4);
        let signed = made.path("signed.wic");
        let told = run(args!["sign", "--json", "--keys", keys, disk, "-o", signed]).exits(0);
        assert_eq!(told.json().pop().unwrap()["signed"], 4);
        for (number, own) in numbers.iter().zip(["etc/system-fs", "etc/data-fs"]) {
            let line = told.json().into_iter().find(|line| line["path"] == own).unwrap();
            assert_eq!(
                (&line["partition"], &line["result"]),
                (&(*number).into(), &"signed".into())
            );
        }
        let left: Vec<_> =
            told.json().into_iter().filter(|line| line["type"] == "left-alone").collect();
        let left: Vec<_> = left.iter().map(|line| line["content"].as_str().unwrap()).collect();
        assert_eq!(left, ["vfat", "swap"]);

        let after = fs::read(&signed).unwrap();
        assert!(fs::read(disk).unwrap() == before, "the original stays");
        assert_eq!(after.len(), before.len());
        let mib = |start: u64, end: u64| (start * MIB) as usize..(end * MIB) as usize;
        for outside in [mib(0, 5), mib(21, 25), mib(37, 64)] {
            assert!(after[outside.clone()] == before[outside.clone()], "{outside:?}");
        }
        finish(tool("sfdisk").unwrap().args(["--verify", "--quiet"]).arg(&signed)).exits(0);
        let partition = made.path("partition");
        for (start, size, file) in [(5, 16, "/etc/system-fs"), (25, 12, "/etc/data-fs")] {
            extract(&signed, start, size, &partition);
            finish(tool("e2fsck").unwrap().arg("-fn").arg(&partition)).exits(0);
            let request = format!("ea_list {file}");
            let listed = finish(tool("debugfs").unwrap().args(["-R", &request]).arg(&partition));
            assert!(listed.stdout.contains("security.ima"), "{}", listed.stdout);
            run(args!["verify", "--keys", keys, partition]).exits(0);
        }
        let verified = run(args!["verify", "--keys", keys, signed]).exits(0);
        let line = format!("{}: partition {}: bin/program", signed.display(), numbers[1]);
        assert!(verified.stdout.contains(&line), "{}", verified.stdout);
        let inspected = run(args!["inspect", "--json", signed]).exits(0);
        assert!(inspected.json().iter().any(|line| line["partition"] == numbers[0]));
        // in place, then clear
        run(args!["clear", signed]).exits(0);
        let bare = run(args!["verify", "--json", "--keys", keys, signed]).exits(1);
        assert_eq!(bare.json().pop().unwrap()["invalid"], 4);
    }
}

#[test]
fn partitions_are_selected_by_number_label_and_uuid() {
    let Some(made) = made(GPT) else { return };
    let Made { keys, disk, .. } = &made;
    for (selected, expected) in [
        (&["2"][..], &["2"][..]),
        (&["system"], &["2"]),
        (&["system-fs"], &["2"]),
        (&["01234567-89AB-CDEF-0123-456789abcdef"], &["2"]),
        (&["data of users"], &["4"]),
        (&["2", "data-fs"], &["2", "4"]),
    ] {
        let options = selected.iter().flat_map(|name| args!["--partition", name]);
        let arguments = args!["verify", "--json", "--keys", keys, disk].into_iter().chain(options);
        let lines = run(arguments).exits(1).json();
        let mut found: Vec<_> =
            lines.iter().filter_map(|line| line["partition"].as_str()).collect();
        found.dedup();
        assert_eq!(found, expected, "{selected:?}");
    }
    let before = fs::read(disk).unwrap();
    for (selected, said) in [
        ("5", "no partition has the number, label or PARTUUID \"5\""),
        ("System", "no partition has"),
        ("esp", "partition 1: vfat, which is not supported"),
        ("3", "partition 3: swap, which is not supported"),
    ] {
        let refused = run(args!["sign", "--keys", keys, disk, "--partition", selected]).exits(2);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let image = made.path("data-fs");
    let refused = run(args!["sign", "--keys", keys, image, "--partition", "1"]).exits(2);
    assert!(refused.stderr.contains("not a disk with partitions"), "{}", refused.stderr);
    assert!(fs::read(disk).unwrap() == before);
    // one is signed, the other one is unchanged
    run(args!["sign", "--quiet", "--keys", keys, disk, "--partition", "4"]).exits(0);
    let after = fs::read(disk).unwrap();
    assert!(after[..25 * MIB as usize] == before[..25 * MIB as usize]);
    run(args!["verify", "--keys", keys, disk, "--partition", "4"]).exits(0);
    run(args!["verify", "--keys", keys, disk]).exits(1);
}

#[test]
fn tables_of_other_programs_and_sizes_of_blocks_are_read() {
    let directory = directory();
    let path = directory.path();
    let keys = store(path, "p-256");
    let Some(image) = ext4(path, "system-fs", "16M", &[]) else { return };
    let disk = path.join("disk.img");
    let check = |form: &str| {
        let file = OpenOptions::new().write(true).open(&disk).unwrap();
        file.write_all_at(&fs::read(&image).unwrap(), 8 * MIB).unwrap();
        run(args!["sign", "--quiet", "--keys", keys, disk]).exits(0);
        let verified = run(args!["verify", "--json", "--keys", keys, disk]).exits(0);
        assert_eq!(verified.json().pop().unwrap()["valid"], 2, "{form}");
    };
    let fresh = || File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    if let Some(mut sgdisk) = tool("sgdisk") {
        fresh();
        finish(sgdisk.args(["-a", "1", "-n", "7:16384:49151"]).arg(&disk)).exits(0);
        check("sgdisk");
    }
    if let Some(mut parted) = tool("parted") {
        for label in ["gpt", "msdos"] {
            fresh();
            let script = ["mklabel", label, "mkpart", "primary", "ext4", "8MiB", "24MiB"];
            finish(parted.arg("-s").arg(&disk).args(script)).exits(0);
            parted = tool("parted").unwrap();
            check(label);
        }
    }
    if let Some(mut fdisk) = tool("fdisk") {
        fresh();
        fdisk.args(["-b", "4096"]).arg(&disk).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = fdisk.spawn().unwrap();
        let script = b"g\nn\n1\n2048\n6143\nw\n";
        child.stdin.take().unwrap().write_all(script).unwrap();
        assert!(child.wait().unwrap().success());
        check("blocks of 4096 bytes");
    }
}

/// Changes bytes in a copy of a disk.
fn patched(made: &Made, patch: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(&made.disk).unwrap();
    patch(&mut bytes);
    let path = made.path("patched.wic");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn damaged_tables_are_refused_with_the_offset() {
    type Case = (&'static str, fn(&mut Vec<u8>), &'static str);
    let gpt: &[Case] = &[
        ("header", |disk| disk[512 + 40] ^= 1, "GPT header: checksum is"),
        ("entries", |disk| disk[1024 + 40] ^= 1, "GPT entries: checksum is"),
        ("no primary", |disk| disk[512..1024].fill(0), "only the backup is there"),
        (
            "no GPT",
            |disk| {
                disk[512..1024].fill(0);
                let end = disk.len();
                disk[end - 512..].fill(0);
            },
            "protective MBR without a GPT header",
        ),
        (
            "no backup",
            |disk| {
                let end = disk.len();
                disk[end - 512..].fill(0);
            },
            "backup GPT: no valid header",
        ),
        (
            "other backup",
            |disk| {
                let end = disk.len();
                disk[end - 33 * 512 + 40] ^= 1;
            },
            "GPT entries: checksum is",
        ),
        (
            "hybrid",
            |disk| (disk[462 + 4], disk[462 + 8], disk[462 + 12]) = (0x83, 10, 10),
            "hybrid MBR",
        ),
        ("no protection", |disk| disk[450] = 0x83, "GPT header without a protective MBR"),
        ("cut", |disk| disk.truncate(40 << 20), "invalid last usable block"),
        ("second header", |disk| disk.copy_within(512..1024, 4096), "second GPT header"),
    ];
    let mbr: &[Case] = &[
        ("overlap", |disk| disk[462 + 9] -= 8, "partition 1 and partition 2 overlap"),
        ("past end", |disk| disk[462 + 15] = 1, "after the end of the disk"),
        (
            "over table",
            |disk| disk[446 + 8..446 + 12].fill(0),
            "partition table and partition 1 overlap",
        ),
        ("no type", |disk| disk[450] = 0, "MBR entry with a size and without a type"),
        ("no chain", |disk| disk[(21 << 20) + 510] = 0, "logical partitions: no boot record"),
    ];
    for (script, cases) in [(GPT, gpt), (MBR, mbr)] {
        let Some(made) = made(script) else { return };
        for (name, patch, said) in cases {
            let disk = patched(&made, patch);
            for verb in ["sign", "verify"] {
                let refused = run(args![verb, "--keys", made.keys, disk]).exits(2);
                let stderr = &refused.stderr;
                assert!(stderr.contains(said) && stderr.contains("at offset"), "{name}: {stderr}");
            }
        }
    }
}

#[test]
fn what_could_be_two_things_is_refused() {
    let Some(made) = made(MBR) else { return };
    // a partitioned disk may still have the superblock of a former file system on the whole disk
    let disk = patched(&made, |disk| {
        let superblock = disk[5 * MIB as usize + 1024..][..1024].to_vec();
        disk[1024..2048].copy_from_slice(&superblock);
    });
    let refused = run(args!["sign", "--keys", made.keys, disk]).exits(2);
    assert!(
        refused.stderr.contains("both a partition table and a file system"),
        "{}",
        refused.stderr
    );
    let disk = patched(&made, |disk| {
        disk[5 * MIB as usize + 512..][..8].copy_from_slice(b"LABELONE");
        disk[5 * MIB as usize + 536..][..8].copy_from_slice(b"LVM2 001");
    });
    let refused = run(args!["sign", "--keys", made.keys, disk]).exits(2);
    assert!(refused.stderr.contains("both ext4 and LVM"), "{}", refused.stderr);
    // the kernel tries the types in an order of its own
    let disk = patched(&made, |disk| disk[5 * MIB as usize..][..4].copy_from_slice(b"hsqs"));
    for verb in ["sign", "verify"] {
        let refused = run(args![verb, "--keys", made.keys, disk]).exits(2);
        assert!(refused.stderr.contains("both ext4 and squashfs"), "{}", refused.stderr);
    }
}

/// A superblock of an md array, version 1.0, for a member of this many bytes, with its offset.
fn array(size: u64) -> (u64, Vec<u8>) {
    let sector = (size / 512 - 16) & !7;
    let mut superblock = vec![0; 256];
    let words = [(0, 0xa92b_4efc), (4, 1), (144, sector as u32)];
    for (offset, word) in words {
        superblock[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(word));
    }
    let words = superblock.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum: u64 = words.map(u64::from).sum();
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    superblock[216..220].copy_from_slice(&sum.to_le_bytes());
    (sector * 512, superblock)
}

#[test]
fn a_member_of_an_array_is_not_signed_alone() {
    let Some(made) = made(GPT) else { return };
    let (offset, superblock) = array(16 * MIB);
    let disk = patched(&made, |disk| {
        disk[(5 * MIB + offset) as usize..][..256].copy_from_slice(&superblock);
    });
    let member = made.path("member");
    extract(&disk, 5, 16, &member);
    let Some(mut blkid) = tool("blkid") else { return };
    let known = finish(blkid.args(["-p", "-o", "value", "-s", "TYPE"]).arg(&member)).exits(0);
    assert_eq!(known.stdout, "linux_raid_member\n");
    for image in [&disk, &member] {
        for verb in ["sign", "verify"] {
            let refused = run(args![verb, "--keys", made.keys, image]).exits(2);
            assert!(refused.stderr.contains("both ext4 and md array"), "{}", refused.stderr);
        }
    }
}

#[test]
fn encrypted_and_logical_volumes_are_listed_and_left_alone() {
    let directory = directory();
    let path = directory.path();
    let keys = store(path, "p-256");
    let Some(system) = ext4(path, "system-fs", "16M", &[]) else { return };
    let (luks, lvm, xfs) = (path.join("luks"), path.join("lvm"), path.join("xfs"));
    File::create(&luks).unwrap().set_len(20 * MIB).unwrap();
    let Some(mut cryptsetup) = tool("cryptsetup") else { return };
    fs::write(path.join("passphrase"), "secret").unwrap();
    cryptsetup.args(["luksFormat", "--batch-mode", "--pbkdf-force-iterations=1000"]);
    cryptsetup.args(["--pbkdf=pbkdf2"]).arg(&luks).arg(path.join("passphrase"));
    finish(&mut cryptsetup).exits(0);
    let mut label = vec![0; 4096];
    label[512..520].copy_from_slice(b"LABELONE");
    label[536..544].copy_from_slice(b"LVM2 001");
    fs::write(&lvm, label).unwrap();
    fs::write(&xfs, [&b"XFSB"[..], &[0; 4092]].concat()).unwrap();
    let script = "label: gpt
start=1MiB, size=16MiB, type=linux
start=17MiB, size=20MiB, type=linux
start=37MiB, size=2MiB, type=lvm
start=39MiB, size=2MiB, type=linux
start=41MiB, size=2MiB, type=linux
";
    let made = path.join("disk.raw");
    let contents: &[Content<'_>] = &[(1, &system), (17, &luks), (37, &lvm)];
    let Some(()) = disk(&made, script, contents) else { return };
    let signed = run(args!["sign", "--keys", keys, made]).exits(0);
    for (number, content) in [(2, "LUKS"), (3, "LVM"), (4, "empty"), (5, "empty")] {
        let line = format!("left alone {}: partition {number}: {content}\n", made.display());
        assert!(signed.stdout.contains(&line), "{}", signed.stdout);
    }
    // a file system with files to sign is never skipped
    let contents: &[Content<'_>] = &[(1, &system), (41, &xfs)];
    let Some(()) = disk(&made, script, contents) else { return };
    for verb in ["sign", "verify"] {
        let refused = run(args![verb, "--keys", keys, made]).exits(2);
        assert!(
            refused.stderr.contains("partition 5: xfs, which is not supported"),
            "{}",
            refused.stderr
        );
    }
    run(args!["sign", "--keys", keys, made, "--partition", "1"]).exits(0);
}

#[test]
fn a_root_under_dm_verity_is_not_changed() {
    let directory = directory();
    let path = directory.path();
    let keys = store(path, "p-256");
    let Some(system) = ext4(path, "system-fs", "16M", &[]) else { return };
    let Some(data) = ext4(path, "data-fs", "16M", &[]) else { return };
    let hashes = path.join("hashes");
    let format = |options: &[&str], data: &Path, hashes: &Path| {
        let mut veritysetup = tool("veritysetup")?;
        finish(veritysetup.arg("format").args(options).arg(data).arg(hashes)).exits(0);
        Some(())
    };
    let script = "label: gpt
start=1MiB, size=16MiB, type=linux, name=system
start=17MiB, size=16MiB, type=linux, name=data
start=33MiB, size=2MiB, type=linux, name=hashes
";
    let made = path.join("disk.raw");
    for options in [&[][..], &["--hash=sha512", "--salt=-"], &["--hash-block-size=1024"]] {
        fs::remove_file(&hashes).ok();
        let Some(()) = format(options, &system, &hashes) else { return };
        disk(&made, script, &[(1, &system), (17, &data), (33, &hashes)]).unwrap();
        for verb in ["sign", "clear"] {
            let keys = args!["--keys", keys];
            let keys = keys.into_iter().filter(|_| verb == "sign");
            let refused = run(args![verb, made].into_iter().chain(keys)).exits(2);
            let said = "partition 1: covered by dm-verity (hash tree in partition 3)";
            assert!(refused.stderr.contains(said), "{options:?}: {}", refused.stderr);
        }
        let verified = run(args!["verify", "--keys", keys, made]).exits(1);
        assert!(
            verified.stdout.contains("partition 3: dm-verity hash tree"),
            "{}",
            verified.stdout
        );
        // not covered by the signature
        run(args!["sign", "--quiet", "--keys", keys, made, "--partition", "data"]).exits(0);
    }
    // in the same partition, after the file system
    let both = path.join("both");
    fs::copy(&data, &both).unwrap();
    let size = fs::metadata(&data).unwrap().len();
    let offset = format!("--hash-offset={size}");
    let blocks = format!("--data-blocks={}", size / 4096);
    let Some(()) = format(&[&offset, &blocks], &both, &both) else { return };
    let refused = run(args!["sign", "--keys", keys, both]).exits(2);
    assert!(refused.stderr.contains("a hash tree follows it"), "{}", refused.stderr);
}

#[test]
fn read_only_file_systems_are_verified_in_their_partitions() {
    let directory = directory();
    let path = directory.path();
    if !security_attributes(path) {
        return;
    }
    let keys = store(path, "p-256");
    let root = path.join("root");
    write_tree(&root, &[("bin/program", b"\x7fELF"), ("empty", b"")]);
    run(args!["sign", "--quiet", "--keys", keys, root]).exits(0);
    let (erofs, squashfs, made) = (path.join("e"), path.join("s"), path.join("disk.raw"));
    let Some(mut mkfs) = tool("mkfs.erofs") else { return };
    finish(mkfs.args([&erofs, &root])).exits(0);
    let Some(mut mksquashfs) = tool("mksquashfs") else { return };
    finish(mksquashfs.args([&root, &squashfs]).args(["-quiet", "-no-progress"])).exits(0);
    let Some(system) = ext4(path, "system-fs", "16M", &[]) else { return };
    let contents: &[Content<'_>] = &[(1, &system), (17, &erofs), (19, &squashfs)];
    let script = "label: gpt
start=1MiB, size=16MiB, type=linux
start=17MiB, size=2MiB, type=linux
start=19MiB, size=2MiB, type=linux
";
    let Some(()) = disk(&made, script, contents) else { return };
    let verified = run(args!["verify", "--json", "--keys", keys, made]).exits(1);
    let valid = |number: &str| {
        let lines = verified.json();
        lines.iter().filter(|it| it["partition"] == number && it["valid"] == true).count()
    };
    assert_eq!((valid("1"), valid("2"), valid("3")), (0, 2, 2));
    let refused = run(args!["sign", "--keys", keys, made]).exits(2);
    let said = "partition 2: an EROFS image, which is read-only";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    run(args!["sign", "--quiet", "--keys", keys, made, "--partition", "1"]).exits(0);
    run(args!["verify", "--keys", keys, made]).exits(0);
}

#[test]
fn a_program_that_writes_outside_the_partition_is_noticed() {
    let Some(made) = made(GPT) else { return };
    let before = fs::read(&made.disk).unwrap();
    let bin = made.path("bin");
    fs::create_dir(&bin).unwrap();
    let debugfs = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("debugfs"))
        .find(|path| path.is_file());
    let Some(debugfs) = debugfs else { return missing("debugfs is not installed") };
    let outside = "printf x | dd of=/proc/$$/fd/0 bs=1 seek=1500000 conv=notrunc";
    let script = format!("#!/bin/sh\n{} \"$@\" || exit\n{outside}\n", debugfs.display());
    fs::write(bin.join("debugfs"), script).unwrap();
    fs::set_permissions(bin.join("debugfs"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut sign = imactl();
    sign.args(args!["sign", "--keys", made.keys, made.disk]).env("PATH", path);
    let refused = finish(&mut sign).exits(2);
    assert!(
        refused.stderr.contains("bytes outside the partitions were changed"),
        "{}",
        refused.stderr
    );
    assert!(fs::read(&made.disk).unwrap() == before);
}

#[test]
fn preflight_looks_at_one_partition() {
    let Some(made) = made(GPT) else { return };
    run(args!["sign", "--quiet", "--keys", made.keys, made.disk]).exits(0);
    let preflight = |root: &Path, more: &[&str]| {
        let fixed = args!["preflight", root, "--policy", "default:appraise", "--keys", made.keys];
        let more = more.iter().map(std::ffi::OsString::from);
        run(fixed.into_iter().chain(args!["--json", "--no-init", "--details"]).chain(more))
    };
    let refused = preflight(&made.disk, &[]).exits(2);
    assert!(refused.stdout.contains("2 file systems in its partitions"), "{}", refused.stdout);
    let partition = made.path("partition");
    extract(&made.disk, 5, 16, &partition);
    let lines = |run: Run| -> Vec<_> {
        run.json().into_iter().filter(|line| line["type"] == "file").collect()
    };
    let found = lines(preflight(&made.disk, &["--partition", "system"]));
    assert_eq!(found, lines(preflight(&partition, &[])));
    assert!(!found.is_empty());
}
