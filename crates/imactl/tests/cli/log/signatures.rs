//! Signatures in lists, over the digests in them.

use super::*;

/// A file, signed.
fn signed(directory: &Path, keys: &Path, content: &[u8]) -> Option<Vec<u8>> {
    if !security_attributes(directory) {
        return None;
    }
    let path = write(directory, "signed", content);
    run(args!["sign", "-q", "--keys", keys, path]).exits(0);
    security_ima(&path)
}

fn record(name: &str, content: &[u8], signature: &[u8]) -> Entry {
    let name = [name.as_bytes(), b"\0"].concat();
    entry("ima-sig", fields(USUAL.endian, &[&digest_of(content), &name, signature]))
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
    let found: Vec<_> = of_type(&lines, "finding")
        .iter()
        .map(|line| (line["path"].as_str().unwrap(), line["finding"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
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
    // without certificates nothing is said of them
    crate::support::run(args!["log", "verify", "--no-pcrs", list]).exits(0);
    // one that is good
    let list = write(directory, "list", &binary(USUAL, &entries[..2]));
    crate::support::run(args!["log", "verify", "--no-pcrs", "--keys", keys, list]).exits(0);
}

/// evmctl verifies the same signatures; of a bad one it prints so, and exits with 0.
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
    evmctl.args(["ima_measurement", "-v", "--verify-sig", "--key"]).arg(certificate);
    let said = finish(evmctl.args(["--pcrs", &bank]).arg(&list));
    let text = said.stdout + &said.stderr;
    assert!(text.contains("/good: verification is OK"), "{text}");
    assert!(!text.contains("/bad: verification is OK"), "{text}");
}
