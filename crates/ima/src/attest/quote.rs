//! Quotes: values of PCRs signed by a TPM.
//!
//! The same checks as `tpm2_checkquote`: the attestation key signs `TPMS_ATTEST`, which has the nonce of the
//! challenger and a digest of the values.

use std::fmt;
use std::path::{Path, PathBuf};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::hex::Hex;
use ima_format::measure::{PcrValue, PcrValues};
use ima_format::tpm::{self, Curve, PublicArea, Scheme, Signature};
use ima_format::Error as FormatError;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};

use crate::advice::Advice;
use crate::digest::{openssl_digest, DigestError, Hasher};
use crate::input::{self, ReadError, KEY_MAX};
use crate::key::{PublicKey, PublicKeyError};

/// Why a quote could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file does not have the expected structure.
    #[error("{}: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The offset and the fault.
        error: FormatError,
    },
    /// The file is not a public key.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    /// OpenSSL rejects the key: a point that is not on its curve.
    #[error("{}: invalid public key: {source}", path.display())]
    InvalidKey {
        /// The file.
        path: PathBuf,
        /// OpenSSL's error.
        source: ErrorStack,
    },
    /// A digest cannot be computed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Advice for QuoteError {}

/// A quote and its signature, in the format of `tpm2_quote`.
#[derive(Debug)]
pub struct SignedQuote {
    attested: Vec<u8>,
    attested_path: PathBuf,
    signature: Vec<u8>,
    signature_path: PathBuf,
}

/// An attestation key.
#[derive(Debug)]
pub struct AttestationKey {
    key: PKey<Public>,
    /// Whether the TPM signs only its own structures with it; `None` for a PEM file, which does not have this.
    restricted: Option<bool>,
}

/// The result of checking a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Why it proves nothing; empty if it is valid.
    pub faults: Vec<QuoteFault>,
    /// The values that it covers. It does not prove any others.
    pub values: PcrValues,
    /// The algorithm of the signature and of the digest over the values.
    pub algorithm: HashAlgorithm,
    /// The number of resets of the TPM: a different number than in an earlier quote is a different boot. For keys
    /// outside the endorsement hierarchy, a TPM adds a secret number.
    pub resets: u32,
    /// The number of resumes since the reset.
    pub restarts: u32,
    /// The clock of the TPM in milliseconds.
    pub clock: u64,
}

/// Why a quote proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuoteFault {
    /// The signature is not by the key.
    Signature,
    /// The key also signs data that the TPM did not create.
    NotRestricted,
    /// The nonce differs: it may be an old quote.
    Nonce(Vec<u8>),
    /// The value of a PCR that it covers is not given.
    NotGiven {
        /// The bank.
        bank: HashAlgorithm,
        /// The PCR.
        pcr: u32,
    },
    /// It covers other values.
    Values,
}

impl QuoteFault {
    /// The name of the fault in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::NotRestricted => "not-restricted",
            Self::Nonce(_) => "nonce",
            Self::NotGiven { .. } => "not-given",
            Self::Values => "values",
        }
    }
}

impl fmt::Display for QuoteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("not signed by the key"),
            Self::NotRestricted => {
                f.write_str("the key is not a restricted signing key: it also signs a forged quote")
            }
            Self::Nonce(found) if found.is_empty() => {
                f.write_str("no nonce in it: it may be an old one")
            }
            Self::Nonce(found) => write!(f, "its nonce is {}: it may be an old one", Hex(found)),
            Self::NotGiven { bank, pcr } => {
                write!(f, "it is over {bank} PCR {pcr}, whose value is not given (--pcrs)")
            }
            Self::Values => f.write_str("it is over other PCR values than those given"),
        }
    }
}

