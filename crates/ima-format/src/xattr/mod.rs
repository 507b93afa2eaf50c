//! The values of `security.ima` and `security.evm`.
//!
//! Mirrors `enum evm_ima_xattr_type`, `struct evm_ima_xattr_data` and `struct
//! signature_v2_hdr` in `security/integrity/integrity.h`. Version 1 is in `version_1.rs`.
//!
//! | first byte | meaning | what follows |
//! |---|---|---|
//! | `0x01` | digest, SHA-1 or MD5 (`IMA_XATTR_DIGEST`) | 20 bytes; MD5: 16, or 16 and 4 of zero |
//! | `0x02` | EVM HMAC-SHA-1 (`EVM_XATTR_HMAC`) | 20 bytes |
//! | `0x03` | signature (`EVM_IMA_XATTR_DIGSIG`) | a signature, below |
//! | `0x04` | digest (`IMA_XATTR_DIGEST_NG`) | algorithm id, digest |
//! | `0x05` | EVM portable signature (`EVM_XATTR_PORTABLE_DIGSIG`) | a signature |
//! | `0x06` | fs-verity signature (`IMA_VERITY_DIGSIG`) | a signature |
//!
//! A signature of version 2 or 3, offsets from the start of the attribute:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 1 | 1 | version |
//! | 2 | 1 | hash algorithm id |
//! | 3 | 4 | key id, big-endian |
//! | 7 | 2 | length of the signature, big-endian |
//! | 9 | length | the signature: RSA PKCS#1 v1.5, ECDSA as DER, or ML-DSA |
//!
//! Version 2 is over the digest. Version 3 is over `struct ima_file_id`, cut to its digest:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | type of the attribute: 3, 5 or 6 |
//! | 1 | 1 | hash algorithm id |
//! | 2 | by algorithm | digest |
//!
//! RSA and ECDSA sign the hash of these bytes, by the same algorithm (`calc_file_id_hash`); ML-DSA
//! signs the bytes themselves, in pure mode with an empty context (`asymmetric_verify_v3_hashless`).
//!
//! The kernel rejects (`asymmetric_verify`) a length that is not exactly the rest
//! (`EBADMSG`), an unknown algorithm (`ENOPKG`) and an unknown version; it accepts digests
//! (`xattr_verify`) that are longer than their algorithm wants. Decoding here is strict:
//! bytes that the kernel would ignore are an error with their offset.

mod signature;
mod version_1;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::hash::{Digest, HashAlgorithm};
use crate::reader::Reader;
use crate::{Error, ErrorKind};

pub use signature::{
    KeyId, KeyIdError, Signature, SignatureKind, SignatureVersion, SignatureVersionError,
    HEADER_SIZE,
};
pub use version_1::{public_key as public_key_v1, SignatureV1};

/// `security.ima`: the attribute that IMA appraises.
pub const XATTR_NAME_IMA: &str = "security.ima";
/// `security.evm`: the attribute that protects a file's other security attributes.
pub const XATTR_NAME_EVM: &str = "security.evm";

/// An attribute of a file that IMA or EVM looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // their names are below
pub enum AttributeName {
    Ima,
    Evm,
    Selinux,
    Smack,
    SmackExec,
    SmackTransmute,
    SmackMmap,
    AppArmor,
    Capability,
    /// Another one, which a machine's `evm/evm_xattrs` names.
    Other(OtherName),
}

/// The name of an attribute that [`AttributeName`] has no variant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherName(&'static str);

impl AttributeName {
    /// Each that has a variant of its own.
    pub const ALL: [Self; 9] = [
        Self::Ima,
        Self::Evm,
        Self::Selinux,
        Self::Smack,
        Self::SmackExec,
        Self::SmackTransmute,
        Self::SmackMmap,
        Self::AppArmor,
        Self::Capability,
    ];

