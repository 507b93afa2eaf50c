//! Findings: one line for each entry that is wrong.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima::attest::check::{Finding, FindingKind};
use ima::attest::signature::SignatureState;
use ima_format::printable::Printable;
use serde::Serialize;

use crate::output::{JsonPath, Level, Output, Style};

#[derive(Serialize)]
#[serde(tag = "type", rename = "finding")]
struct JsonFinding<'a> {
    index: u64,
    offset: u64,
    #[serde(flatten)]
    path: JsonPath,
    finding: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

pub(super) fn print_finding(finding: &Finding, output: &mut Output) -> std::io::Result<()> {
    let detail = finding.kind.to_string();
    let key_id = match &finding.kind {
        FindingKind::Signature(state) => state.key_id().map(|key_id| key_id.to_string()),
        _ => None,
    };
    output.json(&JsonFinding {
        index: finding.index,
        offset: finding.offset,
        path: Path::new(OsStr::from_bytes(&finding.name)).into(),
        finding: finding.kind.word(),
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
