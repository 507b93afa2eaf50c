//! `imactl initramfs create`: the content of the archive, and the inputs that it refuses.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::{directory, finish, names, run, store, tool, Run};

const POLICY: &str = "appraise func=BPRM_CHECK appraise_type=imasig\n";

/// A static or dynamic program for a machine: an ELF header and program headers.
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

/// The archive, unpacked by another program.
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
    // only the device node needs root
    cpio.args(["--extract", "--quiet", "--no-preserve-owner", "--nonmatching", "dev/console"]);
    cpio.current_dir(&root).stdin(Stdio::from(fs::File::open(&plain).unwrap()));
    finish(&mut cpio).exits(0);
    Some(to)
}

/// A key store, an init, and the initramfs made of them.
struct Place {
    directory: TempDir,
    keys: PathBuf,
    init: PathBuf,
    image: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = directory();
        let keys = store(directory.path(), "p-256");
        let [init, image] = ["imactl-init", "initramfs.img"].map(|it| directory.path().join(it));
        fs::write(&init, elf(62, None)).unwrap();
        Self { directory, keys, init, image }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Creates the initramfs from the store, with further options.
    fn create<const N: usize>(&self, options: [OsString; N]) -> Run {
        self.create_from(args!["--keys", self.keys].into_iter().chain(options))
    }

    /// Creates it from the certificates that the options name.
    fn create_from(&self, options: impl IntoIterator<Item = OsString>) -> Run {
        let args = args!["initramfs", "create", "-o", self.image, "--init", self.init];
        run(args.into_iter().chain(options))
    }

    /// Whether the uncompressed initramfs has some bytes.
    fn holds(&self, bytes: &[u8]) -> bool {
        fs::read(&self.image).unwrap().windows(bytes.len()).any(|window| window == bytes)
    }
}

#[test]
fn holds_init_certificate_and_policies() {
    let place = Place::new();
    let policy = place.file("policy", POLICY.as_bytes());
    let revoked = place.directory.path().join("revoked");
    let certificate = place.keys.join("ima_keys/x509_ima.crt");
    let revoke = args!["revoke", "--file", policy, "--keys", place.keys, "--output-dir", revoked];
    run(revoke).exits(0);
    let entry = revoked.join(&names(&revoked)[0]);
    for (how, compressor) in [("zstd", "zstd"), ("gzip", "gzip")] {
        let revocations = args!["--blacklist", entry, "--blacklist", certificate];
        let options = args!["--keys", place.keys, "--policy", policy, "--compress", how];
        let create = || place.create_from(options.clone().into_iter().chain(revocations.clone()));
        create().exits(0);
        let first = fs::read(&place.image).unwrap();
        create().exits(0);
        assert_eq!(fs::read(&place.image).unwrap(), first, "the output is not reproducible");
        let Some(unpacked) = unpacked(&place.image, compressor) else { return };
        let read = |name: &str| fs::read(unpacked.path().join("root").join(name)).unwrap();
        assert_eq!(read("init"), elf(62, None));
        let der = fs::read(place.keys.join("ima_keys/x509_ima.der")).unwrap();
        assert_eq!(read("etc/keys/x509_ima.der"), der);
        assert_eq!(read("etc/keys/blacklist_0.entry"), fs::read(&entry).unwrap());
        assert_eq!(read("etc/keys/blacklist_1.der"), der);
        assert_eq!(read("etc/ima/ima_policy"), POLICY.as_bytes());
        let default = run(["policy", "default"]).exits(0).stdout;
        assert_eq!(read("etc/ima/ima_policy.default"), default.as_bytes());
    }
}

#[test]
fn holds_an_evm_certificate_if_it_is_asked_for() {
    let place = Place::new();
    let other = store(place.directory.path(), "p-384");
    let evm = place.keys.join("evm_keys/x509_evm.der");
    let plain = |option: &str| place.create(args!["--compress", "none", "--json", option]);
    let holds_evm = || place.holds(&fs::read(&evm).unwrap());
    plain("--quiet").exits(0);
    assert!(!holds_evm());
    let made = plain("--evm").exits(0);
    assert!(holds_evm());
    assert!(made.stdout.contains("\"evm_key_id\":\""), "{}", made.stdout);
    fs::remove_file(&place.image).unwrap();
    // a certificate that .evm of this kernel rejects is left out: it would stop the boot
    let theirs = other.join("evm_keys/x509_evm.der");
    let ran = place.create(args!["--compress", "none", "--evm-cert", theirs]).exits(0);
    assert_eq!(ran.stderr, "", "held against nothing, as with --cert");
    fs::copy(&theirs, &evm).unwrap();
    fs::copy(theirs.with_extension("crt"), evm.with_extension("crt")).unwrap();
    fs::remove_file(&place.image).unwrap();
    let ran = plain("--evm").exits(1);
    assert!(ran.stderr.contains("not created: .evm of Linux"), "{}", ran.stderr);
    assert!(!place.image.exists());
}

#[test]
fn holds_the_detached_signature_of_its_policy() {
    let place = Place::new();
    let policy = place.file("policy", POLICY.as_bytes());
    run(args!["policy", "sign", "--detached", "--keys", place.keys, policy]).exits(0);
    let create = || place.create(args!["--policy", policy, "--compress", "none"]);
    create().exits(0);
    assert!(place.holds(b"etc/ima/ima_policy.sig\0"));
    assert!(place.holds(&fs::read(place.directory.path().join("policy.sig")).unwrap()));

    fs::remove_file(&place.image).unwrap();
    fs::write(&policy, format!("{POLICY}audit func=MMAP_CHECK\n")).unwrap();
    let said = create().exits(2).stderr;
    assert!(said.contains("not a valid signature of"), "{said}");
    assert!(!place.image.exists());
}

