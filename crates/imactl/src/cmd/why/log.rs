//! The audit log, explained.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use ima::key::certificate::Certificate;
use ima_format::audit::{Kind, MissingKey, Record};
use ima_format::policy::diagnostic::{Diagnostic, Severity};
use ima_format::policy::{check, Loading};

use super::cause;
use super::console::{Console, Message};
use crate::error::{hinted, Context, Result};
use crate::output::{count, Level, Output, Style};
use crate::Outcome;
use ima::input::{self, Line, LINE_MAX};

/// A denial, regardless of who met it and how often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    operation: String,
    cause: String,
    /// The file, or the policy rule.
    name: Option<String>,
    device: Option<String>,
    command: Option<String>,
    uid: Option<i64>,
    /// The user's name, if the log has it instead of the number.
    user: Option<String>,
    errno: Option<i64>,
    is_rule: bool,
}

impl Refusal {
    /// The denial that a record reports; `None` for other records.
    fn of(record: &Record<'_>) -> Option<Self> {
        let text = |field: &str| {
            record.field(field).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        // not a denial: the list already has the entry; reported only with integrity_audit=1
        let is_known = record.kind == Kind::Pcr && record.field("cause") == Some(b"hash_exists");
        if is_known || !record.is_failure() {
            return None;
        }
        if let Some(rule) = record.rule() {
            return Some(Self {
                // as in the record that follows
                operation: "update_policy".into(),
                cause: "invalid-policy".into(),
                name: Some(String::from_utf8_lossy(&rule).into_owned()),
                device: None,
                command: None,
                uid: None,
                user: None,
                errno: None,
                is_rule: true,
            });
        }
        let uid = record.number("uid");
        Some(Self {
            operation: text("op").unwrap_or_default(),
            cause: text("cause").unwrap_or_default(),
            name: text("name"),
            device: text("dev"),
            command: text("comm"),
            uid,
            user: text("uid").filter(|_| uid.is_none()),
            errno: record.number("errno"),
            is_rule: false,
        })
    }

    /// The meaning, and how to fix it; `None` if the cause is unknown.
    fn meaning(&self) -> Option<(Cow<'static, str>, Cow<'static, str>)> {
        match &self.name {
            Some(rule) if self.is_rule => Some(of_rule(rule)),
            _ => {
                let meaning = cause::of(&self.operation, &self.cause)?;
                Some((meaning.why.into(), meaning.fix.into()))
            }
        }
    }
}

/// Why the kernel rejects a rule, according to imactl's parser.
fn of_rule(rule: &str) -> (Cow<'static, str>, Cow<'static, str>) {
    let kernel = crate::cmd::policy::running();
    let found = check(format!("{rule}\n").as_bytes(), &kernel, Loading::File);
    let version = kernel.version;
    match found.into_iter().find(|found| found.severity == Severity::Error) {
        Some(Diagnostic { message, hint, .. }) => {
            let fix = hint
                .map_or("correct it; imactl policy check FILE shows all errors".into(), Cow::from);
            (message.into(), fix)
        }
        None => (
            format!(
                "nothing is wrong with it for Linux {version} as imactl knows it: the kernel is \
                 another one, or lacks what the rule names (a hash algorithm, a label of a \
                 security module, a template)"
            )
            .into(),
            "imactl policy check --kernel VERSION FILE, with the version of the kernel that \
             refused it"
                .into(),
        ),
    }
}

/// Explains one line; an error if it is not a record.
pub(super) fn explain_line(
    line: &[u8],
    known: &[Certificate],
    output: &mut Output,
) -> Result<Outcome> {
    if let Some(missing) = MissingKey::parse(line) {
        tell_missing(missing, 1, known, output)?;
        return Ok(Outcome::Finding);
    }
    if let Some((found, message)) = Console::parse(line) {
        tell_console(&found, message, 1, output)?;
        return Ok(Outcome::Finding);
    }
    let record = Record::parse(line)
        .with_context(|| format!("--audit: malformed record: {}", String::from_utf8_lossy(line)))?;
    let Some(record) = record else {
        return Err(hinted(
            "--audit: no record of the integrity subsystem",
            "they have type=1800 to 1808, or INTEGRITY_DATA and its kin",
        ));
    };
    match Refusal::of(&record) {
        Some(refusal) => {
            tell(&refusal, 1, output)?;
            Ok(Outcome::Finding)
        }
        None => {
            let line = format!("{}: no denial", record.kind.name());
            output.line(Level::Normal, &line)?;
            Ok(Outcome::Good)
        }
    }
}

/// Counts in a log: how often, and the number of the first line.
#[derive(Default)]
struct Found {
    refusals: BTreeMap<Refusal, (u64, u64)>,
    missing: BTreeMap<MissingKey, (u64, u64)>,
    console: BTreeMap<Console, (u64, u64, &'static Message)>,
    records: u64,
    malformed: u64,
}

impl Found {
    fn take(&mut self, line: &[u8], number: u64) -> Result<(), ima_format::Error> {
        if let Some(missing) = MissingKey::parse(line) {
            self.missing.entry(missing).or_insert((number, 0)).1 += 1;
            return Ok(());
        }
        if let Some((found, message)) = Console::parse(line) {
            self.console.entry(found).or_insert((number, 0, message)).1 += 1;
            return Ok(());
        }
        if let Some(record) = Record::parse(line)? {
            self.records += 1;
            if let Some(refusal) = Refusal::of(&record) {
                self.refusals.entry(refusal).or_insert((number, 0)).1 += 1;
            }
        }
        Ok(())
    }
}

/// Explains each denial in a log once, in order of first appearance.
pub(super) fn explain_log(
    path: &Path,
    known: &[Certificate],
    output: &mut Output,
) -> Result<Outcome> {
    let name = path.display().to_string();
    let mut reader: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(input::open(path).with_context(|| name.clone())?)),
    };
    let mut found = Found::default();
    let mut line = Vec::new();
    for number in 1.. {
        let read = input::read_line(&mut reader, &mut line, LINE_MAX);
        let taken = match read.with_context(|| name.clone())? {
            Line::Read => found.take(&line, number).map_err(|error| error.to_string()),
            Line::TooLong => Err(format!("longer than {LINE_MAX} bytes")),
            Line::None => break,
        };
        if let Err(error) = taken {
            found.malformed += 1;
            let error = format!("malformed record: {error}");
            output.complain(Style::Bad, "error:", &format!("{name}:{number}: {error}"));
            output
                .object("error")
                .field("path", &name)
                .field("line", number)
                .field("error", error)
                .end()?;
        }
    }
    sum_up(&found, known, output)
}

