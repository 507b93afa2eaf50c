//! Keys in tokens: SoftHSM's, made by pkcs11-tool; and tokens that behave worse, by a module
//! in front of SoftHSM's (`token/shim.c`).

mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::*;
use tempfile::TempDir;

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
];
const PIN: &str = "1234";
/// The keys on the token: label, CKA_ID, and what pkcs11-tool calls them.
const KEYS: [(&str, &str, &str); 5] = [
    ("rsa-2048", "01", "rsa:2048"),
    ("rsa-3072", "02", "rsa:3072"),
    ("p-256", "03", "EC:secp256r1"),
    ("p-384", "04", "EC:secp384r1"),
    ("p-521", "05", "EC:secp521r1"),
];

/// A token of a test's own, and files to sign.
struct Token {
    directory: TempDir,
    /// What imactl uses.
    module: PathBuf,
    /// What pkcs11-tool uses.
    softhsm: PathBuf,
    environment: BTreeMap<&'static str, OsString>,
}

/// The token that every test gets a copy of: keys take their time.
fn original() -> Option<&'static (TempDir, PathBuf)> {
    static TOKEN: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let make = || {
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
        if module.is_none() {
            missing("SoftHSM is not installed");
        }
        let (module, mut util) = (module?, tool("softhsm2-util")?);
        tool("pkcs11-tool")?;
        let directory = directory();
        configure(directory.path());
        util.env("SOFTHSM2_CONF", directory.path().join("softhsm2.conf"));
        util.args(["--init-token", "--free", "--label", "Vault", "--so-pin", "12345678"]);
        finish(util.args(["--pin", PIN])).exits(0);
        let token = Token::new(directory, module);
        for (label, id, kind) in KEYS {
            token.tool(&["--keypairgen", "--key-type", kind, "--label", label, "--id", id]);
        }
        Some((token.directory, token.softhsm))
    };
    TOKEN.get_or_init(make).as_ref()
}

