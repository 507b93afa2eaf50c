//! The decision of a policy, and its effect on a file.
//!
//! | here | in the kernel |
//! |---|---|
//! | [`matches()`] | `ima_match_rules` (`ima_policy.c`) |
//! | [`Decider::decide`] | `ima_match_policy`, `ima_get_action` |
//! | [`Decider::process`] | `process_measurement` (`ima_main.c`), `ima_collect_measurement` (`ima_api.c`), `ima_appraise_measurement`, `xattr_verify` (`ima_appraise.c`) |
//! | [`Inode`] | `struct ima_iint_cache` |
//! | [`Operation`] | the order of hooks in `fs/exec.c`, `fs/namei.c`, `mm/util.c`, `fs/kernel_read_file.c` |
//!
//! This module does no I/O and computes no digests: digests and signature checks come from the caller, who has
//! the file and the keys ([`Evidence`]). Linux 6.1, 6.12 and 7.3 were run with thousands of generated policies,
//! files and operations and gave the same verdicts, causes, audit records and measurements;
//! `lab/tests/policy_decisions` repeats this.
//!
//! Not modelled: the effect of closing a written file on its attribute (`ima_update_xattr`), signatures by a key
//! in `.platform` for kexec, and LSM labels beyond equality.

mod appraise;
mod event;
mod file;
mod operation;
mod walk;

pub use appraise::{attribute_algorithm, Outcome, Verdict, Violation};
pub use event::{Capability, Credentials, Event, FileFacts, Labels};
pub use file::{
    AttributeRead, Cause, Evidence, EvmStatus, FileSystemTrust, Inode, Modsig, OpenFile,
    SignatureCheck, Signed,
};
pub use operation::{Behalf, Operation, OperationEvent};
pub use walk::{matches, Choice, Decider, Decision, Demands, Kind, Match};

pub use super::ast::{AccessSet, Subaction};
pub use crate::boot::AppraiseMode;

#[cfg(test)]
mod tests;