#[test]
fn holds_words_that_its_init_knows() {
    let place = Place::new();
    let create = |words: &str| place.create(args!["--compress", "gzip", "--cmdline", words]);
    for wrong in [
        "root=/dev/vda",
        "imactl.root-certificates",
        "imactl.root-certificates=no",
        "imactl.timeout=soon",
        "imactl.mode=enforce imactl.roots=skip",
    ] {
        let ran = create(wrong).exits(2);
        assert!(ran.stderr.contains("unknown to imactl-init"), "{wrong}: {}", ran.stderr);
        assert!(!place.image.exists());
    }
    let words = "imactl.root-certificates=skip imactl.timeout=30";
    create(words).exits(0);
    let Some(unpacked) = unpacked(&place.image, "gzip") else { return };
    let file = unpacked.path().join("root/etc/imactl/cmdline");
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{words}\n"));
}

#[test]
fn makes_nothing_with_a_policy_that_stops_the_boot() {
    let place = Place::new();
    let policy = place.file("policy", b"apraise func=BPRM_CHECK\n");
    let ran = place.create(args!["--policy", policy]).exits(1);
    assert!(ran.stdout.contains("apraise"), "{}", ran.stdout);
    assert!(!place.image.exists());
}

#[test]
fn wants_one_certificate_and_a_program() {
    let place = Place::new();
    fs::remove_file(&place.init).unwrap();
    let ran = place.create([]).exits(2);
    assert!(ran.stderr.contains("imactl-init: No such file"), "{}", ran.stderr);
    fs::write(&place.init, elf(62, None)).unwrap();
    let system = place.keys.join("system_trusted_keys/system_trusted_key.der");
    fs::copy(&system, place.keys.join("ima_keys/x509_second.der")).unwrap();
    let ran = place.create([]).exits(2);
    assert!(ran.stderr.contains("select one with --cert"), "{}", ran.stderr);
    // a certificate that .ima of this kernel rejects is left out
    let create = |kernel: &str| place.create_from(args!["--kernel", kernel, "--cert", system]);
    let ran = create("6.12").exits(1);
    assert!(ran.stderr.contains(".ima of Linux 6.12 rejects it: a CA (CA:TRUE)"), "{}", ran.stderr);
    assert!(!place.image.exists());
    let ran = create("6.1").exits(0);
    assert!(ran.stderr.contains("self-signed"), "{}", ran.stderr);
}

/// A store's certificate is checked against the store's CAs; a single certificate is not.
#[test]
fn wants_a_certificate_that_the_kernel_accepts() {
    let place = Place::new();
    let theirs = store(place.directory.path(), "p-384");
    let create = |certificate: &Path| place.create_from(args!["--cert", certificate]);
    for extension in ["der", "crt"] {
        let name = Path::new("ima_keys/x509_ima").with_extension(extension);
        fs::copy(theirs.join(&name), place.keys.join(&name)).unwrap();
    }
    create(&place.keys.join("ima_keys/x509_ima.der")).exits(0);
    fs::remove_file(&place.image).unwrap();
    let ran = place.create([]).exits(1);
    assert!(ran.stderr.contains("no trusted key has the name or identifier"), "{}", ran.stderr);
    assert!(!place.image.exists());
    let issued = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/certificate/issued");
    let ran = create(&issued.join("no-usage.der")).exits(1);
    assert!(ran.stderr.contains("key usage lacks digitalSignature"), "{}", ran.stderr);
}

#[test]
fn wants_an_init_that_the_kernel_can_start() {
    let place = Place::new();
    for (program, why) in [
        (Vec::new(), "it is empty"),
        (b"#!/bin/sh\n".to_vec(), "not a program: not ELF"),
        (elf(62, Some("/lib64/ld-linux-x86-64.so.2")), "it needs /lib64/ld-linux-x86-64.so.2"),
        (elf(0x4242, None), "unknown machine (ELF machine 16962)"),
        (elf(62, None)[..70].to_vec(), "not a program"),
        (fs::read(env!("CARGO_BIN_EXE_imactl")).unwrap(), "it is dynamically linked"),
    ] {
        fs::write(&place.init, program).unwrap();
        let ran = place.create([]).exits(2);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert!(!place.image.exists());
    }
    fs::write(&place.init, elf(183, None)).unwrap();
    place.create([]).exits(0);
}

#[test]
fn devices_and_links_stay() {
    let mut place = Place::new();
    place.image = "/dev/null".into();
    place.create([]).exits(0);
    place.image = "/dev/full".into();
    let ran = place.create([]).exits(2);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    for device in ["/dev/null", "/dev/full"] {
        assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
    }
    place.image = place.directory.path().join("link");
    std::os::unix::fs::symlink("image", &place.image).unwrap();
    place.create([]).exits(0);
    assert!(fs::symlink_metadata(&place.image).unwrap().is_symlink());
    assert!(fs::metadata(place.directory.path().join("image")).unwrap().is_file());
}

#[test]
fn labels_are_refused_as_no_security_module_has_a_policy_yet() {
    let place = Place::new();
    let policy = format!("dont_appraise obj_type=var_log_t\n{POLICY}");
    let policy = place.file("policy", policy.as_bytes());
    let refused = place.create(args!["--policy", policy]).exits(1);
    assert!(refused.stderr.contains("the boot would stop at this policy"), "{}", refused.stderr);
    assert!(!place.image.exists());
}
