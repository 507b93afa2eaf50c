//! The files to check.

use std::path::{Path, PathBuf};

use ima_format::x509::Certificate as Fields;

use super::finding::{Finding, Severity};
use crate::input::{self, KEY_MAX};
use crate::key::acceptance::Refusal;
use crate::key::certificate::{Certificate, CertificateError};
use crate::key::private::{AskPassphrase, PrivateKey, PrivateKeyError};
use crate::key::store::{certificate_files, Role};

/// The content of a file; without a certificate and a key it is a finding.
#[derive(Debug)]
pub struct Material {
    /// The file.
    pub path: PathBuf,
    /// The key store that it was found in.
    pub store: Option<PathBuf>,
    /// The certificates in it.
    pub certificates: Vec<Certificate>,
    /// The private key in it.
    pub key: Option<KeyFile>,
}

/// A private key of a file.
#[derive(Debug)]
pub enum KeyFile {
    /// It was read.
    Open(PrivateKey),
    /// It is encrypted, and there was no passphrase for it.
    Closed,
}

/// Reads the keys and certificates in files and directories (key stores: all four
/// directories; others: the directory itself). Files with neither are findings.
pub fn read(
    paths: &[PathBuf],
    ask: &mut AskPassphrase<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Material> {
    let mut materials = Vec::new();
    for path in paths {
        let mut files = Vec::new();
        let mut store = None;
        match path.is_dir() {
            true => {
                store = is_store(path).then(|| path.clone());
                files_in(path, &mut files, findings);
            }
            false => files.push(path.clone()),
        }
        for file in files {
            let material = read_file(&file, ask, findings);
            materials
                .extend(material.map(|material| Material { store: store.clone(), ..material }));
        }
    }
    materials
}

/// Whether a directory has the layout of a store, and is not one of its directories.
fn is_store(path: &Path) -> bool {
    Role::ALL.iter().any(|role| path.join(role.directory()).is_dir())
}

fn files_in(directory: &Path, files: &mut Vec<PathBuf>, findings: &mut Vec<Finding>) {
    let (before, said) = (files.len(), findings.len());
    let inner = Role::ALL.iter().map(|role| directory.join(role.directory()));
    for directory in inner.filter(|path| path.is_dir()).chain([directory.to_owned()]) {
        match certificate_files(&directory) {
            Ok(found) => files.extend(found),
            Err(error) => findings.push(unreadable(&directory, error.to_string())),
        }
        let keys = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut keys: Vec<_> = keys.map(|entry| entry.path()).collect();
        keys.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
        keys.sort();
        files.extend(keys);
    }
    if files.len() == before && findings.len() == said {
        findings.push(unreadable(directory, "no key or certificate found".to_owned()));
    }
}

fn finding(path: &Path, name: &'static str, message: String, hint: &'static str) -> Finding {
    Finding { path: path.to_owned(), severity: Severity::Error, name, message, hint }
}

fn unreadable(path: &Path, message: String) -> Finding {
    let hint = "give keys and certificates in PEM or DER, or the directory of a key store";
    finding(path, "unreadable", message, hint)
}

fn read_file(
    path: &Path,
    ask: &mut AskPassphrase<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Material> {
    let certificates = match Certificate::read_all(path) {
        Ok(certificates) => certificates,
        Err(CertificateError::NotACertificate { .. }) => Vec::new(),
        Err(CertificateError::Read(error)) => {
            findings.push(unreadable(path, error.source.to_string()));
            return None;
        }
        Err(error) => {
            findings.push(unreadable(path, error.to_string()));
            return None;
        }
    };
    let key = match PrivateKey::read(path, ask) {
        Ok(key) => Some(KeyFile::Open(key)),
        Err(PrivateKeyError::NotAKey { .. }) => None,
        Err(PrivateKeyError::PassphraseNeeded { .. }) => Some(KeyFile::Closed),
        Err(PrivateKeyError::WrongPassphrase { .. }) => {
            let message = "the passphrase does not decrypt the key".to_owned();
            let hint = "check keys with other passphrases in separate runs";
            findings.push(finding(path, "wrong-passphrase", message, hint));
            Some(KeyFile::Closed)
        }
        Err(error) => {
            findings.push(unreadable(path, error.to_string()));
            return None;
        }
    };
    if key.is_none() && certificates.is_empty() {
        findings.push(unreadable(path, "neither a key nor a certificate".to_owned()));
        return None;
    }
    if path.extension().is_some_and(|extension| extension == "der")
        && !certificates.is_empty()
        && input::read_path(path, KEY_MAX).is_ok_and(|content| Fields::parse(&content).is_err())
    {
        let refusal = Refusal::Pem;
        findings.push(finding(path, refusal.name(), refusal.to_string(), refusal.hint()));
    }
    Some(Material { path: path.to_owned(), store: None, certificates, key })
}
