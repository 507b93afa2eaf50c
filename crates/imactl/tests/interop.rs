//! What imactl signs, evmctl and OpenSSL accept; what evmctl signs, imactl accepts.

mod support;

use std::fs;
use std::path::Path;

use support::*;

/// Every key type that imactl makes.
const KEYS: [&str; 6] = ["rsa-2048", "rsa-3072", "rsa-4096", "p-256", "p-384", "p-521"];
/// The hash algorithms that evmctl signs over, too.
const EVMCTL_HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

fn evmctl_key(store: &Path) -> [std::path::PathBuf; 2] {
    [store.join("ima_keys/x509_ima.key"), store.join("ima_keys/x509_ima.der")]
}

fn each_combination(mut check: impl FnMut(&Path, &str, &str, &Path)) {
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    for key in KEYS {
        let store = store(directory.path(), key);
        for hash in EVMCTL_HASHES {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, format!("content for {key} and {hash}")).unwrap();
            check(&store, key, hash, &file);
        }
    }
}

#[test]
fn evmctl_accepts_what_imactl_signs() {
    if tool("evmctl").is_none() {
        return;
    }
    each_combination(|store, key, hash, file| {
        run(args!["sign", "--keys", store, "--hash", hash, file]).exits(0);
        let [_, certificate] = evmctl_key(store);
        let verified =
            finish(tool("evmctl").unwrap().args(["ima_verify", "-k"]).arg(certificate).arg(file));
        // its exit status does not tell
        let said = verified.stdout + &verified.stderr;
        assert!(said.contains("verification is OK"), "{key} {hash}: {said}");
    });
}

#[test]
fn imactl_accepts_what_evmctl_signs() {
    if tool("evmctl").is_none() {
        return;
    }
    each_combination(|store, key, hash, file| {
        let [private, _] = evmctl_key(store);
        let mut evmctl = tool("evmctl").unwrap();
        evmctl.args(["ima_sign", "-a", hash, "-k"]).arg(private).arg(file);
        finish(&mut evmctl).exits(0);
        let verified = run(args!["verify", "--json", "--keys", store, file]).exits(0);
        let line = verified.json_for(file);
        assert_eq!((&line["verdict"], &line["hash"]), (&"valid".into(), &hash.into()), "{key}");
        // PKCS#1 v1.5 has one signature for a digest: theirs and ours are the same bytes
        if key.starts_with("rsa") {
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
        for hash in EVMCTL_HASHES.iter().chain(&["sha3-256", "sha3-384", "sha3-512"]) {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, format!("content for {key} and {hash}")).unwrap();
            run(args!["sign", "--detached", "--keys", store, "--hash", hash, file]).exits(0);
            let attribute = fs::read(file.with_extension("sig")).unwrap();
            let signature = directory.path().join("signature");
            fs::write(&signature, &attribute[9..]).unwrap();
            let mut openssl = tool("openssl").unwrap();
            openssl.args(["dgst", &format!("-{hash}"), "-verify"]).arg(&public);
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
    for hash in EVMCTL_HASHES {
        let file = directory.path().join(hash);
        fs::write(&file, hash).unwrap();
        finish(tool("evmctl").unwrap().args(["ima_hash", "-a", hash]).arg(&file)).exits(0);
        let theirs = security_ima(&file);
        run(args!["sign", "--hash-only", "--hash", hash, file]).exits(0);
        assert_eq!(security_ima(&file), theirs, "{hash}");
        run(args!["inspect", file]).exits(0);
    }
}
