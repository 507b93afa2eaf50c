//! Structures of a TPM 2.0 that a quote consists of, as `TPM2_Quote` and `TPM2_ReadPublic` return them.
//!
//! TCG TPM 2.0 Library, Part 2: Structures. Integers are big-endian; `2B` is a size (2) and its bytes.
//!
//! | bytes | field of `TPMS_ATTEST` (10.12.12) |
//! |---|---|
//! | 4 | magic: `TPM_GENERATED_VALUE`, without which a TPM signs foreign data only |
//! | 2 | type: `TPM_ST_ATTEST_QUOTE` |
//! | 2B | name of the key |
//! | 2B | the nonce |
//! | 8, 4, 4, 1 | clock, resets, restarts, whether the clock is safe |
//! | 8 | version of the firmware |
//! | 4, n | number of banks; each: algorithm (2), size (1), a bit for each PCR (size) |
//! | 2B | digest of the values of these PCRs, in this order |
//!
//! | bytes | field of `TPMT_SIGNATURE` (11.3.4) |
//! |---|---|
//! | 2, 2 | scheme, hash algorithm |
//! | 2B | the signature (RSA); r (ECDSA) |
//! | 2B | s (ECDSA) |
//!
//! | bytes | field of `TPM2B_PUBLIC` (12.2.5) |
//! |---|---|
//! | 2 | size of the rest |
//! | 2, 2, 4 | type, algorithm of the name, attributes |
//! | 2B | digest of a policy |
//! | 2, n | symmetric algorithm, and unless it is null key bits (2) and mode (2) |
//! | 2, n | scheme, and unless it is null its hash algorithm (2) |
//! | 2, 4, 2B | RSA: bits, exponent (0: 65537), modulus |
//! | 2, 2, n, 2B, 2B | ECC: curve, key derivation and its hash algorithm (2) unless null, x, y |

use alloc::vec::Vec;
use core::fmt;

use crate::hash::HashAlgorithm;
use crate::reader::Reader;
use crate::{Error, ErrorKind};

const TPM_GENERATED_VALUE: u32 = 0xff54_4347;
const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;
const TPM_ALG_NULL: u16 = 0x10;
const TPM_ALG_RSA: u16 = 0x01;
const TPM_ALG_ECC: u16 = 0x23;
const TPM_ALG_RSASSA: u16 = 0x14;
const TPM_ALG_RSAPSS: u16 = 0x16;
const TPM_ALG_ECDSA: u16 = 0x18;
/// `TPMA_OBJECT`: the key signs only structures that the TPM itself made.
const RESTRICTED: u32 = 1 << 16;
/// `TPMA_OBJECT`: the key signs.
const SIGN: u32 = 1 << 18;
/// No TPM has more banks.
const BANKS: u32 = 16;

/// A fault of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The magic of another structure.
    Magic(u32),
    /// Another attestation than a quote.
    AttestationType(u16),
    /// An algorithm that is not known.
    Algorithm(u16),
    /// A signature scheme that is not known.
    Scheme(u16),
    /// A key of another type than RSA and ECC.
    KeyType(u16),
    /// A curve that is not known.
    Curve(u16),
    /// More banks than a TPM has.
    Banks(u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(magic) => {
                write!(f, "TPM: magic {magic:#010x}, expected {TPM_GENERATED_VALUE:#010x}")
            }
            Self::AttestationType(found) => {
                write!(f, "TPM: attestation of type {found:#06x}, expected a quote (0x8018)")
            }
            Self::Algorithm(id) => write!(f, "TPM: unsupported hash algorithm {id:#06x}"),
            Self::Scheme(id) => write!(
                f,
                "TPM: unsupported signature scheme {id:#06x}, expected RSASSA, RSAPSS or ECDSA"
            ),
            Self::KeyType(id) => write!(f, "TPM: key of type {id:#06x}, expected RSA or ECC"),
            Self::Curve(id) => write!(f, "TPM: unsupported curve {id:#06x}"),
            Self::Banks(count) => write!(f, "TPM: {count} banks, expected at most {BANKS}"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Tpm(fault)
    }
}

