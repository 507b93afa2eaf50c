//! evmctl and OpenSSL accept imactl's signatures; imactl accepts evmctl's.

use std::fs;
use std::path::Path;

use crate::support::*;
use ima_format::hash::HashAlgorithm;

/// All key types that imactl supports.
const KEYS: [&str; 6] = ["rsa-2048", "rsa-3072", "rsa-4096", "p-256", "p-384", "p-521"];
/// Hash algorithms that no test may skip.
const COMMON_HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

/// The name of an algorithm for `openssl dgst`.
fn openssl_name(hash: &str) -> &str {
    if hash == "rmd160" {
        return "ripemd160";
    }
    hash
}

fn evmctl_key(store: &Path) -> [std::path::PathBuf; 2] {
    [store.join("ima_keys/x509_ima.key"), store.join("ima_keys/x509_ima.der")]
}

/// Whether evmctl signs with this algorithm and key.
fn evmctl_signs(store: &Path, hash: &str, file: &Path) -> bool {
    let [private, _] = evmctl_key(store);
    let mut evmctl = tool("evmctl").unwrap();
    evmctl.args(["ima_sign", "-a", hash, "-k"]).arg(private).arg(file);
    finish(&mut evmctl).code == Some(0)
}

fn imactl_signs(store: &Path, hash: &str, file: &Path) -> bool {
    run(args!["sign", "--quiet", "-n", "--keys", store, "--hash", hash, file]).code == Some(0)
}

/// Calls `check` for each combination of key type and hash algorithm that evmctl supports, with a file that
/// has evmctl's signature.
fn each_combination(mut check: impl FnMut(&Path, &str, &str, &Path)) {
    let directory = directory();
    if tool("evmctl").is_none() || !security_attributes(directory.path()) {
        return;
    }
    for key in KEYS {
        let store = store(directory.path(), key);
        let mut signed = Vec::new();
        for hash in HashAlgorithm::ALL.iter().map(|algorithm| algorithm.name()) {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, format!("content for {key} and {hash}")).unwrap();
            if evmctl_signs(&store, hash, &file) {
                signed.push(hash);
                check(&store, key, hash, &file);
            }
        }
        println!("{key}: {}", signed.join(", "));
        assert!(COMMON_HASHES.iter().all(|hash| signed.contains(hash)), "{key}: {signed:?}");
        assert!(!key.starts_with("rsa") || signed.contains(&"rmd160"), "{key}: {signed:?}");
    }
}

#[test]
fn evmctl_accepts_what_imactl_signs() {
    each_combination(|store, key, hash, file| {
        if !imactl_signs(store, hash, file) {
            return;
        }
        run(args!["sign", "--keys", store, "--hash", hash, file]).exits(0);
        let [_, certificate] = evmctl_key(store);
        let verified =
            finish(tool("evmctl").unwrap().args(["ima_verify", "-k"]).arg(certificate).arg(file));
        // evmctl's exit status does not show it
        let said = verified.stdout + &verified.stderr;
        assert!(said.contains("verification is OK"), "{key} {hash}: {said}");
    });
}

#[test]
fn imactl_accepts_what_evmctl_signs() {
    each_combination(|store, key, hash, file| {
        // imactl refuses MD5 for signing, but a kernel verifies it
        let rsa_over_md5 = key.starts_with("rsa") && hash == "md5";
        if !rsa_over_md5 && !imactl_signs(store, hash, file) {
            // evmctl also uses algorithms that no kernel verifies with such a key
            let verified = run(args!["verify", "--json", "--keys", store, file]).exits(1);
            assert_eq!(verified.json_for(file)["verdict"], "invalid-signature", "{key} {hash}");
            return;
        }
        let verified = run(args!["verify", "--json", "--keys", store, file]).exits(0);
        let line = verified.json_for(file);
        assert_eq!((&line["verdict"], &line["hash"]), (&"valid".into(), &hash.into()), "{key}");
        // PKCS#1 v1.5 is deterministic: both signatures are the same bytes
        if key.starts_with("rsa") && hash != "md5" {
            let theirs = security_ima(file);
            run(args!["sign", "--keys", store, "--hash", hash, file]).exits(0);
            assert_eq!(security_ima(file), theirs, "{key} {hash}");
        }
    });
}

#[test]
fn openssl_accepts_what_imactl_signs() {
    if tool("openssl").is_none() {
        return;
    }
    let directory = directory();
    for key in KEYS {
        let store = store(directory.path(), key);
        let public = directory.path().join("public.pem");
        let mut openssl = tool("openssl").unwrap();
        openssl.args(["x509", "-pubkey", "-noout", "-inform", "DER", "-in"]);
        let pem = finish(openssl.arg(store.join("ima_keys/x509_ima.der"))).exits(0).stdout;
        fs::write(&public, pem).unwrap();
        let all = HashAlgorithm::ALL.iter().map(|algorithm| algorithm.name());
        for hash in all {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, format!("content for {key} and {hash}")).unwrap();
            if !imactl_signs(&store, hash, &file) {
                assert!(!COMMON_HASHES.contains(&hash) && !hash.starts_with("sha3-"), "{hash}");
                continue;
            }
            run(args!["sign", "--detached", "--keys", store, "--hash", hash, file]).exits(0);
            let attribute = fs::read(file.with_extension("sig")).unwrap();
            let signature = directory.path().join("signature");
            fs::write(&signature, &attribute[9..]).unwrap();
            let mut openssl = tool("openssl").unwrap();
            openssl.args(["dgst", &format!("-{}", openssl_name(hash)), "-verify"]).arg(&public);
            finish(openssl.arg("-signature").args([&signature, &file])).exits(0);
        }
    }
}

#[test]
fn evmctl_and_imactl_write_the_same_digests() {
    if tool("evmctl").is_none() {
        return;
    }
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let mut written = Vec::new();
    for hash in HashAlgorithm::ALL.iter().map(|algorithm| algorithm.name()) {
        let file = directory.path().join(hash);
        fs::write(&file, hash).unwrap();
        let mut evmctl = tool("evmctl").unwrap();
        if finish(evmctl.args(["ima_hash", "-a", hash]).arg(&file)).code != Some(0) {
            continue;
        }
        let theirs = security_ima(&file);
        if run(args!["sign", "--hash-only", "--hash", hash, file]).code != Some(0) {
            assert!(!COMMON_HASHES.contains(&hash), "{hash}");
            continue;
        }
        written.push(hash);
        assert_eq!(security_ima(&file), theirs, "{hash}");
        run(args!["inspect", file]).exits(0);
    }
    println!("digests: {}", written.join(", "));
    assert!(COMMON_HASHES.iter().chain(&["rmd160"]).all(|hash| written.contains(hash)));
}
