//! The fields of an X.509 certificate (RFC 5280) that the kernel's keyrings look at. Nothing is
//! verified here.
//!
//! Mirrors `crypto/asymmetric_keys/x509_cert_parser.c`, `x509_key_preparse()` of
//! `x509_public_key.c`, and `restrict_link_by_digsig()` of `restrict.c`.
//!
//! ```text
//! Certificate SEQUENCE
//!   tbsCertificate SEQUENCE
//!     [0] version, serialNumber INTEGER, signature, issuer Name, validity, subject Name,
//!     subjectPublicKeyInfo, [1] and [2] unique identifiers, [3] extensions
//! ```

use core::fmt;

use crate::der::{
    Value, Values, BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};
use crate::Error;

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `keyIdentifier [0]` of an authority key identifier.
const KEY_IDENTIFIER: u8 = 0x80;

const COMMON_NAME: &[u8] = b"\x55\x04\x03";
const ORGANIZATION: &[u8] = b"\x55\x04\x0a";
const EMAIL_ADDRESS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01";
const SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x55\x1d\x0e";
const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
const AUTHORITY_KEY_IDENTIFIER: &[u8] = b"\x55\x1d\x23";
const EXTENDED_KEY_USAGE: &[u8] = b"\x55\x1d\x25";
/// `id-kp-codeSigning`.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";

/// The fields of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The subject, by one of its names: the common name, else the organization, else the e-mail
    /// address, else nothing.
    pub subject: &'a [u8],
    /// The issuer, in the same way.
    pub issuer: &'a [u8],
    /// The serial number.
    pub serial: &'a [u8],
    /// The subject key identifier.
    pub subject_key_identifier: Option<&'a [u8]>,
    /// The key identifier of the authority key identifier: the issuer's key.
    pub authority_key_identifier: Option<&'a [u8]>,
    /// What it may be used for.
    pub usage: Usage,
}

/// The extensions that say what a certificate may be used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Basic constraints: `None` without the extension.
    pub ca: Option<bool>,
    /// Key usage: `None` without the extension, else its first octet (RFC 5280, 4.2.1.3).
    pub key_usage: Option<u8>,
    /// Extended key usage has code signing.
    pub code_signing: bool,
}

/// What `.ima` makes of a certificate's use since Linux 6.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `digitalSignature`, and not an authority: it may sign files.
    Signer,
    /// `CA:TRUE` or `keyCertSign`.
    Authority,
    /// No `digitalSignature`.
    Other,
}

impl Usage {
    /// `digitalSignature`: may sign files.
    pub const DIGITAL_SIGNATURE: u8 = 0x80;
    /// `keyCertSign`: may sign certificates.
    pub const KEY_CERT_SIGN: u8 = 0x04;
    /// `cRLSign`.
    pub const CRL_SIGN: u8 = 0x02;

    /// Whether the key usage extension is there and has this bit.
    pub fn has(self, bit: u8) -> bool {
        self.key_usage.is_some_and(|usage| usage & bit != 0)
    }

