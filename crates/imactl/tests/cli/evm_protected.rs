//! The attributes that EVM covers by kernel and configuration, and those that root adds to them: the
//! bytes are put together here, and OpenSSL's program verifies them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::evm::{evm_key, openssl_accepts, root, CAPABILITY, CONTEXT};
use crate::support::*;

/// `struct h_misc` of a 64-bit kernel for `etc/owned`, in a portable signature.
fn misc() -> Vec<u8> {
    let owner = [1234_u32.to_le_bytes(), 70_000_u32.to_le_bytes()].concat();
    [&[0; 12][..], &owner, &0o102_640_u16.to_le_bytes(), &[0; 2]].concat()
}

/// Whether `security.evm` of a file is a signature by the store's key over these bytes.
fn accepts(store: &Path, file: &Path, covered: &[&[u8]]) -> bool {
    openssl_accepts(store, &covered.concat(), &attribute(file, "security.evm").unwrap()[9..])
}

/// `--evm-xattr` for each name.
fn further(names: &[&str]) -> Vec<OsString> {
    names.iter().flat_map(|name| args!["--evm-xattr", name]).collect()
}

/// Runs `imactl COMMAND --evm --keys STORE` with further arguments.
fn evm(command: &str, store: &Path, more: impl IntoIterator<Item = OsString>) -> Run {
    run(args![command, "--evm", "--keys", store].into_iter().chain(more))
}

fn verdict(ran: &Run, file: &str) -> String {
    let line = ran.stdout.lines().find(|line| line.contains(file)).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A tree with two attributes that no kernel protects by itself.
fn with_further(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let root = root(directory)?;
    let owned = root.join("etc/owned");
    set_attribute(&owned, "security.b", b"of b");
    set_attribute(&owned, "security.a", b"of a");
    Some((root, owned))
}

#[test]
fn further_attributes_are_covered_in_their_order() {
    let directory = directory();
    let Some((root, owned)) = with_further(directory.path()) else { return };
    let Some(_) = tool("openssl") else { return };
    let store = store(directory.path(), "rsa-2048");
    let in_order = || further(&["security.b", "security.a"]);
    evm("sign", &store, in_order().into_iter().chain(args![root])).exits(0);
    let ima = attribute(&owned, "security.ima").unwrap();
    let misc = misc();
    assert!(accepts(&store, &owned, &[CONTEXT, &ima, b"of b", b"of a", &misc]));
    assert!(!accepts(&store, &owned, &[CONTEXT, &ima, b"of a", b"of b", &misc]));
    assert!(!accepts(&store, &owned, &[CONTEXT, &ima, &misc]));

    let verify = |names: &[&str]| {
        let ran = evm("verify", &store, further(names).into_iter().chain(args![root]));
        // files without them have the same signature, whatever the list
        assert_eq!(verdict(&ran, "plain"), "valid", "{names:?}");
        verdict(&ran, "etc/owned")
    };
    assert_eq!(verify(&["security.b", "security.a"]), "valid");
    assert_eq!(verify(&["security.b", "security.none", "security.a"]), "valid", "it has none");
    for other in [&[][..], &["security.b"], &["security.a", "security.b"]] {
        assert_eq!(verify(other), "invalid-fail-immutable", "{other:?}");
    }
    set_attribute(&owned, "security.a", b"other");
    assert_eq!(verify(&["security.b", "security.a"]), "invalid-fail-immutable");
    evm("sign", &store, in_order().into_iter().chain(args!["--changed", root])).exits(0);
    assert_eq!(verify(&["security.b", "security.a"]), "valid");
}

#[test]
fn preflight_covers_further_attributes_in_trees_and_archives() {
    let directory = directory();
    let Some((root, _)) = with_further(directory.path()) else { return };
    let Some(mut tar) = tool("tar") else { return };
    let store = store(directory.path(), "p-256");
    let [plain, signed, policy] =
        ["plain.tar", "signed.tar", "policy"].map(|name| directory.path().join(name));
    fs::write(&policy, "appraise func=FILE_CHECK appraise_type=imasig\n").unwrap();
    tar.args(["--xattrs", "--xattrs-include=*", "-C"]).arg(&root).arg("-cf").arg(&plain).arg(".");
    finish(&mut tar).exits(0);
    let names = || further(&["security.b", "security.a"]);
    evm("sign", &store, names().into_iter().chain(args!["-o", signed, plain])).exits(0);
    evm("sign", &store, names().into_iter().chain(args![root])).exits(0);
    for root in [root, signed] {
        evm("verify", &store, names().into_iter().chain(args![root])).exits(0);
        let preflight = |names: Vec<OsString>| {
            let args = args!["--no-init", root, "--policy", policy];
            evm("preflight", &store, names.into_iter().chain(args))
        };
        preflight(names()).exits(0);
        let refused = preflight(Vec::new()).exits(1);
        assert!(refused.stdout.contains("invalid-fail-immutable"), "{refused:?}");
        assert!(refused.stdout.contains("/etc       1  owned"), "{refused:?}");
    }
}

#[test]
fn names_are_rejected_as_the_kernel_rejects_them() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "a").unwrap();
    let store = store(directory.path(), "p-256");
    let config = directory.path().join("config");
    fs::write(&config, "CONFIG_IMA=y\nCONFIG_EVM=y\n").unwrap();
    let long = "security.".to_owned() + &"x".repeat(247);
    for (names, error) in [
        (&["user.a"][..], "EINVAL"),
        (&["security.a", "security.a"], "EEXIST"),
        (&["security.capability"], "EEXIST"),
        (&[&long], "E2BIG"),
        (&["."], "no further names after a dot"),
        (&["security.evm"], "cover itself"),
    ] {
        let args = || further(names).into_iter().chain(args![file]);
        for command in ["sign", "verify"] {
            let refused = evm(command, &store, args()).exits(2);
            assert!(refused.stderr.contains(error), "{refused:?}");
        }
        let more = args!["--policy", "default:appraise"].into_iter();
        let refused =
            evm("preflight", &store, more.chain(further(names)).chain(args![directory.path()]));
        assert!(refused.stderr.contains(error), "{refused:?}");
    }
    let args = args!["--evm-xattr", "security.a", "--kernel", "6.1", "--kernel-config", config];
    let refused = evm("verify", &store, args.into_iter().chain(args![file])).exits(2);
    assert!(refused.stderr.contains("CONFIG_EVM_ADD_XATTRS is not set"), "{refused:?}");
    fs::write(&config, "CONFIG_IMA=y\n").unwrap();
    let args = args!["--kernel", "6.1", "--kernel-config", config, file];
    let refused = evm("verify", &store, args).exits(2);
    assert!(refused.stderr.contains("CONFIG_EVM is not set"), "{refused:?}");
}

