//! `imactl initramfs create`: what is in the archive, and what it refuses to make.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Stdio;

use crate::support::{directory, finish, names, run, store, tool};

const POLICY: &str = "appraise func=BPRM_CHECK appraise_type=imasig\n";

/// A static program of a machine, or one that wants a loader: an ELF header, program headers.
pub(crate) fn elf(machine: u16, loader: Option<&str>) -> Vec<u8> {
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    program.extend([2_u16, machine].map(u16::to_le_bytes).concat());
    program.extend(1_u32.to_le_bytes());
    // entry, program headers, section headers
    program.extend([0x40_0000_u64, 64, 0].map(u64::to_le_bytes).concat());
    program.extend(0_u32.to_le_bytes());
    program.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    let (kind, length) = match loader {
        Some(loader) => (3_u32, loader.len() as u64 + 1), // PT_INTERP
        None => (1, 120),                                 // PT_LOAD
    };
    let offset = if loader.is_some() { 120 } else { 0 };
    program.extend([kind, 5].map(u32::to_le_bytes).concat());
    program.extend([offset, offset, offset, length, length, 4096].map(u64::to_le_bytes).concat());
    program.extend(loader.unwrap_or_default().bytes());
    program.push(0);
    program
}

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
    fs::write(&init, elf(62, None)).unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, POLICY).unwrap();
    let revoked = directory.path().join("revoked");
    let certificate = keys.join("ima_keys/x509_ima.crt");
    run(args!["revoke", "--file", policy, "--keys", keys, "--output-dir", revoked]).exits(0);
    let entry = revoked.join(&names(&revoked)[0]);
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
            how,
            "--blacklist",
            entry,
            "--blacklist",
            certificate
        ];
        run(create.clone()).exits(0);
        let first = fs::read(&image).unwrap();
        run(create).exits(0);
        assert_eq!(fs::read(&image).unwrap(), first, "the output is not reproducible");
        let Some(unpacked) = unpacked(&image, compressor) else { return };
        let read = |name: &str| fs::read(unpacked.path().join("root").join(name)).unwrap();
        assert_eq!(read("init"), elf(62, None));
        assert_eq!(
            read("etc/keys/x509_ima.der"),
            fs::read(keys.join("ima_keys/x509_ima.der")).unwrap()
        );
        assert_eq!(read("etc/keys/blacklist_0.entry"), fs::read(&entry).unwrap());
        assert_eq!(read("etc/keys/blacklist_1.der"), read("etc/keys/x509_ima.der"));
        assert_eq!(read("etc/ima/ima_policy"), POLICY.as_bytes());
        let default = run(["policy", "default"]).exits(0).stdout;
        assert_eq!(read("etc/ima/ima_policy.default"), default.as_bytes());
    }
}

#[test]
fn holds_an_evm_certificate_if_it_is_asked_for() {
    let directory = directory();
    let (keys, other) = (store(directory.path(), "p-256"), store(directory.path(), "p-384"));
    let (image, init) = (directory.path().join("img"), directory.path().join("init"));
    fs::write(&init, elf(62, None)).unwrap();
    let create = |keys: &Path, options: &[&OsStr]| {
        let args = args!["initramfs", "create", "-o", image, "--init", init, "--compress", "none"];
        run(args
            .into_iter()
            .chain(args!["--json", "--keys", keys])
            .chain(options.iter().map(OsString::from)))
    };
    let evm = keys.join("evm_keys/x509_evm.der");
    let holds = |der: &Path| {
        let (image, der) = (fs::read(&image).unwrap(), fs::read(der).unwrap());
        image.windows(der.len()).any(|window| window == der)
    };
    create(&keys, &[]).exits(0);
    assert!(!holds(&evm));
    let made = create(&keys, &["--evm".as_ref()]).exits(0);
    assert!(holds(&evm));
    assert!(made.stdout.contains("\"evm_key_id\":\""), "{}", made.stdout);
    fs::remove_file(&image).unwrap();
    // one that .evm of this kernel refuses is not put in: the boot would stop
    let theirs = other.join("evm_keys/x509_evm.der");
    let ran = create(&keys, &["--evm-cert".as_ref(), theirs.as_ref()]).exits(0);
    assert_eq!(ran.stderr, "", "held against nothing, as with --cert");
    fs::copy(&theirs, &evm).unwrap();
    fs::copy(theirs.with_extension("crt"), evm.with_extension("crt")).unwrap();
    fs::remove_file(&image).unwrap();
    let ran = create(&keys, &["--evm".as_ref()]).exits(1);
    assert!(ran.stderr.contains("not created: .evm of Linux"), "{}", ran.stderr);
    assert!(!image.exists());
}

