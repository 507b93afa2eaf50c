//! Broken and unsafe key stores: the findings of `keys check`, and the errors of `sign`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;
use serde_json::Value;

const IMA: &str = "ima_keys/x509_ima";

/// Runs openssl; it must succeed.
#[track_caller]
fn openssl(args: impl IntoIterator<Item = OsString>) -> Run {
    finish(tool("openssl").expect("openssl").args(args)).exits(0)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The findings about paths.
#[track_caller]
fn check(paths: &[&Path], code: i32) -> Vec<Value> {
    let args = args!["keys", "check", "--json"];
    let paths = paths.iter().map(|path| path.as_os_str().to_owned());
    run(args.into_iter().chain(paths)).exits(code).json()
}

/// The findings of one severity, by name.
fn named<'a>(findings: &'a [Value], severity: &str) -> Vec<&'a str> {
    let findings = findings.iter().filter(|finding| finding["severity"] == severity);
    findings.map(|finding| finding["name"].as_str().unwrap()).collect()
}

/// Runs a program without a terminal.
fn without_terminal(args: impl IntoIterator<Item = OsString>) -> Run {
    let mut setsid = tool("setsid").expect("setsid");
    finish(setsid.arg("--wait").arg(imactl().get_program()).args(args))
}

#[test]
fn a_certificate_of_another_ca_is_an_error_in_a_store() {
    let directory = directory();
    let (ours, theirs) = (store(directory.path(), "p-256"), directory.path().join("theirs"));
    fs::rename(&ours, &theirs).unwrap();
    let ours = store(directory.path(), "p-256");
    assert_eq!(named(&check(&[&ours], 0), "error"), [""; 0]);
    for extension in ["key", "crt", "der"] {
        let file = Path::new(IMA).with_extension(extension);
        fs::copy(theirs.join(&file), ours.join(&file)).unwrap();
    }
    let found = check(&[&ours], 1);
    assert_eq!(named(&found, "error"), ["issuer-missing"; 2], "of both forms");
    // the CA of another store does not count, even if that store is given, too
    assert!(named(&check(&[&ours, &theirs], 1), "error").contains(&"issuer-missing"));
    // the issuer of a single certificate may be elsewhere
    let alone = check(&[&ours.join(IMA).with_extension("der")], 0);
    assert_eq!(named(&alone, "note"), ["issuer-missing"]);
}

#[test]
fn a_certificate_of_the_secondary_ca_is_good() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    let authority = store.join("secondary_trusted_keys/secondary_trusted_key");
    let (pem, der) = (store.join("ima_keys/x509_ima.crt"), store.join("ima_keys/x509_ima.der"));
    let mut args =
        args!["req", "-x509", "-new", "-subj", "/CN=x", "-key", pem.with_extension("key")].to_vec();
    args.extend(args!["-CA", authority.with_extension("crt")]);
    args.extend(args!["-CAkey", authority.with_extension("key")]);
    for extension in ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"] {
        args.extend(args!["-addext", extension]);
    }
    args.extend(args!["-days", "90", "-out", pem]);
    openssl(args);
    openssl(args!["x509", "-in", pem, "-outform", "DER", "-out", der]);
    assert_eq!(named(&check(&[&store], 0), "error"), [""; 0]);
}

#[test]
fn the_der_that_the_kernel_loads_is_compared_with_the_key() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    let other = store.join("modsign_keys/modsign_key.der");
    fs::copy(other, store.join("ima_keys/x509_ima.der")).unwrap();
    let found = check(&[&store], 1);
    let mut errors = named(&found, "error");
    errors.sort_unstable();
    assert_eq!(errors, ["certificates-differ", "issuer-missing", "key-mismatch"]);
    let mismatch = found.iter().find(|finding| finding["name"] == "key-mismatch").unwrap();
    assert!(mismatch["message"].as_str().unwrap().ends_with("x509_ima.der"), "{mismatch}");
}

#[test]
fn what_others_can_change_is_an_error() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    for (path, mode, back, name) in [
        ("", 0o777, 0o700, "directory-permissions"),
        ("ima_keys", 0o777, 0o700, "directory-permissions"),
        ("ima_keys", 0o720, 0o700, "directory-permissions"),
        ("ima_keys/x509_ima.key", 0o644, 0o600, "key-permissions"),
        ("ima_keys/x509_ima.key", 0o602, 0o600, "key-permissions"),
    ] {
        chmod(&store.join(path), mode);
        assert_eq!(named(&check(&[&store], 1), "error"), [name], "{path} {mode:o}");
        chmod(&store.join(path), back);
    }
    chmod(&store, 0o755);
    assert_eq!(named(&check(&[&store], 0), "error"), [""; 0], "to be read is no harm");
}

