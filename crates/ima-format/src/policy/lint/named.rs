//! Lints that try the values that the rules name: file systems, owners, groups, users.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::catalog;
use super::{Finding, Subject};
use crate::policy::ast::{Action, Comparison, Func, IdTest, Rule};
use crate::policy::decide::{
    matches, AccessSet, Choice, Credentials, Event, FileFacts, Kind, Labels, Match,
};
use crate::policy::filesystem::{self, Purpose};

pub(super) fn find(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    for (number, (_, rule)) in subject.rules.iter().enumerate() {
        if rule.action == Action::DontAppraise {
            findings.extend(Exclusion { subject, number, rule }.finding());
        }
    }
    findings.extend(user_files(subject));
    findings.extend(user_programs(subject));
}

/// An id for which a condition is true, other than root's; `None` if there is no such id.
fn other_than_root(test: Option<IdTest>) -> Option<u32> {
    let Some(IdTest { comparison, id }) = test else { return Some(USER) };
    let found = match comparison {
        Comparison::Equal => id,
        Comparison::Less => USER.min(id.checked_sub(1)?),
        Comparison::Greater => USER.max(id.checked_add(1)?),
    };
    (found != 0).then_some(found)
}

/// An ordinary user, for rules that do not name one.
const USER: u32 = 1000;

/// A rule that excludes files from appraisal.
struct Exclusion<'a> {
    subject: &'a Subject<'a>,
    number: usize,
    rule: &'a Rule,
}

/// The hooks that an exclusion can open, and the files that they read.
const OPENED: &[(Func, &str)] = &[
    (Func::BprmCheck, "programs"),
    (Func::MmapCheck, "libraries"),
    (Func::ModuleCheck, "kernel modules"),
    (Func::FirmwareCheck, "firmware"),
    (Func::PolicyCheck, "IMA policies"),
    (Func::KexecKernelCheck, "kernels for kexec"),
    (Func::KexecInitramfsCheck, "kernels for kexec"),
];

impl Exclusion<'_> {
    fn finding(&self) -> Option<Finding> {
        let mut places: Vec<String> = Vec::new();
        let mut opened: Vec<&str> = Vec::new();
        for (func, files) in OPENED {
            for (position, file) in self.files() {
                if !self.opens(*func, file) {
                    continue;
                }
                if !places.contains(&position) {
                    places.push(position);
                }
                if !opened.contains(files) {
                    opened.push(files);
                }
            }
        }
        if places.is_empty() {
            return None;
        }
        let (opened, places) = (opened.join(", "), places.join(", "));
        let message = format!("unsigned {opened} are accepted {places}");
        let (lint, hint) = match self.is_unclear() {
            true => (
                &catalog::UNCLEAR_EXCLUSION,
                "see that users cannot write there, or limit it to func=FILE_CHECK",
            ),
            false => {
                (&catalog::WRITABLE_NOT_APPRAISED, "limit it to func=FILE_CHECK, or leave it out")
            }
        };
        Some(Finding::on_rule(lint, self.number, message).hint(hint))
    }

    /// Whether the policy does not show who can write there.
    fn is_unclear(&self) -> bool {
        let rule = self.rule;
        let told = rule.fsmagic.is_some() || rule.fsname.is_some() || rule.fowner.is_some();
        !told && (rule.fsuuid.is_some() || !rule.labels.is_empty())
    }

    /// Files that the rule matches, on file systems that can be written.
    fn files(&self) -> Vec<(String, FileFacts)> {
        let rule = self.rule;
        let mut owned = String::new();
        let mut file = FileFacts::on_ext4();
        for (test, id, what) in
            [(rule.fowner, &mut file.owner, "user"), (rule.fgroup, &mut file.group, "group")]
        {
            let (Some(_), Some(found)) = (test, other_than_root(test)) else { continue };
            *id = found;
            owned += &format!(" of {what} {found}");
        }
        if let Some(uuid) = rule.fsuuid {
            file.fsuuid = uuid;
            owned += &format!(" on the file system {uuid}");
        }
        if !rule.labels.is_empty() {
            owned += " with these labels";
        }
        let on = |name: &str, magic: u64| {
            let fsname = name.as_bytes().to_vec();
            let fs_subtype = rule.fs_subtype.as_ref().map(|name| name.as_bytes().to_vec());
            let file = FileFacts { fsmagic: magic, fsname, fs_subtype, ..file.clone() };
            (format!("on {name}{owned}"), file)
        };
        let name = rule.fsname.as_ref().map(|name| name.as_bytes());
        if rule.fsmagic.is_none() && name.is_none() {
            return match owned.trim_start() {
                "" => Vec::new(),
                owned => [(owned.to_string(), file)].into(),
            };
        }
        let of_rule = |system: &&filesystem::FileSystem| {
            rule.fsmagic.map_or(true, |magic| magic == system.magic)
                && name.map_or(true, |name| name == system.name.as_bytes())
        };
        let known: Vec<_> = filesystem::FILE_SYSTEMS.iter().filter(of_rule).collect();
        if known.is_empty() {
            let name = rule.fsname.as_ref().map(|name| name.to_text());
            let magic = rule.fsmagic.unwrap_or_default();
            return [on(&name.unwrap_or_else(|| format!("{magic:#x}")), magic)].into();
        }
        let is_written = |system: &&&filesystem::FileSystem| {
            system.purpose != Purpose::Pseudo && !filesystem::is_read_only(system.name)
        };
        known.iter().filter(is_written).map(|system| on(system.name, system.magic)).collect()
    }

    /// Whether this rule excludes such a file from appraisal when root uses it.
    fn opens(&self, func: Func, file: FileFacts) -> bool {
        let event = Event::on_file(func, func.access(), Credentials::ROOT, file);
        let event = match self.rule.labels.is_empty() {
            true => event,
            false => Event { labels: Labels::Known(self.rule.labels.clone()), ..event },
        };
        let decides = self.subject.decider.decide(&event).appraise == Choice::Dont(self.number);
        let later = self.subject.rules.get(self.number + 1..).unwrap_or_default();
        let appraised =
            |rule: &Rule| rule.action == Action::Appraise && matches(rule, &event) != Match::No;
        decides && later.iter().any(|(_, rule)| appraised(rule))
    }
}

