//! Keys that sign or verify, and their stores.
//!
//! | module | content |
//! |---|---|
//! | [`private`] | private keys in files, in all common formats |
//! | [`certificate`] | X.509 certificates, as the kernel sees them |
//! | [`store`] | the directory layout of a key store |
//! | [`create`] | a new chain of keys and certificates |
//! | [`issue`] | certificates of a CA that the kernel trusts |
//! | [`acceptance`] | which certificates the kernel's keyrings accept |
//! | [`form`] | which kernels verify which form of signature |
//! | [`caveat`] | which kernels verify with a key, and whether it is strong enough |
//! | [`check`] | faults of keys and certificates |
//! | [`version_1`] | keys for signatures of version 1 |
//! | [`token`] | private keys on smart cards and HSMs |
//! | [`passphrase`] | secrets, wiped after use |

pub mod acceptance;
pub mod caveat;
pub mod certificate;
pub mod check;
pub mod create;
pub(crate) mod der;
pub mod form;
pub mod issue;
pub mod passphrase;
pub mod private;
pub mod rotate;
pub mod store;
pub mod token;
pub mod version_1;

use std::fmt;
use std::path::{Path, PathBuf};

use ima_format::hash::HashAlgorithm;
use ima_format::x509::{KeyAlgorithm, MlDsa};
use ima_format::xattr::KeyId;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Public};
use openssl::x509::X509Req;

pub use form::{Form, Message, NoForm};

use crate::advice::Advice;
use crate::digest::DigestError;
use crate::input::{self, ReadError, KEY_MAX};

/// A signing key, in a file or in hardware. Threads share it; each opens its own session.
pub trait Signer: Send + Sync {
    /// The key ID by which the kernel finds the certificate.
    fn key_id(&self) -> KeyId;

    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Begins a series of signatures. A session is for one thread; several may be open.
    ///
    /// # Errors
    /// The key cannot be used now: the token is not there, or OpenSSL cannot create a context.
    fn session(&self) -> Result<Box<dyn Session + '_>, SignError>;
}

/// A series of signatures by one key in one thread.
pub trait Session {
    /// Appends the signature of `message` to `signature`. RSA: PKCS#1 v1.5 with the algorithm's DigestInfo.
    /// ECDSA: the DER of r and s over the digest. ML-DSA: the signature of the bytes.
    ///
    /// # Errors
    /// The key or its device failed, or the kernel could not verify a signature of this key type over this message
    /// ([`SignError::Unverifiable`], [`SignError::Message`]).
    fn sign(&mut self, message: &Message, signature: &mut Vec<u8>) -> Result<(), SignError>;

    /// Whether the same message gives the same signature, at a lower cost than verifying one.
    fn repeats_itself(&self) -> bool;
}

impl<S: Signer + ?Sized> Signer for &S {
    fn key_id(&self) -> KeyId {
        (**self).key_id()
    }

    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn session(&self) -> Result<Box<dyn Session + '_>, SignError> {
        (**self).session()
    }
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn key_id(&self) -> KeyId {
        (**self).key_id()
    }

    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn session(&self) -> Result<Box<dyn Session + '_>, SignError> {
        (**self).session()
    }
}

/// Why a signature was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The kernel cannot verify this combination.
    #[error("no kernel verifies {key_type} signatures over {algorithm}")]
    Unverifiable {
        /// The key's type.
        key_type: KeyType,
        /// The requested hash algorithm.
        algorithm: HashAlgorithm,
    },
    /// There is no such form of signature, or no kernel verifies it.
    #[error("no kernel verifies a signature of {0}")]
    Form(Form),
    /// Signatures of version 1 require RSA keys and SHA-1 or SHA-256.
    #[error(
        "no signature of version 1 by {key_type} over {algorithm}: only by rsa over sha1 or sha256"
    )]
    Version1 {
        /// The key's type.
        key_type: KeyType,
        /// The requested hash algorithm.
        algorithm: HashAlgorithm,
    },
    /// The key signs only digests, or only bytes.
    #[error("{key_type} keys do not sign this kind of message")]
    Message {
        /// The key's type.
        key_type: KeyType,
    },
    /// The digest that the signature covers cannot be computed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The token failed, or is not there; later signatures fail as well.
    #[error(transparent)]
    Token(Box<token::TokenError>),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl SignError {
    /// Whether the key is lost: all later signatures fail as well.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Token(_))
    }
}

