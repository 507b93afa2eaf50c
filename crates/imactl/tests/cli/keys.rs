//! Key stores: created, shown, checked; keys read in all usual forms.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::*;

const FILES: [&str; 5] = [
    "system_trusted_keys/system_trusted_key",
    "secondary_trusted_keys/secondary_trusted_key",
    "modsign_keys/modsign_key",
    "ima_keys/x509_ima",
    "evm_keys/x509_evm",
];

/// Runs openssl; it must succeed.
#[track_caller]
fn openssl(args: impl IntoIterator<Item = OsString>) -> Run {
    finish(tool("openssl").expect("openssl").args(args)).exits(0)
}

#[test]
fn a_store_has_the_layout_and_the_permissions() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    for file in FILES {
        let path = store.join(file);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path.with_extension("key")), 0o600);
        let [pem, der] = ["crt", "der"].map(|extension| path.with_extension(extension));
        let from_pem = openssl(args!["x509", "-in", pem, "-fingerprint", "-noout"]).stdout;
        let from_der =
            openssl(args!["x509", "-in", der, "-inform", "DER", "-fingerprint", "-noout"]).stdout;
        assert_eq!(from_pem, from_der);
    }
    assert_eq!(fs::read_dir(&store).unwrap().count(), FILES.len());
    assert_eq!(store.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_chain_is_what_openssl_and_the_kernel_want() {
    let directory = directory();
    let store = store(directory.path(), "rsa-2048");
    let [system, secondary, modsign, ima, evm] =
        FILES.map(|file| store.join(file).with_extension("crt"));
    for certificate in [&secondary, &ima, &evm] {
        openssl(args!["verify", "-x509_strict", "-CAfile", system, certificate]);
    }
    openssl(args!["verify", "-x509_strict", "-CAfile", system, system]);
    // the module certificate has an issuer that no kernel trusts, so .ima rejects it
    let mut verify = tool("openssl").expect("openssl");
    verify.args(args!["verify", "-CAfile", system, "-untrusted", secondary, modsign]);
    assert!(finish(&mut verify).exits(2).stderr.contains("unable to get local issuer certificate"));
    let text = |path: &PathBuf| openssl(args!["x509", "-in", path, "-text", "-noout"]).stdout;
    for certificate in [&system, &secondary] {
        let text = text(certificate);
        for expected in ["CA:TRUE", "Certificate Sign", "Subject Key Id", "Authority Key Id"] {
            assert!(text.contains(expected), "{expected}:\n{text}");
        }
    }
    for certificate in [&modsign, &ima, &evm] {
        let text = text(certificate);
        for expected in ["CA:FALSE", "Digital Signature", "Code Signing", "Authority Key Id"] {
            assert!(text.contains(expected), "{expected}:\n{text}");
        }
    }
    let serials = [&system, &secondary, &modsign, &ima]
        .map(|path| openssl(args!["x509", "-in", path, "-serial", "-noout"]).stdout);
    assert!(serials.iter().collect::<std::collections::HashSet<_>>().len() == 4, "{serials:?}");
    run(args!["keys", "check", "--quiet", store]).exits(0);
}

#[test]
fn the_options_reach_the_certificates() {
    let directory = directory();
    let store = directory.path().join("store");
    let args = args![
        "keys",
        "create",
        "--no-passphrase",
        "--algorithm",
        "p-384",
        "--hash",
        "sha384",
        "--days",
        "42",
        "--organization",
        "ACME",
        "--common-name",
        "Widget",
        store
    ];
    run(args).exits(0);
    let certificate = store.join("ima_keys/x509_ima.crt");
    let text = args!["x509", "-in", certificate, "-text", "-noout", "-nameopt", "RFC2253"];
    let text = openssl(text).stdout;
    for expected in ["ecdsa-with-SHA384", "CN=Widget IMA signing key,O=ACME", "P-384"] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    let shown = run(args!["keys", "show", "--json", certificate]).exits(0).json().remove(0);
    assert!([41, 42].contains(&shown["days_left"].as_i64().unwrap()), "{shown}");
    assert_eq!(shown["algorithm"], "p-384");
    let long = "x".repeat(65);
    let refused = run(args![
        "keys",
        "create",
        "--no-passphrase",
        "--organization",
        long,
        directory.path().join("s2")
    ]);
    assert!(refused.exits(2).stderr.contains("organization"));
    assert!(!directory.path().join("s2").exists());
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    let before = fs::read(store.join("ima_keys/x509_ima.key")).unwrap();
    let again = run(args!["keys", "create", "--no-passphrase", store]).exits(2);
    assert!(again.stderr.contains(": exists"), "{}", again.stderr);
    assert_eq!(fs::read(store.join("ima_keys/x509_ima.key")).unwrap(), before);

    // one of the directories exists: the others are not created
    let partial = directory.path().join("partial");
    fs::create_dir_all(partial.join("modsign_keys")).unwrap();
    run(args!["keys", "create", "--no-passphrase", partial]).exits(2);
    assert_eq!(fs::read_dir(&partial).unwrap().count(), 1);

    // an existing directory with other files is used
    let beside = directory.path().join("beside");
    write_tree(&beside, &[("README", b"mine")]);
    run(args!["keys", "create", "--no-passphrase", beside]).exits(0);
    assert_eq!(fs::read_dir(&beside).unwrap().count(), 1 + FILES.len());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "no staging is left");
}