/// The default store: its private keys are encrypted.
fn encrypted(directory: &Path) -> (PathBuf, PathBuf) {
    let (store, secret) = (directory.join("store"), directory.join("secret"));
    fs::write(&secret, "secret\n").unwrap();
    let args = args!["keys", "create", "-q", "--algorithm", "p-256", "--passphrase-file", secret];
    run(args.into_iter().chain([store.clone().into()])).exits(0);
    (store, secret)
}

#[test]
fn keys_that_are_not_opened_are_a_note() {
    let directory = directory();
    let (store, secret) = encrypted(directory.path());
    let checked = without_terminal(args!["keys", "check", "--json", store]).exits(0).json();
    assert_eq!(named(&checked, "note"), ["not-opened"; 5]);
    assert_eq!(checked.len(), 5, "{checked:?}");
    let shown = without_terminal(args!["keys", "show", store]).exits(0);
    assert_eq!(shown.stdout.matches("encrypted, not opened").count(), 5, "{}", shown.stdout);
    // everything that needs no passphrase is checked
    chmod(&store.join("ima_keys/x509_ima.key"), 0o644);
    let checked = without_terminal(args!["keys", "check", "--json", store]).exits(1).json();
    assert_eq!(named(&checked, "error"), ["key-permissions"]);
    chmod(&store.join("ima_keys/x509_ima.key"), 0o600);

    let with = |extra: &[OsString]| {
        let args = args!["keys", "check", "--json", store];
        without_terminal(args.into_iter().chain(extra.iter().cloned()))
    };
    assert!(with(&args!["--passphrase-file", secret]).exits(0).stdout.is_empty());
    fs::write(&secret, "wrong\n").unwrap();
    let wrong = with(&args!["--passphrase-file", secret]).exits(1).json();
    assert_eq!(named(&wrong, "error"), ["wrong-passphrase"; 5]);
    let unset = with(&args!["--passphrase-env", "UNSET_VARIABLE"]).exits(2);
    assert!(unset.stderr.contains("the variable is not set"), "{}", unset.stderr);
    let script = "\"$@\" 3<<END\nsecret\nEND\n";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(imactl().get_program());
    let once = finish(shell.args(args!["keys", "check", "--passphrase-fd", "3", store])).exits(0);
    assert_eq!(once.stdout, "nothing wrong\n", "a descriptor is read once");
}

#[test]
fn what_is_not_there_is_a_failure_and_not_a_finding() {
    let directory = directory();
    let nope = directory.path().join("nope");
    for verb in ["check", "show"] {
        let ran = run(args!["keys", verb, nope]).exits(2);
        assert!(ran.stderr.contains("No such file"), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("No such file").count(), 1, "{}", ran.stderr);
        let line = run(args!["keys", verb, "--json", nope]).exits(2).json().remove(0);
        assert_eq!(line["type"], "error");
    }
}

