//! `imactl keys rotate`: the new generation, verified with openssl, and the files signed by the old one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::*;

fn rotate(keys: &Path, more: &[&str]) -> Run {
    let mut rotate = imactl();
    rotate.args(["keys", "rotate", "--json", "--keys"]).arg(keys).args(more);
    finish(&mut rotate)
}

fn key_id(keys: &Path, file: &str) -> String {
    let shown = run(args!["keys", "show", "--json", keys.join(file)]).exits(0);
    shown.json()[0]["key_id"].as_str().unwrap().to_owned()
}

/// Whether openssl verifies a certificate with a CA.
fn is_issued_by(certificate: &Path, authority: &Path) -> bool {
    let mut verify = tool("openssl").unwrap();
    verify.args(["verify", "-partial_chain", "-CAfile"]).arg(authority).arg(certificate);
    finish(&mut verify).code == Some(0)
}

#[test]
fn old_files_are_listed_and_stay_valid_under_the_new_generation() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let (old, authority) =
        (key_id(&keys, "ima_keys/x509_ima.der"), keys.join("system_trusted_keys"));
    let root = directory.path().join("root");
    write_tree(&root, &[("old", b"old"), ("again", b"again"), ("unsigned", b"none")]);
    if !security_attributes(&root) {
        return;
    }
    run(args!["sign", "--keys", keys, root.join("old"), root.join("again")]).exits(0);
    let old_key = fs::read(keys.join("ima_keys/x509_ima.key")).unwrap();

    let made = rotate(&keys, &["--no-passphrase", root.to_str().unwrap()]).exits(0);
    let new = key_id(&keys, "ima_keys/x509_ima.der");
    assert_ne!(old, new);
    let lines = made.json();
    assert_eq!((&lines[0]["type"], &lines[0]["key_id"]), (&"certificate".into(), &new.into()));
    assert_eq!(lines[0]["algorithm"], "p-256", "the old key's");
    for name in ["old", "again"] {
        let line = made.json_for(&root.join(name));
        assert_eq!((&line["affected_by"], &line["key_id"]), (&"key".into(), &old.clone().into()));
    }
    assert_eq!(made.json().pop().unwrap()["unaffected"], 1);

    let mut expected: Vec<_> = ["key", "crt", "der"]
        .iter()
        .flat_map(|end| [format!("x509_ima.{end}"), format!("x509_ima_{old}.{end}")])
        .collect();
    expected.sort();
    assert_eq!(names(&keys.join("ima_keys")), expected);
    let kept = keys.join(format!("ima_keys/x509_ima_{old}.key"));
    assert_eq!(fs::read(&kept).unwrap(), old_key);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is_issued_by(
        &keys.join("ima_keys/x509_ima.crt"),
        &authority.join("system_trusted_key.crt")
    ));
    assert_eq!(names(&keys).iter().filter(|name| name.starts_with('.')).count(), 0);
    run(args!["keys", "check", keys]).exits(0);

    run(args!["sign", "--keys", keys, root.join("again")]).exits(0);
    run(args!["verify", "--keys", keys, root.join("old"), root.join("again")]).exits(0);
    let listed = rotate(&keys, &["--list", root.to_str().unwrap()]).exits(0);
    assert_eq!(listed.json().pop().unwrap()["affected"], 1, "{}", listed.stdout);
    listed.json_for(&root.join("old"));
}

#[test]
fn each_key_can_be_replaced_and_so_can_all() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let authority = keys.join("system_trusted_keys/system_trusted_key.crt");
    let module = directory.path().join("module.ko");
    fs::write(&module, b"\x7fELF module").unwrap();
    run(args!["sign", "--appended", "--keys", keys, module]).exits(0);
    let old_module = key_id(&keys, "modsign_keys/modsign_key.der");

    for (role, file) in [("evm", "evm_keys/x509_evm"), ("modsign", "modsign_keys/modsign_key")] {
        let old = key_id(&keys, &format!("{file}.der"));
        rotate(&keys, &["--no-passphrase", "--role", role, "--algorithm", "p-384"]).exits(0);
        let new = run(args!["keys", "show", "--json", keys.join(format!("{file}.der"))]).exits(0);
        assert_ne!(new.json()[0]["key_id"], old.as_str());
        assert_eq!(new.json()[0]["algorithm"], "p-384");
        // no kernel trusts the issuer of the module key
        let certificate = keys.join(format!("{file}.crt"));
        assert_eq!(is_issued_by(&certificate, &authority), role == "evm");
    }
    let listed = rotate(&keys, &["--list", "--role", "modsign", module.to_str().unwrap()]).exits(0);
    let line = listed.json_for(&module);
    assert_eq!(
        (&line["affected_by"], &line["key_id"]),
        (&"appended-key".into(), &old_module.into())
    );
    run(args!["verify", "--appended", "--keys", keys, module]).exits(0);

    let old_authority = fs::read(&authority).unwrap();
    rotate(&keys, &["--no-passphrase", "--role", "all"]).exits(0);
    assert_ne!(fs::read(&authority).unwrap(), old_authority);
    for file in ["ima_keys/x509_ima.crt", "evm_keys/x509_evm.crt"] {
        assert!(is_issued_by(&keys.join(file), &authority));
    }
    run(args!["keys", "check", keys]).exits(0);
}

