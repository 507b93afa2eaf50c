//! Signed manifests, verified with openssl and securesystemslib.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use crate::support::*;

/// A manifest, unsigned and signed by a key of this type, and the store of the key.
fn signed(directory: &Path, key: &str) -> [PathBuf; 3] {
    let keys = store(directory, key);
    let (root, plain) = (directory.join("root"), directory.join("plain"));
    write_tree(&root, &[("usr/bin/a b", b"a"), ("etc/gr\u{fc}n", b"green")]);
    let signed = directory.join(format!("{key}.signed"));
    run(args!["manifest", "create", "-o", plain, root]).exits(0);
    run(args!["manifest", "create", "--keys", keys, "-o", signed, root]).exits(0);
    [plain, signed, keys]
}

fn certificate(keys: &Path) -> PathBuf {
    keys.join("ima_keys/x509_ima.der")
}

/// The signed bytes according to the specification.
fn encoding(envelope: &Value) -> Vec<u8> {
    let payload_type = envelope["payloadType"].as_str().unwrap();
    let payload = decoded(&envelope["payload"]);
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), &payload].concat()
}

fn decoded(text: &Value) -> Vec<u8> {
    openssl::base64::decode_block(text.as_str().unwrap()).unwrap()
}

#[test]
fn openssl_verifies_and_the_content_is_the_same() {
    for (key, digest) in [("rsa-2048", "-sha256"), ("p-256", "-sha256"), ("p-384", "-sha384")] {
        let directory = directory();
        let directory = directory.path();
        let [plain, signed, keys] = signed(directory, key);
        let envelope: Value = serde_json::from_slice(&fs::read(&signed).unwrap()).unwrap();
        let [encoded, signature, public] =
            ["encoded", "signature", "public"].map(|name| directory.join(name));
        fs::write(&encoded, encoding(&envelope)).unwrap();
        fs::write(&signature, decoded(&envelope["signatures"][0]["sig"])).unwrap();
        let mut openssl = tool("openssl").unwrap();
        openssl
            .args(["x509", "-inform", "DER", "-noout", "-pubkey", "-in"])
            .arg(certificate(&keys));
        fs::write(&public, finish(&mut openssl).exits(0).stdout).unwrap();
        let mut openssl = tool("openssl").unwrap();
        openssl.args(["dgst", digest, "-verify"]).arg(&public).arg("-signature").arg(&signature);
        finish(openssl.arg(&encoded)).exits(0);

        let trust = args!["--manifest-cert", certificate(&keys)];
        let mut read = imactl();
        read.args(["manifest", "merge"]).arg(&signed).args(trust);
        let merged = finish(&mut read).exits(0);
        assert_eq!(merged.stdout, fs::read_to_string(&plain).unwrap());
        assert_eq!(merged.stderr, "");
        // a statement in the form that other tools expect
        let payload: Value = serde_json::from_slice(&decoded(&envelope["payload"])).unwrap();
        assert_eq!(payload["_type"], "https://in-toto.io/Statement/v1");
        let sum =
            ima::digest::Hasher::new(ima::HashAlgorithm::Sha256).unwrap().digest(b"a").unwrap();
        let sum = ima_format::hex::Hex(sum.as_bytes()).to_string();
        assert_eq!(
            payload["subject"][1],
            json!({"name": "/usr/bin/a b", "digest": {"sha256": sum}})
        );
    }
}

