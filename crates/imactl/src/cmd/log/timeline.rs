//! `imactl log timeline`

use std::path::{Path, PathBuf};

use clap::Args;
use ima::attest::source::Reading;
use ima::attest::timeline::{timeline, Audited, Event, EventKind};
use ima::attest::ListError;
use ima::input::{self, LIST_MAX};
use ima_format::audit::{self, Kind, Record};
use ima_format::printable::Printable;

use super::{report_fault, ListArgs};
use crate::error::{Error, Result};
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// Merge a measurement list with the audit log
///
/// The kernel lists each digest of a file once, without a time. With audit rules in the policy next to the
/// measure rules, the audit log has each use with its time: a file that was changed and changed back is shown
/// as back at its old digest. Repeated uses and audited files that are not in the list are printed with
/// --verbose. The exit status is 1 if a file went back to an earlier digest, 2 if an input cannot be read to
/// its end.
#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    #[command(flatten)]
    list: ListArgs,
    /// The audit log, or the output of ausearch --raw, with records of type INTEGRITY_RULE
    #[arg(long, value_name = "FILE")]
    audit: PathBuf,
}

impl TimelineArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let audited = audited(&self.audit)?;
        let records = audited.len() as u64;
        let sources = self.list.open(Reading::Once)?;
        let events = match timeline(&sources, audited) {
            Ok(events) => events,
            Err(ListError::Malformed(fault)) => return report_fault(&fault, output),
            Err(error) => return Err(error.into()),
        };
        if records == 0 {
            output.warn("the audit log has no INTEGRITY_RULE record: is there an audit rule?");
        }
        for event in &events {
            print(event, output)?;
        }
        let back = events.iter().filter(|event| event.kind == EventKind::Back).count() as u64;
        let line = format!(
            "{} of the audit log, {back} back to an earlier digest",
            count(records, "record")
        );
        output.line(Level::Normal, line)?;
        Ok(if back == 0 { Outcome::Good } else { Outcome::Finding })
    }
}

/// The records of type INTEGRITY_RULE in an audit log.
pub(crate) fn audited(path: &Path) -> Result<Vec<Audited>> {
    let content = input::read_path(path, LIST_MAX)?;
    let mut audited = Vec::new();
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
        let malformed = |why: &str| Error::new(format!("{}: line {number}: {why}", path.display()));
        let record = Record::parse(line).map_err(|error| malformed(&error.to_string()))?;
        let Some(record) = record.filter(|record| record.kind == Kind::Rule) else { continue };
        let text = |field: &str| {
            record.field(field).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let (Some(file), Some(digest)) = (record.field("file"), text("hash")) else {
            return Err(malformed("an INTEGRITY_RULE record without file= and hash="));
        };
        audited.push(Audited {
            time: String::from_utf8_lossy(audit::time(line).unwrap_or(b"?")).into_owned(),
            name: file.to_vec(),
            digest,
            command: text("comm"),
        });
    }
    Ok(audited)
}

fn print(event: &Event, output: &mut Output) -> std::io::Result<()> {
    let Event { kind, index, name, digest, audited } = event;
    let (word, said, style, level) = match kind {
        EventKind::Measured => ("measured", "", Style::Plain, Level::Normal),
        EventKind::Again => ("again", "  again", Style::Dim, Level::Verbose),
        EventKind::Back => ("back", "  back to an earlier digest", Style::Bad, Level::Quiet),
        EventKind::NotListed => ("not-listed", "  not in the list", Style::Dim, Level::Verbose),
    };
    let time = audited.as_ref().map(|audited| audited.time.as_str());
    output
        .object("event")
        .field("event", word)
        .field("time", time)
        .field("index", *index)
        .path(name.as_slice())
        .field("digest", digest.as_deref())
        .optional("command", audited.as_ref().and_then(|audited| audited.command.as_deref()))
        .end()?;
    let index = index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let digest = digest.as_deref().unwrap_or("violation");
    let said = output.paint(style, said);
    let time = time.unwrap_or("");
    output.line(level, format_args!("{time:<16} {index:>7}  {digest}  {}{said}", Printable(name)))
}
