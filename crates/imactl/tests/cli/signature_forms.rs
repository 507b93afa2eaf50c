//! Signatures of version 3 and by ML-DSA, verified with another library (peer.py), and the choice of a form for
//! kernels.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::*;

const KEYS: [&str; 7] =
    ["rsa-2048", "p-256", "p-384", "p-521", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"];

/// `peer.py` with its library, which `cargo xtask test crates` installs.
pub(crate) fn peer() -> Option<Command> {
    let python = python()?;
    let mut command = Command::new(python);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/peer.py"));
    Some(command)
}

/// Whether the linked OpenSSL supports such keys.
fn makes(directory: &Path, algorithm: &str) -> bool {
    let made = run(args![
        "keys",
        "create",
        "--quiet",
        "--no-passphrase",
        "--algorithm",
        algorithm,
        directory.join("probe"),
    ]);
    if made.code != Some(0) {
        assert!(made.stderr.contains("the linked OpenSSL has no ML-DSA"), "{}", made.stderr);
        assert!(made.stderr.contains("hint: "), "{}", made.stderr);
        missing("this OpenSSL has no ML-DSA");
        return false;
    }
    fs::remove_dir_all(directory.join("probe")).unwrap();
    true
}

#[test]
fn another_library_accepts_version_3_and_makes_what_imactl_accepts() {
    let directory = directory();
    let Some(_) = peer() else { return };
    for key in KEYS {
        if key.starts_with("ml-dsa") && !makes(directory.path(), key) {
            continue;
        }
        let store = store(directory.path(), key);
        let [private, certificate] = ["key", "der"]
            .map(|extension| store.join("ima_keys/x509_ima").with_extension(extension));
        for hash in ["sha256", "sha512"] {
            let file = directory.path().join(format!("{key}-{hash}"));
            fs::write(&file, format!("content for {key} and {hash}")).unwrap();
            let common = ["--detached", "--signature-version", "3", "--hash", hash];
            let sign = |extra: &[&str]| {
                let mut sign = imactl();
                sign.args(["sign", "--json"]).args(common).args(extra).arg("--keys");
                finish(sign.args([&store, &file])).exits(0).json()
            };
            let verify = |kernel: &str| {
                run(args![
                    "verify",
                    "--json",
                    "--detached",
                    "--kernel",
                    kernel,
                    "--require",
                    "sigv3",
                    "--keys",
                    store,
                    file,
                ])
            };
            sign(&[]);
            let mut theirs = peer().unwrap();
            finish(theirs.arg("verify").arg(&certificate).args([hash, "3"]).arg(&file)).exits(0);
            verify("7.3").exits(0);
            assert_eq!(sign(&["--changed"])[0]["result"], "unchanged", "{key} {hash}");

            let mut theirs = peer().unwrap();
            finish(theirs.arg("sign").arg(&private).args([hash, "3"]).arg(&file)).exits(0);
            verify("7.3").exits(0);
            assert_eq!(sign(&["--changed"])[0]["result"], "unchanged", "{key} {hash}");

            fs::write(&file, "changed").unwrap();
            let verdict = verify("7.3").exits(1).json_for(&file)["verdict"].clone();
            assert_eq!(verdict, "invalid-signature", "{key} {hash}");
            let verdict = verify("6.12").exits(1).json_for(&file)["verdict"].clone();
            assert_eq!(verdict, "invalid-signature-version", "{key} {hash}");
        }
    }
}

#[test]
fn keys_and_certificates_of_another_library_sign_in_every_container() {
    let directory = directory();
    let path = directory.path();
    let Some(_) = peer() else { return };
    if !makes(path, "ml-dsa-65") {
        return;
    }
    for authority in ["rsa-2048", "p-256", "ml-dsa-87"] {
        let store = store(path, authority);
        for set in ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"] {
            let mut issue = peer().unwrap();
            let system = store.join("system_trusted_keys/system_trusted_key");
            issue.arg("issue").args([system.with_extension("key"), system.with_extension("der")]);
            finish(issue.arg(set).arg(path)).exits(0);
            let [key, certificate] =
                ["key", "der"].map(|extension| path.join(set).with_extension(extension));
            let shown = run(args!["keys", "show", "--json", certificate]).exits(0).json();
            assert_eq!(shown[0]["algorithm"], set);
            // the same key, certified by our CA
            let ours = path.join(format!("{set}-ours.crt"));
            fs::remove_file(&ours).ok();
            run(args!["keys", "certify", "--quiet", "--keys", store, "-o", ours, certificate])
                .exits(0);

            let root = path.join("root");
            fs::remove_dir_all(&root).ok();
            write_tree(&root, &[("bin/a", b"a"), ("bin/b", &[7; 100_000])]);
            let archive = path.join("root.tar");
            finish(tool("tar").unwrap().arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."))
                .exits(0);
            let package = path.join("package.rpm");
            let from =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_4.rpm");
            fs::copy(from, &package).unwrap();
            for container in [&root, &archive, &package] {
                let place: &[&str] = if container == &root { &["--detached"] } else { &[] };
                let mut sign = imactl();
                sign.arg("sign").args(place).arg("--key").arg(&key).arg("--cert");
                finish(sign.args([&certificate, container])).exits(0);
                for certificate in [&certificate, &ours] {
                    let mut verify = imactl();
                    verify.arg("verify").args(place).args(["--kernel", "7.3", "--cert"]);
                    finish(verify.args([certificate, container])).exits(0);
                }
            }
        }
    }
}

#[test]
fn a_form_is_chosen_that_all_kernels_verify() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let made = |key: &str, kernels: &str, more: &[&str]| {
        let store = directory.path().join(format!("keys-{key}"));
        let store = if store.exists() { store } else { store_of(directory.path(), key) };
        let mut sign = imactl();
        sign.args(["sign", "--detached", "--for-kernel", kernels]).args(more).arg("--keys");
        finish(sign.args([&store, &file]))
    };
    let version = || fs::read(file.with_extension("sig")).unwrap()[1];
    for (key, kernels, expected) in [
        ("rsa-2048", "6.12,7.3", 2),
        ("rsa-2048", "7.2,7.3", 3),
        ("rsa-2048", "5.10", 2),
        ("p-256", "6.1", 2),
        ("p-256", "7.3", 3),
    ] {
        made(key, kernels, &[]).exits(0);
        assert_eq!(version(), expected, "{key} {kernels}");
    }
    let refused = made("p-256", "5.10,7.3", &[]).exits(2).stderr;
    assert!(refused.contains("version 2 by p-256 over sha256 needs Linux 5.13"), "{refused}");
    let refused = made("rsa-2048", "6.12", &["--signature-version", "3"]).exits(2).stderr;
    assert!(refused.contains("Linux 6.12 does not verify version 3"), "{refused}");
    if makes(directory.path(), "ml-dsa-65") {
        made("ml-dsa-65", "7.2,7.3", &[]).exits(0);
        assert_eq!(version(), 3);
        let refused = made("ml-dsa-65", "6.12,7.3", &[]).exits(2).stderr;
        assert!(
            refused.contains("version 3 by ml-dsa-65 over sha256 needs Linux 7.2"),
            "{refused}"
        );
        let store = directory.path().join("keys-ml-dsa-65");
        let refused =
            run(args!["sign", "--detached", "--signature-version", "2", "--keys", store, file]);
        assert!(refused.exits(2).stderr.contains("hint: ML-DSA keys make signatures of version 3"));
    }
}

/// A short name, for a closure with a variable of that name.
fn store_of(directory: &Path, key: &str) -> std::path::PathBuf {
    store(directory, key)
}
