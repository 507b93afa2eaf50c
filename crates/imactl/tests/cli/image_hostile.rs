//! Crafted images: imactl sees every file that the kernel lists, with the kernel's content, and writes to
//! nothing but the image.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::*;

/// Changes an image with debugfs.
fn debugfs(image: &Path, requests: &[&str]) {
    let batch = image.with_extension("batch");
    fs::write(&batch, requests.join("\n")).unwrap();
    finish(Command::new("debugfs").args(["-w", "-f"]).arg(&batch).arg(image)).exits(0);
}

fn ext4(image: &Path, root: &Path, options: &[&str]) -> Option<()> {
    let mut mke2fs = tool("mke2fs")?;
    mke2fs.args(["-q", "-F", "-t", "ext4"]).args(options).arg("-d").arg(root).arg(image).arg("8M");
    finish(&mut mke2fs).exits(0);
    Some(())
}

fn paths(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["path"].as_str()).collect()
}

#[test]
fn an_inline_directory_is_read_whatever_its_size_says() {
    let directory = directory();
    let (root, image) = (directory.path().join("root"), directory.path().join("image"));
    write_tree(&root, &[("good", b"good"), ("h/evil", b"evil")]);
    let Some(()) = ext4(&image, &root, &["-O", "inline_data", "-I", "512"]) else { return };
    debugfs(&image, &["sif h size 0"]);
    let listed = finish(Command::new("debugfs").args(["-R", "ls -p h"]).arg(&image)).exits(0);
    assert!(listed.stdout.contains("/evil/"), "{}", listed.stdout);
    let inspected = run(args!["inspect", "--json", image]).exits(0).json();
    assert_eq!(paths(&inspected), ["good", "h/evil"]);
}

#[test]
fn inline_content_without_its_attribute_is_refused() {
    let directory = directory();
    let (root, image) = (directory.path().join("root"), directory.path().join("image"));
    write_tree(&root, &[("file", &[0; 4000])]);
    let Some(()) = ext4(&image, &root, &["-O", "^inline_data"]) else { return };
    // the kernel reads blocks, where the extents are
    debugfs(&image, &["sif file flags 0x10000000"]);
    let refused = run(args!["inspect", image]).exits(2);
    assert!(refused.stderr.contains("inline data without its attribute"), "{}", refused.stderr);
}

#[test]
fn an_attribute_with_a_percent_sign_is_not_the_one_that_it_resembles() {
    let directory = directory();
    let (root, image) = (directory.path().join("root"), directory.path().join("image"));
    write_tree(&root, &[("file", b"file")]);
    if !security_attributes(directory.path()) {
        return;
    }
    let flags = rustix::fs::XattrFlags::empty();
    let set = |name: &str| rustix::fs::setxattr(root.join("file"), name, b"\x04\x04", flags);
    set("security.%69ma").unwrap();
    let Some(mut mkfs) = tool("mkfs.erofs") else { return };
    finish(mkfs.arg(&image).arg(&root)).exits(0);
    let inspected = run(args!["inspect", "--json", image]).exits(0).json();
    assert_eq!(inspected[0]["attribute"], serde_json::Value::Null, "{inspected:?}");
    assert_eq!(inspected[0]["malformed"], serde_json::Value::Null, "{inspected:?}");
    set("security.ima").unwrap();
    fs::remove_file(&image).unwrap();
    finish(Command::new("mkfs.erofs").arg(&image).arg(&root)).exits(0);
    let inspected = run(args!["inspect", "--json", image]).exits(1).json();
    assert!(inspected[0]["malformed"].is_string(), "{inspected:?}");
}

/// A program that is found before the real one in the path.
fn shim(directory: &Path, name: &str, script: &str) -> std::ffi::OsString {
    let programs = directory.join("programs");
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join(name), script).unwrap();
    fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn a_copy_that_is_exchanged_for_a_link_is_not_followed() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = directory.path().join("root");
    write_tree(&root, &[("file", b"file")]);
    let image = directory.path().join("theirs/image");
    let victim = directory.path().join("victim");
    fs::create_dir(directory.path().join("theirs")).unwrap();
    for image in [&image, &victim] {
        let Some(()) = ext4(image, &root, &["-I", "512"]) else { return };
    }
    let before = fs::read(&victim).unwrap();
    // after imactl copied the image, and before it writes to the copy
    let script = format!(
        "#!/bin/sh\nfor copy in {theirs}/.imactl-*; do\n    [ -e \"$copy\" ] && \
         ln -s {victim} {theirs}/link && mv -T {theirs}/link \"$copy\"\ndone\n\
         PATH=${{PATH#*:}}\nunset LD_PRELOAD\nexec debugfs \"$@\"\n",
        theirs = directory.path().join("theirs").display(),
        victim = victim.display(),
    );
    let path = shim(directory.path(), "debugfs", &script);
    let sign = || {
        let mut command = imactl();
        command.args(args!["sign", "--keys", keys, image]).env("PATH", &path);
        command
    };
    // a copy without a name cannot be replaced
    finish(&mut sign()).exits(0);
    run(args!["verify", "--keys", keys, image]).exits(0);
    assert!(fs::read(&victim).unwrap() == before);
    // with pseudo, and on some file systems, the copy has a name
    let refused = finish(sign().env("LD_PRELOAD", "libpseudo.so")).exits(2);
    assert!(refused.stderr.contains("was replaced by another one"), "{}", refused.stderr);
    assert!(fs::read(&victim).unwrap() == before);
    assert!(fs::symlink_metadata(&image).unwrap().is_file());
}