#[test]
fn holds_the_detached_signature_of_its_policy() {
    let directory = directory();
    let (keys, init) = (store(directory.path(), "p-256"), directory.path().join("imactl-init"));
    fs::write(&init, elf(62, None)).unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, POLICY).unwrap();
    run(args!["policy", "sign", "--detached", "--keys", keys, policy]).exits(0);
    let signature = fs::read(directory.path().join("policy.sig")).unwrap();
    let image = directory.path().join("initramfs.img");
    let create = args![
        "initramfs",
        "create",
        "-o",
        image,
        "--keys",
        keys,
        "--init",
        init,
        "--policy",
        policy,
        "--compress",
        "none"
    ];
    run(create.clone()).exits(0);
    let archive = fs::read(&image).unwrap();
    let name = b"etc/ima/ima_policy.sig\0";
    assert!(archive.windows(name.len()).any(|it| it == name));
    assert!(archive.windows(signature.len()).any(|it| it == signature));

    fs::remove_file(&image).unwrap();
    fs::write(&policy, format!("{POLICY}audit func=MMAP_CHECK\n")).unwrap();
    let said = run(create).exits(2).stderr;
    assert!(said.contains("not a valid signature of"), "{said}");
    assert!(!image.exists());
}

#[test]
fn holds_words_that_its_init_knows() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let init = directory.path().join("imactl-init");
    fs::write(&init, elf(62, None)).unwrap();
    let image = directory.path().join("initramfs.img");
    let create = |words: &str| {
        let args = args!["initramfs", "create", "-o", image, "--keys", keys, "--init", init];
        run(args.into_iter().chain(args!["--compress", "gzip", "--cmdline", words]))
    };
    for wrong in [
        "root=/dev/vda",
        "imactl.root-certificates",
        "imactl.root-certificates=no",
        "imactl.timeout=soon",
        "imactl.mode=enforce imactl.roots=skip",
    ] {
        let ran = create(wrong).exits(2);
        assert!(ran.stderr.contains("unknown to imactl-init"), "{wrong}: {}", ran.stderr);
        assert!(!image.exists());
    }
    let words = "imactl.root-certificates=skip imactl.timeout=30";
    create(words).exits(0);
    let Some(unpacked) = unpacked(&image, "gzip") else { return };
    let file = unpacked.path().join("root/etc/imactl/cmdline");
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{words}\n"));
}

#[test]
fn makes_nothing_with_a_policy_that_stops_the_boot() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let init = directory.path().join("imactl-init");
    fs::write(&init, elf(62, None)).unwrap();
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
    fs::write(&missing, elf(62, None)).unwrap();
    let system = keys.join("system_trusted_keys/system_trusted_key.der");
    fs::copy(&system, keys.join("ima_keys/x509_second.der")).unwrap();
    let ran =
        run(args!["initramfs", "create", "-o", image, "--keys", keys, "--init", missing]).exits(2);
    assert!(ran.stderr.contains("select one with --cert"), "{}", ran.stderr);
    // what .ima of this kernel refuses is not put in
    let create = |kernel: &str, certificate: &Path| {
        let args = args!["initramfs", "create", "-o", image, "--init", missing, "--kernel", kernel];
        run(args.into_iter().chain(args!["--cert", certificate]))
    };
    let ran = create("6.12", &system).exits(1);
    assert!(ran.stderr.contains(".ima of Linux 6.12 rejects it: a CA (CA:TRUE)"), "{}", ran.stderr);
    assert!(!image.exists());
    let ran = create("6.1", &system).exits(0);
    assert!(ran.stderr.contains("self-signed"), "{}", ran.stderr);
}

