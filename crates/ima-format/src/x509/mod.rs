//! The fields of an X.509 certificate (RFC 5280) that the kernel's keyrings look at. Nothing is
//! verified here.
//!
//! Mirrors `crypto/asymmetric_keys/x509_cert_parser.c`, `x509.asn1` and `x509_akid.asn1`,
//! `x509_key_preparse()` of `x509_public_key.c`, and `restrict_link_by_digsig()` of `restrict.c`.
//!
//! ```text
//! Certificate SEQUENCE
//!   tbsCertificate SEQUENCE
//!     [0] version, serialNumber INTEGER, signature, issuer Name, validity, subject Name,
//!     subjectPublicKeyInfo, [1] and [2] unique identifiers, [3] extensions
//!   signatureAlgorithm, signature BIT STRING
//! ```
//!
//! The kernel ignores the version, bytes after the certificate, extensions that are not named
//! below, and the clock; but dates must be well-formed. It rejects empty names and an empty list of
//! extensions. It reads some BER that is not DER (indefinite lengths), which is an error here.

mod algorithm;
mod usage;

use core::fmt;

use crate::der::{
    Value, Values, BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};
use crate::{Error, ErrorKind};

pub use algorithm::{Curve, KeyAlgorithm, MlDsa, SignatureAlgorithm};
pub use usage::{KernelUsage, Purpose, Usage};

const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `keyIdentifier [0]` of an authority key identifier.
const KEY_IDENTIFIER: u8 = 0x80;
/// `authorityCertIssuer [1]`.
const AUTHORITY_ISSUER: u8 = 0xa1;
/// `authorityCertSerialNumber [2]`.
const AUTHORITY_SERIAL: u8 = 0x82;
/// `directoryName [4]` of a GeneralName.
const DIRECTORY_NAME: u8 = 0xa4;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The subject, by one of its names: the common name, else the organization, else the e-mail
    /// address, else nothing.
    pub subject: &'a [u8],
    /// The issuer, in the same way.
    pub issuer: &'a [u8],
    /// The content of the subject's name.
    pub subject_name: &'a [u8],
    /// The content of the issuer's name.
    pub issuer_name: &'a [u8],
    /// The serial number.
    pub serial: &'a [u8],
    /// What is signed.
    pub signed: &'a [u8],
    /// The algorithm of the signature.
    pub signature_algorithm: SignatureAlgorithm,
    /// The signature.
    pub signature: &'a [u8],
    /// The algorithm of the certified key.
    pub key_algorithm: KeyAlgorithm,
    /// The certified key, as its algorithm encodes it.
    pub key: &'a [u8],
    /// The certified key as a SubjectPublicKeyInfo.
    pub key_info: &'a [u8],
    /// The subject key identifier.
    pub subject_key_identifier: Option<&'a [u8]>,
    /// The key identifier of the authority key identifier: the issuer's key.
    pub authority_key_identifier: Option<&'a [u8]>,
    /// The serial number and the content of the name of the certificate of the issuer's key, which
    /// the authority key identifier may give.
    pub authority_serial_and_issuer: Option<(&'a [u8], &'a [u8])>,
    /// Whether the authority key identifier has names other than directory names, which older
    /// kernels cannot read.
    pub authority_has_other_names: bool,
    /// What it may be used for.
    pub usage: Usage,
    /// The same, as the kernel has read it since Linux 6.4, which rejects some certificates for it.
    pub kernel_usage: Result<KernelUsage, Fault>,
}

/// Why the kernel rejects a certificate whose DER is well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A date that is not one, or in the wrong form for its year.
    Time,
    /// A name, or the list of extensions, without an element.
    Empty,
    /// A subject key identifier that is empty, too long or not the first.
    SubjectKeyIdentifier,
    /// A bit string that does not end with a whole octet.
    UnusedBits,
    /// The algorithm of the signature differs inside and outside of what is signed.
    Algorithms,
    /// A key usage that is too short, or has more than seven unused bits.
    KeyUsage,
    /// Basic constraints other than an empty sequence or one that begins with `CA:TRUE`.
    BasicConstraints,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "X.509: invalid date",
            Self::Empty => "X.509: empty name or extension list",
            Self::SubjectKeyIdentifier => "X.509: invalid or repeated subject key identifier",
            Self::UnusedBits => "X.509: bit string with unused bits",
            Self::Algorithms => "X.509: signature algorithm differs from the signed one",
            Self::KeyUsage => "X.509: invalid key usage",
            Self::BasicConstraints => {
                "X.509: basic constraints with an explicit CA:FALSE, or a path length without CA"
            }
        })
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::X509(fault)
    }
}

