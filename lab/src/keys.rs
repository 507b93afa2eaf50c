//! Key stores, in the layout of `imactl keys create`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::host;

/// A key algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521; kernels verify it from 6.10 on.
    P521,
}

impl Algorithm {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::P256, Self::P384, Self::P521];

    /// As imactl writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p-256",
            Self::P384 => "p-384",
            Self::P521 => "p-521",
        }
    }

    /// Arguments of `openssl genpkey`.
    fn genpkey(self) -> [&'static str; 4] {
        let (algorithm, option) = match self {
            Self::Rsa2048 => ("RSA", "rsa_keygen_bits:2048"),
            Self::Rsa3072 => ("RSA", "rsa_keygen_bits:3072"),
            Self::Rsa4096 => ("RSA", "rsa_keygen_bits:4096"),
            Self::P256 => ("EC", "ec_paramgen_curve:P-256"),
            Self::P384 => ("EC", "ec_paramgen_curve:P-384"),
            Self::P521 => ("EC", "ec_paramgen_curve:P-521"),
        };
        ["-algorithm", algorithm, "-pkeyopt", option]
    }
}

/// A fresh key store, removed when dropped.
#[derive(Debug)]
pub struct KeyStore {
    directory: TempDir,
}

impl KeyStore {
    /// Makes one, all its keys of one algorithm.
    pub fn create(algorithm: Algorithm) -> Result<Self> {
        let store = Self { directory: tempfile::Builder::new().prefix("lab-keys-").tempdir()? };
        for part in ["system_trusted_keys", "modsign_keys", "ima_keys"] {
            fs::create_dir(store.directory().join(part))?;
        }
        let system = store.directory().join("system_trusted_keys/system_trusted_key");
        generate_key(algorithm, &system.with_extension("key"))?;
        let usage = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        certify(&system, "system trusted key", &usage, None)?;
        for part in ["modsign_keys/modsign_key", "ima_keys/x509_ima"] {
            let path = store.directory().join(part);
            generate_key(algorithm, &path.with_extension("key"))?;
            certify(&path, part, &SIGNER, Some(&system))?;
        }
        Ok(store)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The certificate that a kernel has to trust, DER.
    pub fn system_certificate(&self) -> Result<Vec<u8>> {
        self.read("system_trusted_keys/system_trusted_key.der")
    }

    /// The certificate for `.ima`, DER.
    pub fn ima_certificate(&self) -> Result<Vec<u8>> {
        self.read("ima_keys/x509_ima.der")
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

    /// A certificate for this store's IMA key that only the key itself vouches for, DER.
    pub fn self_signed_ima_certificate(&self) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("self");
        let key = self.directory().join("ima_keys/x509_ima.key");
        fs::copy(key, path.with_extension("key"))?;
        certify(&path, "self-signed", &SIGNER, None)?;
        fs::read(path.with_extension("der")).context("read the self-signed certificate")
    }

    /// Signs files, and all files in directories: sets `security.ima`.
    pub fn sign(&self, paths: &[PathBuf]) -> Result<()> {
        let path = self.directory().join("ima_keys/x509_ima");
        let mut files = paths.to_vec();
        while let Some(file) = files.pop() {
            let kind = fs::symlink_metadata(&file)?.file_type();
            if kind.is_dir() {
                for entry in fs::read_dir(&file)? {
                    files.push(entry?.path());
                }
            }
            if !kind.is_file() {
                continue;
            }
            let mut evmctl = host::command("evmctl", "ima-evm-utils")?;
            evmctl.args(["ima_sign", "--hashalgo", "sha256", "--key"]);
            evmctl.arg(path.with_extension("key")).arg("--keyid-from-cert");
            host::run(evmctl.arg(path.with_extension("der")).arg(file))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.directory().join(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }
}

const SIGNER: [&str; 2] =
    ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"];

fn openssl() -> Result<Command> {
    Ok(host::command("openssl", "openssl")?)
}

fn generate_key(algorithm: Algorithm, path: &Path) -> Result<()> {
    host::run(openssl()?.arg("genpkey").args(algorithm.genpkey()).arg("-out").arg(path)).map(drop)
}

/// Makes `path.crt` and `path.der` for `path.key`, signed by `issuer`'s key or its own.
fn certify(path: &Path, name: &str, extensions: &[&str], issuer: Option<&Path>) -> Result<()> {
    let certificate = path.with_extension("crt");
    let mut request = openssl()?;
    request.args(["req", "-new", "-x509", "-days", "30", "-subj"]);
    request.arg(format!("/O=imactl lab/CN={}", name.replace('/', " ")));
    request.arg("-key").arg(path.with_extension("key")).arg("-out").arg(&certificate);
    for extension in extensions {
        request.args(["-addext", extension]);
    }
    request.args(["-addext", "subjectKeyIdentifier=hash"]);
    request.args(["-addext", "authorityKeyIdentifier=keyid:always"]);
    if let Some(issuer) = issuer {
        request.arg("-CA").arg(issuer.with_extension("crt"));
        request.arg("-CAkey").arg(issuer.with_extension("key"));
    }
    host::run(&mut request)?;
    let mut convert = openssl()?;
    convert.args(["x509", "-outform", "DER", "-in"]).arg(&certificate).arg("-out");
    host::run(convert.arg(path.with_extension("der"))).map(drop)
}
