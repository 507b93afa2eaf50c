//! Pax records: read, and one attribute set among them; the layout is in the parent module.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Fault;
use crate::{base64, hex, Error};

/// Attributes as star and GNU tar write them: the value as it is.
const SCHILY: &[u8] = b"SCHILY.xattr.";
/// Attributes as libarchive writes them: the value in Base64.
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins.
    pub offset: usize,
    /// All of it.
    pub bytes: &'a [u8],
    /// Before the `=`.
    pub keyword: &'a [u8],
    /// After the `=`; it may hold any bytes.
    pub value: &'a [u8],
}

/// The records of a pax extension, one by one: they take no memory.
pub fn records(body: &[u8]) -> Records<'_> {
    Records { rest: body, offset: 0 }
}

/// Gives each record of a pax extension, up to the first that is malformed: one without a
/// length or `=`, one whose length lies, one whose keyword programs read differently.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = record(self.rest, self.offset);
        let length = record.as_ref().map_or(self.rest.len(), |record| record.bytes.len());
        self.rest = self.rest.get(length..).unwrap_or_default();
        self.offset += length;
        Some(record)
    }
}

/// The first record of `rest`.
fn record(rest: &[u8], offset: usize) -> Result<Record<'_>, Error> {
    let fail = |fault: Fault| Error::new(fault, offset);
    let space = rest.iter().take(21).position(|byte| *byte == b' ');
    let digits = space.and_then(|space| rest.get(..space)).unwrap_or_default();
    let declared = decimal(digits).ok_or(fail(Fault::RecordWithoutLength))?;
    let lies = || fail(Fault::RecordLength { declared, left: rest.len() });
    let length = usize::try_from(declared).map_err(|_| lies())?;
    let bytes = rest.get(..length).ok_or_else(lies)?;
    let text = bytes.get(digits.len() + 1..).and_then(|text| text.strip_suffix(b"\n"));
    let text = text.ok_or_else(lies)?;
    let equals = text.iter().position(|byte| *byte == b'=').filter(|equals| *equals > 0);
    let equals = equals.ok_or(fail(Fault::RecordWithoutEquals))?;
    let (keyword, value) = (text.get(..equals), text.get(equals + 1..));
    let (keyword, value) = (keyword.unwrap_or_default(), value.unwrap_or_default());
    // GNU tar skips blanks before a keyword; a zero byte ends it
    if keyword.starts_with(b" ") || keyword.starts_with(b"\t") || keyword.contains(&0) {
        return Err(fail(Fault::RecordKeyword));
    }
    if keyword.strip_prefix(SCHILY).is_some_and(has_unknown_escape) {
        return Err(fail(Fault::AttributeName));
    }
    Ok(Record { offset, bytes, keyword, value })
}

/// Decimal digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    });
    value.filter(|_| !digits.is_empty())
}

/// How a record gives `security.ima`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Schily,
    Libarchive,
}

/// Whether a record gives an attribute, and how.
fn attribute_form(keyword: &[u8], name: &str) -> Option<Form> {
    let name = name.as_bytes();
    if let Some(schily) = keyword.strip_prefix(SCHILY) {
        return (schily == name).then_some(Form::Schily);
    }
    let decoded = percent_decoded(keyword.strip_prefix(LIBARCHIVE)?);
    // which a zero byte ends
    let decoded = decoded.split(|byte| *byte == 0).next();
    (decoded == Some(name)).then_some(Form::Libarchive)
}

/// The names of the attributes of the namespace `security` that records are about.
pub(super) fn security_attributes(body: &[u8]) -> BTreeSet<String> {
    let name = |keyword: &[u8]| {
        let name = match (keyword.strip_prefix(SCHILY), keyword.strip_prefix(LIBARCHIVE)) {
            (Some(name), _) => name.to_vec(),
            (None, Some(name)) => percent_decoded(name).into_owned(),
            (None, None) => return None,
        };
        let name = name.split(|byte| *byte == 0).next().map(<[u8]>::to_vec)?;
        String::from_utf8(name).ok().filter(|name| name.starts_with("security."))
    };
    records(body).flatten().filter_map(|record| name(record.keyword)).collect()
}

