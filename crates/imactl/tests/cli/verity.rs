//! fs-verity: digests compared with those of fsverity, and signatures over them.

use std::fs;
use std::path::Path;

use crate::signature_forms::peer;
use crate::support::seeded::Random;
use crate::support::*;

/// Sizes at and around the ends of blocks and levels, and arbitrary ones.
fn sizes(count: usize) -> Vec<u64> {
    let mut sizes = Vec::new();
    for whole in [4096, 64 * 4096, 128 * 4096, 128 * 128 * 4096] {
        sizes.extend([whole - 1, whole, whole + 1]);
    }
    sizes.extend([0, 1, 4095, 4 << 20, (4 << 20) + 1, (8 << 20) + 4097]);
    let mut random = Random(4);
    while sizes.len() < count {
        let largest = 1 << (4 + random.below(16));
        sizes.push(random.below(largest) as u64);
    }
    sizes
}

#[test]
fn digests_are_those_of_fsverity() {
    let Some(_) = tool("fsverity") else { return };
    let directory = directory();
    let mut files = Vec::new();
    for (number, size) in sizes(1000).into_iter().enumerate() {
        let file = directory.path().join(number.to_string());
        // no two blocks are equal
        let line = format!("{number} and what makes it longer than that").into_bytes();
        let mut content = line.repeat(size as usize / line.len() + 1);
        content.truncate(size as usize);
        fs::write(&file, content).unwrap();
        files.push(file);
    }
    for (hash, salt) in [
        ("sha256", ""),
        ("sha512", ""),
        ("sha256", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        ("sha512", "0a0b0c"),
    ] {
        let mut theirs = tool("fsverity").unwrap();
        theirs.args(["digest", "--hash-alg", hash]);
        let mut ours = imactl();
        ours.args(["digest", "--verity", "--hash", hash]);
        if !salt.is_empty() {
            theirs.args(["--salt", salt]);
            ours.args(["--salt", salt]);
        }
        let theirs = finish(theirs.args(&files)).exits(0).stdout;
        let ours = finish(ours.args(&files)).exits(0).stdout;
        for (theirs, ours) in theirs.lines().zip(ours.lines()) {
            assert_eq!(theirs, ours, "{hash} {salt}");
        }
        assert_eq!(theirs.lines().count(), ours.lines().count());
    }
}

#[test]
fn plain_digests_are_those_of_coreutils() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let theirs = finish(tool("sha512sum").unwrap().arg(&file)).exits(0).stdout;
    let ours = run(args!["digest", "--hash", "sha512", file]).exits(0).stdout;
    let digest = theirs.split(' ').next().unwrap();
    assert_eq!(ours, format!("sha512:{digest} {}\n", file.display()));
    let none = run(args!["digest", "--verity", "--hash", "sha1", file]).exits(2).stderr;
    assert!(none.contains("fs-verity does not know sha1"), "{none}");
    let missing = directory.path().join("missing");
    let some = run(args!["digest", file, missing, directory.path(), file]).exits(2);
    assert_eq!(some.stdout.lines().count(), 2);
    assert!(some.stderr.contains("not a regular file"), "{}", some.stderr);
}

