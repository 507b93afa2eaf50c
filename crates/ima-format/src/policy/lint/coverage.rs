//! Lints about the coverage of a whole policy: holes in appraisal, floods of records.

use alloc::format;
use alloc::vec::Vec;

use super::catalog;
use super::{Finding, Lint, Subject};
use crate::policy::ast::{Action, Func};
use crate::policy::decide::{
    AccessSet, Choice, Credentials, Decision, Event, FileFacts, Kind, Labels, Operation,
};
use crate::policy::diagnostic::Severity;
use crate::policy::filesystem::{FileSystem, Purpose, FILE_SYSTEMS};
use crate::policy::kernel::{Built, Feature};

pub(super) fn find(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let coverage = Coverage { subject };
    findings.extend(coverage.holes());
    findings.extend(coverage.set_user_id());
    findings.extend(coverage.pseudo_files());
    findings.extend(coverage.without_audit());
    findings.extend(coverage.vanishing());
}

struct Coverage<'a> {
    subject: &'a Subject<'a>,
}

impl Coverage<'_> {
    fn decide(&self, event: &Event) -> Decision {
        self.subject.decider.decide(event)
    }

    /// Whether access by root to an ordinary file of root is appraised, under some labels at least.
    fn is_appraised(&self, func: Func, access: AccessSet) -> bool {
        let event = Event::on_file(func, access, Credentials::ROOT, FileFacts::on_ext4());
        let decision = self.decide(&Event { labels: Labels::Unknown, ..event });
        decision.appraise.does()
            || decision.undetermined.iter().any(|rule| {
                let rule = self.subject.rules.get(*rule);
                rule.is_some_and(|(_, rule)| rule.action == Action::Appraise)
            })
    }

    fn holes(&self) -> Vec<Finding> {
        if !self.subject.decider.active_kinds().contains(&Kind::Appraise) {
            let message = "nothing is appraised";
            return [Finding::on_policy(&catalog::NOTHING_APPRAISED, message)].into();
        }
        let modsig = match self.subject.kernel.modsig {
            Built::In => "imasig|modsig",
            Built::Out => "imasig",
        };
        let holes: [(&'static Lint, Func, AccessSet, &str, &str); 6] = [
            (
                &catalog::EXEC_NOT_APPRAISED,
                Func::BprmCheck,
                AccessSet::EXEC,
                "programs that root executes are not appraised",
                "imasig",
            ),
            (
                &catalog::MMAP_NOT_APPRAISED,
                Func::MmapCheck,
                AccessSet::EXEC,
                "shared libraries that root's programs load are not appraised",
                "imasig",
            ),
            (
                &catalog::MODULE_NOT_APPRAISED,
                Func::ModuleCheck,
                AccessSet::READ,
                "kernel modules are not appraised",
                modsig,
            ),
            (
                &catalog::FIRMWARE_NOT_APPRAISED,
                Func::FirmwareCheck,
                AccessSet::READ,
                "firmware is not appraised",
                "imasig",
            ),
            (
                &catalog::POLICY_NOT_APPRAISED,
                Func::PolicyCheck,
                AccessSet::READ,
                "policies are not appraised",
                "imasig",
            ),
            (
                &catalog::KEXEC_NOT_APPRAISED,
                Func::KexecKernelCheck,
                AccessSet::READ,
                "kernels for kexec are not appraised",
                modsig,
            ),
        ];
        let reqprot = self.subject.kernel.version.has(Feature::MmapCheckReqprot);
        let appraised = |func: Func, access| {
            let twin = func == Func::MmapCheck && reqprot;
            self.is_appraised(func, access)
                || (twin && self.is_appraised(Func::MmapCheckReqprot, access))
        };
        let open = holes.into_iter().filter(|(_, func, access, ..)| !appraised(*func, *access));
        open.map(|(lint, func, _, message, appraise_type)| {
            Finding::on_policy(lint, message)
                .hint(format!("appraise func={func} appraise_type={appraise_type}"))
        })
        .collect()
    }

    fn set_user_id(&self) -> Option<Finding> {
        let caller = Credentials::user(1000, 1000);
        let executed = caller.executing(Some(0), None);
        let events = Operation::Execute.events(self.subject.kernel.version);
        let appraised = events.iter().any(|event| {
            let credentials = event.behalf.credentials(&caller, &executed);
            let file = FileFacts::on_ext4();
            let event = Event::on_file(event.func, event.access, credentials, file);
            self.decide(&event).appraise.does()
        });
        if appraised || !self.is_appraised(Func::BprmCheck, AccessSet::EXEC) {
            return None;
        }
        let message = "set-user-ID programs that users execute are not appraised";
        Some(
            Finding::on_policy(&catalog::SET_USER_ID_NOT_APPRAISED, message)
                .hint("appraise func=MMAP_CHECK euid=0 appraise_type=imasig sees them as root"),
        )
    }

    /// Rules that measure or appraise files of pseudo file systems.
    fn pseudo_files(&self) -> Vec<Finding> {
        let mut taken: Vec<(usize, Kind, Vec<&str>)> = Vec::new();
        for system in FILE_SYSTEMS.iter().filter(|system| system.purpose == Purpose::Pseudo) {
            let decision = self.decide(&Event::on_file(
                Func::FileCheck,
                AccessSet::READ,
                Credentials::ROOT,
                facts(system),
            ));
            for kind in [Kind::Measure, Kind::Appraise] {
                let Choice::Do(rule) = decision.choice(kind) else {
                    continue;
                };
                match taken.iter_mut().find(|(other, ..)| *other == rule) {
                    Some((.., names)) => names.push(system.name),
                    None => taken.push((rule, kind, [system.name].to_vec())),
                }
            }
        }
        let tell = |(rule, kind, names): (usize, Kind, Vec<&str>)| {
            let (lint, verb) = match kind {
                Kind::Appraise => (&catalog::PSEUDO_FILES_APPRAISED, "appraises"),
                _ => (&catalog::PSEUDO_FILES_MEASURED, "measures"),
            };
            let message = format!("{verb} files on {}", names.join(", "));
            let first = FILE_SYSTEMS.iter().find(|system| names.first() == Some(&system.name));
            let magic = first.map_or(0, |system| system.magic);
            Finding::on_rule(lint, rule, message).hint(format!(
                "write dont_{} fsmagic=0x{magic:x} and so on above it",
                kind.action()
            ))
        };
        taken.into_iter().map(tell).collect()
    }

    fn without_audit(&self) -> Option<Finding> {
        let kinds = self.subject.decider.active_kinds();
        let measures_files = self.subject.rules.iter().any(|(_, rule)| {
            rule.action == Action::Measure
                && !matches!(rule.func, Some(Func::KeyCheck | Func::CriticalData))
        });
        if !measures_files || kinds.contains(&Kind::Audit) {
            return None;
        }
        let message = "files are measured, none is audited";
        Some(
            Finding::on_policy(&catalog::MEASURED_WITHOUT_AUDIT, message)
                .hint("where it matters when and by whom: audit func=BPRM_CHECK"),
        )
    }

    /// `dont_appraise` rules that match when owner or mode change, although access is appraised: kernels before
    /// 5.14 then remove `security.ima`.
    fn vanishing(&self) -> Option<Finding> {
        let file = FileFacts::on_ext4();
        let event = Event::on_file(Func::PostSetattr, AccessSet::NONE, Credentials::ROOT, file);
        let decision = self.subject.decider.decide_on_setattr(&event);
        let Choice::Dont(rule) = decision.appraise else {
            return None;
        };
        let executed = self.is_appraised(Func::BprmCheck, AccessSet::EXEC);
        let mapped = self.is_appraised(Func::MmapCheck, AccessSet::EXEC);
        if !executed && !mapped {
            return None;
        }
        let affected = !self.subject.kernel.version.has(Feature::SetattrKeepsAttribute);
        let message = if affected {
            "touch, chmod and chown remove security.ima of files that are appraised"
        } else {
            "on kernels before 5.14, touch, chmod and chown remove security.ima"
        };
        let severity = if affected { Severity::Warning } else { Severity::Note };
        Some(
            Finding::on_rule(&catalog::ATTRIBUTE_VANISHES, rule, message)
                .of_severity(severity)
                .hint("move it below the appraise rules, or limit it by fsmagic"),
        )
    }
}

/// A file of root on this file system.
fn facts(system: &FileSystem) -> FileFacts {
    let fsname = system.name.as_bytes().to_vec();
    FileFacts { fsmagic: system.magic, fsname, ..FileFacts::on_ext4() }
}
