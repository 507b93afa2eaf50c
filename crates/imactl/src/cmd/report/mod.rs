//! `imactl report`

mod groups;
mod html;
mod list;
mod listed;
mod page;
mod root;
mod strip;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use ima::attest::manifest::Manifest;
use ima::attest::source::{Reading, Source};
use ima::attest::verify::Options;
use ima::staging;
use ima::system::Machine;
use ima::HashAlgorithm;
use ima_format::measure::PcrValues;

use super::log::{audited, note_others, watched, ListOf, ReferenceArgs};
use super::manifest::{self, TrustArgs};
use super::preflight::JudgeArgs;
use crate::args::jobs;
use crate::error::{Context, Result};
use crate::output::{count, Level, Output, Style};
use crate::outputs::is_stdio;
use crate::Outcome;
use list::{Inputs, List};
use root::Root;

/// Write a report on a root and on a measurement list, as a page for a browser
///
/// The page answers whether everything is signed that the kernel checks (of --root, as preflight predicts it) and
/// whether the list agrees with the PCRs (of --list, as log verify finds out). It has tables of both by
/// directory and by package, the findings, and the timeline of the boot. It is one file: it loads nothing, and
/// its scripts only sort and filter. Tables have at most 1000 rows; the page says which command
/// prints all. Without --root and --list it is about the list of this machine. The exit status is 1 if a file would be
/// denied or there is any finding in the list, or the list agrees with no PCR; 2 if an input cannot be read to its end.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("root_kernel").multiple(true).requires("root")
    .args(["kernel", "kernel_config", "secure_boot"]))]
pub(crate) struct ReportArgs {
    /// The root file system, in any form that preflight reads
    #[arg(long, value_name = "ROOT", help_heading = "Root", requires = "policy")]
    root: Option<PathBuf>,
    /// The policies, in the order of loading; default:appraise is imactl's default one
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Root", requires = "root")]
    policy: Vec<PathBuf>,
    /// A manifest that has the packages of files (imactl manifest create -r) [default: packages as dpkg or opkg
    /// of the root list them]
    #[arg(long, value_name = "FILE", help_heading = "Root", requires = "root")]
    manifest: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    /// A measurement list; repeated for its segments in order
    #[arg(long, value_name = "LIST", help_heading = "Measurement list")]
    list: Vec<PathBuf>,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// The audit log, which has the times: see log timeline. The whole list is in memory then
    #[arg(long, value_name = "FILE", help_heading = "Measurement list")]
    audit: Option<PathBuf>,
    /// Write the page here; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl ReportArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut outcome = Outcome::Good;
        let root = match &self.root {
            None => None,
            Some(path) => {
                let manifest = manifest::read_all(&self.manifest, &self.trust, output)?;
                let (root, came) = self.look(path, &manifest, output)?;
                outcome = outcome.max(came);
                Some(root)
            }
        };
        let list = match (&self.root, self.list.is_empty()) {
            (Some(_), true) => None,
            _ => Some(self.measured(output)?),
        };
        if let Some(list) = &list {
            outcome = outcome.max(match (&list.fault, list.is_good()) {
                (Some(fault), _) => {
                    output.complain(Style::Bad, "error:", fault);
                    Outcome::Failed
                }
                (None, false) => Outcome::Finding,
                (None, true) => Outcome::Good,
            });
        }
        let page = page::page(root.as_ref(), list.as_ref())?;
        self.write(&page, output)?;
        let bytes = page.len() as u64;
        output
            .object("report")
            .field("output", self.output.to_string_lossy())
            .field("bytes", bytes)
            .field("good", outcome == Outcome::Good)
            .optional("agrees", list.as_ref().and_then(List::agrees))
            .end()?;
        let name = self.output.display();
        output.line(Level::Normal, format_args!("{name}: {}", count(bytes, "byte")))?;
        Ok(outcome)
    }

    fn look(
        &self,
        path: &Path,
        manifest: &Manifest,
        output: &mut Output,
    ) -> Result<(Root, Outcome)> {
        self.judge.judge(path, &self.policy, output, |source, told, _| {
            Ok((Root::of(path, source, told, manifest), told.outcome()))
        })
    }

    fn measured(&self, output: &mut Output) -> Result<List> {
        let of = match self.list.is_empty() {
            true => ListOf::ThisMachine,
            false => ListOf::Another,
        };
        // read the PCRs before the list: then every extension of them is in the list
        let given = self.reference.values(of)?.unwrap_or_default();
        let quote = self.reference.quote.verify(&given)?;
        let values = quote.as_ref().map_or(&given, |quote| &quote.values);
        let keyring = self.judge.keyring.measured(output)?;
        let paths = match of {
            ListOf::ThisMachine => Machine::here().measurement_list(),
            ListOf::Another => self.list.clone(),
        };
        let sources: Result<Vec<_>, _> =
            paths.iter().map(|path| Source::open(path, Reading::Again)).collect();
        let options = Options {
            banks: banks(values),
            values,
            keyring: keyring.as_ref(),
            jobs: jobs(self.judge.jobs),
        };
        let event_log = self.reference.event_log(of)?;
        let audited = self.audit.as_deref().map(audited).transpose()?;
        let (sources, bar) = watched(sources?, "verifying", output);
        let (sources, quote) = (&sources[..], quote.clone());
        let list = List::of(Inputs { sources, options, event_log, quote, audited });
        bar.finish();
        note_others(sources, output);
        list
    }

    fn write(&self, page: &str, output: &mut Output) -> Result<()> {
        if is_stdio(&self.output) {
            output.text(page.as_bytes())?;
            output.flush()?;
            output.give_way();
            return Ok(());
        }
        staging::write_path(&self.output, 0o644, page.as_bytes()).at(&self.output)
    }
}

/// The banks with a value; without values SHA-1 and SHA-256.
fn banks(values: &PcrValues) -> BTreeSet<HashAlgorithm> {
    let known: BTreeSet<_> = values.iter().map(|value| value.value.algorithm()).collect();
    match known.is_empty() {
        true => BTreeSet::from([HashAlgorithm::Sha1, HashAlgorithm::Sha256]),
        false => known,
    }
}
