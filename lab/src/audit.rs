//! Audit records of the integrity subsystem (`security/integrity/integrity_audit.c`).

use std::fmt;

use lab_agent::AuditLine;

/// The record types that IMA and EVM write (`include/uapi/linux/audit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `AUDIT_INTEGRITY_DATA`: the appraisal of a file's content failed.
    Data,
    /// `AUDIT_INTEGRITY_METADATA`: the change of an attribute was denied.
    Metadata,
    /// `AUDIT_INTEGRITY_STATUS`: a policy was loaded or rejected; IMA or EVM was initialized.
    Status,
    /// `AUDIT_INTEGRITY_HASH`
    Hash,
    /// `AUDIT_INTEGRITY_PCR`: a measurement is no longer valid.
    Pcr,
    /// `AUDIT_INTEGRITY_RULE`: a file matched an `audit` rule.
    Rule,
    /// `AUDIT_INTEGRITY_EVM_XATTR`
    EvmXattr,
    /// `AUDIT_INTEGRITY_POLICY_RULE`: a rule of a policy was accepted or rejected.
    PolicyRule,
    /// A record of another subsystem.
    Other(u16),
}

impl From<u16> for Kind {
    fn from(number: u16) -> Self {
        match number {
            1800 => Self::Data,
            1801 => Self::Metadata,
            1802 => Self::Status,
            1803 => Self::Hash,
            1804 => Self::Pcr,
            1805 => Self::Rule,
            1806 => Self::EvmXattr,
            1807 => Self::PolicyRule,
            other => Self::Other(other),
        }
    }
}

/// An audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its type.
    pub kind: Kind,
    /// Its fields in order, without quotes.
    pub fields: Vec<(String, String)>,
    /// The text of the kernel, without `audit(...): `.
    pub text: String,
}

impl AuditRecord {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The operation (`op=`), as in `appraise_data`.
    pub fn operation(&self) -> Option<&str> {
        self.field("op")
    }

    /// The cause (`cause=`), as in `IMA-signature-required`.
    pub fn cause(&self) -> Option<&str> {
        self.field("cause")
    }

    /// The file's path.
    pub fn name(&self) -> Option<&str> {
        self.field("name")
    }

    /// The command name of the process (`comm=`).
    pub fn command(&self) -> Option<&str> {
        self.field("comm")
    }

    /// The device of the file system, as in `vda`.
    pub fn device(&self) -> Option<&str> {
        self.field("dev")
    }

    /// The inode number of the file.
    pub fn inode(&self) -> Option<u64> {
        self.field("ino")?.parse().ok()
    }

    /// The error number of the record, as the kernel prints it.
    pub fn errno(&self) -> Option<i32> {
        self.field("errno")?.parse().ok()
    }

    /// Whether IMA or EVM wrote it.
    pub fn is_integrity(&self) -> bool {
        !matches!(self.kind, Kind::Other(_))
    }

    /// Whether the record reports a failure: `res=0`, or an error of `evm_write_xattrs`, whose `res` is 0 on
    /// success.
    pub fn is_failure(&self) -> bool {
        let is_zero = self.field("res") == Some("0");
        match self.kind {
            Kind::EvmXattr => !is_zero,
            _ => is_zero,
        }
    }
}

impl From<&AuditLine> for AuditRecord {
    fn from(line: &AuditLine) -> Self {
        let text = match line.text.split_once("): ") {
            Some((stamp, text)) if stamp.starts_with("audit(") => text,
            _ => line.text.as_str(),
        };
        Self { kind: line.kind.into(), fields: fields(text), text: text.to_owned() }
    }
}

impl fmt::Display for AuditRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Splits a record into fields. Untrusted values are in quotes or, if they cannot be quoted, in
/// hexadecimal (`audit_log_untrustedstring`). A cause may have spaces: a value without quotes ends
/// before the next name.
fn fields(text: &str) -> Vec<(String, String)> {
    const UNTRUSTED: [&str; 3] = ["comm", "name", "dev"];
    let mut fields = Vec::new();
    let mut rest = text.trim();
    while let Some((name, value)) = rest.split_once('=') {
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, left) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value.to_owned(), left)
            }
            None => {
                let next = value.find('=').unwrap_or(value.len());
                let end = match value[..next].rfind(' ') {
                    Some(end) if next < value.len() => end,
                    _ => value.len(),
                };
                let (value, left) = value.split_at(end);
                let decoded = if UNTRUSTED.contains(&name) { decode(value) } else { None };
                (decoded.unwrap_or_else(|| value.to_owned()), left)
            }
        };
        fields.push((name.to_owned(), value));
        rest = left.trim_start();
    }
    fields
}

fn decode(digits: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, text: &str) -> AuditRecord {
        (&AuditLine { kind, text: text.to_owned() }).into()
    }

    #[test]
    fn reads_a_refusal() {
        let record = record(
            1800,
            "audit(1795456833.123:45): pid=1 uid=0 auid=4294967295 ses=4294967295 \
             op=appraise_data cause=IMA-signature-required comm=\"sh\" name=\"/bin/a b=c\" \
             dev=\"vda\" ino=38 res=0 errno=0",
        );
        assert_eq!(record.kind, Kind::Data);
        assert_eq!(record.operation(), Some("appraise_data"));
        assert_eq!(record.cause(), Some("IMA-signature-required"));
        assert_eq!(record.name(), Some("/bin/a b=c"));
        assert_eq!((record.device(), record.inode()), (Some("vda"), Some(38)));
        assert_eq!((record.is_failure(), record.errno()), (true, Some(0)));
    }

    #[test]
    fn reads_names_in_hexadecimal() {
        let record = record(1800, "audit(1.2:3): op=appraise_data name=2F6100 comm=\"6162\" ino=x");
        assert_eq!(record.name(), Some("/a\0"));
        assert_eq!(record.command(), Some("6162"));
    }

    #[test]
    fn reads_a_cause_of_several_words() {
        let record = record(
            1802,
            "audit(1.2:3): op=policy_update cause=signed policy required comm=\"init\" res=0",
        );
        assert_eq!(record.cause(), Some("signed policy required"));
        assert_eq!(record.command(), Some("init"));
        assert!(record.is_failure());
    }

    #[test]
    fn a_name_for_evm_has_its_error_as_result() {
        let is_failure = |text: &str| record(1806, text).is_failure();
        assert!(!is_failure("audit(1.2:3): xattr=\"security.b\" res=0"));
        assert!(is_failure("audit(1.2:3): xattr=\"user.b\" res=-22"));
    }

    #[test]
    fn reads_a_rule() {
        let record = record(1807, "audit(1.2:3): action=appraise func=BPRM_CHECK res=1");
        assert_eq!(record.kind, Kind::PolicyRule);
        assert_eq!(record.field("func"), Some("BPRM_CHECK"));
        assert!(!record.is_failure());
    }
}
