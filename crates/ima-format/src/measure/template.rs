//! Templates: which fields a record has.
//!
//! Mirrors `builtin_templates` and `supported_fields` in
//! `security/integrity/ima/ima_template.c`, Linux 6.12.

use super::{Endian, Fault};
use crate::reader::Reader;
use crate::Error;

/// The most fields that a template has (`IMA_TEMPLATE_NUM_FIELDS_MAX`).
pub const MAX_FIELDS: usize = 15;

macro_rules! field_ids {
    ($($variant:ident $name:literal $doc:literal,)+) => {
        /// A kind of field.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum FieldId {
            $(#[doc = $doc] $variant,)+
        }

        impl FieldId {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kernel's name of it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            fn from_name(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|id| id.name().as_bytes() == name)
            }
        }
    };
}

field_ids! {
    Digest "d" "The file's digest: MD5 or SHA-1, without its algorithm.",
    Name "n" "The file's name, at most 255 bytes.",
    DigestNg "d-ng" "The file's digest, after `sha256:` and a NUL.",
    DigestNgV2 "d-ngv2" "The file's digest, after `ima:sha256:` or `verity:sha256:` and a NUL.",
    NameNg "n-ng" "The file's name, `_` for each space.",
    Signature "sig" "`security.ima` if it is a signature, else the EVM portable signature.",
    Buffer "buf" "A buffer that was measured: a key, a command line, a policy.",
    ModsigDigest "d-modsig" "The digest that the appended signature is over.",
    Modsig "modsig" "The appended signature (PKCS #7).",
    EvmSignature "evmsig" "`security.evm` if it is a portable signature.",
    Uid "iuid" "The owner.",
    Gid "igid" "The group.",
    Mode "imode" "Type and permissions.",
    XattrNames "xattrnames" "Names of the attributes that EVM protects.",
    XattrLengths "xattrlengths" "Their lengths.",
    XattrValues "xattrvalues" "Their values.",
}

/// A template: its name as it is in the record, and its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<'a> {
    name: &'a [u8],
    fields: [FieldId; MAX_FIELDS],
    count: usize,
}

use FieldId::*;
/// The templates with names of their own.
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
    /// The template of this name; a name that is not known is a list of fields.
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

    /// Whether it is the one whose data have another form.
    pub fn is_ima(&self) -> bool {
        self.name == b"ima"
    }
}

/// One field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// What it is.
    pub id: FieldId,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where they begin in the template data.
    pub offset: usize,
}

/// The fields of a record, in order; an error ends them.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    template: Template<'a>,
    next: usize,
    data: Reader<'a>,
    endian: Endian,
}

impl<'a> Fields<'a> {
    /// The fields of template data in a byte order.
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

/// SHA-1, or zeros in a violation (`IMA_DIGEST_SIZE`).
const IMA_DIGEST_SIZE: usize = 20;
/// With `ima_hash=md5`.
const IMA_MD5_SIZE: usize = 16;
/// The longest name in template `ima` (`IMA_EVENT_NAME_LEN_MAX`).
pub(super) const IMA_NAME_MAX: usize = 255;

/// The size of the digest that the data of template `ima` begin with. It has no length of its own, but
/// the length of a name must follow it: a name has no NUL, so that what follows an MD5 digest is no
/// length for a SHA-1 digest, and the last bytes of a SHA-1 digest are one in 2^24.
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
            // once, what no field accounts for
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