fn sum_up(found: &Found, known: &[Certificate], output: &mut Output) -> Result<Outcome> {
    let mut refusals: Vec<_> = found.refusals.iter().collect();
    refusals.sort_by_key(|(_, (first, _))| *first);
    for (refusal, (_, times)) in &refusals {
        tell(refusal, *times, output)?;
    }
    let mut missing: Vec<_> = found.missing.iter().collect();
    missing.sort_by_key(|(_, (first, _))| *first);
    for (key, (_, times)) in &missing {
        tell_missing(**key, *times, known, output)?;
    }
    let mut console: Vec<_> = found.console.iter().collect();
    console.sort_by_key(|(_, (first, ..))| *first);
    for (found, (_, times, message)) in &console {
        tell_console(found, message, *times, output)?;
    }
    let refused = refusals.iter().map(|(_, (_, times))| times).sum();
    let mut line = format!("{}, {}", count(found.records, "record"), count(refused, "denial"));
    if !missing.is_empty() {
        line += &format!(", {}", count(missing.len() as u64, "missing key"));
    }
    if !console.is_empty() {
        line += &format!(", {}", count(console.len() as u64, "kernel message"));
    }
    output.line(Level::Normal, &line)?;
    let is_good = refusals.is_empty() && missing.is_empty() && console.is_empty();
    Ok(match (found.malformed, is_good) {
        (1.., _) => Outcome::Failed,
        (0, false) => Outcome::Finding,
        (0, true) => Outcome::Good,
    })
}

