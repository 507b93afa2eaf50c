//! A summary for people, with the next step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ima::preflight::{
    Answer, Attempt, AttemptEnd, CacheFault, CertificateFault, FileReport, Immutable, Obstacle,
    Owners, Problem, Refusal, Report, Unknown, Use, Why,
};
use ima_format::policy::ast::Func;
use ima_format::spelled;

use super::Told;
use crate::output::{count, Level, Output, Style};

spelled! {
    /// The result for a file.
    Fate {
        /// It can be used.
        Allowed = "allowed",
        /// The kernel denies it.
        Denied = "denied",
        /// The kernel denies something that it needs.
        Blocked = "blocked",
        /// Something that it needs is not there.
        Incomplete = "incomplete",
        /// It cannot be predicted.
        Unknown = "unknown",
    }
}

impl Fate {
    pub(crate) fn of(file: &FileReport) -> Self {
        let fault = file.policy_fault.is_some()
            || file.certificate_fault.is_some()
            || file.is_rejected_module();
        if file.answer.is_denied() || fault {
            return Self::Denied;
        }
        match (&file.obstacle, &file.answer) {
            (Some(obstacle), _) if obstacle.is_refusal() => Self::Blocked,
            (Some(obstacle), _) if obstacle.is_doubtful() => Self::Unknown,
            (Some(_), _) => Self::Incomplete,
            (None, Answer::Unknown(_)) => Self::Unknown,
            _ => Self::Allowed,
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Allowed => Style::Good,
            Self::Denied | Self::Blocked => Style::Bad,
            Self::Incomplete | Self::Unknown => Style::Warning,
        }
    }
}

/// The most groups, directories and names that are shown without `--details`.
const SHOWN: usize = 5;
const NAMES: usize = 3;

pub(super) fn tell(
    told: &Told<'_>,
    root: &Path,
    details: bool,
    output: &mut Output,
) -> io::Result<()> {
    let report = told.report;
    let head = format!(
        "{}: {} checked in {:.2} s, for Linux {}",
        root.display(),
        count(report.regular, "file"),
        told.seconds,
        told.options.kernel.version
    );
    output.line(Level::Normal, &head)?;
    table(told, output)?;
    if details {
        for file in &report.files {
            let fate = Fate::of(file);
            let level = if fate == Fate::Allowed { Level::Normal } else { Level::Quiet };
            let word = output.paint(fate.style(), &format!("{fate:<10}"));
            let line = format!("{word} {} {}", file.path.display(), dim(&why(file, told), output));
            output.line(level, line.trim_end())?;
        }
    } else {
        groups(told, output)?;
    }
    if let Some(fault) = &report.cache {
        let line = format!("\n{CACHE}: {}", cache_fault(fault));
        output.line(Level::Normal, output.paint(Style::Warning, &line))?;
    }
    for found in &report.immutable {
        let line = format!("\n{}: {}", found.path.display(), immutable(found));
        output.line(Level::Normal, output.paint(Style::Warning, &line))?;
    }
    init(told, details, output)?;
    not_known(told, output)
}

fn dim(text: &str, output: &Output) -> String {
    match text {
        "" => String::new(),
        text => output.paint(Style::Dim, &format!("({text})")),
    }
}

/// A table: the number of files by purpose and result.
fn table(told: &Told<'_>, output: &mut Output) -> io::Result<()> {
    for &purpose in Use::ALL {
        let files: Vec<_> =
            told.report.files.iter().filter(|file| file.purpose == purpose).collect();
        if files.is_empty() {
            continue;
        }
        let mut line = format!("  {:<13}{:>9}", noun(purpose), number(files.len()));
        for &fate in Fate::ALL {
            let files = files.iter().filter(|file| Fate::of(file) == fate);
            match files.count() {
                0 => {}
                some => {
                    line +=
                        &format!("   {} {}", number(some), output.paint(fate.style(), fate.name()));
                }
            }
        }
        let unchecked = Answer::Allowed { appraised: false };
        match files.iter().filter(|file| file.answer == unchecked).count() {
            0 => {}
            some if some == files.len() => line += "   (no rule appraises them)",
            some => line += &format!("   ({} that no rule appraises)", number(some)),
        }
        output.line(Level::Normal, &line)?;
    }
    let unsigned = |file: &&FileReport| {
        file.module_signature.as_ref().is_some_and(|verdict| !verdict.is_valid())
    };
    let modules = told.report.files.iter().filter(unsigned).count() as u64;
    if modules > 0 {
        let modules = count(modules, "module");
        let line = format!("  {modules} without a signature for module.sig_enforce (--details)");
        output.line(Level::Normal, output.paint(Style::Warning, &line))?;
    }
    let to_users = |file: &&FileReport| {
        file.as_user.as_ref().is_some_and(Answer::is_denied) && !file.answer.is_denied()
    };
    let refused = told.report.files.iter().filter(to_users).count() as u64;
    if refused > 0 {
        let line = format!("  {} denied to ordinary users alone", count(refused, "file"));
        output.line(Level::Quiet, output.paint(Style::Bad, &line))?;
    }
    Ok(())
}

