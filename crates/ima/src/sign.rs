//! From a file's digest to the value of its `security.ima` or `security.evm`.

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::xattr::{
    Attribute, KeyId, Signature, SignatureKind, SignatureV1, SignatureVersion, HEADER_SIZE,
};

use crate::key::version_1::{self, KeyV1};
use crate::key::{Form, KeyType, Message, Session, SignError, Signer};
use crate::verify::{Keyring, Verifier};

/// Makes values of attributes.
#[derive(Clone, Copy)]
pub enum Maker<'a> {
    /// Signatures.
    Signature {
        /// The key.
        signer: &'a dyn Signer,
        /// What they vouch for.
        kind: SignatureKind,
        /// How the signed bytes are made.
        version: SignatureVersion,
    },
    /// Signatures of version 1, which no kernel verifies with the keys of a trusted keyring.
    Version1 {
        /// The key.
        signer: &'a dyn Signer,
        /// What they vouch for.
        kind: SignatureKind,
        /// When they are made, in seconds since 1970.
        time: u32,
    },
    /// The digest alone, which anybody who is root can make (type 4; type 1 for SHA-1).
    Digest,
}

impl std::fmt::Debug for Maker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signature { signer, kind, version } => {
                write!(f, "Maker::Signature({}, {kind:?}, {version})", signer.key_id())
            }
            Self::Version1 { signer, kind, .. } => {
                write!(f, "Maker::Version1({}, {kind:?})", signer.key_id())
            }
            Self::Digest => f.write_str("Maker::Digest"),
        }
    }
}

impl<'a> Maker<'a> {
    /// Signatures of files by this key, in the version that most kernels verify.
    pub fn of(signer: &'a dyn Signer) -> Self {
        let kind = SignatureKind::Ima;
        let version = default_version(signer.public_key().key_type(), kind);
        Self::Signature { signer, kind, version }
    }

    /// The signing key's id; none where only digests are written.
    pub fn key_id(self) -> Option<KeyId> {
        match self {
            Self::Signature { signer, .. } | Self::Version1 { signer, .. } => Some(signer.key_id()),
            Self::Digest => None,
        }
    }

    /// The size of the largest value, in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Signature { signer, .. } => {
                HEADER_SIZE + signer.public_key().key_type().signature_size()
            }
            Self::Version1 { signer, .. } => 19 + signer.public_key().key_type().signature_size(),
            Self::Digest => 2 + MAX_DIGEST_SIZE,
        }
    }

    /// Begins a series of values, made by one thread.
    pub fn session(self) -> Result<MakerSession<'a>, SignError> {
        Ok(match self {
            Self::Signature { signer, kind, version } => MakerSession::Signature {
                session: signer.session()?,
                signer,
                kind,
                version,
                verifier: Verifier::new(Keyring::of_public_key(
                    signer.key_id(),
                    signer.public_key().clone(),
                )),
            },
            Self::Version1 { signer, kind, time } => {
                MakerSession::Version1 { session: signer.session()?, signer, kind, time }
            }
            Self::Digest => MakerSession::Digest,
        })
    }

    /// Checks that values can be made with this hash algorithm, by making one.
    pub fn check(self, algorithm: HashAlgorithm) -> Result<(), SignError> {
        let zeros = [0; MAX_DIGEST_SIZE];
        match Digest::new(algorithm, &zeros[..algorithm.digest_size()]) {
            Some(digest) => self.session()?.make(&digest, &mut Vec::new()),
            None => Ok(()),
        }
    }
}

/// A series of values, made by one thread.
#[allow(missing_debug_implementations)] // a session may hold a device
pub enum MakerSession<'a> {
    #[doc(hidden)]
    Signature {
        session: Box<dyn Session + 'a>,
        signer: &'a dyn Signer,
        kind: SignatureKind,
        version: SignatureVersion,
        verifier: Verifier,
    },
    #[doc(hidden)]
    Version1 {
        session: Box<dyn Session + 'a>,
        signer: &'a dyn Signer,
        kind: SignatureKind,
        time: u32,
    },
    #[doc(hidden)]
    Digest,
}

