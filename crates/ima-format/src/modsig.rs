//! Signatures appended to modules, kernels and initramfs images: where they are, and the fields of the PKCS#7 message. Nothing is verified here.
//!
//! Mirrors `struct module_signature` in `include/linux/module_signature.h`, `mod_check_sig()` in
//! `kernel/module_signature.c`, `ima_read_modsig()` in `security/integrity/ima/ima_modsig.c`, and
//! `pkcs7.asn1` and `pkcs7_parser.c` in `crypto/asymmetric_keys`.
//!
//! | bytes | field |
//! |---|---|
//! | any | the content, which the signature is over |
//! | length | a PKCS#7 (CMS) message in DER, without content |
//! | 1 | algorithm: 0 |
//! | 1 | hash: 0 |
//! | 1 | type of the identifier: 2, PKCS#7 |
//! | 1 | length of the signer's name: 0 |
//! | 1 | length of the key's identifier: 0 |
//! | 3 | padding: zeros |
//! | 4 | length of the message, big-endian |
//! | 28 | `~Module signature appended~\n` |
//!
//! A file without the last line has no appended signature. With another type of identifier, a
//! field that is not zero, a length that the file does not have, or a message that cannot be read,
//! the kernel rejects a module, and IMA treats the file as one without an appended signature.
//!
//! ```text
//! ContentInfo SEQUENCE
//!   contentType signedData, [0] SignedData SEQUENCE
//!     version INTEGER, digestAlgorithms SET
//!     encapContentInfo SEQUENCE { contentType data, [0] content, here absent }
//!     [0] certificates and [1] revocation lists, here absent
//!     signerInfos SET OF SignerInfo SEQUENCE
//!       version INTEGER
//!       issuerAndSerialNumber SEQUENCE { issuer Name, serialNumber INTEGER }, or [0] subject key id
//!       digestAlgorithm, [0] signed attributes, here absent
//!       signatureAlgorithm, signature OCTET STRING, [1] unsigned attributes
//! ```

use alloc::vec::Vec;
use core::fmt;

use crate::der::{Value, Values, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET};
use crate::hash::HashAlgorithm;
use crate::reader::Reader;
use crate::x509::MlDsa;
use crate::xattr::KeyId;
use crate::{Error, ErrorKind};

/// The last line of a file with an appended signature.
pub const MARKER: &[u8; 28] = b"~Module signature appended~\n";
/// The fields before [`MARKER`] and the line itself.
pub const TRAILER_SIZE: usize = 12 + MARKER.len();
/// The largest message that is read: with certificates in it, some kilobytes.
pub const MESSAGE_MAX: usize = 1 << 20;

/// `MODULE_SIGNATURE_TYPE_PKCS7`, `PKEY_ID_PKCS7` before.
const PKCS7: u8 = 2;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
const CONTEXT_1: u8 = 0xa1;
/// `[0] IMPLICIT OCTET STRING`.
const SUBJECT_KEY_ID: u8 = 0x80;

/// 1.2.840.113549.1.7
const PKCS_7: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07";

/// What is wrong with an appended signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An identifier other than that of PKCS#7.
    NotPkcs7,
    /// A field that is not zero.
    NotZero,
    /// More bytes than the file has, or than any signature needs.
    Length,
    /// Not signed data, or signed data of another type than data.
    ContentType,
    /// A version that the kernel does not know.
    Version,
    /// No signer.
    NoSigner,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPkcs7 => "appended signature: not of type PKCS#7",
            Self::NotZero => "appended signature: a reserved field is not zero",
            Self::Length => "appended signature: longer than the file, or than any signature",
            Self::ContentType => "PKCS#7: not signed data",
            Self::Version => "PKCS#7: unknown version",
            Self::NoSigner => "PKCS#7: no signer",
        })
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Modsig(fault)
    }
}

/// The length of the message before the last [`TRAILER_SIZE`] bytes of a file; `None` if it has no
/// appended signature. `file` is the size of the file.
///
/// # Errors
/// The kernel rejects these fields.
pub fn message_length(trailer: &[u8], file: u64) -> Result<Option<usize>, Error> {
    // a file that is no longer than the trailer has none (`ima_read_modsig`)
    let Some(fields) = trailer.strip_suffix(MARKER) else { return Ok(None) };
    if file <= TRAILER_SIZE as u64 {
        return Ok(None);
    }
    let mut fields = Reader::new(fields);
    let [algorithm, hash, kind, signer, key, padding @ ..] = fields.array::<8>()?;
    let length = fields.u32_be()?;
    if kind != PKCS7 {
        return Err(Error::new(Fault::NotPkcs7, 2));
    }
    if [algorithm, hash, signer, key] != [0; 4] || padding != [0; 3] {
        return Err(Error::new(Fault::NotZero, 0));
    }
    // the kernel takes a signature of nothing for a mistake
    match usize::try_from(length) {
        Ok(size) if u64::from(length) < file - TRAILER_SIZE as u64 && size <= MESSAGE_MAX => {
            Ok(Some(size))
        }
        _ => Err(Error::new(Fault::Length, 8)),
    }
}