/// The attribute that records give: later ones override, an empty value takes back.
pub(super) fn attribute(body: &[u8], name: &str) -> Result<Option<Vec<u8>>, Error> {
    let (mut schily, mut libarchive) = (None, None);
    for record in records(body) {
        let record = record?;
        match attribute_form(record.keyword, name) {
            Some(Form::Schily) => schily = Some(record),
            Some(Form::Libarchive) => libarchive = Some(record),
            None => {}
        }
    }
    if let Some(record) = libarchive {
        let fail = |fault: Fault| Error::new(fault, record.offset);
        let value = base64::decode(record.value).ok_or(fail(Fault::Base64))?;
        if schily.map_or(true, |schily| schily.value != value) {
            return Err(fail(Fault::Contradiction));
        }
    }
    let value = schily.map(|record| record.value).filter(|value| !value.is_empty());
    Ok(value.map(<[u8]>::to_vec))
}

/// The records with an attribute set, or without it, every other byte as it was.
pub(super) fn with_attribute(
    body: &[u8],
    name: &str,
    value: Option<&[u8]>,
) -> Result<Vec<u8>, Error> {
    let mut set = value.map(|value| encode(&[SCHILY, name.as_bytes()].concat(), value));
    let mut changed = Vec::new();
    for record in records(body) {
        let record = record?;
        match attribute_form(record.keyword, name) {
            None => changed.extend_from_slice(record.bytes),
            // in the place of the first record; all others with that keyword are removed
            Some(_) => changed.extend(set.take().unwrap_or_default()),
        }
    }
    changed.extend(set.unwrap_or_default());
    Ok(changed)
}

/// Whether records say something of an attribute.
pub(super) fn mention_attribute(body: &[u8], name: &str) -> bool {
    records(body).flatten().any(|record| attribute_form(record.keyword, name).is_some())
}

/// A record with the right length.
pub(super) fn encode(keyword: &[u8], value: &[u8]) -> Vec<u8> {
    // space, equals sign, line end
    let text = keyword.len() + value.len() + 3;
    let digits = |length: usize| format!("{length}").len();
    // the length's own digits can make it one digit longer
    let mut length = text + digits(text);
    length = text + digits(length);
    [format!("{length} ").as_bytes(), keyword, b"=", value, b"\n"].concat()
}

/// Whether a name has a `%` that GNU tar would not have written: it encodes `%` and `=`, and
/// libarchive nothing.
fn has_unknown_escape(name: &[u8]) -> bool {
    let mut parts = name.split(|byte| *byte == b'%').skip(1);
    parts.any(|part| !part.starts_with(b"25") && !part.starts_with(b"3D"))
}

