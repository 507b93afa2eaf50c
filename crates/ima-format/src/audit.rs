//! Records of the integrity subsystem in the audit log.
//!
//! Mirrors `integrity_audit_message` (`security/integrity/integrity_audit.c`),
//! `ima_audit_measurement` (`security/integrity/ima/ima_api.c`) and
//! `audit_log_untrustedstring` (`kernel/audit.c`). One record is one line:
//!
//! | where | how it looks |
//! |---|---|
//! | auditd's log, `ausearch --raw` | `type=INTEGRITY_DATA msg=audit(SECONDS.MILLISECONDS:SERIAL): FIELDS` |
//! | the same, if auditd does not know the name | `type=UNKNOWN[1800] msg=audit(...): FIELDS` |
//! | `ausearch --interpret` | `type=INTEGRITY_DATA msg=audit(DATE TIME.MILLISECONDS:SERIAL) : FIELDS` |
//! | the kernel's log, the console | `audit: type=1800 audit(SECONDS.MILLISECONDS:SERIAL): FIELDS` |
//! | the journal | `audit[PID]: INTEGRITY_DATA FIELDS` |
//! | the same, if systemd does not know the name | `audit[PID]: <audit-1800> FIELDS` |
//!
//! Fields are `NAME=VALUE`, separated by a space. An untrusted value (`comm`, `exe`, `name`, `dev`, `file`) is in
//! quotes or, if it contains a quote, a space or a byte below 0x21 or above 0x7e, in hexadecimal. `cause`
//! may contain spaces and is followed by `comm`; `subj` may, and is followed by `op`. auditd may append
//! names for numbers after a byte 0x1d; these are ignored. `ausearch --interpret` prints user names for
//! user IDs, `yes` and `no` for 1 and 0, and untrusted values as they are, without quotes.
//!
//! The record of a policy rule (`ima_parse_rule` in `security/integrity/ima/ima_policy.c`) has the words
//! of the rule as fields, as far as the kernel read them: `action=`, then `func=`, `uid>`, and so on; an
//! unknown word as `UNKNOWN=`; then `res=`.
//!
//! If the keyring does not have the key of a signature, no record names the key; a line of the kernel's log
//! does ([`MissingKey`], `request_asymmetric_key` in `security/integrity/digsig_asymmetric.c`).

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::xattr::KeyId;
use crate::{hex, Error, ErrorKind};

/// The type of a record (`include/uapi/linux/audit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `AUDIT_INTEGRITY_DATA`: a file's content.
    Data,
    /// `AUDIT_INTEGRITY_METADATA`: an attribute.
    Metadata,
    /// `AUDIT_INTEGRITY_STATUS`: IMA and EVM themselves, and their policy.
    Status,
    /// `AUDIT_INTEGRITY_HASH`
    Hash,
    /// `AUDIT_INTEGRITY_PCR`: a measurement that a violation invalidates.
    Pcr,
    /// `AUDIT_INTEGRITY_RULE`: a file that an `audit` rule matched.
    Rule,
    /// `AUDIT_INTEGRITY_EVM_XATTR`
    EvmXattr,
    /// `AUDIT_INTEGRITY_POLICY_RULE`: a rule of a policy.
    PolicyRule,
    /// `AUDIT_INTEGRITY_USERSPACE`
    Userspace,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Data, "1800", "INTEGRITY_DATA"),
        (Self::Metadata, "1801", "INTEGRITY_METADATA"),
        (Self::Status, "1802", "INTEGRITY_STATUS"),
        (Self::Hash, "1803", "INTEGRITY_HASH"),
        (Self::Pcr, "1804", "INTEGRITY_PCR"),
        (Self::Rule, "1805", "INTEGRITY_RULE"),
        (Self::EvmXattr, "1806", "INTEGRITY_EVM_XATTR"),
        (Self::PolicyRule, "1807", "INTEGRITY_POLICY_RULE"),
        (Self::Userspace, "1808", "INTEGRITY_USERSPACE"),
    ];

    /// The name that auditd writes.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, _, name)| name)
    }

    /// The type with this number or name, in any of the forms of the table above.
    fn of_word(word: &[u8]) -> Option<Self> {
        let word = bare(word);
        let known = Self::ALL.iter();
        let mut known =
            known.filter(|(_, number, name)| word == number.as_bytes() || word == name.as_bytes());
        known.next().map(|(kind, ..)| *kind)
    }
}

