//! The walk through the rules: `ima_match_rules`, `ima_match_policy`, `ima_update_policy_flags`.

use alloc::vec::Vec;

use super::event::{Capability, Event, FileFacts, Labels};
use crate::boot::AppraiseMode;
use crate::policy::ast::{
    AccessSet, Action, AlgorithmSet, AppraiseType, DigestType, Func, IdTest, Identity, Key,
    MaskScope, Policy, Rule, Subaction, SubjectTest,
};
use crate::policy::kernel::{Feature, Kernel};

/// The four kinds of rules. Each event has one decision per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `measure`, `dont_measure`
    Measure,
    /// `appraise`, `dont_appraise`
    Appraise,
    /// `audit`, `dont_audit`
    Audit,
    /// `hash`, `dont_hash`
    Hash,
}

impl Kind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Measure, Self::Appraise, Self::Audit, Self::Hash];

    /// The action of this kind.
    pub const fn action(self) -> Action {
        match self {
            Self::Measure => Action::Measure,
            Self::Appraise => Action::Appraise,
            Self::Audit => Action::Audit,
            Self::Hash => Action::Hash,
        }
    }
}

impl Action {
    /// The kind of the action.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Measure | Self::DontMeasure => Kind::Measure,
            Self::Appraise | Self::DontAppraise => Kind::Appraise,
            Self::Audit | Self::DontAudit => Kind::Audit,
            Self::Hash | Self::DontHash => Kind::Hash,
        }
    }

    /// Whether it is the action itself, not its `dont_` form.
    pub const fn does(self) -> bool {
        matches!(self, Self::Measure | Self::Appraise | Self::Audit | Self::Hash)
    }
}

/// The decision for one kind; rules are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// No rule matched.
    NoRule,
    /// This rule matched: the action is done.
    Do(usize),
    /// This `dont_` rule ended the search.
    Dont(usize),
    /// This `hash` rule matched, and a later `appraise` rule replaced it.
    Overruled {
        /// The `hash` rule.
        rule: usize,
        /// The `appraise` rule.
        by: usize,
    },
}

impl Choice {
    /// Whether the action is done.
    pub const fn does(self) -> bool {
        matches!(self, Self::Do(_))
    }

    /// The rule that decided.
    pub const fn rule(self) -> Option<usize> {
        match self {
            Self::NoRule => None,
            Self::Do(rule) | Self::Dont(rule) | Self::Overruled { rule, .. } => Some(rule),
        }
    }
}

/// The requirements of rules besides their action (`IMA_NONACTION_FLAGS`). They accumulate over every rule that
/// matched, whatever its action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::struct_excessive_bools)] // the kernel's flags, each on its own
pub struct Demands {
    /// `IMA_DIGSIG_REQUIRED`
    pub signature: bool,
    /// `IMA_MODSIG_ALLOWED`
    pub modsig_allowed: bool,
    /// `IMA_SIGV3_REQUIRED`
    pub sigv3: bool,
    /// `IMA_CHECK_BLACKLIST`
    pub check_blacklist: bool,
    /// `IMA_VERITY_REQUIRED`
    pub verity: bool,
    /// `IMA_PERMIT_DIRECTIO`
    pub permit_directio: bool,
    /// `IMA_FAIL_UNVERIFIABLE_SIGS`
    pub fail_unverifiable: bool,
}

impl Demands {
    /// The requirements of a rule.
    pub fn of(rule: &Rule, kernel: &Kernel) -> Self {
        let by_default = kernel.version.has(Feature::BlacklistByDefault);
        Self {
            signature: rule.appraise_type.is_some(),
            modsig_allowed: rule.appraise_type.is_some_and(AppraiseType::allows_modsig),
            sigv3: kernel.version.has(Feature::FileSigv3)
                && rule.appraise_type >= Some(AppraiseType::Sigv3),
            check_blacklist: if by_default {
                rule.appraise_type.is_some()
            } else {
                rule.appraise_flag.is_some()
            },
            verity: rule.digest_type == Some(DigestType::Verity),
            permit_directio: rule.permit_directio,
            fail_unverifiable: false,
        }
    }

    /// The union of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            signature: self.signature | other.signature,
            modsig_allowed: self.modsig_allowed | other.modsig_allowed,
            sigv3: self.sigv3 | other.sigv3,
            check_blacklist: self.check_blacklist | other.check_blacklist,
            verity: self.verity | other.verity,
            permit_directio: self.permit_directio | other.permit_directio,
            fail_unverifiable: self.fail_unverifiable | other.fail_unverifiable,
        }
    }
}

