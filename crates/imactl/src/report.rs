//! One run of an operation on all inputs: events are reported as they happen, and counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ima::advice::Advice;
use ima::container::rpm::PackageSummary;
use ima::container::{
    self, Access, AnyContainer, Container, Destination, DirectoryMode, Event, ItemError, Left,
    Operation, Part, Report, Run,
};
use ima_format::kind::Kind;
use serde::Serialize;

use crate::error::{with_causes, Result};
use crate::inputs::Inputs;
use crate::output::{count, Entry, Level, Name, Output, Style};
use crate::outputs::{spool_directory, tell_left_over, ResultArgs};
use crate::printable::Printable;
use crate::progress::Bar;
use crate::Outcome;

/// Two counts of files or packages.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) matched: u64,
    pub(crate) other: u64,
}

impl Tally {
    fn count(&mut self, matched: bool) {
        *(if matched { &mut self.matched } else { &mut self.other }) += 1;
    }

    fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.other += other.other;
    }
}

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// The noun of the counts: files, or packages.
    pub(crate) noun: &'static str,
    /// The counts of the printer.
    pub(crate) tally: Tally,
    /// Files and containers that were not processed.
    pub(crate) failures: Failures,
    /// Files among packages that are not packages.
    pub(crate) skipped: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// The duration.
    pub(crate) seconds: f64,
}

impl Totals {
    /// Prints the numbers as JSON: the two counts of the tally by these names, and the number of files in
    /// packages if it is known.
    pub(crate) fn summarize(
        &self,
        (matched, other): (&str, &str),
        files: Option<u64>,
        output: &mut Output,
    ) -> io::Result<()> {
        output
            .object("summary")
            .field(matched, self.tally.matched)
            .field(other, self.tally.other)
            .optional("skipped", (self.noun == "package").then_some(self.skipped))
            .field("failed", self.failures.count())
            .optional("files", files)
            .field("bytes", self.bytes)
            .field("seconds", self.seconds)
            .end()
    }

    /// Prints the last line of an operation that changes containers: `done` is the verb for its files;
    /// containers and files that failed are counted.
    pub(crate) fn conclude(
        &self,
        done: String,
        time: &str,
        not_done: &str,
        output: &mut Output,
    ) -> Result<Outcome> {
        let mut line = match self.is_empty() {
            true => format!("no {}s", self.noun),
            false => done,
        };
        if self.skipped > 0 {
            line += &format!(", skipped {}", count(self.skipped, "other file"));
        }
        if !self.is_empty() {
            line += time;
        }
        if let Some(failures) = self.failures.describe() {
            line += &format!("; {}", output.paint(Style::Bad, &format!("{failures} {not_done}")));
        }
        output.line(Level::Normal, &line)?;
        Ok(Outcome::of(self.failures.count(), 0))
    }

    /// Whether there was nothing to process.
    pub(crate) fn is_empty(&self) -> bool {
        self.tally.matched + self.tally.other + self.failures.count() == 0
    }
}

/// Prints results, and returns the count of the tally that each belongs to.
pub(crate) trait Printer<T> {
    /// Prints the result for a file.
    fn file(
        &mut self,
        name: Name<'_>,
        size: u64,
        outcome: &T,
        output: &mut Output,
    ) -> (bool, io::Result<()>);

    /// Prints the results for a package and its files.
    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<T>],
        output: &mut Output,
    ) -> (bool, io::Result<()>);
}

/// The result for a file or a package that an operation changes.
#[derive(Serialize)]
pub(crate) struct Changed<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) name: Name<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    pub(crate) result: &'static str,
    /// The number of files of a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    /// The effect on `security.evm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evm_key_id: Option<String>,
    /// With `--dry-run` results are printed at the normal level, as they are the purpose of the run.
    #[serde(skip)]
    pub(crate) dry_run: bool,
}

impl Entry for Changed<'_> {
    fn level(&self) -> Level {
        match self.dry_run {
            true => Level::Normal,
            false => Level::Verbose,
        }
    }

    fn text(&self, _: &Output) -> String {
        let Self { result, name, .. } = self;
        match (self.files, self.hash) {
            (Some(files), Some(hash)) => {
                format!("{result:<11} {name} ({}, {hash})", count(files, "file"))
            }
            _ => format!("{result:<11} {name}"),
        }
    }
}

