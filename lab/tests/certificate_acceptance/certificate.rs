//! Certificates encoded octet by octet, so that any part can be absent or invalid.

use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;

pub(crate) const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01";
pub(crate) const ECDSA: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03";
pub(crate) const NIST: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x03";

/// One value in DER.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        long @ 0x80..=0xff => bytes.extend([0x81, long as u8]),
        long => bytes.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    bytes.extend_from_slice(content);
    bytes
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

pub(crate) fn oid(parts: &[&[u8]]) -> Vec<u8> {
    der(0x06, &parts.concat())
}

/// An AlgorithmIdentifier, with NULL parameters as RSA has them.
pub(crate) fn algorithm(id: &[&[u8]]) -> Vec<u8> {
    let null: &[u8] = if id[0] == RSA { &[5, 0] } else { &[] };
    sequence(&[&oid(id), null])
}

/// A name of one common name, as a UTF8String or another type.
pub(crate) fn name_as(tag: u8, text: &str) -> Vec<u8> {
    let attribute = sequence(&[&oid(&[b"\x55\x04\x03"]), &der(tag, text.as_bytes())]);
    sequence(&[&der(0x31, &attribute)])
}

pub(crate) fn name(text: &str) -> Vec<u8> {
    name_as(0x0c, text)
}

pub(crate) fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(&[id]), &der(4, value)])
}

pub(crate) fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

pub(crate) fn ec(curve: Nid, form: Asn1Flag) -> PKey<Private> {
    let mut group = EcGroup::from_curve_name(curve).unwrap();
    group.set_asn1_flag(form);
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// An issuer of certificates: its key, and the names by which certificates refer to it.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) key: PKey<Private>,
    pub(crate) name: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) identifier: Option<Vec<u8>>,
}

impl Issuer {
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        match self.key.rsa().is_ok() {
            true => algorithm(&[RSA, &[11]]),
            false => algorithm(&[ECDSA, &[2]]),
        }
    }
}

/// The parts of a certificate, each encoded.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    /// The algorithm outside of the signed part, if it differs.
    pub(crate) outer_algorithm: Option<Vec<u8>>,
    pub(crate) digest: MessageDigest,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) key_info: Vec<u8>,
    pub(crate) unique_ids: Vec<u8>,
    pub(crate) subject_key: Vec<Vec<u8>>,
    pub(crate) authority_key: Vec<Vec<u8>>,
    pub(crate) key_usage: Vec<Vec<u8>>,
    pub(crate) constraints: Vec<Vec<u8>>,
    pub(crate) other_extensions: Vec<Vec<u8>>,
    /// Whether the list of extensions is present, even if empty.
    pub(crate) has_extensions: bool,
    pub(crate) signer: PKey<Private>,
    /// The octet of the signature with the number of unused bits.
    pub(crate) unused_bits: u8,
}

impl Parts {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let extensions = [
            &self.subject_key[..],
            &self.authority_key,
            &self.key_usage,
            &self.constraints,
            &self.other_extensions,
        ];
        let extensions = match self.has_extensions {
            true => der(0xa3, &der(0x30, &extensions.concat().concat())),
            false => Vec::new(),
        };
        let signed = sequence(&[
            &self.version,
            &der(2, &self.serial),
            &self.algorithm,
            &self.issuer,
            &sequence(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.key_info,
            &self.unique_ids,
            &extensions,
        ]);
        let mut signer = Signer::new(self.digest, &self.signer).unwrap();
        let signature = signer.sign_oneshot_to_vec(&signed).unwrap();
        let signature = der(3, &[&[self.unused_bits], &signature[..]].concat());
        sequence(&[&signed, self.outer_algorithm.as_ref().unwrap_or(&self.algorithm), &signature])
    }
}
