//! Signatures by a key on a token.
//!
//! `CKM_RSA_PKCS` only adds the padding, so the DigestInfo (RFC 8017, 9.2) is made here: every hash algorithm
//! works, even one that the token does not support. `CKM_ECDSA` returns r and s concatenated; the kernel requires
//! their DER (RFC 3279, 2.2.3).

use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki_sys::*;
use ima_format::hash::HashAlgorithm;
use ima_format::xattr::KeyId;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;

use super::module::{self, Threading, User};
use super::{Refusal, Token, TokenError, TokenKey};
use crate::digest::openssl_digest;
use crate::key::passphrase::Passphrase;
use crate::key::{der, Curve, KeyType, Message, PublicKey, Session, SignError, Signer};

/// A signer whose key is on a token.
pub struct TokenSigner {
    /// The session of the login; threads that cannot have their own session take turns.
    shared: Mutex<module::Session>,
    slot: CK_SLOT_ID,
    token: String,
    key: TokenKey,
    public: PublicKey,
    key_id: KeyId,
    form: Form,
    /// The PIN, if each signature requires it.
    pin: Option<Passphrase>,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token, key, .. } = self;
        f.debug_struct("TokenSigner").field("token", token).field("key", key.uri()).finish()
    }
}

/// The form of signatures on the token.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// A signature of the size of the modulus, in bytes.
    Rsa { modulus: usize },
    /// Two numbers of this size each, in bytes.
    Ecdsa { number: usize },
}

impl Form {
    fn of(key_type: KeyType) -> Option<Self> {
        let number = match key_type {
            KeyType::Rsa(bits) => return Some(Self::Rsa { modulus: (bits as usize).div_ceil(8) }),
            KeyType::Ecdsa(Curve::P192) => 24,
            KeyType::Ecdsa(Curve::P256) => 32,
            KeyType::Ecdsa(Curve::P384) => 48,
            KeyType::Ecdsa(Curve::P521) => 66,
            KeyType::Ecdsa(Curve::Unknown(_)) | KeyType::MlDsa(_) | KeyType::Other(_) => {
                return None
            }
        };
        Some(Self::Ecdsa { number })
    }

    fn mechanism(self) -> CK_MECHANISM_TYPE {
        match self {
            Self::Rsa { .. } => CKM_RSA_PKCS,
            Self::Ecdsa { .. } => CKM_ECDSA,
        }
    }

    /// The size of the token's signature in bytes.
    fn size(self) -> usize {
        match self {
            Self::Rsa { modulus } => modulus,
            Self::Ecdsa { number } => 2 * number,
        }
    }

    /// The data that the token signs.
    fn data(self, key_type: KeyType, message: &Message) -> Result<Vec<u8>, SignError> {
        let digest = match (self, message) {
            (_, Message::Digest(digest)) => digest,
            (Self::Rsa { .. }, Message::Bare(digest)) => return Ok(digest.to_vec()),
            _ => return Err(SignError::Message { key_type }),
        };
        let (algorithm, bytes) = (digest.algorithm(), digest.as_bytes());
        let data = match self {
            _ if !key_type.verifiable_over(algorithm) => None,
            Self::Rsa { .. } => der::digest_info(algorithm, bytes),
            // FIPS 186-5, 6.4.1: the leftmost bits; not every token truncates the digest itself
            Self::Ecdsa { number } => Some(bytes[..bytes.len().min(number)].to_vec()),
        };
        data.ok_or(SignError::Unverifiable { key_type, algorithm })
    }

    /// Appends the signature in the kernel's form, converted from the token's.
    fn append(self, raw: &[u8], signature: &mut Vec<u8>) -> Result<(), ErrorStack> {
        match self {
            Self::Rsa { .. } => signature.extend_from_slice(raw),
            Self::Ecdsa { number } => {
                let (r, s) = raw.split_at(number);
                let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
                let both = EcdsaSig::from_private_components(r, s)?;
                signature.extend_from_slice(&both.to_der()?);
            }
        }
        Ok(())
    }
}

