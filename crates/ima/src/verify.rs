//! An attribute and a file's digest to a verdict, in the kernel's words.
//!
//! Mirrors `ima_appraise_measurement` and `xattr_verify` in
//! `security/integrity/ima/ima_appraise.c` (Linux 5.10 to 7.3), for a rule with
//! `appraise_type=imasig`, `appraise_type=sigv3` or without, and `asymmetric_verify` and
//! `asymmetric_verify_v3` in `digsig_asymmetric.c`.

mod keyring;

use std::fmt;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::kernel::{Feature, KernelVersion};
use ima_format::verity::{Parameters, Salt};
use ima_format::xattr::{
    Attribute, KeyId, Signature, SignatureKind, SignatureV1, SignatureVersion,
};
use ima_format::Error as FormatError;
use openssl::error::ErrorStack;
use openssl::md_ctx::MdCtx;
use openssl::pkey::Public;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;

use crate::digest::{openssl_digest, DigestKind};
use crate::key::version_1::{self, KeyV1};
use crate::key::{Form, KeyType, Message, PublicKey};
pub(crate) use keyring::Certified;
pub use keyring::{Keyring, Revocations};

/// What a policy rule asks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// `appraise_type=imasig`: a signature.
    Signature,
    /// `appraise_type=sigv3`: a signature of version 3.
    SignatureV3,
    /// `digest_type=verity appraise_type=sigv3`: a signature over the fs-verity digest.
    Verity,
    /// A digest is enough; a signature is as good.
    Digest,
}

/// What a file is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What the policy asks for.
    pub requirement: Requirement,
    /// The kernel.
    pub kernel: KernelVersion,
    /// The salt with which fs-verity is enabled on files.
    pub salt: Salt,
}

impl Rule {
    /// For files whose fs-verity trees have no salt.
    pub fn new(requirement: Requirement, kernel: KernelVersion) -> Self {
        Self { requirement, kernel, salt: Salt::default() }
    }

    /// The digest of a file that a signature is over; `None` if fs-verity makes no such digest.
    pub fn digest_of(self, signature: &Signature) -> Option<DigestKind> {
        match signature.kind {
            SignatureKind::Verity => {
                Parameters::new(signature.algorithm, self.salt).map(DigestKind::Verity)
            }
            SignatureKind::Ima | SignatureKind::EvmPortable => Some(signature.algorithm.into()),
        }
    }
}

/// What the kernel would say of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A good signature by a known key.
    ValidSignature {
        /// The key.
        key_id: KeyId,
        /// The digest's algorithm.
        algorithm: HashAlgorithm,
    },
    /// The digest fits, and a digest was enough.
    ValidDigest {
        /// The digest's algorithm.
        algorithm: HashAlgorithm,
    },
    /// There is no attribute.
    Missing(Requirement),
    /// There is a digest where a signature is required.
    DigestOnly {
        /// Whether the digest fits the file.
        matches: bool,
    },
    /// There is an fs-verity signature where a signature of the content is required.
    VeritySignature,
    /// The digest does not fit the file.
    InvalidHash,
    /// No certificate at hand has this key id.
    UnknownKey(KeyId),
    /// The key is known, the signature is not its over this content.
    InvalidSignature(KeyId),
    /// A version 1 signature, for which no certificate can be given.
    ObsoleteSignature,
    /// An fs-verity signature under a rule that does not ask for one, or why it does not hold under
    /// one that does.
    InvalidVeritySignature(Option<Box<Verdict>>),
    /// A digest, or a signature over the content, where one over the fs-verity digest is required.
    VerityRequired,
    /// A version 3 signature of a file, which kernels before 7.1 reject.
    InvalidSignatureVersion,
    /// A version 2 signature where version 3 is required.
    OldSignatureVersion,
    /// The key made the signature, but a kernel of this version has no such keys, or cannot verify
    /// it.
    NewerForm(Form),
    /// The attribute is of a type that belongs into `security.evm`.
    UnknownImaData,
    /// The attribute is malformed.
    Malformed {
        /// What is wrong, and where.
        error: FormatError,
        /// The kernel's word for it.
        cause: &'static str,
    },
}