/// The decision of a policy about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is measured.
    pub measure: Choice,
    /// Whether it is appraised.
    pub appraise: Choice,
    /// Whether its digest is written to the audit log.
    pub audit: Choice,
    /// Whether its digest is stored in `security.ima`.
    pub hash: Choice,
    /// The requirements of the appraisal.
    pub demands: Demands,
    /// The cache flag of the appraisal's result.
    pub subaction: Option<Subaction>,
    /// The PCR of the measurement.
    pub pcr: Option<u8>,
    /// The rule whose template is used, if it is not the default one.
    pub template: Option<usize>,
    /// The algorithms that the attribute may use; `None` for any.
    pub allowed_algos: Option<AlgorithmSet>,
    /// Rules that match only if the unknown labels are theirs; they are treated as not matching.
    pub undetermined: Vec<usize>,
}

impl Decision {
    /// The decision for one kind.
    pub const fn choice(&self, kind: Kind) -> Choice {
        match kind {
            Kind::Measure => self.measure,
            Kind::Appraise => self.appraise,
            Kind::Audit => self.audit,
            Kind::Hash => self.hash,
        }
    }

    fn choice_mut(&mut self, kind: Kind) -> &mut Choice {
        match kind {
            Kind::Measure => &mut self.measure,
            Kind::Appraise => &mut self.appraise,
            Kind::Audit => &mut self.audit,
            Kind::Hash => &mut self.hash,
        }
    }

    /// Whether no action is done.
    pub fn is_idle(&self) -> bool {
        !Kind::ALL.iter().any(|kind| self.choice(*kind).does())
    }
}

/// A policy on a kernel.
#[derive(Debug, Clone)]
pub struct Decider<'a> {
    rules: Vec<&'a Rule>,
    /// The numbers of the rules that can match at each hook.
    by_func: Vec<(Func, Vec<usize>)>,
    kernel: &'a Kernel,
    mode: AppraiseMode,
    active: Vec<Kind>,
}

impl<'a> Decider<'a> {
    /// The decider for `policy` on `kernel`.
    pub fn new(policy: &'a Policy, kernel: &'a Kernel, mode: AppraiseMode) -> Self {
        let rules: Vec<&Rule> = policy.rules().collect();
        let at = |func: &Func| {
            let concerned = |rule: &Rule| rule.func.map_or(true, |other| other == *func);
            let numbers = rules.iter().enumerate().filter(|(_, rule)| concerned(rule));
            (*func, numbers.map(|(number, _)| number).collect())
        };
        let by_func = Func::ALL.iter().map(at).collect();
        let mut decider = Self { rules, by_func, kernel, mode, active: Vec::new() };
        decider.active = decider.find_active();
        decider
    }

    /// Its rules; the numbers in decisions are indexes.
    pub fn rules(&self) -> &[&'a Rule] {
        &self.rules
    }

    /// The rules that can match at a hook, in their order.
    pub(in crate::policy) fn rules_at(&self, func: Func) -> impl Iterator<Item = &'a Rule> + '_ {
        self.numbers_at(func).filter_map(|number| self.rules.get(number).copied())
    }

