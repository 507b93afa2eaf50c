//! Private keys in files, in all common formats.
//!
//! PKCS#8 plain and encrypted (RFC 5958), traditional RSA and SEC 1 EC (RFC 5915) in PEM,
//! `Proc-Type: 4,ENCRYPTED` (RFC 1421) too, alone or together with certificates, and all in DER.

use std::io;
use std::path::{Path, PathBuf};

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::KeyId;
use openssl::error::ErrorStack;
use openssl::md_ctx::MdCtx;
use openssl::pkey::{PKey, Private};
#[cfg(ossl320)]
use openssl::pkey_ctx::NonceType;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::passphrase::{keep_out_of_dumps, Passphrase};
use super::{KeyType, Message, PublicKey, Session, SignError, Signer};
use crate::advice::Advice;
use crate::digest::{openssl_digest, DigestError};
use crate::input::{self, ReadError, KEY_MAX};

/// Why a private key could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file has no private key in a known format.
    #[error("{}: no private key found", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is encrypted, and there is no passphrase.
    #[error("{}: the key is encrypted, and no passphrase was given", path.display())]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not decrypt the key.
    #[error("{}: the passphrase does not decrypt the key", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// Asking for the passphrase failed.
    #[error("{}: cannot ask for the passphrase: {source}", path.display())]
    Ask {
        /// The key's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The key is neither RSA, nor ECDSA on a curve of the kernel, nor ML-DSA.
    #[error("{}: a {key_type} key cannot sign files for the kernel", path.display())]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// The type of the key.
        key_type: KeyType,
    },
    /// OpenSSL failed.
    #[error("{}: OpenSSL: {source}", path.display())]
    OpenSsl {
        /// The file.
        path: PathBuf,
        /// OpenSSL's error.
        source: ErrorStack,
    },
}

impl Advice for PrivateKeyError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::PassphraseNeeded { .. } => {
                "give it with --passphrase-file, --passphrase-env or --passphrase-fd"
            }
            Self::NotAKey { .. } => {
                "PEM (PKCS#8, traditional RSA or EC) and DER are read; is it a certificate?"
            }
            Self::Unsuitable { .. } => "use an RSA key, or ECDSA on P-256 or P-384",
            _ => return None,
        })
    }
}

/// Provides the passphrase of an encrypted key. It is called at most once, with the path of the key; `None` means
/// that there is no passphrase.
pub type AskPassphrase<'a> = dyn FnMut(&Path) -> io::Result<Option<Passphrase>> + 'a;

/// A private key read from a file.
#[derive(Debug)]
pub struct PrivateKey {
    path: PathBuf,
    key: PKey<Private>,
    public: PublicKey,
    /// The certificates in the same file.
    certificates: Vec<Certificate>,
    encrypted: bool,
}

impl PrivateKey {
    /// Reads a private key, and asks for its passphrase if it is encrypted.
    pub fn read(path: &Path, ask: &mut AskPassphrase<'_>) -> Result<Self, PrivateKeyError> {
        keep_out_of_dumps();
        let content = input::read_path(path, KEY_MAX).map(Zeroizing::new)?;
        let (key, encrypted) = parse(path, &content, ask)?;
        let public = PublicKey::of(&key)
            .map_err(|source| PrivateKeyError::OpenSsl { path: path.to_owned(), source })?;
        let certificates = Certificate::parse_all(&content).unwrap_or_default();
        Ok(Self { path: path.to_owned(), key, public, certificates, encrypted })
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The certificate for this key in the same file.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.public_key().is(&self.public))
    }

    /// Whether the file is encrypted with a passphrase.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(super) fn into_key(self) -> PKey<Private> {
        self.key
    }

    /// Makes a signer with the key ID of its certificate.
    ///
    /// # Errors
    /// [`PrivateKeyError::Unsuitable`] for a key whose signatures the kernel cannot verify.
    pub fn into_signer(self, key_id: KeyId) -> Result<KeySigner, PrivateKeyError> {
        let key_type = self.public.key_type();
        if !key_type.verifiable_over(HashAlgorithm::Sha256) {
            return Err(PrivateKeyError::Unsuitable { path: self.path, key_type });
        }
        Ok(KeySigner { key: self.key, public: self.public, key_id })
    }
}

