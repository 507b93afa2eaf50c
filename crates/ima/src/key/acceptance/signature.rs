//! `public_key_verify_signature()` of `crypto/asymmetric_keys/public_key.c`, with OpenSSL.

use ima_format::hash::HashAlgorithm;
use ima_format::x509::{Certificate as Fields, KeyAlgorithm, SignatureAlgorithm};
use openssl::md_ctx::MdCtx;

use super::key::Key;
use super::refusal::Refusal;
use crate::digest::{openssl_digest, Hasher};
use crate::key::caveat;

/// Whether `key` made the signature of a certificate and the kernel can verify it.
pub(super) fn verify(key: &Key, fields: &Fields<'_>) -> Result<(), Refusal> {
    let hash = match (key.algorithm, fields.signature_algorithm) {
        (KeyAlgorithm::Rsa, SignatureAlgorithm::Rsa(hash)) => Some(hash),
        (KeyAlgorithm::Ecdsa(_), SignatureAlgorithm::Ecdsa(hash)) => Some(hash),
        (KeyAlgorithm::MlDsa(key), SignatureAlgorithm::MlDsa(signature)) if key == signature => {
            None
        }
        (KeyAlgorithm::EcRdsa, SignatureAlgorithm::EcRdsa(_)) => {
            return Err(Refusal::NotVerifiableHere);
        }
        _ => return Err(Refusal::IssuerOfAnotherAlgorithm),
    };
    let public = key.public.as_ref().ok_or(Refusal::NotVerifiableHere)?;
    if key.algorithm == KeyAlgorithm::Rsa && !caveat::is_rsa_size(public.bits()) {
        return Err(Refusal::RsaSize(public.bits()));
    }
    let digest = hash.map(openssl_digest).transpose().map_err(|_| Refusal::NotVerifiableHere)?;
    let mut context = MdCtx::new().map_err(|_| Refusal::NotVerifiableHere)?;
    context
        .digest_verify_init(digest.as_deref(), public)
        .map_err(|_| Refusal::NotVerifiableHere)?;
    match context.digest_verify(fields.signed, fields.signature) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Refusal::BadSignature),
    }
}

pub(super) fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut hasher = Hasher::new(algorithm).ok()?;
    hasher.digest(bytes).ok().map(|digest| digest.as_bytes().to_vec())
}
