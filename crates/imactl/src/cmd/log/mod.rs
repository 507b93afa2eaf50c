//! `imactl log`

mod check;
mod convert;
mod diff;
mod entry;
mod keep;
mod prune;
mod show;
mod table;
mod timeline;
mod verify;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ima::attest::source::{Reading, Source};
use ima::attest::{ListError, Malformed};
use ima::container::Progress;
use ima::system::Machine;

use crate::error::Result;
use crate::output::{count, Output, Style};
use crate::progress::Bar;
use crate::Outcome;
pub(crate) use timeline::audited;
pub(crate) use verify::{words, ListOf, ReferenceArgs, IMA_MAY_EXTEND};

/// Read, verify, compare, convert and keep measurement lists
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    Show(show::ShowArgs),
    Verify(Box<verify::VerifyArgs>),
    Check(check::CheckArgs),
    Diff(diff::DiffArgs),
    Timeline(timeline::TimelineArgs),
    Convert(convert::ConvertArgs),
    Keep(keep::KeepArgs),
    Prune(prune::PruneArgs),
}

impl LogCommand {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self {
            Self::Show(args) => args.run(output),
            Self::Verify(args) => args.run(output),
            Self::Check(args) => args.run(output),
            Self::Diff(args) => args.run(output),
            Self::Timeline(args) => args.run(output),
            Self::Convert(args) => args.run(output),
            Self::Keep(args) => args.run(output),
            Self::Prune(args) => args.run(output),
        }
    }
}

/// A list
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// A measurement list, or its segments in order: binary (of any bank and byte order), ASCII, or a
    /// Canonical Event Log (TLV, CBOR, JSON); - is standard input [default: the list of this machine]
    #[arg(value_name = "LIST")]
    lists: Vec<PathBuf>,
}

impl ListArgs {
    /// The machine that measured the list.
    fn machine(&self) -> ListOf {
        match self.lists.is_empty() {
            true => ListOf::ThisMachine,
            false => ListOf::Another,
        }
    }

    fn open(&self, reading: Reading) -> Result<Vec<Source>, ListError> {
        let paths = match self.machine() {
            ListOf::ThisMachine => Machine::here().measurement_list(),
            ListOf::Another => self.lists.clone(),
        };
        paths.iter().map(|path| Source::open(path, reading)).collect()
    }
}

/// Shows a progress bar for reading lists, if standard error is a terminal.
pub(crate) fn watched(
    sources: Vec<Source>,
    verb: &'static str,
    output: &Output,
) -> (Vec<Source>, Arc<Bar>) {
    let bar = Arc::new(Bar::of("lists", verb, output));
    let progress: Arc<dyn Progress + Send + Sync> = Arc::clone(&bar) as _;
    (sources.into_iter().map(|source| source.watched(&progress)).collect(), bar)
}

/// Prints the number of events in Canonical Event Logs that are not entries of a list.
pub(crate) fn note_others(sources: &[Source], output: &mut Output) {
    let others: u64 = sources.iter().map(Source::others).sum();
    if others > 0 {
        let events = count(others, "event");
        output
            .note(&format!("{events} of the firmware, systemd or the log itself: not in the list"));
    }
}

/// As [`watched`], unless the result is printed on a terminal, where it shows the progress itself.
fn streamed(
    sources: Vec<Source>,
    verb: &'static str,
    output: &Output,
) -> (Vec<Source>, Option<Arc<Bar>>) {
    if io::stdout().is_terminal() {
        return (sources, None);
    }
    let (sources, bar) = watched(sources, verb, output);
    (sources, Some(bar))
}

/// Reports that a list could not be read to its end.
pub(crate) fn report_fault(malformed: &Malformed, output: &mut Output) -> Result<Outcome> {
    let Malformed { name, offset, index, kind, rest } = malformed;
    output
        .object("error")
        .field("path", &**name)
        .field("index", *index)
        .field("offset", *offset)
        .field("error", kind.to_string())
        .field("rest_bytes", rest.bytes)
        .field("readable_records", rest.records)
        .field("readable_bytes", rest.readable)
        .field("readable_from", rest.resumes)
        .end()?;
    output.complain(Style::Bad, "error:", &malformed.to_string());
    Ok(Outcome::Failed)
}
