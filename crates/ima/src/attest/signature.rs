//! The signature in a record, verified with the other fields of the record.
//!
//! `ima-sig` has the file's digest and the signature over it. An EVM portable signature covers the file's
//! attributes, owner and mode, which only `evm-sig` has; it is also checked that they contain the measured
//! digest. An appended signature covers the content before it, whose digest `ima-modsig` has as `d-modsig`
//! (`ima_eventdigest_modsig_init`, `ima_template_lib.c`).

use std::fmt;

use ima_format::evm::{Machine, Metadata};
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::{DigestType, Endian, Entry, FieldId, FileDigest, Record};
use ima_format::modsig::Message;
use ima_format::xattr::{Attribute, KeyId, Signature, SignatureKind};
use ima_format::Error as FormatError;

use crate::digest::{DigestError, FileHasher};
use crate::key::Message as Signed;
use crate::modsig::{self, Over, Verdict};
use crate::verify::Verifier;

/// The result of verifying a signature in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureState {
    /// The signature of a known key over the measured content.
    Valid(KeyId),
    /// The signature is not by the key that it names, or not over the measured content.
    Invalid(KeyId),
    /// No certificate has this key ID.
    UnknownKey(KeyId),
    /// The signature covers data that the record does not have.
    Unverifiable(Unverifiable),
    /// It is malformed.
    Malformed(FormatError),
}

/// Why a signature cannot be verified from the record alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverifiable {
    /// Version 1: certificates do not belong to such keys.
    Version1,
    /// The signature covers a digest of another algorithm than the measured one.
    OtherDigest {
        /// The signature's algorithm.
        signed: HashAlgorithm,
        /// That of the digest in the record.
        measured: Option<HashAlgorithm>,
    },
    /// The signature covers the fs-verity digest, but the content was measured, or the reverse.
    OtherType,
    /// The signature covers the file's metadata, which the template does not have.
    Metadata,
    /// An appended signature over attributes, over content of its own, or by ML-DSA over the content itself.
    Appended,
    /// The record is a violation: it has no digest.
    Violation,
    /// The value is not a signature.
    NotASignature,
}

impl SignatureState {
    /// The name of the state in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Valid(_) => "valid-signature",
            Self::Invalid(_) => "invalid-signature",
            Self::UnknownKey(_) => "unknown-key",
            Self::Unverifiable(_) => "unverifiable-signature",
            Self::Malformed(_) => "malformed-signature",
        }
    }

    /// The key ID of the signature, if it could be verified.
    pub fn key_id(&self) -> Option<KeyId> {
        match *self {
            Self::Valid(key_id) | Self::Invalid(key_id) | Self::UnknownKey(key_id) => Some(key_id),
            Self::Unverifiable(_) | Self::Malformed(_) => None,
        }
    }
}

impl fmt::Display for SignatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(key_id) => write!(f, "valid signature by key {key_id}"),
            Self::Invalid(key_id) => {
                write!(f, "not a signature by key {key_id} over the measured digest")
            }
            Self::UnknownKey(key_id) => write!(f, "unknown key {key_id}"),
            Self::Unverifiable(why) => write!(f, "signature not verified: {why}"),
            Self::Malformed(error) => write!(f, "malformed signature: {error}"),
        }
    }
}

impl fmt::Display for Unverifiable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version1 => f.write_str("obsolete version 1"),
            Self::OtherDigest { signed, measured: Some(measured) } => {
                write!(f, "it is over a {signed} digest, the list has {measured}")
            }
            Self::OtherDigest { signed, measured: None } => {
                write!(f, "it is over a {signed} digest, the list has none")
            }
            Self::OtherType => f.write_str("it is over another type of digest than was measured"),
            Self::Metadata => f.write_str("it is over metadata, which the list does not have"),
            Self::Appended => {
                f.write_str("the appended signature is not over a digest of the file's content")
            }
            Self::Violation => f.write_str("a violation has no digest"),
            Self::NotASignature => f.write_str("not a signature"),
        }
    }
}

