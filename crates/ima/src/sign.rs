//! Labels: a file's digest to the bytes of its `security.ima`.

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::xattr::{
    Attribute, AttributeType, KeyId, Signature, SignatureKind, SignatureVersion,
};

use crate::key::{Session, SignError, Signer};
use crate::verify::{Keyring, Verifier};

/// What files are labelled with.
#[derive(Clone, Copy)]
pub enum Labeler<'a> {
    /// Version 2 signatures by this key.
    Signature(&'a dyn Signer),
    /// The digest alone, which anybody who is root can make (type 4; type 1 for SHA-1).
    Digest,
}

impl std::fmt::Debug for Labeler<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signature(signer) => write!(f, "Labeler::Signature({})", signer.key_id()),
            Self::Digest => f.write_str("Labeler::Digest"),
        }
    }
}

impl<'a> Labeler<'a> {
    /// The signing key's id; none where only digests are written.
    pub fn key_id(self) -> Option<KeyId> {
        match self {
            Self::Signature(signer) => Some(signer.key_id()),
            Self::Digest => None,
        }
    }

    /// Begins a series of labels, made by one thread.
    pub fn session(self) -> Result<LabelSession<'a>, SignError> {
        Ok(match self {
            Self::Signature(signer) => LabelSession::Signature {
                session: signer.session()?,
                signer,
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
    Signature { session: Box<dyn Session + 'a>, signer: &'a dyn Signer, verifier: Verifier },
    #[doc(hidden)]
    Digest,
}

impl LabelSession<'_> {
    /// Makes the attribute's value for a file with this digest, in place of what `value`
    /// held.
    pub fn label(&mut self, digest: &Digest, value: &mut Vec<u8>) -> Result<(), SignError> {
        value.clear();
        match self {
            Self::Signature { session, signer, .. } => {
                let mut bytes = Vec::with_capacity(512);
                session.sign(digest, &mut bytes)?;
                let signature = Signature {
                    kind: SignatureKind::Ima,
                    version: SignatureVersion::V2,
                    algorithm: digest.algorithm(),
                    key_id: signer.key_id(),
                    bytes,
                };
                signature.encode_into(value);
            }
            Self::Digest => {
                let attribute = match digest.algorithm() {
                    HashAlgorithm::Sha1 => Attribute::Digest(*digest),
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
        let Self::Signature { session, signer, verifier } = self else {
            self.label(digest, &mut made)?;
            return Ok(made == existing);
        };
        // the header tells most strangers, without decoding what may be malformed
        let header = [AttributeType::ImaSignature as u8, 2, digest.algorithm().id()];
        if existing.get(..3) != Some(&header) || existing.get(3..7) != Some(&signer.key_id().0) {
            return Ok(false);
        }
        if session.repeats_itself() {
            session.sign(digest, &mut made)?;
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
