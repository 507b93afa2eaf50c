//! `security.evm`: evmctl accepts the values that imactl makes, and imactl those of evmctl.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

pub(crate) const CONTEXT: &[u8] = b"system_u:object_r:bin_t:s0\0";
/// `cap_net_raw+ep` (`struct vfs_cap_data`).
pub(crate) const CAPABILITY: &[u8] =
    &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree with owners, modes and attributes; `None` if they cannot be set.
pub(crate) fn root(directory: &Path) -> Option<PathBuf> {
    if !security_attributes(directory) {
        return None;
    }
    let root = directory.join("root");
    write_tree(
        &root,
        &[("bin/tool", b"\x7fELF\x02\x01 program"), ("etc/owned", b"a"), ("plain", b"b")],
    );
    let (tool, owned) = (root.join("bin/tool"), root.join("etc/owned"));
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&owned, Some(1234), Some(70_000)).unwrap();
    fs::set_permissions(&owned, fs::Permissions::from_mode(0o2640)).unwrap();
    set_attribute(&tool, "security.capability", CAPABILITY);
    set_attribute(&owned, "security.selinux", CONTEXT);
    Some(root)
}

const FILES: [&str; 3] = ["bin/tool", "etc/owned", "plain"];

/// The store's EVM key and certificate.
pub(crate) fn evm_key(store: &Path) -> [PathBuf; 2] {
    [store.join("evm_keys/x509_evm.key"), store.join("evm_keys/x509_evm.der")]
}

/// Whether OpenSSL's program verifies a signature with SHA-256 by the store's EVM key.
pub(crate) fn openssl_accepts(store: &Path, covered: &[u8], made: &[u8]) -> bool {
    let [key, _] = evm_key(store);
    let directory = tempfile::tempdir().unwrap();
    let [signed, signature, public] =
        ["signed", "signature", "public.pem"].map(|name| directory.path().join(name));
    fs::write(&signed, covered).unwrap();
    fs::write(&signature, made).unwrap();
    let mut openssl = tool("openssl").unwrap();
    finish(openssl.args(["pkey", "-pubout", "-in"]).arg(key).arg("-out").arg(&public)).exits(0);
    let mut openssl = tool("openssl").unwrap();
    openssl.args(["dgst", "-sha256", "-verify"]).arg(public).arg("-signature").arg(signature);
    finish(openssl.arg(signed)).stdout.contains("Verified OK")
}

fn evmctl_accepts(store: &Path, file: &Path) -> bool {
    let [_, certificate] = evm_key(store);
    let mut evmctl = tool("evmctl").unwrap();
    let verified = finish(evmctl.args(["verify", "-k"]).arg(certificate).arg(file));
    // evmctl's exit status does not show it
    (verified.stdout + &verified.stderr).contains("verification is OK")
}

#[test]
fn evmctl_accepts_portable_signatures_of_a_tree() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let Some(_) = tool("evmctl") else { return };
    for (algorithm, hash) in [("rsa-2048", "sha256"), ("p-256", "sha512")] {
        let store = store(directory.path(), algorithm);
        run(args!["sign", "--evm", "--hash", hash, "--keys", store, root]).exits(0);
        for file in FILES.map(|file| root.join(file)) {
            assert_eq!(attribute(&file, "security.evm").unwrap()[..2], [5, 2]);
            assert!(evmctl_accepts(&store, &file), "{}", file.display());
        }
        let verified = run(args!["verify", "--evm", "--json", "--keys", store, root]).exits(0);
        let line = verified.json_for(&root.join("etc/owned"));
        assert_eq!((&line["verdict"], &line["evm"]), (&"valid".into(), &"valid".into()));
    }
}