/// The bytes after a message of this length.
pub fn trailer(message: u32) -> [u8; TRAILER_SIZE] {
    let mut bytes = [0; TRAILER_SIZE];
    let fields = [0, 0, PKCS7, 0, 0, 0, 0, 0].into_iter().chain(message.to_be_bytes());
    let all = fields.chain(MARKER.iter().copied());
    bytes.iter_mut().zip(all).for_each(|(to, byte)| *to = byte);
    bytes
}

/// A PKCS#7 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whether it has content of its own, which no detached signature has.
    pub has_content: bool,
    /// Whether it brings certificates along. The kernel uses them to find a key that it trusts.
    pub has_certificates: bool,
    /// Who signed, at least one.
    pub signers: Vec<SignerInfo<'a>>,
}

impl Message<'_> {
    /// The ML-DSA key of a signer. The kernel cannot read a message with a signer whose algorithm it does
    /// not know.
    pub fn ml_dsa(&self) -> Option<MlDsa> {
        self.signers.iter().find_map(|signer| match signer.key {
            SignatureKey::MlDsa(set) => Some(set),
            _ => None,
        })
    }
}

/// One signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerInfo<'a> {
    /// Whose it is.
    pub signer: SignerId<'a>,
    /// The hash of what is signed; `None` for one that the kernel does not know, and where ML-DSA signs
    /// the content itself (`algo_takes_data` in `pkcs7_parser.c`).
    pub hash: Option<HashAlgorithm>,
    /// Whether attributes are signed in place of the content. The kernel rejects that for modules.
    pub has_attributes: bool,
    /// The algorithm of the key.
    pub key: SignatureKey,
    /// The signature.
    pub signature: &'a [u8],
}

/// How a signer is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerId<'a> {
    /// By the issuer and the serial number of its certificate.
    Serial {
        /// The content of the issuer's name.
        issuer: &'a [u8],
        /// The serial number.
        serial: &'a [u8],
    },
    /// By the subject key identifier.
    KeyId(&'a [u8]),
}

impl SignerId<'_> {
    /// The end of it, which the kernel searches keys by (`asymmetric_key_id_partial`).
    pub fn key_id(&self) -> Option<KeyId> {
        let end = |bytes: &[u8]| match bytes {
            [.., a, b, c, d] => Some(KeyId([*a, *b, *c, *d])),
            _ => None,
        };
        match self {
            Self::Serial { issuer, serial } => end(&[*serial, *issuer].concat()),
            Self::KeyId(identifier) => end(identifier),
        }
    }
}

/// The algorithm of a signer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKey {
    /// RSA, PKCS#1 v1.5.
    Rsa,
    /// ECDSA.
    Ecdsa,
    /// ML-DSA, pure, with an empty context.
    MlDsa(MlDsa),
    /// One that is not verified here.
    Other,
}

impl<'a> Message<'a> {
    /// Reads a message in DER.
    ///
    /// # Errors
    /// It is malformed, or is not signed data.
    pub fn parse(der: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Values::new(der).take(SEQUENCE)?.values();
        let fault = |fault: Fault, value: Value<'_>| Error::new(fault, value.offset);
        content_type(&mut fields, 2)?;
        let signed = fields.take(CONTEXT_0)?.values().take(SEQUENCE)?;
        let mut signed = signed.values();
        let version = signed.take(INTEGER)?;
        if !matches!(version.content, [1 | 3]) {
            return Err(fault(Fault::Version, version));
        }
        signed.take(SET)?;
        let mut content = signed.take(SEQUENCE)?.values();
        content_type(&mut content, 1)?;
        let has_content = !content.is_empty();
        let has_certificates = signed.optional(CONTEXT_0)?.is_some();
        signed.optional(CONTEXT_1)?;
        let infos = signed.take(SET)?;
        let mut signers = Vec::new();
        let mut rest = infos.values();
        while !rest.is_empty() {
            signers.push(SignerInfo::parse(rest.take(SEQUENCE)?)?);
        }
        match signers.is_empty() {
            true => Err(fault(Fault::NoSigner, infos)),
            false => Ok(Self { has_content, has_certificates, signers }),
        }
    }
}

