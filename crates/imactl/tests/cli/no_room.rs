//! File systems and files that cannot store an attribute: full, read-only, immutable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// A small ext4 file system, mounted until it is dropped.
struct Mounted {
    place: PathBuf,
}

impl Mounted {
    /// Makes and mounts one; prints a message if that is impossible.
    fn ext4(directory: &Path, options: &[&str]) -> Option<Self> {
        let (image, place) = (directory.join("image"), directory.join("mounted"));
        fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
        let mut mkfs = tool("mkfs.ext4")?;
        finish(mkfs.args(["-q", "-F", "-O", "^has_journal"]).args(options).arg(&image)).exits(0);
        fs::create_dir(&place).unwrap();
        let mounted = finish(Command::new("mount").args(["-o", "loop"]).args([&image, &place]));
        if mounted.code != Some(0) {
            missing(&format!("an image cannot be mounted here: {}", mounted.stderr));
            return None;
        }
        Some(Self { place })
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        finish(Command::new("mount").args(["-o", &options]).arg(&self.place)).exits(0);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // a second panic would hide the first
        drop(Command::new("umount").arg("--lazy").arg(&self.place).status());
    }
}

/// Fills a file system completely.
fn fill(place: &Path) {
    for (number, size) in [1 << 20, 1 << 12, 1].into_iter().enumerate() {
        let mut file = fs::File::create(place.join(format!("filler-{number}"))).unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
}

#[test]
fn no_space_for_the_attribute_is_told_with_what_to_do() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-4096");
    // inodes without space for an attribute
    let Some(mounted) = Mounted::ext4(directory.path(), &["-I", "128"]) else { return };
    let file = mounted.place.join("file");
    fs::write(&file, b"content").unwrap();
    fill(&mounted.place);
    let signed = run(args!["sign", "--keys", keys, file]).exits(2);
    assert!(signed.stderr.contains("no room for an attribute of 521 bytes"), "{}", signed.stderr);
    assert!(signed.stderr.contains("hint: make room"), "{}", signed.stderr);
    assert_eq!(security_ima(&file), None);
    let detached = run(args!["sign", "--detached", "--keys", keys, file]).exits(2);
    assert!(detached.stderr.contains("No space left"), "{}", detached.stderr);
    assert!(detached.stderr.contains("hint: make room"), "{}", detached.stderr);
    let names = fs::read_dir(&mounted.place).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".imactl-")));
}

#[test]
fn an_attribute_larger_than_a_block_has_no_room() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(mounted) = Mounted::ext4(directory.path(), &["-b", "1024", "-I", "128"]) else {
        return;
    };
    let file = mounted.place.join("file");
    fs::write(&file, b"content").unwrap();
    // another attribute uses the block
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.big", &[1; 930], flags).unwrap();
    let signed = run(args!["sign", "--keys", keys, file]).exits(2);
    assert!(signed.stderr.contains("no room for an attribute"), "{}", signed.stderr);
    assert!(signed.stderr.contains("hint: "), "{}", signed.stderr);
}

#[test]
fn a_read_only_file_system_is_told_with_what_to_do() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(mounted) = Mounted::ext4(directory.path(), &[]) else { return };
    let file = mounted.place.join("file");
    fs::write(&file, b"content").unwrap();
    run(args!["sign", "--keys", keys, file]).exits(0);
    mounted.remount("ro");
    for args in [
        args!["sign", "--keys", keys, file].to_vec(),
        args!["sign", "--detached", "--keys", keys, file].to_vec(),
        args!["clear", file].to_vec(),
    ] {
        let said = run(args).exits(2).stderr;
        assert!(said.contains("Read-only file system"), "{said}");
        assert!(said.contains("hint: the file system is mounted read-only"), "{said}");
    }
    run(args!["verify", "--keys", keys, mounted.place]).exits(0);
    // files that need no write are processed
    run(args!["sign", "--changed", "--keys", keys, file]).exits(0);
}