impl Verdict {
    /// Whether the kernel lets the file through.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::ValidSignature { .. } | Self::ValidDigest { .. })
    }

    /// The key of a signature that does not hold.
    pub fn key_id(&self) -> Option<&KeyId> {
        match self {
            Self::UnknownKey(key_id) | Self::InvalidSignature(key_id) => Some(key_id),
            _ => None,
        }
    }

    /// The `cause=` of the kernel's audit record of a denial.
    pub fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::ValidSignature { .. } | Self::ValidDigest { .. } => return None,
            Self::Missing(Requirement::Digest) => "missing-hash",
            Self::Missing(Requirement::Signature | Requirement::SignatureV3)
            | Self::DigestOnly { .. }
            | Self::VeritySignature => "IMA-signature-required",
            Self::InvalidHash => "invalid-hash",
            Self::UnknownKey(_)
            | Self::InvalidSignature(_)
            | Self::NewerForm(_)
            | Self::ObsoleteSignature => "invalid-signature",
            Self::OldSignatureVersion => "IMA-sigv3-required",
            Self::Missing(Requirement::Verity) | Self::VerityRequired => {
                "verity-signature-required"
            }
            Self::InvalidVeritySignature(_) => "invalid-verity-signature",
            Self::InvalidSignatureVersion => "invalid-signature-version",
            Self::UnknownImaData => "unknown-ima-data",
            Self::Malformed { cause, .. } => cause,
        })
    }
}

/// What tells one verdict from another with the same cause.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValidSignature { key_id, algorithm } => {
                write!(f, "{algorithm} signature by key {key_id}")
            }
            Self::ValidDigest { algorithm } => write!(f, "{algorithm} digest matches"),
            Self::Missing(_) => f.write_str("no attribute"),
            Self::DigestOnly { matches: true } => f.write_str("a digest, which matches"),
            Self::DigestOnly { matches: false } => f.write_str("a digest, which does not match"),
            Self::VeritySignature => f.write_str("an fs-verity signature"),
            Self::InvalidHash => f.write_str("digest does not match"),
            Self::UnknownKey(key_id) => write!(f, "unknown key {key_id}"),
            Self::InvalidSignature(key_id) => {
                write!(f, "not a signature by key {key_id} over this content")
            }
            Self::ObsoleteSignature => f.write_str("obsolete signature version 1"),
            Self::InvalidVeritySignature(None) => f.write_str("an fs-verity signature"),
            Self::InvalidVeritySignature(Some(verdict)) => verdict.fmt(f),
            Self::VerityRequired => f.write_str("about the content, not the fs-verity digest"),
            Self::InvalidSignatureVersion => {
                let since = Feature::FileSigv3.since();
                write!(f, "signature version 3 of a file: only Linux {since} and newer verify it")
            }
            Self::OldSignatureVersion => f.write_str("signature version 2"),
            Self::NewerForm(form) => match form.since() {
                Some(since) => write!(f, "{form}: only Linux {since} and newer verify it"),
                None => write!(f, "{form}: no kernel verifies it"),
            },
            Self::UnknownImaData => f.write_str("an EVM attribute"),
            Self::Malformed { error, .. } => write!(f, "malformed: {error}"),
        }
    }
}

/// Verifies with a keyring, one file after the other, in one thread: a key's context is made
/// once.
#[allow(missing_debug_implementations)] // OpenSSL's contexts have nothing to show
pub struct Verifier {
    keyring: Keyring,
    contexts: Vec<Context>,
}

/// What OpenSSL keeps of a key and a hash algorithm between two signatures.
struct Context {
    key: usize,
    algorithm: HashAlgorithm,
    context: PkeyCtx<Public>,
}

