//! `imactl log show`

use std::path::Path;

use clap::Args;
use ima::attest::check::{is_signed, BootEvent};
use ima::attest::reader::{Batch, Item, ListReader};
use ima::attest::source::{Reading, Source};
use ima::attest::ListError;
use ima::container::Selection;
use ima_format::measure::Entry;

use super::{entry, note_others, report_fault, streamed, ListArgs};
use crate::error::{Context, Result};
use crate::output::{Level, Output};
use crate::Outcome;

/// Show the entries of a measurement list, decoded
///
/// Nothing is verified; see log verify. With --verbose measured buffers (command lines, policies,
/// critical data) are printed after their entries. Filters can be combined; an entry must pass all.
/// The exit status is 1 if an entry is malformed, 2 if the list cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Only files whose path matches a glob
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Only entries of a template: ima-ng, ima-sig, ima-buf, or a list of fields
    #[arg(long, value_name = "NAME")]
    template: Vec<String>,
    /// Only entries that extend a PCR
    #[arg(long, value_name = "N")]
    pcr: Vec<u32>,
    /// Only violations
    #[arg(long)]
    violations: bool,
    /// Only files without a signature
    #[arg(long)]
    unsigned: bool,
    /// Only entries since the kernel that made the list started: without those that kexec carried over
    #[arg(long)]
    current_boot: bool,
}

impl ShowArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let reading = if self.current_boot { Reading::Again } else { Reading::Once };
        let (sources, bar) = streamed(self.list.open(reading)?, "reading", output);
        let shown = self.show(sources.clone(), output);
        if let Some(bar) = bar {
            bar.finish();
        }
        note_others(&sources, output);
        shown
    }

    fn show(&self, sources: Vec<Source>, output: &mut Output) -> Result<Outcome> {
        let first = match self.current_boot {
            true => last_boot(&sources)?,
            false => 0,
        };
        let paths = Selection::new(&self.path, &[]).context("--path")?;
        let (mut reader, mut batch) = (ListReader::new(sources), Batch::default());
        let mut outcome = Outcome::Good;
        loop {
            match reader.next(&mut batch) {
                Ok(()) if batch.is_empty() => return Ok(outcome),
                Ok(()) => {}
                Err(ListError::Malformed(fault)) => {
                    return Ok(outcome.max(report_fault(&fault, output)?))
                }
                Err(error) => return Err(error.into()),
            }
            for item in batch.items().filter(|item| item.index >= first) {
                let decoded = Entry::decode(&item.record);
                if decoded.is_err() {
                    outcome = outcome.max(Outcome::Finding);
                }
                if self.wants(&item, &decoded, &paths) {
                    print(batch.segment(), &item, &decoded, output)?;
                }
            }
        }
    }

    /// Whether an entry passes the filters. Malformed entries pass the filters on fields.
    fn wants(
        &self,
        item: &Item<'_>,
        decoded: &Result<Entry<'_>, ima_format::Error>,
        paths: &Selection,
    ) -> bool {
        let record = &item.record;
        let template = record.template.name();
        (self.pcr.is_empty() || self.pcr.contains(&record.pcr))
            && (self.template.is_empty()
                || self.template.iter().any(|wanted| wanted.as_bytes() == template))
            && (!self.violations || record.is_violation())
            && decoded.as_ref().map_or(true, |entry| {
                (!self.unsigned || !is_signed(entry))
                    && (self.path.is_empty() || paths.selects(path_of(entry)))
            })
    }
}

fn path_of<'a>(entry: &Entry<'a>) -> &'a Path {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(entry.name));
    // globs match paths below the root
    path.strip_prefix("/").unwrap_or(path)
}

fn print(
    list: &str,
    item: &Item<'_>,
    decoded: &Result<Entry<'_>, ima_format::Error>,
    output: &mut Output,
) -> std::io::Result<()> {
    if output.is_json() {
        return entry::print_json(list, item, decoded, output);
    }
    let (line, buffer) = entry::lines(item, decoded, output);
    output.line(Level::Quiet, line)?;
    for line in buffer.iter().flat_map(|buffer| buffer.lines()) {
        output.line(Level::Verbose, format_args!("                       {line}"))?;
    }
    Ok(())
}

/// The number of the last boot_aggregate; 0 if there is none or the list cannot be read.
fn last_boot(sources: &[Source]) -> Result<u64, ListError> {
    let (mut reader, mut batch) = (ListReader::new(sources.iter().cloned()), Batch::default());
    let mut last = 0;
    loop {
        match reader.next(&mut batch) {
            Ok(()) if batch.is_empty() => return Ok(last),
            Ok(()) => {}
            // reported after the entries before it
            Err(ListError::Malformed(_)) => return Ok(last),
            Err(error) => return Err(error),
        }
        for item in batch.items() {
            let event = Entry::decode(&item.record).ok().and_then(|entry| BootEvent::of(&entry));
            if let Some(BootEvent::BootAggregate(_)) = event {
                last = item.index;
            }
        }
    }
}