fn tell(refusal: &Refusal, times: u64, output: &mut Output) -> io::Result<()> {
    let meaning = refusal.meaning();
    output
        .object("denial")
        .field("operation", &refusal.operation)
        .field("cause", &refusal.cause)
        .field("name", &refusal.name)
        .field("device", &refusal.device)
        .field("command", &refusal.command)
        .field("uid", refusal.uid)
        .optional("user", refusal.user.as_ref())
        .field("errno", refusal.errno)
        .field("times", times)
        .field("why", meaning.as_ref().map(|(why, _)| why))
        .field("fix", meaning.as_ref().map(|(_, fix)| fix))
        .end()?;
    let what = refusal.name.as_deref().unwrap_or(&refusal.operation);
    let mut line = format!(
        "{}: {}",
        output.paint(Style::Bold, what),
        output.paint(Style::Bad, &refusal.cause)
    );
    line += &format!(" ({}", refusal.operation);
    if let Some(command) = &refusal.command {
        line += &format!(", asked for by {command:?}");
    }
    if let Some(uid) = refusal.uid {
        line += &format!(" of user {uid}");
    }
    if let Some(user) = &refusal.user {
        line += &format!(" of user {user}");
    }
    if let Some(device) = &refusal.device {
        line += &format!(", on {device}");
    }
    line.push(')');
    line += &times_of(times);
    output.line(Level::Quiet, &line)?;
    let (why, fix) = meaning.unwrap_or((
        "a cause that imactl does not know".into(),
        "look it up in security/integrity of the kernel's source".into(),
    ));
    reasons(&why, &fix, output)
}

/// Reports a key that the kernel did not find, and the available certificate with that key.
fn tell_missing(
    missing: MissingKey,
    times: u64,
    known: &[Certificate],
    output: &mut Output,
) -> io::Result<()> {
    let MissingKey { key_id, blacklisted } = missing;
    let certificate = known.iter().find(|certificate| certificate.key_id() == key_id);
    let subject = certificate.map(|certificate| certificate.subject().to_string());
    let (why, fix) = match (blacklisted, &subject) {
        (true, _) => (
            "a file is signed by a key that is in .ima_blacklist".to_owned(),
            "sign the file with another key: imactl sign --keys DIR FILE",
        ),
        (false, Some(subject)) => (
            format!(
                "a file is signed by this key ({subject}), which the kernel's keyring did not \
            hold"
            ),
            "imactl keys load CERT, or put it into /etc/keys as x509_ima_NAME.der for the next \
             boot",
        ),
        (false, None) => (
            "a file is signed by this key, which the kernel's keyring did not hold".to_owned(),
            "find the certificate (--cert CERT shows its subject here) and load it: imactl keys \
             load CERT; or sign the file again",
        ),
    };
    output
        .object("missing-key")
        .field("key_id", key_id.to_string())
        .field("blacklisted", blacklisted)
        .field("times", times)
        .field("certificate", subject.as_deref())
        .field("why", &why)
        .field("fix", fix)
        .end()?;
    let word = if blacklisted { "blacklisted" } else { "not found" };
    let key = output.paint(Style::Bold, &format!("key {key_id}"));
    let line = format!("{key}: {}{}", output.paint(Style::Bad, word), times_of(times));
    output.line(Level::Quiet, &line)?;
    reasons(&why, fix, output)
}

/// Reports a message without a record.
fn tell_console(
    found: &Console,
    message: &Message,
    times: u64,
    output: &mut Output,
) -> io::Result<()> {
    let Message { why, fix, .. } = message;
    output.json(&serde_json::json!({
        "type": "message", "message": found.text(), "times": times, "why": why, "fix": fix
    }))?;
    let text = output.paint(Style::Bad, found.text());
    output.line(Level::Quiet, format_args!("{text}{}", times_of(times)))?;
    reasons(why, fix, output)
}

fn times_of(times: u64) -> String {
    if times > 1 {
        format!(", {times} times")
    } else {
        String::new()
    }
}

fn reasons(why: &str, fix: &str, output: &mut Output) -> io::Result<()> {
    output.line(Level::Quiet, format_args!("  why   {why}"))?;
    output.line(Level::Quiet, format_args!("  fix   {fix}"))
}
