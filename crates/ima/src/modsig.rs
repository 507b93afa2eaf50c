//! Appended signatures: made, found, verified. Their bytes are in [`ima_format::modsig`].
//!
//! Mirrors `module_sig_check()` in `kernel/module/signing.c`, `modsig_verify()` in
//! `security/integrity/ima/ima_appraise.c`, `verify_pkcs7_message_sig()` in `certs/system_keyring.c` and
//! `pkcs7_verify()` and `pkcs7_validate_trust()` in `crypto/asymmetric_keys`. What signs is as
//! `scripts/sign-file.c` has it, for PKCS#11 keys, too.

use std::fmt;

use ima_format::hash::HashAlgorithm;
use ima_format::modsig::{self, Message, SignatureKey, SignerInfo, TRAILER_SIZE};
use ima_format::policy::kernel::{Feature, KernelVersion};
use ima_format::x509::{self, MlDsa};
use ima_format::xattr::KeyId;
use ima_format::Error as FormatError;

use crate::container::source::read_part;
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

impl Appended {
    /// The hash algorithm of the digest that IMA looks up in the blacklist, if the message makes it compute
    /// one (`pkcs7_get_digest()`): not for several signers, ML-DSA, or content of its own.
    pub(crate) fn digested_by(&self) -> Option<HashAlgorithm> {
        match Message::parse(&self.message).ok()? {
            Message { has_content: false, signers, .. } => match &*signers {
                [signer] if !signer.has_attributes => signer.hash,
                _ => None,
            },
            _ => None,
        }
    }
}

/// Finds the appended signature of a file of this size; `None` if it has none.
///
/// # Errors
/// Those of `read_at`, which gives 0 bytes at the end only.
pub fn read<E>(
    size: u64,
    mut read_at: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Option<Result<Appended, FormatError>>, E> {
    let mut part = |offset, length| read_part(&mut read_at, offset, length);
    let Some(start) = size.checked_sub(TRAILER_SIZE as u64) else { return Ok(None) };
    let length = match modsig::message_length(&part(start, TRAILER_SIZE)?, size) {
        Ok(None) => return Ok(None),
        Ok(Some(length)) => length,
        Err(error) => return Ok(Some(Err(error))),
    };
    let content = start - length as u64;
    Ok(Some(Ok(Appended { content, message: part(content, length)? })))
}

/// What of the content is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Its digest.
    Digest(HashAlgorithm),
    /// All of it: ML-DSA.
    Content,
}

impl Over {
    /// What a key of this type signs, if it signs a digest, that by `algorithm`.
    pub fn of(key_type: KeyType, algorithm: HashAlgorithm) -> Self {
        match key_type {
            KeyType::MlDsa(_) => Self::Content,
            _ => Self::Digest(algorithm),
        }
    }
}