/// Version 3 covers the type, the algorithm, and the digest that version 2 covers.
#[test]
fn openssl_accepts_signatures_of_version_3() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let Some(_) = tool("openssl") else { return };
    let (store, file) = (store(directory.path(), "rsa-2048"), root.join("etc/owned"));
    run(args!["sign", "--evm", "--signature-version", "3", "--keys", store, root]).exits(0);
    let ima = attribute(&file, "security.ima").unwrap();
    let misc = [&[0; 12][..], &1234_u32.to_le_bytes(), &70_000_u32.to_le_bytes()].concat();
    let mode = [&0o102_640_u16.to_le_bytes()[..], &[0; 2]].concat();
    let covered = [CONTEXT, &ima, &misc, &mode].concat();
    let digest = openssl::sha::sha256(&covered);
    let evm = attribute(&file, "security.evm").unwrap();
    assert_eq!(evm[..3], [5, 3, 4]);
    assert!(openssl_accepts(&store, &[&[5, 4][..], &digest].concat(), &evm[9..]));
}

/// In an archive, because two of these signatures do not fit into a block of ext4.
#[test]
fn ml_dsa_signatures_are_for_kernels_that_know_them() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let Some(mut tar) = tool("tar") else { return };
    let store = store(directory.path(), "ml-dsa-44");
    let [archive, signed] = ["a.tar", "b.tar"].map(|name| directory.path().join(name));
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".")).exits(0);
    run(args!["sign", "--evm", "--keys", store, "-o", signed, archive]).exits(0);
    let verify = |kernel: &str| {
        run(args!["verify", "--evm", "--json", "--kernel", kernel, "--keys", store, signed])
    };
    verify("7.3").exits(0);
    let lines = verify("7.1").exits(1).json();
    let files: Vec<_> = lines.iter().filter(|line| line["type"] == "file").collect();
    assert_eq!(files.len(), FILES.len());
    for line in files {
        assert_eq!(line["evm"], "invalid-fail-immutable", "{line}");
    }
}

#[test]
fn each_change_of_metadata_is_found_as_evmctl_finds_it() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let Some(_) = tool("evmctl") else { return };
    let store = store(directory.path(), "p-256");
    let (owned, other) = (root.join("etc/owned"), root.join("plain"));
    let mode = |mode| fs::set_permissions(&owned, fs::Permissions::from_mode(mode)).unwrap();
    let changes: [(&str, &dyn Fn()); 7] = [
        ("owner", &|| chown(&owned, Some(1235), None).unwrap()),
        ("group", &|| chown(&owned, None, Some(1)).unwrap()),
        ("mode", &|| mode(0o640)),
        ("label", &|| set_attribute(&owned, "security.selinux", b"system_u:object_r:etc_t:s0\0")),
        ("capability", &|| set_attribute(&owned, "security.capability", CAPABILITY)),
        ("content", &|| {
            set_attribute(&owned, "security.ima", &attribute(&other, "security.ima").unwrap())
        }),
        ("other file", &|| {
            set_attribute(&owned, "security.evm", &attribute(&other, "security.evm").unwrap())
        }),
    ];
    for (what, change) in changes {
        chown(&owned, Some(1234), Some(70_000)).unwrap();
        mode(0o2640);
        set_attribute(&owned, "security.selinux", CONTEXT);
        rustix::fs::removexattr(&owned, "security.capability").ok();
        run(args!["sign", "--evm", "--keys", store, root]).exits(0);
        assert!(evmctl_accepts(&store, &owned), "{what}");
        change();
        let verified = run(args!["verify", "--evm", "--json", "--keys", store, root]).exits(1);
        assert_eq!(verified.json_for(&owned)["verdict"], "invalid-fail-immutable", "{what}");
        assert_eq!(verified.json_for(&other)["verdict"], "valid", "{what}");
        assert!(!evmctl_accepts(&store, &owned), "{what}");
    }
}

