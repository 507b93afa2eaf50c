//! Certificates in `/etc/keys`: whether the kernel takes them into a keyring.
//!
//! | file | keyring | taken if |
//! |---|---|---|
//! | `x509_ima*.der` | `.ima` | a CA in `.builtin_trusted_keys` or `.secondary_trusted_keys` signed it |
//! | `x509_secondary*.der` | `.secondary_trusted_keys` | a key in one of the two signed it |
//! | others | | it is a certificate |
//!
//! Mirrors `restrict_link_by_signature` in `crypto/asymmetric_keys/restrict.c`, and
//! `x509_cert_parse`, which reads DER alone.

use std::path::Path;

use super::paths::Paths;
use super::purpose::Use;
use super::scan::Scanned;
use crate::key::certificate::Certificate;

/// Certificates that are known beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Authorities<'a> {
    /// The CAs whose keys the kernel has: compiled in, or loaded by the initramfs. None: they
    /// are not known.
    pub trusted: &'a [Certificate],
    /// What is in `.ima`.
    pub ima: &'a [Certificate],
}

/// Why the kernel does not take a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is none, or not in DER.
    NotDer,
    /// There is more in the file.
    Several,
    /// No key that the kernel has signed it.
    Unvouched {
        /// Who is said to have.
        issuer: String,
        /// The keyring that it is for.
        keyring: &'static str,
    },
}

const IMA: &str = ".ima";
const SECONDARY: &str = ".secondary_trusted_keys";

/// The keyring that a certificate is for, by its file's name.
fn keyring(name: &[u8]) -> Option<&'static str> {
    if name.starts_with(b"x509_ima") {
        Some(IMA)
    } else if name.starts_with(b"x509_secondary") {
        Some(SECONDARY)
    } else {
        None
    }
}

/// Judges the certificates among the files that were looked at.
pub(super) fn judge(
    paths: &Paths,
    scanned: &mut [Option<Scanned>],
    authorities: Authorities<'_>,
    content: &mut dyn FnMut(&Path) -> Option<Vec<u8>>,
) {
    let mut found = Vec::new();
    for (number, scanned) in scanned.iter_mut().enumerate() {
        let Some(scanned) = scanned.as_mut().filter(|it| it.purpose == Use::Certificate) else {
            continue;
        };
        let entry = paths.get(number);
        let Some(bytes) = content(&entry.path) else { continue };
        match read(&bytes) {
            Ok(certificate) => found.push((number, keyring(entry.name()), certificate)),
            Err(fault) => scanned.certificate_fault = Some(fault),
        }
    }
    let mut vouching: Vec<Certificate> = authorities.trusted.to_vec();
    if vouching.is_empty() {
        return;
    }
    // in the order of imactl-init: by name, those that vouch before those that they vouch for
    for keyring in [SECONDARY, IMA] {
        for (number, _, certificate) in found.iter().filter(|(_, it, _)| *it == Some(keyring)) {
            let known =
                keyring == IMA && authorities.ima.iter().any(|it| it.der() == certificate.der());
            if known || vouching.iter().any(|issuer| certificate.is_signed_by(issuer)) {
                if keyring == SECONDARY {
                    vouching.push(certificate.clone());
                }
            } else if let Some(Some(scanned)) = scanned.get_mut(*number) {
                let issuer = certificate.issuer();
                scanned.certificate_fault = Some(CertificateFault::Unvouched { issuer, keyring });
            }
        }
    }
}

/// The one certificate in DER that a file has to be.
fn read(bytes: &[u8]) -> Result<Certificate, CertificateFault> {
    let is_der = bytes.first() == Some(&0x30);
    let certificates = Certificate::parse_all(bytes).ok().filter(|_| is_der);
    let mut certificates = certificates.ok_or(CertificateFault::NotDer)?.into_iter();
    match (certificates.next(), certificates.next()) {
        (Some(one), None) if one.der().len() == bytes.len() => Ok(one),
        (Some(_), _) => Err(CertificateFault::Several),
        (None, _) => Err(CertificateFault::NotDer),
    }
}