/// The inner part of `UNKNOWN[1800]`, `<audit-1800>` and `AUDIT1800`.
fn bare(word: &[u8]) -> &[u8] {
    let dressed = [(&b"UNKNOWN["[..], &b"]"[..]), (b"<audit-", b">"), (b"AUDIT", b"")];
    let mut dressed =
        dressed.iter().filter_map(|(head, tail)| word.strip_prefix(*head)?.strip_suffix(*tail));
    dressed.next().unwrap_or(word)
}

/// Whether a type belongs to the integrity subsystem: an `INTEGRITY_` name, or a number from 1800 to 1899,
/// which `include/uapi/linux/audit.h` reserves for it.
fn is_integrity(word: &[u8]) -> bool {
    let word = bare(word);
    let number = word.len() == 4 && word.starts_with(b"18") && word.iter().all(u8::is_ascii_digit);
    number || word.starts_with(b"INTEGRITY_")
}

/// A fault of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A field has no name or no `=`.
    NoField,
    /// A value in quotes has no closing quote.
    Unended,
    /// The type is not known.
    Kind,
    /// The line has the fields of a record (`op=`, `cause=`), but no type.
    NoKind,
    /// `res=` is neither success nor failure.
    Result,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoField => "no NAME=VALUE field",
            Self::Unended => "a quoted value without its end",
            Self::Kind => "an integrity record of an unknown type",
            Self::NoKind => "an integrity record without its type",
            Self::Result => "res= is neither success nor failure",
        })
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Audit(fault)
    }
}

/// A field's name and value.
pub type Field<'a> = (&'a [u8], Cow<'a, [u8]>);

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its type.
    pub kind: Kind,
    /// Names and values in the order of the record; values are decoded.
    pub fields: Vec<Field<'a>>,
}

impl<'a> Record<'a> {
    /// Reads a line; `None` if it is not a record of the integrity subsystem.
    ///
    /// # Errors
    /// A truncated record, or malformed fields; the offset counts from the start of the line.
    pub fn parse(line: &'a [u8]) -> Result<Option<Self>, Error> {
        let Some(Head { kind, start, form }) = find(line)? else { return Ok(None) };
        let body = line.get(start..).unwrap_or_default();
        let end = body.iter().position(|byte| matches!(*byte, b'\n' | b'\r' | ENRICHED));
        let body = body.get(..end.unwrap_or(body.len())).unwrap_or_default();
        let form = if kind == Kind::PolicyRule { Form::Rule } else { form };
        let mut fields = Fields { bytes: body, offset: start, form };
        let mut record = Self { kind, fields: Vec::new() };
        while let Some(field) = fields.next()? {
            if field.0 == b"res" && failed(&field.1).is_none() {
                return Err(Error::new(Fault::Result, fields.offset - field.1.len()));
            }
            record.fields.push(field);
        }
        match record.fields.is_empty() {
            true => Err(Error::new(Fault::NoField, start)),
            false => Ok(Some(record)),
        }
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        fields.find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value.as_ref())
    }

    /// A field's value as a number; `None` if it is not one.
    pub fn number(&self, name: &str) -> Option<i64> {
        core::str::from_utf8(self.field(name)?).ok()?.parse().ok()
    }

    /// Whether it reports a failure: `res=0`, or `res=no`.
    pub fn is_failure(&self) -> bool {
        self.field("res").and_then(failed) == Some(true)
    }

    /// The rule of a [`Kind::PolicyRule`] record, as far as the kernel read it.
    pub fn rule(&self) -> Option<Vec<u8>> {
        if self.kind != Kind::PolicyRule {
            return None;
        }
        let mut rule: Vec<u8> = Vec::new();
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != b"res") {
            if !rule.is_empty() {
                rule.push(b' ');
            }
            match *name {
                b"action" | b"UNKNOWN" => {}
                name => {
                    rule.extend_from_slice(name);
                    if !name.ends_with(b"<") && !name.ends_with(b">") {
                        rule.push(b'=');
                    }
                }
            }
            rule.extend_from_slice(value);
        }
        Some(rule)
    }
}

/// The time of a record as it is written: the text before the serial number.
pub fn time(line: &[u8]) -> Option<&[u8]> {
    let stamp = after(line, b"audit(")?.split(|byte| *byte == b')').next()?;
    let serial = stamp.iter().rposition(|byte| *byte == b':')?;
    stamp.get(..serial)
}

/// A line of the kernel's log: the kernel did not find the key of a signature,
/// `integrity: Request for unknown key 'id:8d0c3afe' in '.ima' keyring. err -11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MissingKey {
    /// The key.
    pub key_id: KeyId,
    /// Whether the key is in `.ima_blacklist`.
    pub blacklisted: bool,
}

