//! A token for one test: SoftHSM's, made by pkcs11-tool, and a module (`shim.c`) that forwards to it and injects
//! faults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::*;
use tempfile::TempDir;

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
];
pub(crate) const PIN: &str = "1234";
/// The keys on the token: label, CKA_ID, and the type for pkcs11-tool.
pub(crate) const KEYS: [(&str, &str, &str); 5] = [
    ("rsa-2048", "01", "rsa:2048"),
    ("rsa-3072", "02", "rsa:3072"),
    ("p-256", "03", "EC:secp256r1"),
    ("p-384", "04", "EC:secp384r1"),
    ("p-521", "05", "EC:secp521r1"),
];

/// A token for one test, and files to sign.
pub(crate) struct Token {
    directory: TempDir,
    /// The module for imactl.
    pub(crate) module: PathBuf,
    /// The module for pkcs11-tool.
    softhsm: PathBuf,
    pub(crate) environment: BTreeMap<&'static str, OsString>,
}

/// The token that every test copies, because generating keys takes time.
pub(crate) fn original() -> Option<&'static (TempDir, PathBuf)> {
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

/// A token with [`KEYS`] and a tree of files; `None`, with a message, without SoftHSM.
pub(crate) fn token() -> Option<Token> {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The URI of an object on it.
    pub(crate) fn uri(&self, attributes: &str) -> String {
        format!("pkcs11:token=Vault;{attributes}?module-path={}", self.module.display())
    }

    /// Runs imactl with the PIN in the environment variable PIN.
    pub(crate) fn imactl(&self, args: impl IntoIterator<Item = OsString>) -> Run {
        let mut command = imactl();
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).env("PIN", PIN);
        command.env_remove("PKCS11_MODULE_PATH").envs(&self.environment);
        finish(command.args(args))
    }

    /// Signs the tree with detached signatures.
    pub(crate) fn sign(&self, uri: &str, more: &[&str]) -> Run {
        let args = args!["sign", "--detached", "--passphrase-env", "PIN", "--key", uri];
        let more = more.iter().map(OsString::from);
        self.imactl(args.into_iter().chain(more).chain([self.path("files").into()]))
    }

    /// Runs pkcs11-tool on the token itself, logged in.
    #[track_caller]
    pub(crate) fn tool(&self, args: &[&str]) -> Run {
        let mut tool = tool("pkcs11-tool").unwrap();
        tool.env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        tool.arg("--module").arg(&self.softhsm);
        finish(tool.args(["--token-label", "Vault", "--login", "--pin", PIN]).args(args)).exits(0)
    }

    /// A CA, created on first use.
    pub(crate) fn authority(&self) -> PathBuf {
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

    /// A key's certificate, issued by the CA; needs no login.
    pub(crate) fn certificate(&self, label: &str) -> PathBuf {
        let path = self.path(&format!("{label}.der"));
        if !path.exists() {
            let (uri, keys) = (self.uri(&format!("object={label}")), self.authority());
            let args = args!["keys", "certify", "--keys", keys, uri, "--output", path];
            self.imactl(args).exits(0);
        }
        path
    }

    /// A key's public half, in a PEM file.
    pub(crate) fn public_key(&self, label: &str) -> PathBuf {
        let certificate = self.certificate(label);
        let pem = openssl(args!["x509", "-inform", "DER", "-in", certificate, "-noout", "-pubkey"]);
        let path = self.path(&format!("{label}.pem"));
        fs::write(&path, pem.stdout).unwrap();
        path
    }

    /// A certificate for a key, issued by openssl, with this Subject Key Identifier.
    pub(crate) fn certificate_with(&self, label: &str, identifier: &str) -> PathBuf {
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

    /// Uses the shim in front of SoftHSM, with these settings.
    pub(crate) fn behaves(&mut self, settings: &[(&'static str, &str)]) {
        self.module = shim().to_owned();
        self.environment.insert("SHIM_MODULE", self.softhsm.clone().into());
        self.environment.insert("SHIM_LOG", self.path("log").into());
        self.environment.extend(settings.iter().map(|(name, value)| (*name, value.into())));
    }

    /// The log of the shim.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The number of signed files.
    pub(crate) fn signatures(&self) -> usize {
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
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/token/shim.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).args([&library, &source]);
        finish(cc.arg("-ldl")).exits(0);
        (directory, library)
    };
    &SHIM.get_or_init(compile).1
}

#[track_caller]
pub(crate) fn openssl(args: impl IntoIterator<Item = OsString>) -> Run {
    finish(tool("openssl").expect("openssl").args(args)).exits(0)
}

/// The key ID in a detached signature.
pub(crate) fn key_id(file: &Path) -> String {
    let attribute = fs::read(file.with_extension("sig")).unwrap();
    attribute[3..7].iter().map(|byte| format!("{byte:02x}")).collect()
}
