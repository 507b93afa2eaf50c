//! `imactl policy simulate`

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use ima::verify::Keyring;
use ima_format::policy::decide::{AppraiseMode, Cause, Choice, Decider, Decision, Event, Kind};
use serde::Serialize;

use super::diff::demands;
use super::event::{describe, EventArgs};
use super::source::{BootArgs, Loaded};
use super::verdict::{self, Told};
use crate::args::{spelling, KeyringArgs};
use crate::error::{Context, Error, Result};
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{Level, Output, Style};
use crate::Outcome;
use ima::input::{self, Line, LINE_MAX};

/// Show the decision of a policy on an event, the rule that makes it, and the result
///
/// With --file, or --attribute and --digest, it also shows whether the kernel allows the access,
/// and if not, why. The exit status is 0 in both cases.
///
/// One event on the command line: imactl policy simulate POLICY --func BPRM_CHECK --uid 1000. Or a
/// file of events, one JSON object per line with the names of the options: {"func": "FILE_CHECK",
/// "mask": "MAY_READ", "uid": 0, "fowner": 1000, "fsname": "tmpfs"}.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The policies, in the order of loading
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    event: EventArgs,
    /// Events as JSON lines; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "func")]
    events: Option<PathBuf>,
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    boot: BootArgs,
    /// ima_appraise= on the kernel's command line
    #[arg(
        long,
        value_name = "MODE",
        default_value = "enforce",
        value_parser = spelling(AppraiseMode::ALL, AppraiseMode::name),
        visible_alias = "mode",
        help_heading = "Kernel"
    )]
    ima_appraise: AppraiseMode,
}

#[derive(Serialize)]
struct JsonChoice {
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

impl SimulateArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kernel = self.kernel.resolve()?;
        warn_of_hearsay(kernel.version, output);
        let loaded = self.boot.load(&self.files, &kernel)?;
        let decider = Decider::new(&loaded.policy, &kernel, self.mode(output));
        let keyring = Keyring::of_certificates(&self.keyring.given(output)?);
        let mut tell = |args: &EventArgs| {
            let subject = args.subject()?;
            let event = args.about(subject.as_ref(), kernel.version)?;
            let told = subject
                .map(|subject| verdict::tell(&subject, &event, (&loaded, &decider), &keyring))
                .transpose()?;
            tell(&event, told.as_ref(), (&decider, &loaded), output)
        };
        match &self.events {
            None => tell(&self.event)?,
            Some(list) => read_events(list, &mut tell)?,
        }
        Ok(Outcome::Good)
    }
}

impl SimulateArgs {
    /// The appraisal mode. Under Secure Boot every kernel enforces (`ima_appraise_parse_cmdline()`).
    fn mode(&self, output: &mut Output) -> AppraiseMode {
        let mode = self.ima_appraise;
        if mode == AppraiseMode::Enforce || !self.boot.is_secure() {
            return mode;
        }
        output.warn("under Secure Boot the kernel ignores this ima_appraise=, and enforces");
        AppraiseMode::Enforce
    }
}

fn read_events(list: &Path, take: &mut dyn FnMut(&EventArgs) -> Result<()>) -> Result<()> {
    let name = list.display();
    let mut reader: Box<dyn BufRead> = match list.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => {
            let file = input::open(list).with_context(|| name.to_string())?;
            Box::new(BufReader::new(file))
        }
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        let place = || format!("{name}:{number}");
        match input::read_line(&mut reader, &mut line, LINE_MAX).with_context(place)? {
            Line::Read => {}
            Line::None => break,
            Line::TooLong => {
                return Err(Error::new(format!("{}: longer than {LINE_MAX} bytes", place())));
            }
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event: EventArgs =
            serde_json::from_slice(&line).map_err(io::Error::from).with_context(place)?;
        take(&event).with_context(place)?;
    }
    Ok(())
}

fn tell(
    event: &Event,
    told: Option<&Told>,
    (decider, loaded): (&Decider<'_>, &Loaded),
    output: &mut Output,
) -> Result<()> {
    let decision = decider.decide(event);
    if output.is_json() {
        return Ok(print_json(event, told, &decision, loaded, output)?);
    }
    output.line(Level::Normal, output.paint(Style::Bold, &describe(event)))?;
    for kind in Kind::ALL {
        let choice = decision.choice(kind);
        let style = if choice.does() { Style::Good } else { Style::Dim };
        let word = match choice {
            Choice::Do(_) => "yes",
            _ => "no",
        };
        let mut line = format!("  {:<9} {}", kind.action(), output.paint(style, word));
        line += &match choice {
            Choice::NoRule => String::from(", no rule matches"),
            Choice::Do(rule) | Choice::Dont(rule) => format!(", {}", by(rule, loaded)),
            Choice::Overruled { by: other, .. } => {
                format!(", appraised instead, {}", by(other, loaded))
            }
        };
        output.line(Level::Normal, &line)?;
        if choice.does() {
            let details = match kind {
                Kind::Appraise => format!("takes {}", demands(decision.demands)),
                Kind::Measure => {
                    let pcr = decision.pcr.unwrap_or(decider.kernel().default_pcr);
                    format!("into PCR {pcr}")
                }
                Kind::Audit | Kind::Hash => continue,
            };
            output.line(Level::Normal, format_args!("            {details}"))?;
        }
    }
    for rule in &decision.undetermined {
        let text = format!("  it depends on labels whether {} matches first", by(*rule, loaded));
        output.line(Level::Normal, &text)?;
    }
    if let Some(told) = told {
        let word = output.paint(told.style, told.verdict);
        output.line(Level::Normal, format_args!("  verdict   {word}{}", told.reason()))?;
    }
    Ok(())
}

fn by(rule: usize, loaded: &Loaded) -> String {
    let text = loaded.policy.rules().nth(rule).map(ToString::to_string).unwrap_or_default();
    format!("{}: {text}", loaded.place(rule))
}

fn print_json(
    event: &Event,
    told: Option<&Told>,
    decision: &Decision,
    loaded: &Loaded,
    output: &mut Output,
) -> io::Result<()> {
    let choice = |kind| {
        let choice = decision.choice(kind);
        let rule = choice.rule();
        let place = rule.and_then(|rule| loaded.file_and_line(rule));
        JsonChoice {
            done: choice.does(),
            rule: rule.and_then(|rule| loaded.policy.rules().nth(rule)).map(ToString::to_string),
            file: place.map(|(file, _)| file.to_owned()),
            line: place.map(|(_, line)| line),
        }
    };
    let labels: Vec<_> = decision.undetermined.iter().map(|rule| by(*rule, loaded)).collect();
    output
        .object("event")
        .field("event", describe(event))
        .field("measure", choice(Kind::Measure))
        .field("appraise", choice(Kind::Appraise))
        .field("audit", choice(Kind::Audit))
        .field("hash", choice(Kind::Hash))
        .optional("pcr", decision.pcr.filter(|_| decision.measure.does()))
        .optional(
            "signature_required",
            decision.appraise.does().then_some(decision.demands.signature),
        )
        .optional("depends_on_labels", (!labels.is_empty()).then_some(labels))
        .optional("verdict", told.map(|told| told.verdict))
        .optional("cause", told.and_then(|told| told.cause).map(Cause::name))
        .optional("unknown_key", told.and_then(|told| told.unknown_key.as_ref()))
        .optional("fixed", told.filter(|told| told.fixed).map(|_| true))
        .end()
}
