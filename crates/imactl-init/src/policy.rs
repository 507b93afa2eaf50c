//! IMA policies: the content of a file, and how it is loaded into the kernel.
//!
//! Mirrors `ima_write_policy()`, `ima_read_policy()`, `ima_open_policy()` and
//! `ima_release_policy()` of `security/integrity/ima/ima_fs.c`:
//!
//! - One writer at a time (`EBUSY`). Input that begins with `/` is a path: the kernel reads the file
//!   itself, through the writer's root directory and mounts, and appraises it if a rule for
//!   `func=POLICY_CHECK` says so. A newline ends the path; its limit is a page.
//! - Any other write is one rule of at most a page less one byte; the rest is silently cut off. It is
//!   denied (`EACCES`) if policies must be signed.
//! - The rules are put in force, or dropped, when the file is closed. `close()` never fails: a policy
//!   without a rule is dropped without an error.
//! - Without `CONFIG_IMA_WRITE_POLICY` the file is gone after the first policy (`ENOENT`), or, with
//!   `CONFIG_IMA_READ_POLICY`, busy for ever (`EBUSY`).

use alloc::vec::Vec;
use core::fmt;

use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::fs::{self, MemfdFlags, Mode, OFlags, XattrFlags};
use rustix::io::{self, Errno};

use crate::demand::Demand;
use crate::file;
use crate::text::Reason;

/// Larger policies are not read here; the kernel decides.
pub const READ_LIMIT: usize = 16 << 20;
/// The end of the name of a file with a policy's signature, as `imactl policy sign --detached` makes it.
pub const SIGNATURE_SUFFIX: &[u8] = b".sig";
/// The largest attribute that Linux supports (`XATTR_SIZE_MAX`).
pub const SIGNATURE_LIMIT: usize = 64 << 10;
/// The limit of one write, path or rule: a page less its last byte.
const WRITE_LIMIT: usize = 4096 - 1;

/// The properties of a policy file that matter before the kernel reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// How many rules it has.
    pub rules: usize,
    /// Why the kernel would reject it although each rule is valid.
    pub defect: Option<Defect>,
}

/// A fault that `ima_read_policy()` rejects, apart from rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The last line has no newline.
    NoFinalNewline,
    /// A NUL byte ends the text for the kernel.
    Nul,
    /// Lines end with carriage return and newline.
    CarriageReturn,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFinalNewline => "its last line does not end with a newline",
            Self::Nul => "it has a NUL byte",
            Self::CarriageReturn => "its lines end with a carriage return (DOS text)",
        })
    }
}

impl Policy {
    /// Reads a policy's text.
    pub fn parse(text: &[u8]) -> Self {
        let defect = if text.contains(&0) {
            Some(Defect::Nul)
        } else if text.windows(2).any(|pair| pair == b"\r\n") {
            Some(Defect::CarriageReturn)
        } else if !text.is_empty() && !text.ends_with(b"\n") {
            Some(Defect::NoFinalNewline)
        } else {
            None
        };
        Self { rules: rules(text).count(), defect }
    }
}

/// The lines that `ima_parse_add_rule()` parses as rules, with their numbers from 1.
pub fn rules(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines.filter_map(|(index, line)| {
        let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
        let rule = line.get(start..)?;
        (rule.first() != Some(&b'#')).then_some((index + 1, rule))
    })
}

/// Why a policy is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel's file could not be opened for writing.
    Open(Errno),
    /// The path was rejected.
    Path(Errno),
    /// A rule was rejected.
    Rule {
        /// Its line, from 1.
        line: usize,
        /// Its text.
        text: Vec<u8>,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The path cannot be passed to the kernel: it is too long, or has a newline.
    Unwritable,
    /// The name is not that of a regular file.
    NoFile,
}

/// Makes the kernel load the file at `path`, an absolute path.
pub fn load_by_path(securityfs: &OwnedFd, path: &[u8]) -> Result<(), Refusal> {
    if path.len() > WRITE_LIMIT || path.contains(&b'\n') || path.first() != Some(&b'/') {
        return Err(Refusal::Unwritable);
    }
    uninterrupted(|| {
        let kernel = open(securityfs)?;
        io::write(&kernel, path).map(drop).map_err(Refusal::Path)
    })
}

/// A file in memory with `text`, and `signature` as its `security.ima`. The kernel appraises it like any
/// other (`CONFIG_TMPFS_XATTR`), and reads it through `/proc/self/fd`.
pub fn signed_copy(text: &[u8], signature: &[u8]) -> Result<OwnedFd, Errno> {
    let copy = fs::memfd_create("policy", MemfdFlags::CLOEXEC)?;
    let mut left = text;
    while !left.is_empty() {
        let count = io::retry_on_intr(|| io::write(&copy, left))?;
        left = left.get(count..).unwrap_or_default();
    }
    fs::fsetxattr(&copy, "security.ima", signature, XattrFlags::empty())?;
    Ok(copy)
}