/// The first bytes of a file, in memory, as the kernel has them, too; fewer if the file is cut, or is larger
/// than `kernel_read_file()` takes.
///
/// # Errors
/// Those of `read_at`.
pub(crate) fn content<E>(
    size: u64,
    read_at: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Vec<u8>, E> {
    read_part(read_at, 0, size.min(i32::MAX as u64) as usize)
}

/// What is appended to content: the message and the fields after it. `signed` is the digest of the content,
/// or all of it ([`Over`]).
///
/// # Errors
/// Those of [`message`].
pub fn sign(
    signer: &dyn Signer,
    certificate: &Certificate,
    signed: &Signed,
) -> Result<Vec<u8>, SignError> {
    let mut bytes = message(signer, certificate, signed)?;
    // a signature and a name: nowhere near 4 GiB
    bytes.extend(modsig::trailer(bytes.len() as u32));
    Ok(bytes)
}

/// A detached PKCS#7 message over the digest of content, or over content.
///
/// # Errors
/// The key failed; the kernel does not know such a key or hash algorithm in appended signatures; the
/// certificate is one that it cannot read.
pub fn message(
    signer: &dyn Signer,
    certificate: &Certificate,
    signed: &Signed,
) -> Result<Vec<u8>, SignError> {
    let key_type = signer.public_key().key_type();
    let algorithm = match signed {
        Signed::Digest(digest) => digest.algorithm(),
        // without signed attributes it has no meaning (RFC 9882)
        Signed::Bytes(_) | Signed::Bare(_) => HashAlgorithm::Sha512,
    };
    let unverifiable = || SignError::Unverifiable { key_type, algorithm };
    let fields = x509::Certificate::parse(certificate.der()).map_err(|_| unverifiable())?;
    let message = |signature: &[u8]| {
        der::detached_signature(&fields, key_type, algorithm, signature).ok_or_else(unverifiable)
    };
    // before a token is asked for anything
    message(&[])?;
    let mut signature = Vec::new();
    signer.session()?.sign(signed, &mut signature)?;
    message(&signature)
}

/// The verdict of this kernel on an appended signature. `signed` gives digests of the content before it,
/// or all of that.
///
/// # Errors
/// Those of `signed`.
pub fn verdict<E>(
    keyring: &Keyring,
    kernel: KernelVersion,
    appended: Option<&Result<Appended, FormatError>>,
    signed: impl FnMut(Over) -> Result<Signed, E>,
) -> Result<Verdict, E> {
    let appended = match appended {
        None => return Ok(Verdict::Missing),
        Some(Ok(appended)) => appended,
        Some(Err(error)) => return Ok(Verdict::Malformed(error.clone())),
    };
    match Message::parse(&appended.message) {
        Ok(message) => match message.ml_dsa().filter(|_| !kernel.has(Feature::MlDsa)) {
            Some(set) => Ok(Verdict::TooNew(set)),
            None => of_message(keyring, &message, signed),
        },
        Err(error) => Ok(Verdict::Malformed(error)),
    }
}

/// The verdict of the newest kernel on a PKCS#7 message; the same otherwise.
///
/// # Errors
/// Those of `signed`.
pub(crate) fn of_message<E>(
    keyring: &Keyring,
    message: &Message<'_>,
    mut signed: impl FnMut(Over) -> Result<Signed, E>,
) -> Result<Verdict, E> {
    if message.has_content {
        return Ok(Verdict::NotDetached);
    }
    let mut verdict = Verdict::UnknownKey;
    for info in &message.signers {
        for certified in keyring.certified(info.signer) {
            verdict = of_signer(certified, info, &mut signed)?;
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
    signed: &mut impl FnMut(Over) -> Result<Signed, E>,
) -> Result<Verdict, E> {
    let Certified { key_id, key, .. } = certified;
    if info.has_attributes {
        return Ok(Verdict::Attributes(info.key));
    }
    let over = match (info.key, key.key_type(), info.hash) {
        (SignatureKey::Rsa, key @ KeyType::Rsa(_), Some(hash))
        | (SignatureKey::Ecdsa, key @ KeyType::Ecdsa(_), Some(hash))
            if key.verifiable_over(hash) =>
        {
            Over::Digest(hash)
        }
        (SignatureKey::MlDsa(named), KeyType::MlDsa(set), _) if named == set => Over::Content,
        _ => return Ok(Verdict::Invalid(*key_id)),
    };
    Ok(match is_signed_by(key, &signed(over)?, info.signature) {
        true => Verdict::Valid { key_id: *key_id, over },
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
        /// What it is over.
        over: Over,
    },
    /// There is none.
    Missing,
    /// It is malformed, which IMA treats as none.
    Malformed(FormatError),
    /// By an algorithm that the kernel is too old for: it cannot read the message, which IMA treats as
    /// none.
    TooNew(MlDsa),
    /// No certificate at hand is the signer's.
    UnknownKey,
    /// The key is known, the signature is not its over this content.
    Invalid(KeyId),
    /// Attributes are signed in place of the content, by such a key.
    Attributes(SignatureKey),
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
            Self::Missing | Self::Malformed(_) | Self::TooNew(_) => Some("IMA-signature-required"),
            _ => Some("invalid-signature"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { key_id, over: Over::Digest(algorithm) } => {
                write!(f, "appended {algorithm} signature by key {key_id}")
            }
            Self::Valid { key_id, over: Over::Content } => {
                write!(f, "appended ML-DSA signature by key {key_id}")
            }
            Self::Missing => f.write_str("no appended signature"),
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::TooNew(set) => write!(
                f,
                "appended signature by an {} key, which the kernel verifies from Linux {} on",
                set.name(),
                Feature::MlDsa.since()
            ),
            Self::UnknownKey => f.write_str("appended signature by an unknown key"),
            Self::Invalid(key_id) => {
                write!(f, "not an appended signature by key {key_id} over this content")
            }
            Self::Attributes(SignatureKey::MlDsa(_)) => f.write_str(
                "the appended signature has signed attributes, which the kernel rejects unless it has \
                 CONFIG_PKCS7_WAIVE_AUTHATTRS_REJECTION_FOR_MLDSA",
            ),
            Self::Attributes(_) => f.write_str(
                "the appended signature has signed attributes, which the kernel rejects",
            ),
            Self::NotDetached => f.write_str("the appended signature has content of its own"),
        }
    }
}
