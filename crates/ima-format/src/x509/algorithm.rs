//! The algorithms of certificates that the kernel knows, by their object identifiers.
//!
//! Mirrors `x509_note_sig_algo()` and `x509_extract_key_data()` of
//! `crypto/asymmetric_keys/x509_cert_parser.c`. For anything else they return `-ENOPKG`.

use crate::der::{Value, Values, OBJECT_IDENTIFIER, SEQUENCE};
use crate::hash::HashAlgorithm;
use crate::Error;

/// How a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSA, PKCS#1 v1.5.
    Rsa(HashAlgorithm),
    /// ECDSA, on any curve.
    Ecdsa(HashAlgorithm),
    /// EC-RDSA.
    EcRdsa(HashAlgorithm),
    /// ML-DSA, which signs the certificate itself.
    MlDsa(MlDsa),
    /// One that no kernel knows.
    Unknown,
}

/// What a certified key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa(Curve),
    /// EC-RDSA.
    EcRdsa,
    /// ML-DSA.
    MlDsa(MlDsa),
    /// One that no kernel knows, or a curve that none does.
    Unknown,
    /// An elliptic curve that is not given by its name, which the kernel cannot read.
    UnnamedCurve,
}

/// The curves of `crypto/ecdsa.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names of FIPS 186
pub enum Curve {
    P192,
    P256,
    P384,
    P521,
}

/// The parameter sets of FIPS 204.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MlDsa {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// 1.2.840.113549.1.1
const PKCS_1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01";
/// 2.16.840.1.101.3.4.3
const NIST: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x03";
/// 1.2.840.10045
const ANSI_X962: &[u8] = b"\x2a\x86\x48\xce\x3d";
/// 1.2.643.7.1.1
const TC26: &[u8] = b"\x2a\x85\x03\x07\x01\x01";
/// 1.3.132.0
const CERTICOM: &[u8] = b"\x2b\x81\x04\x00";

/// Splits an identifier into one of the above and what follows.
fn family(id: &[u8]) -> (&[u8], &[u8]) {
    for prefix in [PKCS_1, NIST, ANSI_X962, TC26, CERTICOM] {
        if let Some(rest) = id.strip_prefix(prefix) {
            return (prefix, rest);
        }
    }
    (&[], id)
}

impl SignatureAlgorithm {
    pub(super) fn of(id: &[u8]) -> Self {
        use HashAlgorithm::*;
        match family(id) {
            // MD2 to MD5: the kernel takes all for MD4
            (PKCS_1, [2..=4]) => Self::Rsa(Md4),
            (PKCS_1, [5]) => Self::Rsa(Sha1),
            (PKCS_1, [11]) => Self::Rsa(Sha256),
            (PKCS_1, [12]) => Self::Rsa(Sha384),
            (PKCS_1, [13]) => Self::Rsa(Sha512),
            (PKCS_1, [14]) => Self::Rsa(Sha224),
            (NIST, [14]) => Self::Rsa(Sha3_256),
            (NIST, [15]) => Self::Rsa(Sha3_384),
            (NIST, [16]) => Self::Rsa(Sha3_512),
            (ANSI_X962, [4, 1]) => Self::Ecdsa(Sha1),
            (ANSI_X962, [4, 3, 1]) => Self::Ecdsa(Sha224),
            (ANSI_X962, [4, 3, 2]) => Self::Ecdsa(Sha256),
            (ANSI_X962, [4, 3, 3]) => Self::Ecdsa(Sha384),
            (ANSI_X962, [4, 3, 4]) => Self::Ecdsa(Sha512),
            (NIST, [10]) => Self::Ecdsa(Sha3_256),
            (NIST, [11]) => Self::Ecdsa(Sha3_384),
            (NIST, [12]) => Self::Ecdsa(Sha3_512),
            (TC26, [3, 2]) => Self::EcRdsa(Streebog256),
            (TC26, [3, 3]) => Self::EcRdsa(Streebog512),
            (NIST, [number]) => MlDsa::of(*number).map_or(Self::Unknown, Self::MlDsa),
            _ => Self::Unknown,
        }
    }

    /// The hash algorithm, where there is one of its own.
    pub fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Self::Rsa(hash) | Self::Ecdsa(hash) | Self::EcRdsa(hash) => Some(hash),
            Self::MlDsa(_) | Self::Unknown => None,
        }
    }
}

impl KeyAlgorithm {
    /// That of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is malformed.
    pub fn of_public_key_info(info: &[u8]) -> Result<Self, Error> {
        let mut fields = Values::new(info).take(SEQUENCE)?.values();
        Self::of(fields.take(SEQUENCE)?)
    }

    /// Reads an AlgorithmIdentifier.
    pub(super) fn of(identifier: Value<'_>) -> Result<Self, Error> {
        let mut fields = identifier.values();
        let id = fields.take(OBJECT_IDENTIFIER)?.content;
        let parameters = if fields.is_empty() { None } else { Some(fields.any()?) };
        fields.end()?;
        let named = parameters.filter(|found| found.tag == OBJECT_IDENTIFIER);
        Ok(match (family(id), named.map(|found| family(found.content))) {
            ((PKCS_1, [1]), _) => Self::Rsa,
            ((TC26, [1, 1 | 2]), _) => Self::EcRdsa,
            ((ANSI_X962, [2, 1]), Some((ANSI_X962, [3, 1, 1]))) => Self::Ecdsa(Curve::P192),
            ((ANSI_X962, [2, 1]), Some((ANSI_X962, [3, 1, 7]))) => Self::Ecdsa(Curve::P256),
            ((ANSI_X962, [2, 1]), Some((CERTICOM, [34]))) => Self::Ecdsa(Curve::P384),
            ((ANSI_X962, [2, 1]), Some((CERTICOM, [35]))) => Self::Ecdsa(Curve::P521),
            ((ANSI_X962, [2, 1]), None) => Self::UnnamedCurve,
            ((NIST, [number]), _) => MlDsa::of(*number).map_or(Self::Unknown, Self::MlDsa),
            _ => Self::Unknown,
        })
    }
}

impl MlDsa {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MlDsa44, Self::MlDsa65, Self::MlDsa87];

    fn of(number: u8) -> Option<Self> {
        match number {
            17 => Some(Self::MlDsa44),
            18 => Some(Self::MlDsa65),
            19 => Some(Self::MlDsa87),
            _ => None,
        }
    }

    /// Its name in small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// The size of a signature, in bytes.
    pub const fn signature_size(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }

    /// Its object identifier, as DER has it.
    pub const fn encoded_identifier(self) -> &'static [u8] {
        match self {
            Self::MlDsa44 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x11",
            Self::MlDsa65 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x12",
            Self::MlDsa87 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x13",
        }
    }

    /// Its object identifier in dots.
    pub const fn object_identifier(self) -> &'static str {
        match self {
            Self::MlDsa44 => "2.16.840.1.101.3.4.3.17",
            Self::MlDsa65 => "2.16.840.1.101.3.4.3.18",
            Self::MlDsa87 => "2.16.840.1.101.3.4.3.19",
        }
    }
}
