//! Why a kernel refuses a rule or a policy.
//!
//! The kernel says no more than `-EINVAL`; which check it was is told here, with the check's
//! place in `ima_policy.c`, and what to write instead.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use super::ast::{Action, Func, Key};
use super::kernel::KernelVersion;
use super::lexer::Span;
use crate::{Error, ErrorKind};

/// What a kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Neither an action nor a key with `=` and a value (`match_token`).
    UnknownWord {
        /// As it stands there; bytes that are not UTF-8 replaced.
        word: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// A key and `=` with nothing behind.
    EmptyValue(Key),
    /// A value that the key does not know.
    UnknownValue {
        /// The key.
        key: Key,
        /// Its value; bytes that are not UTF-8 replaced.
        value: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// Something that this kernel does not have and a later one does.
    NeedsKernel {
        /// What, as a policy spells it.
        what: String,
        /// The first version that has it.
        since: KernelVersion,
    },
    /// Something that this kernel was built without.
    NotConfigured {
        /// What, as a policy spells it.
        what: &'static str,
        /// The option.
        option: &'static str,
    },
    /// A second action.
    ActionRepeated,
    /// No action.
    NoAction,
    /// A key that may stand once, or shares its place with another: `uid` and `euid`.
    Repeated(Key),
    /// A value that is no number of the key's base.
    NotANumber {
        /// The key.
        key: Key,
        /// Its value.
        value: String,
    },
    /// A number that the key does not take.
    OutOfRange {
        /// The key.
        key: Key,
        /// The largest that it takes.
        maximum: u64,
    },
    /// Not a UUID.
    BadUuid,
    /// Nothing between two separators of a list.
    EmptyListItem(Key),
    /// A hash algorithm that this kernel cannot compute.
    UnavailableAlgorithm(String),
    /// A label that no security module in force defines.
    UndefinedLabel(Key),
    /// `digest_type=` behind `appraise_type=`.
    DigestTypeAfterAppraiseType,
    /// `appraise_type=sigv3` without `digest_type=verity` in front of it.
    Sigv3NeedsVerity,
    /// Another `appraise_type=` than `sigv3` behind `digest_type=verity`.
    VerityNeedsSigv3,
    /// `appraise_type=imasig|modsig` after `appraise_type=sigv3`.
    Sigv3ExcludesModsig,
    /// `template=` in front of the action or with another than `measure`.
    TemplateNeedsMeasure,
    /// A key that goes with one action only.
    KeyNeedsAction {
        /// The key.
        key: Key,
        /// The action that it goes with.
        action: Action,
    },
    /// A key that does not go with the rule's `func=`, or with none.
    KeyNotForFunc {
        /// The key.
        key: Key,
        /// The rule's.
        func: Option<Func>,
    },
    /// An action that does not go with the rule's `func=`.
    ActionNotForFunc {
        /// The action.
        action: Action,
        /// The rule's.
        func: Func,
    },
    /// `func=SETXATTR_CHECK` without `appraise_algos=`.
    SetxattrNeedsAlgos,
    /// `appraise_flag=check_blacklist` without `appraise_type=imasig|modsig`.
    BlacklistNeedsModsig,
    /// `appraise` with `digest_type=verity` and without `appraise_type=sigv3`.
    VerityNeedsSignature,
    /// The file is empty.
    EmptyFile,
    /// No rule in the whole text.
    NoRules,
    /// No newline behind the last line.
    NoFinalNewline,
    /// A NUL in front of the end.
    NulByte,
    /// A line longer than one write can be.
    LineTooLong {
        /// How many bytes it may have.
        maximum: usize,
    },
}

/// A fault and the bytes that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is refused.
    pub fault: Fault,
    /// Where in the text.
    pub span: Span,
    /// On which line, counted from 1.
    pub line: usize,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.fault, refusal.span.start)
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Policy(fault)
    }
}