#[test]
fn only_what_a_trusted_key_signed_is_read() {
    let directory = directory();
    let directory = directory.path();
    let [plain, signed, keys] = signed(directory, "p-256");
    let read = |manifest: &Path, cert: Option<PathBuf>, code: i32| {
        let mut read = imactl();
        read.args(["manifest", "merge"]).arg(manifest);
        if let Some(cert) = cert {
            read.arg("--manifest-cert").arg(cert);
        }
        finish(&mut read).exits(code).stderr
    };
    let own = || Some(certificate(&keys));
    assert!(read(&signed, None, 0).contains("signature not verified"));
    assert!(read(&plain, own(), 2).contains("plain: not signed"));
    let other = store(&directory.join("root"), "p-256");
    let said = read(&signed, Some(certificate(&other)), 2);
    assert!(said.contains("not signed by a trusted key"), "{said}");
    // any change is detected, whatever key the envelope names
    let good: Value = serde_json::from_slice(&fs::read(&signed).unwrap()).unwrap();
    let changed = directory.join("changed");
    let check = |change: &dyn Fn(&mut Value), code: i32| {
        let mut envelope = good.clone();
        change(&mut envelope);
        fs::write(&changed, serde_json::to_vec(&envelope).unwrap()).unwrap();
        read(&changed, own(), code)
    };
    check(&|_| {}, 0);
    check(&|it| it["signatures"][0]["keyid"] = "00000000".into(), 0);
    check(&|it| drop(it["signatures"][0].as_object_mut().unwrap().remove("keyid")), 0);
    check(
        &|it| {
            let twice = json!([{"sig": "AAAA"}, it["signatures"][0]]);
            it["signatures"] = twice;
        },
        0,
    );
    // Base64 for URLs
    let url = |text: &Value| text.as_str().unwrap().replace('+', "-").replace('/', "_").into();
    check(&|it| it["signatures"][0]["sig"] = url(&it["signatures"][0]["sig"]), 0);
    check(&|it| it["signatures"] = json!([]), 2);
    check(&|it| it["payloadType"] = "application/json".into(), 2);
    check(&|it| it["payload"] = "AAAA".into(), 2);
    check(&|it| it["payload"] = "*".into(), 2);
    let payload = String::from_utf8(decoded(&good["payload"])).unwrap();
    let payload = openssl::base64::encode_block(payload.replacen("/usr", "/opt", 1).as_bytes());
    let said = check(&|it| it["payload"] = payload.clone().into(), 2);
    assert!(said.contains("not signed by a trusted key"), "{said}");

    // in all commands that read manifests
    for command in [
        args!["manifest", "diff", signed, signed].to_vec(),
        args!["manifest", "export", "--to", "cyclonedx", signed].to_vec(),
        args!["manifest", "create", "--base", signed, directory.join("root")].to_vec(),
        args!["log", "check", "--manifest", signed, plain].to_vec(),
    ] {
        let refused = run(command.into_iter().chain(args!["--manifest-cert", certificate(&other)]));
        let said = refused.exits(2).stderr;
        assert!(said.contains("not signed by a trusted key"), "{said}");
    }
}

/// Verifies with the library of TUF and in-toto.
#[test]
fn securesystemslib_verifies() {
    const PROGRAM: &str = "
import json, sys
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
envelope = Envelope.from_dict(json.load(open(sys.argv[1])))
keyid = next(iter(envelope.signatures))
key = SSlibKey(keyid, sys.argv[3], sys.argv[4], {'public': open(sys.argv[2]).read()})
envelope.verify([key], 1)
print(envelope.payload_type)
";
    let Some(python) = python_with("securesystemslib") else { return };
    let schemes = [
        ("rsa-2048", "rsa", "rsa-pkcs1v15-sha256"),
        ("p-256", "ecdsa", "ecdsa-sha2-nistp256"),
        ("p-384", "ecdsa", "ecdsa-sha2-nistp384"),
    ];
    for (key, kind, scheme) in schemes {
        let directory = directory();
        let [_, signed, keys] = signed(directory.path(), key);
        let public = directory.path().join("public");
        let mut openssl = tool("openssl").unwrap();
        openssl
            .args(["x509", "-inform", "DER", "-noout", "-pubkey", "-in"])
            .arg(certificate(&keys));
        fs::write(&public, finish(&mut openssl).exits(0).stdout).unwrap();
        let mut command = std::process::Command::new(&python);
        let said =
            finish(command.args(args!["-c", PROGRAM, signed, public, kind, scheme])).exits(0);
        assert_eq!(said.stdout.trim(), "application/vnd.in-toto+json");
    }
}