/// `id-data` (1) or `id-signedData` (2).
fn content_type(fields: &mut Values<'_>, number: u8) -> Result<(), Error> {
    let found = fields.take(OBJECT_IDENTIFIER)?;
    match found.content.strip_prefix(PKCS_7) {
        Some([last]) if *last == number => Ok(()),
        _ => Err(Error::new(Fault::ContentType, found.offset)),
    }
}

impl<'a> SignerInfo<'a> {
    fn parse(info: Value<'a>) -> Result<Self, Error> {
        let mut fields = info.values();
        let version = fields.take(INTEGER)?;
        let signer = match fields.optional(SUBJECT_KEY_ID)? {
            Some(id) => SignerId::KeyId(id.content),
            None => {
                let mut id = fields.take(SEQUENCE)?.values();
                let issuer = id.take(SEQUENCE)?.content;
                SignerId::Serial { issuer, serial: id.take(INTEGER)?.content }
            }
        };
        let fits = match signer {
            SignerId::Serial { .. } => matches!(version.content, [1]),
            SignerId::KeyId(_) => matches!(version.content, [3]),
        };
        if !fits {
            return Err(Error::new(Fault::Version, version.offset));
        }
        let hash = HashAlgorithm::from_object_identifier(algorithm(&mut fields)?)
            .filter(|hash| !matches!(hash, HashAlgorithm::Md5 | HashAlgorithm::Rmd160));
        let has_attributes = fields.optional(CONTEXT_0)?.is_some();
        let key = SignatureKey::of(algorithm(&mut fields)?);
        let hash = match key {
            SignatureKey::MlDsa(_) if !has_attributes => None,
            _ => hash,
        };
        let signature = fields.take(OCTET_STRING)?.content;
        fields.optional(CONTEXT_1)?;
        fields.end()?;
        Ok(Self { signer, hash, has_attributes, key, signature })
    }
}

/// The identifier in an AlgorithmIdentifier.
fn algorithm<'a>(fields: &mut Values<'a>) -> Result<&'a [u8], Error> {
    Ok(fields.take(SEQUENCE)?.values().take(OBJECT_IDENTIFIER)?.content)
}

impl SignatureKey {
    fn of(id: &[u8]) -> Self {
        match id {
            // rsaEncryption
            b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" => Self::Rsa,
            // ecdsa-with-SHA1, -SHA224 to -SHA512, -SHA3-256 to -SHA3-512
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 1..=4]
            | [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 10..=12] => Self::Ecdsa,
            id => MlDsa::ALL
                .into_iter()
                .find(|set| set.encoded_identifier() == id)
                .map_or(Self::Other, Self::MlDsa),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ecdsa => "ecdsa",
            Self::MlDsa(set) => set.name(),
            Self::Other => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(trailer: &[u8], file: u64) -> ErrorKind {
        message_length(trailer, file).unwrap_err().kind
    }

    #[test]
    fn a_trailer_leads_to_its_message() {
        let bytes = trailer(0x1ff);
        assert_eq!(message_length(&bytes, 40 + 0x200), Ok(Some(0x1ff)));
        assert_eq!(message_length(&bytes, 40), Ok(None), "no content, no signature");
        assert_eq!(message_length(&[0; TRAILER_SIZE], 1000), Ok(None));
        assert_eq!(message_length(MARKER, 1000).unwrap_err().offset, 0, "cut");
        // mod_check_sig: sig_len >= file_len - sizeof(*ms)
        assert_eq!(kind(&bytes, 40 + 0x1ff), Fault::Length.into());
        assert_eq!(kind(&trailer(MESSAGE_MAX as u32 + 1), u64::MAX), Fault::Length.into());
        for (position, fault) in [
            (0, Fault::NotZero),
            (1, Fault::NotZero),
            (2, Fault::NotPkcs7),
            (3, Fault::NotZero),
            (4, Fault::NotZero),
            (5, Fault::NotZero),
            (7, Fault::NotZero),
        ] {
            let mut bytes = bytes;
            bytes[position] ^= 1;
            assert_eq!(kind(&bytes, 1000), fault.into(), "{position}");
        }
    }
}
