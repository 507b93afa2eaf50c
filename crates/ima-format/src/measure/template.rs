//! Templates: the fields of a record.
//!
//! Mirrors `builtin_templates` and `supported_fields` in
//! `security/integrity/ima/ima_template.c`, Linux 6.12.

use super::{Endian, Fault};
use crate::reader::Reader;
use crate::Error;

/// The most fields that a template has (`IMA_TEMPLATE_NUM_FIELDS_MAX`).
pub const MAX_FIELDS: usize = 15;

spelled! {
    /// A kind of field.
    FieldId {
        /// The file's digest: MD5 or SHA-1, without its algorithm.
        Digest = "d",
        /// The file's name, at most 255 bytes.
        Name = "n",
        /// The file's digest, after `sha256:` and a NUL.
        DigestNg = "d-ng",
        /// The file's digest, after `ima:sha256:` or `verity:sha256:` and a NUL.
        DigestNgV2 = "d-ngv2",
        /// The file's name, `_` for each space.
        NameNg = "n-ng",
        /// `security.ima` if it is a signature, else the EVM portable signature.
        Signature = "sig",
        /// A buffer that was measured: a key, a command line, a policy.
        Buffer = "buf",
        /// The digest that the appended signature is over.
        ModsigDigest = "d-modsig",
        /// The appended signature (PKCS #7).
        Modsig = "modsig",
        /// `security.evm` if it is a portable signature.
        EvmSignature = "evmsig",
        /// The owner.
        Uid = "iuid",
        /// The group.
        Gid = "igid",
        /// Type and permissions.
        Mode = "imode",
        /// Names of the attributes that EVM protects.
        XattrNames = "xattrnames",
        /// Their lengths.
        XattrLengths = "xattrlengths",
        /// Their values.
        XattrValues = "xattrvalues",
    }
}

/// A template: its name as it is in the record, and its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<'a> {
    name: &'a [u8],
    fields: [FieldId; MAX_FIELDS],
    count: usize,
}

use FieldId::*;
/// The templates that have a name.
const NAMED: &[(&[u8], &[FieldId])] = &[
    (b"ima", &[Digest, Name]),
    (b"ima-ng", &[DigestNg, NameNg]),
    (b"ima-sig", &[DigestNg, NameNg, Signature]),
    (b"ima-ngv2", &[DigestNgV2, NameNg]),
    (b"ima-sigv2", &[DigestNgV2, NameNg, Signature]),
    (b"ima-buf", &[DigestNg, NameNg, Buffer]),
    (b"ima-modsig", &[DigestNg, NameNg, Signature, ModsigDigest, Modsig]),
    (
        b"evm-sig",
        &[DigestNg, NameNg, EvmSignature, XattrNames, XattrLengths, XattrValues, Uid, Gid, Mode],
    ),
];

impl<'a> Template<'a> {
    /// The template with this name; an unknown name is parsed as a list of fields.
    pub fn of(name: &'a [u8]) -> Option<Self> {
        let (mut fields, mut count) = ([FieldId::Digest; MAX_FIELDS], 0);
        if let Some((_, named)) = NAMED.iter().find(|(known, _)| *known == name) {
            fields.iter_mut().zip(*named).for_each(|(field, id)| *field = *id);
            return Some(Self { name, fields, count: named.len() });
        }
        for id in name.split(|byte| *byte == b'|') {
            *fields.get_mut(count)? = FieldId::from_name(id)?;
            count += 1;
        }
        Some(Self { name, fields, count })
    }

    /// Its name, or its list of fields.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Its fields.
    pub fn fields(&self) -> &[FieldId] {
        self.fields.get(..self.count).unwrap_or_default()
    }

    /// Whether it is template `ima`, whose data have another encoding.
    pub fn is_ima(&self) -> bool {
        self.name == b"ima"
    }
}

/// A field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The kind of field.
    pub id: FieldId,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its offset in the template data.
    pub offset: usize,
}

/// The fields of a record, in order; the first error ends the iteration.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    template: Template<'a>,
    next: usize,
    data: Reader<'a>,
    endian: Endian,
}

impl<'a> Fields<'a> {
    /// Splits template data of a byte order into fields.
    pub fn new(template: Template<'a>, data: &'a [u8], endian: Endian) -> Self {
        Self { template, next: 0, data: Reader::new(data), endian }
    }

    fn read(&mut self, id: FieldId) -> Result<Field<'a>, Error> {
        let at = self.data.offset();
        let length = match (self.template.is_ima(), id) {
            (true, FieldId::Digest) => ima_digest_size(self.data.clone().rest(), self.endian),
            _ => self.endian.u32(self.data.array()?) as usize,
        };
        let (offset, left) = (self.data.offset(), self.data.remaining());
        let bytes = self.data.take(length).map_err(|_| {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            Error::new(Fault::FieldLength { length, left }, at)
        })?;
        Ok(Field { id, bytes, offset })
    }
}

/// The size of a SHA-1 digest, or of the zeros of a violation (`IMA_DIGEST_SIZE`).
const IMA_DIGEST_SIZE: usize = 20;
/// The size of the digest with `ima_hash=md5`.
const IMA_MD5_SIZE: usize = 16;
/// The longest name in template `ima` (`IMA_EVENT_NAME_LEN_MAX`).
pub(super) const IMA_NAME_MAX: usize = 255;

/// The size of the digest at the start of the data of template `ima`, which has no length of its own. The length of
/// the name must follow it. A name has no NUL, so the bytes after an MD5 digest are not a valid length for a SHA-1
/// digest; the last bytes of a SHA-1 digest are a valid length once in 2^24.
pub(super) fn ima_digest_size(data: &[u8], endian: Endian) -> usize {
    let name = |size| {
        let mut reader = Reader::new(data.get(size..)?);
        let length = endian.u32(reader.array().ok()?) as usize;
        ((1..=IMA_NAME_MAX).contains(&length)).then_some((length, reader.remaining()))
    };
    match (name(IMA_DIGEST_SIZE), name(IMA_MD5_SIZE)) {
        (Some(_), _) | (None, None) => IMA_DIGEST_SIZE,
        // a name of less than four bytes at the end of a list
        (None, Some((length, left))) if left >= length.min(4) => IMA_MD5_SIZE,
        (None, Some(_)) => IMA_DIGEST_SIZE,
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(id) = self.template.fields().get(self.next).copied() else {
            // once: the bytes after the last field
            let (offset, left) = (self.data.offset(), self.data.remaining());
            self.data.rest();
            return (left > 0).then(|| Err(Error::new(Fault::TrailingData(left), offset)));
        };
        self.next += 1;
        let field = self.read(id);
        if field.is_err() {
            self.next = MAX_FIELDS;
            self.data.rest();
        }
        Some(field)
    }
}
