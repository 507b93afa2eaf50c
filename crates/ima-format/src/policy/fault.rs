//! Why a kernel rejects a rule or a policy.
//!
//! The kernel returns only `-EINVAL`; a [`Fault`] names the check in `ima_policy.c` that failed, and how to fix the
//! rule.

use alloc::format;
use alloc::string::String;
use core::fmt;

use super::ast::{Action, Func, Key};
use super::kernel::KernelVersion;
use super::lexer::Span;
use crate::{Error, ErrorKind};

/// The error for which a kernel rejects a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Neither an action nor a key with `=` and a value (`match_token`).
    UnknownWord {
        /// The word; bytes that are not UTF-8 are replaced.
        word: String,
        /// A similar word that is valid.
        meant: Option<String>,
    },
    /// A key and `=` without a value.
    EmptyValue(Key),
    /// A value that is not valid for the key.
    UnknownValue {
        /// The key.
        key: Key,
        /// Its value; bytes that are not UTF-8 are replaced.
        value: String,
        /// A similar value that is valid.
        meant: Option<String>,
    },
    /// A feature that this kernel does not have, but a later one does.
    NeedsKernel {
        /// Its spelling in a policy.
        what: String,
        /// The first version that has it.
        since: KernelVersion,
    },
    /// A feature that this kernel was built without.
    NotConfigured {
        /// Its spelling in a policy.
        what: &'static str,
        /// The option.
        option: &'static str,
    },
    /// A second action.
    ActionRepeated,
    /// No action.
    NoAction,
    /// A key that may be given once, or excludes another: `uid` and `euid`.
    Repeated(Key),
    /// A value that is not a number in the key's base.
    NotANumber {
        /// The key.
        key: Key,
        /// Its value.
        value: String,
    },
    /// A number that is out of the key's range.
    OutOfRange {
        /// The key.
        key: Key,
        /// The maximum.
        maximum: u64,
    },
    /// Not a UUID.
    BadUuid,
    /// An empty item in a list.
    EmptyListItem(Key),
    /// A hash algorithm that this kernel cannot compute.
    UnavailableAlgorithm(String),
    /// A label that no security module in force defines.
    UndefinedLabel(Key),
    /// `digest_type=` after `appraise_type=`.
    DigestTypeAfterAppraiseType,
    /// `appraise_type=sigv3` without `digest_type=verity` before it.
    Sigv3NeedsVerity,
    /// `appraise_type=` with another value than `sigv3` after `digest_type=verity`.
    VerityNeedsSigv3,
    /// `appraise_type=imasig|modsig` after `appraise_type=sigv3`.
    Sigv3ExcludesModsig,
    /// `template=` before the action, or with another action than `measure`.
    TemplateNeedsMeasure,
    /// A key that is valid with one action only.
    KeyNeedsAction {
        /// The key.
        key: Key,
        /// The action that it needs.
        action: Action,
    },
    /// A key that is not valid with the rule's `func=`, or without one.
    KeyNotForFunc {
        /// The key.
        key: Key,
        /// The `func=` of the rule.
        func: Option<Func>,
    },
    /// An action that is not valid with the rule's `func=`.
    ActionNotForFunc {
        /// The action.
        action: Action,
        /// The `func=` of the rule.
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
    /// No newline after the last line.
    NoFinalNewline,
    /// A NUL before the end.
    NulByte,
    /// A line that is longer than one write.
    LineTooLong {
        /// The maximum, in bytes.
        maximum: usize,
    },
}

/// A fault and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The fault.
    pub fault: Fault,
    /// The bytes in the text.
    pub span: Span,
    /// The line, counted from 1.
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