impl MissingKey {
    /// Reads a line; `None` if it is any other.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let requested = after(line, b"Request for unknown key 'id:");
        let blacklisted =
            || after(line, b"Key 'id:").filter(|rest| rest.get(8..).is_some_and(is_blacklist));
        let (digits, blacklisted) = match requested {
            Some(rest) => (rest, false),
            None => (blacklisted()?, true),
        };
        let digits = core::str::from_utf8(digits.get(..8)?).ok()?;
        Some(Self { key_id: digits.parse().ok()?, blacklisted })
    }
}

fn is_blacklist(rest: &[u8]) -> bool {
    rest.starts_with(b"' is in ima_blacklist_keyring")
}

fn after<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    bytes.get(find_bytes(bytes, wanted)?.checked_add(wanted.len())?..)
}

/// The byte before the fields that auditd appends.
const ENRICHED: u8 = 0x1d;

/// The part of a line before the fields.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: Kind,
    /// The offset of the first field.
    start: usize,
    form: Form,
}

/// The syntax of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the kernel writes them.
    Raw,
    /// As `ausearch --interpret` prints them.
    Interpreted,
    /// The words of a policy rule.
    Rule,
}

/// Whether the value of `res=` is a failure; `None` if it is neither success nor failure. auditd appends
/// the byte 0x1d and translated fields, which mailers and rsyslog write as text.
fn failed(value: &[u8]) -> Option<bool> {
    const SEPARATORS: [&[u8]; 4] = [b"^]", b"#035", b"\\x1d", b"\\035"];
    let found = SEPARATORS.iter().filter_map(|separator| find_bytes(value, separator));
    match value.get(..found.min().unwrap_or(value.len()))? {
        b"0" | b"no" | b"failed" => Some(true),
        b"1" | b"yes" | b"success" => Some(false),
        _ => None,
    }
}

/// Finds a record in a line.
fn find(line: &[u8]) -> Result<Option<Head>, Error> {
    let mut offset = 0;
    for word in line.split(|byte| *byte == b' ') {
        let end = (offset + word.len() + 1).min(line.len());
        let kind = match word.strip_prefix(b"type=") {
            // a record of another subsystem, whatever its fields
            Some(kind) if !is_integrity(kind) => return Ok(None),
            Some(kind) => Some(kind),
            // the journal has the type alone, before any field
            None => (is_integrity(word) && !word.iter().all(u8::is_ascii_digit)).then_some(word),
        };
        if let Some(kind) = kind {
            let rest = line.get(end..).unwrap_or_default();
            let Some(kind) = Kind::of_word(kind) else {
                let is_record = rest.contains(&b'=');
                return if is_record { Err(Error::new(Fault::Kind, offset)) } else { Ok(None) };
            };
            let (start, form) = stamp(rest);
            return Ok(Some(Head { kind, start: end + start, form }));
        }
        offset = end;
    }
    match (find_bytes(line, b" op="), find_bytes(line, b" cause=")) {
        (Some(operation), Some(cause)) if operation < cause => {
            Err(Error::new(Fault::NoKind, operation))
        }
        _ => Ok(None),
    }
}

/// The length of `audit(...):` or `msg=audit(...) :`, if there is one, and the syntax of the fields after it.
fn stamp(rest: &[u8]) -> (usize, Form) {
    let inner = rest.strip_prefix(b"msg=").unwrap_or(rest);
    let skipped = rest.len() - inner.len();
    let end = inner.iter().position(|byte| *byte == b')');
    match end.filter(|_| inner.starts_with(b"audit(")) {
        None => (0, Form::Raw),
        Some(end) => {
            let after = inner.get(end + 1..).unwrap_or_default();
            let (length, form) = match after {
                [b' ', b':', ..] => (2, Form::Interpreted),
                [b':', ..] => (1, Form::Raw),
                _ => (0, Form::Raw),
            };
            (skipped + end + 1 + length, form)
        }
    }
}

/// Iterates over fields.
struct Fields<'a> {
    bytes: &'a [u8],
    /// The offset in the line of the next byte.
    offset: usize,
    form: Form,
}