impl<'a> Certificate<'a> {
    const fn new() -> Self {
        Self {
            subject: &[],
            issuer: &[],
            subject_name: &[],
            issuer_name: &[],
            serial: &[],
            signed: &[],
            signature_algorithm: SignatureAlgorithm::Unknown,
            signature: &[],
            key_algorithm: KeyAlgorithm::Unknown,
            key: &[],
            key_info: &[],
            subject_key_identifier: None,
            authority_key_identifier: None,
            authority_serial_and_issuer: None,
            authority_has_other_names: false,
            usage: Usage { ca: None, key_usage: None, code_signing: false },
            kernel_usage: Ok(KernelUsage::NONE),
        }
    }

    /// Reads a certificate in DER.
    pub fn parse(der: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Values::new(der).take(SEQUENCE)?.values();
        let mut this = Self::new();
        this.signed = fields.peek()?;
        let inner = this.body(fields.take(SEQUENCE)?.values())?;
        let algorithm = fields.take(SEQUENCE)?;
        if algorithm.values().take(OBJECT_IDENTIFIER)?.content != inner {
            return Err(Error::new(Fault::Algorithms, algorithm.offset));
        }
        this.signature = bits(fields.take(BIT_STRING)?)?;
        fields.end()?;
        Ok(this)
    }

    /// What is signed; its signature's algorithm is returned.
    fn body(&mut self, mut body: Values<'a>) -> Result<&'a [u8], Error> {
        body.optional(VERSION)?;
        self.serial = body.take(INTEGER)?.content;
        let algorithm = body.take(SEQUENCE)?.values().take(OBJECT_IDENTIFIER)?.content;
        self.signature_algorithm = SignatureAlgorithm::of(algorithm);
        (self.issuer_name, self.issuer) = name(body.take(SEQUENCE)?)?;
        let mut validity = body.take(SEQUENCE)?.values();
        time(validity.any()?)?;
        time(validity.any()?)?;
        validity.end()?;
        (self.subject_name, self.subject) = name(body.take(SEQUENCE)?)?;
        self.key_info = body.peek()?;
        let mut info = body.take(SEQUENCE)?.values();
        self.key_algorithm = KeyAlgorithm::of(info.take(SEQUENCE)?)?;
        self.key = bits(info.take(BIT_STRING)?)?;
        info.end()?;
        body.optional(ISSUER_UNIQUE_ID)?;
        body.optional(SUBJECT_UNIQUE_ID)?;
        if let Some(extensions) = body.optional(EXTENSIONS)? {
            let mut extensions = not_empty(extensions.values().take(SEQUENCE)?)?;
            while !extensions.is_empty() {
                self.extension(extensions.take(SEQUENCE)?.values())?;
            }
        }
        body.end()?;
        Ok(algorithm)
    }

    /// What the kernel ends a key's description with: the subject key identifier, or without one
    /// the serial number.
    pub fn key_identifier(&self) -> &'a [u8] {
        self.subject_key_identifier.unwrap_or(self.serial)
    }

