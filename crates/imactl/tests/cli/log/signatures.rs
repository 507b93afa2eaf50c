//! Signatures in lists, over the digests in the lists.

use super::*;

/// A file, signed.
pub(crate) fn signed(directory: &Path, keys: &Path, content: &[u8]) -> Option<Vec<u8>> {
    if !security_attributes(directory) {
        return None;
    }
    let path = write(directory, "signed", content);
    run(args!["sign", "-q", "--keys", keys, path]).exits(0);
    security_ima(&path)
}

pub(crate) fn record(name: &str, content: &[u8], signature: &[u8]) -> Entry {
    let name = [name.as_bytes(), b"\0"].concat();
    entry("ima-sig", fields(USUAL.endian, &[&digest_of(content), &name, signature]))
}

/// The paths and findings of a run, in their order.
fn findings(lines: &[Value]) -> Vec<(&str, &str)> {
    let found = of_type(lines, "finding").into_iter();
    found.map(|line| (line["path"].as_str().unwrap(), line["finding"].as_str().unwrap())).collect()
}

#[test]
fn signatures_are_verified_over_the_listed_digests() {
    let directory = directory();
    let directory = directory.path();
    let (keys, others) = (store(directory, "rsa-2048"), store(directory, "p-256"));
    let Some(good) = signed(directory, &keys, b"good") else { return };
    let unknown = signed(directory, &others, b"good").unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let mut sha1 = good.clone();
    sha1[2] = 2;
    let mut evm = good.clone();
    evm[0] = 5;
    let entries = [
        file(USUAL.endian, "boot_aggregate", b""),
        record("/good", b"good", &good),
        record("/other-content", b"other", &good),
        record("/bad", b"good", &bad),
        record("/unknown", b"good", &unknown),
        record("/other-algorithm", b"good", &sha1),
        record("/evm", b"good", &evm),
        record("/cut", b"good", &good[..20]),
        record("/unsigned", b"good", b""),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    let run = run(args!["log", "verify", "--json", "--no-pcrs", "--keys", keys, list]).exits(1);
    let lines = run.json();
    assert_eq!(
        findings(&lines),
        [
            ("/other-content", "invalid-signature"),
            ("/bad", "invalid-signature"),
            ("/unknown", "unknown-key"),
            ("/other-algorithm", "unverifiable-signature"),
            ("/evm", "unverifiable-signature"),
            ("/cut", "malformed-signature"),
        ]
    );
    let summary = of_type(&lines, "summary")[0];
    assert_eq!((&summary["signed"], &summary["valid"]), (&7.into(), &1.into()));
    // without certificates they are not verified
    crate::support::run(args!["log", "verify", "--no-pcrs", list]).exits(0);
    // a valid one
    let list = write(directory, "list", &binary(USUAL, &entries[..2]));
    crate::support::run(args!["log", "verify", "--no-pcrs", "--keys", keys, list]).exits(0);
}

/// Version 3 covers the type of the digest, which `ima-sigv2` shows.
#[test]
fn version_3_is_verified_over_the_digest_and_its_type() {
    let Some(mut fsverity) = tool("fsverity") else { return };
    let directory = directory();
    let directory = directory.path();
    let keys = store(directory, "p-256");
    let path = write(directory, "signed", b"good");
    let sign = |options: &[&str]| {
        finish(imactl().args(["sign", "--detached", "--keys"]).arg(&keys).args(options).arg(&path))
            .exits(0);
        fs::read(path.with_extension("sig")).unwrap()
    };
    let content = sign(&["--signature-version", "3"]);
    let version_2 = sign(&[]);
    let verity = sign(&["--digest", "verity"]);
    let root = finish(fsverity.args(["digest", "--compact"]).arg(&path)).exits(0).stdout;
    let root = ima_format::hex::decode(root.trim().as_bytes()).unwrap();
    let record = |name: &str, kind: &[u8], digest: &[u8], signature: &[u8]| {
        let digest = [kind, b":sha256:\0", digest].concat();
        let name = [name.as_bytes(), b"\0"].concat();
        entry("ima-sigv2", fields(USUAL.endian, &[&digest, &name, signature]))
    };
    let hash = hash(HashAlgorithm::Sha256, b"good");
    let mut other = hash.clone();
    other[0] ^= 1;
    // a signature of version 2 that claims to be of version 3, and the reverse
    let claim = |signature: &[u8], version: u8| {
        let mut claimed = signature.to_vec();
        claimed[1] = version;
        claimed
    };
    let entries = [
        record("/content", b"ima", &hash, &content),
        record("/verity", b"verity", &root, &verity),
        record("/changed", b"ima", &other, &content),
        record("/measured-otherwise", b"verity", &root, &content),
        record("/signed-otherwise", b"ima", &hash, &verity),
        // the root of the tree as if it were the content's digest
        record("/content-as-verity", b"verity", &hash, &verity),
        record("/claims-3", b"ima", &hash, &claim(&version_2, 3)),
        record("/claims-2", b"ima", &hash, &claim(&content, 2)),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    let options = args!["log", "verify", "--json", "--no-pcrs", "--keys", keys, list];
    let lines = run(options).exits(1).json();
    assert_eq!(
        findings(&lines),
        [
            ("/changed", "invalid-signature"),
            ("/measured-otherwise", "unverifiable-signature"),
            ("/signed-otherwise", "unverifiable-signature"),
            ("/content-as-verity", "invalid-signature"),
            ("/claims-3", "invalid-signature"),
            ("/claims-2", "invalid-signature"),
        ]
    );
    assert_eq!(of_type(&lines, "summary")[0]["valid"], 2);
}

/// evmctl verifies the same signatures; for a bad one it prints a message, but exits with 0.
#[test]
fn evmctl_finds_the_same_signatures_good() {
    let Some(mut evmctl) = tool("evmctl") else { return };
    let directory = directory();
    let directory = directory.path();
    let keys = store(directory, "rsa-2048");
    let Some(good) = signed(directory, &keys, b"good") else { return };
    let entries = [
        file(USUAL.endian, "boot_aggregate", b""),
        record("/good", b"good", &good),
        record("/bad", b"bad", &good),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    let bank = Pcrs::after(&entries).write_bank(HashAlgorithm::Sha1, directory);
    let certificate = keys.join("ima_keys/x509_ima.der");
    let options = ["ima_measurement", "-v", "--verify-sig", "--pcrs", &bank, "--key"];
    let said = finish(evmctl.args(options).args([&certificate, &list]));
    let text = said.stdout + &said.stderr;
    assert!(text.contains("/good: verification is OK"), "{text}");
    assert!(!text.contains("/bad: verification is OK"), "{text}");
    // imactl fails with the same command line
    let ours = |list| finish(imactl().arg("evmctl").args(options).args([&certificate, list]));
    assert!(ours(&list).exits(1).stderr.contains("/bad: not a signature by key"));
    let bank = Pcrs::after(&entries[..2]).write_bank(HashAlgorithm::Sha1, directory);
    assert_eq!(bank, options[4]);
    ours(&write(directory, "good", &binary(USUAL, &entries[..2]))).exits(0);
}

/// Signs with evmctl, over the metadata in the record.
#[test]
fn portable_signatures_are_verified_over_the_listed_metadata() {
    let Some(_) = tool("evmctl") else { return };
    let directory = directory();
    let directory = directory.path();
    if !security_attributes(directory) {
        return;
    }
    let keys = store(directory, "rsa-2048");
    let (key, certificate) =
        (keys.join("ima_keys/x509_ima.key"), keys.join("ima_keys/x509_ima.der"));
    for (ima, word) in [("--imahash", "--m64"), ("--imasig", "--m64"), ("--imahash", "--m32")] {
        let path = write(directory, "signed", b"content");
        let mut evmctl = tool("evmctl").unwrap();
        evmctl.args(["sign", "--portable", "-a", "sha256", ima, word]);
        evmctl.arg(format!("--keyid-from-cert={}", certificate.display())).arg("--key").arg(&key);
        finish(evmctl.arg(&path)).exits(0);
        let (label, evm) =
            (attribute(&path, "security.ima").unwrap(), attribute(&path, "security.evm").unwrap());
        let status = rustix::fs::stat(&path).unwrap();
        let mode = (status.st_mode as u16).to_le_bytes();
        let record = |content: &[u8], uid: u32, label: &[u8]| {
            let fields = fields(
                USUAL.endian,
                &[
                    &digest_of(content),
                    b"/signed\0",
                    &evm,
                    b"security.ima\0",
                    &(label.len() as u32).to_le_bytes(),
                    label,
                    &uid.to_le_bytes(),
                    &status.st_gid.to_le_bytes(),
                    &mode,
                ],
            );
            entry("evm-sig", fields)
        };
        let mut other = label.clone();
        *other.last_mut().unwrap() ^= 1;
        for (record, valid) in [
            (record(b"content", status.st_uid, &label), 1),
            (record(b"other", status.st_uid, &label), 0),
            (record(b"content", status.st_uid + 1, &label), 0),
            (record(b"content", status.st_uid, &other), 0),
        ] {
            let list = write(directory, "list", &binary(USUAL, &[record]));
            let options =
                args!["log", "verify", "--json", "--no-pcrs", "--cert", certificate, list];
            let lines = run(options).exits(if valid == 1 { 0 } else { 1 }).json();
            assert_eq!(of_type(&lines, "summary")[0]["valid"], valid, "{ima} {word}");
        }
    }
}

/// A signature appended by openssl in the form of the kernel's sign-file.
fn appended(directory: &Path, keys: &Path, content: &[u8], options: &[&str]) -> Vec<u8> {
    let (key, der) = (keys.join("ima_keys/x509_ima.key"), keys.join("ima_keys/x509_ima.der"));
    let pem = directory.join("certificate.pem");
    let mut openssl = tool("openssl").unwrap();
    openssl.args(["x509", "-inform", "DER", "-in"]).arg(der).arg("-out").arg(&pem);
    finish(&mut openssl).exits(0);
    let (content, message) = (write(directory, "content", content), directory.join("message"));
    let mut openssl = tool("openssl").unwrap();
    openssl.args(["cms", "-sign", "-binary", "-nocerts", "-outform", "DER", "-md", "sha256"]);
    openssl.args(options).arg("-signer").arg(&pem).arg("-inkey").arg(key);
    finish(openssl.arg("-in").arg(content).arg("-out").arg(&message)).exits(0);
    fs::read(message).unwrap()
}

#[test]
fn appended_signatures_are_verified_over_the_digest_without_them() {
    let Some(_) = tool("openssl") else { return };
    let directory = directory();
    let directory = directory.path();
    let (keys, others) = (store(directory, "rsa-2048"), store(directory, "p-256"));
    let record = |name: &str, content: &[u8], message: &[u8]| {
        let name = [name.as_bytes(), b"\0"].concat();
        // the digest of the whole file is different
        let whole = digest_of(&[content, message].concat());
        let data = fields(USUAL.endian, &[&whole, &name, b"", &digest_of(content), message]);
        entry("ima-modsig", data)
    };
    let sha1 = [&b"sha1:\0"[..], &hash(HashAlgorithm::Sha1, b"good")].concat();
    let sign = |keys: &Path, options: &[&str]| appended(directory, keys, b"good", options);
    let good = sign(&keys, &["-noattr"]);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let entries = [
        record("/good", b"good", &good),
        record("/by-key-id", b"good", &sign(&keys, &["-noattr", "-keyid"])),
        record("/other-content", b"other", &good),
        record("/bad", b"good", &bad),
        record("/unknown", b"good", &sign(&others, &["-noattr"])),
        record("/attributes", b"good", &sign(&keys, &[])),
        record("/cut", b"good", &good[..good.len() - 1]),
        entry("ima-modsig", fields(USUAL.endian, &[&sha1, b"/sha1\0", b"", &sha1, &good])),
        record("/unsigned", b"good", b""),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    let options = args!["log", "verify", "--json", "--no-pcrs", "--keys", keys, list];
    let lines = run(options).exits(1).json();
    assert_eq!(
        findings(&lines),
        [
            ("/other-content", "invalid-signature"),
            ("/bad", "invalid-signature"),
            ("/unknown", "unknown-key"),
            ("/attributes", "unverifiable-signature"),
            ("/cut", "malformed-signature"),
            ("/sha1", "unverifiable-signature"),
        ]
    );
    assert_eq!(of_type(&lines, "summary")[0]["valid"], 2);
}

/// A file that the manifest lacks, signed by a trusted key.
#[test]
fn files_that_a_manifest_does_not_have_are_shown_with_their_signer() {
    let directory = directory();
    let directory = directory.path();
    let (keys, others) = (store(directory, "rsa-2048"), store(directory, "p-256"));
    let Some(good) = signed(directory, &keys, b"good") else { return };
    let unknown = signed(directory, &others, b"good").unwrap();
    let root = directory.join("root");
    write_tree(&root, &[("bin/updated", b"old"), ("bin/same", b"same")]);
    let manifest = directory.join("manifest");
    run(args!["manifest", "create", "-o", manifest, root]).exits(0);
    let entries = [
        file(USUAL.endian, "/bin/same", b"same"),
        record("/bin/updated", b"good", &good),
        record("/bin/new", b"good", &good),
        record("/bin/foreign", b"good", &unknown),
        record("/bin/forged", b"other", &good),
        file(USUAL.endian, "/bin/unsigned", b"x"),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    let check = |options: &[&Path]| {
        let mut command = imactl();
        command.args(["log", "check", "--json", "--manifest"]).arg(&manifest).args(options);
        let lines = finish(command.arg(&list)).exits(1).json();
        let signed: Vec<_> = of_type(&lines, "entry")
            .iter()
            .map(|line| line["signed_by"].as_str().map(str::to_owned))
            .collect();
        (signed, of_type(&lines, "summary")[0]["signed"].clone())
    };
    let key_id = ima_format::hex::Hex(&good[3..7]).to_string();
    let by = Some(key_id);
    assert_eq!(
        check(&["--keys".as_ref(), &keys]),
        (vec![by.clone(), by, None, None, None], 2.into())
    );
    assert_eq!(check(&[]), (vec![None; 5], 0.into()));
}