/// A name in which libarchive encoded bytes as `%3D`.
fn percent_decoded(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'%') {
        return Cow::Borrowed(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|code| hex::decode(code).ok());
        match code {
            Some(byte) => {
                decoded.extend(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMA: &str = crate::xattr::XATTR_NAME_IMA;
    use crate::ErrorKind;

    fn fault(body: &[u8]) -> (ErrorKind, usize) {
        let error = records(body).find_map(Result::err).unwrap();
        (error.kind, error.offset)
    }

    #[test]
    fn the_length_counts_its_own_digits() {
        for value in [0, 1, 60, 61, 62, 63, 64, 65, 66, 950, 960, 970, 971, 972, 9_960, 70_000] {
            let encoded = encode(b"SCHILY.xattr.security.ima", &std::vec![b'\n'; value]);
            let lengths: Vec<_> = records(&encoded).map(|it| it.unwrap().value.len()).collect();
            assert_eq!(lengths, [value]);
        }
    }

    #[test]
    fn rejects_lengths_that_lie() {
        let good = b"11 path=ab\n";
        assert_eq!(records(good).next().unwrap().unwrap().value, b"ab");
        let lies = |declared, left| Fault::RecordLength { declared, left }.into();
        assert_eq!(fault(b"12 path=ab\n"), (lies(12, 11), 0));
        assert_eq!(fault(b"11 path=ab\n10 path=ab\n"), (lies(10, 11), 11));
        assert_eq!(fault(b"0 path=ab\n"), (lies(0, 10), 0));
        let most = b"18446744073709551615 a=b\n";
        assert_eq!(fault(most), (lies(u64::MAX, most.len()), 0));
        assert_eq!(fault(b"99999999999999999999 a=b\n").0, Fault::RecordWithoutLength.into());
        assert_eq!(fault(b"path=ab\n").0, Fault::RecordWithoutLength.into());
        assert_eq!(fault(b"9 pathab\n").0, Fault::RecordWithoutEquals.into());
        assert_eq!(fault(b"6 =ab\n").0, Fault::RecordWithoutEquals.into());
    }

    #[test]
    fn a_label_is_set_where_it_stood_and_nothing_else_changes() {
        let before = [
            &b"11 path=ab\n"[..],
            &encode(b"SCHILY.xattr.security.ima", b"old"),
            &encode(b"SCHILY.xattr.security.selinux", b"u:r:t"),
            &encode(b"LIBARCHIVE.xattr.security.ima", b"b2xk"),
        ]
        .concat();
        let expected = [
            &b"11 path=ab\n"[..],
            &encode(b"SCHILY.xattr.security.ima", b"new\n"),
            &encode(b"SCHILY.xattr.security.selinux", b"u:r:t"),
        ]
        .concat();
        assert_eq!(attribute(&before, IMA).unwrap().unwrap(), b"old");
        let after = with_attribute(&before, IMA, Some(b"new\n")).unwrap();
        assert_eq!(after, expected);
        assert_eq!(attribute(&after, IMA).unwrap().unwrap(), b"new\n");
        let bare = with_attribute(&after, IMA, None).unwrap();
        assert_eq!(attribute(&bare, IMA), Ok(None));
        assert_eq!(with_attribute(&bare, IMA, None).unwrap(), bare);
    }

    #[test]
    fn libarchives_attributes_are_understood() {
        let schily = encode(b"SCHILY.xattr.security.ima", b"\x03\x02\x04");
        for keyword in
            [&b"LIBARCHIVE.xattr.security%2Eima"[..], b"LIBARCHIVE.xattr.security.ima%00"]
        {
            let alone = encode(keyword, b"AwIE");
            assert_eq!(attribute(&alone, IMA).unwrap_err().kind, Fault::Contradiction.into());
            let both = [&alone[..], &schily].concat();
            assert_eq!(attribute(&both, IMA).unwrap().unwrap(), b"\x03\x02\x04");
            let other = [alone, encode(b"SCHILY.xattr.security.ima", b"other")].concat();
            assert_eq!(attribute(&other, IMA).unwrap_err().kind, Fault::Contradiction.into());
        }
    }

    #[test]
    fn rejects_keywords_that_programs_read_differently() {
        for (keyword, expected) in [
            (&b" path"[..], Fault::RecordKeyword),
            (b"\tpath", Fault::RecordKeyword),
            (b"path\0", Fault::RecordKeyword),
            (b"SCHILY.xattr.security%2Eima", Fault::AttributeName),
            (b"SCHILY.xattr.security.im%61", Fault::AttributeName),
            (b"SCHILY.xattr.user.a%3d", Fault::AttributeName),
        ] {
            assert_eq!(fault(&encode(keyword, b"value")), (expected.into(), 0));
        }
        let body = encode(b"SCHILY.xattr.user.odd%3Dname%25", b"value");
        assert!(records(&body).all(|record| record.is_ok()));
    }
}
