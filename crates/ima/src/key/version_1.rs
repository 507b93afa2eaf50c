//! RSA keys in the form of signatures of version 1; the bytes are in [`ima_format::xattr`].

use std::fmt;

use ima_format::hash::Digest;
use ima_format::xattr::{public_key_v1, SignatureV1};
use openssl::sha::{sha1, Sha1};

use super::{Message, PublicKey};

/// A key in the kernel's form for signatures of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyV1 {
    /// The payload of the kernel's key.
    pub payload: Vec<u8>,
    /// The key ID in signatures.
    pub key_id: [u8; 8],
}

impl KeyV1 {
    /// The form of an RSA key; `None` for other keys.
    pub fn of(key: &PublicKey) -> Option<Self> {
        let rsa = key.pkey().rsa().ok()?;
        let payload = public_key_v1(&rsa.n().to_vec(), &rsa.e().to_vec());
        let [.., a, b, c, d, e, f, g, h] = sha1(&payload);
        Some(Self { payload, key_id: [a, b, c, d, e, f, g, h] })
    }
}

/// The description of the kernel's key.
impl fmt::Display for KeyV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}", u64::from_be_bytes(self.key_id))
    }
}

/// The input of the RSA signature, for a file (or its metadata) with this digest.
pub(crate) fn message(signature: &SignatureV1, digest: &Digest) -> Message {
    let mut sha1 = Sha1::new();
    sha1.update(digest.as_bytes());
    sha1.update(&signature.header());
    Message::Bare(sha1.finish())
}