pub(crate) const fn noun(purpose: Use) -> &'static str {
    match purpose {
        Use::Program => "programs",
        Use::Script => "scripts",
        Use::Library => "libraries",
        Use::Module => "modules",
        Use::Firmware => "firmware",
        Use::Policy => "policies",
        Use::Certificate => "certificates",
        Use::Data => "other files",
    }
}

fn number(number: usize) -> String {
    let count = count(number as u64, "");
    count.split(' ').next().unwrap_or_default().to_owned()
}

/// Prints files that are not allowed, by reason, then by directory or by the file that they need.
fn groups(told: &Told<'_>, output: &mut Output) -> io::Result<()> {
    let mut groups: BTreeMap<(usize, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for file in &told.report.files {
        let fate = Fate::of(file);
        let name = || file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = || file.path.parent().unwrap_or(Path::new("/")).display().to_string();
        let path = || file.path.display().to_string();
        let (reason, place, member) = match (fate, &file.obstacle, &file.answer) {
            (Fate::Denied, _, Answer::Denied(refusal)) => {
                (format!("denied: {}", cause(refusal)), parent(), name())
            }
            (Fate::Denied, ..) if file.certificate_fault.is_some() => {
                ("rejected: no keyring accepts it".to_owned(), path(), why(file, told))
            }
            (Fate::Denied, ..) if file.is_rejected_module() => (
                "rejected: a module without a good signature of its own".to_owned(),
                parent(),
                name(),
            ),
            (Fate::Denied, ..) => {
                ("rejected: the kernel cannot read it".to_owned(), path(), why(file, told))
            }
            (Fate::Blocked, Some(obstacle), _) => {
                ("blocked: a file that it needs is denied".to_owned(), needs(obstacle), path())
            }
            (Fate::Incomplete, Some(Obstacle { why: Why::TooDeep, .. }), _) => (
                "incomplete: scripts that interpret scripts, deeper than the kernel goes (ELOOP)"
                    .to_owned(),
                parent(),
                name(),
            ),
            (Fate::Unknown, Some(obstacle), _) => (
                "unknown: depends on the CPU (--cpu selects one)".to_owned(),
                needs(obstacle),
                path(),
            ),
            (Fate::Incomplete, Some(obstacle), _) => {
                let what = obstacle.what.display().to_string();
                let reason = match obstacle.why {
                    Why::NeedsLevel(_) => "incomplete: it needs another CPU",
                    _ => "incomplete: a file that it needs is not there",
                };
                (reason.to_owned(), what, path())
            }
            (Fate::Unknown, _, Answer::Unknown(unknown)) => {
                (format!("unknown: {}", unknown_reason(*unknown)), parent(), name())
            }
            _ => continue,
        };
        let group = groups.entry((fate as usize, reason)).or_default();
        group.entry(place).or_default().push(member);
    }
    for ((fate, reason), places) in groups {
        let (level, style) = match Fate::ALL.get(fate) {
            Some(Fate::Denied | Fate::Blocked) => (Level::Quiet, Style::Bad),
            _ => (Level::Normal, Style::Warning),
        };
        let total: usize = places.values().map(Vec::len).sum();
        let head = output.paint(style, &reason);
        output.line(level, "")?;
        output.line(level, format_args!("{head} ({})", number(total)))?;
        let mut places: Vec<_> = places.into_iter().collect();
        // the largest first, then by name
        places.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
        let width = places.iter().take(SHOWN).map(|(place, _)| place.len()).max().unwrap_or(0);
        for (place, members) in places.iter().take(SHOWN) {
            let names: Vec<_> = members.iter().take(NAMES).map(String::as_str).collect();
            let more = if members.len() > NAMES { ", ..." } else { "" };
            let some = number(members.len());
            output.line(
                level,
                format_args!("  {place:<width$} {some:>7}  {}{more}", names.join(", ")),
            )?;
        }
        if places.len() > SHOWN {
            let line = format!("  and {} more places; --details names all", places.len() - SHOWN);
            output.line(level, &line)?;
        }
    }
    Ok(())
}

/// The kernel's cause, and the key or the missing audit record that distinguishes it.
fn cause(refusal: &Refusal) -> String {
    match (refusal.unknown_key, refusal.cause.operation()) {
        (Some(key), _) => format!("{}: unknown key {key}", refusal.cause),
        (None, None) => format!("{}, without an audit record", refusal.cause),
        (None, Some(_)) => refusal.cause.to_string(),
    }
}

fn needs(obstacle: &Obstacle) -> String {
    let what = obstacle.what.display();
    let on = cpus(obstacle);
    match &obstacle.why {
        Why::Denied(refusal) => format!("{what} ({}{on})", cause(refusal)),
        Why::Missing => format!("{what} (not found{on})"),
        Why::NeedsLevel(level) => format!("{what} (needs x86-64-v{level}, rejected by ld.so{on})"),
        Why::TooDeep => format!("{what} (too many nested interpreters: ELOOP)"),
    }
}

/// The CPUs on which the file is missing or denied; empty if on all of them.
fn cpus(obstacle: &Obstacle) -> String {
    match obstacle.on.as_slice() {
        [] => String::new(),
        [cpu] => format!(" on CPU {cpu}"),
        cpus => format!(" on CPUs {}", cpus.join(", ")),
    }
}

/// The cache in which the loader looks up libraries.
pub(super) const CACHE: &str = "/etc/ld.so.cache";

/// Why a file should have no portable EVM signature.
pub(super) fn immutable(found: &Immutable) -> String {
    let by = found.by;
    format!(
        "changed by {by}, but its EVM signature makes it immutable; sign without it (--exclude)"
    )
}

/// The fault of the loader's cache, and its consequence.
pub(super) fn cache_fault(fault: &CacheFault) -> String {
    let some = |paths: &[PathBuf]| {
        let named: Vec<_> =
            paths.iter().take(NAMES).map(|path| path.display().to_string()).collect();
        named.join(", ") + if paths.len() > NAMES { ", ..." } else { "" }
    };
    match fault {
        CacheFault::Absent { directories } => format!(
            "not there, and the loader reads no /etc/ld.so.conf: it does not look into {}; \
             ldconfig -r ROOT makes it",
            some(directories)
        ),
        CacheFault::Malformed(error) => {
            format!("{error}: the loader ignores it; ldconfig -r ROOT writes it again")
        }
        CacheFault::Stale { gone, lacking } => {
            let mut parts = Vec::new();
            if !gone.is_empty() {
                let files = count(gone.len() as u64, "file");
                parts.push(format!("names {files} that are not there ({})", some(gone)));
            }
            if !lacking.is_empty() {
                let libraries = lacking.len() as u64;
                let named = some(lacking);
                parts.push(match libraries {
                    1 => format!("lacks a library of /etc/ld.so.conf ({named})"),
                    _ => format!("lacks {} libraries of /etc/ld.so.conf ({named})", libraries),
                });
            }
            format!("out of date: it {}; ldconfig -r ROOT writes it again", parts.join(", and "))
        }
    }
}

pub(super) fn certificate_fault(fault: &CertificateFault) -> String {
    let CertificateFault { keyring, refusal } = fault;
    match keyring {
        Some(keyring) => format!("{keyring} rejects it: {refusal}"),
        None => refusal.to_string(),
    }
}

/// The reason in one line; empty if there is nothing to report.
pub(crate) fn why(file: &FileReport, told: &Told<'_>) -> String {
    let rule = |refusal: &Refusal| {
        let place = refusal.rule.map(|rule| told.loaded.place(rule));
        place.map_or_else(String::new, |place| format!(", {place}"))
    };
    if let Some((line, message)) = &file.policy_fault {
        return format!("line {line}: {message}");
    }
    let unsigned = file.module_signature.as_ref().filter(|verdict| !verdict.is_valid());
    if let (Some(verdict), false) = (unsigned, file.answer.is_denied()) {
        return format!("module.sig_enforce: {verdict}");
    }
    if let (Some(fault), false) = (&file.certificate_fault, file.answer.is_denied()) {
        return certificate_fault(fault);
    }
    match (&file.answer, &file.obstacle) {
        (Answer::Denied(refusal), _) => {
            format!("{} at {}{}", cause(refusal), refusal.func, rule(refusal))
        }
        (_, Some(obstacle)) => {
            let by = match obstacle.needed_by == file.path {
                true => String::new(),
                false => format!(", needed by {}", obstacle.needed_by.display()),
            };
            format!("needs {}{by}", needs(obstacle))
        }
        (Answer::Unknown(unknown), None) => unknown_reason(*unknown).to_owned(),
        (Answer::Allowed { appraised: false }, None) => "no rule matches".to_owned(),
        (Answer::Allowed { appraised: true }, None) => String::new(),
    }
}

pub(super) const fn unknown_reason(unknown: Unknown) -> &'static str {
    match unknown {
        Unknown::Verity => "allowed if fs-verity is enabled on it",
        Unknown::Labels => "it depends on labels of a security module",
    }
}

