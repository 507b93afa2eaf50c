//! DER structures (ITU-T X.690) that OpenSSL's binding does not support.

use ima_format::der::{
    Values, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};
use ima_format::hash::HashAlgorithm;
use ima_format::x509;

use super::KeyType;

const NULL: u8 = 0x05;

/// The content of the BIT STRING in a SubjectPublicKeyInfo (RFC 5280, 4.1), without the octet that counts unused bits.
pub(super) fn subject_public_key(info: &[u8]) -> Option<&[u8]> {
    let mut outer = Values::new(info);
    let mut fields = outer.take(SEQUENCE).ok()?.values();
    fields.take(SEQUENCE).ok()?;
    let bits = fields.take(BIT_STRING).ok()?.content;
    (outer.is_empty() && fields.is_empty()).then(|| bits.strip_prefix(&[0]))?
}

/// Encodes one value.
fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..=0x7f => bytes.push(short as u8),
        long => {
            let octets = long.to_be_bytes();
            let octets = &octets[octets.iter().take_while(|&&octet| octet == 0).count()..];
            bytes.push(0x80 | octets.len() as u8);
            bytes.extend_from_slice(octets);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    encode(SEQUENCE, &parts.concat())
}

/// SubjectPublicKeyInfo (RFC 5480, 2) of a point on a curve, both in the form of PKCS#11: the parameters in DER,
/// the point in an OCTET STRING, or without one on some tokens. A bare point may look like an OCTET STRING, but
/// not like one of a point's size.
pub(super) fn ec_public_key_info(parameters: &[u8], point: &[u8]) -> Vec<u8> {
    /// 1.2.840.10045.2.1
    const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let of_a_point = |length: usize| [24, 32, 48, 66].contains(&length);
    let mut values = Values::new(point);
    let wrapped = values.take(OCTET_STRING).ok().filter(|_| values.is_empty());
    let point = match wrapped.map(|value| value.content) {
        Some(inner @ [0x04, numbers @ ..])
            if numbers.len() % 2 == 0 && of_a_point(numbers.len() / 2) =>
        {
            inner
        }
        Some(inner @ [0x02 | 0x03, number @ ..]) if of_a_point(number.len()) => inner,
        _ => point,
    };
    let algorithm = sequence(&[&encode(OBJECT_IDENTIFIER, EC_PUBLIC_KEY), parameters]);
    sequence(&[&algorithm, &encode(BIT_STRING, &[&[0], point].concat())])
}

/// DigestInfo (RFC 8017, 9.2) as in the kernel's `rsa_asn1_templates`; `None` for an algorithm that is not in it.
pub(super) fn digest_info(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Vec<u8>> {
    let oid = algorithm.object_identifier()?;
    let algorithm = sequence(&[&encode(OBJECT_IDENTIFIER, oid), &encode(NULL, &[])]);
    Some(sequence(&[&algorithm, &encode(OCTET_STRING, digest)]))
}

/// 1.2.840.113549.1.7.1
const PKCS7_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// 1.2.840.113549.1.7.2
const PKCS7_SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const CONTEXT_0: u8 = 0xa0;

/// ecdsa-with-SHA224 and so on (RFC 5758; NIST's for SHA-3).
fn ecdsa_with(algorithm: HashAlgorithm) -> Option<&'static [u8]> {
    Some(match algorithm {
        HashAlgorithm::Sha224 => b"\x2a\x86\x48\xce\x3d\x04\x03\x01",
        HashAlgorithm::Sha256 => b"\x2a\x86\x48\xce\x3d\x04\x03\x02",
        HashAlgorithm::Sha384 => b"\x2a\x86\x48\xce\x3d\x04\x03\x03",
        HashAlgorithm::Sha512 => b"\x2a\x86\x48\xce\x3d\x04\x03\x04",
        HashAlgorithm::Sha3_256 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x0a",
        HashAlgorithm::Sha3_384 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x0b",
        HashAlgorithm::Sha3_512 => b"\x60\x86\x48\x01\x65\x03\x04\x03\x0c",
        _ => return None,
    })
}