/// The destination of results.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Results<'a> {
    /// The operation only reads.
    None,
    /// Nothing is written.
    DryRun(Option<&'a ResultArgs>),
    /// At the destination of the options; without options, in place.
    At(Option<&'a ResultArgs>),
}

impl Results<'_> {
    fn of(self, container: &AnyContainer, count: usize) -> Result<Destination> {
        match (self, container) {
            (Results::DryRun(Some(results)), AnyContainer::Packages(packages)) => {
                let directory = results.directory(packages, DirectoryMode::Check)?;
                Ok(directory.unwrap_or(Destination::Nowhere))
            }
            (Results::None | Results::DryRun(_), _) => Ok(Destination::Nowhere),
            (Results::At(Some(results)), AnyContainer::Packages(packages)) => {
                let directory = results.directory(packages, DirectoryMode::Write)?;
                Ok(directory.unwrap_or(Destination::InPlace))
            }
            (Results::At(None), _) | (_, AnyContainer::Tree(_)) => Ok(Destination::InPlace),
            (Results::At(Some(results)), container) => results.destination(container, count),
        }
    }
}

/// Runs an operation on all inputs; `verb` is shown in the progress bar.
pub(crate) fn run<O: Operation>(
    operation: &O,
    inputs: Inputs,
    results: Results<'_>,
    verb: &'static str,
    output: &mut Output,
    printer: &mut dyn Printer<O::Outcome>,
) -> Result<Totals> {
    let noun = inputs.noun();
    let Inputs { kind, containers, selection, jobs, max_sparse, after_end } = inputs;
    let destinations = containers.iter().map(|it| results.of(it, containers.len()));
    let destinations = destinations.collect::<Result<Vec<_>>>()?;
    if destinations.iter().any(|it| matches!(it, Destination::Stdout)) {
        output.give_way();
    }
    let bar = match kind {
        Kind::Rpm => Bar::of("packages", verb, output),
        _ => Bar::new(verb, output),
    };
    let mut run = Run {
        operation,
        selection,
        jobs,
        destination: Destination::Nowhere,
        compression: match results {
            Results::At(Some(results)) => results.compression(),
            _ => None,
        },
        max_sparse,
        after_end,
        spool: spool_directory(),
        progress: &bar,
    };
    let mut totals = Totals { noun, ..Totals::default() };
    for (container, destination) in containers.into_iter().zip(destinations) {
        warn_of_left_over(&container, &destination, output);
        run.destination = destination;
        run_one(container, &run, &mut totals, &bar, output, printer)?;
    }
    (totals.bytes, totals.seconds) = bar.finish();
    for (option, globs) in ["--include", "--exclude"].into_iter().zip(run.selection.unmatched()) {
        for glob in globs {
            output.warn(&format!("{option} '{glob}' matches nothing"));
        }
    }
    Ok(totals)
}

fn run_one<O: Operation>(
    container: AnyContainer,
    run: &Run<'_, O>,
    totals: &mut Totals,
    bar: &Bar,
    output: &mut Output,
    printer: &mut dyn Printer<O::Outcome>,
) -> Result<()> {
    let noun = container.noun();
    let packages = matches!(container, AnyContainer::Packages(_));
    let Totals { tally, failures, skipped, .. } = totals;
    let mut files = Vec::new();
    // counts of a container that is not yet written
    let mut pending = Tally::default();
    container.run(run, &mut |event| match event {
        // printed with its package
        Event::Item { report, .. } if packages => {
            files.push(report);
            Ok(())
        }
        Event::Item { container, report: Report { part, path, size, outcome, .. } } => {
            let name = Name { container, part: part.as_ref(), path: &path };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => return bar.suspend(|| failures.item(name, &error, output)),
            };
            let mut print = || printer.file(name, size, &outcome, output);
            let (matched, printed) = match O::ACCESS {
                Access::Reads => bar.suspend(print),
                // continue to write containers after the reader of stdout is gone
                Access::Removes | Access::Sets => (print().0, Ok(())),
            };
            pending.count(matched);
            printed
        }
        Event::Container { path, outcome } => {
            let counted = std::mem::take(&mut pending);
            let files = std::mem::take(&mut files);
            match outcome {
                Ok(container::Summary::NotAPackage) => {
                    *skipped += 1;
                    Ok(())
                }
                Ok(container::Summary::Package(package)) => {
                    let mut print = || printer.package(path, &package, &files, output);
                    let (matched, printed) = match O::ACCESS {
                        Access::Reads => bar.suspend(print),
                        Access::Removes | Access::Sets => (print().0, Ok(())),
                    };
                    tally.count(matched);
                    printed
                }
                Ok(summary) => {
                    tally.add(counted);
                    match summary {
                        container::Summary::Archive(extent) if extent.foreign > 0 => {
                            let (path, bytes) = (path.display(), extent.foreign);
                            output.warn(&format!(
                                "{path}: {bytes} bytes after the archive's end are no archive"
                            ));
                            Ok(())
                        }
                        container::Summary::Image(left) => left
                            .iter()
                            .try_for_each(|left| output.show(&LeftAlone::new(path, left))),
                        _ => Ok(()),
                    }
                }
                Err(error) => {
                    if O::ACCESS == Access::Reads {
                        tally.add(counted);
                    }
                    bar.suspend(|| failures.container(path.into(), noun, &error, output))
                }
            }
        }
    })?;
    tally.add(pending);
    Ok(())
}