/// A fault's stable name for programs, its message, and its hint.
type Row = (&'static str, String, Option<String>);

impl Fault {
    /// A stable name for programs.
    pub fn name(&self) -> &'static str {
        self.row().0
    }

    /// How to fix it.
    pub fn hint(&self) -> Option<String> {
        self.row().2
    }

    fn row(&self) -> Row {
        let fixed = |name, message: &str, advice: &str| {
            (name, String::from(message), Some(String::from(advice)))
        };
        match self {
            Self::UnknownWord { word, meant } => (
                "unknown-word",
                format!("unknown word {word:?}"),
                word_hint(word, meant.as_deref()),
            ),
            Self::UnknownValue { key, value, meant } => (
                "unknown-value",
                format!("unknown {} {value:?}", key.name()),
                value_hint(*key, value, meant.as_deref()),
            ),
            Self::EmptyValue(key) => (
                "empty-value",
                format!("{}= without a value", key.name()),
                Some(format!("write {}= and its value without a space between", key.name())),
            ),
            Self::NeedsKernel { what, since } => (
                "needs-newer-kernel",
                format!("{what} needs Linux {since}"),
                Some(format!(
                    "leave it out, or load this policy on Linux {since} and later{}",
                    history(*since)
                )),
            ),
            Self::NotConfigured { what, option } => (
                "not-configured",
                format!("{what} needs a kernel with {option}"),
                Some(format!("build the kernel with {option}=y")),
            ),
            Self::ActionRepeated => {
                fixed("repeated-action", "a second action", "write one rule per action")
            }
            Self::NoAction => fixed(
                "no-action",
                "no action",
                "start the rule with measure, appraise, audit, hash, or dont_ and one of these",
            ),
            Self::Repeated(key) => {
                let (position, advice) = match key {
                    Key::Uid | Key::Euid => ("uid or euid", "a rule has room for one of uid and euid"),
                    Key::Gid | Key::Egid => ("gid or egid", "a rule has room for one of gid and egid"),
                    key => (key.name(), "write one rule per value"),
                };
                fixed("repeated-key", &format!("a second condition on {position}"), advice)
            }
            Self::NotANumber { key, value } => {
                let advice = match key {
                    _ if value.ends_with('\r') => CR_LF,
                    Key::Fsmagic => "write a hexadecimal number, as in fsmagic=0xef53",
                    _ => "write a decimal number; the kernel knows no user or group names",
                };
                fixed("not-a-number", &format!("{} is not a number: {value:?}", key.name()), advice)
            }
            Self::OutOfRange { key, maximum } => {
                let name = key.name();
                let message = format!("{name} is too large or negative; the maximum is {maximum}");
                ("out-of-range", message, None)
            }
            Self::BadUuid => fixed(
                "bad-uuid",
                "not a UUID",
                "write it as blkid prints it: fsuuid=8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6",
            ),
            Self::EmptyListItem(key) => fixed(
                "empty-list-item",
                &format!("an empty item in {}", key.name()),
                "write one separator between two items, and none at the ends",
            ),
            Self::UnavailableAlgorithm(name) => fixed(
                "unavailable-algorithm",
                &format!("this kernel cannot compute the hash algorithm {name}"),
                "build the algorithm into the kernel, or leave it out",
            ),
            Self::UndefinedLabel(key) => fixed(
                "undefined-label",
                &format!("{} is a label that no security module in force defines", key.name()),
                "load a first policy without labels, or a security module that defines them",
            ),
            Self::DigestTypeAfterAppraiseType => fixed(
                "digest-type-after-appraise-type",
                "digest_type= after appraise_type=",
                "write digest_type=verity before appraise_type=sigv3",
            ),
            Self::Sigv3NeedsVerity => fixed(
                "sigv3-needs-verity",
                "appraise_type=sigv3 without digest_type=verity before it",
                "write digest_type=verity before it; Linux 7.1 and later accept it alone",
            ),
            Self::Sigv3ExcludesModsig => fixed(
                "sigv3-excludes-modsig",
                "appraise_type=imasig|modsig after appraise_type=sigv3",
                "write imasig|modsig before sigv3, or one rule per type",
            ),
            Self::VerityNeedsSigv3 => fixed(
                "verity-needs-sigv3",
                "digest_type=verity with another appraise_type= than sigv3",
                "write appraise_type=sigv3",
            ),
            Self::TemplateNeedsMeasure => fixed(
                "template-needs-measure",
                "template= without measure before it",
                "write measure before it; other actions have no template",
            ),
            Self::KeyNeedsAction { key, action } => fixed(
                "key-needs-action",
                &format!("{}= is only valid with {action}", key.name()),
                "leave it out",
            ),
            Self::KeyNotForFunc { key, func } => {
                let whose = match func {
                    Some(func) => format!("with func={func}"),
                    None => String::from("in a rule without func="),
                };
                let advice = match (key, func) {
                    (Key::Keyrings, _) => "it is valid with func=KEY_CHECK",
                    (Key::Label, _) => "it is valid with func=CRITICAL_DATA",
                    (Key::AppraiseType, other) if *other != Some(Func::SetxattrCheck) => {
                        "imasig|modsig is valid with MODULE_CHECK and the kexec hooks; write imasig"
                    }
                    _ => "leave it out",
                };
                let message = format!("{}= is not valid {whose}", key.name());
                fixed("key-not-for-func", &message, advice)
            }
            Self::ActionNotForFunc { action, func } => fixed(
                "action-not-for-func",
                &format!("{action} is not valid with func={func}"),
                match func {
                    Func::SetxattrCheck => "SETXATTR_CHECK is only valid with appraise",
                    _ => "write measure or dont_measure: nothing else can be done here",
                },
            ),
            Self::SetxattrNeedsAlgos => fixed(
                "setxattr-needs-algos",
                "func=SETXATTR_CHECK without appraise_algos=",
                "add appraise_algos=sha256,sha384,sha512",
            ),
            Self::BlacklistNeedsModsig => fixed(
                "blacklist-needs-modsig",
                "appraise_flag=check_blacklist without appraise_type=imasig|modsig",
                "add appraise_type=imasig|modsig, or leave the flag out",
            ),
            Self::VerityNeedsSignature => fixed(
                "verity-needs-signature",
                "an fs-verity digest is appraised by signature only",
                "add appraise_type=sigv3 after digest_type=verity",
            ),
            Self::EmptyFile => {
                fixed("empty-file", "the file is empty", "the kernel accepts no policy without rules")
            }
            Self::NoRules => {
                fixed("no-rules", "no rule", "the kernel accepts no policy without rules")
            }
            Self::NoFinalNewline => fixed(
                "no-final-newline",
                "the last line does not end in a newline",
                "end the last line with a newline; without it the kernel reads past the end of the \
                 file, and may crash",
            ),
            Self::NulByte => fixed("nul-byte", "a NUL byte", "remove the byte"),
            Self::LineTooLong { maximum } => fixed(
                "line-too-long",
                &format!("a line of more than {maximum} bytes does not fit one write"),
                "load the policy as a file: write its path",
            ),
        }
    }
}