impl MakerSession<'_> {
    /// Makes the attribute's value for a file with this digest, in place of what `value`
    /// held.
    pub fn make(&mut self, digest: &Digest, value: &mut Vec<u8>) -> Result<(), SignError> {
        value.clear();
        match self {
            Self::Signature { session, signer, kind, version, .. } => {
                let mut bytes = Vec::with_capacity(512);
                let message = message(*kind, *version, *signer, digest)?;
                session.sign(&message, &mut bytes)?;
                let signature = Signature {
                    kind: *kind,
                    version: *version,
                    algorithm: digest.algorithm(),
                    key_id: signer.key_id(),
                    bytes,
                };
                signature.encode_into(value);
            }
            Self::Version1 { session, signer, kind, time } => {
                let mut signature = header_of_version_1(*signer, *kind, *time, digest.algorithm())?;
                let mut bytes = Vec::new();
                session.sign(&version_1::message(&signature, digest), &mut bytes)?;
                signature.set_signature(&bytes);
                value.extend_from_slice(&Attribute::SignatureV1(signature).encode());
            }
            Self::Digest => {
                let attribute = match digest.algorithm() {
                    // as evmctl writes them: the type has no number for the algorithm
                    HashAlgorithm::Sha1 | HashAlgorithm::Md5 => Attribute::Digest(*digest),
                    _ => Attribute::DigestNg(*digest),
                };
                value.extend_from_slice(&attribute.encode());
            }
        }
        Ok(())
    }

    /// Whether `existing` is a good value already: by this key, over this digest.
    pub fn keeps(&mut self, existing: &[u8], digest: &Digest) -> Result<bool, SignError> {
        let mut made = Vec::new();
        let Self::Signature { session, signer, kind, version, verifier } = self else {
            self.make(digest, &mut made)?;
            return Ok(made == existing);
        };
        // the header tells most strangers, without decoding what may be malformed
        let header = [kind.attribute_type() as u8, *version as u8, digest.algorithm().id()];
        if existing.get(..3) != Some(&header) || existing.get(3..7) != Some(&signer.key_id().0) {
            return Ok(false);
        }
        if session.repeats_itself() {
            let message = message(*kind, *version, *signer, digest)?;
            session.sign(&message, &mut made)?;
            if existing.get(9..) == Some(&made) {
                return Ok(true);
            }
        }
        Ok(match Attribute::decode(existing) {
            Ok(Attribute::Signature(signature)) => verifier.accepts(&signature, digest),
            _ => false,
        })
    }
}

fn header_of_version_1(
    signer: &dyn Signer,
    kind: SignatureKind,
    time: u32,
    algorithm: HashAlgorithm,
) -> Result<SignatureV1, SignError> {
    let key = signer.public_key();
    let header = KeyV1::of(key).and_then(|KeyV1 { key_id, .. }| {
        SignatureV1::of_rsa(kind, time.to_ne_bytes(), algorithm, key_id)
    });
    header.ok_or(SignError::Version1 { key_type: key.key_type(), algorithm })
}

/// The version that a key makes unless another is asked for: the one that most kernels verify.
pub fn default_version(key: KeyType, kind: SignatureKind) -> SignatureVersion {
    match (key, kind) {
        (KeyType::MlDsa(_), _) | (_, SignatureKind::Verity) => SignatureVersion::V3,
        _ => SignatureVersion::V2,
    }
}

/// What a signature of this form is over.
fn message(
    kind: SignatureKind,
    version: SignatureVersion,
    signer: &dyn Signer,
    digest: &Digest,
) -> Result<Message, SignError> {
    let key = signer.public_key().key_type();
    let algorithm = digest.algorithm();
    if !key.verifiable_over(algorithm) {
        return Err(SignError::Unverifiable { key_type: key, algorithm });
    }
    let form = Form { kind, version, key, algorithm };
    Message::of(kind, version, key, digest)?.ok_or(SignError::Form(form))
}