/// Prints whether the machine reaches its init, and which programs that starts.
fn init(told: &Told<'_>, details: bool, output: &mut Output) -> io::Result<()> {
    let report = told.report;
    output.line(Level::Normal, "")?;
    if report.is_update {
        let line =
            "update: its programs run on another root, where the files that they need are not checked";
        return output.line(Level::Normal, line);
    }
    if report.init.is_empty() {
        return output.line(Level::Normal, "init: none is wanted (--no-init)");
    }
    if report.init.iter().all(|attempt| attempt.end == AttemptEnd::Absent) {
        let line = format!(
            "the machine will not reach init because {}; --no-init, if no machine starts from it",
            unreached(report)
        );
        return output.line(Level::Quiet, output.paint(Style::Bad, &line));
    }
    for attempt in report.init.iter().filter(|attempt| attempt.end != AttemptEnd::Absent) {
        let file = attempt.file.as_ref();
        let file = file.map_or_else(String::new, |file| format!(" -> {}", file.display()));
        let runs = attempt.end == AttemptEnd::Runs;
        let (level, style) =
            if runs { (Level::Normal, Style::Good) } else { (Level::Quiet, Style::Bad) };
        let line = format!("init: {}{file}: {}", attempt.path.display(), attempted(attempt));
        output.line(level, output.paint(style, &line))?;
    }
    if report.reaches_init() == Some(false) {
        let line = format!("the machine will not reach init because {}", unreached(report));
        return output.line(Level::Quiet, output.paint(Style::Bad, &line));
    }
    let good = report.steps.iter().filter(|step| step.problem.is_none()).count() as u64;
    if good > 0 {
        let line = format!("  {} that it starts will run", count(good, "program"));
        output.line(Level::Normal, &line)?;
    }
    for step in &report.steps {
        let (level, problem) = match &step.problem {
            None if details => (Level::Normal, "will run".to_owned()),
            None => continue,
            Some(Problem::Missing) => (Level::Normal, "is not there".to_owned()),
            Some(Problem::Denied(refusal)) => {
                (Level::Quiet, format!("is denied: {}", cause(refusal)))
            }
            Some(Problem::Needs(obstacle)) => {
                let level = if obstacle.is_refusal() { Level::Quiet } else { Level::Normal };
                (level, format!("needs {}", needs(obstacle)))
            }
        };
        let line = format!("  {}: {} {problem}", step.asked_by, step.program.display());
        output.line(level, &line)?;
    }
    Ok(())
}

