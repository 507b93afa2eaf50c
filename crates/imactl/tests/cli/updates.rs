//! `imactl preflight` of updates: bundles made by rauc, and archives in SWUpdate's form.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

const POLICY: &str = "default:appraise";
const SCRIPT: &str = "#!/bin/sh\nexit 0\n";

/// `preflight` of an update: the first denied file, else the summary.
fn preflight(update: &Path, keys: &Path, code: i32) -> serde_json::Value {
    let words = args!["--json", "preflight", update, "--policy", POLICY, "--keys", keys];
    let lines = run(words).exits(code).json();
    assert_eq!(lines.last().unwrap()["reaches_init"], serde_json::Value::Null);
    lines.first().unwrap().clone()
}

/// A bundle with a hook, made by `rauc bundle` with these options.
fn bundle(directory: &Path, format: &str, words: &[&str], signed_by: Option<&Path>) -> PathBuf {
    let content = directory.join("bundle");
    let _ = fs::remove_dir_all(&content);
    let manifest = format!(
        "[update]\ncompatible=lab\nversion=1\n\n[bundle]\nformat={format}\n\n[hooks]\n\
         filename=hook.sh\nhooks=install-check\n\n[image.rootfs]\nfilename=root.img\n"
    );
    // more than 4 KiB even if compressed, as the verity format requires
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let files: &[(&str, &[u8])] = &[
        ("hook.sh", SCRIPT.as_bytes()),
        ("manifest.raucm", manifest.as_bytes()),
        ("root.img", &program[1..200_000]),
    ];
    write_tree(&content, files);
    fs::set_permissions(content.join("hook.sh"), Permissions::from_mode(0o755)).unwrap();
    if let Some(keys) = signed_by {
        run(args!["sign", "--quiet", "--keys", keys, content.join("hook.sh")]).exits(0);
    }
    let (key, certificate) = (directory.join("rauc.key"), directory.join("rauc.crt"));
    if !key.exists() {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rauc"]);
        finish(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).exits(0);
    }
    let bundle = directory.join(format!("{format}{}.raucb", words.len()));
    let _ = fs::remove_file(&bundle);
    let mut rauc = Command::new("rauc");
    rauc.arg("--cert").arg(&certificate).arg("--key").arg(&key).args(words);
    finish(rauc.arg("bundle").arg(&content).arg(&bundle)).exits(0);
    bundle
}

#[test]
fn a_hook_in_a_bundle_of_rauc_needs_a_signature_in_the_bundle() {
    if tool("rauc").is_none() || tool("sqfs2tar").is_none() || tool("mksquashfs").is_none() {
        return missing("rauc, squashfs-tools or squashfs-tools-ng is not installed");
    }
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let keys = store(directory.path(), "p-256");
    for format in ["plain", "verity"] {
        // bundles have no attributes by default, even if the directory's files had some
        let update = bundle(directory.path(), format, &[], Some(&keys));
        let hook = preflight(&update, &keys, 1);
        assert_eq!(hook["path"], "/hook.sh");
        assert_eq!(hook["cause"], "IMA-signature-required");
        // the shell is on the root, not in the bundle
        let update = bundle(directory.path(), format, &["--mksquashfs-args=-xattrs"], Some(&keys));
        assert_eq!(preflight(&update, &keys, 0)["allowed"], 1);
        let update = bundle(directory.path(), format, &["--mksquashfs-args=-xattrs"], None);
        preflight(&update, &keys, 1);
    }
}

/// An archive of these files by cpio, in their order.
fn archive(directory: &Path, form: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let content = directory.join("swu");
    let _ = fs::remove_dir_all(&content);
    write_tree(&content, files);
    let names: String = files.iter().map(|(name, _)| format!("{name}\n")).collect();
    let (list, archive) = (directory.join("names"), directory.join("update.swu"));
    fs::write(&list, names).unwrap();
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--quiet", "--format", form]).current_dir(&content);
    cpio.stdin(fs::File::open(&list).unwrap()).stdout(fs::File::create(&archive).unwrap());
    assert!(cpio.stderr(Stdio::inherit()).status().unwrap().success());
    archive
}

const DESCRIPTION: (&str, &[u8]) = (
    "sw-description",
    b"software = { version = \"1\"; scripts: ( { filename = \"post.sh\"; type = \"shellscript\"; } ); }",
);

#[test]
fn scripts_in_an_update_of_swupdate_are_denied() {
    if tool("cpio").is_none() {
        return missing("cpio is not installed");
    }
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image: (&str, &[u8]) = ("root.img", &[7; 70_001]);
    for form in ["newc", "crc"] {
        let script = ("post.sh", SCRIPT.as_bytes());
        let update = archive(directory.path(), form, &[DESCRIPTION, image, script]);
        let script = preflight(&update, &keys, 1);
        assert_eq!(script["path"], "/post.sh");
        assert_eq!(script["cause"], "IMA-signature-required");
        let update = archive(directory.path(), form, &[DESCRIPTION, image]);
        preflight(&update, &keys, 0);
    }
}

#[test]
fn damaged_updates_are_not_looked_at() {
    if tool("cpio").is_none() {
        return missing("cpio is not installed");
    }
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let script = ("post.sh", SCRIPT.as_bytes());
    let update = archive(directory.path(), "newc", &[DESCRIPTION, script]);
    let whole = fs::read(&update).unwrap();
    let second = whole[6..].windows(6).position(|bytes| bytes == b"070701").unwrap() + 6;
    let refused = |bytes: &[u8], wanted: &str| {
        fs::write(&update, bytes).unwrap();
        let words = args!["preflight", update, "--policy", POLICY, "--keys", keys];
        let refused = run(words).exits(2);
        assert!(refused.stderr.contains(wanted), "{}", refused.stderr);
    };
    refused(&whole[..second + 120], &format!("truncated: the entry at offset {second} is not"));
    refused(&whole[..second], "truncated");
    let changed = |at: usize, by: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + by.len()].copy_from_slice(by);
        bytes
    };
    refused(&changed(second, b"07070Y"), "no cpio entry's magic number");
    refused(&changed(second + 6 + 6 * 8, b"x"), "hexadecimal");
    refused(&changed(second + 110, b"../a.sh"), "invalid or repeated file name");
    // any other cpio archive is not an update
    refused(&changed(110, b"init"), "not a directory, tar archive or supported image");
    let update = archive(directory.path(), "newc", &[DESCRIPTION, script, script]);
    let words = args!["preflight", update, "--policy", POLICY, "--keys", keys];
    let refused = run(words).exits(2);
    assert!(refused.stderr.contains("repeated file name"), "{}", refused.stderr);
}