/// A quote: `TPMS_ATTEST` of type `TPM_ST_ATTEST_QUOTE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote<'a> {
    /// The nonce of whoever asked for it.
    pub nonce: &'a [u8],
    /// Milliseconds that the TPM was powered since its clock was set.
    pub clock: u64,
    /// How often the TPM was reset.
    pub resets: u32,
    /// How often it was resumed or restarted since.
    pub restarts: u32,
    /// The PCRs, in the order of their values.
    pub selection: Vec<(HashAlgorithm, u32)>,
    /// The digest of their values.
    pub digest: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads `TPMS_ATTEST`.
    ///
    /// # Errors
    /// Anything but a quote of known banks.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        match reader.u32_be()? {
            TPM_GENERATED_VALUE => {}
            magic => return Err(Error::new(Fault::Magic(magic), 0)),
        }
        match reader.u16_be()? {
            TPM_ST_ATTEST_QUOTE => {}
            other => return Err(Error::new(Fault::AttestationType(other), 4)),
        }
        sized(&mut reader)?;
        let nonce = sized(&mut reader)?;
        let clock = u64::from_be_bytes(reader.array()?);
        let (resets, restarts) = (reader.u32_be()?, reader.u32_be()?);
        reader.take(1 + 8)?;
        let selection = selection(&mut reader)?;
        let digest = sized(&mut reader)?;
        reader.finish()?;
        Ok(Self { nonce, clock, resets, restarts, selection, digest })
    }
}

/// `TPML_PCR_SELECTION`.
fn selection(reader: &mut Reader<'_>) -> Result<Vec<(HashAlgorithm, u32)>, Error> {
    let at = reader.offset();
    let count = reader.u32_be()?;
    if count > BANKS {
        return Err(Error::new(Fault::Banks(count), at));
    }
    let mut selected = Vec::new();
    for _ in 0..count {
        let bank = algorithm(reader)?;
        let size = reader.u8()?;
        for (octet, first) in reader.take(size.into())?.iter().zip((0..).step_by(8)) {
            let pcrs = (0..8).filter(|bit| octet >> bit & 1 == 1);
            selected.extend(pcrs.map(|bit| (bank, first + bit)));
        }
    }
    Ok(selected)
}

/// A signature: `TPMT_SIGNATURE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The hash algorithm.
    pub algorithm: HashAlgorithm,
    /// Its scheme, and its bytes.
    pub scheme: Scheme<'a>,
}

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// RSA, PKCS #1 v1.5.
    RsaSsa(&'a [u8]),
    /// RSA, PSS.
    RsaPss(&'a [u8]),
    /// ECDSA.
    EcDsa {
        /// r, big-endian.
        r: &'a [u8],
        /// s, big-endian.
        s: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// Another scheme or structure.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16_be()?;
        if !matches!(scheme, TPM_ALG_RSASSA | TPM_ALG_RSAPSS | TPM_ALG_ECDSA) {
            return Err(Error::new(Fault::Scheme(scheme), 0));
        }
        let algorithm = algorithm(&mut reader)?;
        let first = sized(&mut reader)?;
        let scheme = match scheme {
            TPM_ALG_RSASSA => Scheme::RsaSsa(first),
            TPM_ALG_RSAPSS => Scheme::RsaPss(first),
            _ => Scheme::EcDsa { r: first, s: sized(&mut reader)? },
        };
        reader.finish()?;
        Ok(Self { algorithm, scheme })
    }
}

/// The public area of a key: `TPM2B_PUBLIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicArea<'a> {
    attributes: u32,
    /// The key.
    pub key: PublicKey<'a>,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// RSA.
    Rsa {
        /// The modulus, big-endian.
        modulus: &'a [u8],
        /// The exponent.
        exponent: u32,
    },
    /// ECC.
    Ecc {
        /// The curve.
        curve: Curve,
        /// The point's x, big-endian.
        x: &'a [u8],
        /// The point's y, big-endian.
        y: &'a [u8],
    },
}

/// A curve (`TPM_ECC_CURVE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names of FIPS 186
pub enum Curve {
    P256,
    P384,
    P521,
}

impl<'a> PublicArea<'a> {
    /// Reads `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// Keys of other types, and other structures.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut outer = Reader::new(bytes);
        let area = sized(&mut outer)?;
        outer.finish()?;
        let mut reader = Reader::at(area, 2);
        let at = reader.offset();
        let key_type = reader.u16_be()?;
        reader.take(2)?;
        let attributes = reader.u32_be()?;
        sized(&mut reader)?;
        unless_null(&mut reader, 4)?;
        unless_null(&mut reader, 2)?;
        let key = match key_type {
            TPM_ALG_RSA => {
                reader.take(2)?;
                let exponent = match reader.u32_be()? {
                    0 => 65537,
                    exponent => exponent,
                };
                PublicKey::Rsa { modulus: sized(&mut reader)?, exponent }
            }
            TPM_ALG_ECC => {
                let at = reader.offset();
                let curve = match reader.u16_be()? {
                    3 => Curve::P256,
                    4 => Curve::P384,
                    5 => Curve::P521,
                    other => return Err(Error::new(Fault::Curve(other), at)),
                };
                unless_null(&mut reader, 2)?;
                PublicKey::Ecc { curve, x: sized(&mut reader)?, y: sized(&mut reader)? }
            }
            other => return Err(Error::new(Fault::KeyType(other), at)),
        };
        reader.finish()?;
        Ok(Self { attributes, key })
    }

    /// Whether the TPM signs with the key only structures that it made itself. Any other key also signs a forged
    /// quote.
    pub fn is_restricted_signing_key(&self) -> bool {
        self.attributes & (RESTRICTED | SIGN) == RESTRICTED | SIGN
    }
}