/// Fields whose values the kernel does not choose: it writes them quoted or in hexadecimal.
const UNTRUSTED: [&[u8]; 5] = [b"comm", b"name", b"dev", b"file", b"exe"];

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        while self.bytes.first() == Some(&b' ') {
            self.advance(1);
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let name = self.name()?;
        if self.form != Form::Rule && self.bytes.first() == Some(&b'"') {
            self.advance(1);
            let Some(end) = self.bytes.iter().position(|byte| *byte == b'"') else {
                return Err(Error::new(Fault::Unended, self.offset));
            };
            let value = self.bytes.get(..end).unwrap_or_default();
            self.advance(end + 1);
            return Ok(Some((name, value.into())));
        }
        let end = self.end_of(name);
        let value = self.bytes.get(..end).unwrap_or_default();
        self.advance(value.len());
        let decoded = match self.form {
            Form::Raw if UNTRUSTED.contains(&name) => hex::decode(value).ok(),
            _ => None,
        };
        Ok(Some((name, decoded.map_or(Cow::Borrowed(value), Cow::Owned))))
    }

    /// Reads a name, with the `<` or `>` of a rule's word.
    fn name(&mut self) -> Result<&'a [u8], Error> {
        let malformed = Error::new(Fault::NoField, self.offset);
        let compares = |byte: &u8| self.form == Form::Rule && matches!(byte, b'<' | b'>');
        let end = self.bytes.iter().position(|byte| matches!(byte, b'=' | b' ') || compares(byte));
        let Some(end) = end.filter(|end| *end > 0) else { return Err(malformed) };
        let (taken, passed) = match self.bytes.get(end) {
            Some(b'=') => (end, end + 1),
            Some(b' ') | None => return Err(malformed),
            Some(_) => (end + 1, end + 1),
        };
        let name = self.bytes.get(..taken).unwrap_or_default();
        self.advance(passed);
        Ok(name)
    }

    /// The end of a field's value. The fields that may contain spaces are each followed by one fixed field.
    fn end_of(&self, name: &[u8]) -> usize {
        let followers: &[&[u8]] = match (self.form, name) {
            (Form::Rule, _) => &[],
            (_, b"cause") => &[b" comm="],
            (_, b"subj") => &[b" op="],
            (Form::Interpreted, b"comm") => &[b" name=", b" dev=", b" res="],
            (Form::Interpreted, b"name" | b"file") => &[b" dev=", b" hash=", b" res="],
            (Form::Interpreted, b"dev") => &[b" ino=", b" res="],
            _ => &[],
        };
        let followed = followers.iter().filter_map(|follower| match name {
            // a name may contain the follower: the last occurrence is the kernel's
            b"name" | b"file" => find_last_bytes(self.bytes, follower),
            _ => find_bytes(self.bytes, follower),
        });
        let space = || self.bytes.iter().position(|byte| *byte == b' ');
        followed.min().or_else(space).unwrap_or(self.bytes.len())
    }

    fn advance(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
        self.offset += count;
    }
}

