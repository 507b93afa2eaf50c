//! A policy as types, which express every rule that a kernel accepts, and little else.
//!
//! A [`Rule`] has the same information as the kernel's `struct ima_rule_entry`: repeated keys are merged as the
//! kernel merges them, and the layout of the line is lost. Comments and the positions of words are in [`Item`].

mod func;
mod key;
mod print;
mod value;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::lexer::Span;

pub use func::{Func, Subaction};
pub use key::{Key, KeyClass};
pub use value::{
    Access, AccessSet, Action, AlgorithmSet, AppraiseType, Comparison, DigestType, IdTest,
    Identity, Mask, MaskScope, Name, NameList, SubjectTest, Uuid,
};

/// A rule: an action and its conditions, all of which must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The action.
    pub action: Action,
    /// `func=`
    pub func: Option<Func>,
    /// `mask=`
    pub mask: Option<Mask>,
    /// `fsmagic=`: `s_magic` of the file system.
    pub fsmagic: Option<u64>,
    /// `fsname=`: the file system's type, as in `/proc/filesystems`.
    pub fsname: Option<Name>,
    /// `fs_subtype=`: the subtype of a FUSE file system.
    pub fs_subtype: Option<Name>,
    /// `fsuuid=`
    pub fsuuid: Option<Uuid>,
    /// `uid` or `euid`
    pub user: Option<SubjectTest>,
    /// `gid` or `egid`
    pub group: Option<SubjectTest>,
    /// `fowner`
    pub fowner: Option<IdTest>,
    /// `fgroup`
    pub fgroup: Option<IdTest>,
    /// `obj_user=` to `subj_type=`
    pub labels: LsmConditions,
    /// `digest_type=`
    pub digest_type: Option<DigestType>,
    /// `appraise_type=`
    pub appraise_type: Option<AppraiseType>,
    /// `appraise_flag=`: checked by kernels before 6.6, ignored by later ones.
    pub appraise_flag: Option<Name>,
    /// `appraise_algos=`
    pub appraise_algos: Option<AlgorithmSet>,
    /// `permit_directio`
    pub permit_directio: bool,
    /// `pcr=`
    pub pcr: Option<u8>,
    /// `template=`: a template's name or its fields.
    pub template: Option<Name>,
    /// `keyrings=`
    pub keyrings: Option<NameList>,
    /// `label=`
    pub label: Option<NameList>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            func: None,
            mask: None,
            fsmagic: None,
            fsname: None,
            fs_subtype: None,
            fsuuid: None,
            user: None,
            group: None,
            fowner: None,
            fgroup: None,
            labels: LsmConditions::default(),
            digest_type: None,
            appraise_type: None,
            appraise_flag: None,
            appraise_algos: None,
            permit_directio: false,
            pcr: None,
            template: None,
            keyrings: None,
            label: None,
        }
    }

    /// Whether the rule has `key`.
    pub fn has(&self, key: Key) -> bool {
        self.value_of(key).is_some()
    }
}

/// Conditions on labels, which only a security module understands: at most one per key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LsmConditions(BTreeMap<Key, Name>);

impl LsmConditions {
    /// The required value of `key`.
    pub fn value(&self, key: Key) -> Option<&Name> {
        self.0.get(&key)
    }

    /// Sets the condition on `key`, replacing an earlier one.
    pub fn set(&mut self, key: Key, value: Name) {
        self.0.insert(key, value);
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A policy: rules in the order in which the kernel tries them, and comments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Rules and comments, from top to bottom.
    pub items: Vec<Item>,
}

/// A rule or a comment of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Whether an empty line precedes it.
    pub set_apart: bool,
    /// Its position.
    pub position: Position,
    /// The rule or comment.
    pub content: ItemContent,
    /// The comment after a rule, from its `#` on; empty if there is none.
    pub remark: Vec<u8>,
}

/// The content of an [`Item`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // a rule is the usual case, a box would be for comments
pub enum ItemContent {
    /// A comment line from its `#` on, without trailing spaces.
    Comment(Vec<u8>),
    /// A rule.
    Rule(Rule),
}

/// The position of an [`Item`] in the text; [`Position::default`] if it was not read from text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The line, counted from 1; 0 if it was not read from text.
    pub line: usize,
    /// From the first word to the last.
    pub span: Span,
    /// The action.
    pub action: Span,
    /// The keys, in the order of the text; a repeated key has several spans.
    pub keys: Vec<(Key, Span)>,
}

impl Position {
    /// The span of `key`, of its last use if it is repeated; of the whole rule if it has no such key.
    pub fn of(&self, key: Key) -> Span {
        let found = self.keys.iter().rev().find(|(other, _)| *other == key);
        found.map_or(self.span, |(_, span)| *span)
    }
}

impl Policy {
    /// The rules, in order.
    pub fn rules(&self) -> impl DoubleEndedIterator<Item = &Rule> {
        self.positioned_rules().map(|(_, rule)| rule)
    }

    /// The rules, in order, with their positions.
    pub fn positioned_rules(&self) -> impl DoubleEndedIterator<Item = (&Position, &Rule)> {
        self.items.iter().filter_map(|item| match &item.content {
            ItemContent::Rule(rule) => Some((&item.position, rule)),
            ItemContent::Comment(_) => None,
        })
    }

    /// Whether both have the same rules and comments in the same layout; positions are ignored.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let content = |item: &Item| (item.set_apart, item.content.clone(), item.remark.clone());
        self.items.iter().map(content).eq(other.items.iter().map(content))
    }
}

impl FromIterator<Rule> for Policy {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let item = |rule| Item {
            set_apart: false,
            position: Position::default(),
            content: ItemContent::Rule(rule),
            remark: Vec::new(),
        };
        Self { items: rules.into_iter().map(item).collect() }
    }
}
