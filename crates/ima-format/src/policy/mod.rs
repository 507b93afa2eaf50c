//! IMA policies: parsed as the kernel parses them, checked, explained, decided.
//!
//! A policy is text with one rule per line: an action, and conditions that must all match.
//!
//! ```text
//! line      = *SEP ( [ comment ] / rule ) *SEP LF        SEP = space or tab
//! comment   = "#" anything
//! rule      = word *( 1*SEP word )                       one word is an action
//! action    = measure | dont_measure | appraise | dont_appraise | audit | dont_audit
//!           | hash | dont_hash
//! condition = func=FUNC | mask=[^]MASK
//!           | fsmagic=HEX | fsname=NAME | fs_subtype=NAME | fsuuid=UUID
//!           | (uid euid gid egid fowner fgroup)(= < >)DECIMAL
//!           | (obj_user obj_role obj_type subj_user subj_role subj_type)=LABEL
//! option    = appraise_type=(imasig | imasig|modsig | sigv3) | digest_type=verity
//!           | appraise_algos=ALGORITHM,... | appraise_flag=check_blacklist
//!           | permit_directio | pcr=DECIMAL | template=NAME
//!           | keyrings=NAME|... | label=NAME|...
//! ```
//!
//! The kernel accepts a policy as a whole or not at all: it stops at the first line that it rejects. [`Fault`]
//! lists the reasons besides misspelt words. The more surprising ones: a file whose last line has no newline, a
//! comment after a rule, CR LF, an order of words (`template=` after `measure`, `digest_type=` before
//! `appraise_type=`), `uid` and `euid` in one rule. Accepted, but not to be relied on: `+7` and `-0` as numbers,
//! any text after a UUID, a second `fsname=` or `pcr=`.
//!
//! | module | purpose | mirrors |
//! |---|---|---|
//! | [`lexer`], [`parse`] | text to rules, and faults | `ima_parse_add_rule`, `ima_parse_rule`, `ima_validate_rule` |
//! | [`ast`] | rules as types, and back to text | `struct ima_rule_entry`, `ima_policy_show` |
//! | [`kernel`] | version and configuration of a kernel, which decide what it accepts | |
//! | [`builtin`] | the kernel's own policies, and the presets of imactl | `default_measurement_rules` and the like |
//! | [`decide`] | the decision of a policy, and its effect on a file | `ima_match_policy`, `process_measurement` |
//! | [`lint`](mod@lint) | rules that are accepted but probably a mistake | |
//! | [`explain`](mod@explain), [`diff`](mod@diff) | a policy in words; differences between the decisions of two | |
//!
//! The parser is tested against Linux 6.1, 6.12 and 7.3: generated texts (some hundred thousand for the first
//! two) are loaded, each must be accepted or rejected as here, and the rules that the kernel shows
//! (`CONFIG_IMA_READ_POLICY`) must be those that are printed here (`lab/tests/policy_texts.rs`). A file without a
//! final newline is tested only on kernels that zero memory: the kernel reads undefined bytes after its end,
//! which made Linux 6.12 panic.

pub mod ast;
pub mod builtin;
pub mod decide;
pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod fault;
pub mod filesystem;
pub mod kernel;
pub mod lexer;
pub mod lint;
mod number;
pub mod parse;
mod space;
mod suggest;
pub mod version;

pub use ast::Policy;
pub use diagnostic::{Diagnostic, Location, Severity};
pub use diff::{diff, Diff};
pub use explain::explain;
pub use fault::{Fault, Refusal};
pub use kernel::{Kernel, KernelVersion};
pub use lint::check;
pub use parse::{read, Loading, Reading};