impl Token {
    /// Makes a signer of a key on this token, with the key ID of its certificate.
    ///
    /// # Errors
    /// The kernel cannot verify signatures of the key, the token does not let it sign, or its public half is unknown.
    pub fn into_signer(self, key: TokenKey, key_id: KeyId) -> Result<TokenSigner, TokenError> {
        let name = || key.uri().to_string();
        let public = key.public_key()?.clone();
        let key_type = public.key_type();
        let form = Form::of(key_type).filter(|_| key_type.verifiable_over(HashAlgorithm::Sha256));
        let Some(form) = form else {
            return Err(TokenError::Unsuitable { key: name(), key_type });
        };
        if !key.may_sign {
            return Err(TokenError::MayNotSign { key: name() });
        }
        Ok(TokenSigner {
            slot: self.slot,
            token: self.info.to_string(),
            public,
            key_id,
            form,
            pin: self.pin.filter(|_| key.always_authenticate),
            shared: Mutex::new(self.session),
            key,
        })
    }
}

impl TokenSigner {
    fn share(&self) -> MutexGuard<'_, module::Session> {
        // a thread that panicked left at most an unfinished operation, which the token rejects
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: Refusal) -> SignError {
        let error = TokenError::Refused { token: self.token.clone(), source };
        SignError::Token(Box::new(error))
    }

    /// Signs in a session that no other thread uses at the time.
    fn sign_in(&self, session: &module::Session, data: &[u8]) -> Result<Vec<u8>, Refusal> {
        let authenticate = |session: &module::Session| match self.key.always_authenticate {
            true => {
                let pin = self.pin.as_ref().map(Passphrase::as_bytes);
                session.login(User::ContextSpecific, pin)
            }
            false => Ok(()),
        };
        let (mechanism, size) = (self.form.mechanism(), self.form.size());
        session.sign(mechanism, self.key.handle, data, size, authenticate)
    }

    /// Whether a signature is by this key.
    fn accepts(&self, message: &Message, signature: &[u8]) -> Result<bool, ErrorStack> {
        let mut context = PkeyCtx::new(self.public.pkey())?;
        context.verify_init()?;
        if let Form::Rsa { .. } = self.form {
            context.set_rsa_padding(Padding::PKCS1)?;
        }
        let bytes = match message {
            Message::Digest(digest) => {
                if let Ok(md) = openssl_digest(digest.algorithm()) {
                    context.set_signature_md(&md)?;
                }
                digest.as_bytes()
            }
            Message::Bare(digest) => digest,
            Message::Bytes(bytes) => bytes,
        };
        // OpenSSL returns an error for a malformed signature
        Ok(context.verify(bytes, signature).unwrap_or(false))
    }
}

impl Signer for TokenSigner {
    fn key_id(&self) -> KeyId {
        self.key_id
    }

    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn session(&self) -> Result<Box<dyn Session + '_>, SignError> {
        let shared = self.share();
        // a PIN for each signature is valid for one operation, of any thread
        let in_turn =
            self.key.always_authenticate || shared.module().threading == Threading::OneAtATime;
        let own = match in_turn {
            true => None,
            false => match shared.module().open_session(self.slot) {
                Ok(session) => Some(session),
                // the token allows no more sessions than the shared one
                Err(Refusal { code: CKR_SESSION_COUNT, .. }) => None,
                Err(source) => return Err(self.failed(source)),
            },
        };
        Ok(Box::new(TokenSession { signer: self, own, verified: false }))
    }
}

/// The use of a [`TokenSigner`] by one thread.
struct TokenSession<'a> {
    signer: &'a TokenSigner,
    /// Its own session; `None` to take turns with the shared one.
    own: Option<module::Session>,
    /// Whether the token has proven that it signs with the private half of the public key.
    verified: bool,
}

impl Session for TokenSession<'_> {
    fn sign(&mut self, message: &Message, signature: &mut Vec<u8>) -> Result<(), SignError> {
        let signer = self.signer;
        let data = signer.form.data(signer.public.key_type(), message)?;
        let raw = match &self.own {
            Some(session) => signer.sign_in(session, &data),
            None => signer.sign_in(&signer.share(), &data),
        };
        let raw = raw.map_err(|source| signer.failed(source))?;
        let bad = || {
            let key = signer.key.uri().to_string();
            SignError::Token(Box::new(TokenError::BadSignature { key }))
        };
        if raw.len() != signer.form.size() {
            return Err(bad());
        }
        let start = signature.len();
        signer.form.append(&raw, signature)?;
        if !self.verified {
            if !signer.accepts(message, &signature[start..])? {
                signature.truncate(start);
                return Err(bad());
            }
            self.verified = true;
        }
        Ok(())
    }

    fn repeats_itself(&self) -> bool {
        // RSA does, but asking the token takes longer than verifying
        false
    }
}
