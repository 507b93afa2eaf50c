//! The events that some rules can distinguish: one of each kind, a finite number.
//!
//! Two events that differ in nothing that a rule compares have the same decision, so one of them is enough. For each
//! property, the values are those that rules name, their neighbours if they are compared by `<` or `>`, and one that no
//! rule names. File systems are taken as a whole, from [`filesystem`]: a magic number with its names. At most two of a
//! process's three user ids differ.

use alloc::vec::Vec;

use super::ast::{Access, Func, IdTest, Identity, Name, Policy, Rule, SubjectTest, Uuid};
use super::decide::{AccessSet, Capability, Credentials, Event, FileFacts, Labels};
use super::filesystem::{self, FileSystem};
use super::kernel::{Feature, Kernel, LsmRules};

/// The most events that are tried for one hook; more are sampled.
const MOST: usize = 100_000;
/// The most comparisons of events with rules for one hook, which bounds the number of events if there are many rules:
/// so many take a fraction of a second.
const COMPARISONS: usize = 1 << 24;

/// The file systems, ids, accesses and names that some policies can distinguish.
#[derive(Debug, Clone)]
pub(super) struct Space {
    funcs: Vec<Func>,
    accesses: Vec<AccessSet>,
    users: Vec<User>,
    groups: Vec<User>,
    file_systems: Vec<FileFacts>,
    owners: Vec<u32>,
    owner_groups: Vec<u32>,
    labels: Labels,
    keyrings: Vec<Option<Vec<u8>>>,
    critical: Vec<Option<Vec<u8>>>,
    /// The most events of a hook that are tried.
    most: usize,
}

/// Real, effective and saved id, and whether the process can change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    ids: [u32; 3],
    capability: Capability,
}

impl Space {
    /// The events that the rules of `policies` can distinguish on `kernel`. Ordinary values are first: root,
    /// ext4, a file of root.
    pub(super) fn of(policies: &[&Policy], kernel: &Kernel) -> Self {
        Self::of_rules(policies, kernel, |_| true)
    }

    /// The events at one hook: values that only rules for other hooks name are left out.
    pub(super) fn at(func: Func, policies: &[&Policy], kernel: &Kernel) -> Self {
        Self::of_rules(policies, kernel, |rule| rule.func.map_or(true, |other| other == func))
    }

    /// The events at one hook that rules distinguish which only one of two policies has.
    pub(super) fn between(func: Func, [one, other]: [&Policy; 2], kernel: &Kernel) -> Self {
        let has = |policy: &Policy, rule: &Rule| policy.rules().any(|known| known == rule);
        Self::of_rules(&[one, other], kernel, |rule| {
            rule.func.map_or(true, |other| other == func) && !(has(one, rule) && has(other, rule))
        })
    }

    fn of_rules(policies: &[&Policy], kernel: &Kernel, counts: impl Fn(&Rule) -> bool) -> Self {
        let rules = policies.iter().flat_map(|policy| policy.rules());
        let rules: Vec<&Rule> = rules.filter(|rule| counts(rule)).collect();
        let has = |feature: Option<Feature>| feature.map_or(true, |it| kernel.version.has(it));
        let asked = |func: &Func| {
            !matches!(func, Func::PostSetattr | Func::SetxattrCheck) && has(func.since())
        };
        Self {
            funcs: Func::ALL.iter().copied().filter(asked).collect(),
            accesses: accesses(&rules),
            users: users(rules.iter().filter_map(|rule| rule.user)),
            groups: users(rules.iter().filter_map(|rule| rule.group)),
            file_systems: file_systems(&rules),
            owners: ids(rules.iter().filter_map(|rule| rule.fowner)),
            owner_groups: ids(rules.iter().filter_map(|rule| rule.fgroup)),
            labels: match kernel.lsm_rules {
                LsmRules::Undefined => Labels::None,
                _ if rules.iter().all(|rule| rule.labels.is_empty()) => Labels::None,
                LsmRules::Defined | LsmRules::Unknown => Labels::Unknown,
            },
            keyrings: names(rules.iter().filter_map(|rule| rule.keyrings.as_ref())),
            critical: names(rules.iter().filter_map(|rule| rule.label.as_ref())),
            most: MOST.min(COMPARISONS / rules.len().max(1)).max(1),
        }
    }

    /// The hooks.
    pub(super) fn funcs(&self) -> &[Func] {
        &self.funcs
    }

    /// Whether [`Space::events`] returns all events of this hook.
    pub(super) fn is_complete(&self, func: Func) -> bool {
        self.size(func) <= self.most
    }