/// Verifies signatures in records.
pub(super) struct RecordVerifier {
    verifier: Verifier,
    hashers: FileHasher,
}

impl RecordVerifier {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self { verifier, hashers: FileHasher::default() }
    }

    /// The states of all signatures in a record.
    pub(super) fn states(
        &mut self,
        entry: &Entry<'_>,
        record: &Record<'_>,
    ) -> Result<Vec<SignatureState>, DigestError> {
        let mut states = Vec::new();
        for value in [entry.signature, entry.evm_signature].into_iter().flatten() {
            states.push(self.state(value, entry, record)?);
        }
        if let Some(message) = entry.modsig {
            states.push(self.appended(message, entry, record));
        }
        Ok(states)
    }

    fn state(
        &mut self,
        value: &[u8],
        entry: &Entry<'_>,
        record: &Record<'_>,
    ) -> Result<SignatureState, DigestError> {
        let unverifiable = |why| Ok(SignatureState::Unverifiable(why));
        let signature = match Attribute::decode(value) {
            Ok(Attribute::Signature(signature)) => signature,
            Ok(Attribute::SignatureV1(_)) => return unverifiable(Unverifiable::Version1),
            Ok(_) => return unverifiable(Unverifiable::NotASignature),
            Err(error) => return Ok(SignatureState::Malformed(error)),
        };
        if record.is_violation() {
            return unverifiable(Unverifiable::Violation);
        }
        match signature.kind {
            SignatureKind::EvmPortable => self.portable(&signature, entry, record),
            SignatureKind::Ima | SignatureKind::Verity => {
                match measured(&signature, entry, record) {
                    Ok(digest) => Ok(self.over(&signature, &digest)),
                    Err(why) => unverifiable(why),
                }
            }
        }
    }

    /// Verifies an appended signature over the digest of the content before it, which the record also has.
    fn appended(&self, message: &[u8], entry: &Entry<'_>, record: &Record<'_>) -> SignatureState {
        if record.is_violation() {
            return SignatureState::Unverifiable(Unverifiable::Violation);
        }
        let message = match Message::parse(message) {
            Ok(message) => message,
            Err(error) => return SignatureState::Malformed(error),
        };
        let digest = entry.modsig_digest.and_then(|digest| digest.digest);
        let verdict = modsig::of_message(self.verifier.keyring(), &message, |over| {
            // the record does not have the content
            let Over::Digest(signed) = over else { return Err(Unverifiable::Appended) };
            let measured = digest.map(|digest| digest.algorithm());
            let same = digest.filter(|digest| digest.algorithm() == signed);
            same.map(Signed::Digest).ok_or(Unverifiable::OtherDigest { signed, measured })
        });
        let named = || message.signers.first().and_then(|info| info.signer.key_id());
        match verdict {
            Err(why) => SignatureState::Unverifiable(why),
            Ok(Verdict::Valid { key_id, .. }) => SignatureState::Valid(key_id),
            Ok(Verdict::Invalid(key_id)) => SignatureState::Invalid(key_id),
            Ok(Verdict::UnknownKey) => match named() {
                Some(key_id) => SignatureState::UnknownKey(key_id),
                None => SignatureState::Unverifiable(Unverifiable::NotASignature),
            },
            // signed attributes, or content of its own: the signature does not cover the measured content
            Ok(_) => SignatureState::Unverifiable(Unverifiable::Appended),
        }
    }

    /// Whether a signature is over a digest.
    fn over(&mut self, signature: &Signature, digest: &Digest) -> SignatureState {
        let key_id = signature.key_id;
        match (self.verifier.knows(key_id), self.verifier.accepts(signature, digest)) {
            (false, _) => SignatureState::UnknownKey(key_id),
            (true, true) => SignatureState::Valid(key_id),
            (true, false) => SignatureState::Invalid(key_id),
        }
    }

    /// Verifies a signature over metadata (`evm_calc_hmac_or_hash`, `evm_crypto.c`).
    fn portable(
        &mut self,
        signature: &Signature,
        entry: &Entry<'_>,
        record: &Record<'_>,
    ) -> Result<SignatureState, DigestError> {
        let Some(metadata) = Covered::of(entry) else {
            return Ok(SignatureState::Unverifiable(Unverifiable::Metadata));
        };
        let invalid = SignatureState::Invalid(signature.key_id);
        // the signature covers security.ima, whose digest must be the measured one
        let attribute = metadata.attribute(b"security.ima", record.endian).map(Attribute::decode);
        match attribute {
            Some(Ok(Attribute::Digest(digest) | Attribute::DigestNg(digest))) => {
                if entry.digest.and_then(|measured| measured.digest) != Some(digest) {
                    return Ok(invalid);
                }
            }
            Some(Ok(Attribute::Signature(content)))
                if content.kind != SignatureKind::EvmPortable =>
            {
                let digest = match measured(&content, entry, record) {
                    Ok(digest) => digest,
                    Err(why) => return Ok(SignatureState::Unverifiable(why)),
                };
                let state = self.over(&content, &digest);
                if !matches!(state, SignatureState::Valid(_)) {
                    return Ok(state);
                }
            }
            _ => return Ok(invalid),
        }
        let mut state = invalid;
        // the record has neither the machine's word size nor its byte order: all are tried
        for machine in (Machine { endian: record.endian, ..Machine::DEFAULT }).all() {
            let mut message = metadata.values.to_vec();
            metadata.owner.append_to(&mut message, None, machine);
            let digest = self.hashers.hasher(signature.algorithm)?.digest(&message)?;
            state = self.over(signature, &digest);
            if !matches!(state, SignatureState::Invalid(_)) {
                break;
            }
        }
        Ok(state)
    }
}

