//! Just enough X.509 to name a certificate in a message, and to know it in a keyring.
//!
//! The kernel is the judge of certificates (`crypto/asymmetric_keys/x509_cert_parser.c`);
//! here nothing is verified. Of the DER structure only these fields are read:
//!
//! ```text
//! Certificate SEQUENCE
//!   tbsCertificate SEQUENCE
//!     [0] version, serialNumber INTEGER, signature, issuer Name, validity, subject Name,
//!     subjectPublicKeyInfo, [3] extensions: subjectKeyIdentifier, authorityKeyIdentifier,
//!     keyUsage, basicConstraints
//! ```

use alloc::string::String;
use alloc::vec::Vec;

/// What is told about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of the subject, else its organization or e-mail address.
    pub subject: Vec<u8>,
    /// The same of the issuer.
    pub issuer: Vec<u8>,
    /// What the kernel ends a key's description with (`x509_key_preparse()`): the subject
    /// key identifier, or without one the serial number, in lowercase hexadecimal.
    pub key_id: String,
    /// The same of the key that signed it, by the authority key identifier.
    pub signer_key_id: Option<String>,
    /// Whether it may sign data, as `.ima` demands since Linux 6.4.
    pub usage: Usage,
}

/// What the extensions say about the key's use (`restrict_link_by_digsig()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `digitalSignature`, and no authority.
    Signer,
    /// `CA:TRUE` or `keyCertSign`.
    Authority,
    /// No `digitalSignature`.
    Other,
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `keyIdentifier [0]` of an authority key identifier.
const KEY_IDENTIFIER: u8 = 0x80;

const COMMON_NAME: &[u8] = b"\x55\x04\x03";
const ORGANIZATION: &[u8] = b"\x55\x04\x0a";
const EMAIL_ADDRESS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01";
const SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x55\x1d\x0e";
const AUTHORITY_KEY_IDENTIFIER: &[u8] = b"\x55\x1d\x23";
const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";

/// Bits of `KeyUsage`, the first octet.
const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_CERT_SIGN: u8 = 0x04;

impl Certificate {
    /// Reads a DER certificate; `None` where the structure is not as expected.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).take(SEQUENCE)?);
        let mut body = Der(certificate.take(SEQUENCE)?);
        if body.peek() == Some(VERSION) {
            body.any()?;
        }
        let serial = body.take(INTEGER)?;
        body.take(SEQUENCE)?;
        let issuer = name(body.take(SEQUENCE)?)?;
        body.take(SEQUENCE)?;
        let subject = name(body.take(SEQUENCE)?)?;
        body.take(SEQUENCE)?;
        let mut extensions = Extensions::default();
        while let Some((tag, content)) = body.any() {
            if tag == EXTENSIONS {
                extensions.read(Der(content).take(SEQUENCE)?)?;
            }
        }
        let usage = if extensions.authority || extensions.key_usage & KEY_CERT_SIGN != 0 {
            Usage::Authority
        } else if extensions.key_usage & DIGITAL_SIGNATURE != 0 {
            Usage::Signer
        } else {
            Usage::Other
        };
        let key_id = hex(extensions.key_identifier.unwrap_or(serial));
        let signer_key_id = extensions.authority_key_identifier.map(hex);
        Some(Self { subject, issuer, key_id, signer_key_id, usage })
    }
}

#[derive(Default)]
struct Extensions<'a> {
    key_identifier: Option<&'a [u8]>,
    authority_key_identifier: Option<&'a [u8]>,
    key_usage: u8,
    authority: bool,
}

impl<'a> Extensions<'a> {
    fn read(&mut self, extensions: &'a [u8]) -> Option<()> {
        let mut extensions = Der(extensions);
        while let Some((_, extension)) = extensions.any() {
            let mut extension = Der(extension);
            let id = extension.take(OBJECT)?;
            if extension.peek() == Some(BOOLEAN) {
                extension.any()?;
            }
            let mut value = Der(extension.take(OCTET_STRING)?);
            match id {
                SUBJECT_KEY_IDENTIFIER => self.key_identifier = value.take(OCTET_STRING),
                AUTHORITY_KEY_IDENTIFIER => {
                    self.authority_key_identifier = Der(value.take(SEQUENCE)?).take(KEY_IDENTIFIER);
                }
                // A BIT STRING: how many bits are unused, then the bits.
                KEY_USAGE => self.key_usage = *value.take(BIT_STRING)?.get(1)?,
                BASIC_CONSTRAINTS => {
                    let authority = Der(value.take(SEQUENCE)?).take(BOOLEAN);
                    self.authority = authority.is_some_and(|value| value != [0]);
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// The name that a person goes by, as the kernel picks it: CN, else O, else the e-mail.
fn name(name: &[u8]) -> Option<Vec<u8>> {
    let mut found: [Option<&[u8]>; 3] = [None; 3];
    let mut sets = Der(name);
    while let Some((SET, set)) = sets.any() {
        let mut attribute = Der(Der(set).take(SEQUENCE)?);
        let id = attribute.take(OBJECT)?;
        let (_, value) = attribute.any()?;
        let kinds = [COMMON_NAME, ORGANIZATION, EMAIL_ADDRESS];
        for (slot, kind) in found.iter_mut().zip(kinds) {
            if id == kind {
                *slot = Some(value);
            }
        }
    }
    Some(found.into_iter().flatten().next().unwrap_or_default().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
}

/// What is left of a DER structure.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, which must have this tag: its content.
    fn take(&mut self, expected: u8) -> Option<&'a [u8]> {
        let (tag, content) = self.any()?;
        (tag == expected).then_some(content)
    }

    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (size, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count)?;
                let size = bytes.iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
                (size, rest.get(count..)?)
            }
            _ => return None,
        };
        let content = rest.get(..size)?;
        self.0 = rest.get(size..)?;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &[u8] = include_bytes!("../../../testdata/certificate/authority.der");
    const SIGNER: &[u8] = include_bytes!("../../../testdata/certificate/signer.der");
    const BARE: &[u8] = include_bytes!("../../../testdata/certificate/bare.der");

    #[test]
    fn a_signer_is_named_with_what_the_kernel_looks_at() {
        let authority = Certificate::parse(AUTHORITY).unwrap();
        let signer = Certificate::parse(SIGNER).unwrap();
        assert_eq!(authority.subject, b"Example authority");
        assert_eq!(authority.usage, Usage::Authority);
        assert_eq!(
            (&signer.subject[..], &signer.issuer),
            (&b"Example signer"[..], &authority.subject)
        );
        assert_eq!(signer.usage, Usage::Signer);
        assert_eq!(signer.signer_key_id.as_ref(), Some(&authority.key_id));
        assert_eq!(signer.key_id.len(), 40);
    }

    #[test]
    fn without_extensions_the_serial_number_is_the_id() {
        let bare = Certificate::parse(BARE).unwrap();
        assert_eq!(bare.subject, b"Bare Org");
        assert_eq!(bare.key_id, "00c0ffee");
        assert_eq!((bare.signer_key_id, bare.usage), (None, Usage::Other));
    }

    #[test]
    fn nothing_makes_it_panic() {
        for whole in [AUTHORITY, SIGNER, BARE] {
            for end in 0..whole.len() {
                assert_eq!(Certificate::parse(&whole[..end]), None, "cut at {end}");
            }
            let mut bytes = whole.to_vec();
            for index in 0..bytes.len() {
                for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                    let before = core::mem::replace(&mut bytes[index], value);
                    let _ = Certificate::parse(&bytes);
                    bytes[index] = before;
                }
            }
        }
    }
}