    /// The events at `func`, or a sample of them at equal distances.
    pub(super) fn events(&self, func: Func) -> impl Iterator<Item = Event> + '_ {
        let size = self.size(func);
        let stride = (size / self.most).max(1);
        (0..size).step_by(stride).map(move |index| self.event(func, index))
    }

    fn size(&self, func: Func) -> usize {
        self.radices(func).iter().fold(1, |size, radix| size.saturating_mul(*radix))
    }

    /// The number of values of each dimension of an event: keyring or label, user, group, file system, owner,
    /// owner's group, access. The first dimension varies fastest.
    fn radices(&self, func: Func) -> [usize; 7] {
        let (users, groups) = (self.users.len(), self.groups.len());
        match func {
            Func::KeyCheck => [self.keyrings.len(), users, groups, 1, 1, 1, 1],
            Func::CriticalData => [self.critical.len(), users, groups, 1, 1, 1, 1],
            _ => [
                1,
                users,
                groups,
                self.file_systems.len(),
                self.owners.len(),
                self.owner_groups.len(),
                if func == Func::FileCheck { self.accesses.len() } else { 1 },
            ],
        }
    }

    /// The event with a number. The digits of the number, each with the radix of its dimension, select
    /// one value of each: events are enumerated or sampled without a list of them. A digit is always
    /// less than the length of its table; the defaults below are for empty tables.
    fn event(&self, func: Func, mut index: usize) -> Event {
        let mut digits = [0; 7];
        for (digit, radix) in digits.iter_mut().zip(self.radices(func)) {
            *digit = index % radix.max(1);
            index /= radix.max(1);
        }
        let [datum, user, group, file_system, owner, owner_group, access] = digits;
        let ordinary = User { ids: [0; 3], capability: Capability::Held };
        let user = self.users.get(user).copied().unwrap_or(ordinary);
        let group = self.groups.get(group).copied().unwrap_or(ordinary);
        let ([uid, euid, suid], [gid, egid, sgid]) = (user.ids, group.ids);
        let (cap_setuid, cap_setgid) = (user.capability, group.capability);
        let credentials = Credentials { uid, euid, suid, gid, egid, sgid, cap_setuid, cap_setgid };
        let (file, data) = match func {
            Func::KeyCheck => (None, self.keyrings.get(datum).cloned().flatten()),
            Func::CriticalData => (None, self.critical.get(datum).cloned().flatten()),
            _ => {
                let mut facts =
                    self.file_systems.get(file_system).cloned().unwrap_or_else(FileFacts::on_ext4);
                facts.owner = self.owners.get(owner).copied().unwrap_or_default();
                facts.group = self.owner_groups.get(owner_group).copied().unwrap_or_default();
                (Some(facts), None)
            }
        };
        let access = match func {
            Func::FileCheck => self.accesses.get(access).copied().unwrap_or(AccessSet::READ),
            other => other.access(),
        };
        Event { func, access, credentials, file, labels: self.labels.clone(), data }
    }
}

/// The accesses of files: reading, writing, both, appending, and executing.
fn accesses(rules: &[&Rule]) -> Vec<AccessSet> {
    let (read, write) = (AccessSet::READ, AccessSet::WRITE);
    if rules.iter().all(|rule| rule.mask.is_none()) {
        return [read].to_vec();
    }
    [
        read,
        AccessSet::EXEC,
        write,
        read.with(Access::Write),
        write.with(Access::Append),
        read.with(Access::Append),
        read.with(Access::Write).with(Access::Append),
    ]
    .to_vec()
}

/// Ids on both sides of every comparison; only root's if there is no comparison.
fn ids(tests: impl Iterator<Item = IdTest>) -> Vec<u32> {
    let mut ids = [0].to_vec();
    for test in tests {
        ids.extend([1000, test.id, test.id.saturating_sub(1), test.id.saturating_add(1)]);
    }
    unique(ids)
}

fn users(subjects: impl Iterator<Item = SubjectTest>) -> Vec<User> {
    let subjects: Vec<_> = subjects.collect();
    let ids = ids(subjects.iter().map(|subject| subject.test));
    let alike = |id: u32| User {
        ids: [id; 3],
        capability: if id == 0 { Capability::Held } else { Capability::Absent },
    };
    let mut users: Vec<_> = ids.iter().map(|id| alike(*id)).collect();
    // euid= also looks at the saved id if the process has CAP_SETUID, so both states are tried
    if subjects.iter().any(|subject| subject.identity == Identity::Effective) {
        for real in &ids {
            for effective in ids.iter().filter(|effective| *effective != real) {
                for capability in [Capability::Absent, Capability::Held] {
                    users.push(User { ids: [*real, *effective, *effective], capability });
                }
            }
        }
    }
    users
}