impl Advice for SignError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Token(error) => error.advice().or(Some(
                "files signed so far are valid; when the token is available again, repeat the \
                 command (for files with --changed)",
            )),
            Self::Form(Form { key: KeyType::MlDsa(_), .. }) => {
                Some("ML-DSA keys make signatures of version 3: leave out --signature-version 2")
            }
            _ => None,
        }
    }
}

/// The algorithm and size of a public key, as far as signing files depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// RSA with a modulus of this size in bits.
    Rsa(u32),
    /// ECDSA on a curve.
    Ecdsa(Curve),
    /// ML-DSA.
    MlDsa(MlDsa),
    /// An algorithm that cannot sign files.
    Other(Id),
}

/// The curves of the kernel's ECDSA (`crypto/ecdsa.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names of FIPS 186
pub enum Curve {
    P192,
    P256,
    P384,
    P521,
    /// A curve that the kernel does not support.
    Unknown(Nid),
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::Ecdsa(Curve::P192) => f.write_str("p-192"),
            Self::Ecdsa(Curve::P256) => f.write_str("p-256"),
            Self::Ecdsa(Curve::P384) => f.write_str("p-384"),
            Self::Ecdsa(Curve::P521) => f.write_str("p-521"),
            Self::Ecdsa(Curve::Unknown(nid)) => {
                write!(f, "ec-{}", nid.short_name().unwrap_or("unknown"))
            }
            Self::MlDsa(set) => f.write_str(set.name()),
            Self::Other(id) => f.write_str(match *id {
                Id::RSA_PSS => "rsa-pss",
                Id::DSA => "dsa",
                Id::ED25519 => "ed25519",
                Id::ED448 => "ed448",
                _ => "key of an unknown type",
            }),
        }
    }
}

impl KeyType {
    fn of<T: HasPublic>(key: &PKeyRef<T>) -> Self {
        match key.id() {
            Id::RSA => Self::Rsa(key.bits()),
            Id::EC => {
                let nid = key.ec_key().ok().and_then(|ec| ec.group().curve_name());
                Self::Ecdsa(match nid.unwrap_or(Nid::UNDEF) {
                    Nid::X9_62_PRIME192V1 => Curve::P192,
                    Nid::X9_62_PRIME256V1 => Curve::P256,
                    Nid::SECP384R1 => Curve::P384,
                    Nid::SECP521R1 => Curve::P521,
                    other => Curve::Unknown(other),
                })
            }
            other => match key.public_key_to_der().as_deref().map(KeyAlgorithm::of_public_key_info)
            {
                Ok(Ok(KeyAlgorithm::MlDsa(set))) => Self::MlDsa(set),
                _ => Self::Other(other),
            },
        }
    }

    /// The size of the longest signature, in bytes.
    pub fn signature_size(self) -> usize {
        match self {
            Self::Rsa(bits) => (bits as usize).div_ceil(8),
            Self::Ecdsa(Curve::P192) => 56,
            Self::Ecdsa(Curve::P256) => 72,
            Self::Ecdsa(Curve::P384) => 104,
            Self::Ecdsa(_) | Self::Other(_) => 139,
            Self::MlDsa(set) => set.signature_size(),
        }
    }