impl Verifier {
    /// Its keys.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// A verifier with these keys.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, contexts: Vec::new() }
    }

    /// Gives the verdict on a file with the attribute `value`, or without one. The digest is asked
    /// for only where the verdict depends on it, with the algorithm that the attribute names.
    ///
    /// # Errors
    /// Those of `digest_of`.
    pub fn verdict<E>(
        &mut self,
        rule: Rule,
        value: Option<&[u8]>,
        digest_of: impl FnOnce(DigestKind) -> Result<Digest, E>,
    ) -> Result<Verdict, E> {
        let Rule { requirement, kernel, .. } = rule;
        // the kernel takes an empty value for none
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(Verdict::Missing(requirement));
        };
        let attribute = match Attribute::decode(value) {
            Ok(attribute) => attribute,
            Err(error) => {
                let cause = cause_of_malformed(value, rule);
                return Ok(Verdict::Malformed { error, cause });
            }
        };
        match attribute {
            Attribute::Digest(_) | Attribute::DigestNg(_) if requirement == Requirement::Verity => {
                Ok(Verdict::VerityRequired)
            }
            Attribute::Digest(expected) | Attribute::DigestNg(expected) => {
                let matches = digest_of(expected.algorithm().into())? == expected;
                Ok(match (requirement, matches) {
                    (Requirement::Digest, false) => Verdict::InvalidHash,
                    (Requirement::Digest, true) => {
                        Verdict::ValidDigest { algorithm: expected.algorithm() }
                    }
                    (_, matches) => Verdict::DigestOnly { matches },
                })
            }
            Attribute::Signature(signature) => match (signature.kind, signature.version) {
                (SignatureKind::Ima, _) if requirement == Requirement::Verity => {
                    Ok(Verdict::VerityRequired)
                }
                (SignatureKind::Ima, SignatureVersion::V3) if !kernel.has(Feature::FileSigv3) => {
                    Ok(Verdict::InvalidSignatureVersion)
                }
                (SignatureKind::Ima, SignatureVersion::V2)
                    if requirement == Requirement::SignatureV3 =>
                {
                    Ok(Verdict::OldSignatureVersion)
                }
                (SignatureKind::Ima, _) => self.signature_verdict(&signature, rule, digest_of),
                (SignatureKind::Verity, _) if !kernel.has(Feature::Verity) => {
                    Ok(Verdict::UnknownImaData)
                }
                (SignatureKind::Verity, version) => Ok(match (requirement, version) {
                    (Requirement::Signature | Requirement::SignatureV3, _) => {
                        Verdict::VeritySignature
                    }
                    (_, SignatureVersion::V2) => Verdict::InvalidSignatureVersion,
                    (Requirement::Digest, _) => Verdict::InvalidVeritySignature(None),
                    (Requirement::Verity, _) => {
                        let verdict = self.signature_verdict(&signature, rule, digest_of)?;
                        match verdict.is_valid() {
                            true => verdict,
                            false => Verdict::InvalidVeritySignature(Some(Box::new(verdict))),
                        }
                    }
                }),
                (SignatureKind::EvmPortable, _) => Ok(Verdict::UnknownImaData),
            },
            Attribute::SignatureV1(signature) if signature.kind == SignatureKind::Ima => {
                Ok(Verdict::ObsoleteSignature)
            }
            Attribute::SignatureV1(_) | Attribute::EvmHmac(_) => Ok(Verdict::UnknownImaData),
        }
    }

    fn signature_verdict<E>(
        &mut self,
        signature: &Signature,
        rule: Rule,
        digest_of: impl FnOnce(DigestKind) -> Result<Digest, E>,
    ) -> Result<Verdict, E> {
        let Signature { key_id, algorithm, .. } = *signature;
        let forms = self.forms(signature);
        if forms.is_empty() {
            return Ok(Verdict::UnknownKey(key_id));
        }
        // not worth a digest, which there may be no way to make
        if forms.iter().all(|form| form.since().is_none()) {
            return Ok(Verdict::InvalidSignature(key_id));
        }
        if !forms.iter().any(|form| form.is_verified_by(rule.kernel)) {
            return Ok(Verdict::NewerForm(forms[0]));
        }
        let Some(digest) = rule.digest_of(signature) else {
            return Ok(Verdict::InvalidSignature(key_id));
        };
        let digest = digest_of(digest)?;
        Ok(match self.accepts(signature, &digest) {
            true => Verdict::ValidSignature { key_id, algorithm },
            false => Verdict::InvalidSignature(key_id),
        })
    }

    /// Whether there is a key with this id.
    pub fn knows(&self, key_id: KeyId) -> bool {
        self.keyring.knows(key_id)
    }

    /// The forms that a signature would have, were it made by the keys with its id.
    pub(crate) fn forms(&self, signature: &Signature) -> Vec<Form> {
        let Signature { kind, version, key_id, algorithm, .. } = *signature;
        let keys = self.keyring.find(key_id);
        keys.map(|(_, key)| Form { kind, version, key: key.key_type(), algorithm }).collect()
    }

    /// Whether one of the keys made this signature for a file (or its metadata) with this digest.
    pub fn accepts(&mut self, signature: &Signature, digest: &Digest) -> bool {
        let Self { keyring, contexts } = self;
        let Signature { kind, version, key_id, ref bytes, .. } = *signature;
        keyring.find(key_id).any(|(number, key)| {
            let message = Message::of(kind, version, key.key_type(), digest).ok().flatten();
            message.is_some_and(|message| is_by((number, key), contexts, &message, bytes))
        })
    }

    /// Whether a key with this id made this signature of a message.
    pub(crate) fn accepts_message(
        &mut self,
        key_id: KeyId,
        message: &Message,
        signature: &[u8],
    ) -> bool {
        let Self { keyring, contexts } = self;
        keyring.find(key_id).any(|key| is_by(key, contexts, message, signature))
    }
}

