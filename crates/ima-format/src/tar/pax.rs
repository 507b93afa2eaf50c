//! Pax records: read, and one attribute set among them; the layout is in the parent module.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use super::Fault;
use crate::{hex, xattr, Error};

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

/// Reads all records of a pax extension.
///
/// # Errors
/// A record without a length, one whose length lies, one without `=`.
pub fn records(body: &[u8]) -> Result<Vec<Record<'_>>, Error> {
    let mut records = Vec::new();
    let (mut rest, mut offset) = (body, 0);
    while !rest.is_empty() {
        let record = record(rest, offset)?;
        rest = rest.get(record.bytes.len()..).unwrap_or_default();
        offset += record.bytes.len();
        records.push(record);
    }
    Ok(records)
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

/// Whether a record gives `security.ima`, and how.
fn label_form(keyword: &[u8]) -> Option<Form> {
    let (form, name) = match (keyword.strip_prefix(SCHILY), keyword.strip_prefix(LIBARCHIVE)) {
        (Some(name), _) => (Form::Schily, name),
        (_, Some(name)) => (Form::Libarchive, name),
        _ => return None,
    };
    (*percent_decoded(name) == *xattr::XATTR_NAME_IMA.as_bytes()).then_some(form)
}

/// The label that records give: later ones override, an empty value takes back.
pub(super) fn label(records: &[Record<'_>]) -> Result<Option<Vec<u8>>, Error> {
    let last = |form| records.iter().rev().find(|record| label_form(record.keyword) == Some(form));
    let schily = last(Form::Schily).map(|record| record.value.to_vec());
    let Some(record) = last(Form::Libarchive) else {
        return Ok(schily.filter(|value| !value.is_empty()));
    };
    let fail = |fault: Fault| Error::new(fault, record.offset);
    let value = base64_decode(record.value).ok_or(fail(Fault::Base64))?;
    match schily {
        Some(other) if other != value => Err(fail(Fault::Contradiction)),
        _ => Ok(Some(value).filter(|value| !value.is_empty())),
    }
}

/// The records with `security.ima` set, or without it, every other byte as it was.
pub(super) fn with_label(records: &[Record<'_>], label: Option<&[u8]>) -> Vec<u8> {
    let mut label = label.map(|label| {
        let keyword = [SCHILY, xattr::XATTR_NAME_IMA.as_bytes()].concat();
        encode(&keyword, label)
    });
    let mut body = Vec::new();
    for record in records {
        match label_form(record.keyword) {
            None => body.extend_from_slice(record.bytes),
            // where the first one stood; what else says something of it goes
            Some(_) => body.extend(label.take().unwrap_or_default()),
        }
    }
    body.extend(label.unwrap_or_default());
    body
}

/// Whether records say something of `security.ima`.
pub(super) fn mention_label(records: &[Record<'_>]) -> bool {
    records.iter().any(|record| label_form(record.keyword).is_some())
}

/// A record with the right length.
fn encode(keyword: &[u8], value: &[u8]) -> Vec<u8> {
    // space, equals sign, line end
    let text = keyword.len() + value.len() + 3;
    let digits = |length: usize| format!("{length}").len();
    // the length's own digits can make it one digit longer
    let mut length = text + digits(text);
    length = text + digits(length);
    [format!("{length} ").as_bytes(), keyword, b"=", value, b"\n"].concat()
}

/// A name in which `%3D` stands for `=`: libarchive encodes what is not printable, GNU tar
/// `%` and `=`.
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

/// Base64 with or without padding (libarchive writes none).
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let text = text.get(..end).filter(|digits| text.len() - digits.len() <= 2)?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - group.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        match group.len() {
            1 => return None,
            count => bytes.extend(decoded.iter().take(count - 1)),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn fault(body: &[u8]) -> (ErrorKind, usize) {
        let error = records(body).unwrap_err();
        (error.kind, error.offset)
    }

    #[test]
    fn the_length_counts_its_own_digits() {
        for value in [0, 1, 60, 61, 62, 63, 64, 65, 66, 950, 960, 970, 971, 972, 9_960, 70_000] {
            let encoded = encode(b"SCHILY.xattr.security.ima", &std::vec![b'\n'; value]);
            let records = records(&encoded).unwrap();
            assert_eq!((records.len(), records[0].value.len()), (1, value));
        }
    }

    #[test]
    fn rejects_lengths_that_lie() {
        let good = b"11 path=ab\n";
        assert_eq!(records(good).unwrap()[0].value, b"ab");
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
        let read = records(&before).unwrap();
        assert_eq!(label(&read).unwrap().unwrap(), b"old");
        let after = with_label(&read, Some(b"new\n"));
        assert_eq!(after, expected);
        assert_eq!(label(&records(&after).unwrap()).unwrap().unwrap(), b"new\n");
        let bare = with_label(&records(&after).unwrap(), None);
        assert_eq!(label(&records(&bare).unwrap()), Ok(None));
        assert_eq!(with_label(&records(&bare).unwrap(), None), bare);
    }

    #[test]
    fn libarchives_attributes_are_understood() {
        for (text, value) in
            [("", &b""[..]), ("AA", b"\0"), ("AwI", b"\x03\x02"), ("AwIE", b"\x03\x02\x04")]
        {
            assert_eq!(base64_decode(text.as_bytes()).unwrap(), value, "{text}");
        }
        assert_eq!(base64_decode(b"AwI=").unwrap(), b"\x03\x02");
        assert_eq!(base64_decode(b"A"), None);
        assert_eq!(base64_decode(b"A*=="), None);
        let body = encode(b"LIBARCHIVE.xattr.security%2Eima", b"AwIE");
        assert_eq!(label(&records(&body).unwrap()).unwrap().unwrap(), b"\x03\x02\x04");
        let body = [body, encode(b"SCHILY.xattr.security.ima", b"other")].concat();
        let error = label(&records(&body).unwrap()).unwrap_err();
        assert_eq!(error.kind, Fault::Contradiction.into());
    }
}
