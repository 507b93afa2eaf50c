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
use crate::output::{JsonPath, Output};

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

    fn of_answer(answer: &Answer, loaded: &Loaded) -> Self {
        match answer {
            Answer::Refused(refusal) => Self::of(refusal, loaded),
            _ => Self::default(),
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
                Why::Refused(refusal) => JsonRefusal::of(refusal, loaded),
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

#[derive(Serialize)]
#[serde(tag = "type", rename = "file")]
struct JsonFile {
    #[serde(flatten)]
    path: JsonPath,
    #[serde(rename = "use")]
    purpose: &'static str,
    result: &'static str,
    #[serde(flatten)]
    refusal: JsonRefusal,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<JsonObstacle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_to_users: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct JsonStart {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_by: Option<String>,
    result: &'static str,
    #[serde(flatten)]
    refusal: JsonRefusal,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<JsonObstacle>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "warning")]
struct JsonWarning {
    #[serde(flatten)]
    path: JsonPath,
    message: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct JsonUnread {
    #[serde(flatten)]
    path: JsonPath,
    error: String,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "summary")]
struct JsonSummary {
    kernel: String,
    kernel_source: &'static str,
    good: bool,
    reaches_init: Option<bool>,
    files: u64,
    allowed: u64,
    denied: u64,
    blocked: u64,
    incomplete: u64,
    unknown: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

/// Prints files and steps with findings, or all of them, and the summary.
pub(super) fn tell(told: &Told<'_>, details: bool, output: &mut Output) -> io::Result<()> {
    let report = told.report;
    let mut counts = [0_u64; Fate::ALL.len()];
    for file in &report.files {
        let fate = Fate::of(file);
        counts[fate as usize] += 1;
        if details || fate != Fate::Allowed || file.is_finding() {
            output.json(&json_file(file, fate, told.loaded))?;
        }
    }
    for attempt in &report.init {
        output.json(&JsonStart::attempt(attempt, told.loaded))?;
    }
    for step in report.steps.iter().filter(|step| details || step.problem.is_some()) {
        output.json(&JsonStart::step(step, told.loaded))?;
    }
    if let Some(fault) = &report.cache {
        let message = cache_fault(fault);
        output.json(&JsonWarning { path: Path::new(CACHE).into(), message })?;
    }
    for found in &report.immutable {
        let (path, message) = (found.path.as_path().into(), immutable(found));
        output.json(&JsonWarning { path, message })?;
    }
    for unread in &report.unread {
        let (path, error) = (unread.path.as_path().into(), with_causes(&unread.error));
        output.json(&JsonUnread { path, error })?;
    }
    let count = |fate: Fate| counts[fate as usize];
    output.json(&JsonSummary {
        kernel: told.options.kernel.version.to_string(),
        kernel_source: source(told.options.kernel.version),
        good: report.is_good(),
        reaches_init: report.reaches_init(),
        files: report.regular,
        allowed: count(Fate::Allowed),
        denied: count(Fate::Refused),
        blocked: count(Fate::Blocked),
        incomplete: count(Fate::Incomplete),
        unknown: count(Fate::Unknown),
        failed: report.unread.len() as u64,
        bytes: told.bytes,
        seconds: told.seconds,
    })
}

fn json_file(file: &FileReport, fate: Fate, loaded: &Loaded) -> JsonFile {
    let FileReport { path, purpose, answer, as_user, obstacle, policy_fault, .. } = file;
    let user = as_user.as_ref().map(Answer::is_refused);
    JsonFile {
        path: path.as_path().into(),
        purpose: purpose.name(),
        result: fate.name(),
        refusal: JsonRefusal::of_answer(answer, loaded),
        needs: obstacle.as_ref().map(|obstacle| JsonObstacle::of(obstacle, loaded)),
        unknown: match answer {
            Answer::Unknown(unknown) => Some(unknown_reason(*unknown)),
            _ => None,
        },
        module_signature: file.module_signature.as_ref().map(ToString::to_string),
        denied_to_users: user.filter(|denied| *denied != answer.is_refused()),
        line: policy_fault.as_ref().map(|(line, _)| *line),
        message: policy_fault
            .as_ref()
            .map(|(_, message)| message.clone())
            .or_else(|| file.certificate_fault.as_ref().map(certificate_fault)),
    }
}

impl JsonStart {
    fn of(
        kind: &'static str,
        path: &Path,
        (result, refusal, obstacle): (&'static str, Option<&Refusal>, Option<&Obstacle>),
        loaded: &Loaded,
    ) -> Self {
        Self {
            kind,
            path: path.into(),
            file: None,
            asked_by: None,
            result,
            refusal: refusal.map_or_else(JsonRefusal::default, |it| JsonRefusal::of(it, loaded)),
            needs: obstacle.map(|obstacle| JsonObstacle::of(obstacle, loaded)),
        }
    }

    fn attempt(attempt: &Attempt, loaded: &Loaded) -> Self {
        let end = match &attempt.end {
            AttemptEnd::Runs => ("runs", None, None),
            AttemptEnd::Absent => ("absent", None, None),
            AttemptEnd::NoProgram => ("no-program", None, None),
            AttemptEnd::Refused(refusal) => ("denied", Some(refusal), None),
            AttemptEnd::Fails(obstacle) => ("fails", None, Some(obstacle)),
            AttemptEnd::Dies(obstacle) => ("dies", None, Some(obstacle)),
        };
        let file = attempt.file.as_deref().map(|file| file.display().to_string());
        Self { file, ..Self::of("init", &attempt.path, end, loaded) }
    }

    fn step(step: &Step, loaded: &Loaded) -> Self {
        let end = match &step.problem {
            None => ("runs", None, None),
            Some(Problem::Missing) => ("absent", None, None),
            Some(Problem::Refused(refusal)) => ("denied", Some(refusal), None),
            Some(Problem::Needs(obstacle)) => ("dies", None, Some(obstacle)),
        };
        let asked_by = Some(step.asked_by.clone());
        Self { asked_by, ..Self::of("step", &step.program, end, loaded) }
    }
}
