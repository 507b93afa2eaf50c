//! Labels: a file's digest to the bytes of its `security.ima`.

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::xattr::{
    Attribute, KeyId, Signature, SignatureKind, SignatureVersion, HEADER_SIZE,
};

use crate::key::{Form, KeyType, Message, Session, SignError, Signer};
use crate::verify::{Keyring, Verifier};

/// What files are labelled with.
#[derive(Clone, Copy)]
pub enum Labeler<'a> {
    /// Signatures.
    Signature {
        /// The key.
        signer: &'a dyn Signer,
        /// What they vouch for.
        kind: SignatureKind,
        /// How the signed bytes are made.
        version: SignatureVersion,
    },
    /// The digest alone, which anybody who is root can make (type 4; type 1 for SHA-1).
    Digest,
}

impl std::fmt::Debug for Labeler<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signature { signer, kind, version } => {
                write!(f, "Labeler::Signature({}, {kind:?}, {version})", signer.key_id())
            }
            Self::Digest => f.write_str("Labeler::Digest"),
        }
    }
}

impl<'a> Labeler<'a> {
    /// Signatures of files by this key, in the version that most kernels verify.
    pub fn of(signer: &'a dyn Signer) -> Self {
        let kind = SignatureKind::Ima;
        let version = default_version(signer.public_key().key_type(), kind);
        Self::Signature { signer, kind, version }
    }

    /// The signing key's id; none where only digests are written.
    pub fn key_id(self) -> Option<KeyId> {
        match self {
            Self::Signature { signer, .. } => Some(signer.key_id()),
            Self::Digest => None,
        }
    }

    /// The size of the largest label.
    pub fn size(self) -> usize {
        match self {
            Self::Signature { signer, .. } => {
                HEADER_SIZE + signer.public_key().key_type().signature_size()
            }
            Self::Digest => 2 + MAX_DIGEST_SIZE,
        }
    }

    /// Begins a series of labels, made by one thread.
    pub fn session(self) -> Result<LabelSession<'a>, SignError> {
        Ok(match self {
            Self::Signature { signer, kind, version } => LabelSession::Signature {
                session: signer.session()?,
                signer,
                kind,
                version,
                verifier: Verifier::new(Keyring::of_public_key(
                    signer.key_id(),
                    signer.public_key().clone(),
                )),
            },
            Self::Digest => LabelSession::Digest,
        })
    }

    /// Checks that labels can be made with this hash algorithm, by making one.
    pub fn check(self, algorithm: HashAlgorithm) -> Result<(), SignError> {
        let zeros = [0; MAX_DIGEST_SIZE];
        match Digest::new(algorithm, &zeros[..algorithm.digest_size()]) {
            Some(digest) => self.session()?.label(&digest, &mut Vec::new()),
            None => Ok(()),
        }
    }
}

/// A series of labels by one thread.
#[allow(missing_debug_implementations)] // a session may hold a device
pub enum LabelSession<'a> {
    #[doc(hidden)]
    Signature {
        session: Box<dyn Session + 'a>,
        signer: &'a dyn Signer,
        kind: SignatureKind,
        version: SignatureVersion,
        verifier: Verifier,
    },
    #[doc(hidden)]
    Digest,
}

impl LabelSession<'_> {
    /// Makes the attribute's value for a file with this digest, in place of what `value`
    /// held.
    pub fn label(&mut self, digest: &Digest, value: &mut Vec<u8>) -> Result<(), SignError> {
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

    /// Whether `existing` is a good label already: by this key, over this digest.
    pub fn keeps(&mut self, existing: &[u8], digest: &Digest) -> Result<bool, SignError> {
        let mut made = Vec::new();
        let Self::Signature { session, signer, kind, version, verifier } = self else {
            self.label(digest, &mut made)?;
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