#[test]
fn preflight_asks_evm_before_the_content_and_names_what_becomes_immutable() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    write_tree(&root, &[("etc/machine-id", b"0"), ("var/lib/state", b"1"), ("etc/fstab", b"2")]);
    let store = store(directory.path(), "p-256");
    run(args!["sign", "--evm", "--keys", store, root]).exits(0);
    let policy = directory.path().join("policy");
    fs::write(&policy, "appraise func=FILE_CHECK appraise_type=imasig\n").unwrap();
    let preflight = |options: &[&str]| {
        let args = args!["preflight", "--json", "--details", "--no-init", "--policy", policy];
        let args = args.into_iter().chain(options.iter().map(Into::into));
        run(args.chain(args!["--keys", store, root]))
    };
    let cause = |ran: &Run, path: &str| {
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut lines = lines.filter(|line: &serde_json::Value| line["type"] == "file");
        let line = lines.find(|line| line["path"] == path).unwrap();
        line["cause"].as_str().map(str::to_owned)
    };
    let good = preflight(&["--evm"]).exits(0);
    for path in ["/etc/machine-id", "/var/lib/state"] {
        let warning = format!("\"type\":\"warning\",\"path\":\"{path}\"");
        assert!(good.stdout.contains(&warning), "{}", good.stdout);
    }
    assert!(!good.stdout.contains("\"type\":\"warning\",\"path\":\"/etc/fstab"), "{}", good.stdout);
    // signed for a 64-bit kernel
    preflight(&["--evm", "--word-size", "64"]).exits(0);
    let other = preflight(&["--evm", "--word-size", "32"]).exits(1);
    assert_eq!(cause(&other, "/plain").as_deref(), Some("invalid-fail-immutable"));

    let owned = root.join("etc/owned");
    chown(&owned, Some(1), None).unwrap();
    rustix::fs::removexattr(root.join("plain"), "security.evm").unwrap();
    preflight(&[]).exits(0);
    let bad = preflight(&["--evm"]).exits(1);
    assert_eq!(cause(&bad, "/etc/owned").as_deref(), Some("invalid-fail-immutable"));
    assert_eq!(cause(&bad, "/plain").as_deref(), Some("missing-HMAC"));
    assert_eq!(cause(&bad, "/etc/machine-id"), None);
}

/// An HMAC is valid for one file system: for a tree, its UUID is given.
#[test]
fn preflight_verifies_hmacs_with_their_key() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (store, uuid) = (store(directory.path(), "p-256"), "12345678-1234-5678-9abc-def012345678");
    let [key, wrong, policy] = ["key", "wrong", "policy"].map(|name| directory.path().join(name));
    fs::write(&key, [7; 32]).unwrap();
    fs::write(&wrong, [8; 32]).unwrap();
    fs::write(&policy, "appraise func=FILE_CHECK appraise_type=imasig\n").unwrap();
    let sign = args!["sign", "--evm", "--evm-type", "hmac", "--hmac-key", key, "--fsuuid", uuid];
    run(sign.into_iter().chain(args!["--keys", store, root])).exits(0);
    let preflight = |options: &[OsString]| {
        let args = args!["preflight", "--evm", "--no-init", "--policy", policy, "--keys", store];
        run(args.into_iter().chain(options.iter().cloned()).chain(args![root]))
    };
    preflight(&args!["--fsuuid", uuid, "--hmac-key", key]).exits(0);
    for options in [
        &args!["--fsuuid", uuid][..],
        &args!["--fsuuid", uuid, "--hmac-key", wrong],
        &args!["--fsuuid", "22345678-1234-5678-9abc-def012345678", "--hmac-key", key],
    ] {
        let refused = preflight(options).exits(1);
        assert!(refused.stdout.contains("invalid-HMAC"), "{refused:?}");
    }
}

