//! What a certificate may be used for: as its extensions say it, and as the kernel reads them.

use core::fmt;

use super::Fault;
use crate::der::{BIT_STRING, BOOLEAN, SEQUENCE};

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

/// How `.ima` has judged a certificate's use since Linux 6.6.
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

/// What the kernel has kept of the two extensions since Linux 6.4 (`x509_process_extension()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelUsage {
    /// `KEY_EFLAG_CA`
    pub ca: bool,
    /// `KEY_EFLAG_DIGITALSIG`
    pub digital_signature: bool,
    /// `KEY_EFLAG_KEYCERTSIGN`
    pub key_cert_sign: bool,
}

impl KernelUsage {
    /// Without either extension.
    pub const NONE: Self = Self { ca: false, digital_signature: false, key_cert_sign: false };

    /// Adds a key usage extension's value, read by its bytes rather than as DER.
    pub(super) fn with_key_usage(self, value: &[u8]) -> Result<Self, Fault> {
        let [BIT_STRING, length, unused @ 0..=7, bits, rest @ ..] = value else {
            return Err(Fault::KeyUsage);
        };
        let can_hold_it = match length {
            2 => *unused <= 2,
            3 => !rest.is_empty(),
            _ => false,
        };
        Ok(Self {
            digital_signature: self.digital_signature || bits & Usage::DIGITAL_SIGNATURE != 0,
            key_cert_sign: self.key_cert_sign || can_hold_it && bits & Usage::KEY_CERT_SIGN != 0,
            ..self
        })
    }

    /// Adds a basic constraints extension's value, read in the same way.
    pub(super) fn with_constraints(self, value: &[u8]) -> Result<Self, Fault> {
        match value {
            [SEQUENCE, 0] => Ok(self),
            [SEQUENCE, length, content @ ..] if usize::from(*length) == content.len() => {
                match content {
                    [BOOLEAN, 1, 0xff, ..] => Ok(Self { ca: true, ..self }),
                    _ => Err(Fault::BasicConstraints),
                }
            }
            _ => Err(Fault::BasicConstraints),
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
