//! What the audit log says, explained.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use ima_format::audit::{Kind, Record};
use serde::Serialize;

use super::cause;
use crate::hint::hinted;
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// A refusal, whoever met with it how often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Refusal {
    operation: String,
    cause: String,
    name: Option<String>,
    device: Option<String>,
    command: Option<String>,
    uid: Option<i64>,
    errno: Option<i64>,
}

#[derive(Serialize)]
struct JsonRefusal<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    refusal: &'a Refusal,
    times: u64,
    why: Option<&'static str>,
    mend: Option<&'static str>,
}

impl Refusal {
    /// What a record says, if it is a refusal.
    fn of(record: &Record<'_>) -> Option<Self> {
        let text = |field: &str| {
            record.field(field).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let refusing = matches!(record.kind, Kind::Data | Kind::Metadata | Kind::Status);
        if !refusing || !record.is_failure() {
            return None;
        }
        Some(Self {
            operation: text("op").unwrap_or_default(),
            cause: text("cause").unwrap_or_default(),
            name: text("name"),
            device: text("dev"),
            command: text("comm"),
            uid: record.number("uid"),
            errno: record.number("errno"),
        })
    }
}

/// Explains one line, which has to be a record.
pub(super) fn explain_line(line: &[u8], output: &mut Output) -> Result<Outcome> {
    let record = Record::parse(line)
        .with_context(|| format!("--audit: malformed record: {}", String::from_utf8_lossy(line)))?;
    let Some(record) = record else {
        return Err(hinted(
            "--audit: no record of the integrity subsystem",
            "they have type=1800 to 1808, or INTEGRITY_DATA and its kin",
        ));
    };
    match Refusal::of(&record) {
        Some(refusal) => {
            tell(&refusal, 1, output)?;
            Ok(Outcome::Finding)
        }
        None => {
            let line = format!("{}: no refusal", record.kind.name());
            output.line(Level::Normal, &line)?;
            Ok(Outcome::Good)
        }
    }
}

/// Explains each refusal in a log once, in the order in which they first appear.
pub(super) fn explain_log(path: &Path, output: &mut Output) -> Result<Outcome> {
    let name = path.display();
    let mut reader: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).with_context(|| name.to_string())?)),
    };
    let mut refusals: BTreeMap<Refusal, (u64, u64)> = BTreeMap::new();
    let (mut records, mut malformed) = (0_u64, 0_u64);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).with_context(|| name.to_string())? == 0 {
            break;
        }
        match Record::parse(&line) {
            Ok(None) => {}
            Ok(Some(record)) => {
                records += 1;
                if let Some(refusal) = Refusal::of(&record) {
                    refusals.entry(refusal).or_insert((number, 0)).1 += 1;
                }
            }
            Err(error) => {
                malformed += 1;
                let text = format!("{name}:{number}: malformed record: {error}");
                output.complain(Style::Bad, "error:", &text);
            }
        }
    }
    let mut sorted: Vec<_> = refusals.iter().collect();
    sorted.sort_by_key(|(_, (first, _))| *first);
    for (refusal, (_, times)) in &sorted {
        tell(refusal, *times, output)?;
    }
    let refused = refusals.values().map(|(_, times)| times).sum();
    let line = format!("{}, {}", count(records, "record"), count(refused, "refusal"));
    output.line(Level::Normal, &line)?;
    Ok(match (malformed, refusals.is_empty()) {
        (1.., _) => Outcome::Failed,
        (0, false) => Outcome::Finding,
        (0, true) => Outcome::Good,
    })
}

fn tell(refusal: &Refusal, times: u64, output: &mut Output) -> io::Result<()> {
    let meaning = cause::of(&refusal.cause);
    output.json(&JsonRefusal {
        kind: "refusal",
        refusal,
        times,
        why: meaning.map(|meaning| meaning.why),
        mend: meaning.map(|meaning| meaning.mend),
    })?;
    let what = refusal.name.as_deref().unwrap_or(&refusal.operation);
    let mut line = format!(
        "{}: {}",
        output.paint(Style::Bold, what),
        output.paint(Style::Bad, &refusal.cause)
    );
    line += &format!(" ({}", refusal.operation);
    if let Some(command) = &refusal.command {
        line += &format!(", asked for by {command:?}");
    }
    if let Some(uid) = refusal.uid {
        line += &format!(" of user {uid}");
    }
    if let Some(device) = &refusal.device {
        line += &format!(", on {device}");
    }
    line.push(')');
    if times > 1 {
        line += &format!(", {times} times");
    }
    output.line(Level::Quiet, &line)?;
    let (why, mend) = match meaning {
        Some(meaning) => (meaning.why, meaning.mend),
        None => (
            "a cause that imactl does not know",
            "look it up in security/integrity of the kernel's source",
        ),
    };
    output.line(Level::Quiet, &format!("  why   {why}"))?;
    output.line(Level::Quiet, &format!("  mend  {mend}"))
}