impl AttestationKey {
    /// Reads a public key: PEM or DER, or `TPM2B_PUBLIC` as `tpm2_createak -u` writes it.
    ///
    /// # Errors
    /// The file is none of these, or cannot be read.
    pub fn read(path: &Path) -> Result<Self, QuoteError> {
        let content = input::read_path(path, KEY_MAX)?;
        match PublicArea::parse(&content) {
            Ok(area) => {
                let key = from_area(&area)
                    .map_err(|source| QuoteError::InvalidKey { path: path.to_owned(), source })?;
                Ok(Self { key, restricted: Some(area.is_restricted_signing_key()) })
            }
            Err(error) => match PublicKey::read(path) {
                Ok(key) => Ok(Self { key: key.pkey().to_owned(), restricted: None }),
                // a structure of the TPM begins with its size, which is below 512
                Err(_) if content.first() == Some(&0) || content.first() == Some(&1) => {
                    Err(QuoteError::Malformed { path: path.to_owned(), error })
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    fn verifies(&self, signature: &Signature<'_>, message: &[u8]) -> Result<bool, QuoteError> {
        let digest = Hasher::new(signature.algorithm)?.digest(message)?;
        let hash = openssl_digest(signature.algorithm)?;
        let verify = |padding: Option<Padding>, bytes: &[u8]| {
            let mut context = PkeyCtx::new(&self.key)?;
            context.verify_init()?;
            padding.map(|padding| context.set_rsa_padding(padding)).transpose()?;
            context.set_signature_md(&hash)?;
            context.verify(digest.as_bytes(), bytes)
        };
        let verified: Result<bool, ErrorStack> = match (signature.scheme, self.key.id()) {
            (Scheme::RsaSsa(bytes), Id::RSA) => verify(Some(Padding::PKCS1), bytes),
            (Scheme::RsaPss(bytes), Id::RSA) => verify(Some(Padding::PKCS1_PSS), bytes),
            (Scheme::EcDsa { r, s }, Id::EC) => {
                der_signature(r, s).and_then(|bytes| verify(None, &bytes))
            }
            _ => Ok(false),
        };
        // OpenSSL returns an error for a malformed signature
        Ok(verified.unwrap_or(false))
    }
}

fn der_signature(r: &[u8], s: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
    EcdsaSig::from_private_components(r, s)?.to_der()
}

fn from_area(area: &PublicArea<'_>) -> Result<PKey<Public>, ErrorStack> {
    match area.key {
        tpm::PublicKey::Rsa { modulus, exponent } => {
            let modulus = BigNum::from_slice(modulus)?;
            PKey::from_rsa(Rsa::from_public_components(modulus, BigNum::from_u32(exponent)?)?)
        }
        tpm::PublicKey::Ecc { curve, x, y } => {
            let curve = match curve {
                Curve::P256 => Nid::X9_62_PRIME256V1,
                Curve::P384 => Nid::SECP384R1,
                Curve::P521 => Nid::SECP521R1,
            };
            let group = EcGroup::from_curve_name(curve)?;
            let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
            PKey::from_ec_key(EcKey::from_public_key_affine_coordinates(&group, &x, &y)?)
        }
    }
}

impl SignedQuote {
    /// Reads a quote and its signature (`tpm2_quote --message --signature`).
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(quote: &Path, signature: &Path) -> Result<Self, QuoteError> {
        Ok(Self {
            attested: input::read_path(quote, KEY_MAX)?,
            attested_path: quote.to_owned(),
            signature: input::read_path(signature, KEY_MAX)?,
            signature_path: signature.to_owned(),
        })
    }

    /// Checks the quote. Without a nonce, the quote must not have one either.
    ///
    /// # Errors
    /// A file is not a quote or a signature.
    pub fn check(
        &self,
        key: &AttestationKey,
        nonce: &[u8],
        given: &PcrValues,
    ) -> Result<Checked, QuoteError> {
        let malformed = |path: &Path| {
            let path = path.to_owned();
            move |error| QuoteError::Malformed { path, error }
        };
        let signature =
            Signature::parse(&self.signature).map_err(malformed(&self.signature_path))?;
        let quote = tpm::Quote::parse(&self.attested).map_err(malformed(&self.attested_path))?;

        let mut faults = Vec::new();
        if !key.verifies(&signature, &self.attested)? {
            faults.push(QuoteFault::Signature);
        }
        if key.restricted == Some(false) {
            faults.push(QuoteFault::NotRestricted);
        }
        if quote.nonce != nonce {
            faults.push(QuoteFault::Nonce(quote.nonce.to_vec()));
        }
        let mut hasher = Hasher::new(signature.algorithm)?;
        let mut values = PcrValues::default();
        for (bank, pcr) in &quote.selection {
            match given.get(*bank, *pcr) {
                Some(value) => {
                    hasher.update(value.as_bytes())?;
                    // a PCR that is selected twice has the same value
                    let _: Result<(), Digest> = values.add(PcrValue { pcr: *pcr, value: *value });
                }
                None => faults.push(QuoteFault::NotGiven { bank: *bank, pcr: *pcr }),
            }
        }
        let is_given = !faults.iter().any(|fault| matches!(fault, QuoteFault::NotGiven { .. }));
        if is_given && hasher.finish()?.as_bytes() != quote.digest {
            faults.push(QuoteFault::Values);
        }
        let tpm::Quote { resets, restarts, clock, .. } = quote;
        Ok(Checked { faults, values, algorithm: signature.algorithm, resets, restarts, clock })
    }
}
