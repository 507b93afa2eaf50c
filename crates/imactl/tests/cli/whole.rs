//! Packages, archives and images are replaced atomically, by files with the same owner and attributes; an
//! interrupted run leaves nothing.

use std::fs;
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::*;
use rustix::process::Signal;

/// A package, an archive and an image with `files` files, in a directory of their own; kinds without an
/// installed tool are left out.
fn containers(directory: &Path, files: usize) -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_6.rpm");
    let (root, place) = (directory.join("root"), directory.join("place"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&place).unwrap();
    for number in 0..files {
        fs::write(root.join(format!("{number}")), number.to_string().repeat(2_000)).unwrap();
    }
    let (rpm, tar, image) = (place.join("p.rpm"), place.join("a.tar"), place.join("i.img"));
    fs::copy(package, &rpm).unwrap();
    let mut found = vec![rpm];
    if let Some(mut command) = tool("tar") {
        finish(command.arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".")).exits(0);
        found.push(tar);
    }
    if let Some(mut command) = tool("mke2fs") {
        command.args(["-q", "-F", "-t", "ext4", "-I", "512", "-N", "4096", "-d"]);
        finish(command.arg(&root).arg(&image).arg("64M")).exits(0);
        found.push(image);
    }
    found
}

#[test]
fn the_new_one_has_owner_mode_and_attributes_of_the_old_one() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    for path in containers(directory.path(), 3) {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let set = |name: &str, value: &[u8]| set_attribute(&path, name, value);
        set("user.origin", b"build 7");
        // read permission for user 1000, in the kernel's form (version 2; tag, permissions, ID)
        let list = [(1, 6, -1), (2, 4, 1000), (4, 4, -1), (0x10, 4, -1), (0x20, 0, -1_i32)];
        let mut acl = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in list {
            acl.extend_from_slice(&u16::to_le_bytes(tag));
            acl.extend_from_slice(&u16::to_le_bytes(permissions));
            acl.extend_from_slice(&i32::to_le_bytes(id));
        }
        set("system.posix_acl_access", &acl);
        if is_root {
            // the attribute of the old content, which must not be copied
            set("security.ima", b"\x04\x04");
            chown(&path, Some(1234), Some(4321)).unwrap();
        }
        let get = |name: &str| attribute(&path, name);
        for verb in ["sign", "clear"] {
            let before = fs::metadata(&path).unwrap();
            match verb {
                "sign" => run(args![verb, "--keys", keys, path]).exits(0),
                _ => run(args![verb, path]).exits(0),
            };
            let after = fs::metadata(&path).unwrap();
            assert_ne!(before.ino(), after.ino(), "{verb} {}", path.display());
            assert_eq!(before.mode(), after.mode(), "{verb} {}", path.display());
            let owner = (after.uid(), after.gid());
            assert_eq!((before.uid(), before.gid()), owner, "{verb} {}", path.display());
            assert_eq!(get("user.origin").unwrap(), b"build 7", "{verb} {}", path.display());
            let kept = get("system.posix_acl_access").unwrap();
            assert_eq!(kept, acl, "{verb} {}", path.display());
            assert!(get("security.ima").is_none(), "{verb} {}", path.display());
        }
    }
}

#[test]
fn a_new_one_is_under_the_umask() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for path in containers(directory.path(), 3) {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let out = directory.path().join("out");
        let new = match path.extension() == Some("rpm".as_ref()) {
            true => ("--output-dir", out.clone(), out.join("p.rpm")),
            false => ("-o", out.join("new"), out.join("new")),
        };
        fs::create_dir_all(&out).unwrap();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 027; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_imactl")]);
        finish(command.args(args!["sign", "--keys", keys, path, new.0, new.1])).exits(0);
        assert_eq!(fs::metadata(&new.2).unwrap().mode() & 0o777, 0o640, "{}", path.display());
    }
}

#[test]
fn a_link_stands_for_the_container_that_it_leads_to() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for path in containers(directory.path(), 3) {
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        run(args!["sign", "--keys", keys, link]).exits(0);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        run(args!["verify", "--keys", keys, path]).exits(0);
        run(args!["verify", "--keys", keys, link]).exits(0);
        fs::remove_file(&link).unwrap();
    }
    // links in a tree are still refused
    write_tree(directory.path(), &[("plain", b"")]);
    symlink("plain", directory.path().join("link")).unwrap();
    let refused = run(args!["verify", "--keys", keys, directory.path().join("link")]).exits(2);
    assert!(refused.stderr.contains("not followed"), "{}", refused.stderr);
}

#[test]
fn killed_at_any_moment_the_original_is_whole_and_nothing_else_bears_a_name() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    for path in containers(directory.path(), 500) {
        let place = path.parent().unwrap();
        let original = fs::read(&path).unwrap();
        let before = names(place);
        let (mut interrupted, mut finished) = (0, 0);
        let start = Instant::now();
        run(args!["sign", "--quiet", "--dry-run", "--keys", keys, path]).exits(0);
        let whole = start.elapsed();
        for (round, signal) in (0..14).zip([Signal::KILL, Signal::TERM].into_iter().cycle()) {
            let out = place.join("out");
            let new = match path.extension() == Some("rpm".as_ref()) {
                true => ["--output-dir".into(), out.clone()],
                false => ["-o".into(), out.clone()],
            };
            let mut sign = imactl();
            sign.args(args!["sign", "--quiet", "--keys", keys, path, new[0], new[1]]);
            sign.env("TMPDIR", &scratch);
            interrupted += u32::from(killed(&mut sign, signal, whole * round / 10));
            assert!(signal == Signal::KILL || names(&scratch).is_empty(), "{:?}", names(&scratch));
            for name in names(&scratch) {
                fs::remove_dir_all(scratch.join(name)).unwrap();
            }
            assert!(fs::read(&path).unwrap() == original, "{} {round}", path.display());
            // a file under the final name is complete
            let result = if out.is_dir() { out.join("p.rpm") } else { out.clone() };
            if result.exists() {
                finished += 1;
                run(args!["verify", "--quiet", "--keys", keys, result]).exits(0);
            }
            for name in names(place) {
                let left = name.starts_with(".imactl-");
                assert!(left || name == "out" || before.contains(&name), "{name}");
                // after SIGTERM no named file is left; after SIGKILL only an image's copy may be
                let killed = signal == Signal::KILL && path.extension() == Some("img".as_ref());
                assert!(!left || killed, "{name} after {signal:?}");
                if left {
                    let told = run(args!["clear", path, "-o", place.join("other")]).exits(0);
                    assert!(told.stderr.contains(&name), "{}", told.stderr);
                    fs::remove_file(place.join("other")).unwrap();
                    fs::remove_file(place.join(name)).unwrap();
                }
            }
            fs::remove_dir_all(&out).or_else(|_| fs::remove_file(&out)).ok();
        }
        eprintln!("{}: {interrupted} interrupted, {finished} finished", path.display());
        assert!(interrupted > 0, "{}", path.display());
    }
}