fn configure(directory: &Path) {
    let tokens = directory.join("tokens");
    fs::create_dir_all(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    fs::write(directory.join("softhsm2.conf"), text).unwrap();
}

/// A token with [`KEYS`] and a tree of files; `None`, said loudly, without SoftHSM.
fn token() -> Option<Token> {
    let (original, module) = original()?;
    let directory = directory();
    configure(directory.path());
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(original.path().join("tokens")).arg(directory.path());
    finish(&mut copy).exits(0);
    let files: Vec<_> = (0..40).map(|n| (format!("files/{n:02}"), format!("file {n}"))).collect();
    let files: Vec<_> =
        files.iter().map(|(path, content)| (path.as_str(), content.as_bytes())).collect();
    write_tree(directory.path(), &files);
    Some(Token::new(directory, module.clone()))
}

impl Token {
    fn new(directory: TempDir, softhsm: PathBuf) -> Self {
        Self { directory, module: softhsm.clone(), softhsm, environment: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A URI of something on it.
    fn uri(&self, attributes: &str) -> String {
        format!("pkcs11:token=Vault;{attributes}?module-path={}", self.module.display())
    }

    /// Runs imactl with the PIN in the environment variable PIN.
    fn imactl(&self, args: impl IntoIterator<Item = OsString>) -> Run {
        let mut command = imactl();
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).env("PIN", PIN);
        command.env_remove("PKCS11_MODULE_PATH").envs(&self.environment);
        finish(command.args(args))
    }

    /// Signs the tree, detached.
    fn sign(&self, uri: &str, more: &[&str]) -> Run {
        let args = args!["sign", "--detached", "--passphrase-env", "PIN", "--key", uri];
        let more = more.iter().map(OsString::from);
        self.imactl(args.into_iter().chain(more).chain([self.path("files").into()]))
    }

    /// Runs pkcs11-tool on the token itself, logged in.
    #[track_caller]
    fn tool(&self, args: &[&str]) -> Run {
        let mut tool = tool("pkcs11-tool").unwrap();
        tool.env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        tool.arg("--module").arg(&self.softhsm);
        finish(tool.args(["--token-label", "Vault", "--login", "--pin", PIN]).args(args)).exits(0)
    }

    /// A CA, made when it is first asked for.
    fn authority(&self) -> PathBuf {
        let authority = self.path("authority");
        if !authority.exists() {
            run(args![
                "keys",
                "create",
                "-q",
                "--no-passphrase",
                "--algorithm",
                "p-256",
                authority
            ])
            .exits(0);
        }
        authority
    }

    /// A key's certificate, issued by the CA: without a login.
    fn certificate(&self, label: &str) -> PathBuf {
        let path = self.path(&format!("{label}.der"));
        if !path.exists() {
            let (uri, keys) = (self.uri(&format!("object={label}")), self.authority());
            let args = args!["keys", "certify", "--keys", keys, uri, "--output", path];
            self.imactl(args).exits(0);
        }
        path
    }

    /// A key's public half, in a file, PEM.
    fn public_key(&self, label: &str) -> PathBuf {
        let certificate = self.certificate(label);
        let pem = openssl(args!["x509", "-inform", "DER", "-in", certificate, "-noout", "-pubkey"]);
        let path = self.path(&format!("{label}.pem"));
        fs::write(&path, pem.stdout).unwrap();
        path
    }

    /// A certificate for a key, issued by openssl, with this Subject Key Identifier.
    fn certificate_with(&self, label: &str, identifier: &str) -> PathBuf {
        let (public, path) = (self.public_key(label), self.path(&format!("{identifier}.crt")));
        let extensions = self.path("extensions");
        let usage = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n";
        fs::write(&extensions, format!("{usage}subjectKeyIdentifier={identifier}\n")).unwrap();
        let system = self.authority().join("system_trusted_keys/system_trusted_key");
        let mut args =
            args!["x509", "-new", "-force_pubkey", public, "-subj", "/CN=signer"].to_vec();
        args.extend(args!["-CA", system.with_extension("crt")]);
        args.extend(args!["-CAkey", system.with_extension("key"), "-extfile", extensions]);
        args.extend(args!["-outform", "DER", "-out", path]);
        openssl(args);
        path
    }

    /// Puts the shim in front of SoftHSM, set like this.
    fn behaves(&mut self, settings: &[(&'static str, &str)]) {
        self.module = shim().to_owned();
        self.environment.insert("SHIM_MODULE", self.softhsm.clone().into());
        self.environment.insert("SHIM_LOG", self.path("log").into());
        self.environment.extend(settings.iter().map(|(name, value)| (*name, value.into())));
    }

    /// What the shim noted.
    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How many files bear a signature.
    fn signatures(&self) -> usize {
        let entries = fs::read_dir(self.path("files")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "sig")).count()
    }
}

/// The shim, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let compile = || {
        let directory = directory();
        let library = directory.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/token/shim.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).args([&library, &source]);
        finish(cc.arg("-ldl")).exits(0);
        (directory, library)
    };
    &SHIM.get_or_init(compile).1
}

#[track_caller]
fn openssl(args: impl IntoIterator<Item = OsString>) -> Run {
    finish(tool("openssl").expect("openssl").args(args)).exits(0)
}

/// The key id in a detached signature.
fn key_id(file: &Path) -> String {
    let attribute = fs::read(file.with_extension("sig")).unwrap();
    attribute[3..7].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn openssl_accepts_what_a_token_signs() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    for (label, _, kind) in KEYS {
        let public = token.public_key(label);
        let mut hashes = vec!["sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256"];
        if kind.starts_with("rsa") {
            hashes.push("sha3-512");
        }
        for hash in hashes {
            token.sign(&token.uri(&format!("object={label}")), &["--hash", hash]).exits(0);
            let signature = token.path("signature");
            fs::write(&signature, &fs::read(file.with_extension("sig")).unwrap()[9..]).unwrap();
            openssl(args![
                "dgst",
                format!("-{hash}"),
                "-verify",
                public,
                "-signature",
                signature,
                file
            ]);
        }
    }
}

#[test]
fn evmctl_and_imactl_accept_what_a_token_signs() {
    let Some(token) = token() else { return };
    let files = token.path("files");
    if !security_attributes(&files) || tool("evmctl").is_none() {
        return;
    }
    for (label, ..) in KEYS {
        let certificate = token.certificate(label);
        let uri = token.uri(&format!("object={label};type=private"));
        let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, files];
        token.imactl(args).exits(0);
        run(args!["verify", "--cert", certificate, files]).exits(0);
        let mut evmctl = tool("evmctl").unwrap();
        evmctl.args(["ima_verify", "-k"]).arg(&certificate).arg(files.join("07"));
        let verified = finish(&mut evmctl);
        let said = verified.stdout + &verified.stderr;
        assert!(said.contains("verification is OK"), "{label}: {said}");
    }
}

