//! The keys of rules, as one table.

use crate::policy::version::Feature;

/// The class of a key, which decides with which hooks it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyClass {
    /// It is valid with every hook.
    Any,
    /// It compares the file system of a file.
    FileSystem,
    /// It compares the process.
    Subject,
    /// It compares the owner of a file.
    Owner,
    /// It compares a label, which only a security module understands.
    Label,
    /// A condition or an option that is valid with some hooks.
    Other,
}

macro_rules! keys {
    ($($variant:ident $name:literal $class:ident $since:expr;)+) => {
        /// The parts of a rule other than its action, in the order in which rules are printed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // the fields of `Rule`
        pub enum Key {
            $($variant,)+
        }

        impl Key {
            /// All keys, in the order in which rules are printed.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its spelling in a policy.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its class.
            pub const fn class(self) -> KeyClass {
                match self {
                    $(Self::$variant => KeyClass::$class,)+
                }
            }

            /// The feature that added it; `None` if every version of the table has it.
            pub const fn since(self) -> Option<Feature> {
                match self {
                    $(Self::$variant => $since,)+
                }
            }
        }
    };
}

keys! {
    Func "func" Any None;
    Mask "mask" Other None;
    Fsmagic "fsmagic" FileSystem None;
    Fsname "fsname" FileSystem None;
    FsSubtype "fs_subtype" FileSystem Some(Feature::FsSubtype);
    Keyrings "keyrings" Other None;
    Label "label" Other Some(Feature::CriticalData);
    Pcr "pcr" Other None;
    Fsuuid "fsuuid" FileSystem None;
    Uid "uid" Subject None;
    Euid "euid" Subject None;
    Gid "gid" Subject Some(Feature::Groups);
    Egid "egid" Subject Some(Feature::Groups);
    Fowner "fowner" Owner None;
    Fgroup "fgroup" Owner Some(Feature::Groups);
    AppraiseAlgos "appraise_algos" Other Some(Feature::AppraiseAlgos);
    ObjUser "obj_user" Label None;
    ObjRole "obj_role" Label None;
    ObjType "obj_type" Label None;
    SubjUser "subj_user" Label None;
    SubjRole "subj_role" Label None;
    SubjType "subj_type" Label None;
    Template "template" Any None;
    DigestType "digest_type" Other Some(Feature::Verity);
    AppraiseType "appraise_type" Other None;
    AppraiseFlag "appraise_flag" Other None;
    PermitDirectio "permit_directio" Other None;
}

impl Key {
    /// The keys whose value only a security module understands.
    pub fn labels() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|key| key.class() == KeyClass::Label)
    }

    /// Whether it compares an id, so that `<` and `>` are valid instead of `=`.
    pub const fn compares_ids(self) -> bool {
        matches!(self.class(), KeyClass::Subject | KeyClass::Owner)
    }
}
