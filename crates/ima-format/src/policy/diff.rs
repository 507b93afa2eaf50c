//! Differences between the decisions of two policies.
//!
//! The texts are not compared, but the decisions about all events that the rules of either policy can distinguish.
//! Each difference has an event that shows it.

use alloc::vec::Vec;

use super::ast::{AlgorithmSet, Func, Name, Policy};
use super::decide::{AppraiseMode, Choice, Decider, Decision, Demands, Event, Kind};
use super::kernel::Kernel;
use super::space::Space;

/// The differences between the decisions of two policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Differences about events, the most important first: appraisal, measurement, audit.
    pub decisions: Vec<Difference>,
    /// The algorithms that a new value of `security.ima` may use (`None` for all that the kernel can compute), if they
    /// differ.
    pub setxattr: Option<(Option<AlgorithmSet>, Option<AlgorithmSet>)>,
    /// Hooks for which only one of the two denies data that do not come from a file (see
    /// [`Decider::has_appraise_rule`]).
    pub unnamed: Vec<(Func, Refusing)>,
    /// Whether every event was tried; if not, there may be more differences.
    pub complete: bool,
}

/// The one of two policies that denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusing {
    /// The first.
    Before,
    /// The second.
    After,
}

/// Events with different decisions, all in the same way and by the same rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The kind of rule.
    pub kind: Kind,
    /// The effect under the first policy.
    pub before: Effect,
    /// The effect under the second policy.
    pub after: Effect,
    /// The rule of the first policy that decided, counted from 0.
    pub before_rule: Option<usize>,
    /// The rule of the second policy that decided, counted from 0.
    pub after_rule: Option<usize>,
    /// The hooks with this difference.
    pub funcs: Vec<Func>,
    /// Events with this difference: the most ordinary one, and others that differ from it in one aspect each.
    pub witnesses: Vec<Event>,
}

impl Difference {
    /// Adds `event` as a witness, if it differs in an aspect that no witness differs in yet.
    fn witness(&mut self, event: &Event) {
        let Some(first) = self.witnesses.first() else {
            return;
        };
        let aspect = Aspect::between(first, event);
        let shown = |aspect| self.witnesses.iter().any(|it| Aspect::between(first, it) == aspect);
        if aspect.is_some() && !shown(aspect) {
            self.witnesses.push(event.clone());
        }
    }
}

/// The one aspect in which two events differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aspect {
    Access,
    Process,
    FileSystem,
    Owner,
    Data,
}

impl Aspect {
    /// `None` if they differ in no aspect, in several, or in the hook.
    fn between(one: &Event, other: &Event) -> Option<Self> {
        let system = |event: &Event| {
            let file = event.file.as_ref();
            file.map(|file| {
                (file.fsmagic, file.fsname.clone(), file.fsuuid, file.fs_subtype.clone())
            })
        };
        let owner = |event: &Event| event.file.as_ref().map(|file| (file.owner, file.group));
        let mut aspects = [
            (one.access != other.access, Self::Access),
            (one.credentials != other.credentials, Self::Process),
            (system(one) != system(other), Self::FileSystem),
            (owner(one) != owner(other), Self::Owner),
            (one.data != other.data, Self::Data),
        ]
        .into_iter()
        .filter(|(differs, _)| *differs);
        match (aspects.next(), aspects.next()) {
            (Some((_, aspect)), None) if one.func == other.func => Some(aspect),
            _ => None,
        }
    }
}

/// The effect of one kind of rule on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// No effect.
    Nothing,
    /// It is measured.
    Measured {
        /// Into this PCR.
        pcr: u8,
        /// With this template.
        template: Name,
        /// With its fs-verity digest.
        verity: bool,
    },
    /// It is appraised.
    Appraised {
        /// The requirements.
        demands: Demands,
        /// The algorithms that the attribute may use; `None` for any.
        algorithms: Option<AlgorithmSet>,
    },
    /// It is audited.
    Audited,
    /// Its digest is stored in `security.ima`.
    Hashed,
}