#[test]
fn an_rsa_signature_is_the_same_from_a_token_and_from_a_file() {
    let Some(token) = token() else { return };
    let key = token.path("imported.pem");
    openssl(args!["genrsa", "-out", key, "2048"]);
    let der = token.path("imported.der");
    openssl(args!["rsa", "-in", key, "-outform", "DER", "-traditional", "-out", der]);
    let text = der.to_str().unwrap();
    let import = ["--write-object", text, "--type", "privkey", "--label", "imported", "--id", "77"];
    token.tool(&import);
    let file = token.path("files/00");
    run(args!["sign", "--detached", "--key", key, file]).exits(0);
    let from_file = fs::read(file.with_extension("sig")).unwrap();
    // there is no public key object: the private one tells
    token.sign(&token.uri("object=imported"), &[]).exits(0);
    assert_eq!(fs::read(file.with_extension("sig")).unwrap(), from_file);
}

#[test]
fn the_key_id_is_the_certificates() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    let uri = token.uri("object=p-256");
    let own = token.certificate_with("p-256", "01020304a1b2c3d4");
    token.sign(&uri, &[]).exits(0);
    let from_key = key_id(&file);
    token.sign(&uri, &["--keyid", "cafe0001"]).exits(0);
    assert_eq!(key_id(&file), "cafe0001");
    token.sign(&uri, &["--cert", own.to_str().unwrap()]).exits(0);
    assert_eq!(key_id(&file), "a1b2c3d4");
    assert_ne!(from_key, "a1b2c3d4");

    // another key's certificate is not taken, neither given nor under the same CKA_ID
    let other = token.certificate_with("p-384", "0badc0de");
    let refused = token.sign(&uri, &["--cert", other.to_str().unwrap()]).exits(2);
    assert!(refused.stderr.contains("--cert must certify --key"), "{}", refused.stderr);
    let put = |path: &Path, id: &str| {
        let path = path.to_str().unwrap();
        token.tool(&["--write-object", path, "--type", "cert", "--label", "cert", "--id", id]);
    };
    put(&other, "03");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), from_key);
    // the key's own is, also under another CKA_ID
    put(&own, "99");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), "a1b2c3d4");
    // and where the CKA_ID tells which of two it is, that one
    let renewed = token.certificate_with("p-256", "0102030455667788");
    put(&renewed, "98");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("key ids: 55667788, a1b2c3d4"), "{}", refused.stderr);
    put(&renewed, "03");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(key_id(&file), "55667788");
}

#[test]
fn a_key_whose_public_half_is_not_on_the_token_needs_its_certificate() {
    let Some(token) = token() else { return };
    let certificate = token.certificate("p-256");
    let stranger = token.certificate("p-384");
    token.tool(&["--delete-object", "--type", "pubkey", "--label", "p-256"]);
    let uri = token.uri("object=p-256");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("--cert"), "{}", refused.stderr);
    token.sign(&uri, &["--cert", certificate.to_str().unwrap()]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
    // a wrong one is found out by the first signature
    let refused = token.sign(&uri, &["--cert", stranger.to_str().unwrap()]).exits(2);
    assert!(refused.stderr.contains("no signature by this key"), "{}", refused.stderr);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
}

