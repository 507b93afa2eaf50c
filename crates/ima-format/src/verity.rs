//! fs-verity: the descriptor whose hash is a file's digest, and the parameters of its Merkle tree.
//!
//! Mirrors `struct fsverity_descriptor` in `fs/verity/fsverity_private.h`; 256 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | hash algorithm: 1 SHA-256, 2 SHA-512 |
//! | 2 | 1 | log2 of the block size: 12 |
//! | 3 | 1 | size of the salt, at most 32 |
//! | 4 | 4 | size of a built-in signature: 0 in what is hashed |
//! | 8 | 8 | size of the file, little-endian |
//! | 16 | 64 | root hash of the Merkle tree, padded with zeros |
//! | 80 | 32 | salt, padded with zeros |
//! | 112 | 144 | reserved: zeros |
//!
//! The tree is built over blocks of 4096 bytes, the last one padded with zeros. A hash is that of the
//! salt, padded with zeros to a whole block of the hash function, and the block. The hashes of one
//! level are packed into blocks, which are the next level's data, until one hash is left: the root
//! hash. The root hash of an empty file is all zeros (`fs/verity/enable.c`, `build_merkle_tree`).

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::hash::{Digest, HashAlgorithm};
use crate::hex;

/// The size of a block: the one that every kernel with fs-verity supports.
pub const BLOCK_SIZE: usize = 4096;
/// The longest salt.
pub const SALT_MAX: usize = 32;
/// The size of a descriptor.
pub const DESCRIPTOR_SIZE: usize = 256;

/// The salt of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Salt {
    bytes: [u8; SALT_MAX],
    length: usize,
}

impl Salt {
    /// A salt of at most [`SALT_MAX`] bytes.
    pub fn new(salt: &[u8]) -> Option<Self> {
        let mut bytes = [0; SALT_MAX];
        bytes.get_mut(..salt.len())?.copy_from_slice(salt);
        Some(Self { bytes, length: salt.len() })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A text that is not a salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaltError;

impl fmt::Display for SaltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a salt is at most {SALT_MAX} bytes in hexadecimal digits")
    }
}

#[cfg(feature = "std")]
impl std::error::Error for SaltError {}

impl FromStr for Salt {
    type Err = SaltError;

    fn from_str(text: &str) -> Result<Self, SaltError> {
        let bytes = hex::decode(text.as_bytes()).map_err(|_| SaltError)?;
        Self::new(&bytes).ok_or(SaltError)
    }
}

/// How a tree is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    algorithm: HashAlgorithm,
    /// The salt.
    pub salt: Salt,
}

impl Parameters {
    /// With this hash algorithm; `None` if fs-verity does not know it.
    pub fn new(algorithm: HashAlgorithm, salt: Salt) -> Option<Self> {
        number(algorithm).map(|_| Self { algorithm, salt })
    }

    /// The hash algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its number in `include/uapi/linux/fsverity.h`.
    pub fn number(&self) -> u8 {
        number(self.algorithm).unwrap_or_default()
    }

    /// The bytes that are hashed before each block: the salt, padded to a block of the hash function;
    /// none without a salt.
    pub fn padded_salt(&self) -> Vec<u8> {
        let mut padded = self.salt.as_bytes().to_vec();
        if !padded.is_empty() {
            padded.resize(if self.algorithm == HashAlgorithm::Sha512 { 128 } else { 64 }, 0);
        }
        padded
    }

    /// The descriptor of a file of this size, whose hash is the file's digest. An empty file has no
    /// root hash.
    pub fn descriptor(&self, size: u64, root: Option<&Digest>) -> [u8; DESCRIPTOR_SIZE] {
        let mut descriptor = [0; DESCRIPTOR_SIZE];
        let root = root.map(Digest::as_bytes).unwrap_or_default();
        let head = [1, self.number(), 12, self.salt.length as u8];
        for (offset, bytes) in
            [(0, &head[..]), (8, &size.to_le_bytes()), (16, root), (80, &self.salt.bytes)]
        {
            for (to, from) in descriptor.iter_mut().skip(offset).zip(bytes) {
                *to = *from;
            }
        }
        descriptor
    }
}

fn number(algorithm: HashAlgorithm) -> Option<u8> {
    match algorithm {
        HashAlgorithm::Sha256 => Some(1),
        HashAlgorithm::Sha512 => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_the_documented_layout() {
        let salt: Salt = "0a0b".parse().unwrap();
        let parameters = Parameters::new(HashAlgorithm::Sha256, salt).unwrap();
        let root = Digest::new(HashAlgorithm::Sha256, &[7; 32]).unwrap();
        let descriptor = parameters.descriptor(0x0102, Some(&root));
        assert_eq!(descriptor[..16], [1, 1, 12, 2, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(descriptor[16..48], [7; 32]);
        assert_eq!(descriptor[48..80], [0; 32]);
        assert_eq!(descriptor[80..82], [0x0a, 0x0b]);
        assert_eq!(descriptor[82..], [0; 174]);
    }

    #[test]
    fn salts_and_algorithms_have_bounds() {
        assert!("00".repeat(33).parse::<Salt>().is_err());
        assert!("0g".parse::<Salt>().is_err());
        assert_eq!("".parse::<Salt>(), Ok(Salt::default()));
        assert_eq!(Parameters::new(HashAlgorithm::Sha1, Salt::default()), None);
    }
}
