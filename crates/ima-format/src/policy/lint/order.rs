//! Lints about the order of rules: rules that never decide anything.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::catalog;
use super::{Finding, Subject};
use crate::policy::ast::{Comparison, Func, IdTest, Key, Mask, MaskScope, Rule, SubjectTest};
use crate::policy::decide::{matches, Event, Match};
use crate::policy::filesystem::{self, Purpose};
use crate::policy::space::Space;

pub(super) fn find(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let fates = fates(subject);
    for (number, (_, rule)) in subject.rules.iter().enumerate() {
        let fate = fates.get(number).copied().unwrap_or(Fate::Decides);
        let finding = match fate {
            Fate::Decides => {
                too_late(subject, number, rule).or_else(|| without_effect(subject, number, rule))
            }
            Fate::Matches => unreachable(subject, number, rule),
            Fate::Idle => Some(never_matches(number, rule)),
        };
        findings.extend(finding);
    }
}

/// The effect of a rule over all events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It decides some events.
    Decides,
    /// It matches some events, but earlier rules decide all of them.
    Matches,
    /// It matches no event.
    Idle,
}

fn fates(subject: &Subject<'_>) -> Vec<Fate> {
    let mut fates: Vec<Fate> = subject.rules.iter().map(|_| Fate::Idle).collect();
    let space = Space::of(&[subject.policy], subject.kernel);
    for func in space.funcs() {
        let space = Space::at(*func, &[subject.policy], subject.kernel);
        let concerned = |rule: &Rule| rule.func.map_or(true, |other| other == *func);
        let numbered = subject.rules.iter().map(|(_, rule)| *rule).enumerate();
        let rules: Vec<(usize, &Rule)> = numbered.filter(|(_, rule)| concerned(rule)).collect();
        for event in space.events(*func) {
            visit(&rules, &event, &mut fates);
            if fates.iter().all(|fate| *fate == Fate::Decides) {
                return fates;
            }
        }
        if !space.is_complete(*func) {
            spare(subject, *func, &mut fates);
        }
    }
    // SETXATTR_CHECK rules match no event: only the first of them has an effect
    let mut written = false;
    for (fate, (_, rule)) in fates.iter_mut().zip(&subject.rules) {
        if rule.func == Some(Func::SetxattrCheck) {
            *fate = if written { Fate::Matches } else { Fate::Decides };
            written = true;
        }
    }
    fates
}

/// Updates the fates for one event: the first matching rule of each kind decides it. A rule whose labels are
/// unknown may decide, and does not keep later rules from deciding.
fn visit(rules: &[(usize, &Rule)], event: &Event, fates: &mut [Fate]) {
    let mut decided = Vec::new();
    for (number, rule) in rules {
        let Some(fate) = fates.get_mut(*number) else { continue };
        let kind = rule.action.kind();
        if decided.contains(&kind) && *fate != Fate::Idle {
            continue;
        }
        match matches(rule, event) {
            Match::No => {}
            Match::IfLabels => *fate = Fate::Decides,
            Match::Yes if decided.contains(&kind) => *fate = Fate::Matches,
            Match::Yes => {
                *fate = Fate::Decides;
                decided.push(kind);
            }
        }
    }
}

/// If not every event was tried, a rule counts as deciding unless one earlier rule covers it.
fn spare(subject: &Subject<'_>, func: Func, fates: &mut [Fate]) {
    for (number, (fate, (_, rule))) in fates.iter_mut().zip(&subject.rules).enumerate() {
        let concerned = rule.func.map_or(true, |other| other == func);
        if concerned && shadow(subject, number, rule).is_none() {
            *fate = Fate::Decides;
        }
    }
}

fn unreachable(subject: &Subject<'_>, number: usize, rule: &Rule) -> Option<Finding> {
    let message = match shadow(subject, number, rule) {
        Some(line) => format!("never decides: line {line} matches all that it matches"),
        None => String::from("never decides: earlier rules together match all that it matches"),
    };
    Some(
        Finding::on_rule(&catalog::UNREACHABLE_RULE, number, message)
            .hint("move it up if it is the narrower one, or leave it out"),
    )
}

/// The line of an earlier rule that matches every event that this one matches.
fn shadow(subject: &Subject<'_>, number: usize, rule: &Rule) -> Option<usize> {
    let earlier = subject.rules.get(..number)?;
    let (position, _) = earlier.iter().find(|(_, other)| {
        let setxattr = Some(Func::SetxattrCheck);
        if rule.func == setxattr || other.func == setxattr {
            return rule.func == other.func;
        }
        other.action.kind() == rule.action.kind() && covers(other, rule)
    })?;
    Some(position.line)
}