/// Bit 8: `evm_sigv3_required` in `evm_main.c`.
#[test]
fn evm_can_require_version_3() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (store, plain) = (store(directory.path(), "p-256"), root.join("plain"));
    let sign = |version: &str| {
        let args = args!["sign", "--evm", "--signature-version", version, "--keys", store, plain];
        run(args).exits(0);
    };
    let verdict = || {
        let args = args!["verify", "--evm", "--evm-sigv3", "--json", "--kernel", "7.3"];
        run(args.into_iter().chain(args!["--keys", store, plain])).json_for(&plain)["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    sign("3");
    assert_eq!(verdict(), "valid");
    sign("2");
    // the hash is that of the metadata
    run(args!["sign", "--evm", "--evm-only", "--hash", "sha384", "--keys", store, plain]).exits(0);
    assert_eq!(attribute(&plain, "security.evm").unwrap()[..3], [5, 2, 5]);
    assert_eq!(attribute(&plain, "security.ima").unwrap()[..3], [3, 2, 4]);
    // although the signature is portable
    assert_eq!(verdict(), "invalid-HMAC");
    run(args!["verify", "--evm", "--keys", store, plain]).exits(0);
    let policy = directory.path().join("policy");
    fs::write(&policy, "appraise func=FILE_CHECK appraise_type=imasig\n").unwrap();
    let args = args!["preflight", "--evm", "--evm-sigv3", "--no-init", "--policy", policy];
    let refused =
        run(args.into_iter().chain(args!["--kernel", "7.3", "--keys", store, root])).exits(1);
    assert!(refused.stdout.contains("invalid-HMAC"), "{refused:?}");
}

/// As in the kernels: `lab/tests/evm/generated.rs`.
#[test]
fn a_header_is_read_as_the_kernels_read_it() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let store = store(directory.path(), "p-256");
    let file = root.join("plain");
    let verdict = |kernel: &str| {
        let args = args!["verify", "--evm", "--json", "--kernel", kernel, "--keys", store, file];
        let ran = run(args);
        ran.json_for(&file)["verdict"].as_str().unwrap().to_owned()
    };
    run(args!["sign", "--evm", "--keys", store, file]).exits(0);
    let good = attribute(&file, "security.evm").unwrap();
    let (immutable, hmac) = ("invalid-fail-immutable", "invalid-HMAC");
    let mut version_3 = good.clone();
    version_3[1] = 3;
    set_attribute(&file, "security.evm", &version_3);
    // supported, and not distinguished from version 2
    for (kernel, expected) in
        [("5.18", immutable), ("5.19", "valid"), ("7.0", "valid"), ("7.1", immutable)]
    {
        assert_eq!(verdict(kernel), expected, "{kernel}");
    }
    let longer = [&good[..], &[0]].concat();
    for (value, expected) in [
        (&longer[..], immutable),
        (&good[..10], immutable),
        (&good[..9], hmac),
        (&[5, 9, 4, 0, 0, 0, 0, 0, 1, 1], immutable),
        (&[3, 9, 4, 0, 0, 0, 0, 0, 1, 1], hmac),
        (&[5], hmac),
    ] {
        set_attribute(&file, "security.evm", value);
        assert_eq!(verdict("6.12"), expected, "{value:?}");
    }
}

#[test]
fn imactl_accepts_what_evmctl_makes() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let store = store(directory.path(), "rsa-2048");
    run(args!["sign", "--keys", store, root]).exits(0);
    let [key, _] = evm_key(&store);
    let sign = |options: &[&str], file: &Path| {
        let mut evmctl = tool("evmctl")?;
        evmctl.args(["sign", "-a", "sha256", "-k"]).arg(&key).args(options).arg(file);
        Some(finish(&mut evmctl).exits(0))
    };
    for file in FILES.map(|file| root.join(file)) {
        let Some(_) = sign(&["--portable"], &file) else { return };
        run(args!["verify", "--evm", "--keys", store, file]).exits(0);
        // PKCS#1 v1.5 is deterministic: both signatures are the same bytes
        let theirs = attribute(&file, "security.evm");
        run(args!["sign", "--evm", "--evm-only", "--keys", store, file]).exits(0);
        assert_eq!(attribute(&file, "security.evm"), theirs);

        sign(&["--portable", "--m32"], &file);
        let verified = run(args!["verify", "--evm", "--keys", store, file]).exits(1);
        assert!(verified.stdout.contains("for a 32-bit little-endian machine"), "{verified:?}");
        run(args!["verify", "--evm", "--word-size", "32", "--keys", store, file]).exits(0);
        let theirs = attribute(&file, "security.evm");
        run(args!["sign", "--evm", "--evm-only", "--word-size", "32", "--keys", store, file])
            .exits(0);
        assert_eq!(attribute(&file, "security.evm"), theirs);

        let uuid = "12345678-1234-5678-9abc-def012345678";
        sign(&[&format!("--uuid={uuid}")], &file);
        run(args!["verify", "--evm", "--fsuuid", uuid, "--keys", store, file]).exits(0);
        let other = run(args!["verify", "--evm", "--fsuuid", "none", "--keys", store, file]);
        assert!(other.exits(1).stdout.contains("invalid-HMAC"));
        sign(&["--uuid"], &file);
        run(args!["verify", "--evm", "--fsuuid", "none", "--keys", store, file]).exits(0);
    }
}