#[test]
fn a_passphrase_protects_the_keys() {
    let directory = directory();
    let (store, secret) = (directory.path().join("store"), directory.path().join("secret"));
    fs::write(&secret, "correct horse\n").unwrap();
    run(args!["keys", "create", "--passphrase-file", secret, store]).exits(0);
    for file in FILES {
        let pem = fs::read_to_string(store.join(file).with_extension("key")).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{file}: {pem}");
    }
    let key = store.join("ima_keys/x509_ima.key");
    let structure = openssl(args!["asn1parse", "-in", key]).stdout;
    for expected in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"] {
        assert!(structure.contains(expected), "{structure}");
    }
    openssl(args!["pkey", "-in", key, "-passin", "pass:correct horse", "-noout", "-check"]);

    let file = directory.path().join("file");
    fs::write(&file, b"content").unwrap();
    let sign = |extra: &[&str], env: Option<&str>| {
        let mut command = imactl();
        command.args(args!["sign", "--detached", "--keys", store]).args(extra).arg(&file);
        if let Some(value) = env {
            command.env("SECRET", value);
        }
        // no prompt without a terminal
        let mut setsid = tool("setsid").expect("setsid");
        setsid.arg("--wait").arg(command.get_program()).args(command.get_args());
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        finish(&mut setsid)
    };
    sign(&["--passphrase-file", secret.to_str().unwrap()], None).exits(0);
    sign(&["--passphrase-env", "SECRET"], Some("correct horse")).exits(0);
    let wrong = sign(&["--passphrase-env", "SECRET"], Some("wrong")).exits(2);
    assert!(wrong.stderr.contains("does not decrypt"), "{}", wrong.stderr);
    let unset = sign(&["--passphrase-env", "UNSET_VARIABLE"], None).exits(2);
    let said = "passphrase from $UNSET_VARIABLE: the variable is not set";
    assert!(unset.stderr.contains(said), "{}", unset.stderr);
    let none = sign(&[], None).exits(2);
    assert!(none.stderr.contains("hint: give it with --passphrase-file"), "{}", none.stderr);
    let mut shell = tool("sh").unwrap();
    let program = imactl();
    shell.args(["-c", "\"$@\" 3<<END\ncorrect horse\nEND\n", "sh"]).arg(program.get_program());
    shell.args(args!["sign", "--detached", "--keys", store, "--passphrase-fd", "3", file]);
    finish(&mut shell).exits(0);
}

#[test]
fn no_passphrase_must_be_said() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut setsid = tool("setsid").expect("setsid");
    setsid.arg("--wait").arg(imactl().get_program()).args(args!["keys", "create", store]);
    let refused = finish(&mut setsid).exits(2);
    assert!(refused.stderr.contains("--no-passphrase"), "{}", refused.stderr);
    assert!(!store.exists());
}

