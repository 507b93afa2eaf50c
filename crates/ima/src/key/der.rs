//! The few DER structures (ITU-T X.690) that OpenSSL's binding does not reach.

/// One value: its tag, its content, and what follows it.
pub(super) fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let octets = usize::from(first & 0x7f);
        if octets == 0 || octets > 4 {
            return None;
        }
        let length =
            rest.get(..octets)?.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet));
        (length, rest.get(octets..)?)
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The BIT STRING's content in a SubjectPublicKeyInfo (RFC 5280, 4.1), without the octet
/// that counts unused bits.
pub(super) fn subject_public_key(info: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, content, []) = value(info)? else { return None };
    let (SEQUENCE, _algorithm, rest) = value(content)? else { return None };
    let (BIT_STRING, bits, []) = value(rest)? else { return None };
    bits.strip_prefix(&[0])
}

/// An extension of a certificate (RFC 5280, 4.2).
pub(super) struct Extension<'a> {
    /// The encoded object identifier.
    pub(super) oid: &'a [u8],
    /// What its OCTET STRING holds.
    pub(super) content: &'a [u8],
}

/// The extensions of a certificate; where its DER ends early, those before.
pub(super) fn extensions(certificate: &[u8]) -> Vec<Extension<'_>> {
    const EXTENSIONS: u8 = 0xa3;
    let list = || {
        let (SEQUENCE, content, _) = value(certificate)? else { return None };
        let (SEQUENCE, mut fields, _) = value(content)? else { return None };
        loop {
            let (tag, content, rest) = value(fields)?;
            if tag == EXTENSIONS {
                let (SEQUENCE, list, _) = value(content)? else { return None };
                return Some(list);
            }
            fields = rest;
        }
    };
    let mut list = list().unwrap_or_default();
    std::iter::from_fn(|| {
        let (SEQUENCE, fields, rest) = value(list)? else { return None };
        list = rest;
        let (OBJECT_IDENTIFIER, oid, mut rest) = value(fields)? else { return None };
        if let (BOOLEAN, _, after) = value(rest)? {
            rest = after;
        }
        let (OCTET_STRING, content, _) = value(rest)? else { return None };
        Some(Extension { oid, content })
    })
    .collect()
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
    // an INTEGER is signed: a zero in front keeps it positive
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
    fn lengths_lead_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![0x5a; length];
            let bytes = [encode(OCTET_STRING, &content), vec![1, 2]].concat();
            assert_eq!(value(&bytes), Some((OCTET_STRING, &content[..], &[1, 2][..])));
        }
    }

    #[test]
    fn rejects_lengths_past_the_end() {
        assert_eq!(value(&[0x30, 3, 1, 2]), None);
        assert_eq!(value(&[0x30, 0x80]), None, "indefinite");
        assert_eq!(value(&[0x30, 0x85, 1, 1, 1, 1, 1]), None, "five octets of length");
    }
}