#[test]
fn both_certificates_go_into_an_initramfs() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let old = key_id(&keys, "ima_keys/x509_ima.der");
    rotate(&keys, &["--no-passphrase"]).exits(0);
    let (image, init) = (directory.path().join("image"), directory.path().join("init"));
    fs::write(&init, crate::initramfs::elf(62, None)).unwrap();
    let create = args!["initramfs", "create", "--compress", "none", "--keys", keys, "--init", init];
    finish(imactl().args(create).arg("-o").arg(&image)).exits(0);
    let Some(mut cpio) = tool("cpio") else { return };
    let listed = finish(cpio.arg("-t").arg("-F").arg(&image)).exits(0).stdout;
    for name in ["etc/keys/x509_ima.der".to_owned(), format!("etc/keys/x509_ima_{old}.der")] {
        assert!(listed.lines().any(|line| line == name), "{listed}");
    }

    // Linux 6.1 has no P-521, and imactl-init would stop the boot at such a certificate
    rotate(&keys, &["--no-passphrase", "--algorithm", "p-521"]).exits(0);
    let foreign = key_id(&keys, "ima_keys/x509_ima.der");
    rotate(&keys, &["--no-passphrase", "--algorithm", "p-256"]).exits(0);
    for (kernel, is_left_out) in [("6.1", true), ("6.12", false)] {
        let create = args!["initramfs", "create", "--kernel", kernel, "--compress", "none"];
        let rest = args!["--keys", keys, "--init", init, "-o", image];
        let warned = finish(imactl().args(create).args(rest)).exits(0).stderr;
        let words =
            format!("the earlier certificate {foreign} is left out: .ima of Linux {kernel}");
        assert_eq!(warned.contains(&words), is_left_out, "{warned}");
        let listed = finish(tool("cpio").unwrap().arg("-t").arg("-F").arg(&image)).exits(0).stdout;
        assert_eq!(!listed.contains(&foreign), is_left_out, "{listed}");
        assert!(listed.contains(&old), "{listed}");
    }
}

#[test]
fn a_store_that_cannot_be_rotated_stays_as_it_was() {
    let directory = directory();
    let keys: PathBuf = directory.path().join("keys");
    let secret = directory.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    run(args!["keys", "create", "--algorithm", "p-256", "--passphrase-file", secret, keys])
        .exits(0);
    let before = key_id(&keys, "ima_keys/x509_ima.der");
    let wrong = directory.path().join("wrong");
    fs::write(&wrong, "wrong\n").unwrap();
    rotate(&keys, &["--passphrase-file", wrong.to_str().unwrap()]).exits(2);
    rotate(&keys, &["--list", secret.to_str().unwrap()]).exits(2);
    assert_eq!(key_id(&keys, "ima_keys/x509_ima.der"), before);
    rotate(&keys, &["--passphrase-file", secret.to_str().unwrap()]).exits(0);
    let key = fs::read_to_string(keys.join("ima_keys/x509_ima.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED"), "{key}");

    let moved = directory.path().join("moved.key");
    fs::rename(keys.join("ima_keys/x509_ima.key"), &moved).unwrap();
    let elsewhere = rotate(&keys, &["--passphrase-file", secret.to_str().unwrap()]).exits(2);
    assert!(elsewhere.stdout.contains("imactl keys certify"), "{}", elsewhere.stdout);
    assert_eq!(names(&keys.join("ima_keys")).len(), 5);
}
