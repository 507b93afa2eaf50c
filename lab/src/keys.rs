//! Key stores, made by `imactl keys create`, and signing with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub use ima::key::create::KeyAlgorithm as Algorithm;
use tempfile::TempDir;

use crate::{host, programs};

/// The issuer of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// The key whose certificate is built into the kernel.
    System,
    /// The key for `.secondary_trusted_keys`.
    Secondary,
    /// The key for modules, whose certificate is built into the kernel.
    Module,
    /// Its own key: self-signed.
    Itself,
}

/// A key with its certificate, outside of a store.
#[derive(Debug)]
pub struct Signer {
    directory: TempDir,
}

impl Signer {
    fn key(&self) -> PathBuf {
        self.directory.path().join("signer.key")
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> PathBuf {
        self.directory.path().join("signer.crt")
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let mut openssl = host::command("openssl", "openssl")?;
        openssl.args(["x509", "-outform", "DER", "-in"]).arg(self.pem());
        Ok(host::run(&mut openssl)?.stdout)
    }

    /// Signs files.
    pub fn sign(&self, paths: &[PathBuf]) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--key"]).arg(self.key()).arg("--cert").arg(self.pem());
        host::run(sign.arg("--").args(paths)).map(drop)
    }

    /// Adds the EVM signature to a file that the key of a store has signed.
    pub fn sign_evm(&self, store: &Path, path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--evm", "--evm-only", "--keys"]).arg(store);
        sign.arg("--evm-key").arg(self.key()).arg("--evm-cert").arg(self.pem());
        host::run(sign.arg("--").arg(path)).map(drop)
    }
}

/// A key store.
#[derive(Debug)]
pub struct KeyStore {
    directory: PathBuf,
    /// Removed when dropped.
    _temporary: Option<TempDir>,
}

impl KeyStore {
    /// Creates a store with keys of one algorithm, removed when dropped.
    pub fn create(algorithm: Algorithm) -> Result<Self> {
        Self::create_with(algorithm, &[])
    }

