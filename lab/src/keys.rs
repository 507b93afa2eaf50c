//! Key stores, as `imactl keys create` makes them, and signing with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub use ima::key::create::KeyAlgorithm as Algorithm;
use tempfile::TempDir;

use crate::{host, programs};

/// Who signs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// The key that is built into the kernel.
    System,
    /// The key for `.secondary_trusted_keys`.
    Secondary,
    /// The key for modules, whose certificate is built into the kernel.
    Module,
    /// Its own key, and nobody else.
    Itself,
}

/// A key with its certificate that is in no store.
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

    /// Makes the EVM signature of a file that a store's key has signed.
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
    /// Makes a fresh one, all its keys of one algorithm, removed when dropped.
    pub fn create(algorithm: Algorithm) -> Result<Self> {
        Self::create_with(algorithm, &[])
    }

    /// The same with these options of imactl.
    pub fn create_with(algorithm: Algorithm, options: &[&str]) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("lab-keys-").tempdir()?;
        // imactl makes the directory itself
        let directory = temporary.path().join("store");
        let mut create = programs::imactl()?;
        create.args(["--quiet", "keys", "create", "--sample", "--algorithm", algorithm.name()]);
        host::run(create.args(options).arg(&directory))?;
        Ok(Self { directory, _temporary: Some(temporary) })
    }

    /// One that somebody made.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory, _temporary: None }
    }

    /// Where it is.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// The certificate that a kernel has to trust, DER.
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

    /// The certificate against which module signatures are checked, DER.
    pub fn module_certificate(&self) -> Result<Vec<u8>> {
        self.read("modsign_keys/modsign_key.der")
    }

    /// Key and certificate for module signatures, PEM.
    pub fn module_key(&self) -> (PathBuf, PathBuf) {
        let path = self.directory().join("modsign_keys/modsign_key");
        (path.with_extension("key"), path.with_extension("crt"))
    }

    /// A certificate for this store's module key that the system key has signed, DER.
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

    /// A certificate for this store's IMA key that only the key itself vouches for, DER.
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

    /// Another IMA signer, its certificate signed by the store's system or secondary key, or
    /// by itself.
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

    /// The same with these options of imactl.
    pub fn sign_with(&self, options: &[&str], path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign"]).args(options).arg("--keys").arg(self.directory());
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// Writes revocations by these options into a directory.
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

    /// The same by the IMA key.
    pub fn append_with_ima_key(&self, path: &Path) -> Result<()> {
        let key = self.directory().join("ima_keys/x509_ima");
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--appended", "--key"]).arg(key.with_extension("key"));
        sign.arg("--cert").arg(key.with_extension("der"));
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// Signs a file over a hash algorithm with the IMA key.
    pub fn sign_over(&self, hash: &str, path: &Path) -> Result<()> {
        let mut sign = programs::imactl()?;
        sign.args(["--quiet", "sign", "--hash", hash, "--keys"]).arg(self.directory());
        host::run(sign.arg("--").arg(path)).map(drop)
    }

    /// The same by evmctl, which signs over what no kernel verifies, too.
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