    /// What `.ima` makes of it.
    pub fn purpose(self) -> Purpose {
        if self.ca == Some(true) || self.has(Self::KEY_CERT_SIGN) {
            Purpose::Authority
        } else if self.has(Self::DIGITAL_SIGNATURE) {
            Purpose::Signer
        } else {
            Purpose::Other
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.ca == Some(true), "CA"),
            (self.has(Self::DIGITAL_SIGNATURE), "digitalSignature"),
            (self.has(Self::KEY_CERT_SIGN), "keyCertSign"),
            (self.has(Self::CRL_SIGN), "cRLSign"),
            (self.code_signing, "codeSigning"),
        ];
        let mut separator = "";
        for (_, name) in names.iter().filter(|(has, _)| *has) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        match separator {
            "" => f.write_str("none stated"),
            _ => Ok(()),
        }
    }
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER.
    pub fn parse(der: &'a [u8]) -> Result<Self, Error> {
        let mut body = Values::new(der).take(SEQUENCE)?.values().take(SEQUENCE)?.values();
        body.optional(VERSION)?;
        let serial = body.take(INTEGER)?.content;
        body.take(SEQUENCE)?;
        let issuer = name(body.take(SEQUENCE)?)?;
        body.take(SEQUENCE)?;
        let subject = name(body.take(SEQUENCE)?)?;
        body.take(SEQUENCE)?;
        let mut this = Self { subject, issuer, serial, ..Self::default() };
        while !body.is_empty() {
            match body.any()? {
                extensions if extensions.tag == EXTENSIONS => {
                    let mut extensions = extensions.values().take(SEQUENCE)?.values();
                    while !extensions.is_empty() {
                        this.extension(extensions.take(SEQUENCE)?.values())?;
                    }
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// What the kernel ends a key's description with: the subject key identifier, or without one
    /// the serial number.
    pub fn key_identifier(&self) -> &'a [u8] {
        self.subject_key_identifier.unwrap_or(self.serial)
    }

    fn extension(&mut self, mut extension: Values<'a>) -> Result<(), Error> {
        let id = extension.take(OBJECT_IDENTIFIER)?.content;
        extension.optional(BOOLEAN)?;
        let mut value = extension.take(OCTET_STRING)?.values();
        match id {
            SUBJECT_KEY_IDENTIFIER => {
                self.subject_key_identifier = Some(value.take(OCTET_STRING)?.content);
            }
            AUTHORITY_KEY_IDENTIFIER => {
                let found = value.take(SEQUENCE)?.values().optional(KEY_IDENTIFIER)?;
                self.authority_key_identifier = found.map(|found| found.content);
            }
            // how many bits of the last octet are unused, then the octets
            KEY_USAGE => {
                let bits = value.take(BIT_STRING)?.content;
                self.usage.key_usage = Some(bits.get(1).copied().unwrap_or_default());
            }
            BASIC_CONSTRAINTS => {
                let authority = value.take(SEQUENCE)?.values().optional(BOOLEAN)?;
                self.usage.ca = Some(authority.is_some_and(|value| value.content == [0xff]));
            }
            EXTENDED_KEY_USAGE => {
                let mut purposes = value.take(SEQUENCE)?.values();
                while !purposes.is_empty() {
                    self.usage.code_signing |= purposes.any()?.content == CODE_SIGNING;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The name that `x509_fabricate_name()` ends with.
fn name(name: Value<'_>) -> Result<&[u8], Error> {
    let mut found: [Option<&[u8]>; 3] = [None; 3];
    let mut sets = name.values();
    while !sets.is_empty() {
        let mut attribute = sets.take(SET)?.values().take(SEQUENCE)?.values();
        let id = attribute.take(OBJECT_IDENTIFIER)?.content;
        let value = attribute.any()?.content;
        for (slot, kind) in found.iter_mut().zip([COMMON_NAME, ORGANIZATION, EMAIL_ADDRESS]) {
            if id == kind {
                *slot = Some(value);
            }
        }
    }
    Ok(found.into_iter().flatten().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const AUTHORITY: &[u8] = include_bytes!("../../../testdata/certificate/authority.der");
    const SIGNER: &[u8] = include_bytes!("../../../testdata/certificate/signer.der");
    const BARE: &[u8] = include_bytes!("../../../testdata/certificate/bare.der");

    #[test]
    fn a_signer_is_named_with_what_the_kernel_looks_at() {
        let authority = Certificate::parse(AUTHORITY).unwrap();
        let signer = Certificate::parse(SIGNER).unwrap();
        assert_eq!(authority.subject, b"Example authority");
        assert_eq!(authority.usage.purpose(), Purpose::Authority);
        assert_eq!((signer.subject, signer.issuer), (&b"Example signer"[..], authority.subject));
        assert_eq!(signer.usage.purpose(), Purpose::Signer);
        assert_eq!(signer.usage.to_string(), "digitalSignature");
        assert_eq!(signer.authority_key_identifier, authority.subject_key_identifier);
        assert_eq!(signer.key_identifier().len(), 20);
    }

    #[test]
    fn without_extensions_the_serial_number_is_the_identifier() {
        let bare = Certificate::parse(BARE).unwrap();
        assert_eq!(bare.subject, b"Bare Org");
        assert_eq!(bare.key_identifier(), b"\x00\xc0\xff\xee");
        assert_eq!((bare.authority_key_identifier, bare.usage), (None, Usage::default()));
        assert_eq!(bare.usage.to_string(), "none stated");
    }

    #[test]
    fn a_certificate_cut_short_is_an_error_inside_it() {
        for whole in [AUTHORITY, SIGNER, BARE] {
            for end in 0..whole.len() {
                let error = Certificate::parse(&whole[..end]).unwrap_err();
                assert!(error.offset <= end, "cut at {end}: {error}");
            }
        }
    }
}
