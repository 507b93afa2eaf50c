//! `imactl policy diff`

use std::path::PathBuf;

use clap::Args;
use ima_format::policy::ast::{AlgorithmSet, Func};
use ima_format::policy::decide::Demands;
use ima_format::policy::diff;
use ima_format::policy::diff::{Difference, Effect, Refusing};
use serde::Serialize;

use super::event::describe;
use super::source::Loaded;
use crate::error::Result;
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{Level, Output, Style};
use crate::Outcome;

/// Compare the decisions of two policies
///
/// Compares decisions, not texts, over all events that the rules distinguish. Each difference is
/// shown by events, as options of imactl policy simulate. As with diff, the exit status is 0 if all
/// decisions are the same, 1 if not, 2 on errors.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The old policy
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The new policy
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    #[command(flatten)]
    kernel: KernelArgs,
}

#[derive(Serialize)]
struct JsonSide<'a> {
    effect: &'a str,
    line: Option<usize>,
    rule: Option<String>,
}

impl DiffArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kernel = self.kernel.resolve()?;
        warn_of_hearsay(kernel.version, output);
        let before = Loaded::of(&[&self.before], &kernel)?;
        let after = Loaded::of(&[&self.after], &kernel)?;
        let found = diff(&before.policy, &after.policy, &kernel);
        for difference in &found.decisions {
            tell(difference, &before, &after, output)?;
        }
        let mut others = Vec::new();
        if let Some((before, after)) = found.setxattr {
            let (before, after) = (algorithms(before), algorithms(after));
            others
                .push(format!("security.ima is written with {before} before, with {after} after"));
        }
        for (func, refusing) in &found.unnamed {
            let when = match refusing {
                Refusing::Before => "before, not after",
                Refusing::After => "after, not before",
            };
            others.push(format!("{} is denied {when}", unnamed(*func)));
        }
        for message in &others {
            output.object("other").field("message", message).end()?;
            output.line(Level::Quiet, message)?;
        }
        let differences = found.decisions.len() + others.len();
        let complete = found.complete;
        output
            .object("summary")
            .field("differences", differences)
            .field("complete", complete)
            .end()?;
        if !complete {
            output.warn("too many events to try each: there may be further differences");
        }
        if found.is_empty() {
            output.line(Level::Normal, "the decisions are the same")?;
            return Ok(Outcome::Good);
        }
        Ok(Outcome::Finding)
    }
}

fn tell(found: &Difference, before: &Loaded, after: &Loaded, output: &mut Output) -> Result<()> {
    let effects = [effect(&found.before), effect(&found.after)];
    let rules = [(before, found.before_rule), (after, found.after_rule)].map(|(loaded, rule)| {
        let number = rule?;
        let text = loaded.policy.rules().nth(number)?.to_string();
        Some((loaded.place(number), loaded.file_and_line(number)?.1, text))
    });
    if output.is_json() {
        let side = |index: usize| JsonSide {
            effect: &effects[index],
            line: rules[index].as_ref().map(|(_, line, _)| *line),
            rule: rules[index].as_ref().map(|(_, _, text)| text.clone()),
        };
        output
            .object("difference")
            .field("decision", found.kind.action().name())
            .field("funcs", found.funcs.iter().map(|func| func.name()).collect::<Vec<_>>())
            .field("before", side(0))
            .field("after", side(1))
            .field("events", found.witnesses.iter().map(describe).collect::<Vec<_>>())
            .end()?;
        return Ok(());
    }
    let funcs: Vec<_> = found.funcs.iter().map(|func| func.name()).collect();
    let head = format!("{} at {}", found.kind.action(), funcs.join(", "));
    output.line(Level::Quiet, output.paint(Style::Bold, &head))?;
    for (index, (sign, style)) in [("-", Style::Bad), ("+", Style::Good)].into_iter().enumerate() {
        let by = match &rules[index] {
            Some((place, _, text)) => format!("  ({place}: {text})"),
            None => String::from("  (no rule)"),
        };
        let line = output.paint(style, &format!("{sign} {}", effects[index]));
        output.line(Level::Quiet, format_args!("{line}{}", output.paint(Style::Dim, &by)))?;
    }
    for witness in &found.witnesses {
        output.line(Level::Quiet, format_args!("  {}", describe(witness)))?;
    }
    Ok(output.line(Level::Quiet, "")?)
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Nothing => String::from("nothing"),
        Effect::Measured { pcr, template, verity } => {
            let verity = if *verity { ", fs-verity digest" } else { "" };
            format!("measured into PCR {pcr}, template {template}{verity}")
        }
        Effect::Appraised { demands: asked, algorithms: allowed } => {
            let mut text = format!("appraised: {}", demands(*asked));
            if let Some(allowed) = allowed {
                text += &format!(", algorithms {allowed}");
            }
            text
        }
        Effect::Audited => String::from("written to the audit log"),
        Effect::Hashed => String::from("its digest is stored in security.ima"),
    }
}

/// Describes the requirements of an appraisal.
pub(super) fn demands(demands: Demands) -> String {
    let mut text = match (demands.verity, demands.modsig_allowed, demands.signature) {
        (true, _, _) => "an fs-verity signature",
        (_, true, _) => "a signature, in security.ima or appended",
        (_, _, true) => "a signature",
        _ => "a digest or a signature",
    }
    .to_owned();
    for (asked, words) in [
        (demands.check_blacklist, "not blacklisted"),
        (demands.permit_directio, "O_DIRECT passes unchecked"),
        (demands.fail_unverifiable, "no file system that cannot be relied on"),
    ] {
        if asked {
            text += &format!(", {words}");
        }
    }
    text
}

fn algorithms(set: Option<AlgorithmSet>) -> String {
    set.map_or_else(|| String::from("any algorithm"), |set| set.to_string())
}

/// The operation that has no file, and that the kernel denies as soon as a rule appraises its hook.
const fn unnamed(func: Func) -> &'static str {
    match func {
        Func::PolicyCheck => "a policy written as text",
        Func::ModuleCheck => "init_module (where the kernel does not insist on signed modules)",
        Func::FirmwareCheck => "firmware through sysfs",
        _ => "kexec_load",
    }
}