#[test]
fn only_changed_metadata_is_signed_again() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let store = store(directory.path(), "p-256");
    let changed = || {
        let signed =
            run(args!["sign", "--evm", "--changed", "--json", "--keys", store, root]).exits(0);
        let lines = signed.json().into_iter().filter(|line| line["result"] == "signed");
        lines.map(|line| line["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(changed().len(), FILES.len());
    assert!(changed().is_empty());
    let ima = security_ima(&root.join("plain"));
    fs::set_permissions(root.join("plain"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(changed(), [root.join("plain").to_str().unwrap()]);
    assert_eq!(security_ima(&root.join("plain")), ima, "its content did not change");

    // the same signature again: the metadata that EVM covers did not change
    let signed = run(args!["sign", "--keys", store, root.join("plain")]).exits(0);
    assert!(!signed.stderr.contains("security.evm"), "{signed:?}");
    let (plain, key) = (root.join("plain"), store.join("ima_keys/x509_ima.key"));
    let signed = run(args!["sign", "--hash", "sha512", "--key", key, plain]).exits(0);
    assert!(signed.stderr.contains("1 file: security.evm covers the old security.ima"));
    run(args!["verify", "--evm", "--keys", store, root.join("plain")]).exits(1);
    let cleared = run(args!["clear", root.join("plain")]).exits(0);
    assert!(cleared.stderr.contains("--evm removes both"), "{cleared:?}");
    run(args!["clear", "--evm", root]).exits(0);
    assert!(FILES.iter().all(|file| attribute(&root.join(file), "security.evm").is_none()));
    let refused = run(args!["sign", "--evm", "--evm-only", "--keys", store, root]).exits(2);
    assert!(refused.stderr.contains("no security.ima for the EVM signature to cover"));
}

#[test]
fn inspect_shows_security_evm() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (store, plain) = (store(directory.path(), "p-256"), root.join("plain"));
    run(args!["sign", "--evm", "--hash", "sha384", "--keys", store, root]).exits(0);
    let shown = run(args!["inspect", "--json", root]).exits(0);
    for file in FILES.map(|file| root.join(file)) {
        let evm = &shown.json_for(&file)["evm"];
        assert_eq!(evm["attribute"], "EVM_XATTR_PORTABLE_DIGSIG", "{shown:?}");
        assert_eq!((&evm["version"], &evm["hash"]), (&2.into(), &"sha384".into()), "{shown:?}");
        let bytes = attribute(&file, "security.evm").unwrap();
        let key_id: String = bytes[3..7].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(evm["key_id"], key_id);
    }
    set_attribute(&plain, "security.evm", &[5, 2, 4]);
    let malformed = run(args!["inspect", "--json", plain]).exits(1).json_for(&plain);
    assert!(malformed["evm"]["malformed"].is_string(), "{malformed}");
    let text = run(args!["inspect", root.join("bin/tool")]).exits(0).stdout;
    assert!(text.contains("bin/tool: security.evm: "), "{text}");
}

/// A valid `security.evm` by a key at hand is made again for a new `security.ima`, in its own form; any other one stays.
#[test]
fn security_evm_is_renewed_by_its_own_key_only() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let [own, other] = ["own", "other"].map(|name| {
        let parent = directory.path().join(name);
        fs::create_dir(&parent).unwrap();
        store(&parent, "p-256")
    });
    let [tool, owned, plain] = FILES.map(|file| root.join(file));
    let evm = |file: &Path| attribute(file, "security.evm").unwrap();
    let sign = |options: &[&str]| {
        let args = args!["sign", "--json", "--keys", own].into_iter();
        run(args.chain(options.iter().map(OsString::from)).chain(args![root])).exits(0)
    };
    let effect = |ran: &Run, file: &Path| ran.json_for(file)["evm"].clone();

    run(args!["sign", "--evm", "--keys", own, root]).exits(0);
    run(args!["sign", "--evm-only", "--evm", "--word-size", "32", "--keys", own, owned]).exits(0);
    run(args!["sign", "--evm-only", "--evm", "--hash", "sha384", "--keys", own, tool]).exits(0);
    let signed = sign(&["--hash", "sha512"]);
    assert!(signed.stderr.contains("3 files: security.evm was valid"), "{signed:?}");
    assert!(FILES.iter().all(|file| effect(&signed, &root.join(file)) == "renewed"), "{signed:?}");
    assert_eq!(evm(&tool)[..3], [5, 2, 5]);
    run(args!["verify", "--evm", "--keys", own, tool, plain]).exits(0);
    run(args!["verify", "--evm", "--word-size", "32", "--keys", own, owned]).exits(0);

    // by another key, and no longer valid for the metadata
    run(args!["sign", "--evm", "--evm-only", "--keys", other, plain]).exits(0);
    fs::set_permissions(&owned, fs::Permissions::from_mode(0o4755)).unwrap();
    let before = [evm(&owned), evm(&plain)];
    let signed = sign(&["--hash", "sha384"]);
    assert!(signed.stderr.contains("2 files: security.evm covers the old"), "{signed:?}");
    assert_eq!(effect(&signed, &tool), "renewed");
    assert_eq!([&owned, &plain].map(|file| effect(&signed, file)), ["outdated", "outdated"]);
    assert_eq!([evm(&owned), evm(&plain)], before);

    // a detached signature does not change security.ima
    for _ in 0..2 {
        let signed = run(args!["sign", "--detached", "--keys", own, tool]).exits(0);
        assert!(!signed.stderr.contains("security.evm"), "{signed:?}");
        run(args!["verify", "--evm", "--keys", own, tool]).exits(0);
        let sig = directory.path().join("root/bin/tool.sig");
        fs::write(sig, attribute(&tool, "security.ima").unwrap()).unwrap();
    }
    fs::remove_file(directory.path().join("root/bin/tool.sig")).unwrap();

    // one key for both
    let key = own.join("ima_keys/x509_ima.key");
    run(args!["sign", "--evm", "--key", key, tool]).exits(0);
    let signed = run(args!["sign", "--json", "--hash", "sha512", "--key", key, tool]).exits(0);
    assert_eq!(effect(&signed, &tool), "renewed");

    // in archives, whose further names lose the old one
    let (archive, signed) = (directory.path().join("a.tar"), directory.path().join("b.tar"));
    run(args!["sign", "--evm", "--keys", own, root]).exits(0);
    fs::hard_link(&plain, root.join("second")).unwrap();
    let Some(mut tar) = crate::support::tool("tar") else { return };
    tar.args(["--xattrs", "--xattrs-include=security.*", "--format=pax", "-cf"]).arg(&archive);
    finish(tar.arg("-C").arg(&root).arg(".")).exits(0);
    let args = args!["sign", "--hash", "sha512", "--keys", own, "-o", signed, archive];
    assert!(run(args).exits(0).stderr.contains("3 files: security.evm was valid"));
    run(args!["verify", "--evm", "--keys", own, signed]).exits(0);
}

/// Archives state the metadata that their files will have; the machine that signs them does not have it.
#[test]
fn archives_are_signed_by_what_they_say() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (Some(_), Some(mut tar)) = (tool("evmctl"), tool("tar")) else { return };
    fs::hard_link(root.join("plain"), root.join("second")).unwrap();
    let store = store(directory.path(), "p-256");
    let [plain, signed] = ["plain.tar", "signed.tar"].map(|name| directory.path().join(name));
    tar.args(["--xattrs", "--xattrs-include=*", "-C"]).arg(&root).arg("-cf").arg(&plain).arg(".");
    finish(&mut tar).exits(0);
    run(args!["sign", "--evm", "--keys", store, "-o", signed, plain]).exits(0);
    run(args!["verify", "--evm", "--keys", store, signed]).exits(0);
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = tool("tar").unwrap();
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C"]).arg(&unpacked);
    finish(tar.arg("-xf").arg(&signed)).exits(0);
    for file in FILES.map(|file| unpacked.join(file)) {
        assert!(evmctl_accepts(&store, &file), "{}", file.display());
    }

    let other = directory.path().join("other.tar");
    run(args!["sign", "--evm", "--owner", "7:8", "--keys", store, "-o", other, plain]).exits(0);
    run(args!["verify", "--evm", "--keys", store, other]).exits(1);
    run(args!["verify", "--evm", "--owner", "7:8", "--keys", store, other]).exits(0);
    let cleared = directory.path().join("cleared.tar");
    run(args!["clear", "--evm", "-o", cleared, signed]).exits(0);
    assert_eq!(fs::read(&cleared).unwrap(), fs::read(&plain).unwrap());
    let inode =
        run(args!["sign", "--evm", "--evm-type", "inode", "--keys", store, "-o", other, plain])
            .exits(2);
    assert!(inode.stderr.contains("not unpacked"), "{inode:?}");
}

/// With the attributes of an image, evmctl accepts the files of a tree that has the same metadata.
fn attributes_are_for(image: &Path, store: &Path, root: &Path) {
    for file in FILES {
        for name in ["security.ima", "security.evm"] {
            let value = image.with_extension("value");
            File::create(&value).unwrap();
            let request = format!("ea_get -f {} {file} {name}", value.display());
            finish(Command::new("debugfs").args(["-R", &request]).arg(image)).exits(0);
            set_attribute(&root.join(file), name, &fs::read(&value).unwrap());
        }
        assert!(evmctl_accepts(store, &root.join(file)), "{file}");
    }
}

#[test]
fn partitions_are_signed_by_their_inodes() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (Some(_), Some(mut mke2fs)) = (tool("evmctl"), tool("mke2fs")) else { return };
    let store = store(directory.path(), "rsa-2048");
    let [image, disk] = ["root.ext4", "disk.wic"].map(|name| directory.path().join(name));
    mke2fs.args(["-q", "-F", "-t", "ext4", "-I", "512", "-d"]).arg(&root).arg(&image).arg("8M");
    finish(&mut mke2fs).exits(0);
    let script = "label: gpt\nstart=1MiB, size=4MiB\nstart=5MiB, size=8MiB\n";
    let Some(()) = crate::disk::disk(&disk, script, &[(5, &image)]) else { return };
    run(args!["sign", "--evm", "--keys", store, disk]).exits(0);
    run(args!["verify", "--evm", "--keys", store, disk]).exits(0);
    let bytes = fs::read(&disk).unwrap();
    fs::write(&image, &bytes[5 << 20..13 << 20]).unwrap();
    finish(Command::new("e2fsck").arg("-fn").arg(&image)).exits(0);
    attributes_are_for(&image, &store, &root);
    // another owner than the one that was signed
    let mut debugfs = Command::new("debugfs");
    debugfs.args(["-w", "-R", "set_inode_field etc/owned uid 1235"]).arg(&image);
    finish(&mut debugfs).exits(0);
    let changed = [&bytes[..5 << 20], &fs::read(&image).unwrap(), &bytes[13 << 20..]].concat();
    fs::write(&disk, changed).unwrap();
    let verified = run(args!["verify", "--evm", "--json", "--keys", store, disk]).exits(1);
    let lines = verified.json();
    let line = lines.iter().find(|line| line["path"] == "etc/owned").unwrap();
    assert_eq!(line["verdict"], "invalid-fail-immutable");
}

