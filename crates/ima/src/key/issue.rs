//! Certificates that the kernel's keyrings accept.

use std::path::Path;

use ima_format::hash::HashAlgorithm;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509Builder, X509Name, X509NameBuilder, X509};

use super::certificate::{Certificate, SAMPLE_MARK};
use super::private::{AskPassphrase, PrivateKey};
use super::store::{Role, StoreError};
use super::{KeyType, PublicKey};
use crate::advice::Advice;

/// The content of a certificate.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The hash algorithm of its signature: SHA-256, SHA-384 or SHA-512.
    pub hash: HashAlgorithm,
    /// Its validity in days.
    pub days: u32,
    /// The subject's organization.
    pub organization: String,
    /// The prefix of the subject's common name, before the role.
    pub common_name: String,
    /// The purpose of the key.
    pub purpose: Purpose,
}

/// The purpose of new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For products.
    Production,
    /// For development: marked in each certificate, and by a file.
    Sample,
}

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Certificates cannot be signed with this hash algorithm.
    #[error("{0}: certificates are signed with sha256, sha384 or sha512")]
    Hash(HashAlgorithm),
    /// A subject that does not fit in X.509, such as a name of more than 64 characters.
    #[error("{field} {value:?} does not fit a certificate: {source}")]
    Subject {
        /// `organization` or `common name`.
        field: &'static str,
        /// The requested value.
        value: String,
        /// OpenSSL's error.
        source: ErrorStack,
    },
    /// The key is neither RSA, nor ECDSA on a curve of the kernel, nor ML-DSA.
    #[error("the kernel cannot verify files with a {0} key")]
    Unsuitable(KeyType),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl Advice for IssueError {}

/// A CA, with its key and its certificate.
#[derive(Debug)]
pub struct Authority {
    pub(super) key: PKey<Private>,
    pub(super) certificate: Certificate,
}

impl Authority {
    /// The CA of a store whose certificate is built into the kernel: the system trusted key.
    pub fn read(store: &Path, ask: &mut AskPassphrase<'_>) -> Result<Self, StoreError> {
        let [key, certificate] =
            ["key", "crt"].map(|extension| Role::SystemTrusted.path(store, extension));
        let issuer = Certificate::read_all(&certificate)?.into_iter().next();
        let private = PrivateKey::read(&key, ask)?;
        match issuer {
            Some(issuer) if issuer.public_key().is(private.public_key()) => {
                Ok(Self { key: private.into_key(), certificate: issuer })
            }
            _ => Err(StoreError::Mismatch { key, certificate }),
        }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Certifies a key that signs files; its private half may be anywhere.
    pub fn certify(&self, key: &PublicKey, profile: &Profile) -> Result<Certificate, IssueError> {
        match key.key_type() {
            key_type if key_type.verifiable_over(HashAlgorithm::Sha256) => {
                issue(profile, Holder::Role(Role::Ima), key.pkey(), Issuer::Authority(self))
            }
            key_type => Err(IssueError::Unsuitable(key_type)),
        }
    }
}

/// The holder of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Role(Role),
    /// The CA of the module key, which is not in a store or a kernel.
    ModuleAuthority,
}

impl Holder {
    fn name(self) -> &'static str {
        match self {
            Self::Role(Role::SystemTrusted) => "system trusted key",
            Self::Role(Role::SecondaryTrusted) => "secondary trusted key",
            Self::Role(Role::Modsign) => "module signing key",
            Self::Role(Role::Ima) => "IMA signing key",
            Self::Role(Role::Evm) => "EVM signing key",
            Self::ModuleAuthority => "module CA",
        }
    }

    fn is_authority(self) -> bool {
        !matches!(self, Self::Role(Role::Modsign | Role::Ima | Role::Evm))
    }
}

/// The issuer of a certificate.
pub(super) enum Issuer<'a> {
    /// Its own key.
    Itself(&'a PKeyRef<Private>),
    /// A CA.
    Authority(&'a Authority),
}

/// Issues the certificate of `key`.
pub(super) fn issue<T: HasPublic>(
    profile: &Profile,
    holder: Holder,
    key: &PKeyRef<T>,
    issuer: Issuer<'_>,
) -> Result<Certificate, IssueError> {
    let digest = match profile.hash {
        HashAlgorithm::Sha256 => MessageDigest::sha256(),
        HashAlgorithm::Sha384 => MessageDigest::sha384(),
        HashAlgorithm::Sha512 => MessageDigest::sha512(),
        other => return Err(IssueError::Hash(other)),
    };
    let subject = subject(profile, holder)?;
    let (signing_key, authority) = match issuer {
        Issuer::Itself(key) => (key, None),
        Issuer::Authority(Authority { key, certificate }) => (&**key, Some(certificate)),
    };
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*random_serial()?)?;
    builder.set_subject_name(&subject)?;
    match authority {
        Some(issuer) => builder.set_issuer_name(issuer.x509().subject_name())?,
        None => builder.set_issuer_name(&subject)?,
    }
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(profile.days)?)?;
    builder.set_pubkey(key)?;
    extend(&mut builder, holder, authority)?;
    let digest = match KeyType::of(signing_key) {
        // ML-DSA signs the certificate itself, not a digest
        KeyType::MlDsa(_) => MessageDigest::null(),
        _ => digest,
    };
    builder.sign(signing_key, digest)?;
    Ok(Certificate::new(builder.build())?)
}

fn extend(
    builder: &mut X509Builder,
    holder: Holder,
    issuer: Option<&Certificate>,
) -> Result<(), ErrorStack> {
    let mut constraints = BasicConstraints::new();
    let mut usage = KeyUsage::new();
    if holder.is_authority() {
        constraints.ca();
        usage.key_cert_sign().crl_sign();
    } else {
        usage.digital_signature();
    }
    builder.append_extension(constraints.critical().build()?)?;
    builder.append_extension(usage.critical().build()?)?;
    if !holder.is_authority() {
        builder.append_extension(ExtendedKeyUsage::new().code_signing().build()?)?;
    }
    let context = builder.x509v3_context(issuer.map(|issuer| &**issuer.x509()), None);
    let subject_key = SubjectKeyIdentifier::new().build(&context)?;
    builder.append_extension(subject_key)?;
    // added after the subject's identifier, from which that of a self-signed certificate is copied
    let context = builder.x509v3_context(issuer.map(|issuer| &**issuer.x509()), None);
    let authority_key = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
    builder.append_extension(authority_key)
}

fn subject(profile: &Profile, holder: Holder) -> Result<X509Name, IssueError> {
    let organization = match profile.purpose {
        Purpose::Production => profile.organization.clone(),
        Purpose::Sample => format!("{}: {SAMPLE_MARK}", profile.organization),
    };
    let common_name = format!("{} {}", profile.common_name, holder.name());
    let mut name = X509NameBuilder::new()?;
    for (field, nid, value) in [
        ("organization", Nid::ORGANIZATIONNAME, organization),
        ("common name", Nid::COMMONNAME, common_name),
    ] {
        name.append_entry_by_nid(nid, &value).map_err(|source| IssueError::Subject {
            field,
            value,
            source,
        })?;
    }
    Ok(name.build())
}

/// 127 random bits: positive, and unique in practice (RFC 5280, 4.1.2.2).
fn random_serial() -> Result<Asn1Integer, ErrorStack> {
    let mut number = BigNum::new()?;
    number.rand(127, MsbOption::MAYBE_ZERO, false)?;
    number.to_asn1_integer()
}
