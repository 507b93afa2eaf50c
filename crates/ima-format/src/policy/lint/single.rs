//! Lints about a single rule.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::catalog;
use super::{Finding, Subject};
use crate::policy::ast::{
    Access, Action, AlgorithmSet, AppraiseType, DigestType, Func, Identity, Key, Mask, MaskScope,
    Position, Rule,
};
use crate::policy::diagnostic::Severity;
use crate::policy::kernel::{
    needed_options, Available, Built, Configuration, Feature, KernelVersion, LsmRules, Needed,
};

pub(super) fn find(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    for (number, (position, rule)) in subject.rules.iter().enumerate() {
        let single = Single { subject, number, position, rule };
        findings.extend(single.appraisal());
        findings.extend(single.conditions());
        findings.extend(single.spelling());
        findings.extend(single.kernel());
        findings.extend(single.template());
    }
}

struct Single<'a> {
    subject: &'a Subject<'a>,
    number: usize,
    position: &'a Position,
    rule: &'a Rule,
}

impl Single<'_> {
    fn version(&self) -> KernelVersion {
        self.subject.kernel.version
    }

    fn on(&self, lint: &'static super::Lint, message: impl Into<String>) -> Finding {
        Finding::on_rule(lint, self.number, message)
    }

    fn at(&self, lint: &'static super::Lint, key: Key, message: impl Into<String>) -> Finding {
        Finding::on_key(lint, self.number, key, message)
    }

    fn appraisal(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rule = self.rule;
        if rule.action != Action::Appraise {
            if rule.digest_type == Some(DigestType::Verity) && self.appraises_without_verity() {
                let message = "digest_type=verity here binds appraise rules, too";
                findings.push(
                    self.at(&catalog::VERITY_BINDS_APPRAISAL, Key::DigestType, message)
                        .hint("limit the rule to files that have fs-verity, by fsuuid or a label"),
                );
            }
            return findings;
        }
        if rule.appraise_type.is_none() && rule.func != Some(Func::SetxattrCheck) {
            findings.push(
                self.on(&catalog::HASH_IS_ENOUGH, "a digest in security.ima satisfies this rule")
                    .hint("add appraise_type=imasig"),
            );
        }
        findings.extend(self.appended());
        if rule.permit_directio {
            let message = "O_DIRECT passes this rule unchecked";
            findings.push(self.at(&catalog::DIRECTIO_UNSEEN, Key::PermitDirectio, message));
        }
        if let Some((capability, what)) = self.kernel_read() {
            let key = if rule.user.is_some() { self.user_key() } else { self.group_key() };
            let message = format!("{what} only for some users");
            findings.push(
                self.at(&catalog::UID_LIMITS_KERNEL_READS, key, message)
                    .hint(format!("remove the condition: the access needs {capability} anyway")),
            );
        }
        findings
    }

    /// IMA's verification of appended signatures denies nothing (`ima_collect_modsig`); that of the module loader does.
    fn appended(&self) -> Option<Finding> {
        let allowed = self.rule.appraise_type.is_some_and(AppraiseType::allows_modsig);
        let lint = &catalog::DETACHED_UNCHECKED;
        match self.rule.func.filter(|_| allowed)? {
            func @ (Func::KexecKernelCheck | Func::KexecInitramfsCheck) => {
                let message = format!("any file passes {func} that ends with a suitable message");
                let finding = self.at(lint, Key::AppraiseType, message);
                Some(finding.hint("write appraise_type=imasig"))
            }
            _ => {
                let message = "any file passes, unless the module loader checks signatures itself";
                let finding = self.at(lint, Key::AppraiseType, message);
                let hint = "write appraise_type=imasig, or boot with module.sig_enforce=1 \
                    (CONFIG_MODULE_SIG_FORCE)";
                Some(finding.hint(hint).of_severity(Severity::Note))
            }
        }
    }

    fn appraises_without_verity(&self) -> bool {
        self.subject.rules.iter().any(|(_, rule)| {
            rule.action == Action::Appraise
                && rule.digest_type.is_none()
                && rule.func != Some(Func::SetxattrCheck)
        })
    }

    /// For a rule about files that the kernel reads for a process, limited to some processes: the capability that the
    /// process needs, and the effect.
    fn kernel_read(&self) -> Option<(&'static str, &'static str)> {
        if self.rule.user.is_none() && self.rule.group.is_none() {
            return None;
        }
        match self.rule.func? {
            Func::ModuleCheck => Some(("CAP_SYS_MODULE", "modules are appraised")),
            Func::PolicyCheck => Some(("CAP_DAC_OVERRIDE", "policies are appraised")),
            Func::KexecKernelCheck | Func::KexecInitramfsCheck => {
                Some(("CAP_SYS_BOOT", "kexec is appraised"))
            }
            _ => None,
        }
    }

    fn user_key(&self) -> Key {
        match self.rule.user.map(|user| user.identity) {
            Some(Identity::Effective) => Key::Euid,
            _ => Key::Uid,
        }
    }

    fn group_key(&self) -> Key {
        match self.rule.group.map(|group| group.identity) {
            Some(Identity::Effective) => Key::Egid,
            _ => Key::Gid,
        }
    }

    fn conditions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rule = self.rule;
        let data = matches!(rule.func, Some(Func::KeyCheck | Func::CriticalData));
        if data && rule.group.is_some() {
            let message = "gid is not looked at for keys and critical data";
            findings
                .push(self.at(&catalog::IGNORED_CONDITION, Key::Gid, message).hint("leave it out"));
        }
        let exact_read = Some(Mask { scope: MaskScope::Exactly, access: Access::Read });
        if matches!(rule.func, None | Some(Func::FileCheck))
            && rule.mask == exact_read
            && rule.action.does()
        {
            let message = "files opened for reading and writing do not match";
            findings.push(
                self.at(&catalog::EXACT_MASK, Key::Mask, message).hint("write mask=^MAY_READ"),
            );
        }
        if rule.appraise_flag.is_some() && self.version().has(Feature::BlacklistByDefault) {
            let message = "appraise_flag means nothing to this kernel";
            findings.push(
                self.at(&catalog::OBSOLETE_FLAG, Key::AppraiseFlag, message).hint("leave it out"),
            );
        }
        let weak: AlgorithmSet = rule
            .appraise_algos
            .into_iter()
            .flat_map(AlgorithmSet::iter)
            .filter(|algorithm| algorithm.is_weak())
            .collect();
        if !weak.is_empty() {
            let message = format!("{weak} allowed");
            findings.push(
                self.at(&catalog::WEAK_ALGORITHM, Key::AppraiseAlgos, message)
                    .hint("allow sha256,sha384,sha512"),
            );
        }
        findings
    }

    fn spelling(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, (key, span)) in self.position.keys.iter().enumerate() {
            let text = span.of(self.subject.text);
            let value = text.iter().position(|byte| matches!(byte, b'=' | b'<' | b'>'));
            let value = value.and_then(|at| text.get(at + 1..)).unwrap_or_default();
            if *key == Key::Func {
                if let Some((old, func)) =
                    Func::ALIASES.iter().find(|(old, _)| old.as_bytes() == value)
                {
                    let message = format!("{old} is the old name of {func}");
                    findings.push(
                        self.at(&catalog::OLD_SPELLING, *key, message)
                            .hint(format!("write func={func}")),
                    );
                }
            }
            if value.ends_with(b"\r") {
                let message = format!("{} ends in a carriage return", key.name());
                findings.push(
                    self.at(&catalog::CARRIAGE_RETURN, *key, message)
                        .hint("end lines with LF alone, not CR LF"),
                );
            }
            let later = self.position.keys.get(index + 1..).unwrap_or_default();
            if later.iter().any(|(other, _)| other == key) {
                let message = format!("{} is given twice", key.name());
                findings.push(self.at(&catalog::REPEATED_KEY, *key, message).hint("leave one"));
            }
        }
        findings
    }

    fn kernel(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let (Some(algorithms), Available::AtLeast(sure)) =
            (self.rule.appraise_algos, self.subject.kernel.algorithms)
        {
            let unsure: AlgorithmSet =
                algorithms.iter().filter(|algorithm| !sure.contains(*algorithm)).collect();
            if !unsure.is_empty() {
                let message = format!("the kernel has to be built with {unsure}");
                findings.push(self.at(
                    &catalog::ALGORITHM_MAY_BE_MISSING,
                    Key::AppraiseAlgos,
                    message,
                ));
            }
        }
        findings.extend(self.configuration());
        if self.subject.kernel.lsm_rules == LsmRules::Unknown {
            if let Some(key) = Key::labels().find(|key| self.rule.has(*key)) {
                let message = format!("{} needs a security module that knows it", key.name());
                findings.push(self.at(&catalog::LABEL_MAY_BE_UNDEFINED, key, message));
            }
        }
        findings
    }

    /// Words that depend on the kernel's configuration. Words that it would reject are reported as errors.
    fn configuration(&self) -> Vec<Finding> {
        let kernel = self.subject.kernel;
        let needed = needed_options(self.rule).into_iter();
        let found = needed.filter_map(|(key, option)| match (kernel.configuration, option) {
            (Configuration::Assumed, Needed { option, .. }) => {
                let message = format!("the kernel has to be built with {option}");
                let finding = self.at(&catalog::DEPENDS_ON_CONFIGURATION, key, message);
                Some(finding.hint("--kernel-config FILE tells whether it is"))
            }
            (Configuration::Read, Needed { option, built }) if built(kernel) == Built::Out => {
                let message = format!("this kernel is built without {option}");
                Some(self.at(&catalog::NOT_CONFIGURED, key, message))
            }
            _ => None,
        });
        let mut found: Vec<_> = found.collect();
        if self.rule.action == Action::Appraise && kernel.appraise == Built::Out {
            let message = "this kernel is built without CONFIG_IMA_APPRAISE: the rule does nothing";
            found.push(self.on(&catalog::NOT_CONFIGURED, message));
        }
        found
    }

    /// The warnings of the kernel itself (`check_template_modsig`, `check_template_field`).
    fn template(&self) -> Vec<Finding> {
        let kernel = self.subject.kernel;
        let name = self.rule.template.as_ref().unwrap_or(&kernel.default_template);
        let fields = kernel.template_fields(name.as_bytes()).unwrap_or_default();
        let has = |field: &[u8]| fields.split(|byte| *byte == b'|').any(|other| other == field);
        let mut findings = Vec::new();
        let verity = self.rule.digest_type == Some(DigestType::Verity);
        if self.rule.action == Action::Measure && verity && !has(b"d-ngv2") {
            let message = "the template does not distinguish fs-verity digests from others";
            findings.push(
                self.at(&catalog::TEMPLATE_LACKS_FIELD, Key::DigestType, message)
                    .hint("add template=ima-ngv2 or template=ima-sigv2"),
            );
        }
        let modsig = self.rule.appraise_type.is_some_and(AppraiseType::allows_modsig);
        if modsig && has(b"modsig") && !has(b"d-modsig") {
            let message = "the template has modsig without d-modsig";
            findings.push(self.at(&catalog::TEMPLATE_LACKS_FIELD, Key::AppraiseType, message));
        }
        findings
    }
}