/// Whether a key made a signature of version 1 for a file (or its metadata) with this digest.
pub fn is_version_1_by(key: &PublicKey, signature: &SignatureV1, digest: &Digest) -> bool {
    let is_named = KeyV1::of(key).is_some_and(|key| key.key_id == signature.key_id);
    let message = version_1::message(signature, digest);
    is_named && signature.signature().is_some_and(|bytes| is_signed_by(key, &message, bytes))
}

/// Whether a key made a signature, of which there are few.
pub(crate) fn is_signed_by(key: &PublicKey, message: &Message, signature: &[u8]) -> bool {
    is_by((0, key), &mut Vec::new(), message, signature)
}

/// Whether a key made a signature.
fn is_by(
    (number, key): (usize, &PublicKey),
    contexts: &mut Vec<Context>,
    message: &Message,
    signature: &[u8],
) -> bool {
    // an error of OpenSSL's here is a signature that it cannot make sense of
    let accepted = match message {
        Message::Digest(digest) => context(contexts, number, key, digest.algorithm())
            .and_then(|context| context.verify(digest.as_bytes(), signature).ok()),
        Message::Bytes(bytes) => verify_bytes(key, bytes, signature).ok(),
        Message::Bare(digest) => verify_bare(key, digest, signature).ok(),
    };
    accepted.unwrap_or(false)
}

/// Verifies an RSA signature of a digest without DigestInfo.
fn verify_bare(key: &PublicKey, digest: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let mut context = PkeyCtx::new(key.pkey())?;
    context.verify_init()?;
    context.set_rsa_padding(Padding::PKCS1)?;
    context.verify(digest, signature)
}

/// Verifies a signature of bytes that are not hashed before.
fn verify_bytes(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let mut context = MdCtx::new()?;
    context.digest_verify_init(None, key.pkey())?;
    context.digest_verify(message, signature)
}

/// The context for a key and an algorithm, where the kernel could verify with them.
fn context<'a>(
    contexts: &'a mut Vec<Context>,
    number: usize,
    key: &PublicKey,
    algorithm: HashAlgorithm,
) -> Option<&'a mut PkeyCtx<Public>> {
    let known = contexts.iter().position(|c| c.key == number && c.algorithm == algorithm);
    let position = match known {
        Some(position) => position,
        None => {
            let key_type = key.key_type();
            if !key_type.verifiable_over(algorithm) {
                return None;
            }
            let mut context = PkeyCtx::new(key.pkey()).ok()?;
            context.verify_init().ok()?;
            if let KeyType::Rsa(_) = key_type {
                context.set_rsa_padding(Padding::PKCS1).ok()?;
            }
            context.set_signature_md(&*openssl_digest(algorithm).ok()?).ok()?;
            contexts.push(Context { key: number, algorithm, context });
            contexts.len() - 1
        }
    };
    contexts.get_mut(position).map(|found| &mut found.context)
}