#[test]
fn keys_that_kernels_do_not_take_are_found_and_told() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let file = path("file");
    fs::write(&file, b"content").unwrap();
    for (algorithm, option, name, said) in [
        ("RSA", "rsa_keygen_bits:1024", "weak-key", "too short to be safe"),
        ("RSA", "rsa_keygen_bits:2560", "unsupported-key-size", "the kernel accepts 2048, 3072"),
        ("RSA", "rsa_keygen_bits:5120", "unsupported-key-size", "the kernel accepts 2048, 3072"),
        ("EC", "ec_paramgen_curve:P-192", "weak-key", "too short to be safe"),
    ] {
        let key = path(&option.replace(':', "-"));
        openssl(args!["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", key]);
        chmod(&key, 0o600);
        assert_eq!(named(&check(&[&key], 1), "error"), [name], "{option}");
        let signed = run(args!["sign", "--detached", "--key", key, file]).exits(0);
        assert!(signed.stderr.starts_with("warning: "), "{}", signed.stderr);
        assert_eq!(signed.stderr.matches(said).count(), 1, "{}", signed.stderr);
    }
    let store = store(directory.path(), "p-521");
    let signed = run(args!["sign", "--detached", "--keys", store, file]).exits(0);
    assert!(signed.stderr.contains("note: P-521: only Linux 6.10"), "{}", signed.stderr);
    let quiet = run(args!["sign", "-q", "--detached", "--keys", store, file]).exits(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_store_that_is_closed_to_us_is_not_taken_for_none() {
    let directory = directory();
    let (store, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    let Some(mut setpriv) = tool("setpriv") else { return };
    if !security_attributes(directory.path()) {
        return;
    }
    chmod(&store, 0o000);
    let mut denied = |mode| {
        chmod(&store, mode);
        setpriv = tool("setpriv").unwrap();
        setpriv.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
        setpriv.arg(imactl().get_program()).args(args!["sign", "--keys", store, file]);
        finish(&mut setpriv).exits(2).stderr
    };
    // a directory that cannot be listed, and one that can only be listed
    for mode in [0o000, 0o400] {
        let said = denied(mode);
        assert!(said.contains("Permission denied"), "{said}");
        assert!(said.contains("hint: only the owner can read a key store"), "{said}");
    }
    chmod(&store, 0o700);
}

#[test]
fn a_module_key_that_could_sign_programs_is_a_warning() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    assert_eq!(named(&check(&[&store], 0), "warning"), ["key-not-encrypted"; 5]);
    let [key, crt, der] =
        ["key", "crt", "der"].map(|it| store.join("modsign_keys/modsign_key").with_extension(it));
    let authority = store.join("system_trusted_keys/system_trusted_key");
    for issuer in [Some(authority), None] {
        let args = args!["req", "-x509", "-new", "-key", key, "-subj", "/CN=modules", "-out", crt];
        let mut args = args.to_vec();
        for extension in ["basicConstraints=critical,CA:FALSE", "keyUsage=digitalSignature"] {
            args.extend(args!["-addext", extension]);
        }
        if let Some(issuer) = issuer {
            let (crt, key) = (issuer.with_extension("crt"), issuer.with_extension("key"));
            args.extend(args!["-CA", crt, "-CAkey", key]);
        }
        openssl(args);
        openssl(args!["x509", "-in", crt, "-outform", "DER", "-out", der]);
        let found = check(&[&store], 0);
        let warnings = named(&found, "warning");
        assert!(warnings.contains(&"module-key-signs-files"), "{warnings:?}");
    }
}

/// Usual certificates, and the answers of their keyrings.
#[test]
fn check_says_what_the_keyrings_say() {
    let issued = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/certificate/issued");
    let path = |name: &str| issued.join(name).with_extension("der");
    let authority = path("authority");
    for (name, errors) in [
        ("good", &[][..]),
        ("no-authority-key-identifier", &[]),
        ("serial-and-issuer", &[]),
        ("no-usage", &["signer-usage"]),
        ("authority-and-signer", &["signer-usage"]),
        ("no-subject-key-identifier", &["no-subject-key-identifier"]),
        ("short-identifier", &["no-subject-key-identifier"]),
        ("self-signed", &["self-signed"]),
    ] {
        let found = check(&[&path(name), &authority], i32::from(!errors.is_empty()));
        assert_eq!(named(&found, "error"), errors, "{name}");
    }
    // the same key and name, another serial number
    let renewed = path("authority-renewed");
    let found = check(&[&path("serial-and-issuer"), &renewed], 1);
    assert_eq!(named(&found, "error"), ["issuer-differs"]);
    assert!(check(&[&path("good"), &renewed], 0).is_empty());
    // a certificate for another keyring
    let directory = directory();
    let secondary = directory.path().join("x509_secondary_a.der");
    fs::copy(path("no-usage"), &secondary).unwrap();
    assert!(check(&[&secondary, &authority], 0).is_empty());
    // PEM in a file that must be DER
    let pem = directory.path().join("x509_ima.der");
    openssl(args!["x509", "-inform", "DER", "-in", path("good"), "-out", pem]);
    assert_eq!(named(&check(&[&pem, &authority], 1), "error"), ["not-der"]);
}

/// Only evmctl supports a key that the kernel cannot find.
#[test]
fn a_key_without_an_identifier_is_not_found() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let (key, certificate, file) = (path("key"), path("crt"), path("file"));
    fs::write(&file, b"content").unwrap();
    let usage = ["basicConstraints=critical,CA:FALSE", "keyUsage=digitalSignature"];
    let identifier = |value: &str| {
        let args = args!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"];
        let mut args = args.to_vec();
        let value = format!("subjectKeyIdentifier={value}");
        for extension in usage.into_iter().chain([&value[..]]) {
            args.extend(args!["-addext", extension]);
        }
        args.extend(args!["-keyout", key, "-out", certificate]);
        openssl(args);
        chmod(&key, 0o600);
    };
    for (value, code) in [("hash", 0), ("none", 1), ("010203", 1)] {
        identifier(value);
        let args = args!["sign", "--detached", "--key", key, "--cert", certificate, file];
        let signed = run(args).exits(0).stderr;
        assert_eq!(signed.contains("does not find the key"), code == 1, "{signed}");
        let verified = run(args!["verify", "--detached", "--cert", certificate, file]).exits(code);
        assert_eq!(verified.stdout.contains("unknown key"), code == 1, "{}", verified.stdout);
    }
}
