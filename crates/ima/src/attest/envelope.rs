//! Signed documents: DSSE envelopes, version 1 (`secure-systems-lab/dsse`, protocol.md).
//!
//! A signature covers the pre-authentication encoding of type and payload:
//! `DSSEv1 LENGTH(type) type LENGTH(payload) payload`, with one space between the parts and decimal lengths in
//! bytes. The specification leaves the algorithm to the key; it is the one of Sigstore: RSA PKCS#1 v1.5 and P-256 over SHA-256, P-384 over
//! SHA-384, P-521 over SHA-512. ML-DSA signs the encoding itself. The key ID in an envelope is an unsigned hint,
//! so every trusted key is tried.

use ima_format::hash::HashAlgorithm;
use ima_format::hex;

use crate::digest::{DigestError, Hasher};
use crate::key::certificate::Certificate;
use crate::key::{Curve, KeyType, Message, SignError, Signer};
use crate::verify::is_signed_by;

/// An envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The type of the payload.
    pub payload_type: String,
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The signatures.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature in an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// The key ID, which is an unsigned hint.
    pub key_id: String,
    /// The signature's bytes.
    pub signature: Vec<u8>,
}

impl Envelope {
    /// Signs a payload.
    ///
    /// # Errors
    /// The key fails, or cannot sign.
    pub fn sign(
        signer: &dyn Signer,
        payload_type: &str,
        payload: Vec<u8>,
    ) -> Result<Self, SignError> {
        let payload_type = payload_type.to_owned();
        let mut envelope = Self { payload_type, payload, signatures: Vec::new() };
        let message = envelope.message(signer.public_key().key_type())?;
        let mut signature = Vec::new();
        signer.session()?.sign(&message, &mut signature)?;
        let key_id = hex::Hex(&signer.key_id().0).to_string();
        envelope.signatures.push(EnvelopeSignature { key_id, signature });
        Ok(envelope)
    }

    /// The certificate whose key made one of the signatures; `None` if there is no such certificate.
    ///
    /// # Errors
    /// Digests that cannot be computed.
    pub fn signer<'a>(
        &self,
        trusted: &'a [Certificate],
    ) -> Result<Option<&'a Certificate>, DigestError> {
        for certificate in trusted {
            let key = certificate.public_key();
            let message = self.message(key.key_type())?;
            let is_by = |it: &EnvelopeSignature| is_signed_by(key, &message, &it.signature);
            if self.signatures.iter().any(is_by) {
                return Ok(Some(certificate));
            }
        }
        Ok(None)
    }

    /// The input of the signature algorithm of a key of this type.
    fn message(&self, key: KeyType) -> Result<Message, DigestError> {
        let encoded = encoded(&self.payload_type, &self.payload);
        let algorithm = match key {
            KeyType::MlDsa(_) => return Ok(Message::Bytes(encoded)),
            KeyType::Ecdsa(Curve::P384) => HashAlgorithm::Sha384,
            KeyType::Ecdsa(Curve::P521) => HashAlgorithm::Sha512,
            _ => HashAlgorithm::Sha256,
        };
        Ok(Message::Digest(Hasher::new(algorithm)?.digest(&encoded)?))
    }
}

/// The pre-authentication encoding.
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (type_length, length) = (payload_type.len(), payload.len());
    let mut encoded = format!("DSSEv1 {type_length} {payload_type} {length} ").into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let encoded = encoded("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