/// Owners other than root: one that the rules do not name, and those that they name.
fn owners(subject: &Subject<'_>) -> Vec<(u32, u32)> {
    let mut owners = Vec::from([(USER, USER)]);
    for (_, rule) in &subject.rules {
        let owner = match (rule.fowner, rule.user) {
            (Some(test), _) => other_than_root(Some(test)),
            (None, Some(user)) => other_than_root(Some(user.test)),
            (None, None) => Some(USER),
        };
        let group = other_than_root(rule.fgroup);
        if let (Some(owner), Some(group)) = (owner, group) {
            if !owners.contains(&(owner, group)) {
                owners.push((owner, group));
            }
        }
    }
    owners
}

/// Rules that match reads of files that root does not own: by their owners, or by root.
fn user_files(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found: Vec<(usize, Kind, bool)> = Vec::new();
    for (owner, group) in owners(subject) {
        for (reader, by_root) in
            [(Credentials::user(owner, group), false), (Credentials::ROOT, true)]
        {
            let file = FileFacts { owner, group, ..FileFacts::on_ext4() };
            let event = Event::on_file(Func::FileCheck, AccessSet::READ, reader, file);
            let decision = subject.decider.decide(&event);
            for kind in [Kind::Measure, Kind::Audit, Kind::Appraise] {
                let Choice::Do(rule) = decision.choice(kind) else { continue };
                if found.iter().all(|(other, other_kind, _)| (*other, *other_kind) != (rule, kind))
                {
                    found.push((rule, kind, by_root));
                }
            }
        }
    }
    let tell = |(rule, kind, by_root): (usize, Kind, bool)| {
        let lint = match kind {
            Kind::Measure => &catalog::USER_FILES_MEASURED,
            Kind::Appraise => &catalog::USER_FILES_APPRAISED,
            Kind::Audit | Kind::Hash => &catalog::USER_FILES_AUDITED,
        };
        let what = match by_root {
            false => "files that users own and read",
            true => "files that users own and root reads",
        };
        let message = format!("takes {what} ({})", kind.action());
        Finding::on_rule(lint, rule, message).hint("add fowner=0, or name another func")
    };
    found.into_iter().map(tell).collect()
}

/// Rules that measure programs that users own and run.
fn user_programs(subject: &Subject<'_>) -> Vec<Finding> {
    let mut rules: Vec<usize> = Vec::new();
    for (owner, group) in owners(subject) {
        let file = FileFacts { owner, group, ..FileFacts::on_ext4() };
        for func in [Func::BprmCheck, Func::MmapCheck] {
            let user = Credentials::user(owner, group);
            let event = Event::on_file(func, AccessSet::EXEC, user, file.clone());
            if let Choice::Do(rule) = subject.decider.decide(&event).measure {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    let tell = |rule| {
        let message = "takes programs and libraries that users own (measure)";
        Finding::on_rule(&catalog::USER_PROGRAMS_MEASURED, rule, message)
            .hint("add fowner=0 if only programs owned by root matter")
    };
    rules.into_iter().map(tell).collect()
}