/// A part of a container that was left alone.
#[derive(Serialize)]
#[serde(tag = "type", rename = "left-alone")]
struct LeftAlone<'a> {
    container: String,
    #[serde(flatten)]
    part: BTreeMap<&'static str, &'a str>,
    content: &'static str,
    #[serde(skip)]
    name: &'a Part,
}

impl<'a> LeftAlone<'a> {
    fn new(path: &Path, Left { part, content }: &'a Left) -> Self {
        let container = path.to_string_lossy().into_owned();
        let by_noun = BTreeMap::from([(part.noun, &*part.name)]);
        Self { container, part: by_noun, content, name: part }
    }
}

impl Entry for LeftAlone<'_> {
    fn level(&self) -> Level {
        Level::Normal
    }

    fn text(&self, _: &Output) -> String {
        let Self { name, content, .. } = self;
        format!("left alone {}: {name}: {content}", Printable::new(&self.container))
    }
}

/// Warns of files that killed runs left next to a result.
fn warn_of_left_over(container: &AnyContainer, destination: &Destination, output: &mut Output) {
    let path = match (destination, container.path()) {
        (Destination::File(path), _) => path.clone(),
        (Destination::InPlace, Some(path)) => path.to_owned(),
        _ => return,
    };
    let path = path.canonicalize().unwrap_or(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tell_left_over(&directory.map_or_else(|| PathBuf::from("."), PathBuf::from), output);
    tell_left_over(&std::env::temp_dir(), output);
}

/// Files and containers that were not processed; each hint is printed once.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    files: u64,
    containers: u64,
    noun: &'static str,
    hints: Vec<&'static str>,
}

impl Failures {
    pub(crate) fn count(&self) -> u64 {
        self.files + self.containers
    }

    /// The number of failures, for people: `2 files`, `1 archive`.
    pub(crate) fn describe(&self) -> Option<String> {
        let counts = [(self.files, "file"), (self.containers, self.noun)];
        let counts = counts.iter().filter(|(number, _)| *number > 0);
        let counts: Vec<_> = counts.map(|(number, noun)| count(*number, noun)).collect();
        (!counts.is_empty()).then(|| counts.join(" and "))
    }

    /// Reports a file that was not processed.
    fn item(&mut self, name: Name<'_>, error: &ItemError, output: &mut Output) -> io::Result<()> {
        self.files += 1;
        match error {
            // reported where it happened; the summary counts the other files
            ItemError::KeyLost(_) if !output.is_json() => Ok(()),
            _ => self.print(name, error, output),
        }
    }

    /// Reports a container that was not processed.
    pub(crate) fn container(
        &mut self,
        name: Name<'_>,
        noun: &'static str,
        error: &impl Advice,
        output: &mut Output,
    ) -> io::Result<()> {
        self.containers += 1;
        self.noun = noun;
        self.print(name, error, output)
    }

    fn print(
        &mut self,
        name: Name<'_>,
        error: &impl Advice,
        output: &mut Output,
    ) -> io::Result<()> {
        let (text, hint) = (with_causes(error), error.advice());
        if output.is_json() {
            return output
                .object("error")
                .path(name)
                .field("error", text)
                .optional("hint", hint)
                .end();
        }
        output.complain(Style::Bad, "error:", &format!("{name}: {text}"));
        if let Some(hint) = hint.filter(|hint| !self.hints.contains(hint)) {
            output.complain(Style::Dim, "hint:", hint);
            self.hints.push(hint);
        }
        Ok(())
    }
}