/// The file in a layout with this descriptor's content.
fn blob(layout: &Path, descriptor: &serde_json::Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// The owners of a layer are those in its archive, not those of the files that it was made from.
#[test]
fn container_images_are_signed_by_their_layers() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let Some(_) = tool("evmctl") else { return };
    let store = store(directory.path(), "p-256");
    let path = directory.path().join("layout");
    let layout = crate::oci::Layout::new(&path);
    let options = ["--xattrs", "--xattrs-include=*"];
    let Some(layer) = layout.layer_with(&root, "gzip", &options) else { return };
    layout.index(&[layout.image(&[layer])]);
    run(args!["sign", "--evm", "--keys", store, path]).exits(0);
    run(args!["verify", "--evm", "--keys", store, path]).exits(0);
    run(args!["verify", "--evm", "--owner", "7:8", "--keys", store, path]).exits(1);

    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let index = json(&path.join("index.json"));
    let manifest = json(&blob(&path, &index["manifests"][0]));
    let layer = blob(&path, &manifest["layers"][0]);
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = tool("tar").unwrap();
    tar.args(options).args(["--numeric-owner", "-p", "-C"]).arg(&unpacked);
    finish(tar.arg("-xzf").arg(layer)).exits(0);
    for file in FILES.map(|file| unpacked.join(file)) {
        assert!(evmctl_accepts(&store, &file), "{}", file.display());
    }
}

