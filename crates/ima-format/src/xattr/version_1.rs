//! Signatures of version 1, and the keys that verify them.
//!
//! Mirrors `struct signature_hdr` and `struct pubkey_hdr` in `include/linux/digsig.h`, and
//! `digsig_verify` in `lib/digsig.c`. A signature, offsets from the start of the attribute:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 1 | 1 | version: 1 |
//! | 2 | 4 | time, in the byte order of the machine that signed |
//! | 6 | 1 | public key algorithm: 0, RSA |
//! | 7 | 1 | digest algorithm: 0, SHA-1; 1, SHA-256 |
//! | 8 | 8 | key id, big-endian |
//! | 16 | 1 | number of integers: 1 |
//! | 17 | 2 | length of the signature in bits, big-endian |
//! | 19 | | the signature: RSA, padded as PKCS#1 v1.5 without DigestInfo |
//!
//! It is over the SHA-1 of the digest and of the bytes from 1 to 16. The key in the keyring is of type
//! `user`; its description is the key id in hexadecimal, and its payload:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 4 | time |
//! | 5 | 1 | algorithm: 0 |
//! | 6 | 1 | number of integers: 2 |
//! | 7 | | modulus and exponent, each after its length in bits |

use alloc::vec::Vec;

use super::SignatureKind;
use crate::hash::HashAlgorithm;

/// A version 1 signature. Kernels with `CONFIG_SIGNATURE` verify it with keys that are not in a trusted
/// keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureV1 {
    /// The kind of content that it signs.
    pub kind: SignatureKind,
    /// When it was made, in the byte order of the machine that made it.
    pub timestamp: [u8; 4],
    /// Public key algorithm: 0 is RSA (`enum pubkey_algo`).
    pub public_key_algorithm: u8,
    /// Digest: 0 is SHA-1, 1 SHA-256 (`enum digest_algo`).
    pub digest_algorithm: u8,
    /// Bytes 12 to 19 of the SHA-1 of the public key ([`public_key`]).
    pub key_id: [u8; 8],
    /// How many integers follow.
    pub mpi_count: u8,
    /// The integers: for each, its length in bits (16, big-endian) and its bytes.
    pub mpis: Vec<u8>,
}

impl SignatureV1 {
    /// The header of an RSA signature over a digest by this algorithm; `None` for one that has no number.
    pub fn of_rsa(
        kind: SignatureKind,
        timestamp: [u8; 4],
        algorithm: HashAlgorithm,
        key_id: [u8; 8],
    ) -> Option<Self> {
        let digest_algorithm = match algorithm {
            HashAlgorithm::Sha1 => 0,
            HashAlgorithm::Sha256 => 1,
            _ => return None,
        };
        let (public_key_algorithm, mpi_count, mpis) = (0, 1, Vec::new());
        Some(Self {
            kind,
            timestamp,
            public_key_algorithm,
            digest_algorithm,
            key_id,
            mpi_count,
            mpis,
        })
    }

    /// The algorithm of the file's digest.
    pub fn algorithm(&self) -> Option<HashAlgorithm> {
        match self.digest_algorithm {
            0 => Some(HashAlgorithm::Sha1),
            1 => Some(HashAlgorithm::Sha256),
            _ => None,
        }
    }

    /// `struct signature_hdr`, which is signed after the digest.
    pub fn header(&self) -> [u8; 16] {
        let [t0, t1, t2, t3] = self.timestamp;
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.key_id;
        let (key, digest) = (self.public_key_algorithm, self.digest_algorithm);
        [1, t0, t1, t2, t3, key, digest, k0, k1, k2, k3, k4, k5, k6, k7, self.mpi_count]
    }

    /// The signature, if it is one by RSA.
    pub fn signature(&self) -> Option<&[u8]> {
        let [high, low, signature @ ..] = &*self.mpis else { return None };
        let bits = usize::from(u16::from_be_bytes([*high, *low]));
        let is_rsa = self.public_key_algorithm == 0 && self.mpi_count == 1;
        Some(signature).filter(|it| is_rsa && bits.div_ceil(8) == it.len())
    }

    /// Puts the signature in, whose length is counted in whole bytes.
    pub fn set_signature(&mut self, signature: &[u8]) {
        self.mpis.clear();
        append_integer(&mut self.mpis, signature, signature.len() * 8);
    }

    pub(super) fn encode_into(&self, value: &mut Vec<u8>) {
        value.push(self.kind.attribute_type() as u8);
        value.extend_from_slice(&self.header());
        value.extend_from_slice(&self.mpis);
    }
}

/// An RSA key as the kernel reads it (`struct pubkey_hdr`), from big-endian numbers without leading zeros.
pub fn public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut key = [1, 0, 0, 0, 0, 0, 2].to_vec();
    for number in [modulus, exponent] {
        let zeros = number.first().map_or(0, |first| first.leading_zeros() as usize);
        append_integer(&mut key, number, (number.len() * 8).saturating_sub(zeros));
    }
    key
}

/// No key has an integer of more bits than the length can say.
fn append_integer(bytes: &mut Vec<u8>, number: &[u8], bits: usize) {
    bytes.extend_from_slice(&u16::try_from(bits).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xattr::Attribute;

    #[test]
    fn a_signature_leads_back() {
        let (kind, algorithm) = (SignatureKind::Ima, HashAlgorithm::Sha256);
        let mut made = SignatureV1::of_rsa(kind, [1, 2, 3, 4], algorithm, [9; 8]).unwrap();
        assert_eq!(made.signature(), None);
        made.set_signature(&[0, 7, 8]);
        let value = Attribute::SignatureV1(made.clone()).encode();
        let header = [1, 1, 2, 3, 4, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 1];
        assert_eq!(value, [&[3][..], &header, &[0, 24, 0, 7, 8]].concat());
        assert_eq!(Attribute::decode(&value), Ok(Attribute::SignatureV1(made.clone())));
        assert_eq!(made.signature(), Some(&[0, 7, 8][..]));
        assert_eq!(made.algorithm(), Some(algorithm));
        made.mpis.pop();
        assert_eq!(made.signature(), None, "shorter than its length");
        assert_eq!(SignatureV1::of_rsa(kind, [0; 4], HashAlgorithm::Sha512, [0; 8]), None);
    }

    #[test]
    fn lengths_of_a_key_are_in_bits() {
        let key = public_key(&[0x7f, 0xff], &[1, 0, 1]);
        assert_eq!(key, [1, 0, 0, 0, 0, 0, 2, 0, 15, 0x7f, 0xff, 0, 17, 1, 0, 1]);
    }
}