impl Diff {
    /// Whether both policies decide all events that were tried in the same way.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.setxattr.is_none() && self.unnamed.is_empty()
    }
}

/// Compares the decisions of two policies on `kernel`, in the mode `enforce`.
pub fn diff(before: &Policy, after: &Policy, kernel: &Kernel) -> Diff {
    let space = Space::of(&[before, after], kernel);
    let sides = [before, after].map(|policy| Decider::new(policy, kernel, AppraiseMode::Enforce));
    let [first, second] = &sides;
    let mut decisions = Vec::new();
    let mut complete = true;
    for func in space.funcs() {
        if first.active_kinds() == second.active_kinds()
            && first.rules_at(*func).eq(second.rules_at(*func))
        {
            continue;
        }
        let space = Space::at(*func, &[before, after], kernel);
        if !space.is_complete(*func) {
            complete = false;
            // a sample of the space may miss a difference: first the events that rules of only one policy distinguish
            for event in Space::between(*func, [before, after], kernel).events(*func) {
                compare(&event, first, second, &mut decisions);
            }
        }
        for event in space.events(*func) {
            compare(&event, first, second, &mut decisions);
        }
    }
    decisions.sort_by_key(|difference| match difference.kind {
        Kind::Appraise => 0,
        Kind::Measure => 1,
        Kind::Audit => 2,
        Kind::Hash => 3,
    });
    let setxattr = (first.setxattr_algorithms(), second.setxattr_algorithms());
    let unnamed =
        [Func::PolicyCheck, Func::ModuleCheck, Func::FirmwareCheck, Func::KexecKernelCheck];
    let unnamed = unnamed.into_iter().filter_map(|func| {
        match (first.has_appraise_rule(func), second.has_appraise_rule(func)) {
            (true, false) => Some((func, Refusing::Before)),
            (false, true) => Some((func, Refusing::After)),
            _ => None,
        }
    });
    Diff {
        decisions,
        setxattr: (setxattr.0 != setxattr.1).then_some(setxattr),
        unnamed: unnamed.collect(),
        complete,
    }
}

fn compare(
    event: &Event,
    first: &Decider<'_>,
    second: &Decider<'_>,
    differences: &mut Vec<Difference>,
) {
    let (one, other) = (first.decide(event), second.decide(event));
    for kind in Kind::ALL {
        let (before, after) = (effect(&one, kind, first), effect(&other, kind, second));
        if before == after {
            continue;
        }
        let (before_rule, after_rule) = (one.choice(kind).rule(), other.choice(kind).rule());
        let known = differences.iter_mut().find(|known| {
            known.kind == kind
                && known.before_rule == before_rule
                && known.after_rule == after_rule
                && known.before == before
                && known.after == after
        });
        match known {
            Some(known) => {
                if !known.funcs.contains(&event.func) {
                    known.funcs.push(event.func);
                }
                known.witness(event);
            }
            None => differences.push(Difference {
                kind,
                before,
                after,
                before_rule,
                after_rule,
                funcs: [event.func].to_vec(),
                witnesses: [event.clone()].to_vec(),
            }),
        }
    }
}