fn find_last_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn an_unreadable_result_is_no_success() {
        let parse = |result: &str| {
            let line = std::format!("type=1800 audit(1.2:3): pid=1 op=x cause=y {result}");
            let line = line.into_bytes();
            Record::parse(&line).map(|record| record.unwrap().is_failure())
        };
        for separator in ["\x1d", "^]", "#035", "\\x1d"] {
            let result = std::format!("res=0{separator}UID=\"root\" AUID=\"root\"");
            assert_eq!(parse(&result), Ok(true), "{result}");
        }
        assert_eq!(parse("res=1 errno=0"), Ok(false));
        for unreadable in ["res=2", "res=", "res=0x", "res=?"] {
            assert!(parse(unreadable).is_err(), "{unreadable}");
        }
    }

    const FIELDS: &str = "pid=1 uid=0 auid=4294967295 ses=4294967295 \
        subj=/usr/bin/man (enforce) op=appraise_data cause=signed policy required \
        comm=\"sh\" name=2F746D702F6120622E7368 dev=\"vda\" ino=38 res=0 errno=0";

    #[test]
    fn reads_what_auditd_the_console_and_the_journal_have() {
        for head in [
            "type=INTEGRITY_DATA msg=audit(1700000000.123:45): ",
            "node=host type=INTEGRITY_DATA msg=audit(1700000000.123:45): ",
            "[   12.345678] audit: type=1800 audit(1700000000.123:45): ",
            "type=1800 ",
            "Nov 23 10:00:00 host audit[1]: INTEGRITY_DATA ",
        ] {
            let line = std::format!("{head}{FIELDS}\x1dUID=\"root\"\n");
            let record = Record::parse(line.as_bytes()).unwrap().unwrap();
            assert_eq!(record.kind, Kind::Data, "{head}");
            assert_eq!(record.field("subj").unwrap(), b"/usr/bin/man (enforce)", "{head}");
            assert_eq!(record.field("cause").unwrap(), b"signed policy required");
            assert_eq!(record.field("comm").unwrap(), b"sh");
            assert_eq!(record.field("name").unwrap(), b"/tmp/a b.sh");
            assert_eq!(record.number("ino"), Some(38));
            assert_eq!(record.fields.len(), 13, "{record:?}");
            assert!(record.is_failure());
        }
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "type=SYSCALL msg=audit(1.2:3): arch=c000003e",
            "type=USER_CMD msg=audit(1.2:3): op=a cause=b",
            "type=UNKNOWN[1334] msg=audit(1.2:3): prog-id=1",
            "port 1800",
            "x",
        ] {
            assert_eq!(Record::parse(line.as_bytes()), Ok(None), "{line}");
        }
    }

    #[test]
    fn names_of_auditd_and_systemd_that_they_do_not_know_are_read() {
        for head in [
            "type=UNKNOWN[1800] msg=audit(1700000000.123:45): ",
            "Nov 23 10:00:00 host audit[1]: <audit-1800> ",
            "Nov 23 10:00:00 host audit: AUDIT1800 ",
        ] {
            let line = std::format!("{head}{FIELDS}");
            let record = Record::parse(line.as_bytes()).unwrap().unwrap();
            assert_eq!((record.kind, record.fields.len()), (Kind::Data, 13), "{head}");
        }
    }

    #[test]
    fn what_ausearch_interprets_is_read() {
        let line = "type=INTEGRITY_DATA msg=audit(10/23/2023 10:00:00.123:45) : pid=1 uid=root \
            auid=unset ses=unset subj=unconfined op=appraise_data cause=invalid-signature \
            comm=my shell name=/tmp/abcd dev=x/a b dev=vda ino=38 res=no errno=0";
        let record = Record::parse(line.as_bytes()).unwrap().unwrap();
        assert_eq!(record.field("uid").unwrap(), b"root");
        assert_eq!(record.field("comm").unwrap(), b"my shell");
        assert_eq!(record.field("name").unwrap(), b"/tmp/abcd dev=x/a b");
        assert_eq!(record.field("dev").unwrap(), b"vda");
        assert!(record.is_failure());
        let hexadecimal = line.replace("/tmp/abcd dev=x/a b", "abcd");
        let record = Record::parse(hexadecimal.as_bytes()).unwrap().unwrap();
        assert_eq!(record.field("name").unwrap(), b"abcd", "it is a name already");
    }

    #[test]
    fn rules_are_put_together_again() {
        let line = "audit: type=1807 audit(1.2:3): action=appraise func=BPRM_CHECK uid>1000 \
            obj_user=\"x UNKNOWN=nonsense res=0";
        let record = Record::parse(line.as_bytes()).unwrap().unwrap();
        let rule = record.rule().unwrap();
        assert_eq!(rule, b"appraise func=BPRM_CHECK uid>1000 obj_user=\"x nonsense");
        assert!(record.is_failure());
        let empty = Record::parse(b"type=1807 audit(1.2:3): res=0").unwrap().unwrap();
        assert_eq!(empty.rule().unwrap(), b"");
    }

    #[test]
    fn keys_that_the_kernel_missed_are_read() {
        let line =
            b"[ 1.2] integrity: Request for unknown key 'id:8d0c3afe' in '.ima' keyring. err -11";
        let missing = MissingKey::parse(line).unwrap();
        assert_eq!((missing.key_id, missing.blacklisted), ("8d0c3afe".parse().unwrap(), false));
        let revoked = MissingKey::parse(b"Key 'id:8d0c3afe' is in ima_blacklist_keyring").unwrap();
        assert!(revoked.blacklisted);
        assert_eq!(MissingKey::parse(b"Request for unknown key 'id:nothing'"), None);
        assert_eq!(MissingKey::parse(b"Key 'id:8d0c3afe' loaded"), None);
    }

    #[test]
    fn tells_where_a_record_breaks_off() {
        let broken: vec::Vec<(&str, Fault, usize)> = vec![
            ("type=1800 audit(1.2:3):", Fault::NoField, 23),
            ("type=1800 op=a cause", Fault::NoField, 15),
            ("type=1800 op=a name=\"/x", Fault::Unended, 21),
            ("type=1800 =a", Fault::NoField, 10),
            ("x INTEGRITY_WHAT a=b", Fault::Kind, 2),
            ("type=1899 audit(1.2:3): a=b", Fault::Kind, 0),
            ("pid=1 op=appraise_data cause=invalid-hash comm=\"sh\"", Fault::NoKind, 5),
        ];
        for (line, fault, offset) in broken {
            let error = Record::parse(line.as_bytes()).unwrap_err();
            assert_eq!((error.kind, error.offset), (fault.into(), offset), "{line}");
        }
    }
}