    /// The numbers of these rules. For a change of owner or mode they are all rules, whatever their `func=`.
    fn numbers_at(&self, func: Func) -> impl Iterator<Item = usize> + '_ {
        let known = self.by_func.iter().find(|(other, _)| *other == func);
        let known = known.filter(|_| func != Func::PostSetattr);
        let all = if known.is_none() { 0..self.rules.len() } else { 0..0 };
        known.into_iter().flat_map(|(_, numbers)| numbers.iter().copied()).chain(all)
    }

    /// The kernel.
    pub fn kernel(&self) -> &'a Kernel {
        self.kernel
    }

    /// The mode.
    pub fn mode(&self) -> AppraiseMode {
        self.mode
    }

    /// The kinds that any rule enables (`ima_policy_flag`); no other kind is decided.
    pub fn active_kinds(&self) -> &[Kind] {
        &self.active
    }

    fn find_active(&self) -> Vec<Kind> {
        let done = |kind: &Kind| {
            let mut rules = self.rules.iter();
            rules.any(|rule| rule.action == kind.action() && rule.func != Some(Func::SetxattrCheck))
        };
        let appraises = self.mode != AppraiseMode::Off || self.appraises_by_func();
        let on = |kind: &Kind| *kind != Kind::Appraise || appraises;
        Kind::ALL.iter().copied().filter(done).filter(on).collect()
    }

    /// Whether a rule turns appraisal on, whatever the mode (`ima_appraise_flag`).
    fn appraises_by_func(&self) -> bool {
        [Func::ModuleCheck, Func::FirmwareCheck, Func::PolicyCheck, Func::KexecKernelCheck]
            .iter()
            .any(|func| self.has_appraise_rule(*func))
    }

    /// Whether a rule appraises this hook, under any conditions. For some hooks this is enough to deny data that do not
    /// come from a file: `POLICY_CHECK`, a policy written as text; `MODULE_CHECK`, `init_module` unless the kernel
    /// enforces module signatures; `FIRMWARE_CHECK`, the sysfs fallback; `KEXEC_KERNEL_CHECK`, `kexec_load`
    /// (`ima_write_policy`, `ima_load_data`).
    pub fn has_appraise_rule(&self, func: Func) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Appraise && rule.func == Some(func))
    }

    /// The algorithms that a new value of `security.ima` may use: those of the first `SETXATTR_CHECK` rule; `None` for
    /// all that the kernel can compute.
    pub fn setxattr_algorithms(&self) -> Option<AlgorithmSet> {
        let mut rules = self.rules.iter();
        rules.find(|rule| rule.func == Some(Func::SetxattrCheck))?.appraise_algos
    }

    /// `ima_get_action`: the decision about an event.
    pub fn decide(&self, event: &Event) -> Decision {
        self.decide_kinds(event, &self.active)
    }

    /// `ima_must_appraise`: whether a file that is new, or whose owner or mode changes, is appraised or hashed.
    pub fn must_appraise(&self, event: &Event) -> bool {
        if self.mode == AppraiseMode::Off && !self.appraises_by_func() {
            return false;
        }
        let decision = self.decide_on_setattr(event);
        decision.appraise.does() || decision.hash.does()
    }

    /// The decision behind [`Decider::must_appraise`], whatever kinds are active.
    pub fn decide_on_setattr(&self, event: &Event) -> Decision {
        self.decide_kinds(event, &[Kind::Appraise, Kind::Hash])
    }

    /// `ima_file_mprotect`: whether a mapping of a file cannot be made executable later, because an executable mapping
    /// would have been appraised. It is denied (`EPERM`) in every mode. The event's `func` and `access` are ignored.
    pub fn refuses_mprotect(&self, event: &Event) -> bool {
        let mut hooks = [Func::MmapCheck, Func::MmapCheckReqprot].into_iter();
        hooks.any(|func| {
            let known = func.since().map_or(true, |it| self.kernel.version.has(it));
            let event = Event { func, access: AccessSet::EXEC, ..event.clone() };
            known && self.decide(&event).appraise.does()
        })
    }

    /// `ima_match_policy`.
    fn decide_kinds(&self, event: &Event, kinds: &[Kind]) -> Decision {
        let mut open: Vec<Kind> = kinds.to_vec();
        let mut decision = Decision {
            measure: Choice::NoRule,
            appraise: Choice::NoRule,
            audit: Choice::NoRule,
            hash: Choice::NoRule,
            demands: Demands::default(),
            subaction: None,
            pcr: None,
            template: None,
            allowed_algos: None,
            undetermined: Vec::new(),
        };
        // the first rule of a kind that matches decides it; the walk ends when all kinds are decided
        for number in self.numbers_at(event.func) {
            let Some(rule) = self.rules.get(number) else { break };
            let kind = rule.action.kind();
            if !open.contains(&kind) {
                continue;
            }
            match matches(rule, event) {
                Match::No => continue,
                Match::IfLabels => {
                    decision.undetermined.push(number);
                    continue;
                }
                Match::Yes => {}
            }
            self.apply(number, rule, event.func, &mut decision);
            open.retain(|other| *other != kind);
            if open.is_empty() {
                break;
            }
        }
        decision
    }

    fn apply(&self, number: usize, rule: &Rule, func: Func, decision: &mut Decision) {
        decision.demands = decision.demands.and(Demands::of(rule, self.kernel));
        *decision.choice_mut(rule.action.kind()) =
            if rule.action.does() { Choice::Do(number) } else { Choice::Dont(number) };
        if rule.action == Action::Appraise {
            // without func= the result is cached as that of FILE_CHECK, whatever the hook
            let specific = rule.func.is_some();
            let subaction = if specific { func.subaction() } else { Subaction::File };
            decision.subaction = Some(subaction);
            if let Choice::Do(hash) = decision.hash {
                decision.hash = Choice::Overruled { rule: hash, by: number };
            }
            decision.demands.fail_unverifiable |= self.kernel.fail_securely;
            decision.allowed_algos = rule.appraise_algos;
        }
        if rule.pcr.is_some() {
            decision.pcr = rule.pcr;
        }
        if rule.template.is_some() {
            decision.template = Some(number);
        }
    }
}