/// A store's certificate is held against the store's CAs, one by itself against nothing.
#[test]
fn wants_a_certificate_that_the_kernel_accepts() {
    let directory = directory();
    let (ours, theirs) = (store(directory.path(), "p-256"), store(directory.path(), "p-384"));
    let (image, init) = (directory.path().join("img"), directory.path().join("init"));
    fs::write(&init, elf(62, None)).unwrap();
    let create = |option: &str, value: &Path| {
        let args = args!["initramfs", "create", "-o", image, "--init", init];
        run(args.into_iter().chain(args![option, value]))
    };
    let certificate = ours.join("ima_keys/x509_ima.der");
    for extension in ["der", "crt"] {
        let name = Path::new("ima_keys/x509_ima").with_extension(extension);
        fs::copy(theirs.join(&name), ours.join(&name)).unwrap();
    }
    create("--cert", &certificate).exits(0);
    fs::remove_file(&image).unwrap();
    let ran = create("--keys", &ours).exits(1);
    assert!(ran.stderr.contains("no trusted key has the name or identifier"), "{}", ran.stderr);
    assert!(!image.exists());
    let issued = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/certificate/issued");
    let ran = create("--cert", &issued.join("no-usage.der")).exits(1);
    assert!(ran.stderr.contains("key usage lacks digitalSignature"), "{}", ran.stderr);
}

#[test]
fn wants_an_init_that_the_kernel_can_start() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let (image, init) = (directory.path().join("img"), directory.path().join("init"));
    for (program, why) in [
        (Vec::new(), "it is empty"),
        (b"#!/bin/sh\n".to_vec(), "not a program: not ELF"),
        (elf(62, Some("/lib64/ld-linux-x86-64.so.2")), "it needs /lib64/ld-linux-x86-64.so.2"),
        (elf(0x4242, None), "unknown machine (ELF machine 16962)"),
        (elf(62, None)[..70].to_vec(), "not a program"),
        (fs::read(env!("CARGO_BIN_EXE_imactl")).unwrap(), "it is dynamically linked"),
    ] {
        fs::write(&init, program).unwrap();
        let create = args!["initramfs", "create", "-o", image, "--keys", keys, "--init", init];
        let ran = run(create).exits(2);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert!(!image.exists());
    }
    fs::write(&init, elf(183, None)).unwrap();
    run(args!["initramfs", "create", "-o", image, "--keys", keys, "--init", init]).exits(0);
}

#[test]
fn devices_and_links_stay() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let init = directory.path().join("init");
    fs::write(&init, elf(62, None)).unwrap();
    let create =
        |to: &Path| run(args!["initramfs", "create", "-o", to, "--keys", keys, "--init", init]);
    create(Path::new("/dev/null")).exits(0);
    let ran = create(Path::new("/dev/full")).exits(2);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    for device in ["/dev/null", "/dev/full"] {
        assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
    }
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("image", &link).unwrap();
    create(&link).exits(0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::metadata(directory.path().join("image")).unwrap().is_file());
}

#[test]
fn labels_are_refused_as_no_security_module_has_a_policy_yet() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let (init, image) = (directory.path().join("init"), directory.path().join("image"));
    fs::write(&init, elf(62, None)).unwrap();
    let policy = directory.path().join("policy");
    fs::write(&policy, format!("dont_appraise obj_type=var_log_t\n{POLICY}")).unwrap();
    let create = args!["initramfs", "create", "--keys", keys, "--init", init, "--policy", policy];
    let refused = run(create.into_iter().chain(args!["-o", image])).exits(1);
    assert!(refused.stderr.contains("the boot would stop at this policy"), "{}", refused.stderr);
    assert!(!image.exists());
}