/// A tree with two sparse files.
fn sparse(directory: &Path) -> std::path::PathBuf {
    let root = directory.join("root");
    write_tree(&root, &[("file", b"file")]);
    for name in ["a", "b"] {
        File::create(root.join(name)).unwrap().set_len(3 << 20).unwrap();
    }
    root
}

/// Makes holes of repeated references to the same block, which mkfs.erofs wrote before it supported holes.
fn make_holes(image: &Path) {
    let mut bytes = fs::read(image).unwrap();
    let words: Vec<[u8; 4]> = bytes.chunks_exact(4).map(|word| word.try_into().unwrap()).collect();
    let mut count = 0;
    for (number, word) in words.iter().enumerate() {
        let around = words.get(number.saturating_sub(3)..number + 4).unwrap_or_default();
        let repeated = around.windows(4).any(|four| four.iter().all(|other| other == word));
        if repeated && *word != [0; 4] {
            bytes[number * 4..][..4].fill(0xff);
            count += 1;
        }
    }
    assert!([0, 2 * (3 << 20) / 4096].contains(&count), "{count}");
    fs::write(image, bytes).unwrap();
}

#[test]
fn holes_of_all_files_are_counted_together_in_every_image() {
    let directory = directory();
    let root = sparse(directory.path());
    let image = directory.path().join("image");
    if !security_attributes(directory.path()) {
        return;
    }
    run(args!["sign", "--hash-only", root]).exits(0);
    let made: [(&str, &[&str]); 3] = [
        ("mke2fs", &["-q", "-F", "-t", "ext4", "-d", "ROOT", "IMAGE", "8M"]),
        ("mkfs.erofs", &["--chunksize=4096", "-Eforce-inode-blockmap,nosbcrc", "IMAGE", "ROOT"]),
        ("mksquashfs", &["ROOT", "IMAGE", "-quiet", "-no-progress"]),
    ];
    for (make, words) in made {
        let Some(mut program) = tool(make) else { return };
        fs::remove_file(&image).ok();
        for word in words {
            match *word {
                "ROOT" => program.arg(&root),
                "IMAGE" => program.arg(&image),
                word => program.arg(word),
            };
        }
        finish(&mut program).exits(0);
        if make == "mkfs.erofs" {
            make_holes(&image);
        }
        let inspect = |limit: &str| run(args!["inspect", "--max-sparse", limit, image]);
        let refused = inspect("5MiB");
        assert_eq!(refused.code, Some(2), "{make}: {}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("bytes of holes"), "{make}: {}", refused.stderr);
        assert!(refused.stderr.contains("hint: --max-sparse"), "{make}: {}", refused.stderr);
        let inspected = inspect("7MiB").exits(0);
        assert_eq!(inspected.stdout.lines().count(), 3, "{make}: {}", inspected.stdout);
    }
}

#[test]
fn preflight_reads_an_erofs_without_a_temporary_file() {
    let directory = directory();
    let (root, image) = (directory.path().join("root"), directory.path().join("image"));
    write_tree(&root, &[("sbin/init", b"#!/bin/sh\n"), ("bin/sh", b"\x7fELF")]);
    let Some(mut mkfs) = tool("mkfs.erofs") else { return };
    finish(mkfs.arg("-zlz4").arg(&image).arg(&root)).exits(0);
    let mut command = imactl();
    let (keys, nowhere) = (store(directory.path(), "p-256"), directory.path().join("nowhere"));
    command
        .args(args!["preflight", image, "--keys", keys, "--policy", "default:appraise"])
        .env("TMPDIR", nowhere);
    let told = finish(&mut command);
    assert_ne!(told.code, Some(2), "{}", told.stderr);
    assert!(told.stdout.contains("/sbin/init"), "{}", told.stdout);
}