/// Writes the rules of `text` to the kernel one by one; a rejected rule undoes all of them.
pub fn load_by_content(securityfs: &OwnedFd, text: &[u8]) -> Result<(), Refusal> {
    let refusal = |line, text: &[u8], errno| Refusal::Rule { line, text: text.into(), errno };
    for (line, rule) in rules(text) {
        // The kernel would cut a long rule, and take one that begins with `/` for a path.
        match (rule.len() < WRITE_LIMIT, rule.first()) {
            (false, _) => return Err(refusal(line, rule, Errno::TOOBIG)),
            (_, Some(b'/')) => return Err(refusal(line, rule, Errno::INVAL)),
            _ => {}
        }
    }
    uninterrupted(|| {
        let kernel = open(securityfs)?;
        rules(text).try_for_each(|(line, rule)| {
            let written = io::write(&kernel, &[rule, b"\n"].concat());
            written.map(drop).map_err(|errno| refusal(line, rule, errno))
        })
    })
}

/// Runs `load` again if a signal interrupted it: an interrupted write invalidates the policy when the
/// file is closed, even if the write is repeated.
fn uninterrupted(load: impl Fn() -> Result<(), Refusal>) -> Result<(), Refusal> {
    loop {
        match load() {
            Err(refusal) if refusal.errno() == Some(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The text of the rules in force, if the kernel permits reading them.
pub fn in_force(securityfs: &OwnedFd) -> Option<Vec<u8>> {
    file::read_at(securityfs, b"ima/policy", READ_LIMIT).ok()
}

/// The demand of a policy's rules on further policies on a file system with this magic number.
pub fn demand(text: &[u8], magic: Option<u64>) -> Demand {
    Demand::of(rules(text).map(|(_, rule)| rule), magic)
}

fn open(securityfs: &OwnedFd) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    fs::openat(securityfs, "ima/policy", flags, Mode::empty()).map_err(Refusal::Open)
}

impl Refusal {
    /// The kernel's error, if the kernel was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open(errno) | Self::Path(errno) | Self::Rule { errno, .. } => Some(*errno),
            Self::Unwritable | Self::NoFile => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Rule { line, text, .. } = self {
            write!(f, "line {line}, \"{}\": ", Printable(text))?;
        }
        if let Some(errno) = self.errno() {
            write!(f, "{}: ", Reason(errno))?;
        }
        f.write_str(match (self, self.errno()) {
            (Self::Unwritable, _) => "its path is too long for the kernel, or has a newline in it",
            (Self::NoFile, _) => "it is not a regular file",
            (Self::Open(_), Some(Errno::NOENT | Errno::BUSY)) => {
                "the kernel accepts no further policy: without CONFIG_IMA_WRITE_POLICY it accepts \
                 only one"
            }
            (Self::Open(_), _) => "the kernel accepts no policy from this process",
            (Self::Path(_), Some(Errno::ACCESS)) => {
                "the policy in force requires signed policies: this one is unsigned, was changed \
                 after it was signed, or is signed by an unknown key (see cause= in the audit message)"
            }
            (Self::Rule { .. }, Some(Errno::ACCESS)) => "the policy in force requires signed \
            policies",
            (Self::Rule { .. }, Some(Errno::TOOBIG)) => "the rule is longer than a page",
            (Self::Path(_) | Self::Rule { .. }, Some(Errno::INVAL)) => {
                "a rule that this kernel rejects \
                 (the audit message of type 1807 with res=0 names it)"
            }
            (Self::Path(_), Some(Errno::NOENT)) => "the kernel does not find the file",
            (Self::Path(_), Some(Errno::PERM)) => "a security module denies it",
            _ => "see the kernel's messages",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_rules() {
        let text = b"# a comment\n\n \t\n  # another\n\tmeasure func=BPRM_CHECK\naudit\n";
        let found: Vec<_> = rules(text).collect();
        assert_eq!(found, [(5, &b"measure func=BPRM_CHECK"[..]), (6, b"audit")]);
        assert_eq!(Policy::parse(b"# only\n"), Policy::default());
    }

    #[test]
    fn comments_demand_nothing() {
        let rule = b"appraise func=POLICY_CHECK appraise_type=imasig\n";
        assert_eq!(demand(rule, None), Demand::Signature);
        assert_eq!(demand(&[b"#", &rule[..]].concat(), None), Demand::None);
    }

    #[test]
    fn what_the_kernel_chokes_on_is_found() {
        let defect = |text: &[u8]| Policy::parse(text).defect;
        assert_eq!(defect(b"audit\n"), None);
        assert_eq!(defect(b"audit"), Some(Defect::NoFinalNewline));
        assert_eq!(defect(b"audit\r\nmeasure\r\n"), Some(Defect::CarriageReturn));
        assert_eq!(defect(b"audit\n\0"), Some(Defect::Nul));
    }
}
