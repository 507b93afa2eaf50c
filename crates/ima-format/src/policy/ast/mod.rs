//! A policy as types: every rule that a kernel accepts can be said, and little else.
//!
//! A [`Rule`] is what the kernel keeps of a line (`struct ima_rule_entry`): repeated keys are
//! folded as the kernel folds them, and nothing of the line's layout is left. The layout
//! that people care about, comments and the places of words, is in [`Item`].

mod print;
mod value;

use alloc::vec::Vec;

use super::lexer::Span;

pub use value::{
    Access, Action, AlgorithmSet, AppraiseType, Comparison, DigestType, Func, IdTest, Identity,
    Mask, MaskScope, Name, NameList, SubjectTest, Uuid,
};

/// A rule: an action and the conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// `func=`
    pub func: Option<Func>,
    /// `mask=`
    pub mask: Option<Mask>,
    /// `fsmagic=`: `s_magic` of the file system.
    pub fsmagic: Option<u64>,
    /// `fsname=`: the file system's type, as in `/proc/filesystems`.
    pub fsname: Option<Name>,
    /// `fs_subtype=`: what a FUSE file system calls itself.
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
    /// `appraise_flag=`: checked by kernels before 6.6, ignored since.
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

    /// Whether `key` was said.
    pub fn has(&self, key: Key) -> bool {
        match key {
            Key::Func => self.func.is_some(),
            Key::Mask => self.mask.is_some(),
            Key::Fsmagic => self.fsmagic.is_some(),
            Key::Fsname => self.fsname.is_some(),
            Key::FsSubtype => self.fs_subtype.is_some(),
            Key::Fsuuid => self.fsuuid.is_some(),
            Key::Uid => identity(self.user) == Some(Identity::Real),
            Key::Euid => identity(self.user) == Some(Identity::Effective),
            Key::Gid => identity(self.group) == Some(Identity::Real),
            Key::Egid => identity(self.group) == Some(Identity::Effective),
            Key::Fowner => self.fowner.is_some(),
            Key::Fgroup => self.fgroup.is_some(),
            Key::ObjUser | Key::ObjRole | Key::ObjType => self.labels.value(key).is_some(),
            Key::SubjUser | Key::SubjRole | Key::SubjType => self.labels.value(key).is_some(),
            Key::DigestType => self.digest_type.is_some(),
            Key::AppraiseType => self.appraise_type.is_some(),
            Key::AppraiseFlag => self.appraise_flag.is_some(),
            Key::AppraiseAlgos => self.appraise_algos.is_some(),
            Key::PermitDirectio => self.permit_directio,
            Key::Pcr => self.pcr.is_some(),
            Key::Template => self.template.is_some(),
            Key::Keyrings => self.keyrings.is_some(),
            Key::Label => self.label.is_some(),
        }
    }
}

fn identity(subject: Option<SubjectTest>) -> Option<Identity> {
    subject.map(|subject| subject.identity)
}

/// The names of what stands in a rule besides its action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the fields of `Rule`
pub enum Key {
    Func,
    Mask,
    Fsmagic,
    Fsname,
    FsSubtype,
    Fsuuid,
    Uid,
    Euid,
    Gid,
    Egid,
    Fowner,
    Fgroup,
    ObjUser,
    ObjRole,
    ObjType,
    SubjUser,
    SubjRole,
    SubjType,
    DigestType,
    AppraiseType,
    AppraiseFlag,
    AppraiseAlgos,
    PermitDirectio,
    Pcr,
    Template,
    Keyrings,
    Label,
}

impl Key {
    /// Every key, in the order in which [`Rule`] is printed.
    pub const ALL: &'static [Self] = &[
        Self::Func,
        Self::Mask,
        Self::Fsmagic,
        Self::Fsname,
        Self::FsSubtype,
        Self::Keyrings,
        Self::Label,
        Self::Pcr,
        Self::Fsuuid,
        Self::Uid,
        Self::Euid,
        Self::Gid,
        Self::Egid,
        Self::Fowner,
        Self::Fgroup,
        Self::AppraiseAlgos,
        Self::ObjUser,
        Self::ObjRole,
        Self::ObjType,
        Self::SubjUser,
        Self::SubjRole,
        Self::SubjType,
        Self::Template,
        Self::DigestType,
        Self::AppraiseType,
        Self::AppraiseFlag,
        Self::PermitDirectio,
    ];

    /// The keys whose value only a security module understands.
    pub const LSM: &'static [Self] = &[
        Self::ObjUser,
        Self::ObjRole,
        Self::ObjType,
        Self::SubjUser,
        Self::SubjRole,
        Self::SubjType,
    ];

    /// As a policy spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Func => "func",
            Self::Mask => "mask",
            Self::Fsmagic => "fsmagic",
            Self::Fsname => "fsname",
            Self::FsSubtype => "fs_subtype",
            Self::Fsuuid => "fsuuid",
            Self::Uid => "uid",
            Self::Euid => "euid",
            Self::Gid => "gid",
            Self::Egid => "egid",
            Self::Fowner => "fowner",
            Self::Fgroup => "fgroup",
            Self::ObjUser => "obj_user",
            Self::ObjRole => "obj_role",
            Self::ObjType => "obj_type",
            Self::SubjUser => "subj_user",
            Self::SubjRole => "subj_role",
            Self::SubjType => "subj_type",
            Self::DigestType => "digest_type",
            Self::AppraiseType => "appraise_type",
            Self::AppraiseFlag => "appraise_flag",
            Self::AppraiseAlgos => "appraise_algos",
            Self::PermitDirectio => "permit_directio",
            Self::Pcr => "pcr",
            Self::Template => "template",
            Self::Keyrings => "keyrings",
            Self::Label => "label",
        }
    }

    /// Whether an id is compared, so that `<` and `>` may stand in place of `=`.
    pub const fn compares_ids(self) -> bool {
        matches!(
            self,
            Self::Uid | Self::Euid | Self::Gid | Self::Egid | Self::Fowner | Self::Fgroup
        )
    }
}

