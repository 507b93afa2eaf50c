//! Hash algorithms as the kernel numbers and names them.
//!
//! Mirrors `enum hash_algo` in `include/uapi/linux/hash_info.h`, `hash_algo_name` and
//! `hash_digest_size` in `crypto/hash_info.c` (the same in Linux 5.10 to 6.12, but for
//! SHA-3, which came with 6.7). Digests are held here, never computed.

use core::fmt;
use core::str::FromStr;

macro_rules! hash_algorithms {
    ($($variant:ident = $id:literal, $name:literal, $size:literal;)+) => {
        /// A hash algorithm, numbered as in the kernel's `enum hash_algo`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)] // the names are the documentation
        pub enum HashAlgorithm {
            $($variant = $id,)+
        }

        impl HashAlgorithm {
            /// Every algorithm that the kernel numbers, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The algorithm with this `enum hash_algo` number.
            pub const fn from_id(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The kernel's name (`hash_algo_name`), as policies and logs spell it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Digest size in bytes (`hash_digest_size`).
            pub const fn digest_size(self) -> usize {
                match self {
                    $(Self::$variant => $size,)+
                }
            }
        }
    };
}

hash_algorithms! {
    Md4 = 0, "md4", 16;
    Md5 = 1, "md5", 16;
    Sha1 = 2, "sha1", 20;
    Rmd160 = 3, "rmd160", 20;
    Sha256 = 4, "sha256", 32;
    Sha384 = 5, "sha384", 48;
    Sha512 = 6, "sha512", 64;
    Sha224 = 7, "sha224", 28;
    Rmd128 = 8, "rmd128", 16;
    Rmd256 = 9, "rmd256", 32;
    Rmd320 = 10, "rmd320", 40;
    Wp256 = 11, "wp256", 32;
    Wp384 = 12, "wp384", 48;
    Wp512 = 13, "wp512", 64;
    Tgr128 = 14, "tgr128", 16;
    Tgr160 = 15, "tgr160", 20;
    Tgr192 = 16, "tgr192", 24;
    Sm3 = 17, "sm3", 32;
    Streebog256 = 18, "streebog256", 32;
    Streebog512 = 19, "streebog512", 64;
    Sha3_256 = 20, "sha3-256", 32;
    Sha3_384 = 21, "sha3-384", 48;
    Sha3_512 = 22, "sha3-512", 64;
}

impl HashAlgorithm {
    /// The content of its object identifier, of those that the kernel reads in signatures
    /// (`include/linux/oid_registry.h`, `rsa_asn1_templates` in `crypto/rsa-pkcs1pad.c`).
    pub const fn object_identifier(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Md5 => b"\x2a\x86\x48\x86\xf7\x0d\x02\x05",
            Self::Sha1 => b"\x2b\x0e\x03\x02\x1a",
            Self::Rmd160 => b"\x2b\x24\x03\x02\x01",
            Self::Sha256 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x01",
            Self::Sha384 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x02",
            Self::Sha512 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x03",
            Self::Sha224 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x04",
            Self::Sha3_256 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x08",
            Self::Sha3_384 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x09",
            Self::Sha3_512 => b"\x60\x86\x48\x01\x65\x03\x04\x02\x0a",
            _ => return None,
        })
    }

    /// The algorithm with this object identifier.
    pub fn from_object_identifier(id: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.object_identifier() == Some(id))
    }

    /// The number in the kernel's `enum hash_algo`.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The algorithm with this `TPM_ALG` number.
    pub const fn from_tpm_id(id: u16) -> Option<Self> {
        Some(match id {
            0x04 => Self::Sha1,
            0x0b => Self::Sha256,
            0x0c => Self::Sha384,
            0x0d => Self::Sha512,
            0x12 => Self::Sm3,
            0x27 => Self::Sha3_256,
            0x28 => Self::Sha3_384,
            0x29 => Self::Sha3_512,
            _ => return None,
        })
    }

    /// The `TPM_ALG` number, where the TCG gave one.
    pub const fn tpm_id(self) -> Option<u16> {
        Some(match self {
            Self::Sha1 => 0x04,
            Self::Sha256 => 0x0b,
            Self::Sha384 => 0x0c,
            Self::Sha512 => 0x0d,
            Self::Sm3 => 0x12,
            Self::Sha3_256 => 0x27,
            Self::Sha3_384 => 0x28,
            Self::Sha3_512 => 0x29,
            _ => return None,
        })
    }

    /// Whether collisions can be made in practice: no basis for a new signature.
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Md4 | Self::Md5 | Self::Sha1 | Self::Rmd128 | Self::Tgr128)
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no hash algorithm of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAlgorithm;

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a hash algorithm of the kernel's; known are")?;
        HashAlgorithm::ALL.iter().try_for_each(|algorithm| write!(f, " {algorithm}"))
    }
}

#[cfg(feature = "std")]
impl std::error::Error for UnknownAlgorithm {}

impl FromStr for HashAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm)
    }
}

/// The largest digest of any algorithm, in bytes (`HASH_MAX_DIGESTSIZE`).
pub const MAX_DIGEST_SIZE: usize = 64;

/// A digest and the algorithm that made it; its length is always the algorithm's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: [u8; MAX_DIGEST_SIZE],
}

impl Digest {
    /// Holds `bytes`, if their number is the algorithm's digest size.
    pub fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.digest_size() {
            return None;
        }
        let mut digest = Self { algorithm, bytes: [0; MAX_DIGEST_SIZE] };
        digest.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(digest)
    }

    /// The algorithm that made it.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The digest itself, [`HashAlgorithm::digest_size`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.digest_size()).unwrap_or_default()
    }
}

/// `sha256:c0ffee...`, as in the kernel's measurement list.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, crate::hex::Hex(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn ids_and_names_lead_back() {
        for (id, &algorithm) in HashAlgorithm::ALL.iter().enumerate() {
            assert_eq!(usize::from(algorithm.id()), id, "the numbers have no gap");
            assert_eq!(HashAlgorithm::from_id(algorithm.id()), Some(algorithm));
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert!(algorithm.digest_size() <= MAX_DIGEST_SIZE);
        }
        assert_eq!(HashAlgorithm::from_id(23), None);
        for id in 0..0x100 {
            let known = HashAlgorithm::from_tpm_id(id);
            assert!(known.map_or(true, |algorithm| algorithm.tpm_id() == Some(id)), "{id:#x}");
        }
        assert_eq!("SHA256".parse::<HashAlgorithm>(), Err(UnknownAlgorithm));
    }

    #[test]
    fn a_digest_has_its_algorithms_length() {
        assert_eq!(Digest::new(HashAlgorithm::Sha256, &[0; 31]), None);
        let digest = Digest::new(HashAlgorithm::Sha1, &[0xab; 20]).unwrap();
        assert_eq!(digest.as_bytes(), [0xab; 20]);
        assert_eq!(digest.to_string(), "sha1:abababababababababababababababababababab");
    }
}
