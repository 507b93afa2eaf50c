//! X.509 certificates, as far as the kernel's keyrings depend on them (RFC 5280).
//!
//! Mirrors `crypto/asymmetric_keys/x509_cert_parser.c` (the fields that are parsed), `x509_public_key.c` and
//! `restrict.c` (the conditions for entering a keyring).

use std::fmt;
use std::path::{Path, PathBuf};

use ima_format::hash::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::x509;
pub use ima_format::x509::Usage;
use ima_format::xattr::KeyId;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509NameRef, X509};

use super::PublicKey;
use crate::advice::Advice;
use crate::input::{self, ReadError, KEY_MAX};

/// The end of the organization in the subject of a sample certificate.
pub const SAMPLE_MARK: &str = "SAMPLE, DO NOT SHIP";

/// Why a certificate could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file has no X.509 certificate, neither in PEM nor in DER.
    #[error("{}: no X.509 certificate found (neither PEM nor DER)", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
    },
    /// OpenSSL cannot parse the certificate.
    #[error("{}: OpenSSL: {source}", path.display())]
    OpenSsl {
        /// The file.
        path: PathBuf,
        /// OpenSSL's error.
        source: ErrorStack,
    },
}

impl Advice for CertificateError {}

/// The key IDs by which the kernel finds the key of a certificate for a signature (`asymmetric_key_id_partial`):
/// the last bytes of serial number and issuer, and the last bytes of the subject key identifier, unless it is
/// shorter.
pub fn key_ids(fields: &x509::Certificate<'_>) -> impl Iterator<Item = KeyId> {
    let end = |bytes: &[u8]| match bytes {
        [.., a, b, c, d] => Some(KeyId([*a, *b, *c, *d])),
        _ => None,
    };
    let identified = end(&[fields.serial, fields.issuer_name].concat());
    identified.into_iter().chain(fields.subject_key_identifier.and_then(end))
}

/// A certificate and the fields that the kernel reads.
#[derive(Clone)]
pub struct Certificate {
    x509: X509,
    der: Vec<u8>,
    public: PublicKey,
    usage: Usage,
    key_id: KeyId,
}