/// Conditions on labels, which only a security module understands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)] // the keys of a policy
pub struct LsmConditions {
    pub obj_user: Option<Name>,
    pub obj_role: Option<Name>,
    pub obj_type: Option<Name>,
    pub subj_user: Option<Name>,
    pub subj_role: Option<Name>,
    pub subj_type: Option<Name>,
}

impl LsmConditions {
    /// What `key` must be; `None` for keys that are not about labels, too.
    pub fn value(&self, key: Key) -> Option<&Name> {
        match key {
            Key::ObjUser => self.obj_user.as_ref(),
            Key::ObjRole => self.obj_role.as_ref(),
            Key::ObjType => self.obj_type.as_ref(),
            Key::SubjUser => self.subj_user.as_ref(),
            Key::SubjRole => self.subj_role.as_ref(),
            Key::SubjType => self.subj_type.as_ref(),
            _ => None,
        }
    }

    pub(super) fn value_mut(&mut self, key: Key) -> Option<&mut Option<Name>> {
        match key {
            Key::ObjUser => Some(&mut self.obj_user),
            Key::ObjRole => Some(&mut self.obj_role),
            Key::ObjType => Some(&mut self.obj_type),
            Key::SubjUser => Some(&mut self.subj_user),
            Key::SubjRole => Some(&mut self.subj_role),
            Key::SubjType => Some(&mut self.subj_type),
            _ => None,
        }
    }

    /// Whether no label is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
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
    /// Whether an empty line separates it from what is above.
    pub set_apart: bool,
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub content: ItemContent,
    /// The comment after a rule, from its `#` on; empty if there is none.
    pub remark: Vec<u8>,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // a rule is the usual case, a box would be for comments
pub enum ItemContent {
    /// A comment line from its `#` on, without spaces at the end.
    Comment(Vec<u8>),
    /// A rule.
    Rule(Rule),
}

/// Where an [`Item`] stands in the text; [`Place::default`] for what was not read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The line, counted from 1; 0 for what was not read.
    pub line: usize,
    /// The first word to the last.
    pub span: Span,
    /// The action.
    pub action: Span,
    /// Each key, in the order of the text; repeated keys are repeated here.
    pub keys: Vec<(Key, Span)>,
}

impl Place {
    /// Where `key` stands, the last if it is repeated; the whole rule if it does not.
    pub fn of(&self, key: Key) -> Span {
        let found = self.keys.iter().rev().find(|(other, _)| *other == key);
        found.map_or(self.span, |(_, span)| *span)
    }
}

impl Policy {
    /// The rules, in order.
    pub fn rules(&self) -> impl DoubleEndedIterator<Item = &Rule> {
        self.placed_rules().map(|(_, rule)| rule)
    }

    /// The rules, in order, and where they stand.
    pub fn placed_rules(&self) -> impl DoubleEndedIterator<Item = (&Place, &Rule)> {
        self.items.iter().filter_map(|item| match &item.content {
            ItemContent::Rule(rule) => Some((&item.place, rule)),
            ItemContent::Comment(_) => None,
        })
    }

    /// Whether it says the same in the same layout, wherever the words stand.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let content = |item: &Item| (item.set_apart, item.content.clone(), item.remark.clone());
        self.items.iter().map(content).eq(other.items.iter().map(content))
    }
}

impl FromIterator<Rule> for Policy {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let item = |rule| Item {
            set_apart: false,
            place: Place::default(),
            content: ItemContent::Rule(rule),
            remark: Vec::new(),
        };
        Self { items: rules.into_iter().map(item).collect() }
    }
}