/// Skips an algorithm, and its parameters unless it is `TPM_ALG_NULL`.
fn unless_null(reader: &mut Reader<'_>, parameters: usize) -> Result<(), Error> {
    match reader.u16_be()? {
        TPM_ALG_NULL => Ok(()),
        _ => reader.take(parameters).map(drop),
    }
}

fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let size = reader.u16_be()?;
    reader.take(size.into())
}

fn algorithm(reader: &mut Reader<'_>) -> Result<HashAlgorithm, Error> {
    let at = reader.offset();
    let id = reader.u16_be()?;
    HashAlgorithm::from_tpm_id(id).ok_or(Error::new(Fault::Algorithm(id), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// `tpm2_quote -l sha1:10,11+sha256:10 -q abcdef`, from swtpm.
    const QUOTE: &[u8] = b"ff54434780180022000ba08ba5bc578ece4fdb42152944ffd56880779972d44f2531acaf\
        f63ac55121ef0003abcdef000000000000227286436d2fe8c713f301c41eae84c0f78ec100000002000403000c0000\
        0b030004000020834a709ba2534ebe3ee1397fd4f7bd288b2acc1d20a08d6c862dcd99b6f04400";
    /// `tpm2_readpublic -f tss` of a key made with `-G ecc:ecdsa-sha256:null`.
    const ECC: &[u8] = b"00580023000b00050072000000100018000b00030010002054cdf8a12bf91f8babdd408777c2f2\
        4990a463f604d0c36f69d31ac0d8e6f7e00020aa1ad9d8a2d79368be1ac7b730f0069419e87d25898784e18fdad63e\
        a7a902f3";

    fn bytes(text: &[u8]) -> Vec<u8> {
        let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b' ').collect();
        hex::decode(&text).unwrap()
    }

    #[test]
    fn a_quote_is_read() {
        let quote = bytes(QUOTE);
        let quote = Quote::parse(&quote).unwrap();
        use HashAlgorithm::{Sha1, Sha256};
        assert_eq!(quote.selection, [(Sha1, 10), (Sha1, 11), (Sha256, 10)]);
        assert_eq!((quote.nonce, quote.digest.len()), (&[0xab, 0xcd, 0xef][..], 32));
    }

    #[test]
    fn a_public_area_is_read() {
        let area = bytes(ECC);
        let area = PublicArea::parse(&area).unwrap();
        assert!(area.is_restricted_signing_key());
        let PublicKey::Ecc { curve, x, y } = area.key else { panic!() };
        assert_eq!((curve, x.len(), y.len()), (Curve::P256, 32, 32));
    }

    #[test]
    fn every_cut_and_every_other_structure_is_an_error() {
        let (quote, area) = (bytes(QUOTE), bytes(ECC));
        for length in 0..quote.len() {
            assert!(Quote::parse(&quote[..length]).is_err(), "{length}");
        }
        for length in 0..area.len() {
            assert!(PublicArea::parse(&area[..length]).is_err(), "{length}");
        }
        let longer = [&quote[..], &[0]].concat();
        assert_eq!(Quote::parse(&longer).unwrap_err().kind, ErrorKind::TrailingBytes { count: 1 });
        for (at, byte, fault) in [
            (0, 0, Fault::Magic(0x0054_4347)),
            (5, 0x17, Fault::AttestationType(0x8017)),
            (75, 17, Fault::Banks(17)),
            (77, 0x99, Fault::Algorithm(0x99)),
        ] {
            let mut other = quote.clone();
            other[at] = byte;
            assert_eq!(Quote::parse(&other).unwrap_err().kind, fault.into(), "{at}");
        }
        let signature = [0, 0x14, 0, 0xb, 0, 2, 7, 7];
        assert_eq!(Signature::parse(&signature).unwrap().scheme, Scheme::RsaSsa(&[7, 7]));
        assert_eq!(
            Signature::parse(&[0, 0x1a, 0, 0xb, 0, 0]).unwrap_err().kind,
            Fault::Scheme(0x1a).into()
        );
    }
}
