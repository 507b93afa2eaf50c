//! Appended signatures: made, found, verified. Their bytes are in [`ima_format::modsig`].
//!
//! Mirrors `module_sig_check()` in `kernel/module/signing.c`, `modsig_verify()` in
//! `security/integrity/ima/ima_appraise.c`, `verify_pkcs7_message_sig()` in `certs/system_keyring.c` and
//! `pkcs7_verify()` and `pkcs7_validate_trust()` in `crypto/asymmetric_keys`. What signs is as
//! `scripts/sign-file.c` has it, for PKCS#11 keys, too.

use std::fmt;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::modsig::{self, Message, SignatureKey, SignerInfo, TRAILER_SIZE};
use ima_format::x509;
use ima_format::xattr::KeyId;
use ima_format::Error as FormatError;

use crate::key::certificate::Certificate;
use crate::key::{der, KeyType, Message as Signed, SignError, Signer};
use crate::verify::{is_signed_by, Certified, Keyring};

/// A signature at the end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The size of the content before it.
    pub content: u64,
    /// The PKCS#7 message.
    pub message: Vec<u8>,
}

/// Finds the appended signature of a file of this size; `None` if it has none.
///
/// # Errors
/// Those of `read_at`, which gives 0 bytes at the end only.
pub fn read<E>(
    size: u64,
    mut read_at: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Option<Result<Appended, FormatError>>, E> {
    let mut part = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match read_at(offset + filled as u64, &mut bytes[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    };
    let Some(start) = size.checked_sub(TRAILER_SIZE as u64) else { return Ok(None) };
    let length = match modsig::message_length(&part(start, TRAILER_SIZE)?, size) {
        Ok(None) => return Ok(None),
        Ok(Some(length)) => length,
        Err(error) => return Ok(Some(Err(error))),
    };
    let content = start - length as u64;
    Ok(Some(Ok(Appended { content, message: part(content, length)? })))
}

/// What is appended to content with this digest: the message and the fields after it.
///
/// # Errors
/// Those of [`message`].
pub fn sign(
    signer: &dyn Signer,
    certificate: &Certificate,
    digest: &Digest,
) -> Result<Vec<u8>, SignError> {
    let mut bytes = message(signer, certificate, digest)?;
    // a signature and a name: nowhere near 4 GiB
    bytes.extend(modsig::trailer(bytes.len() as u32));
    Ok(bytes)
}

/// A detached PKCS#7 message over content with this digest.
///
/// # Errors
/// The key failed; the kernel does not know such a key or hash algorithm in appended signatures; the
/// certificate is one that it cannot read.
pub fn message(
    signer: &dyn Signer,
    certificate: &Certificate,
    digest: &Digest,
) -> Result<Vec<u8>, SignError> {
    let (key_type, algorithm) = (signer.public_key().key_type(), digest.algorithm());
    let unverifiable = || SignError::Unverifiable { key_type, algorithm };
    let fields = x509::Certificate::parse(certificate.der()).map_err(|_| unverifiable())?;
    let message = |signature: &[u8]| {
        der::detached_signature(&fields, key_type, algorithm, signature).ok_or_else(unverifiable)
    };
    // before a token is asked for anything
    message(&[])?;
    let mut signature = Vec::new();
    signer.session()?.sign(&Signed::Digest(*digest), &mut signature)?;
    message(&signature)
}

/// The verdict on an appended signature. `digest_of` gives digests of the content before it.
///
/// # Errors
/// Those of `digest_of`.
pub fn verdict<E>(
    keyring: &Keyring,
    appended: Option<&Result<Appended, FormatError>>,
    digest_of: impl FnMut(HashAlgorithm) -> Result<Digest, E>,
) -> Result<Verdict, E> {
    match appended {
        None => Ok(Verdict::Missing),
        Some(Ok(appended)) => of_message(keyring, &appended.message, digest_of),
        Some(Err(error)) => Ok(Verdict::Malformed(error.clone())),
    }
}

/// The verdict on a PKCS#7 message; the same otherwise.
///
/// # Errors
/// Those of `digest_of`.
pub(crate) fn of_message<E>(
    keyring: &Keyring,
    message: &[u8],
    mut digest_of: impl FnMut(HashAlgorithm) -> Result<Digest, E>,
) -> Result<Verdict, E> {
    let message = match Message::parse(message) {
        Ok(message) => message,
        Err(error) => return Ok(Verdict::Malformed(error)),
    };
    if message.has_content {
        return Ok(Verdict::NotDetached);
    }
    let mut verdict = Verdict::UnknownKey;
    for info in &message.signers {
        for certified in keyring.certified(info.signer) {
            verdict = of_signer(certified, info, &mut digest_of)?;
            if verdict.is_valid() {
                return Ok(verdict);
            }
        }
    }
    Ok(verdict)
}

/// The verdict on the signature of one signer.
fn of_signer<E>(
    certified: &Certified,
    info: &SignerInfo<'_>,
    digest_of: &mut impl FnMut(HashAlgorithm) -> Result<Digest, E>,
) -> Result<Verdict, E> {
    let Certified { key_id, key, .. } = certified;
    let fits = matches!(
        (info.key, key.key_type()),
        (SignatureKey::Rsa, KeyType::Rsa(_)) | (SignatureKey::Ecdsa, KeyType::Ecdsa(_))
    );
    let algorithm = match info.hash {
        _ if info.has_attributes => return Ok(Verdict::Attributes),
        Some(hash) if fits && key.key_type().verifiable_over(hash) => hash,
        _ => return Ok(Verdict::Invalid(*key_id)),
    };
    let message = Signed::Digest(digest_of(algorithm)?);
    Ok(match is_signed_by(key, &message, info.signature) {
        true => Verdict::Valid { key_id: *key_id, algorithm },
        false => Verdict::Invalid(*key_id),
    })
}

/// What the kernel would say of a file under a rule that accepts only an appended signature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A good signature by a known key.
    Valid {
        /// The key.
        key_id: KeyId,
        /// The digest's algorithm.
        algorithm: HashAlgorithm,
    },
    /// There is none.
    Missing,
    /// It is malformed, which IMA treats as none.
    Malformed(FormatError),
    /// No certificate at hand is the signer's.
    UnknownKey,
    /// The key is known, the signature is not its over this content.
    Invalid(KeyId),
    /// Attributes are signed in place of the content.
    Attributes,
    /// The message has content of its own. The module loader rejects it; IMA accepts it for any file, as
    /// `ima_collect_modsig()` ignores that it cannot supply the file's.
    NotDetached,
}

impl Verdict {
    /// Whether the signature holds.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }

    /// The key.
    pub fn key_id(&self) -> Option<&KeyId> {
        match self {
            Self::Valid { key_id, .. } | Self::Invalid(key_id) => Some(key_id),
            _ => None,
        }
    }

    /// The `cause=` of the kernel's audit record, where it denies.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Valid { .. } => None,
            Self::Missing | Self::Malformed(_) => Some("IMA-signature-required"),
            _ => Some("invalid-signature"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { key_id, algorithm } => {
                write!(f, "appended {algorithm} signature by key {key_id}")
            }
            Self::Missing => f.write_str("no appended signature"),
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::UnknownKey => f.write_str("appended signature by an unknown key"),
            Self::Invalid(key_id) => {
                write!(f, "not an appended signature by key {key_id} over this content")
            }
            Self::Attributes => f.write_str(
                "the appended signature has signed attributes, which the kernel rejects",
            ),
            Self::NotDetached => f.write_str("the appended signature has content of its own"),
        }
    }
}
