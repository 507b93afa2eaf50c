//! `imactl log prune`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ima::attest::keep::{Coverage, EarlierBoot};
use ima::attest::pcr::{self, PcrInput};
use ima::attest::source::{Reading, Source};

use super::verify::QuoteArgs;
use crate::args::jobs;
use crate::error::Result;
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// Remove the segments of an earlier boot after verifying a quote over them
///
/// The segments of log keep are removed only if a verified quote proves every one of their entries. The
/// quote must be one of that boot, at least as new as its last segment. Entries that were still in the kernel
/// then are in no segment: give the complete list that was read after the quote (--list), which the
/// segments must begin. The segments of the last boot are never removed. The exit status is 1, and nothing
/// is removed, if the quote proves nothing, or not every entry; 2 if something cannot be read or removed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("proof").arg("quote").required(true))]
pub(crate) struct PruneArgs {
    /// The directory of a boot: DIR/boot-NUMBER of log keep
    #[arg(value_name = "BOOT")]
    boot: PathBuf,
    /// The complete list, as it was read after the quote (--publish or --socket of log keep) [default: the
    /// segments]
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// The PCR values that the quote is over: the file that tpm2_quote --pcr writes, or another form that
    /// log verify reads
    #[arg(long, value_name = "FILE", required = true)]
    pcrs: Vec<PathBuf>,
    #[command(flatten)]
    quote: QuoteArgs,
    /// Show whether the segments would be removed, without removing them
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Number of worker threads [default: number of CPUs; maximum 1024]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl PruneArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let boot = EarlierBoot::open(&self.boot)?;
        let values: Vec<_> = self.pcrs.iter().map(|path| PcrInput::from(&**path)).collect();
        let (quoted, outcome) = self.quote.check(pcr::read(&values)?, output)?;
        if outcome != Outcome::Good {
            return Ok(outcome);
        }
        let list = self.list.as_ref().map(|list| Source::open(list, Reading::Again)).transpose()?;
        let coverage =
            boot.coverage(list.as_ref().map(std::slice::from_ref), &quoted, jobs(self.jobs))?;
        let path = boot.path().to_owned();
        let name = path.display();
        let (entries, reason) = match coverage {
            Coverage::Whole(entries) => (Some(entries), None),
            _ => (None, Some(reason(&coverage))),
        };
        let removed = entries.is_some() && !self.dry_run;
        if removed {
            boot.remove()?;
        }
        let text = match &reason {
            Some(reason) => {
                output.paint(Style::Bad, &format!("{name}: not removed: {reason}")).to_string()
            }
            None => {
                let entries = count(entries.unwrap_or_default(), "entry");
                let done = if removed { "removed" } else { "would be removed" };
                format!("{name}: {done}: {entries}, all proven by the quote")
            }
        };
        let (outcome, level) = match reason {
            Some(_) => (Outcome::Finding, Level::Quiet),
            None => (Outcome::Good, Level::Normal),
        };
        output
            .object("boot")
            .path(&*path)
            .field("removed", removed)
            .optional("entries", entries)
            .optional("reason", reason)
            .end()?;
        output.line(level, text)?;
        Ok(outcome)
    }
}

/// The reason why segments were not removed.
fn reason(coverage: &Coverage) -> String {
    match coverage {
        Coverage::Whole(_) => "all entries are proven".into(),
        Coverage::Nothing => "no entry extends a PCR of a bank that the quote is over".into(),
        Coverage::Malformed => {
            "the list is malformed or was changed (imactl log verify shows where)".into()
        }
        Coverage::OtherList => "the segments are not the beginning of the list".into(),
        Coverage::NotQuoted { pcr } => format!("the quote is not over PCR {pcr}"),
        Coverage::Short { bank, pcr, proven: 0, .. } => format!(
            "the list does not result in the quoted {bank} PCR {pcr} (imactl log verify explains why; \
             if entries were still in the kernel, give the complete list with --list)"
        ),
        Coverage::Short { bank, pcr, proven, entries } => format!(
            "the quoted {bank} PCR {pcr} proves {proven} of {entries} entries: a newer quote is needed"
        ),
        _ => "unknown reason".into(),
    }
}