/// Parses the key; also returns whether it was encrypted.
fn parse(
    path: &Path,
    content: &[u8],
    ask: &mut AskPassphrase<'_>,
) -> Result<(PKey<Private>, bool), PrivateKeyError> {
    let mut asked: Option<io::Result<Option<Passphrase>>> = None;
    let mut give = |buffer: &mut [u8]| {
        let answer = asked.get_or_insert_with(|| ask(path));
        let Ok(Some(passphrase)) = answer else { return Err(ErrorStack::get()) };
        let passphrase = passphrase.as_bytes();
        match buffer.get_mut(..passphrase.len()) {
            Some(room) => {
                room.copy_from_slice(passphrase);
                Ok(passphrase.len())
            }
            None => Err(ErrorStack::get()),
        }
    };
    // PEM, DER, and encrypted DER, which asks for the passphrase only if it is such a key
    let key = PKey::private_key_from_pem_callback(content, &mut give)
        .or_else(|_| PKey::private_key_from_der(content))
        .or_else(|_| PKey::private_key_from_pkcs8_callback(content, &mut give));
    let path = path.to_owned();
    match (key, asked) {
        (Ok(key), asked) => Ok((key, asked.is_some())),
        (Err(_), Some(Err(source))) => Err(PrivateKeyError::Ask { path, source }),
        (Err(_), Some(Ok(None))) => Err(PrivateKeyError::PassphraseNeeded { path }),
        (Err(_), Some(Ok(Some(_)))) => Err(PrivateKeyError::WrongPassphrase { path }),
        (Err(_), None) => Err(PrivateKeyError::NotAKey { path }),
    }
}

/// A signer whose key is in memory.
#[derive(Debug)]
pub struct KeySigner {
    key: PKey<Private>,
    public: PublicKey,
    key_id: KeyId,
}

impl Signer for KeySigner {
    fn key_id(&self) -> KeyId {
        self.key_id
    }

    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn session(&self) -> Result<Box<dyn Session + '_>, SignError> {
        Ok(Box::new(KeySession { signer: self, prepared: None }))
    }
}

/// The use of a [`KeySigner`] by one thread; the context of one algorithm is kept.
struct KeySession<'a> {
    signer: &'a KeySigner,
    prepared: Option<Prepared>,
}

struct Prepared {
    /// The algorithm of the DigestInfo, which signatures of version 1 do not have.
    algorithm: Option<HashAlgorithm>,
    context: PkeyCtx<Private>,
}

impl KeySession<'_> {
    fn prepare(&self, algorithm: Option<HashAlgorithm>) -> Result<Prepared, SignError> {
        let key_type = self.signer.public.key_type();
        let digest_of = |algorithm: HashAlgorithm| match openssl_digest(algorithm) {
            Ok(md) if key_type.verifiable_over(algorithm) => Ok(md),
            Err(DigestError::OpenSsl(errors)) => Err(errors.into()),
            _ => Err(SignError::Unverifiable { key_type, algorithm }),
        };
        let md = algorithm.map(digest_of).transpose()?;
        let mut context = PkeyCtx::new(&self.signer.key)?;
        context.sign_init()?;
        if let KeyType::Rsa(_) = key_type {
            context.set_rsa_padding(Padding::PKCS1)?;
        }
        if let Some(md) = md {
            context.set_signature_md(&md)?;
        }
        // RFC 6979: the same file and key have the same signature, and the nonce does not depend on a random number
        #[cfg(ossl320)]
        if let KeyType::Ecdsa(_) = key_type {
            context.set_nonce_type(NonceType::DETERMINISTIC_K)?;
        }
        Ok(Prepared { algorithm, context })
    }
}

impl Session for KeySession<'_> {
    fn sign(&mut self, message: &Message, signature: &mut Vec<u8>) -> Result<(), SignError> {
        let key_type = self.signer.public.key_type();
        let (algorithm, bytes) = match (message, key_type) {
            (Message::Bytes(bytes), KeyType::MlDsa(_)) => {
                // each of these contexts makes only one signature
                let mut context = MdCtx::new()?;
                context.digest_sign_init(None, &self.signer.key)?;
                context.digest_sign_to_vec(bytes, signature)?;
                return Ok(());
            }
            (Message::Digest(digest), KeyType::Rsa(_) | KeyType::Ecdsa(_)) => {
                (Some(digest.algorithm()), digest.as_bytes())
            }
            (Message::Bare(digest), KeyType::Rsa(_)) => (None, &digest[..]),
            _ => return Err(SignError::Message { key_type }),
        };
        if self.prepared.as_ref().map(|prepared| prepared.algorithm) != Some(algorithm) {
            self.prepared = Some(self.prepare(algorithm)?);
        }
        if let Some(Prepared { context, .. }) = &mut self.prepared {
            context.sign_to_vec(bytes, signature)?;
        }
        Ok(())
    }

    fn repeats_itself(&self) -> bool {
        cfg!(ossl320) && matches!(self.signer.public.key_type(), KeyType::Ecdsa(_))
    }
}