/// The data that an EVM portable signature covers.
struct Covered<'a> {
    names: &'a [u8],
    lengths: &'a [u8],
    values: &'a [u8],
    owner: Metadata,
}

impl<'a> Covered<'a> {
    fn of(entry: &Entry<'a>) -> Option<Self> {
        Some(Self {
            names: entry.xattr_names?,
            lengths: entry.xattr_lengths?,
            values: entry.xattr_values?,
            owner: Metadata {
                uid: entry.uid?,
                gid: entry.gid?,
                mode: u16::try_from(entry.mode?).ok()?,
            },
        })
    }

    /// The value of an attribute.
    fn attribute(&self, wanted: &[u8], endian: Endian) -> Option<&'a [u8]> {
        let names = self.names.strip_suffix(b"\0").unwrap_or(self.names);
        let mut start = 0_usize;
        for (name, length) in names.split(|byte| *byte == b'|').zip(self.lengths.chunks_exact(4)) {
            let length = endian.u32(length.try_into().ok()?) as usize;
            let value = self.values.get(start..start.checked_add(length)?)?;
            if name == wanted {
                return Some(value);
            }
            start += length;
        }
        None
    }
}

/// The digest in a record that a signature of content covers.
fn measured(
    signature: &Signature,
    entry: &Entry<'_>,
    record: &Record<'_>,
) -> Result<Digest, Unverifiable> {
    let signed = signature.algorithm;
    let Some(FileDigest { digest: Some(digest), digest_type, .. }) = entry.digest else {
        return Err(Unverifiable::OtherDigest { signed, measured: None });
    };
    let wanted = match signature.kind {
        SignatureKind::Verity => DigestType::Verity,
        SignatureKind::Ima | SignatureKind::EvmPortable => DigestType::Ima,
    };
    // d-ng does not show the type of its digest: that of the signature is used
    if record.template.fields().contains(&FieldId::DigestNgV2) && digest_type != wanted {
        return Err(Unverifiable::OtherType);
    }
    match digest.algorithm() == signed {
        true => Ok(digest),
        false => {
            let measured = Some(digest.algorithm());
            Err(Unverifiable::OtherDigest { signed, measured })
        }
    }
}
