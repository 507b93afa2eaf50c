//! `imactl log diff`

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use ima::attest::diff::{names, Seen};
use ima::attest::source::{Reading, Source};
use ima::attest::ListError;
use ima_format::printable::Printable;

use super::report_fault;
use crate::error::Result;
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// Compare two measurement lists
///
/// For two boots of a machine, or two machines: which files and events only one list has, and which have
/// other digests. The order of the entries does not matter. The exit status is 1 if the lists differ, 2 if
/// one cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The first list
    one: PathBuf,
    /// The second list
    other: PathBuf,
}

impl DiffArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut read = Vec::new();
        for path in [&self.one, &self.other] {
            match names(&[Source::open(path, Reading::Once)?]) {
                Ok(names) => read.push(names),
                Err(ListError::Malformed(fault)) => return report_fault(&fault, output),
                Err(error) => return Err(error.into()),
            }
        }
        let [one, other] = &read[..] else { return Ok(Outcome::Failed) };
        let all: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        let mut differences = 0;
        for name in all {
            let (before, after) = (one.get(name), other.get(name));
            if before != after {
                differences += 1;
                print(name, before, after, output)?;
            }
        }
        output.line(Level::Normal, count(differences, "difference"))?;
        Ok(if differences == 0 { Outcome::Good } else { Outcome::Finding })
    }
}

/// The digests of a file as they are printed; a violation counts as one.
fn digests(seen: Option<&Seen>) -> Vec<&str> {
    let Some(seen) = seen else { return Vec::new() };
    let violation = seen.violated.then_some("violation");
    seen.digests.iter().map(String::as_str).chain(violation).collect()
}

fn print(
    name: &[u8],
    before: Option<&Seen>,
    after: Option<&Seen>,
    output: &mut Output,
) -> std::io::Result<()> {
    let (difference, sign, style) = match (before, after) {
        (None, _) => ("added", '+', Style::Good),
        (_, None) => ("removed", '-', Style::Bad),
        _ => ("changed", '~', Style::Warning),
    };
    let (before, after) = (digests(before), digests(after));
    let detail = match difference {
        "added" => after.join(", "),
        "removed" => before.join(", "),
        _ => format!("{} -> {}", before.join(", "), after.join(", ")),
    };
    output
        .object("difference")
        .path(name)
        .field("difference", difference)
        .field("before", before)
        .field("after", after)
        .end()?;
    let name = output.paint(style, &format!("{sign} {}", Printable(name)));
    output.line(Level::Quiet, format_args!("{name}  {detail}"))
}