#[test]
fn what_does_not_fit_is_told() {
    let Some(mut token) = token() else { return };
    let module = format!("?module-path={}", token.module.display());
    let refuses = |uri: &str, reasons: &[&str]| {
        let refused = token.sign(uri, &[]).exits(2);
        for reason in reasons {
            assert!(refused.stderr.contains(reason), "{uri}: {reason}:\n{}", refused.stderr);
        }
        assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    };
    refuses(&format!("pkcs11:token=Other{module}"), &["no such token", "token=Vault;serial="]);
    refuses(&format!("pkcs11:token=Vault{module}"), &["5 private keys fit", "object=rsa-3072"]);
    refuses(&format!("pkcs11:object=other{module}"), &["no such private key", "object=p-384"]);
    refuses(&format!("pkcs11:id=%09{module}"), &["no such private key", "id=%04"]);
    refuses(&format!("pkcs11:object=p-256;type=cert{module}"), &["type cert does not sign"]);
    refuses(&format!("pkcs11:library-version=99{module}"), &["no such token"]);
    refuses("pkcs11:token=Vault?module-path=/nonexistent.so", &["/nonexistent.so"]);
    refuses("pkcs11:token=Vault?module-path=libc.so.6", &["libc.so.6", "no PKCS#11 module"]);
    refuses("pkcs11:token=Vault?module-name=nonexistent", &["libnonexistent.so"]);
    refuses("pkcs11:token=my token", &["offset 15", "%20"]);
    // without p11-kit there is no module but one that is named
    let broken = token.path("libraries");
    write_tree(&broken, &[("p11-kit-proxy.so", b"no library")]);
    token.environment.insert("LD_LIBRARY_PATH", broken.into());
    let refused = token.sign("pkcs11:token=Vault;object=p-256", &[]).exits(2);
    assert!(refused.stderr.contains("p11-kit is not there"), "{}", refused.stderr);
    assert!(refused.stderr.contains("module-path="), "{}", refused.stderr);
    token.environment.remove("LD_LIBRARY_PATH");
    // a second token of the same name
    let mut util = tool("softhsm2-util").unwrap();
    util.env("SOFTHSM2_CONF", token.path("softhsm2.conf"));
    util.args(["--init-token", "--free", "--label", "Vault", "--so-pin", "12345678"]);
    finish(util.args(["--pin", PIN])).exits(0);
    let uri = token.uri("object=p-256");
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("2 tokens fit"), "{}", refused.stderr);
    assert_eq!(token.signatures(), 0);
    // the serial number tells them apart, whatever the module's name
    let serial = original().map(|(directory, _)| serial_in(directory.path())).unwrap();
    let directory = token.module.parent().unwrap().display().to_string();
    let by_name =
        format!("pkcs11:serial={serial};object=p-256?module-path={directory}&module-name=softhsm2");
    token.sign(&by_name, &[]).exits(0);
    token.environment.insert("PKCS11_MODULE_PATH", token.module.clone().into());
    token.sign(&format!("pkcs11:serial={serial};id=%03"), &[]).exits(0);
}

/// The serial number of the only token in a SoftHSM's directory.
fn serial_in(directory: &Path) -> String {
    let mut util = tool("softhsm2-util").unwrap();
    util.env("SOFTHSM2_CONF", directory.join("softhsm2.conf")).arg("--show-slots");
    let slots = finish(&mut util).exits(0).stdout;
    let lines = slots.lines().filter_map(|line| line.trim().strip_prefix("Serial number:"));
    lines.map(str::trim).find(|serial| !serial.is_empty()).unwrap().to_owned()
}

#[test]
fn p11_kit_knows_where_the_token_is() {
    let Some(token) = token() else { return };
    if !Path::new("/usr/share/p11-kit/modules/softhsm2.module").exists() {
        return missing("p11-kit does not know SoftHSM");
    }
    token.sign("pkcs11:token=Vault;object=p-256", &[]).exits(0);
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let Some(mut token) = token() else { return };
    token.behaves(&[]);
    let uri = token.uri("object=p-256");
    token.environment.insert("PIN", "4321".into());
    let refused = token.sign(&uri, &["--jobs", "4"]).exits(2);
    assert!(refused.stderr.contains("tried once"), "{}", refused.stderr);
    assert_eq!(token.log(), "login with a PIN\n");
    assert_eq!(token.signatures(), 0);
    for secret in ["4321", PIN] {
        assert!(!refused.stderr.contains(secret), "{}", refused.stderr);
    }
    // one that was tried before is no obstacle; the last try is, unless somebody types it
    token.environment.remove("PIN");
    token.sign(&uri, &[]).exits(0);
    assert_eq!(token.log(), "login with a PIN\n".repeat(2));
    token.environment.insert("SHIM_FLAGS", "0x20000".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("one wrong PIN more locks it"), "{}", refused.stderr);
    token.environment.insert("SHIM_FLAGS", "0x40000".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("PIN is locked"), "{}", refused.stderr);
    assert_eq!(token.log(), "login with a PIN\n".repeat(2), "neither was tried");
}

