//! Decoded records.

use super::template::{Field, FieldId};
use super::{Endian, Fault, Record};
use crate::hash::{Digest, HashAlgorithm};
use crate::Error;

/// The input of a file's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestType {
    /// The file's content.
    Ima,
    /// The fs-verity descriptor.
    Verity,
}

/// The digest of a measured file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// The input of the digest.
    pub digest_type: DigestType,
    /// The digest; `None` in a violation, which has zeros instead.
    pub digest: Option<Digest>,
    /// Its algorithm; `None` in a field `d`, which does not name it.
    pub algorithm: Option<HashAlgorithm>,
}

/// The decoded fields of a record; fields that its template lacks are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The file's digest, or the buffer's.
    pub digest: Option<FileDigest>,
    /// The file's path as the kernel saw it, or the name of an event.
    pub name: &'a [u8],
    /// `security.ima` or `security.evm`: the whole value of the attribute.
    pub signature: Option<&'a [u8]>,
    /// The content of a measured buffer.
    pub buffer: Option<&'a [u8]>,
    /// The digest that the appended signature covers.
    pub modsig_digest: Option<FileDigest>,
    /// The appended signature, as a PKCS #7 message.
    pub modsig: Option<&'a [u8]>,
    /// The EVM portable signature: the whole value of the attribute.
    pub evm_signature: Option<&'a [u8]>,
    /// The file's owner.
    pub uid: Option<u32>,
    /// The file's group.
    pub gid: Option<u32>,
    /// The file's type and permissions.
    pub mode: Option<u32>,
    /// The names of the attributes that EVM protects.
    pub xattr_names: Option<&'a [u8]>,
    /// Their lengths, 32 bits each.
    pub xattr_lengths: Option<&'a [u8]>,
    /// Their values, one after the other.
    pub xattr_values: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// A field that does not have the form of its kind; offsets count from the start of the record.
    pub fn decode(record: &Record<'a>) -> Result<Self, Error> {
        let mut entry = Self::default();
        for field in record.fields() {
            let field = field.map_err(|error| error.after(record.data_offset))?;
            entry
                .place(record, &field)
                .map_err(|fault| Error::new(fault, record.data_offset + field.offset))?;
        }
        Ok(entry)
    }

    fn place(&mut self, record: &Record<'a>, field: &Field<'a>) -> Result<(), Fault> {
        let bytes = field.bytes;
        let some = (!bytes.is_empty()).then_some(bytes);
        match field.id {
            FieldId::Digest => self.digest = Some(plain_digest(bytes)?),
            FieldId::DigestNg | FieldId::DigestNgV2 => {
                self.digest = Some(prefixed_digest(bytes, record.is_violation())?);
            }
            FieldId::ModsigDigest => {
                let digest = some.map(|bytes| prefixed_digest(bytes, record.is_violation()));
                self.modsig_digest = digest.transpose()?;
            }
            FieldId::Name if record.template.is_ima() => self.name = bytes,
            FieldId::Name | FieldId::NameNg => self.name = name(bytes)?,
            FieldId::Signature => self.signature = some,
            FieldId::Buffer => self.buffer = some,
            FieldId::Modsig => self.modsig = some,
            FieldId::EvmSignature => self.evm_signature = some,
            FieldId::XattrNames => self.xattr_names = some,
            FieldId::XattrLengths => self.xattr_lengths = some,
            FieldId::XattrValues => self.xattr_values = some,
            FieldId::Uid => self.uid = number(bytes, record.endian)?,
            FieldId::Gid => self.gid = number(bytes, record.endian)?,
            FieldId::Mode => self.mode = number(bytes, record.endian)?,
        }
        Ok(())
    }
}

/// A field of kind `d`: 20 bytes, or 16 with `ima_hash=md5`.
fn plain_digest(bytes: &[u8]) -> Result<FileDigest, Fault> {
    let algorithm = match bytes.len() {
        16 => HashAlgorithm::Md5,
        20 => HashAlgorithm::Sha1,
        size => return Err(Fault::DigestSize(size)),
    };
    let zero = bytes.iter().all(|byte| *byte == 0);
    let digest = Digest::new(algorithm, bytes).filter(|_| !zero);
    Ok(FileDigest { digest_type: DigestType::Ima, digest, algorithm: None })
}

/// A field of kind `d-ng` or `d-ngv2`: `[type:]algorithm:`, a NUL, the digest.
fn prefixed_digest(bytes: &[u8], violation: bool) -> Result<FileDigest, Fault> {
    let nul = bytes.iter().position(|byte| *byte == 0).ok_or(Fault::DigestAlgorithm)?;
    let prefix = bytes.get(..nul).and_then(|prefix| prefix.strip_suffix(b":"));
    let (digest_type, name) = match prefix.ok_or(Fault::DigestAlgorithm)? {
        [b'i', b'm', b'a', b':', name @ ..] => (DigestType::Ima, name),
        [b'v', b'e', b'r', b'i', b't', b'y', b':', name @ ..] => (DigestType::Verity, name),
        name => (DigestType::Ima, name),
    };
    let known = |algorithm: &&HashAlgorithm| algorithm.name().as_bytes() == name;
    let algorithm = *HashAlgorithm::ALL.iter().find(known).ok_or(Fault::DigestAlgorithm)?;
    let digest = bytes.get(nul + 1..).unwrap_or_default();
    if digest.len() != algorithm.digest_size() {
        return Err(Fault::DigestSize(digest.len()));
    }
    let digest = Digest::new(algorithm, digest).filter(|_| !violation);
    Ok(FileDigest { digest_type, digest, algorithm: Some(algorithm) })
}

fn name(bytes: &[u8]) -> Result<&[u8], Fault> {
    match bytes.split_last() {
        Some((0, name)) if !name.contains(&0) => Ok(name),
        // an `n-ng` field of an event without a name
        None => Ok(bytes),
        _ => Err(Fault::Name),
    }
}

pub(super) fn number(bytes: &[u8], endian: Endian) -> Result<Option<u32>, Fault> {
    match *bytes {
        [] => Ok(None),
        [one, two] => Ok(Some(
            match endian {
                Endian::Little => u16::from_le_bytes([one, two]),
                Endian::Big => u16::from_be_bytes([one, two]),
            }
            .into(),
        )),
        [one, two, three, four] => Ok(Some(endian.u32([one, two, three, four]))),
        _ => Err(Fault::NumberSize(bytes.len())),
    }
}