/// Why the machine does not reach its init.
pub(crate) fn unreached(report: &Report) -> String {
    match report.init.iter().find(|attempt| attempt.end != AttemptEnd::Absent) {
        Some(attempt) => because_of(attempt),
        None => {
            let tried = report.init.iter().map(|attempt| attempt.path.display().to_string());
            format!("none of {} is in the root", tried.collect::<Vec<_>>().join(", "))
        }
    }
}

fn attempted(attempt: &Attempt) -> String {
    match &attempt.end {
        AttemptEnd::Runs => "will run".to_owned(),
        AttemptEnd::Absent => "not there".to_owned(),
        AttemptEnd::NoProgram => "is no program".to_owned(),
        AttemptEnd::Denied(refusal) => {
            format!("is denied ({}); the kernel tries the next", cause(refusal))
        }
        AttemptEnd::Fails(obstacle) => {
            format!("needs {}; the kernel tries the next", needs(obstacle))
        }
        AttemptEnd::Dies(obstacle) => {
            format!("needs {}, which would be denied; the kernel panics", needs(obstacle))
        }
    }
}

fn because_of(attempt: &Attempt) -> String {
    let path = attempt.file.as_ref().unwrap_or(&attempt.path).display();
    match &attempt.end {
        AttemptEnd::Runs | AttemptEnd::Absent => String::new(),
        AttemptEnd::NoProgram => format!("{path} is no program"),
        AttemptEnd::Denied(refusal) => format!("{path} is denied: {}", cause(refusal)),
        AttemptEnd::Fails(obstacle) | AttemptEnd::Dies(obstacle) => {
            let what = obstacle.what.display();
            let by = match obstacle.what == obstacle.needed_by {
                true => String::new(),
                false => format!(", which {} needs,", obstacle.needed_by.display()),
            };
            match &obstacle.why {
                Why::Denied(refusal) => {
                    let on = cpus(obstacle);
                    format!("{what}{by} is denied{on}: {}", cause(refusal))
                }
                Why::Missing => format!("{what}{by} was not found{}", cpus(obstacle)),
                Why::NeedsLevel(level) => {
                    format!("{what}{by} needs x86-64-v{level}: ld.so rejects it{}", cpus(obstacle))
                }
                Why::TooDeep => {
                    format!(
                        "scripts interpret scripts, up to {what}: too many levels for the kernel"
                    )
                }
            }
        }
    }
}