fn effect(decision: &Decision, kind: Kind, decider: &Decider<'_>) -> Effect {
    let kernel = decider.kernel();
    if !matches!(decision.choice(kind), Choice::Do(_)) {
        return Effect::Nothing;
    }
    match kind {
        Kind::Measure => {
            let rule = decision.template.and_then(|rule| decider.rules().get(rule));
            let template = rule.and_then(|rule| rule.template.as_ref());
            Effect::Measured {
                pcr: decision.pcr.unwrap_or(kernel.default_pcr),
                template: template.unwrap_or(&kernel.default_template).clone(),
                verity: decision.demands.verity,
            }
        }
        Kind::Appraise => {
            Effect::Appraised { demands: decision.demands, algorithms: decision.allowed_algos }
        }
        Kind::Audit => Effect::Audited,
        Kind::Hash => Effect::Hashed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::builtin::{Builtin, Preset};
    use crate::policy::decide::AccessSet;

    fn between(before: &str, after: &str) -> Diff {
        let kernel = Kernel::default();
        let policy = |text: &str| Policy::parse(text.as_bytes(), &kernel).unwrap();
        diff(&policy(before), &policy(after), &kernel)
    }

    #[test]
    fn the_same_decisions_are_no_difference() {
        let split = "measure uid<5\nmeasure uid>4\n";
        let found = between("measure\n", split);
        assert!(found.decisions.iter().all(|it| it.before_rule == Some(0)));
        assert!(found.is_empty() && found.complete, "{found:#?}");
        for preset in Preset::ALL {
            assert!(between(preset.text(), preset.text()).is_empty());
        }
        let reordered = "audit func=MMAP_CHECK\naudit func=BPRM_CHECK\n";
        assert!(between("audit func=BPRM_CHECK\naudit func=MMAP_CHECK\n", reordered).is_empty());
    }

    #[test]
    fn a_difference_shows_an_event() {
        let found = between(
            "appraise func=BPRM_CHECK appraise_type=imasig\n",
            "dont_appraise fsname=tmpfs\nappraise func=BPRM_CHECK appraise_type=imasig\n",
        );
        let [difference] = &found.decisions[..] else {
            panic!("{found:#?}");
        };
        assert_eq!(difference.kind, Kind::Appraise);
        assert_eq!((difference.before_rule, difference.after_rule), (Some(0), Some(0)));
        assert_eq!(difference.after, Effect::Nothing);
        assert_eq!(difference.funcs, [Func::BprmCheck]);
        let witness = &difference.witnesses[0];
        assert_eq!(witness.file.as_ref().unwrap().fsname, b"tmpfs");
        assert_eq!(witness.credentials.uid, 0);
    }

    #[test]
    fn what_is_asked_for_counts() {
        let signed = "appraise func=BPRM_CHECK appraise_type=imasig\n";
        let found = between("appraise func=BPRM_CHECK\n", signed);
        let demands = |effect: &Effect| match effect {
            Effect::Appraised { demands, .. } => demands.signature,
            other => panic!("{other:?}"),
        };
        let [difference] = &found.decisions[..] else {
            panic!("{found:#?}");
        };
        assert!(!demands(&difference.before) && demands(&difference.after));
        let found = between("measure\n", "measure pcr=11\n");
        assert_eq!(found.decisions.len(), 1);
        assert!(found.decisions[0].funcs.len() > 5, "one difference, at many hooks");
        let found = between("measure\n", "measure template=ima-ng\n");
        assert_eq!(found.decisions.len(), 1);
    }

    #[test]
    fn masks_and_ids_are_told_apart() {
        let found = between(
            "measure func=FILE_CHECK mask=MAY_READ uid=0\n",
            "measure func=FILE_CHECK mask=^MAY_READ euid=0\n",
        );
        let witnesses: Vec<_> = found.decisions.iter().flat_map(|it| &it.witnesses).collect();
        assert!(witnesses.iter().any(|it| it.access != AccessSet::READ));
        assert!(witnesses.iter().any(|it| it.credentials.uid != it.credentials.euid));
    }

    #[test]
    fn what_comes_without_a_file_is_compared() {
        let found = between("audit\n", Preset::Strict.text());
        let unnamed: Vec<_> = found.unnamed.iter().map(|(func, _)| *func).collect();
        assert_eq!(
            unnamed,
            [Func::PolicyCheck, Func::ModuleCheck, Func::FirmwareCheck, Func::KexecKernelCheck]
        );
        assert!(found.setxattr.is_some_and(|(before, after)| before.is_none() && after.is_some()));
    }

    #[test]
    fn the_kernels_own_policies_can_be_compared() {
        let kernel = Kernel::default();
        let texts = Builtin::ALL.iter().map(|builtin| builtin.text(&kernel));
        for text in texts {
            let found = between(&text, Preset::Measure.text());
            assert!(found.complete && !found.is_empty());
        }
    }
}