    /// Creates a store with further options of `imactl keys create`.
    pub fn create_with(algorithm: Algorithm, options: &[&str]) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("lab-keys-").tempdir()?;
        // imactl creates the directory
        let directory = temporary.path().join("store");
        let mut create = programs::imactl()?;
        create.args(["--quiet", "keys", "create", "--sample", "--algorithm", algorithm.name()]);
        host::run(create.args(options).arg(&directory))?;
        Ok(Self { directory, _temporary: Some(temporary) })
    }

    /// An existing store.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory, _temporary: None }
    }

    /// The directory.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// The certificate that the kernel must trust, DER.
    pub fn system_certificate(&self) -> Result<Vec<u8>> {
        self.read("system_trusted_keys/system_trusted_key.der")
    }

    /// The certificate for `.secondary_trusted_keys`, DER.
    pub fn secondary_certificate(&self) -> Result<Vec<u8>> {
        self.read("secondary_trusted_keys/secondary_trusted_key.der")
    }

    /// The certificate for `.ima`, DER.
    pub fn ima_certificate(&self) -> Result<Vec<u8>> {
        self.read("ima_keys/x509_ima.der")
    }

    /// The certificate for `.evm`, DER.
    pub fn evm_certificate(&self) -> Result<Vec<u8>> {
        self.read("evm_keys/x509_evm.der")
    }

    /// The certificate that verifies module signatures, DER.
    pub fn module_certificate(&self) -> Result<Vec<u8>> {
        self.read("modsign_keys/modsign_key.der")
    }

    /// Key and certificate for signing modules, PEM.
    pub fn module_key(&self) -> (PathBuf, PathBuf) {
        let path = self.directory().join("modsign_keys/modsign_key");
        (path.with_extension("key"), path.with_extension("crt"))
    }

    /// A certificate for this store's module key, issued by the system key, DER.
    pub fn module_certificate_of_the_system_key(&self) -> Result<Vec<u8>> {
        let system = self.directory().join("system_trusted_keys/system_trusted_key");
        let mut openssl = host::command("openssl", "openssl")?;
        openssl.args(["req", "-new", "-x509", "-outform", "DER", "-subj", "/CN=modules"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "keyUsage=critical,digitalSignature"]);
        openssl.args(["-addext", "subjectKeyIdentifier=hash"]);
        openssl.args(["-addext", "authorityKeyIdentifier=keyid:always"]);
        openssl.arg("-key").arg(self.module_key().0);
        openssl.arg("-CA").arg(system.with_extension("crt"));
        openssl.arg("-CAkey").arg(system.with_extension("key"));
        Ok(host::run(&mut openssl)?.stdout)
    }

    /// A self-signed certificate for this store's IMA key, DER.
    pub fn self_signed_ima_certificate(&self) -> Result<Vec<u8>> {
        let mut openssl = host::command("openssl", "openssl")?;
        openssl.args(["req", "-new", "-x509", "-outform", "DER", "-subj", "/CN=self-signed"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "keyUsage=critical,digitalSignature"]);
        openssl.args(["-addext", "subjectKeyIdentifier=hash"]);
        openssl.args(["-addext", "authorityKeyIdentifier=keyid:always"]);
        openssl.arg("-key").arg(self.directory().join("ima_keys/x509_ima.key"));
        Ok(host::run(&mut openssl)?.stdout)
    }

    /// Another IMA signer, with a certificate signed by the store's system or secondary key, or
    /// self-signed.
    pub fn another_signer(&self, name: &str, issuer: Issuer) -> Result<Signer> {
        let signer =
            Signer { directory: tempfile::Builder::new().prefix("lab-signer-").tempdir()? };
        let issuer = match issuer {
            Issuer::System => Some("system_trusted_keys/system_trusted_key"),
            Issuer::Secondary => Some("secondary_trusted_keys/secondary_trusted_key"),
            Issuer::Module => Some("modsign_keys/modsign_key"),
            Issuer::Itself => None,
        };
        let mut openssl = host::command("openssl", "openssl")?;
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]);
        openssl.arg("-subj").arg(format!("/CN={name}"));
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "keyUsage=critical,digitalSignature"]);
        openssl.args(["-addext", "subjectKeyIdentifier=hash"]);
        openssl.args(["-addext", "authorityKeyIdentifier=keyid:always"]);
        if let Some(issuer) = issuer.map(|issuer| self.directory().join(issuer)) {
            openssl.arg("-CA").arg(issuer.with_extension("crt"));
            openssl.arg("-CAkey").arg(issuer.with_extension("key"));
        }
        openssl.arg("-keyout").arg(signer.key()).arg("-out").arg(signer.pem());
        host::run(&mut openssl)?;
        Ok(signer)
    }

    /// Signs files, and all files in directories, with the IMA key.
    pub fn sign(&self, paths: &[PathBuf]) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--keys"]).arg(self.directory()).arg("--");
        host::run(sign.args(paths)).map(drop)
    }

    /// Signs with further options of `imactl sign`.
    pub fn sign_with(&self, options: &[&str], path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign"]).args(options).arg("--keys").arg(self.directory());
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// Writes the revocations of these options into a directory.
    pub fn revoke(&self, options: &[&std::ffi::OsStr], directory: &Path) -> Result<()> {
        let mut revoke = programs::imactl()?;
        revoke.args(["--quiet", "revoke", "--keys"]).arg(self.directory()).args(options);
        host::run(revoke.arg("--output-dir").arg(directory)).map(drop)
    }

    /// Appends a signature by the module key to a file.
    pub fn append(&self, path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--appended", "--keys"]).arg(self.directory());
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// Appends a signature by the IMA key to a file.
    pub fn append_with_ima_key(&self, path: &Path) -> Result<()> {
        let key = self.directory().join("ima_keys/x509_ima");
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--appended", "--key"]).arg(key.with_extension("key"));
        sign.arg("--cert").arg(key.with_extension("der"));
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// Signs a file with the IMA key, using this hash algorithm.
    pub fn sign_over(&self, hash: &str, path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--hash", hash, "--keys"]).arg(self.directory());
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// The same with evmctl, which also uses algorithms that no kernel verifies.
    pub fn sign_with_evmctl(&self, hash: &str, path: &Path) -> Result<()> {
        let mut sign = host::command("evmctl", "ima-evm-utils")?;
        sign.args(["ima_sign", "--hashalgo", hash, "--key"]);
        sign.arg(self.directory().join("ima_keys/x509_ima.key"));
        host::run(sign.arg(path)).map(drop)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.directory().join(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }
}
