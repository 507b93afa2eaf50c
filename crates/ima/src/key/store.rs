//! The directory layout of a key store, as in OpenEmbedded.
//!
//! ```text
//! system_trusted_keys/system_trusted_key.{key,crt,der}          the CA, compiled into the kernel
//! secondary_trusted_keys/secondary_trusted_key.{key,crt,der}    a CA that it signed
//! modsign_keys/modsign_key.{key,crt,der}                        signs kernel modules
//! ima_keys/x509_ima.{key,crt,der}                               signs files
//! evm_keys/x509_evm.{key,crt,der}                               signs their metadata
//! ```
//!
//! `.key` is PEM, `.crt` a certificate in PEM, `.der` the same certificate in DER. Keys of earlier
//! generations ([`super::rotate`]) have their key ID in the name: `x509_ima_1a2b3c4d.der`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use ima_format::xattr::KeyId;

use super::certificate::{Certificate, CertificateError};
use super::private::{AskPassphrase, KeySigner, PrivateKey, PrivateKeyError};
use super::Signer;
use crate::advice::Advice;
use crate::input::ReadError;

/// The file that marks a store as a sample.
pub const SAMPLE_FILE: &str = "SAMPLE-KEYS-DO-NOT-SHIP";

/// The purpose of a key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The root of trust: its certificate goes into `.builtin_trusted_keys`.
    SystemTrusted,
    /// A second CA, signed by the first: `.secondary_trusted_keys`.
    SecondaryTrusted,
    /// Signs kernel modules.
    Modsign,
    /// Signs files: `.ima`.
    Ima,
    /// Signs the metadata of files: `.evm`.
    Evm,
}

impl Role {
    /// All roles, issuers first.
    pub const ALL: [Self; 5] =
        [Self::SystemTrusted, Self::SecondaryTrusted, Self::Modsign, Self::Ima, Self::Evm];

    /// The store's directory for it.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::SystemTrusted => "system_trusted_keys",
            Self::SecondaryTrusted => "secondary_trusted_keys",
            Self::Modsign => "modsign_keys",
            Self::Ima => "ima_keys",
            Self::Evm => "evm_keys",
        }
    }

    /// The name of its files without the extension.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::SystemTrusted => "system_trusted_key",
            Self::SecondaryTrusted => "secondary_trusted_key",
            Self::Modsign => "modsign_key",
            Self::Ima => "x509_ima",
            Self::Evm => "x509_evm",
        }
    }

    /// The role of a file by its name, which must be as in a store, or as imactl-init expects it
    /// (`x509_secondary_*.der`).
    pub fn of_file(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        if stem.starts_with("x509_secondary_") {
            return Some(Self::SecondaryTrusted);
        }
        Self::ALL.into_iter().find(|role| match stem.strip_prefix(role.stem()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('_').is_some_and(|id| id.parse::<KeyId>().is_ok()),
            None => false,
        })
    }

    /// The path of one of its files in a store.
    pub fn path(self, store: &Path, extension: &str) -> PathBuf {
        store.join(self.directory()).join(self.stem()).with_extension(extension)
    }
}

/// A key store: a directory in the layout above, or its `ima_keys` directory alone.
#[derive(Debug, Clone)]
pub struct KeyStore {
    ima_keys: PathBuf,
    root: PathBuf,
}

/// Why a key store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory is not a key store.
    #[error("{}: not a key store: neither ima_keys/x509_ima.* nor x509_ima.* found", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// The store does not have such a key.
    #[error("{}: no such key in the store", path.display())]
    NoKey {
        /// The directory of the key.
        path: PathBuf,
    },
    /// The directory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The private key cannot be read.
    #[error(transparent)]
    PrivateKey(#[from] PrivateKeyError),
    /// The private key and the certificate next to it do not match.
    #[error("{}: not the private key of {}", key.display(), certificate.display())]
    Mismatch {
        /// The private key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

impl Advice for StoreError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::PrivateKey(error) => error.advice(),
            Self::Read(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                Some("only the owner can read a key store: run as the owner")
            }
            Self::NoKey { .. } => {
                Some("stores of earlier versions have none: imactl keys create DIR makes all keys")
            }
            Self::Read(error) if error.source.kind() != io::ErrorKind::NotFound => None,
            Self::Read(_) | Self::NotAStore { .. } => Some("create one: imactl keys create DIR"),
            _ => None,
        }
    }
}