#[test]
fn sample_keys_say_so_everywhere() {
    let directory = directory();
    let (store, file) = (directory.path().join("store"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    run(args!["keys", "create", "--sample", store]).exits(0);
    assert!(store.join("SAMPLE-KEYS-DO-NOT-SHIP").exists());
    let certificate = store.join("ima_keys/x509_ima.der");
    let shown = run(args!["keys", "show", "--json", certificate]).exits(0).json().remove(0);
    assert_eq!(shown["sample"], true);
    assert!(shown["subject"].as_str().unwrap().contains("SAMPLE, DO NOT SHIP"));
    let key = store.join("ima_keys/x509_ima.key");
    for args in [
        args!["sign", "--detached", "--keys", store, file].to_vec(),
        args!["sign", "--detached", "--key", key, file].to_vec(),
        args!["verify", "--detached", "--cert", certificate, file].to_vec(),
    ] {
        let said = run(&args).code;
        assert!(said == Some(0) || said == Some(1), "{args:?}");
        let said = run(args).stderr;
        assert_eq!(said.matches("do not ship").count(), 1, "{said}");
    }
    let checked = run(args!["keys", "check", "--json", store]).exits(0);
    let samples = checked.json().iter().filter(|line| line["name"] == "sample-key").count();
    assert_eq!(samples, 1, "{}", checked.stdout);
}

#[test]
fn every_form_of_key_is_read() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let file = path("file");
    fs::write(&file, b"content").unwrap();
    openssl(args!["genrsa", "-out", path("rsa.pem"), "2048"]);
    let ec = args!["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("ec.pem")];
    openssl(ec); // SEC 1
    let pass = ["-passout", "pass:secret"];
    for (name, from, extra) in [
        ("traditional", "rsa.pem", &["rsa", "-traditional"][..]),
        ("traditional-3des", "rsa.pem", &["rsa", "-traditional", "-des3"]),
        ("traditional-aes", "rsa.pem", &["rsa", "-traditional", "-aes128"]),
        ("sec1-aes", "ec.pem", &["ec", "-aes256"]),
        ("pkcs8", "rsa.pem", &["pkcs8", "-topk8", "-nocrypt"]),
        ("pkcs8-aes", "ec.pem", &["pkcs8", "-topk8", "-v2", "aes-256-cbc"]),
        ("pkcs8-scrypt", "rsa.pem", &["pkcs8", "-topk8", "-scrypt"]),
        ("der", "rsa.pem", &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"]),
        ("der-pkcs8-ec", "ec.pem", &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"]),
        ("der-pkcs1", "rsa.pem", &["rsa", "-traditional", "-outform", "DER"]),
        ("der-sec1", "ec.pem", &["ec", "-outform", "DER"]),
        ("der-pkcs8-aes", "rsa.pem", &["pkcs8", "-topk8", "-outform", "DER"]),
        ("der-pkcs8-scrypt", "ec.pem", &["pkcs8", "-topk8", "-scrypt", "-outform", "DER"]),
        (
            "der-pkcs8-3des",
            "ec.pem",
            &["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-outform", "DER"],
        ),
    ] {
        let mut args: Vec<OsString> = extra.iter().map(OsString::from).collect();
        args.extend(args!["-in", path(from), "-out", path(name)]);
        args.extend(pass.map(OsString::from));
        openssl(args);
        let mut sign = imactl();
        sign.env("SECRET", "secret");
        sign.args(args!["sign", "--detached", "--passphrase-env", "SECRET"]);
        finish(sign.args(args!["--key", path(name), file])).exits(0);
        let encrypted = ["aes", "3des", "scrypt"].iter().any(|word| name.contains(word));
        let mut wrong = imactl();
        wrong.env("SECRET", "wrong");
        wrong.args(args!["sign", "--detached", "--passphrase-env", "SECRET"]);
        let wrong = finish(wrong.args(args!["--key", path(name), file]));
        match encrypted {
            true => assert!(wrong.exits(2).stderr.contains("does not decrypt"), "{name}"),
            false => drop(wrong.exits(0)),
        }
    }
    // a key and its certificate in one file; the key ID is the certificate's
    openssl(args![
        "req",
        "-x509",
        "-new",
        "-key",
        path("rsa.pem"),
        "-subj",
        "/CN=one",
        "-days",
        "9",
        "-addext",
        "subjectKeyIdentifier=01020304a1b2c3d4",
        "-out",
        path("cert.pem")
    ]);
    let both = [fs::read(path("cert.pem")).unwrap(), fs::read(path("rsa.pem")).unwrap()].concat();
    fs::write(path("both.pem"), both).unwrap();
    let key_id = |extra: &[OsString]| {
        let args = args!["sign", "--json", "--detached"];
        let signed = run(args.iter().chain(extra).chain([&OsString::from(&file)])).exits(0);
        signed.json()[0]["key_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(key_id(&args!["--key", path("both.pem")]), "a1b2c3d4");
    assert_eq!(key_id(&args!["--key", path("rsa.pem"), "--cert", path("cert.pem")]), "a1b2c3d4");
    assert_eq!(key_id(&args!["--key", path("rsa.pem"), "--keyid", "0xcafe0001"]), "cafe0001");
    assert_ne!(key_id(&args!["--key", path("rsa.pem")]), "a1b2c3d4", "the key's own");
    // the signature is valid, but no certificate has the key ID in it
    run(args!["verify", "--detached", "--cert", path("cert.pem"), file]).exits(1);
    run(args!["keys", "show", path("both.pem"), path("rsa.pem")]).exits(0);
}

#[test]
fn unsuitable_keys_are_refused() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let file = path("file");
    fs::write(&file, b"content").unwrap();
    openssl(args!["genpkey", "-algorithm", "ed25519", "-out", path("ed25519.pem")]);
    let curve = args!["ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", path("k1.pem")];
    openssl(curve);
    fs::write(path("text.pem"), "no key at all\n").unwrap();
    for (name, reason) in [
        ("ed25519.pem", "a ed25519 key cannot sign"),
        ("k1.pem", "a ec-secp256k1 key cannot sign"),
        ("text.pem", "no private key found"),
        ("missing.pem", "No such file"),
    ] {
        let signed = run(args!["sign", "--detached", "--key", path(name), file]).exits(2);
        assert!(signed.stderr.contains(reason), "{}", signed.stderr);
    }
    let other = store(directory.path(), "p-256");
    let certificate = other.join("ima_keys/x509_ima.der");
    openssl(args!["genrsa", "-out", path("rsa.pem"), "2048"]);
    let key = path("rsa.pem");
    let signed = run(args!["sign", "--detached", "--key", key, "--cert", certificate, file]);
    assert!(signed.exits(2).stderr.contains("--cert must certify --key"));
}

/// The names of the findings about these files.
#[track_caller]
fn findings(paths: &[&Path], code: i32) -> Vec<String> {
    let args = args!["keys", "check", "--json"];
    let paths = paths.iter().map(|path| path.as_os_str().to_owned());
    let checked = run(args.into_iter().chain(paths)).exits(code);
    checked.json().iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn check_finds_what_is_wrong_with_certificates() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let issue = |bits: &str, extra: &[&str]| {
        let new = format!("rsa:{bits}");
        let args = ["req", "-x509", "-newkey", &new, "-nodes", "-subj", "/CN=x"];
        let mut args: Vec<OsString> = args.iter().chain(extra).map(OsString::from).collect();
        args.extend(args!["-keyout", path("new.key"), "-out", path("new.crt")]);
        openssl(args);
        path("new.crt")
    };
    let usage = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext"];
    let signer = [&usage[..], &["keyUsage=digitalSignature"]].concat();
    let with = |extra: &[&'static str]| [&signer[..], extra].concat();
    for (bits, extra, name) in [
        ("2048", signer.clone(), "self-signed"),
        ("2048", with(&["-sha1"]), "weak-hash"),
        ("2048", with(&["-days", "20"]), "expires-soon"),
        ("2048", with(&["-addext", "subjectKeyIdentifier=none"]), "no-subject-key-identifier"),
        ("2048", [&usage[..], &["keyUsage=keyEncipherment"]].concat(), "signer-usage"),
        ("2048", vec!["-addext", "keyUsage=digitalSignature"], "ca-usage"),
        ("1024", signer.clone(), "weak-key"),
    ] {
        let found = findings(&[&issue(bits, &extra)], 1);
        assert!(found.iter().any(|found| found == name), "{name} in {found:?}");
    }
    fs::write(path("nothing"), b"neither").unwrap();
    assert_eq!(findings(&[&path("nothing")], 1), ["unreadable"]);

    // an impostor of the issuer, with the same identifier
    let store = store(directory.path(), "p-256");
    let certificate = store.join("ima_keys/x509_ima.der");
    assert!(findings(&[&certificate], 0).contains(&"issuer-missing".to_owned()));
    let system = store.join(FILES[0]).with_extension("crt");
    let shown = run(args!["keys", "show", "--json", system]).exits(0).json().remove(0);
    let identifier = shown["subject_key_identifier"].as_str().unwrap();
    let extension = format!("subjectKeyIdentifier={identifier}");
    let impostor = issue("2048", &["-addext", &extension]);
    assert!(findings(&[&certificate, &impostor], 1).contains(&"bad-chain".to_owned()));
}

/// Each certificate is checked for the keyring that its file name indicates.
#[test]
fn check_accepts_the_stores_of_other_layers() {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/key-stores");
    for (name, code, wanted) in [
        // its x509_ima.der has no key usage, which .ima of Linux 6.12 requires; the module key's certificate is
        // self-signed
        ("meta-signing-key-kirkstone", 1, &["signer-usage", "module-key-signs-files"][..]),
        ("meta-signing-key-scarthgap", 0, &["module-key-signs-files"]),
        ("meta-signing-key-wrynose", 0, &["module-key-signs-files"]),
        ("meta-security-kirkstone", 1, &["weak-hash", "weak-key"]),
        ("meta-security-scarthgap", 0, &[]),
        ("meta-security-wrynose", 0, &[]),
    ] {
        let mut found = findings(&[&stores.join(name)], code);
        found.retain(|name| !name.starts_with("expire")); // the oldest one expires in 2027
        assert_eq!(found, wanted, "{name}");
    }
    // separate files, as a build names them
    let store = stores.join("meta-signing-key-wrynose");
    let [system, secondary, modsign] = [
        "system_trusted_keys/system_trusted_key.crt",
        "secondary_trusted_keys/secondary_trusted_key.crt",
        "modsign_keys/modsign_key.crt",
    ]
    .map(|name| store.join(name));
    let ima = store.join("ima_keys/x509_ima.der");
    assert_eq!(findings(&[&system, &secondary, &modsign, &ima], 0), ["module-key-signs-files"]);
    // the same certificate under another name is for another keyring
    let directory = directory();
    let moved = directory.path().join("x509_ima.crt");
    fs::copy(&secondary, &moved).unwrap();
    assert_eq!(findings(&[&system, &moved], 1), ["signer-usage"]);
    fs::copy(&modsign, &moved).unwrap();
    assert_eq!(findings(&[&moved], 1), ["signer-usage"]);
}

#[test]
fn check_finds_what_is_wrong_with_keys() {
    let directory = directory();
    let store = store(directory.path(), "p-256");
    let ima = store.join("ima_keys/x509_ima.key");
    assert_eq!(findings(&[&ima], 0), ["key-not-encrypted"]);
    fs::set_permissions(&ima, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(findings(&[&ima], 1), ["key-permissions", "key-not-encrypted"]);
    fs::copy(store.join("system_trusted_keys/system_trusted_key.key"), &ima).unwrap();
    fs::set_permissions(&ima, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(findings(&[&ima], 1).contains(&"key-mismatch".to_owned()));
    let signed = run(args!["sign", "--detached", "--keys", store, ima]).exits(2);
    assert!(signed.stderr.contains("not the private key of"), "{}", signed.stderr);
}

#[test]
fn check_finds_an_expired_certificate() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let Some(mut faketime) = tool("faketime") else { return };
    faketime.args(["2020-01-01 00:00:00", "openssl", "req", "-x509", "-newkey", "rsa:2048"]);
    faketime.args(["-nodes", "-subj", "/CN=x", "-days", "10"]);
    finish(faketime.args(args!["-keyout", path("k"), "-out", path("c.crt")])).exits(0);
    assert!(findings(&[&path("c.crt")], 1).contains(&"expired".to_owned()));
}
