//! Findings: one line for each entry that is wrong.

use ima::attest::check::{Finding, FindingKind};
use ima::attest::signature::SignatureState;
use ima_format::printable::Printable;

use crate::output::{Level, Output, Style};

pub(super) fn print_finding(finding: &Finding, output: &mut Output) -> std::io::Result<()> {
    let detail = finding.kind.to_string();
    let key_id = match &finding.kind {
        FindingKind::Signature(state) => state.key_id().map(|key_id| key_id.to_string()),
        _ => None,
    };
    output
        .object("finding")
        .field("index", finding.index)
        .field("offset", finding.offset)
        .path(finding.name.as_slice())
        .field("finding", finding.kind.word())
        .field("detail", &detail)
        .optional("key_id", key_id)
        .end()?;
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