    /// Whether some kernel can verify a signature of this key type over this algorithm.
    ///
    /// RSA: `rsa_asn1_templates` in `crypto/rsa-pkcs1pad.c`. ECDSA: `software_key_determine_akcipher` in
    /// `crypto/asymmetric_keys/public_key.c`, which has only the SHA-1, SHA-2 and SHA-3 families. ML-DSA signs
    /// the digest with the number of its algorithm, so any algorithm is possible.
    pub fn verifiable_over(self, algorithm: HashAlgorithm) -> bool {
        use HashAlgorithm::*;
        match self {
            Self::Rsa(_) => matches!(
                algorithm,
                Md5 | Sha1
                    | Rmd160
                    | Sha224
                    | Sha256
                    | Sha384
                    | Sha512
                    | Sha3_256
                    | Sha3_384
                    | Sha3_512
            ),
            Self::Ecdsa(Curve::Unknown(_)) | Self::Other(_) => false,
            Self::MlDsa(_) => true,
            Self::Ecdsa(_) => matches!(
                algorithm,
                Sha1 | Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_384 | Sha3_512
            ),
        }
    }
}

/// Why a public key could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file has no public key in a known format.
    #[error("{}: no public key, request or certificate found", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate request is not signed by its own key.
    #[error("{}: the request is not signed by its own key", path.display())]
    BadRequest {
        /// The file.
        path: PathBuf,
    },
}

impl Advice for PublicKeyError {}

/// A public key and the values derived from it.
#[derive(Debug, Clone)]
pub struct PublicKey {
    key: PKey<Public>,
    key_type: KeyType,
}

impl PublicKey {
    pub(crate) fn of<T: HasPublic>(key: &PKeyRef<T>) -> Result<Self, ErrorStack> {
        let key = PKey::public_key_from_der(&key.public_key_to_der()?)?;
        let key_type = KeyType::of(&key);
        Ok(Self { key, key_type })
    }

    /// Reads a public key from a file: a plain key, a certificate request (whose signature is checked) or a
    /// certificate, in PEM or DER.
    pub fn read(path: &Path) -> Result<Self, PublicKeyError> {
        let owned = || path.to_owned();
        let content = input::read_path(path, KEY_MAX)?;
        let key = PKey::public_key_from_pem(&content)
            .or_else(|_| PKey::public_key_from_der(&content))
            .and_then(|key| Self::of(&key));
        if let Ok(key) = key {
            return Ok(key);
        }
        if let Ok(request) = X509Req::from_pem(&content).or_else(|_| X509Req::from_der(&content)) {
            return match request.public_key() {
                Ok(key) if request.verify(&key).unwrap_or(false) => {
                    Self::of(&key).map_err(|_| PublicKeyError::NotAKey { path: owned() })
                }
                _ => Err(PublicKeyError::BadRequest { path: owned() }),
            };
        }
        let certificates = certificate::Certificate::parse_all(&content).unwrap_or_default();
        match certificates.first() {
            Some(certificate) => Ok(certificate.public_key().clone()),
            None => Err(PublicKeyError::NotAKey { path: owned() }),
        }
    }

    /// The algorithm and size.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The key ID without a certificate: the last four bytes of the SHA-1 of the content of the subject public
    /// key's BIT STRING (RFC 5280, 4.2.1.2, method 1), which most tools, including imactl, use for the Subject
    /// Key Identifier.
    pub fn default_key_id(&self) -> Result<KeyId, ErrorStack> {
        let identifier = self.subject_key_identifier()?;
        let [.., a, b, c, d] = identifier;
        Ok(KeyId([a, b, c, d]))
    }

    pub(crate) fn subject_key_identifier(&self) -> Result<[u8; 20], ErrorStack> {
        let info = self.key.public_key_to_der()?;
        let bits = der::subject_public_key(&info).unwrap_or(&info);
        let digest = openssl::hash::hash(MessageDigest::sha1(), bits)?;
        let mut identifier = [0; 20];
        identifier.copy_from_slice(&digest);
        Ok(identifier)
    }

    /// The subject public key info, DER in base64.
    ///
    /// # Errors
    /// OpenSSL's error.
    pub fn to_base64(&self) -> Result<String, ErrorStack> {
        Ok(openssl::base64::encode_block(&self.key.public_key_to_der()?))
    }

    pub(crate) fn pkey(&self) -> &PKeyRef<Public> {
        &self.key
    }

    /// Whether both are the same key.
    pub fn is(&self, other: &Self) -> bool {
        self.key.public_eq(&other.key)
    }
}