/// A detached signature in CMS (RFC 5652), with the same bytes as `scripts/sign-file`: without attributes and
/// certificates, with issuer and serial number of the signer. `None` for a key or a hash algorithm that the
/// kernel does not support in such messages.
pub(crate) fn detached_signature(
    certificate: &x509::Certificate<'_>,
    key: KeyType,
    algorithm: HashAlgorithm,
    signature: &[u8],
) -> Option<Vec<u8>> {
    let oid = |oid: &[u8]| encode(OBJECT_IDENTIFIER, oid);
    let hash = sequence(&[&oid(algorithm.object_identifier()?)]);
    let by = match key {
        KeyType::Rsa(_) => sequence(&[&oid(RSA_ENCRYPTION), &encode(NULL, &[])]),
        KeyType::Ecdsa(_) => sequence(&[&oid(ecdsa_with(algorithm)?)]),
        KeyType::MlDsa(set) => sequence(&[&oid(set.encoded_identifier())]),
        KeyType::Other(_) => return None,
    };
    let version = encode(INTEGER, &[1]);
    let issuer = encode(SEQUENCE, certificate.issuer_name);
    let signer = sequence(&[&issuer, &encode(INTEGER, certificate.serial)]);
    let signature = encode(OCTET_STRING, signature);
    let info = sequence(&[&version, &signer, &hash, &by, &signature]);
    let content = sequence(&[&oid(PKCS7_DATA)]);
    let signed = sequence(&[&version, &encode(SET, &hash), &content, &encode(SET, &info)]);
    Some(sequence(&[&oid(PKCS7_SIGNED_DATA), &encode(CONTEXT_0, &signed)]))
}

/// 1.2.840.113549.1.5.13
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
/// 1.2.840.113549.1.5.12
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.2.840.113549.2.9
const HMAC_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
/// 2.16.840.1.101.3.4.1.42
const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

/// EncryptedPrivateKeyInfo (RFC 5958) by PBES2 (RFC 8018): PBKDF2 with HMAC-SHA-256, then
/// AES-256 in CBC mode.
pub(super) fn encrypted_private_key_info(
    salt: &[u8],
    iterations: u32,
    iv: &[u8],
    encrypted: &[u8],
) -> Vec<u8> {
    let oid = |oid: &[u8]| encode(OBJECT_IDENTIFIER, oid);
    // an INTEGER is signed: a leading zero keeps it positive
    let iterations = encode(INTEGER, &[&[0], &iterations.to_be_bytes()[..]].concat());
    let iterations = minimal_integer(&iterations);
    let prf = sequence(&[&oid(HMAC_WITH_SHA256), &encode(NULL, &[])]);
    let parameters = sequence(&[&encode(OCTET_STRING, salt), &iterations, &prf]);
    let derivation = sequence(&[&oid(PBKDF2), &parameters]);
    let cipher = sequence(&[&oid(AES256_CBC), &encode(OCTET_STRING, iv)]);
    let scheme = sequence(&[&oid(PBES2), &sequence(&[&derivation, &cipher])]);
    sequence(&[&scheme, &encode(OCTET_STRING, encrypted)])
}

/// Drops the leading zeros that DER forbids in an INTEGER.
fn minimal_integer(integer: &[u8]) -> Vec<u8> {
    let mut content = &integer[2..];
    while let [0, next, ..] = content {
        if next & 0x80 != 0 {
            break;
        }
        content = &content[1..];
    }
    encode(INTEGER, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_found_bare_and_wrapped() {
        let parameters = encode(OBJECT_IDENTIFIER, &[1]);
        for number in [24, 32, 48, 66] {
            for (form, length) in [(0x04, 2 * number), (0x02, number), (0x03, number)] {
                // each byte makes the bare point look like an OCTET STRING
                let point = [vec![form], vec![length as u8 - 1; length]].concat();
                let wrapped = ec_public_key_info(&parameters, &encode(OCTET_STRING, &point));
                assert_eq!(subject_public_key(&wrapped), Some(&point[..]), "{form} {number}");
                assert_eq!(ec_public_key_info(&parameters, &point), wrapped);
            }
        }
    }

    #[test]
    fn digest_infos_are_the_kernels() {
        // rsa_asn1_templates in crypto/rsa-pkcs1pad.c
        let sha1 = [0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 0x14];
        let sha256 =
            [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
        let info = |algorithm, digest| digest_info(algorithm, digest).unwrap();
        assert_eq!(info(HashAlgorithm::Sha1, &[7; 20]), [&sha1[..], &[7; 20]].concat());
        assert_eq!(info(HashAlgorithm::Sha256, &[7; 32]), [&sha256[..], &[7; 32]].concat());
        assert_eq!(digest_info(HashAlgorithm::Streebog256, &[7; 32]), None);
    }

    #[test]
    fn lengths_lead_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![0x5a; length];
            let bytes = [encode(OCTET_STRING, &content), vec![1, 2]].concat();
            let mut values = Values::new(&bytes);
            assert_eq!(values.take(OCTET_STRING).unwrap().content, content);
            assert_eq!(values.any().unwrap_err().offset, bytes.len());
        }
    }
}