/// `evm_config_default_xattrnames` in `evm_main.c` of 5.10 and of 6.1.
#[test]
fn the_configuration_selects_the_covered_attributes() {
    let directory = directory();
    let Some((root, owned)) = with_further(directory.path()) else { return };
    let Some(_) = tool("openssl") else { return };
    let store = store(directory.path(), "rsa-2048");
    set_attribute(&owned, "security.capability", CAPABILITY);
    set_attribute(&owned, "security.SMACK64", b"_");
    set_attribute(&owned, "security.SMACK64EXEC", b"e");
    let config = directory.path().join("config");
    let smack = "CONFIG_IMA=y\nCONFIG_IMA_APPRAISE=y\nCONFIG_EVM=y\nCONFIG_64BIT=y\n\
        CONFIG_SECURITY_SMACK=y\n";
    let configured = |version: &str| {
        let head =
            format!("#\n# Automatically generated\n# Linux/x86 {version}.0 Kernel Configuration\n");
        fs::write(&config, head + smack).unwrap();
        args!["--kernel-config", config]
    };
    let sign = |more: &[OsString]| {
        evm("sign", &store, more.iter().cloned().chain(args![root])).exits(0);
        attribute(&owned, "security.ima").unwrap()
    };
    let misc = misc();

    // portable signatures: all attributes, and before 5.14 those of this configuration
    let ima = sign(&configured("6.1"));
    let all: [&[u8]; 6] = [CONTEXT, b"_", b"e", &ima, CAPABILITY, &misc];
    assert!(accepts(&store, &owned, &all));
    let verify = |version: &str| {
        let ran = evm("verify", &store, configured(version).into_iter().chain(args![root]));
        verdict(&ran, "etc/owned")
    };
    assert_eq!((verify("6.1").as_str(), verify("7.3").as_str()), ("valid", "valid"));
    // which has the cause of HMACs: there is no INTEGRITY_FAIL_IMMUTABLE
    assert_eq!(verify("5.10"), "invalid-HMAC");
    sign(&configured("5.10"));
    assert!(accepts(&store, &owned, &[b"_", &ima, CAPABILITY, &misc]));
    assert_eq!(
        (verify("5.10").as_str(), verify("6.1").as_str()),
        ("valid", "invalid-fail-immutable")
    );

    // HMACs: those of the configuration, and no UUID without CONFIG_EVM_ATTR_FSUUID
    let key = directory.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let hmac = args!["--evm-type", "hmac", "--hmac-key", key];
    sign(&[&configured("6.1")[..], &hmac].concat());
    let metadata = fs::metadata(&owned).unwrap();
    let number = std::os::unix::fs::MetadataExt::ino(&metadata).to_le_bytes();
    let Some(mut lsattr) = tool("lsattr") else { return };
    let listed = finish(lsattr.arg("-v").arg(&owned)).stdout;
    let generation: u32 = listed.split_whitespace().next().unwrap().parse().unwrap();
    let covered = [
        &[b"_", &ima[..], CAPABILITY, &number].concat()[..],
        &generation.to_le_bytes(),
        &misc[12..],
    ];
    let message = directory.path().join("message");
    fs::write(&message, covered.concat()).unwrap();
    let mut openssl = tool("openssl").unwrap();
    let padded = format!("hexkey:{}{}", "07".repeat(32), "00".repeat(96));
    openssl.args(["dgst", "-sha1", "-mac", "HMAC", "-macopt", &padded]).arg(&message);
    let made = finish(&mut openssl).exits(0).stdout;
    let evm = attribute(&owned, "security.evm").unwrap();
    let digits: String = evm[1..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((evm[0], made.trim().ends_with(&digits)), (2, true), "{made} {digits}");
}

/// An option that ima-evm-utils does not have.
#[test]
fn evmctl_covers_further_attributes() {
    let directory = directory();
    let Some((_, owned)) = with_further(directory.path()) else { return };
    let Some(_) = tool("openssl") else { return };
    let store = store(directory.path(), "rsa-2048");
    let [key, certificate] = evm_key(&store);
    let names = ["--evm-xattr", "security.a", "--evm-xattr", "security.b"];
    let evmctl = |more: Vec<OsString>| run(args!["evmctl"].into_iter().chain(more));
    let sign = args!["sign", "--portable", "--imasig", "--key", key];
    evmctl(sign.into_iter().chain(names.map(Into::into)).chain(args![owned]).collect()).exits(0);
    let (ima, misc) = (attribute(&owned, "security.ima").unwrap(), misc());
    assert!(accepts(&store, &owned, &[CONTEXT, &ima, b"of a", b"of b", &misc]));
    let verify = || args!["verify", "--key", certificate].into_iter();
    evmctl(verify().chain(names.map(Into::into)).chain(args![owned]).collect()).exits(0);
    assert_ne!(evmctl(verify().chain(args![owned]).collect()).code, Some(0));
    let refused = evmctl(verify().chain(args!["--evm-xattr", "user.a", owned]).collect());
    assert!(refused.stderr.contains("EINVAL"), "{refused:?}");
}

/// `xattr_verify` in `ima_appraise.c`: `INTEGRITY_PASS_IMMUTABLE`.
#[test]
fn a_digest_under_a_portable_signature_is_as_good_as_a_signature() {
    let directory = directory();
    let Some(root) = root(directory.path()) else { return };
    let store = store(directory.path(), "rsa-2048");
    evm("sign", &store, args!["--hash-only", root]).exits(0);
    let plain = root.join("plain");
    assert_eq!(attribute(&plain, "security.ima").unwrap()[..2], [4, 4]);
    for requirement in ["signature", "sigv3", "digest"] {
        evm("verify", &store, args!["--require", requirement, root]).exits(0);
    }
    run(args!["verify", "--keys", store, root]).exits(1);
    let older = evm("verify", &store, args!["--kernel", "5.10", plain]).exits(1);
    assert_eq!(verdict(&older, "plain"), "IMA-signature-required");
    let policy = directory.path().join("policy");
    fs::write(&policy, "appraise func=FILE_CHECK appraise_type=imasig\n").unwrap();
    let preflight = |kernel: &str| {
        let args = args!["--no-init", "--policy", policy, "--kernel", kernel, root];
        evm("preflight", &store, args)
    };
    preflight("6.1").exits(0);
    assert!(preflight("5.10").exits(1).stdout.contains("IMA-signature-required"));
    fs::write(&plain, "other").unwrap();
    let changed = evm("verify", &store, args![plain]).exits(1);
    assert_eq!(verdict(&changed, "plain"), "invalid-hash");
    let refused = run(args!["sign", "--hash-only", "--keys", store, root]).exits(2);
    assert!(refused.stderr.contains("--keys is not used"), "{refused:?}");
}
