//! Records of the integrity subsystem in the audit log.
//!
//! Mirrors `integrity_audit_message` (`security/integrity/integrity_audit.c`),
//! `ima_audit_measurement` (`security/integrity/ima/ima_api.c`) and
//! `audit_log_untrustedstring` (`kernel/audit.c`). One record is one line:
//!
//! | where | how it looks |
//! |---|---|
//! | auditd's log, `ausearch --raw` | `type=INTEGRITY_DATA msg=audit(SECONDS.MILLISECONDS:SERIAL): FIELDS` |
//! | the kernel's log, the console | `audit: type=1800 audit(SECONDS.MILLISECONDS:SERIAL): FIELDS` |
//! | the journal | `audit[PID]: INTEGRITY_DATA FIELDS` |
//!
//! Fields are `NAME=VALUE`, a space between them. A value that anybody may have chosen (`comm`,
//! `name`, `dev`, `file`) is in quotes or, where it holds a quote, a space or a byte below
//! 0x21 or above 0x7e, in hexadecimal. `cause` may hold spaces, and `comm` follows it; so may
//! `subj`, which `op` follows. auditd may add its own names for numbers behind a byte 0x1d,
//! which are not looked at.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::{hex, Error, ErrorKind};

/// What a record is about (`include/uapi/linux/audit.h`).
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
    /// `AUDIT_INTEGRITY_PCR`: a measurement that no longer holds.
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

    fn of_word(word: &[u8]) -> Option<Self> {
        let known = Self::ALL.iter();
        let mut known =
            known.filter(|(_, number, name)| word == number.as_bytes() || word == name.as_bytes());
        known.next().map(|(kind, ..)| *kind)
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no field where one begins.
    NoField,
    /// A value in quotes has no end.
    Unended,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoField => "no NAME=VALUE field",
            Self::Unended => "a quoted value without its end",
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
    /// What it is about.
    pub kind: Kind,
    /// Its names and values in order, values as the kernel had them.
    pub fields: Vec<Field<'a>>,
}

impl<'a> Record<'a> {
    /// Reads a line; `None` for one that is no record of the integrity subsystem.
    ///
    /// # Errors
    /// A record that breaks off, or whose fields are none; with the offset in the line.
    pub fn parse(line: &'a [u8]) -> Result<Option<Self>, Error> {
        let Some((kind, start)) = find(line) else { return Ok(None) };
        let body = line.get(start..).unwrap_or_default();
        let end = body.iter().position(|byte| matches!(*byte, b'\n' | b'\r' | ENRICHED));
        let body = body.get(..end.unwrap_or(body.len())).unwrap_or_default();
        let mut fields = Fields { bytes: body, offset: start };
        let mut record = Self { kind, fields: Vec::new() };
        while let Some(field) = fields.next()? {
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

    /// A field's value where it is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        core::str::from_utf8(self.field(name)?).ok()?.parse().ok()
    }

    /// Whether it tells of something that failed: `res=0`.
    pub fn is_failure(&self) -> bool {
        self.number("res") == Some(0)
    }
}

/// Where auditd begins with what it adds.
const ENRICHED: u8 = 0x1d;

/// The kind of a record, and where its fields begin.
fn find(line: &[u8]) -> Option<(Kind, usize)> {
    let mut offset = 0;
    let mut kind = None;
    for word in line.split(|byte| *byte == b' ') {
        let end = (offset + word.len() + 1).min(line.len());
        let typed = word.strip_prefix(b"type=");
        match (kind, typed.or_else(|| word.starts_with(b"INTEGRITY_").then_some(word))) {
            (None, Some(word)) => kind = Some((Kind::of_word(word)?, end)),
            // the stamp: audit(...): or msg=audit(...):
            (Some((kind, start)), _) => {
                let stamp = word.strip_prefix(b"msg=").unwrap_or(word);
                return match stamp.starts_with(b"audit(") {
                    true => Some((kind, end)),
                    false => Some((kind, start)),
                };
            }
            (None, None) => {}
        }
        offset = end;
    }
    kind
}

/// Fields one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    /// Of the next byte, in the line.
    offset: usize,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        while self.bytes.first() == Some(&b' ') {
            self.advance(1);
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let malformed = Error::new(Fault::NoField, self.offset);
        let Some(equals) = self.bytes.iter().position(|byte| matches!(byte, b'=' | b' ')) else {
            return Err(malformed);
        };
        let name = self.bytes.get(..equals).unwrap_or_default();
        if name.is_empty() || self.bytes.get(equals) != Some(&b'=') {
            return Err(malformed);
        }
        self.advance(equals + 1);
        if self.bytes.first() == Some(&b'"') {
            self.advance(1);
            let Some(end) = self.bytes.iter().position(|byte| *byte == b'"') else {
                return Err(Error::new(Fault::Unended, self.offset));
            };
            let value = self.bytes.get(..end).unwrap_or_default();
            self.advance(end + 1);
            return Ok(Some((name, value.into())));
        }
        // these may hold spaces; what follows them is always the same
        let followed = match name {
            b"cause" => find_bytes(self.bytes, b" comm="),
            b"subj" => find_bytes(self.bytes, b" op="),
            _ => None,
        };
        let end = followed.or_else(|| self.bytes.iter().position(|byte| *byte == b' '));
        let value = self.bytes.get(..end.unwrap_or(self.bytes.len())).unwrap_or_default();
        self.advance(value.len());
        let decoded = match name {
            b"comm" | b"name" | b"dev" | b"file" | b"exe" => hex::decode(value).ok(),
            _ => None,
        };
        Ok(Some((name, decoded.map_or(Cow::Borrowed(value), Cow::Owned))))
    }

    fn advance(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
        self.offset += count;
    }
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

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
        for line in ["", "type=SYSCALL msg=audit(1.2:3): arch=c000003e", "INTEGRITY_WHAT a=b", "x"]
        {
            assert_eq!(Record::parse(line.as_bytes()), Ok(None), "{line}");
        }
    }

    #[test]
    fn tells_where_a_record_breaks_off() {
        let broken: vec::Vec<(&str, Fault, usize)> = vec![
            ("type=1800 audit(1.2:3):", Fault::NoField, 23),
            ("type=1800 op=a cause", Fault::NoField, 15),
            ("type=1800 op=a name=\"/x", Fault::Unended, 21),
            ("type=1800 =a", Fault::NoField, 10),
        ];
        for (line, fault, offset) in broken {
            let error = Record::parse(line.as_bytes()).unwrap_err();
            assert_eq!((error.kind, error.offset), (fault.into(), offset), "{line}");
        }
    }
}