/// Whether `wide` matches every event that `narrow` matches, as far as the conditions alone show.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    fn same<T: PartialEq>(wide: &Option<T>, narrow: &Option<T>) -> bool {
        wide.is_none() || wide == narrow
    }
    let mask = match (wide.mask, narrow.mask) {
        (None, _) => true,
        (Some(wide), Some(narrow)) if wide.scope == MaskScope::Among => {
            wide.access == narrow.access
        }
        (wide, narrow) => wide == narrow,
    };
    mask && same(&wide.func, &narrow.func)
        && same(&wide.fsmagic, &narrow.fsmagic)
        && same(&wide.fsname, &narrow.fsname)
        && same(&wide.fs_subtype, &narrow.fs_subtype)
        && same(&wide.fsuuid, &narrow.fsuuid)
        && covers_subject(wide.user, narrow.user)
        && covers_subject(wide.group, narrow.group)
        && covers_ids(wide.fowner, narrow.fowner)
        && covers_ids(wide.fgroup, narrow.fgroup)
        && (wide.labels.is_empty() || wide.labels == narrow.labels)
        && same(&wide.keyrings, &narrow.keyrings)
        && same(&wide.label, &narrow.label)
}

fn covers_subject(wide: Option<SubjectTest>, narrow: Option<SubjectTest>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => {
            wide.identity == narrow.identity && covers_ids(Some(wide.test), Some(narrow.test))
        }
        (Some(_), None) => false,
    }
}

fn covers_ids(wide: Option<IdTest>, narrow: Option<IdTest>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => match (wide.comparison, narrow.comparison) {
            (Comparison::Less, Comparison::Less) => narrow.id <= wide.id,
            (Comparison::Greater, Comparison::Greater) => narrow.id >= wide.id,
            (_, Comparison::Equal) => wide.holds(narrow.id),
            _ => false,
        },
        (Some(_), None) => false,
    }
}

fn never_matches(number: usize, rule: &Rule) -> Finding {
    let finding = match (rule.func, rule.mask) {
        (Some(func), Some(mask)) if !is_asked_with(func, mask) => {
            let message = format!("func={func} is never asked with mask={}", mask.access);
            Finding::on_key(&catalog::NEVER_MATCHES, number, Key::Mask, message)
        }
        _ => {
            let message = "no event meets all of its conditions";
            Finding::on_rule(&catalog::NEVER_MATCHES, number, message)
        }
    };
    finding.hint("leave the condition or the rule out")
}

fn is_asked_with(func: Func, mask: Mask) -> bool {
    let among = func == Func::FileCheck && mask.scope == MaskScope::Among;
    among || func.is_asked_with(mask.access)
}

/// A file system's exclusion after a rule that already matches some of its files.
fn too_late(subject: &Subject<'_>, number: usize, rule: &Rule) -> Option<Finding> {
    if rule.action.does() || (rule.fsmagic.is_none() && rule.fsname.is_none()) {
        return None;
    }
    let earlier = subject.rules.get(..number)?;
    let later = subject.rules.get(number + 1..).unwrap_or_default();
    // without a later rule of its kind, the exclusion's purpose is unknown; and files of pseudo file systems are
    // not executed
    let idle = !is_pseudo(rule)
        && later.iter().all(|(_, later)| later.action != rule.action.kind().action());
    let meets = |other: &Rule| {
        let is = |func: Option<Func>, one: Func| func.map_or(true, |func| func == one);
        let executed =
            |one| is(other.func, one) && is(rule.func, one) && (idle || rule.func == Some(one));
        (is(other.func, Func::FileCheck) && is(rule.func, Func::FileCheck))
            || [Func::BprmCheck, Func::MmapCheck].into_iter().any(executed)
    };
    let (position, taker) = earlier.iter().find(|(_, other)| {
        other.action.kind() == rule.action.kind()
            && other.action.does()
            && meets(other)
            && other.fsmagic.is_none()
            && other.fsname.is_none()
            && other.fsuuid.is_none()
            && other.labels.is_empty()
    })?;
    let name = named(rule)?;
    let whose = match taker.fowner {
        Some(IdTest { comparison: Comparison::Equal, id }) => format!(" of user {id}"),
        _ => String::new(),
    };
    let message = format!("line {} already takes files{whose} on {name}", position.line);
    Some(
        Finding::on_rule(&catalog::EXCLUSION_TOO_LATE, number, message)
            .hint(format!("move it above line {}", position.line)),
    )
}

fn is_pseudo(rule: &Rule) -> bool {
    let name = rule.fsname.as_ref().map(|name| name.as_bytes());
    filesystem::FILE_SYSTEMS.iter().any(|system| {
        system.purpose == Purpose::Pseudo
            && (name == Some(system.name.as_bytes()) || rule.fsmagic == Some(system.magic))
    })
}

/// The name of the file system that a rule is about.
fn named(rule: &Rule) -> Option<String> {
    if let Some(name) = &rule.fsname {
        return Some(name.to_text());
    }
    let known = filesystem::with_magic(rule.fsmagic?).next();
    Some(known.map_or_else(|| String::from("that file system"), |known| known.name.to_string()))
}

fn without_effect(subject: &Subject<'_>, number: usize, rule: &Rule) -> Option<Finding> {
    let later = subject.rules.get(number + 1..)?;
    let kind = rule.action.kind();
    let held_off = later.iter().any(|(_, other)| other.action == kind.action());
    if rule.action.does() || held_off {
        return None;
    }
    let message = format!("no {} rule follows", kind.action());
    Some(Finding::on_rule(&catalog::EXCLUSION_WITHOUT_EFFECT, number, message))
}
