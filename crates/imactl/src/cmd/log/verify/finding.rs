//! Findings: a line for each entry that is wrong.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima::attest::check::{Finding, FindingKind};
use ima::attest::signature::{SignatureState, Unverifiable};
use ima_format::printable::Printable;
use serde::Serialize;

use crate::output::{JsonPath, Level, Output, Style};

#[derive(Serialize)]
struct JsonFinding<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u64,
    offset: u64,
    #[serde(flatten)]
    path: JsonPath,
    finding: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

/// A finding in a word and in a sentence.
pub(crate) fn describe(kind: &FindingKind) -> (&'static str, String) {
    let text = |text: &str| text.to_owned();
    match kind {
        FindingKind::TemplateDigest => {
            ("template-digest", text("its data do not result in its template digest"))
        }
        FindingKind::Malformed(error) => ("malformed", error.to_string()),
        FindingKind::Violation => {
            ("violation", text("violation: the file was open for writing while it was measured"))
        }
        FindingKind::Signature(state) => match state {
            SignatureState::Valid(key_id) => {
                ("valid-signature", format!("valid signature by key {key_id}"))
            }
            SignatureState::Invalid(key_id) => (
                "invalid-signature",
                format!("not a signature by key {key_id} over the measured digest"),
            ),
            SignatureState::UnknownKey(key_id) => ("unknown-key", format!("unknown key {key_id}")),
            SignatureState::Malformed(error) => {
                ("malformed-signature", format!("malformed signature: {error}"))
            }
            SignatureState::Unverifiable(why) => {
                ("unverifiable-signature", format!("signature not verified: {}", reason(why)))
            }
            _ => ("signature", text("signature not verified")),
        },
        _ => ("other", text("unknown finding")),
    }
}

fn reason(why: &Unverifiable) -> String {
    match why {
        Unverifiable::Version1 => "obsolete version 1".into(),
        Unverifiable::OtherDigest { signed, measured: Some(measured) } => {
            format!("it is over a {signed} digest, the list has {measured}")
        }
        Unverifiable::OtherDigest { signed, measured: None } => {
            format!("it is over a {signed} digest, the list has none")
        }
        Unverifiable::OtherType => "it is over another type of digest than was measured".into(),
        Unverifiable::Metadata => "it is over metadata, which the list does not have".into(),
        Unverifiable::Appended => "appended signatures are not supported".into(),
        Unverifiable::Violation => "a violation has no digest".into(),
        Unverifiable::NotASignature => "not a signature".into(),
    }
}

pub(super) fn print_finding(finding: &Finding, output: &mut Output) -> std::io::Result<()> {
    let (word, detail) = describe(&finding.kind);
    let key_id = match &finding.kind {
        FindingKind::Signature(
            SignatureState::Invalid(key_id) | SignatureState::UnknownKey(key_id),
        ) => Some(key_id.to_string()),
        _ => None,
    };
    output.json(&JsonFinding {
        kind: "finding",
        index: finding.index,
        offset: finding.offset,
        path: Path::new(OsStr::from_bytes(&finding.name)).into(),
        finding: word,
        detail: &detail,
        key_id,
    })?;
    let level = match finding.kind {
        FindingKind::Signature(SignatureState::Unverifiable(_)) => Level::Verbose,
        _ => Level::Quiet,
    };
    if !output.shows(level) {
        return Ok(());
    }
    let name = output.paint(Style::Bold, &Printable(&finding.name).to_string());
    let detail = output.paint(Style::Bad, &detail);
    output.line(level, format_args!("entry {} {name}: {detail}", finding.index))
}