/// Whether a rule matches an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Match {
    /// It matches.
    Yes,
    /// It does not match.
    No,
    /// It matches if the unknown labels are those of the rule.
    IfLabels,
}

/// `ima_match_rules`.
pub fn matches(rule: &Rule, event: &Event) -> Match {
    let setattr = event.func == Func::PostSetattr;
    if !setattr && rule.func.is_some_and(|func| func != event.func) {
        return Match::No;
    }
    let without_file = event.func == Func::PolicyCheck && event.file.is_none();
    if without_file || matches!(event.func, Func::KeyCheck | Func::CriticalData) {
        return if matches_data(rule, event) { Match::Yes } else { Match::No };
    }
    let mask = rule.mask.map_or(true, |mask| match mask.scope {
        MaskScope::Exactly => event.access.is_exactly(mask.access),
        MaskScope::Among => event.access.contains(mask.access),
    });
    if !mask && !setattr {
        return Match::No;
    }
    let file = event.file.as_ref();
    if !matches_user(rule, event) || !file.map_or(true, |file| matches_file(rule, file)) {
        return Match::No;
    }
    matches_labels(rule, &event.labels)
}

/// `ima_match_rule_data`: compares `uid` of the process, but not `gid`.
fn matches_data(rule: &Rule, event: &Event) -> bool {
    let uid = rule.user.map_or(true, |user| match user.identity {
        Identity::Real => user.test.holds(event.credentials.uid),
        Identity::Effective => true,
    });
    let list = match event.func {
        Func::KeyCheck => &rule.keyrings,
        Func::CriticalData => &rule.label,
        // a policy that is written as text: every rule with that hook matches
        _ => &None,
    };
    let listed = list
        .as_ref()
        .map_or(true, |list| event.data.as_ref().is_some_and(|data| list.contains(data)));
    rule.func == Some(event.func) && uid && listed
}

fn matches_user(rule: &Rule, event: &Event) -> bool {
    let ids = &event.credentials;
    subject(rule.user, [ids.uid, ids.euid, ids.suid], ids.cap_setuid)
        && subject(rule.group, [ids.gid, ids.egid, ids.sgid], ids.cap_setgid)
}

fn subject(
    condition: Option<SubjectTest>,
    [real, effective, saved]: [u32; 3],
    capability: Capability,
) -> bool {
    let Some(SubjectTest { identity, test }) = condition else {
        return true;
    };
    match (identity, capability) {
        (Identity::Real, _) => test.holds(real),
        (Identity::Effective, Capability::Absent) => test.holds(effective),
        (Identity::Effective, Capability::Held) => {
            [real, effective, saved].iter().any(|id| test.holds(*id))
        }
    }
}

fn matches_file(rule: &Rule, file: &FileFacts) -> bool {
    let owner = |test: Option<IdTest>, id: u32| test.map_or(true, |test| test.holds(id));
    let subtype = |name: &[u8]| file.fs_subtype.as_ref().is_some_and(|subtype| subtype == name);
    rule.fsmagic.map_or(true, |magic| magic == file.fsmagic)
        && rule.fsname.as_ref().map_or(true, |name| name.as_bytes() == file.fsname)
        && rule.fs_subtype.as_ref().map_or(true, |name| subtype(name.as_bytes()))
        && rule.fsuuid.map_or(true, |uuid| uuid == file.fsuuid)
        && owner(rule.fowner, file.owner)
        && owner(rule.fgroup, file.group)
}

fn matches_labels(rule: &Rule, labels: &Labels) -> Match {
    if rule.labels.is_empty() {
        return Match::Yes;
    }
    match labels {
        Labels::None => Match::No,
        Labels::Unknown => Match::IfLabels,
        Labels::Known(known) => {
            let differs = |key: &Key| {
                let wanted = rule.labels.value(*key);
                wanted.is_some() && wanted != known.value(*key)
            };
            match Key::labels().find(differs) {
                None => Match::Yes,
                Some(_) => Match::No,
            }
        }
    }
}
