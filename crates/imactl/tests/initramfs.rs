//! `imactl initramfs create`: what is in the archive, and what it refuses to make.

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use support::{directory, finish, run, store, tool};

const POLICY: &str = "appraise func=BPRM_CHECK appraise_type=imasig\n";

/// The archive, unpacked by what others wrote.
fn unpacked(archive: &Path, compressor: &str) -> Option<tempfile::TempDir> {
    let mut decompress = tool(compressor)?;
    let mut cpio = tool("cpio")?;
    let to = directory();
    let plain = to.path().join("plain.cpio");
    let plain_file = fs::File::create(&plain).unwrap();
    let status = decompress.arg("-dc").arg(archive).stdout(plain_file).status().unwrap();
    assert!(status.success());
    let root = to.path().join("root");
    fs::create_dir(&root).unwrap();
    // the device node takes root; everything else does not
    cpio.args(["--extract", "--quiet", "--no-preserve-owner", "--nonmatching", "dev/console"]);
    cpio.current_dir(&root).stdin(Stdio::from(fs::File::open(&plain).unwrap()));
    finish(&mut cpio).exits(0);
    Some(to)
}

#[test]
fn holds_init_certificate_and_policies() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let init = directory.path().join("imactl-init");
    fs::write(&init, b"the program").unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, POLICY).unwrap();
    for (how, compressor) in [("zstd", "zstd"), ("gzip", "gzip")] {
        let image = directory.path().join("initramfs.img");
        let create = args![
            "initramfs",
            "create",
            "-o",
            image,
            "--keys",
            keys,
            "--policy",
            policy,
            "--init",
            init,
            "--compress",
            how
        ];
        run(create.clone()).exits(0);
        let first = fs::read(&image).unwrap();
        run(create).exits(0);
        assert_eq!(fs::read(&image).unwrap(), first, "the same input gives the same bytes");
        let Some(unpacked) = unpacked(&image, compressor) else { return };
        let read = |name: &str| fs::read(unpacked.path().join("root").join(name)).unwrap();
        assert_eq!(read("init"), b"the program");
        assert_eq!(
            read("etc/keys/x509_ima.der"),
            fs::read(keys.join("ima_keys/x509_ima.der")).unwrap()
        );
        assert_eq!(read("etc/ima/ima_policy"), POLICY.as_bytes());
        let default = run(["policy", "default"]).exits(0).stdout;
        assert_eq!(read("etc/ima/ima_policy.default"), default.as_bytes());
    }
}

#[test]
fn makes_nothing_with_a_policy_that_stops_the_boot() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let init = directory.path().join("imactl-init");
    fs::write(&init, b"the program").unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, "apraise func=BPRM_CHECK\n").unwrap();
    let image = directory.path().join("initramfs.img");
    let ran = run(args![
        "initramfs",
        "create",
        "-o",
        image,
        "--keys",
        keys,
        "--policy",
        policy,
        "--init",
        init
    ])
    .exits(1);
    assert!(ran.stdout.contains("apraise"), "{}", ran.stdout);
    assert!(!image.exists());
}

#[test]
fn wants_one_certificate_and_a_program() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image = directory.path().join("initramfs.img");
    let missing = directory.path().join("no-such-init");
    let ran =
        run(args!["initramfs", "create", "-o", image, "--keys", keys, "--init", missing]).exits(2);
    assert!(ran.stderr.contains("no-such-init"), "{}", ran.stderr);
    fs::write(&missing, b"the program").unwrap();
    let system = keys.join("system_trusted_keys/system_trusted_key.der");
    fs::copy(&system, keys.join("ima_keys/x509_second.der")).unwrap();
    let ran =
        run(args!["initramfs", "create", "-o", image, "--keys", keys, "--init", missing]).exits(2);
    assert!(ran.stderr.contains("name it with --cert"), "{}", ran.stderr);
    let ran = run(args!["initramfs", "create", "-o", image, "--cert", system, "--init", missing])
        .exits(0);
    assert!(ran.stderr.contains("self-signed"), "{}", ran.stderr);
}