#[test]
fn an_immutable_file_is_told_with_what_to_do() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(mounted) = Mounted::ext4(directory.path(), &[]) else { return };
    let (file, other) = (mounted.place.join("file"), mounted.place.join("other"));
    for path in [&file, &other] {
        fs::write(path, b"content").unwrap();
    }
    finish(Command::new("chattr").arg("+i").arg(&file)).exits(0);
    let signed = run(args!["sign", "--json", "--keys", keys, mounted.place]).exits(2);
    let summary = signed.json().pop().unwrap();
    assert_eq!((&summary["signed"], &summary["failed"]), (&1.into(), &1.into()));
    let line = signed.json_for(&file);
    assert!(line["error"].as_str().unwrap().starts_with("no permission"), "{line}");
    assert!(line["hint"].as_str().unwrap().contains("lsattr"), "{line}");
    finish(Command::new("chattr").arg("-i").arg(&file)).exits(0);
    run(args!["sign", "--changed", "--keys", keys, mounted.place]).exits(0);
}

#[test]
fn a_full_disk_makes_no_half_key_store() {
    let directory = directory();
    let Some(mounted) = Mounted::ext4(directory.path(), &[]) else { return };
    fill(&mounted.place);
    let place = mounted.place.join("store");
    let made = run(args!["keys", "create", "--no-passphrase", "--algorithm", "p-256", place]);
    assert!(made.exits(2).stderr.contains("No space left"));
    let names = fs::read_dir(&mounted.place).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.filter(|name| name != "lost+found").collect();
    assert!(names.iter().all(|name| name.to_string_lossy().starts_with("filler-")), "{names:?}");
}

#[test]
fn large_signatures_are_refused_before_the_first_file_where_they_have_no_room() {
    let directory = directory();
    let path = directory.path();
    let keys = path.join("keys");
    let made = run(args![
        "keys",
        "create",
        "--quiet",
        "--no-passphrase",
        "--algorithm",
        "ml-dsa-65",
        keys
    ]);
    if made.code != Some(0) {
        missing("this OpenSSL has no ML-DSA");
        return;
    }
    let root = path.join("root");
    write_tree(&root, &[("a", b"a"), ("b", b"b")]);
    let Some(_) = tool("mke2fs") else { return };
    for (options, code) in [
        (&["-b", "1024"][..], 2),
        (&["-b", "2048"], 2),
        // debugfs would truncate it to a block
        (&["-b", "1024", "-O", "ea_inode"], 2),
        (&["-b", "4096"], 0),
    ] {
        let image = path.join("image.ext4");
        let mut mke2fs = tool("mke2fs").unwrap();
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).args(options).arg(&image);
        finish(mke2fs.arg("16M")).exits(0);
        let before = fs::read(&image).unwrap();
        let signed = run(args!["sign", "--keys", keys, image]).exits(code);
        if code == 2 {
            let said = signed.stderr;
            assert!(said.contains("image.ext4: no room for attributes of 3340 bytes"), "{said}");
            assert!(said.contains("hint: make the image with -b 4096"), "{said}");
            assert!(fs::read(&image).unwrap() == before);
        } else {
            run(args!["verify", "--kernel", "7.3", "--keys", keys, image]).exits(0);
        }
    }
    let Some(mounted) = Mounted::ext4(path, &["-b", "1024"]) else { return };
    write_tree(&mounted.place, &[("a", b"a"), ("b", b"b")]);
    let signed = run(args!["sign", "--keys", keys, mounted.place]).exits(2).stderr;
    assert!(signed.contains("no room for an attribute of 3318 bytes"), "{signed}");
    assert_eq!(signed.matches("no room").count(), 1, "{signed}");
    assert!(signed.contains("hint: make room; on ext4"), "{signed}");
    run(args!["sign", "--detached", "--keys", keys, mounted.place]).exits(0);
}