impl Certificate {
    /// All certificates of a file: one in DER, or any number in PEM, possibly between keys.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, CertificateError> {
        let content = input::read_path(path, KEY_MAX)?;
        let path = || path.to_owned();
        let certificates = Self::parse_all(&content)
            .map_err(|source| CertificateError::OpenSsl { path: path(), source })?;
        match certificates.is_empty() {
            true => Err(CertificateError::NotACertificate { path: path() }),
            false => Ok(certificates),
        }
    }

    /// All certificates in some bytes; none is not an error.
    pub fn parse_all(content: &[u8]) -> Result<Vec<Self>, ErrorStack> {
        let mut certificates = match X509::from_der(content) {
            Ok(certificate) => vec![certificate],
            Err(_) => Vec::new(),
        };
        if certificates.is_empty() && is_pem(content) {
            certificates = X509::stack_from_pem(content)?;
        }
        certificates.into_iter().map(Self::new).collect()
    }

    pub(super) fn new(x509: X509) -> Result<Self, ErrorStack> {
        let public = PublicKey::of(&*x509.public_key()?)?;
        let key_id = match x509.subject_key_id().map(|identifier| identifier.as_slice()) {
            Some([.., a, b, c, d]) => KeyId([*a, *b, *c, *d]),
            _ => public.default_key_id()?,
        };
        let der = x509.to_der()?;
        // OpenSSL parsed it; if an extension cannot be parsed here, the usage is unknown
        let usage = x509::Certificate::parse(&der).map(|found| found.usage).unwrap_or_default();
        Ok(Self { usage, x509, der, public, key_id })
    }

    /// The certificate in DER, the format for the kernel's keyrings.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.x509.to_pem()
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The last four bytes of the Subject Key Identifier. Without the extension, those of the public key's SHA-1,
    /// which evmctl and imactl use, but not the kernel.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The key IDs by which the kernel finds it, without the one that evmctl computes.
    pub fn kernel_key_ids(&self) -> Vec<KeyId> {
        let fields = x509::Certificate::parse(&self.der);
        fields.map(|fields| key_ids(&fields).collect()).unwrap_or_default()
    }

    /// Whether the kernel finds it for a signature with its [`key_id`](Self::key_id).
    pub fn is_found_by_key_id(&self) -> bool {
        self.kernel_key_ids().contains(&self.key_id)
    }

    /// The Subject Key Identifier.
    pub fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.x509.subject_key_id().map(|identifier| identifier.as_slice())
    }

    /// The key identifier in the Authority Key Identifier, by which the kernel finds the issuer.
    pub fn authority_key_identifier(&self) -> Option<&[u8]> {
        self.x509.authority_key_id().map(|identifier| identifier.as_slice())
    }

    /// Its key usage and basic constraints.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The subject, as `O=..., CN=...`.
    pub fn subject(&self) -> String {
        one_line(self.x509.subject_name())
    }

    /// The issuer, as `O=..., CN=...`.
    pub fn issuer(&self) -> String {
        one_line(self.x509.issuer_name())
    }

    /// The serial number in hexadecimal.
    pub fn serial(&self) -> String {
        let number = self.x509.serial_number().to_bn().and_then(|number| number.to_hex_str());
        number.map(|hex| hex.to_ascii_lowercase()).unwrap_or_default()
    }

    /// The SHA-256 of the DER, in hexadecimal digits.
    pub fn fingerprint(&self) -> Result<String, ErrorStack> {
        let digest = self.x509.digest(MessageDigest::sha256())?;
        Ok(Hex(&digest).to_string())
    }

    /// The start of its validity, as OpenSSL prints it. No keyring of the kernel checks it.
    pub fn not_before(&self) -> &Asn1TimeRef {
        self.x509.not_before()
    }

    /// The end of its validity, as OpenSSL prints it. No keyring of the kernel checks it.
    pub fn not_after(&self) -> &Asn1TimeRef {
        self.x509.not_after()
    }

    /// Days to the end of its validity; negative after it.
    pub fn days_left(&self) -> Result<i32, ErrorStack> {
        let left = Asn1Time::days_from_now(0)?.diff(self.not_after())?;
        Ok(if left.secs < 0 { left.days - 1 } else { left.days })
    }

    /// Whether its validity has begun.
    pub fn is_valid_yet(&self) -> Result<bool, ErrorStack> {
        Ok(Asn1Time::days_from_now(0)? >= *self.not_before())
    }

    /// The hash algorithm of the issuer's signature; `None` if the kernel has no name for it.
    pub fn signature_hash(&self) -> Option<HashAlgorithm> {
        let nid = self.x509.signature_algorithm().object().nid();
        let digest = nid.signature_algorithms()?.digest;
        Some(match digest {
            Nid::MD5 => HashAlgorithm::Md5,
            Nid::SHA1 => HashAlgorithm::Sha1,
            Nid::SHA224 => HashAlgorithm::Sha224,
            Nid::SHA256 => HashAlgorithm::Sha256,
            Nid::SHA384 => HashAlgorithm::Sha384,
            Nid::SHA512 => HashAlgorithm::Sha512,
            Nid::SHA3_256 => HashAlgorithm::Sha3_256,
            Nid::SHA3_384 => HashAlgorithm::Sha3_384,
            Nid::SHA3_512 => HashAlgorithm::Sha3_512,
            _ => return None,
        })
    }

    /// Whether the key of `issuer` made its signature.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        self.x509.verify(issuer.public.pkey()).unwrap_or(false)
    }

    /// Whether its own key made its signature.
    pub fn is_self_signed(&self) -> bool {
        self.is_signed_by(self)
    }

    /// Whether it is a sample for development ([`SAMPLE_MARK`]).
    pub fn is_sample(&self) -> bool {
        let mut organizations = self.x509.subject_name().entries_by_nid(Nid::ORGANIZATIONNAME);
        organizations.any(|entry| {
            let mark = SAMPLE_MARK.as_bytes();
            entry.data().as_slice().ends_with(mark)
        })
    }

    pub(super) fn x509(&self) -> &X509 {
        &self.x509
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.subject(), self.key_id)
    }
}

/// Whether the content has PEM.
pub(super) fn is_pem(content: &[u8]) -> bool {
    const MARK: &[u8] = b"-----BEGIN";
    content.windows(MARK.len()).any(|window| window == MARK)
}

fn one_line(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let field = entry.object().nid().short_name().unwrap_or("?");
        match entry.data().as_utf8() {
            Ok(value) => format!("{field}={value}"),
            Err(_) => format!("{field}={}", Hex(entry.data().as_slice())),
        }
    });
    entries.collect::<Vec<_>>().join(", ")
}