impl Fault {
    /// A name for programs, which stays.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnknownWord { .. } => "unknown-word",
            Self::EmptyValue(_) => "empty-value",
            Self::UnknownValue { .. } => "unknown-value",
            Self::NeedsKernel { .. } => "needs-newer-kernel",
            Self::NotConfigured { .. } => "not-configured",
            Self::ActionRepeated => "repeated-action",
            Self::NoAction => "no-action",
            Self::Repeated(_) => "repeated-key",
            Self::NotANumber { .. } => "not-a-number",
            Self::OutOfRange { .. } => "out-of-range",
            Self::BadUuid => "bad-uuid",
            Self::EmptyListItem(_) => "empty-list-item",
            Self::UnavailableAlgorithm(_) => "unavailable-algorithm",
            Self::UndefinedLabel(_) => "undefined-label",
            Self::DigestTypeAfterAppraiseType => "digest-type-after-appraise-type",
            Self::Sigv3NeedsVerity => "sigv3-needs-verity",
            Self::VerityNeedsSigv3 => "verity-needs-sigv3",
            Self::Sigv3ExcludesModsig => "sigv3-excludes-modsig",
            Self::TemplateNeedsMeasure => "template-needs-measure",
            Self::KeyNeedsAction { .. } => "key-needs-action",
            Self::KeyNotForFunc { .. } => "key-not-for-func",
            Self::ActionNotForFunc { .. } => "action-not-for-func",
            Self::SetxattrNeedsAlgos => "setxattr-needs-algos",
            Self::BlacklistNeedsModsig => "blacklist-needs-modsig",
            Self::VerityNeedsSignature => "verity-needs-signature",
            Self::EmptyFile => "empty-file",
            Self::NoRules => "no-rules",
            Self::NoFinalNewline => "no-final-newline",
            Self::NulByte => "nul-byte",
            Self::LineTooLong { .. } => "line-too-long",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::UnknownWord { word, meant } => return word_hint(word, meant.as_deref()),
            Self::UnknownValue { key, value, meant } => {
                return value_hint(*key, value, meant.as_deref());
            }
            Self::EmptyValue(key) => {
                return Some(format!("write {}= and its value without a space between", key.name()))
            }
            Self::NeedsKernel { since, .. } => {
                return Some(format!(
                    "leave it out, or load this policy on Linux {since} and later"
                ));
            }
            Self::NotConfigured { option, .. } => {
                return Some(format!("build the kernel with {option}=y"))
            }
            Self::ActionRepeated => "one action a rule; write a rule for each",
            Self::NoAction => {
                "a rule needs an action: measure, appraise, audit, hash, or dont_ and one of these"
            }
            Self::Repeated(Key::Uid | Key::Euid) => "a rule has room for one of uid and euid",
            Self::Repeated(Key::Gid | Key::Egid) => "a rule has room for one of gid and egid",
            Self::Repeated(_) => "write a rule for each value",
            Self::NotANumber { value, .. } if value.ends_with('\r') => CR_LF,
            Self::NotANumber { key: Key::Fsmagic, .. } => {
                "a hexadecimal number, as in fsmagic=0xef53"
            }
            Self::NotANumber { .. } => "a decimal number; the kernel knows no user or group names",
            Self::OutOfRange { .. } => return None,
            Self::BadUuid => "as blkid prints it: fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
            Self::EmptyListItem(_) => "no separator at the ends, and one between two items",
            Self::UnavailableAlgorithm(_) => "build the algorithm into the kernel, or leave it out",
            Self::UndefinedLabel(_) => {
                "load a first policy without labels, or a security module that knows them"
            }
            Self::DigestTypeAfterAppraiseType => {
                "write digest_type=verity in front of appraise_type=sigv3"
            }
            Self::Sigv3NeedsVerity => {
                "write digest_type=verity before it; Linux 7.1 and later accept it alone"
            }
            Self::Sigv3ExcludesModsig => "write imasig|modsig before sigv3, or a rule for each",
            Self::VerityNeedsSigv3 => "with digest_type=verity it is appraise_type=sigv3",
            Self::TemplateNeedsMeasure => {
                "write measure in front of it; other actions have no template"
            }
            Self::KeyNotForFunc { key: Key::Keyrings, .. } => "it goes with func=KEY_CHECK",
            Self::KeyNotForFunc { key: Key::Label, .. } => "it goes with func=CRITICAL_DATA",
            Self::KeyNotForFunc { key: Key::AppraiseType, func } => match func {
                Some(Func::SetxattrCheck) => "leave it out",
                _ => "imasig|modsig goes with MODULE_CHECK and the two of kexec; write imasig",
            },
            Self::KeyNeedsAction { .. } | Self::KeyNotForFunc { .. } => "leave it out",
            Self::ActionNotForFunc { func: Func::SetxattrCheck, .. } => {
                "SETXATTR_CHECK goes with appraise alone"
            }
            Self::ActionNotForFunc { .. } => "this can only be measured: measure or dont_measure",
            Self::SetxattrNeedsAlgos => "add appraise_algos=sha256,sha384,sha512",
            Self::BlacklistNeedsModsig => "add appraise_type=imasig|modsig, or leave the flag out",
            Self::VerityNeedsSignature => "add appraise_type=sigv3 behind digest_type=verity",
            Self::EmptyFile | Self::NoRules => "the kernel takes no policy without rules",
            Self::NoFinalNewline => {
                "end the last line with a newline; without it the kernel reads on behind the end \
                 of the file, and may crash"
            }
            Self::NulByte => "remove the byte",
            Self::LineTooLong { .. } => "load the policy as a file: write its path",
        };
        Some(text.to_string())
    }
}

const CR_LF: &str = "the line ends in CR LF; the kernel wants LF alone";

fn word_hint(word: &str, meant: Option<&str>) -> Option<String> {
    if word.starts_with('#') {
        let hint = "put the comment on a line of its own; Linux 6.14 and later accept it here";
        return Some(String::from(hint));
    }
    if word.ends_with('\r') {
        return Some(String::from(CR_LF));
    }
    if let Some(hint) = unequal(word) {
        return Some(hint);
    }
    meant.map(|meant| format!("did you mean {meant}?"))
}