    /// Its name in the kernel (`include/uapi/linux/xattr.h`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ima => XATTR_NAME_IMA,
            Self::Evm => XATTR_NAME_EVM,
            Self::Selinux => "security.selinux",
            Self::Smack => "security.SMACK64",
            Self::SmackExec => "security.SMACK64EXEC",
            Self::SmackTransmute => "security.SMACK64TRANSMUTE",
            Self::SmackMmap => "security.SMACK64MMAP",
            Self::AppArmor => "security.apparmor",
            Self::Capability => "security.capability",
            Self::Other(OtherName(name)) => name,
        }
    }

    /// The attribute with this name. One without a variant of its own is kept until the program
    /// ends: names are for the few that a user or a kernel lists, not for those of files.
    pub fn named(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.unwrap_or_else(|| Self::Other(OtherName(Box::leak(name.into()))))
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `enum evm_ima_xattr_type`: the first byte of the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the kernel's constants, explained by the module's table
pub enum AttributeType {
    ImaDigest = 0x01,
    EvmHmac = 0x02,
    ImaSignature = 0x03,
    ImaDigestNg = 0x04,
    EvmPortableSignature = 0x05,
    VeritySignature = 0x06,
}

impl AttributeType {
    /// The type with this first byte.
    pub const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0x01 => Self::ImaDigest,
            0x02 => Self::EvmHmac,
            0x03 => Self::ImaSignature,
            0x04 => Self::ImaDigestNg,
            0x05 => Self::EvmPortableSignature,
            0x06 => Self::VeritySignature,
            _ => return None,
        })
    }

    /// The kernel's constant, as `integrity.h` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImaDigest => "IMA_XATTR_DIGEST",
            Self::EvmHmac => "EVM_XATTR_HMAC",
            Self::ImaSignature => "EVM_IMA_XATTR_DIGSIG",
            Self::ImaDigestNg => "IMA_XATTR_DIGEST_NG",
            Self::EvmPortableSignature => "EVM_XATTR_PORTABLE_DIGSIG",
            Self::VeritySignature => "IMA_VERITY_DIGSIG",
        }
    }
}

/// A decoded attribute value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A digest whose algorithm follows from the length: SHA-1, or MD5 in 16 bytes (also 16 bytes
    /// padded with four of zero, which encodes back without the pad).
    Digest(Digest),
    /// A digest that names its algorithm.
    DigestNg(Digest),
    /// The EVM HMAC-SHA-1, made by the kernel of one machine.
    EvmHmac([u8; 20]),
    /// A version 1 signature: obsolete.
    SignatureV1(SignatureV1),
    /// A signature of version 2 or 3.
    Signature(Signature),
}

/// A fault of an attribute value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The value is empty.
    Empty,
    /// The first byte is no `enum evm_ima_xattr_type`.
    UnknownType(u8),
    /// The hash algorithm id is no `enum hash_algo`.
    UnknownAlgorithm(u8),
    /// The signature's version is neither 1, 2 nor 3.
    UnknownVersion(u8),
    /// A type 1 digest that is neither 16 nor 20 bytes.
    DigestLength(usize),
    /// The signature's length field does not match the rest of the value.
    SignatureLength {
        /// The field.
        declared: usize,
        /// The bytes that are left.
        present: usize,
    },
    /// A version 1 signature where only IMA and EVM knew it: fs-verity never did.
    ObsoleteVersion,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty attribute"),
            Self::UnknownType(id) => write!(f, "unknown attribute type 0x{id:02x}"),
            Self::UnknownAlgorithm(id) => write!(f, "unknown hash algorithm id {id}"),
            Self::UnknownVersion(version) => write!(f, "unknown signature version {version}"),
            Self::DigestLength(length) => {
                write!(f, "digest of {length} bytes is neither SHA-1 (20) nor MD5 (16)")
            }
            Self::SignatureLength { declared, present } => {
                write!(f, "signature length says {declared} bytes, {present} follow")
            }
            Self::ObsoleteVersion => {
                f.write_str("signature version 1 is not defined for this type")
            }
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Xattr(fault)
    }
}

impl Attribute {
    /// Decodes a whole attribute value.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(value);
        if value.is_empty() {
            return Err(Error::new(Fault::Empty, 0));
        }
        let id = reader.u8()?;
        let kind = AttributeType::from_id(id).ok_or(Error::new(Fault::UnknownType(id), 0))?;
        let attribute = match kind {
            AttributeType::ImaDigest => Self::Digest(decode_digest(&mut reader)?),
            AttributeType::EvmHmac => Self::EvmHmac(reader.array()?),
            AttributeType::ImaDigestNg => Self::DigestNg(decode_digest_ng(&mut reader)?),
            AttributeType::ImaSignature => signature::decode(SignatureKind::Ima, &mut reader)?,
            AttributeType::EvmPortableSignature => {
                signature::decode(SignatureKind::EvmPortable, &mut reader)?
            }
            AttributeType::VeritySignature => {
                signature::decode(SignatureKind::Verity, &mut reader)?
            }
        };
        reader.finish()?;
        Ok(attribute)
    }

    /// The attribute's value as the kernel stores it.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        match self {
            Self::Digest(digest) => {
                value.push(AttributeType::ImaDigest as u8);
                value.extend_from_slice(digest.as_bytes());
            }
            Self::DigestNg(digest) => {
                value.push(AttributeType::ImaDigestNg as u8);
                value.push(digest.algorithm().id());
                value.extend_from_slice(digest.as_bytes());
            }
            Self::EvmHmac(hmac) => {
                value.push(AttributeType::EvmHmac as u8);
                value.extend_from_slice(hmac);
            }
            Self::SignatureV1(signature) => signature.encode_into(&mut value),
            Self::Signature(signature) => signature.encode_into(&mut value),
        }
        value
    }

    /// The attribute's type: its first byte.
    pub fn attribute_type(&self) -> AttributeType {
        match self {
            Self::Digest(_) => AttributeType::ImaDigest,
            Self::DigestNg(_) => AttributeType::ImaDigestNg,
            Self::EvmHmac(_) => AttributeType::EvmHmac,
            Self::SignatureV1(signature) => signature.kind.attribute_type(),
            Self::Signature(signature) => signature.kind.attribute_type(),
        }
    }
}