impl KeyStore {
    /// Opens a store. `path` may be the store, or its `ima_keys` directory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // a directory that cannot be read is reported as such, not as "not a key store"
        fs::read_dir(path).map_err(ReadError::at(path))?;
        let inner = path.join(Role::Ima.directory());
        for ima_keys in [inner, path.to_owned()] {
            for extension in CERTIFICATE_EXTENSIONS.iter().chain(&["key"]) {
                let file = ima_keys.join(Role::Ima.stem()).with_extension(extension);
                // a directory without permission to search it is an error, not a missing file
                let found = file.try_exists().map_err(ReadError::at(&ima_keys))?;
                if found {
                    return Ok(Self { ima_keys, root: path.to_owned() });
                }
            }
        }
        Err(StoreError::NotAStore { path: path.to_owned() })
    }

    /// The IMA certificates: every certificate in `ima_keys`.
    pub fn ima_certificates(&self) -> Result<Vec<Certificate>, StoreError> {
        Self::certificates(&self.ima_keys)
    }

    /// The EVM certificates: every certificate in `evm_keys`.
    pub fn evm_certificates(&self) -> Result<Vec<Certificate>, StoreError> {
        Self::certificates(&self.evm_keys()?)
    }

    /// The directory of the EVM key: in the store, or next to `ima_keys`.
    fn evm_keys(&self) -> Result<PathBuf, StoreError> {
        let store = self.ima_keys.parent().unwrap_or(&self.root);
        let path = store.join(Role::Evm.directory());
        match path.is_dir() {
            true => Ok(path),
            false => Err(StoreError::NoKey { path }),
        }
    }

    /// The certificate of the key that currently signs.
    ///
    /// # Errors
    /// There is no such certificate, or it cannot be read.
    pub fn current(&self, role: Role) -> Result<Certificate, StoreError> {
        let directory = self.directory(role);
        let file = |extension: &&str| directory.join(role.stem()).with_extension(extension);
        let found = CERTIFICATE_EXTENSIONS.iter().map(file).find(|path| path.exists());
        let path = found.ok_or_else(|| StoreError::NoKey { path: directory.clone() })?;
        let first = Certificate::read_all(&path)?.into_iter().next();
        first.ok_or(StoreError::NoKey { path })
    }

    /// The certificates of earlier generations, which have key IDs in their file names.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn earlier(&self, role: Role) -> Result<Vec<Certificate>, StoreError> {
        let directory = self.directory(role);
        if !directory.is_dir() {
            return Ok(Vec::new());
        }
        let is_earlier = |path: &Path| {
            Role::of_file(path) == Some(role) && path.file_stem() != Some(role.stem().as_ref())
        };
        Self::certificates_in(&directory, is_earlier)
    }

    fn directory(&self, role: Role) -> PathBuf {
        match role {
            Role::Ima => self.ima_keys.clone(),
            _ => self.root.join(role.directory()),
        }
    }

    fn certificates(directory: &Path) -> Result<Vec<Certificate>, StoreError> {
        Self::certificates_in(directory, |_| true)
    }

    /// The certificates in the selected files of a directory.
    fn certificates_in(
        directory: &Path,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Certificate>, StoreError> {
        let mut certificates: Vec<Certificate> = Vec::new();
        let files = certificate_files(directory).map_err(ReadError::at(directory))?;
        for path in files.into_iter().filter(|path| is_wanted(path)) {
            for certificate in Certificate::read_all(&path)? {
                if !certificates.iter().any(|known| known.der() == certificate.der()) {
                    certificates.push(certificate);
                }
            }
        }
        Ok(certificates)
    }

    /// The CAs: the one that is built into the kernel, and the one that it signed.
    pub fn authorities(&self) -> Result<Vec<Certificate>, StoreError> {
        let mut certificates = Vec::new();
        for role in [Role::SystemTrusted, Role::SecondaryTrusted] {
            let directory = self.root.join(role.directory());
            if !directory.is_dir() {
                continue;
            }
            for file in certificate_files(&directory).map_err(ReadError::at(&directory))? {
                certificates.extend(Certificate::read_all(&file)?);
            }
        }
        Ok(certificates)
    }

    /// The IMA signer: the private key, with the key ID of its certificate.
    pub fn ima_signer(&self, ask: &mut AskPassphrase<'_>) -> Result<KeySigner, StoreError> {
        Self::signer(self.ima_keys.join("x509_ima.key"), ask)
    }

    /// The EVM signer.
    pub fn evm_signer(&self, ask: &mut AskPassphrase<'_>) -> Result<KeySigner, StoreError> {
        Self::signer(self.evm_keys()?.join("x509_evm.key"), ask)
    }

    /// The certificates of module keys: every certificate in `modsign_keys`; empty if the store has no such directory.
    pub fn module_certificates(&self) -> Result<Vec<Certificate>, StoreError> {
        let path = self.root.join(Role::Modsign.directory());
        match path.is_dir() {
            true => Self::certificates(&path),
            false => Ok(Vec::new()),
        }
    }

    /// The key that signs modules, and its certificate.
    pub fn module_signer(
        &self,
        ask: &mut AskPassphrase<'_>,
    ) -> Result<(KeySigner, Certificate), StoreError> {
        self.certified_signer(Role::Modsign, ask)
    }

    /// The key whose certificate is built into the kernel, and that certificate.
    pub fn system_trusted_signer(
        &self,
        ask: &mut AskPassphrase<'_>,
    ) -> Result<(KeySigner, Certificate), StoreError> {
        self.certified_signer(Role::SystemTrusted, ask)
    }

    fn certified_signer(
        &self,
        role: Role,
        ask: &mut AskPassphrase<'_>,
    ) -> Result<(KeySigner, Certificate), StoreError> {
        let signer = Self::signer(role.path(&self.root, "key"), ask)?;
        let directory = self.root.join(role.directory());
        let of_signer = |it: &Certificate| it.public_key().is(signer.public_key());
        let certificate = Self::certificates(&directory)?.into_iter().find(of_signer);
        Ok((signer, certificate.ok_or(StoreError::NoKey { path: directory })?))
    }

    fn signer(path: PathBuf, ask: &mut AskPassphrase<'_>) -> Result<KeySigner, StoreError> {
        let key = PrivateKey::read(&path, ask)?;
        let beside = CERTIFICATE_EXTENSIONS
            .iter()
            .map(|extension| path.with_extension(extension))
            .find(|path| path.exists());
        let certificate = match &beside {
            Some(path) => Certificate::read_all(path)?.into_iter().next(),
            None => key.certificate().cloned(),
        };
        let key_id = match certificate {
            Some(certificate) if certificate.public_key().is(key.public_key()) => {
                certificate.key_id()
            }
            Some(_) => {
                return Err(StoreError::Mismatch {
                    key: path.clone(),
                    certificate: beside.unwrap_or(path),
                });
            }
            None => key
                .public_key()
                .default_key_id()
                .map_err(|source| PrivateKeyError::OpenSsl { path, source })?,
        };
        Ok(key.into_signer(key_id)?)
    }

    /// Whether the store is a sample for development.
    pub fn is_sample(&self) -> bool {
        [&self.root, &self.ima_keys].iter().any(|directory| is_sample_directory(directory))
            || self
                .ima_certificates()
                .is_ok_and(|certificates| certificates.iter().any(Certificate::is_sample))
    }
}

/// Whether a directory, or the store that contains it, is marked as a sample.
pub fn is_sample_directory(directory: &Path) -> bool {
    [Some(directory), directory.parent()]
        .into_iter()
        .flatten()
        .any(|directory| directory.join(SAMPLE_FILE).exists())
}

const CERTIFICATE_EXTENSIONS: [&str; 4] = ["der", "crt", "pem", "cer"];

/// The files in a directory that can have certificates, sorted by name.
pub fn certificate_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| CERTIFICATE_EXTENSIONS.contains(&extension))
            && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