#[test]
fn a_pin_comes_from_anywhere_but_the_command_line() {
    let Some(token) = token() else { return };
    let file = token.path("files/00");
    let pin = token.path("pin");
    fs::write(&pin, format!("{PIN}\n")).unwrap();
    let uri = token.uri("object=p-256");
    let sign = |more: &[OsString], uri: &str| {
        let args = args!["sign", "--detached", "--key", uri, file];
        token.imactl(args.iter().chain(more).cloned())
    };
    sign(&args!["--passphrase-file", pin], &uri).exits(0);
    sign(&[], &format!("{uri}&pin-source=file:{}", pin.display())).exits(0);
    sign(&[], &format!("{uri}&pin-source={}", pin.display())).exits(0);
    // an option is nearer than the URI
    sign(&args!["--passphrase-file", pin], &format!("{uri}&pin-source=/nonexistent")).exits(0);
    let refused = sign(&[], &format!("{uri}&pin-source=/nonexistent")).exits(2);
    assert!(refused.stderr.contains("pin-source /nonexistent"), "{}", refused.stderr);
    let refused = sign(&[], &format!("{uri}&pin-value={PIN}")).exits(2);
    assert!(refused.stderr.contains("pin-source=file:"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(PIN), "{}", refused.stderr);
    // no terminal, no PIN
    let mut setsid = tool("setsid").expect("setsid");
    setsid.env("SOFTHSM2_CONF", token.path("softhsm2.conf"));
    setsid.arg("--wait").arg(imactl().get_program());
    let refused = finish(setsid.args(args!["sign", "--detached", "--key", uri, file])).exits(2);
    assert!(refused.stderr.contains("--passphrase-file"), "{}", refused.stderr);
}

#[test]
fn a_token_that_goes_away_loses_nothing() {
    let Some(mut token) = token() else { return };
    let certificate = token.certificate("p-256");
    token.behaves(&[("SHIM_REMOVED_AFTER", "13")]);
    let uri = token.uri("object=p-256");
    for jobs in ["1", "3"] {
        run(args!["clear", "--detached", token.path("files")]).exits(0);
        let signed = token.sign(&uri, &["--jobs", jobs]).exits(2);
        // told once for each thread that met it, not for each file
        let told = signed.stderr.matches("CKR_DEVICE_REMOVED").count();
        assert!((1..=3).contains(&told), "{}", signed.stderr);
        assert!(signed.stderr.contains("hint: what was signed so far is good"));
        // one of the 13 was the trial before the first file
        assert_eq!(token.signatures(), 12, "{}", signed.stdout);
        assert!(signed.stdout.contains("signed 12 files"), "{}", signed.stdout);
        assert!(signed.stdout.contains("28 files not signed"), "{}", signed.stdout);
    }
    // nothing is half written, nothing left behind
    let files = token.path("files");
    assert_eq!(fs::read_dir(&files).unwrap().count(), 40 + 12);
    let verified = run(args!["verify", "--json", "--detached", "--cert", certificate, files]);
    let valid = verified.json().iter().filter(|line| line["verdict"] == "valid").count();
    assert_eq!(valid, 12);

    // every file has its line in JSON, and the run can be finished
    token.environment.insert("SHIM_REMOVED_AFTER", "10".into());
    let signed = token.sign(&uri, &["--json", "--changed"]).exits(2);
    let lines = signed.json();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("file"), of("error"), of("summary")), (12 + 9, 19, 1), "{}", signed.stdout);
    token.environment.remove("SHIM_REMOVED_AFTER");
    token.sign(&uri, &["--changed"]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, files]).exits(0);
}

#[test]
fn a_softhsm_that_loses_its_files_is_told() {
    let Some(token) = token() else { return };
    fs::remove_dir_all(token.path("tokens")).unwrap();
    fs::create_dir(token.path("tokens")).unwrap();
    let refused = token.sign(&token.uri("object=p-256"), &[]).exits(2);
    assert!(refused.stderr.contains("no such token; there is none"), "{}", refused.stderr);
}