/// A note that the exact version of a feature is from the kernel's history, not from its source.
fn history(since: KernelVersion) -> String {
    match since.read_around() {
        (_, Some(read)) if read != since => {
            format!(" (by the kernel's history; read in the source of {read})")
        }
        _ => String::new(),
    }
}

const CR_LF: &str = "the line ends in CR LF; the kernel expects LF";

fn word_hint(word: &str, meant: Option<&str>) -> Option<String> {
    if word.starts_with('#') {
        let hint = "put the comment on a line of its own; Linux 6.14 and later accept it here";
        return Some(String::from(hint));
    }
    if word == "\\" {
        return Some(String::from("a rule cannot be continued: write it on one line"));
    }
    if word.ends_with('\r') {
        return Some(String::from(CR_LF));
    }
    if let Some(hint) = unequal(word) {
        return Some(hint);
    }
    meant.map(|meant| format!("did you mean {meant}?"))
}

/// Hint for `!=`, an operator that the kernel does not have.
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
        return Some(String::from("write one rule per func"));
    }
    if let Some(meant) = meant {
        return Some(format!("did you mean {}={meant}?", key.name()));
    }
    let known = match key {
        Key::Mask => {
            "MAY_EXEC, MAY_WRITE, MAY_READ or MAY_APPEND, with ^ before it for \"among others\""
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
        f.write_str(&self.row().1)
    }
}

/// Bytes in a message: those that are not UTF-8 are replaced, and the text is shortened to a line.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    match bytes.get(..MOST) {
        Some(start) if bytes.len() > MOST => format!("{}...", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
