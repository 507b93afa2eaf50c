//! JSON lines.
//!
//! docs/json.md defines the words. Counts and exit status do not depend on `--details`, which
//! only adds files and steps without findings.

use std::io;
use std::path::Path;

use ima::preflight::{
    Answer, Attempt, AttemptEnd, FileReport, Obstacle, Problem, Refusal, Step, Why,
};
use serde::Serialize;

use super::people::{cache_fault, certificate_fault, immutable, unknown_reason, Fate, CACHE};
use super::Told;
use crate::cmd::policy::Loaded;
use crate::error::with_causes;
use crate::kernel::source;
use crate::output::{JsonPath, Object, Output};

#[derive(Default, Serialize)]
struct JsonRefusal {
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    func: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_key: Option<String>,
}

impl JsonRefusal {
    fn of(refusal: &Refusal, loaded: &Loaded) -> Self {
        Self {
            cause: Some(refusal.cause.name()),
            func: Some(refusal.func.name()),
            rule: refusal.rule.map(|rule| loaded.place(rule)),
            unknown_key: refusal.unknown_key.map(|key| key.to_string()),
        }
    }
}

/// A file that something needs and cannot use.
#[derive(Serialize)]
struct JsonObstacle {
    #[serde(flatten)]
    path: JsonPath,
    needed_by: String,
    #[serde(flatten)]
    refusal: JsonRefusal,
    #[serde(skip_serializing_if = "Option::is_none")]
    too_deep: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x86_64_level: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processors: Vec<&'static str>,
}

impl JsonObstacle {
    fn of(obstacle: &Obstacle, loaded: &Loaded) -> Self {
        Self {
            path: obstacle.what.as_path().into(),
            needed_by: obstacle.needed_by.display().to_string(),
            refusal: match &obstacle.why {
                Why::Denied(refusal) => JsonRefusal::of(refusal, loaded),
                Why::Missing | Why::NeedsLevel(_) | Why::TooDeep => JsonRefusal::default(),
            },
            too_deep: (obstacle.why == Why::TooDeep).then_some(true),
            x86_64_level: match obstacle.why {
                Why::NeedsLevel(level) => Some(level),
                _ => None,
            },
            processors: obstacle.on.clone(),
        }
    }
}

/// Prints files and steps with findings, or all of them, and the summary.
pub(super) fn tell(told: &Told<'_>, details: bool, output: &mut Output) -> io::Result<()> {
    let report = told.report;
    let mut counts = [0_u64; Fate::ALL.len()];
    for file in &report.files {
        let fate = Fate::of(file);
        counts[fate as usize] += 1;
        if details || fate != Fate::Allowed || file.is_finding() {
            print_file(file, fate, told.loaded, output)?;
        }
    }
    for attempt in &report.init {
        print_attempt(attempt, told.loaded, output)?;
    }
    for step in report.steps.iter().filter(|step| details || step.problem.is_some()) {
        print_step(step, told.loaded, output)?;
    }
    if let Some(fault) = &report.cache {
        let message = cache_fault(fault);
        output.object("warning").path(Path::new(CACHE)).field("message", message).end()?;
    }
    for found in &report.immutable {
        let message = immutable(found);
        output.object("warning").path(found.path.as_path()).field("message", message).end()?;
    }
    for unread in &report.unread {
        let error = with_causes(&unread.error);
        output.object("error").path(unread.path.as_path()).field("error", error).end()?;
    }
    let count = |fate: Fate| counts[fate as usize];
    output
        .object("summary")
        .field("kernel", told.options.kernel.version.to_string())
        .field("kernel_source", source(told.options.kernel.version))
        .field("good", report.is_good())
        .field("reaches_init", report.reaches_init())
        .field("files", report.regular)
        .field("allowed", count(Fate::Allowed))
        .field("denied", count(Fate::Denied))
        .field("blocked", count(Fate::Blocked))
        .field("incomplete", count(Fate::Incomplete))
        .field("unknown", count(Fate::Unknown))
        .field("failed", report.unread.len() as u64)
        .field("bytes", told.bytes)
        .field("seconds", told.seconds)
        .end()
}

fn print_file(
    file: &FileReport,
    fate: Fate,
    loaded: &Loaded,
    output: &mut Output,
) -> io::Result<()> {
    let FileReport { path, purpose, answer, as_user, obstacle, policy_fault, .. } = file;
    let user = as_user.as_ref().map(Answer::is_denied);
    let (refusal, unknown) = match answer {
        Answer::Denied(refusal) => (JsonRefusal::of(refusal, loaded), None),
        Answer::Unknown(unknown) => (JsonRefusal::default(), Some(unknown_reason(*unknown))),
        Answer::Allowed { .. } => (JsonRefusal::default(), None),
    };
    let message = policy_fault.as_ref().map(|(_, message)| message.clone());
    output
        .object("file")
        .path(path.as_path())
        .field("use", purpose.name())
        .field("result", fate.name())
        .fields(refusal)
        .optional("needs", obstacle.as_ref().map(|it| JsonObstacle::of(it, loaded)))
        .optional("unknown", unknown)
        .optional("denied_to_users", user.filter(|denied| *denied != answer.is_denied()))
        .optional("module_signature", file.module_signature.as_ref().map(ToString::to_string))
        .optional("line", policy_fault.as_ref().map(|(line, _)| *line))
        .optional(
            "message",
            message.or_else(|| file.certificate_fault.as_ref().map(certificate_fault)),
        )
        .end()
}

/// The result of a start, the denial, and the obstacle.
type End<'a> = (&'static str, Option<&'a Refusal>, Option<&'a Obstacle>);

fn print_attempt(attempt: &Attempt, loaded: &Loaded, output: &mut Output) -> io::Result<()> {
    let end = match &attempt.end {
        AttemptEnd::Runs => ("runs", None, None),
        AttemptEnd::Absent => ("absent", None, None),
        AttemptEnd::NoProgram => ("no-program", None, None),
        AttemptEnd::Denied(refusal) => ("denied", Some(refusal), None),
        AttemptEnd::Fails(obstacle) => ("fails", None, Some(obstacle)),
        AttemptEnd::Dies(obstacle) => ("dies", None, Some(obstacle)),
    };
    let file = attempt.file.as_deref().map(|file| file.display().to_string());
    let object = output.object("init").path(attempt.path.as_path()).optional("file", file);
    print_end(object, end, loaded)
}

fn print_step(step: &Step, loaded: &Loaded, output: &mut Output) -> io::Result<()> {
    let end = match &step.problem {
        None => ("runs", None, None),
        Some(Problem::Missing) => ("absent", None, None),
        Some(Problem::Denied(refusal)) => ("denied", Some(refusal), None),
        Some(Problem::Needs(obstacle)) => ("dies", None, Some(obstacle)),
    };
    let object = output.object("step").path(step.program.as_path());
    print_end(object.field("asked_by", &step.asked_by), end, loaded)
}

fn print_end(object: Object<'_>, end: End<'_>, loaded: &Loaded) -> io::Result<()> {
    let (result, refusal, obstacle) = end;
    object
        .field("result", result)
        .fields(refusal.map(|refusal| JsonRefusal::of(refusal, loaded)).unwrap_or_default())
        .optional("needs", obstacle.map(|obstacle| JsonObstacle::of(obstacle, loaded)))
        .end()
}
