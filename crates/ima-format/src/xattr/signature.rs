//! Signatures inside attributes; the layout is in the parent module.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use super::{decode_algorithm, Attribute, AttributeType, Fault, SignatureV1};
use crate::hash::{Digest, HashAlgorithm};
use crate::hex;
use crate::reader::Reader;
use crate::Error;

/// The kind of content that a signature signs; the attribute's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKind {
    /// A file's content (`security.ima`).
    Ima,
    /// A file's metadata and content digest (`security.evm`), good on any machine.
    EvmPortable,
    /// A file's fs-verity digest (`security.ima`).
    Verity,
}

impl SignatureKind {
    /// The attribute type that carries this kind.
    pub const fn attribute_type(self) -> AttributeType {
        match self {
            Self::Ima => AttributeType::ImaSignature,
            Self::EvmPortable => AttributeType::EvmPortableSignature,
            Self::Verity => AttributeType::VeritySignature,
        }
    }
}

/// How the signed bytes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SignatureVersion {
    /// The file's digest itself.
    V2 = 2,
    /// The digest of `struct ima_file_id`: type, algorithm and digest.
    V3 = 3,
}

impl fmt::Display for SignatureVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self as u8).fmt(f)
    }
}

impl FromStr for SignatureVersion {
    type Err = SignatureVersionError;

    fn from_str(text: &str) -> Result<Self, SignatureVersionError> {
        match text {
            "2" => Ok(Self::V2),
            "3" => Ok(Self::V3),
            _ => Err(SignatureVersionError),
        }
    }
}

/// A text that is not a signature version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureVersionError;

impl fmt::Display for SignatureVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a signature version is 2 or 3")
    }
}

#[cfg(feature = "std")]
impl std::error::Error for SignatureVersionError {}

/// The last four bytes of the signer's Subject Key Identifier: how the kernel finds the
/// key in `.ima`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::Hex(&self.0).fmt(f)
    }
}

/// A text that is not eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyIdError;

impl fmt::Display for KeyIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key id is eight hexadecimal digits, as in 1a2b3c4d")
    }
}

#[cfg(feature = "std")]
impl std::error::Error for KeyIdError {}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let bytes = hex::decode(digits.as_bytes()).map_err(|_| KeyIdError)?;
        bytes.try_into().map(Self).map_err(|_| KeyIdError)
    }
}

/// A signature of version 2 or 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The kind of content that it signs.
    pub kind: SignatureKind,
    /// How the signed bytes are made.
    pub version: SignatureVersion,
    /// The hash algorithm of the signed digest.
    pub algorithm: HashAlgorithm,
    /// The key that made it.
    pub key_id: KeyId,
    /// RSA: PKCS#1 v1.5; ECDSA: DER; ML-DSA as FIPS 204 has it. At most 65,535 bytes.
    pub bytes: Vec<u8>,
}

/// Bytes in front of the signature proper: type, version, algorithm, key id, length.
pub const HEADER_SIZE: usize = 9;

impl Signature {
    /// Appends the attribute's value to `value`.
    pub fn encode_into(&self, value: &mut Vec<u8>) {
        value.reserve(HEADER_SIZE + self.bytes.len());
        value.push(self.kind.attribute_type() as u8);
        value.push(self.version as u8);
        value.push(self.algorithm.id());
        value.extend_from_slice(&self.key_id.0);
        // no key makes longer ones; the verifier would reject one, as it compares
        let length = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(&self.bytes);
    }

    /// The bytes that a version 3 signature is over, or their digest (`struct ima_file_id`): the
    /// attribute's type, the algorithm id, the digest.
    pub fn file_id(kind: SignatureKind, digest: &Digest) -> Vec<u8> {
        let mut file_id = Vec::with_capacity(2 + digest.as_bytes().len());
        file_id.push(kind.attribute_type() as u8);
        file_id.push(digest.algorithm().id());
        file_id.extend_from_slice(digest.as_bytes());
        file_id
    }
}

/// Decodes the bytes after the type byte.
pub(super) fn decode(kind: SignatureKind, reader: &mut Reader<'_>) -> Result<Attribute, Error> {
    let offset = reader.offset();
    let version = match reader.u8()? {
        1 if kind == SignatureKind::Verity => {
            return Err(Error::new(Fault::ObsoleteVersion, offset));
        }
        1 => return decode_v1(kind, reader),
        2 => SignatureVersion::V2,
        3 => SignatureVersion::V3,
        other => return Err(Error::new(Fault::UnknownVersion(other), offset)),
    };
    let algorithm = decode_algorithm(reader)?;
    let key_id = KeyId(reader.array()?);
    let offset = reader.offset();
    let (declared, present) = (usize::from(reader.u16_be()?), reader.remaining());
    if declared != present {
        return Err(Error::new(Fault::SignatureLength { declared, present }, offset));
    }
    let bytes = reader.rest().to_vec();
    Ok(Attribute::Signature(Signature { kind, version, algorithm, key_id, bytes }))
}

fn decode_v1(kind: SignatureKind, reader: &mut Reader<'_>) -> Result<Attribute, Error> {
    Ok(Attribute::SignatureV1(SignatureV1 {
        kind,
        timestamp: reader.array()?,
        public_key_algorithm: reader.u8()?,
        digest_algorithm: reader.u8()?,
        key_id: reader.array()?,
        mpi_count: reader.u8()?,
        mpis: reader.rest().to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn key_ids_are_read_as_they_are_shown() {
        let key_id = KeyId([0x0a, 0x1b, 0x2c, 0x3d]);
        assert_eq!(key_id.to_string(), "0a1b2c3d");
        assert_eq!("0A1B2C3D".parse(), Ok(key_id));
        assert_eq!("0x0a1b2c3d".parse(), Ok(key_id));
        assert_eq!("a1b2c3d".parse::<KeyId>(), Err(KeyIdError));
    }

    #[test]
    fn version_1_leads_back() {
        let mut value = [3, 1].to_vec();
        value.extend(2..24);
        let Attribute::SignatureV1(signature) = Attribute::decode(&value).unwrap() else {
            panic!("a version 1 signature");
        };
        assert_eq!(signature.key_id, [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(signature.mpi_count, 16);
        assert_eq!(Attribute::SignatureV1(signature).encode(), value);
    }
}