fn decode_digest(reader: &mut Reader<'_>) -> Result<Digest, Error> {
    let offset = reader.offset();
    let bytes = reader.rest();
    let digest = match bytes.len() {
        16 => Digest::new(HashAlgorithm::Md5, bytes),
        // `ima_get_hash_algo`: four zeros at the end mean MD5 in SHA-1's place
        20 => match bytes.strip_suffix(&[0; 4]) {
            Some(md5) => Digest::new(HashAlgorithm::Md5, md5),
            None => Digest::new(HashAlgorithm::Sha1, bytes),
        },
        _ => None,
    };
    digest.ok_or(Error::new(Fault::DigestLength(bytes.len()), offset))
}

fn decode_digest_ng(reader: &mut Reader<'_>) -> Result<Digest, Error> {
    let algorithm = decode_algorithm(reader)?;
    let offset = reader.offset();
    let bytes = reader.take(algorithm.digest_size())?;
    // `take` gave the algorithm's own length, the only thing that `new` checks
    Digest::new(algorithm, bytes).ok_or(Error::new(Fault::DigestLength(bytes.len()), offset))
}

fn decode_algorithm(reader: &mut Reader<'_>) -> Result<HashAlgorithm, Error> {
    let offset = reader.offset();
    let id = reader.u8()?;
    HashAlgorithm::from_id(id).ok_or(Error::new(Fault::UnknownAlgorithm(id), offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(value: &[u8]) -> (ErrorKind, usize) {
        let error = Attribute::decode(value).unwrap_err();
        (error.kind, error.offset)
    }

    /// Type, version 2, SHA-256, key id deadbeef, a signature of three bytes.
    const SIGNATURE: [u8; 12] = [3, 2, 4, 0xde, 0xad, 0xbe, 0xef, 0, 3, 7, 8, 9];

    #[test]
    fn a_signature_has_the_documented_layout() {
        let attribute = Attribute::decode(&SIGNATURE).unwrap();
        let expected = Signature {
            kind: SignatureKind::Ima,
            version: SignatureVersion::V2,
            algorithm: HashAlgorithm::Sha256,
            key_id: KeyId([0xde, 0xad, 0xbe, 0xef]),
            bytes: [7, 8, 9].to_vec(),
        };
        assert_eq!(attribute, Attribute::Signature(expected));
        assert_eq!(attribute.encode(), SIGNATURE);
    }

    #[test]
    fn rejects_length_past_end() {
        let mut value = SIGNATURE;
        value[8] = 4;
        let expected = Fault::SignatureLength { declared: 4, present: 3 };
        assert_eq!(fault(&value), (expected.into(), 7));
    }

    #[test]
    fn rejects_unknown_type_version_and_algorithm() {
        for (offset, bad, expected) in [
            (0, 7, Fault::UnknownType(7)),
            (1, 4, Fault::UnknownVersion(4)),
            (2, 23, Fault::UnknownAlgorithm(23)),
        ] {
            let mut value = SIGNATURE;
            value[offset] = bad;
            assert_eq!(fault(&value), (expected.into(), offset));
        }
        assert_eq!(fault(&[]), (Fault::Empty.into(), 0));
    }

    #[test]
    fn rejects_truncation_anywhere() {
        for length in 0..SIGNATURE.len() {
            assert!(Attribute::decode(&SIGNATURE[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn digests_lead_back() {
        let mut ng = [0x11; 34];
        (ng[0], ng[1]) = (4, 4);
        for value in [&ng[..], &[&[1][..], &[0x22; 20]].concat(), &[&[1][..], &[0x22; 16]].concat()]
        {
            assert_eq!(Attribute::decode(value).unwrap().encode(), value);
        }
        let padded = [&[1][..], &[0x22; 16], &[0; 4]].concat();
        assert_eq!(Attribute::decode(&padded).unwrap().encode(), padded[..17]);
    }

    #[test]
    fn rejects_bytes_after_a_digest() {
        let mut value = [0x11; 35];
        (value[0], value[1]) = (4, 4);
        assert_eq!(fault(&value), (ErrorKind::TrailingBytes { count: 1 }, 34));
    }

    #[test]
    fn rejects_version_1_for_verity() {
        assert_eq!(fault(&[6, 1, 0, 0]), (Fault::ObsoleteVersion.into(), 1));
    }
}