#[test]
fn tokens_that_limit_sessions_serve_the_threads_in_turn() {
    let Some(mut token) = token() else { return };
    let certificate = token.certificate("p-256");
    token.behaves(&[]);
    let uri = token.uri("object=p-256");
    for settings in [("SHIM_SESSIONS", "1"), ("SHIM_SESSIONS", "3"), ("SHIM_CANT_LOCK", "1")] {
        token.environment.insert(settings.0, settings.1.into());
        run(args!["clear", "--detached", token.path("files")]).exits(0);
        token.sign(&uri, &["--jobs", "8"]).exits(0);
        run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
        token.environment.remove(settings.0);
    }
    token.environment.insert("SHIM_SESSIONS", "0".into());
    let refused = token.sign(&uri, &[]).exits(2);
    assert!(refused.stderr.contains("C_OpenSession: CKR_SESSION_COUNT"), "{}", refused.stderr);
}

#[test]
fn a_pin_pad_is_left_to_ask() {
    let Some(mut token) = token() else { return };
    token.behaves(&[("SHIM_PIN_PAD", PIN)]);
    let uri = token.uri("object=p-256");
    let signed = token.imactl(args!["sign", "--detached", "--key", uri, token.path("files")]);
    assert!(signed.exits(0).stderr.contains("at the device"));
    assert_eq!(token.log(), "login at the device\n");
    // a PIN that is given all the same is passed on
    token.sign(&uri, &[]).exits(0);
    assert_eq!(token.log(), "login at the device\nlogin with a PIN\n");
}

#[test]
fn a_key_that_wants_the_pin_for_each_signature_gets_it() {
    let Some(mut token) = token() else { return };
    let make = ["--keypairgen", "--key-type", "EC:secp256r1", "--label", "always", "--id", "06"];
    token.tool(&[&make[..], &["--always-auth"]].concat());
    let certificate = token.certificate("always");
    token.behaves(&[]);
    token.sign(&token.uri("object=always"), &["--jobs", "4"]).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, token.path("files")]).exits(0);
    // the token's, the trial's, and one for each file
    assert_eq!(token.log().lines().count(), 1 + 1 + 40);
}

#[test]
fn a_signature_that_is_none_is_not_written() {
    let Some(mut token) = token() else { return };
    token.behaves(&[("SHIM_WRONG", "1")]);
    for label in ["p-256", "rsa-2048"] {
        let refused = token.sign(&token.uri(&format!("object={label}")), &[]).exits(2);
        assert!(refused.stderr.contains("no signature by this key"), "{}", refused.stderr);
        assert_eq!(token.signatures(), 0);
    }
}

#[test]
fn policies_are_signed_by_a_token_too() {
    let Some(token) = token() else { return };
    let (policy, certificate) = (token.path("policy"), token.certificate("rsa-2048"));
    fs::write(&policy, "appraise func=BPRM_CHECK appraise_type=imasig\n").unwrap();
    let uri = token.uri("object=rsa-2048");
    let args =
        args!["policy", "sign", "--detached", "--passphrase-env", "PIN", "--key", uri, policy];
    token.imactl(args).exits(0);
    run(args!["verify", "--detached", "--cert", certificate, policy]).exits(0);
}