#[test]
fn images_are_signed_by_their_inodes() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let (Some(_), Some(mut mke2fs)) = (tool("evmctl"), tool("mke2fs")) else { return };
    let store = store(directory.path(), "p-256");
    let image = directory.path().join("root.ext4");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-I", "512", "-d"]).arg(&root).arg(&image).arg("8M");
    finish(&mut mke2fs).exits(0);
    run(args!["sign", "--evm", "--keys", store, image]).exits(0);
    run(args!["verify", "--evm", "--keys", store, image]).exits(0);
    let mut e2fsck = Command::new("e2fsck");
    finish(e2fsck.arg("-fn").arg(&image)).exits(0);
    attributes_are_for(&image, &store, &root);
    // bound to the inodes of the image
    run(args!["sign", "--evm", "--evm-type", "inode", "--keys", store, image]).exits(0);
    run(args!["verify", "--evm", "--keys", store, image]).exits(0);
    let key = directory.path().join("evm-key");
    fs::write(&key, [7; 32]).unwrap();
    run(args!["sign", "--evm", "--evm-type", "hmac", "--hmac-key", key, "--keys", store, image])
        .exits(0);
    run(args!["verify", "--evm", "--hmac-key", key, "--keys", store, image]).exits(0);
    fs::write(&key, [8; 32]).unwrap();
    let other = run(args!["verify", "--evm", "--hmac-key", key, "--keys", store, image]).exits(1);
    assert!(other.stdout.contains("invalid-HMAC"), "{other:?}");
}

#[test]
fn a_root_of_32_bits_is_recognized_by_its_programs() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let store = store(directory.path(), "p-256");
    fs::write(root.join("bin/tool"), b"\x7fELF\x01\x02 program").unwrap();
    run(args!["sign", "--evm", "--keys", store, root]).exits(0);
    run(args!["verify", "--evm", "--word-size", "32be", "--keys", store, root]).exits(0);
    let verified = run(args!["verify", "--evm", "--word-size", "64", "--keys", store, root]);
    assert!(verified.exits(1).stdout.contains("for a 32-bit big-endian machine"));
}