    fn extension(&mut self, mut extension: Values<'a>) -> Result<(), Error> {
        let id = extension.take(OBJECT_IDENTIFIER)?.content;
        extension.optional(BOOLEAN)?;
        let octets = extension.take(OCTET_STRING)?;
        extension.end()?;
        let mut value = octets.values();
        match id {
            // read by its octets: one of 128 begins with the second octet of its length
            SUBJECT_KEY_IDENTIFIER => match octets.content {
                [OCTET_STRING, length, found @ ..]
                    if usize::from(*length) == found.len()
                        && !found.is_empty()
                        && self.subject_key_identifier.is_none() =>
                {
                    self.subject_key_identifier = Some(found);
                }
                _ => return Err(Error::new(Fault::SubjectKeyIdentifier, octets.offset)),
            },
            AUTHORITY_KEY_IDENTIFIER => self.authority(value.take(SEQUENCE)?.values())?,
            KEY_USAGE => {
                self.kernel_usage =
                    self.kernel_usage.and_then(|usage| usage.with_key_usage(octets.content));
                // how many bits of the last octet are unused, then the octets
                if let Ok(bits) = value.take(BIT_STRING) {
                    self.usage.key_usage = Some(bits.content.get(1).copied().unwrap_or_default());
                }
            }
            BASIC_CONSTRAINTS => {
                self.kernel_usage =
                    self.kernel_usage.and_then(|usage| usage.with_constraints(octets.content));
                if let Ok(constraints) = value.take(SEQUENCE) {
                    let authority = constraints.values().take(BOOLEAN);
                    self.usage.ca = Some(authority.is_ok_and(|value| value.content == [0xff]));
                }
            }
            EXTENDED_KEY_USAGE => {
                if let Ok(purposes) = value.take(SEQUENCE) {
                    let mut purposes = purposes.values();
                    while let Ok(purpose) = purposes.any() {
                        self.usage.code_signing |= purpose.content == CODE_SIGNING;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn authority(&mut self, mut fields: Values<'a>) -> Result<(), Error> {
        let identifier = fields.optional(KEY_IDENTIFIER)?;
        self.authority_key_identifier = identifier.map(|found| found.content);
        let mut issuer = None;
        if let Some(names) = fields.optional(AUTHORITY_ISSUER)? {
            let mut names = names.values();
            while !names.is_empty() {
                let general = names.any()?;
                match general.tag {
                    DIRECTORY_NAME => issuer = Some(name(general.values().take(SEQUENCE)?)?.0),
                    _ => self.authority_has_other_names = true,
                }
            }
        }
        let serial = fields.optional(AUTHORITY_SERIAL)?.map(|found| found.content);
        self.authority_serial_and_issuer = serial.zip(issuer);
        fields.end()
    }
}

/// The content of a bit string whose last octet is whole.
fn bits(value: Value<'_>) -> Result<&[u8], Error> {
    value.content.strip_prefix(&[0]).ok_or_else(|| Error::new(Fault::UnusedBits, value.offset))
}

fn not_empty(value: Value<'_>) -> Result<Values<'_>, Error> {
    match value.content {
        [] => Err(Error::new(Fault::Empty, value.offset)),
        _ => Ok(value.values()),
    }
}

/// `x509_decode_time()`: whether it is a date, not whether it is over.
fn time(value: Value<'_>) -> Result<(), Error> {
    let fault = || Error::new(Fault::Time, value.offset);
    let (digits, year_digits) = match value.tag {
        UTC_TIME => (12, 2),
        GENERALIZED_TIME => (14, 4),
        _ => return Err(fault()),
    };
    let text = value.content.strip_suffix(b"Z").filter(|text| text.len() == digits);
    let text = text.filter(|text| text.iter().all(u8::is_ascii_digit)).ok_or_else(fault)?;
    let number = |text: &[u8]| text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let (year, rest) = text.split_at(year_digits);
    // years that UTCTime can give must not be in the longer form
    let is_good_year = value.tag == UTC_TIME || !(1950..=2049).contains(&number(year));
    let year = match (value.tag, number(year)) {
        (UTC_TIME, year @ 50..) => 1900 + year,
        (UTC_TIME, year) => 2000 + year,
        (_, year) => year,
    };
    let mut fields = rest.chunks(2).map(number);
    let mut next = || fields.next().unwrap_or_default();
    let (month, day, hour, minute, second) = (next(), next(), next(), next(), next());
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let is_good = is_good_year && year >= 1970 && (1..=days).contains(&day);
    match is_good && hour <= 24 && minute <= 59 && second <= 60 {
        true => Ok(()),
        false => Err(fault()),
    }
}

/// The content of a name, and the name that `x509_fabricate_name()` ends with.
fn name(name: Value<'_>) -> Result<(&[u8], &[u8]), Error> {
    let mut found: [Option<&[u8]>; 3] = [None; 3];
    let mut sets = not_empty(name)?;
    while !sets.is_empty() {
        let mut attributes = not_empty(sets.take(SET)?)?;
        while !attributes.is_empty() {
            let mut attribute = attributes.take(SEQUENCE)?.values();
            let id = attribute.take(OBJECT_IDENTIFIER)?.content;
            let value = attribute.any()?.content;
            attribute.end()?;
            for (slot, kind) in found.iter_mut().zip([COMMON_NAME, ORGANIZATION, EMAIL_ADDRESS]) {
                if id == kind {
                    *slot = Some(value);
                }
            }
        }
    }
    Ok((name.content, found.into_iter().flatten().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const AUTHORITY: &[u8] = include_bytes!("../../../../testdata/certificate/authority.der");
    const SIGNER: &[u8] = include_bytes!("../../../../testdata/certificate/signer.der");
    const BARE: &[u8] = include_bytes!("../../../../testdata/certificate/bare.der");

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

    #[test]
    fn dates_are_read_as_the_kernel_reads_them() {
        let read = |tag, text: &[u8]| time(Value { tag, content: text, offset: 0 }).is_ok();
        for (good, text) in [
            (true, &b"491231235959Z"[..]),
            (true, b"700101000000Z"),
            (true, b"240229245960Z"),
            (false, b"240229245961Z"),
            (false, b"240229250000Z"),
            (false, b"230229000000Z"),
            (false, b"691231235959Z"),
            (false, b"2312312359Z"),
            (false, b"231231235959+"),
            (false, b"231331000000Z"),
            (false, b"230100000000Z"),
        ] {
            assert_eq!(read(UTC_TIME, text), good, "{}", text.escape_ascii());
        }
        for (good, text) in [
            (true, &b"20500101000000Z"[..]),
            (true, b"99991231235959Z"),
            (false, b"20491231235959Z"),
            (false, b"19500101000000Z"),
            (false, b"19491231235959Z"),
            (false, b"21000229000000Z"),
        ] {
            assert_eq!(read(GENERALIZED_TIME, text), good, "{}", text.escape_ascii());
        }
        assert!(!read(OCTET_STRING, b"491231235959Z"));
    }

    #[test]
    fn usage_is_read_by_its_bytes() {
        let key_usage = |value: &[u8]| KernelUsage::NONE.with_key_usage(value);
        let constraints = |value: &[u8]| KernelUsage::NONE.with_constraints(value);
        let usage = |ca, digital_signature, key_cert_sign| {
            Ok(KernelUsage { ca, digital_signature, key_cert_sign })
        };
        assert_eq!(key_usage(b"\x03\x02\x07\x80"), usage(false, true, false));
        assert_eq!(key_usage(b"\x03\x02\x02\x04"), usage(false, false, true));
        // a bit among those that are said to be unused, and one before a second octet
        assert_eq!(key_usage(b"\x03\x02\x03\x84"), usage(false, true, false));
        assert_eq!(key_usage(b"\x03\x03\x07\x84\x80"), usage(false, true, true));
        assert_eq!(key_usage(b"\x03\x03\x07\x84"), usage(false, true, false));
        for bad in [&b"\x03\x01\x00"[..], b"\x03\x02\x08\x80", b"\x04\x02\x07\x80", b""] {
            assert_eq!(key_usage(bad), Err(Fault::KeyUsage));
        }
        assert_eq!(constraints(b"\x30\x00"), usage(false, false, false));
        assert_eq!(constraints(b"\x30\x03\x01\x01\xff"), usage(true, false, false));
        assert_eq!(constraints(b"\x30\x06\x01\x01\xff\x02\x01\x00"), usage(true, false, false));
        for bad in [
            &b"\x30\x03\x01\x01\x00"[..],
            b"\x30\x03\x01\x01\x01",
            b"\x30\x03\x02\x01\x00",
            b"\x30\x04\x01\x01\xff",
            b"\x30\x80",
            b"",
        ] {
            assert_eq!(constraints(bad), Err(Fault::BasicConstraints), "{bad:02x?}");
        }
    }
}