/// The kernel has no `!=`.
fn unequal(word: &str) -> Option<String> {
    let (name, value) = word.split_once("!=")?;
    let key = Key::ALL.iter().find(|key| key.name() == name)?;
    Some(match (key.compares_ids(), value) {
        (true, "0") => format!("the kernel knows =, < and >: write {name}>0"),
        (true, value) => format!(
            "the kernel knows =, < and >: write two rules, with {name}<{value} and {name}>{value}"
        ),
        (false, value) => {
            format!("the kernel knows no !=: write an exclusion above it, dont_ and {name}={value}")
        }
    })
}

fn value_hint(key: Key, value: &str, meant: Option<&str>) -> Option<String> {
    if value.ends_with('\r') {
        return word_hint(value, None);
    }
    if key == Key::Func && value.contains([',', '|']) {
        return Some(String::from("one func a rule; write a rule for each"));
    }
    if let Some(meant) = meant {
        return Some(format!("did you mean {}={meant}?", key.name()));
    }
    let known = match key {
        Key::Mask => {
            "MAY_EXEC, MAY_WRITE, MAY_READ or MAY_APPEND, with ^ in front for \"among others\""
        }
        Key::AppraiseType => "imasig, imasig|modsig or sigv3",
        Key::DigestType => "verity",
        Key::AppraiseFlag => "check_blacklist",
        Key::AppraiseAlgos => "names as in sha256,sha512, with a comma between and no space",
        _ => return None,
    };
    Some(format!("known: {known}"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord { word, .. } => write!(f, "unknown word {word:?}"),
            Self::EmptyValue(key) => write!(f, "{}= without a value", key.name()),
            Self::UnknownValue { key, value, .. } => write!(f, "unknown {} {value:?}", key.name()),
            Self::NeedsKernel { what, since } => write!(f, "{what} needs Linux {since}"),
            Self::NotConfigured { what, option } => {
                write!(f, "{what} needs a kernel with {option}")
            }
            Self::ActionRepeated => f.write_str("a second action"),
            Self::NoAction => f.write_str("no action"),
            Self::Repeated(key) => write!(f, "a second condition on {}", place_of(*key)),
            Self::NotANumber { key, value } => {
                write!(f, "{} is not a number: {value:?}", key.name())
            }
            Self::OutOfRange { key, maximum } => {
                write!(f, "{} is too large or negative, the most is {maximum}", key.name())
            }
            Self::BadUuid => f.write_str("not a UUID"),
            Self::EmptyListItem(key) => write!(f, "an empty item in {}", key.name()),
            Self::UnavailableAlgorithm(name) => {
                write!(f, "this kernel cannot compute the hash algorithm {name}")
            }
            Self::UndefinedLabel(key) => {
                write!(f, "{} is a label that no security module in force knows", key.name())
            }
            Self::DigestTypeAfterAppraiseType => f.write_str("digest_type behind appraise_type"),
            Self::Sigv3NeedsVerity => {
                f.write_str("appraise_type=sigv3 without digest_type=verity in front")
            }
            Self::VerityNeedsSigv3 => {
                f.write_str("an fs-verity digest with a signature of another version than 3")
            }
            Self::Sigv3ExcludesModsig => f.write_str("imasig|modsig after sigv3"),
            Self::TemplateNeedsMeasure => f.write_str("template without measure in front"),
            Self::KeyNeedsAction { key, action } => {
                write!(f, "{} goes with {action} alone", key.name())
            }
            Self::KeyNotForFunc { key, func: Some(func) } => {
                write!(f, "{} does not go with func={func}", key.name())
            }
            Self::KeyNotForFunc { key, func: None } => {
                write!(f, "{} does not go with a rule without func", key.name())
            }
            Self::ActionNotForFunc { action, func } => {
                write!(f, "{action} does not go with func={func}")
            }
            Self::SetxattrNeedsAlgos => f.write_str("func=SETXATTR_CHECK without appraise_algos"),
            Self::BlacklistNeedsModsig => {
                f.write_str("appraise_flag=check_blacklist without appraise_type=imasig|modsig")
            }
            Self::VerityNeedsSignature => {
                f.write_str("an fs-verity digest is appraised by signature alone")
            }
            Self::EmptyFile => f.write_str("the file is empty"),
            Self::NoRules => f.write_str("no rule"),
            Self::NoFinalNewline => f.write_str("the last line does not end in a newline"),
            Self::NulByte => f.write_str("a NUL byte"),
            Self::LineTooLong { maximum } => {
                write!(f, "a line of more than {maximum} bytes does not fit one write")
            }
        }
    }
}

/// What a key asks about, for keys that share one place in `struct ima_rule_entry`.
const fn place_of(key: Key) -> &'static str {
    match key {
        Key::Uid | Key::Euid => "uid or euid",
        Key::Gid | Key::Egid => "gid or egid",
        other => other.name(),
    }
}

/// Bytes for a message: what is not UTF-8 replaced, and no more than a line of it.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    match bytes.get(..MOST) {
        Some(start) if bytes.len() > MOST => format!("{}...", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