/// The file systems that the rules name, and up to two that they do not name.
fn file_systems(rules: &[&Rule]) -> Vec<FileFacts> {
    let named = |system: &FileSystem| {
        rules.iter().any(|rule| {
            rule.fsmagic == Some(system.magic)
                || rule
                    .fsname
                    .as_ref()
                    .is_some_and(|name| name.as_bytes() == system.name.as_bytes())
        })
    };
    let of = |system: &FileSystem| facts(system.magic, system.name.as_bytes());
    let known = filesystem::FILE_SYSTEMS;
    let mut systems: Vec<_> =
        known.iter().filter(|system| !named(system)).take(2).map(of).collect();
    systems.extend(known.iter().filter(|system| named(system)).map(of));
    for rule in rules {
        let name = rule.fsname.as_ref().map(Name::as_bytes);
        match (rule.fsmagic, name) {
            (Some(magic), None) if filesystem::with_magic(magic).next().is_none() => {
                systems.push(facts(magic, b"unknown"));
            }
            (None, Some(name)) if filesystem::with_name(name).next().is_none() => {
                systems.push(facts(0, name));
            }
            _ => {}
        }
    }
    let mut subtypes = [None].to_vec();
    subtypes.extend(
        rules
            .iter()
            .filter_map(|rule| rule.fs_subtype.as_ref())
            .map(|name| Some(name.as_bytes().to_vec())),
    );
    let mut uuids = [Uuid::NULL].to_vec();
    uuids.extend(rules.iter().filter_map(|rule| rule.fsuuid));
    let mut all = Vec::new();
    for system in unique(systems) {
        for uuid in unique(uuids.clone()) {
            let serves = filesystem::with_name(&system.fsname)
                .any(|known| known.purpose == filesystem::Purpose::User);
            for fs_subtype in unique(subtypes.clone()) {
                if fs_subtype.is_none() || serves {
                    all.push(FileFacts { fsuuid: uuid, fs_subtype, ..system.clone() });
                }
            }
        }
    }
    all
}

fn facts(fsmagic: u64, fsname: &[u8]) -> FileFacts {
    FileFacts { fsmagic, fsname: fsname.to_vec(), ..FileFacts::on_ext4() }
}

fn names<'a>(lists: impl Iterator<Item = &'a super::ast::NameList>) -> Vec<Option<Vec<u8>>> {
    let mut names = [Some(b"other".to_vec())].to_vec();
    for list in lists {
        names.extend(list.names().iter().map(|name| Some(name.as_bytes().to_vec())));
    }
    unique(names)
}

/// Removes duplicates and keeps the order of first occurrences.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut unique = Vec::new();
    for value in values {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Space {
        let kernel = Kernel::default();
        Space::of(&[&Policy::parse(text.as_bytes(), &kernel).unwrap()], &kernel)
    }

    #[test]
    fn what_is_ordinary_comes_first() {
        let space = space("measure uid>500 fsmagic=0x9fa0\n");
        let first = space.events(Func::BprmCheck).next().unwrap();
        assert_eq!(first.credentials, Credentials::ROOT);
        assert_eq!(first.file, Some(FileFacts::on_ext4()));
    }

    #[test]
    fn both_sides_of_each_comparison_are_tried() {
        let space = space("measure euid>500 fowner<7\nmeasure fsname=proc mask=^MAY_WRITE\n");
        let events: Vec<_> = space.events(Func::FileCheck).collect();
        let some = |test: &dyn Fn(&Event) -> bool| events.iter().any(test);
        for euid in [500, 501] {
            assert!(some(&|event| event.credentials.euid == euid));
            assert!(some(&|event| event.credentials.euid == euid && event.credentials.uid == 0));
        }
        for owner in [6, 7] {
            assert!(some(&|event| event.file.as_ref().unwrap().owner == owner));
        }
        assert!(some(&|event| event.file.as_ref().unwrap().fsmagic == 0x9fa0));
        assert!(some(&|event| event.access.contains(Access::Write)));
        assert!(space.is_complete(Func::FileCheck));
    }

    #[test]
    fn keys_come_by_keyring() {
        let space = space("measure func=KEY_CHECK keyrings=.ima|.evm\n");
        assert_eq!(space.events(Func::KeyCheck).count(), 3, "and one that no rule names");
    }

    #[test]
    fn too_many_are_sampled() {
        let mut text = std::string::String::new();
        for id in 0..60 {
            text += &std::format!("measure euid={} egid={} fowner={}\n", id * 3, id * 3, id * 3);
        }
        let space = space(&text);
        assert!(!space.is_complete(Func::BprmCheck));
        assert!(space.events(Func::BprmCheck).count() <= 2 * MOST);
    }
}