/// Prints the assumptions, and properties that cannot be known before the boot.
fn not_known(told: &Told<'_>, output: &mut Output) -> io::Result<()> {
    let Told { report, options, .. } = told;
    let mut lines = Vec::new();
    let systems: Vec<_> = options
        .mounts
        .iter()
        .map(|mount| format!("{} on {}", mount.path.display(), mount.name))
        .collect();
    lines.push(format!(
        "assumed: {}, files owned as {}, ima_appraise=enforce, {}",
        systems.join(", "),
        match options.owners {
            Owners::Kept => "they are here",
            Owners::Root => "by root",
        },
        match options.evm {
            Some(_) => "EVM enabled",
            None => "EVM not enabled (--evm)",
        }
    ));
    if options.policy.rules().any(|rule| !rule.labels.is_empty()) {
        lines.push("unknown: labels of security modules, which rules ask for".to_owned());
    }
    let modules_appraised = options
        .policy
        .rules()
        .any(|rule| rule.func == Some(Func::ModuleCheck) && rule.action.does());
    if report.compressed_modules > 0 && modules_appraised {
        lines.push(format!(
            "unknown: {} appraised as stored if the kernel decompresses them \
             (CONFIG_MODULE_DECOMPRESS, kmod 30); if modprobe does, they are loaded without a file and denied, unless the kernel enforces module signatures",
            count(report.compressed_modules, "compressed module"),
        ));
    }
    lines.push(
        "unknown: files mounted or written later, files that programs open, load with dlopen or \
         execute, libraries by LD_LIBRARY_PATH or LD_PRELOAD, programs of the initramfs"
            .to_owned(),
    );
    output.line(Level::Normal, "")?;
    lines.iter().try_for_each(|line| output.line(Level::Normal, output.paint(Style::Dim, line)))
}