#[test]
fn a_tokens_key_is_certified_for_the_kernel() {
    let Some(token) = token() else { return };
    let authority = token.authority();
    let system = authority.join("system_trusted_keys/system_trusted_key.crt");
    for (label, ..) in KEYS {
        let certificate = token.certificate(label);
        let pem = token.path("certificate.pem");
        openssl(args!["x509", "-inform", "DER", "-in", certificate, "-out", pem]);
        openssl(args!["verify", "-x509_strict", "-CAfile", system, pem]);
        let checked = run(args!["keys", "check", "--json", certificate, system]).exits(0);
        let names = checked.json().iter().map(|line| line["name"].clone()).collect::<Vec<_>>();
        let expected = if label == "p-521" { vec!["newer-kernel"] } else { vec![] };
        assert_eq!(names, expected, "{label}");
    }
    let again = args!["keys", "certify", "--keys", authority, token.uri("object=p-256"), "-o"];
    let again = again.into_iter().chain([token.certificate("p-256").into()]);
    assert!(token.imactl(again).exits(2).stderr.contains("is there already"));
    // a bare public key, a request and a certificate will do as well, and PEM
    let (key, request) = (token.path("rsa.key"), token.path("rsa.csr"));
    let subject = args!["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"];
    openssl(subject.into_iter().chain(args!["-keyout", key, "-out", request]));
    let to = token.path("certified.pem");
    for from in [&token.public_key("p-384"), &request, &token.certificate("p-384")] {
        run(args!["keys", "certify", "--keys", authority, from, "--output", to]).exits(0);
        openssl(args!["verify", "-x509_strict", "-CAfile", system, to]);
        fs::remove_file(&to).unwrap();
    }
    let refused = run(args!["keys", "certify", "--keys", authority, key, "-o", to]).exits(2);
    assert!(refused.stderr.contains("no public key"), "{}", refused.stderr);
    let der = token.path("rsa.der");
    openssl(args!["req", "-in", request, "-outform", "DER", "-out", der]);
    let mut tampered = fs::read(&der).unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(&der, tampered).unwrap();
    let refused = run(args!["keys", "certify", "--keys", authority, der, "-o", to]).exits(2);
    assert!(refused.stderr.contains("not signed by its own key"), "{}", refused.stderr);
    assert!(!to.exists());
}

#[test]
fn what_is_on_a_token_is_shown() {
    let Some(token) = token() else { return };
    let certificate = token.certificate("p-256");
    let text = certificate.to_str().unwrap();
    token.tool(&["--write-object", text, "--type", "cert", "--label", "p-256", "--id", "03"]);
    token.tool(&["--delete-object", "--type", "pubkey", "--label", "p-384"]);
    let uri = format!("pkcs11:token=Vault?module-path={}", token.module.display());
    let args = args!["keys", "show", "--passphrase-env", "PIN", uri];
    let shown = token.imactl(args.iter().cloned().chain(args!["--json"])).exits(0);
    let lines = shown.json();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("key"), of("certificate")), (5, 1), "{}", shown.stdout);
    for line in lines.iter().filter(|line| line["type"] == "key") {
        let path = line["path"].as_str().unwrap();
        let expected = KEYS.iter().find(|(label, ..)| path.contains(&format!("object={label};")));
        let (label, id, _) = expected.unwrap();
        assert!(path.contains(&format!("id=%{id};type=private")), "{path}");
        let algorithm = Some(*label).filter(|label| *label != "p-384");
        assert_eq!(line["algorithm"].as_str(), algorithm);
    }
    let text = token.imactl(args).exits(0).stdout;
    assert!(text.contains("p-384") && text.contains("its public half is not there"), "{text}");
}

#[test]
fn packages_archives_and_images_are_signed_by_a_token() {
    let Some(mut token) = token() else { return };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_6.rpm");
    let (rpm, tar, image) = (token.path("p.rpm"), token.path("a.tar"), token.path("i.ext4"));
    fs::copy(package, &rpm).unwrap();
    let (Some(mut pack), Some(mut mke2fs)) = (tool("tar"), tool("mke2fs")) else { return };
    finish(pack.arg("-C").arg(token.path("files")).arg("-cf").arg(&tar).arg(".")).exits(0);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(token.path("files"));
    finish(mke2fs.arg(&image).arg("8M")).exits(0);
    for label in ["rsa-2048", "p-256"] {
        let certificate = token.certificate(label);
        for container in [&rpm, &tar, &image] {
            let uri = token.uri(&format!("object={label}"));
            let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, container];
            token.imactl(args).exits(0);
            run(args!["verify", "--cert", certificate, container]).exits(0);
        }
    }
    // a token that goes away midway: an error, and what was there stays
    token.behaves(&[("SHIM_REMOVED_AFTER", "1")]);
    for container in [&rpm, &tar, &image] {
        let before = fs::read(container).unwrap();
        let uri = token.uri("object=p-256");
        let args = args!["sign", "--passphrase-env", "PIN", "--key", uri, container];
        let signed = token.imactl(args).exits(2);
        let told = signed.stderr.contains("CKR_DEVICE_REMOVED");
        assert!(told, "{}: {}", container.display(), signed.stderr);
        assert!(fs::read(container).unwrap() == before);
    }
}