/// What `xattr_verify` says of a value that is too short, too long or of an unknown kind.
fn cause_of_malformed(value: &[u8], rule: Rule) -> &'static str {
    use Requirement::{Digest, Signature, SignatureV3, Verity};
    let newest = if rule.kernel.has(Feature::FileSigv3) { 3 } else { 2 };
    match (value, rule.requirement) {
        ([0x01 | 0x03 | 0x04, ..], Verity) => "verity-signature-required",
        ([0x01 | 0x04, ..], Signature | SignatureV3) => "IMA-signature-required",
        ([0x01 | 0x04, ..], Digest) => "invalid-hash",
        ([0x03, version, ..], _) if *version > newest => "invalid-signature-version",
        ([0x03] | [0x03, 0..=2, ..], SignatureV3) => "IMA-sigv3-required",
        ([0x03, 0, ..], _) => "unknown",
        ([0x03, ..], _) => "invalid-signature",
        ([0x06, ..], Signature | SignatureV3) => "IMA-signature-required",
        ([0x06, 3, ..], _) => "invalid-verity-signature",
        ([0x06, ..], _) => "invalid-signature-version",
        _ => "unknown-ima-data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    /// The verdict on a file with the content "abc", by a verifier without keys.
    fn verdict(kernel: KernelVersion, requirement: Requirement, value: &[u8]) -> Verdict {
        let digest_of = |kind: DigestKind| Hasher::new(kind)?.digest(b"abc");
        let rule = Rule::new(requirement, kernel);
        Verifier::new(Keyring::default()).verdict(rule, Some(value), digest_of).unwrap()
    }

    fn digest_attribute(content: &[u8]) -> Vec<u8> {
        let digest = Hasher::new(HashAlgorithm::Sha256).unwrap().digest(content).unwrap();
        Attribute::DigestNg(digest).encode()
    }

    #[test]
    fn causes_are_the_kernels() {
        use Requirement::{Digest, Signature};
        let matching = digest_attribute(b"abc");
        let other = digest_attribute(b"abd");
        let long = [&matching[..], &[0]].concat();
        for (requirement, value, cause) in [
            (Signature, &[][..], Some("IMA-signature-required")),
            (Digest, &[], Some("missing-hash")),
            (Signature, &matching, Some("IMA-signature-required")),
            (Digest, &matching, None),
            (Digest, &other, Some("invalid-hash")),
            (Signature, &long, Some("IMA-signature-required")),
            (Digest, &[4, 4, 1], Some("invalid-hash")),
            (Signature, &[3, 2, 4, 1, 2, 3, 4, 0, 1, 9], Some("invalid-signature")),
            (Digest, &[3, 2, 4, 1, 2, 3, 4, 0, 1, 9], Some("invalid-signature")),
            (Signature, &[3, 3, 4, 1, 2, 3, 4, 0, 1, 9], Some("invalid-signature-version")),
            (Signature, &[3, 7], Some("invalid-signature-version")),
            (Signature, &[3, 0, 0], Some("unknown")),
            (Signature, &[3], Some("invalid-signature")),
            (Signature, &[6, 3, 4, 1, 2, 3, 4, 0, 1, 9], Some("IMA-signature-required")),
            (Digest, &[6, 3, 4, 1, 2, 3, 4, 0, 1, 9], Some("invalid-verity-signature")),
            (Signature, &[5, 2, 4, 1, 2, 3, 4, 0, 1, 9], Some("unknown-ima-data")),
            (Signature, &[0x7f], Some("unknown-ima-data")),
        ] {
            let verdict = verdict(KernelVersion::V6_12, requirement, value);
            assert_eq!(verdict.cause(), cause, "{requirement:?} {value:02x?}: {verdict}");
            assert_eq!(verdict.is_valid(), cause.is_none());
        }
    }

    #[test]
    fn causes_of_fs_verity() {
        use Requirement::{Digest, Signature, Verity};
        let signature = |kind, version| vec![kind, version, 4, 1, 2, 3, 4, 0, 1, 9];
        let matching = digest_attribute(b"abc");
        for (kernel, requirement, value, cause) in [
            (KernelVersion::V6_12, Verity, &signature(6, 3), "invalid-verity-signature"),
            (KernelVersion::V7_3, Verity, &signature(6, 3), "invalid-verity-signature"),
            (KernelVersion::V5_10, Verity, &signature(6, 3), "unknown-ima-data"),
            (KernelVersion::V7_3, Verity, &signature(6, 2), "invalid-signature-version"),
            (KernelVersion::V7_3, Verity, &signature(3, 3), "verity-signature-required"),
            (KernelVersion::V6_12, Verity, &matching, "verity-signature-required"),
            (KernelVersion::V6_12, Verity, &vec![], "verity-signature-required"),
            (KernelVersion::V6_12, Verity, &vec![4, 4, 1], "verity-signature-required"),
            (KernelVersion::V7_3, Signature, &signature(6, 3), "IMA-signature-required"),
            (KernelVersion::V7_3, Digest, &signature(6, 3), "invalid-verity-signature"),
        ] {
            let verdict = verdict(kernel, requirement, value);
            assert_eq!(verdict.cause(), Some(cause), "{requirement:?} {value:02x?}: {verdict}");
        }
    }

    #[test]
    fn causes_of_linux_7_1_know_version_3() {
        use Requirement::{Digest, Signature, SignatureV3};
        let [v2, v3] = [2, 3].map(|version| [3, version, 4, 1, 2, 3, 4, 0, 1, 9]);
        let matching = digest_attribute(b"abc");
        for (requirement, value, cause) in [
            (Signature, &v3[..], "invalid-signature"),
            (Digest, &v3, "invalid-signature"),
            (SignatureV3, &v3, "invalid-signature"),
            (SignatureV3, &v2, "IMA-sigv3-required"),
            (SignatureV3, &[3, 2], "IMA-sigv3-required"),
            (SignatureV3, &[3, 3], "invalid-signature"),
            (Signature, &[3, 4], "invalid-signature-version"),
            (SignatureV3, &matching, "IMA-signature-required"),
            (SignatureV3, &[], "IMA-signature-required"),
        ] {
            let verdict = verdict(KernelVersion::V7_3, requirement, value);
            assert_eq!(verdict.cause(), Some(cause), "{requirement:?} {value:02x?}: {verdict}");
        }
    }
}