#[test]
fn signatures_over_verity_digests_hold_for_others_and_theirs_for_us() {
    let directory = directory();
    let (Some(_), Some(_)) = (tool("fsverity"), peer()) else { return };
    for key in ["rsa-2048", "p-256"] {
        let store = store(directory.path(), key);
        let [private, certificate] = ["key", "der"]
            .map(|extension| store.join("ima_keys/x509_ima").with_extension(extension));
        for hash in ["sha256", "sha512"] {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, vec![b'x'; 1_000_003]).unwrap();
            let sign = |extra: &[&str]| {
                let mut sign = imactl();
                sign.args(["sign", "--json", "--detached", "--digest", "verity", "--hash", hash]);
                finish(sign.args(extra).arg("--keys").args([&store, &file])).exits(0).json()
            };
            let verify = |required: &str, kernel: &str| {
                run(args![
                    "verify",
                    "--json",
                    "--detached",
                    "--require",
                    required,
                    "--kernel",
                    kernel,
                    "--keys",
                    store,
                    file
                ])
            };
            sign(&[]);
            let mut theirs = peer().unwrap();
            finish(theirs.arg("verify").arg(&certificate).args([hash, "6"]).arg(&file)).exits(0);
            let mut theirs = peer().unwrap();
            finish(theirs.arg("sign").arg(&private).args([hash, "6"]).arg(&file)).exits(0);
            verify("verity", "6.1").exits(0);
            assert_eq!(sign(&["--changed"])[0]["result"], "unchanged");
            for (required, kernel, verdict) in [
                ("signature", "6.12", "IMA-signature-required"),
                ("digest", "6.12", "invalid-verity-signature"),
                ("verity", "5.10", "unknown-ima-data"),
            ] {
                let line = verify(required, kernel).exits(1).json_for(&file);
                assert_eq!(line["verdict"], verdict, "{required} {kernel}");
            }
            fs::write(&file, vec![b'y'; 1_000_003]).unwrap();
            let line = verify("verity", "7.3").exits(1).json_for(&file);
            assert_eq!(line["verdict"], "invalid-verity-signature");
            assert!(line["key_id"].is_string());
            run(args!["sign", "--detached", "--keys", store, file]).exits(0);
            let line = verify("verity", "7.3").exits(1).json_for(&file);
            assert_eq!(line["verdict"], "verity-signature-required");
        }
    }
}

#[test]
fn archives_and_images_are_signed_over_verity_digests() {
    let directory = directory();
    let path = directory.path();
    let keys = store(path, "p-256");
    let root = path.join("root");
    write_tree(&root, &[("bin/small", b"small"), ("bin/large", &vec![3; 3_000_000])]);
    let archive = path.join("root.tar");
    finish(tool("tar").unwrap().arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".")).exits(0);
    let image = path.join("root.ext4");
    let Some(mut mke2fs) = tool("mke2fs") else { return };
    finish(mke2fs.args(["-q", "-t", "ext4", "-d"]).args([&root, &image]).arg("16M")).exits(0);
    for container in [&archive, &image] {
        run(args!["sign", "--digest", "verity", "--keys", keys, container]).exits(0);
        run(args!["verify", "--require", "verity", "--keys", keys, container]).exits(0);
        run(args![
            "verify",
            "--require",
            "verity",
            "--verity-salt",
            "00",
            "--keys",
            keys,
            container
        ])
        .exits(1);
    }
    let package = path.join("package.rpm");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_4.rpm");
    fs::copy(from, &package).unwrap();
    let refused = run(args!["sign", "--digest", "verity", "--keys", keys, package]).exits(2).stderr;
    assert!(refused.contains("packages list digests of the content"), "{refused}");
    let refused =
        run(args!["sign", "--digest", "verity", "--enable-verity", "--keys", keys, archive]);
    assert!(refused.exits(2).stderr.contains("an image builder enables fs-verity"));
}

#[test]
fn preflight_and_simulate_assume_that_it_is_enabled() {
    let directory = directory();
    let path = directory.path();
    if !security_attributes(path) {
        return;
    }
    let keys = store(path, "p-256");
    let root = path.join("root");
    write_tree(&root, &[("good", b"#!/bin/sh\n"), ("changed", b"#!/bin/sh\n"), ("plain", b"x")]);
    let policy = path.join("policy");
    fs::write(&policy, "appraise func=BPRM_CHECK digest_type=verity appraise_type=sigv3\n")
        .unwrap();
    run(args!["sign", "--digest", "verity", "--keys", keys, root]).exits(0);
    run(args!["sign", "--keys", keys, root.join("plain")]).exits(0);
    let changed = security_ima(&root.join("changed")).unwrap();
    fs::write(root.join("changed"), "#!/bin/sh\nrm\n").unwrap();
    set_security_ima(&root.join("changed"), &changed);
    let simulate = |file: &str| {
        let run = run(args![
            "policy",
            "simulate",
            "--json",
            "--kernel",
            "7.3",
            "--keys",
            keys,
            "--file",
            root.join(file),
            "--func",
            "BPRM_CHECK",
            policy,
        ]);
        let line = run.json().pop().unwrap();
        (line["verdict"].clone(), line["cause"].clone())
    };
    assert_eq!(simulate("good").0, "unknown");
    assert_eq!(simulate("changed"), ("denied".into(), "invalid-verity-signature".into()));
    assert_eq!(simulate("plain"), ("denied".into(), "verity-signature-required".into()));
}
