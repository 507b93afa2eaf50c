//! File capabilities: the text that `getcap` prints and `setcap` takes (libcap's `cap_from_text(3)`), and the value of
//! `security.capability` (`struct vfs_cap_data` in `include/uapi/linux/capability.h`, version 2), little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `magic_etc`: 0x02000000, and 1 if the capabilities are effective |
//! | 4, 12 | 4 | permitted, low and high |
//! | 8, 16 | 4 | inheritable, low and high |
//!
//! Rejected: text without names (`=ep`, all capabilities that the kernel has), and effective capabilities among others
//! that are not, which a file cannot have.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// `CAP_*` of `include/uapi/linux/capability.h` (6.12), by number.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// The size of a value.
pub const VALUE_SIZE: usize = 20;

/// The capabilities of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// Why text is not the capabilities of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No path from the root, or nothing after it.
    NoPath,
    /// No clause, as in `cap_net_raw=ep`.
    NotAClause(String),
    /// Only some of the capabilities are effective.
    PartlyEffective,
    /// A path is there twice.
    Twice,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPath => f.write_str("not a path that begins with / and capabilities"),
            Self::NotAClause(text) => {
                write!(f, "{text}: not capabilities by name, as in cap_net_raw,cap_net_admin=ep")
            }
            Self::PartlyEffective => {
                f.write_str("all capabilities of a file are effective, or none of them")
            }
            Self::Twice => f.write_str("the path is there twice"),
        }
    }
}

impl Capabilities {
    /// Parses clauses, separated by spaces.
    ///
    /// # Errors
    /// Text that is malformed or names no capabilities.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut capabilities = Self::default();
        for clause in text.split_ascii_whitespace() {
            let applied = capabilities.apply(clause);
            applied.ok_or_else(|| Fault::NotAClause(clause.to_owned()))?;
        }
        let Self { effective, permitted, inheritable } = capabilities;
        match effective {
            0 => Ok(capabilities),
            _ if effective == permitted | inheritable => Ok(capabilities),
            _ => Err(Fault::PartlyEffective),
        }
    }

    /// Applies a clause: names, then one or more operators with flags.
    fn apply(&mut self, clause: &str) -> Option<()> {
        let is_operator = |letter| matches!(letter, '=' | '+' | '-');
        let start = clause.find(is_operator)?;
        let (names, mut rest) = clause.split_at(start);
        // older versions of libcap print `= cap_net_raw+ep`
        if clause == "=" {
            *self = Self::default();
            return Some(());
        }
        let mut set = 0;
        for name in names.split(',') {
            let name = name.to_ascii_lowercase();
            let name = name.strip_prefix("cap_")?;
            let number = NAMES.iter().position(|known| *known == name)?;
            set |= 1_u64 << number;
        }
        while let Some(operator) = rest.chars().next() {
            let flags = rest.get(1..)?;
            let end = flags.find(is_operator).unwrap_or(flags.len());
            let (flags, next) = flags.split_at(end);
            if !flags.chars().all(|flag| "eip".contains(flag)) {
                return None;
            }
            for (flag, field) in [
                ('e', &mut self.effective),
                ('p', &mut self.permitted),
                ('i', &mut self.inheritable),
            ] {
                match (operator, flags.contains(flag)) {
                    ('=' | '+', true) => *field |= set,
                    ('-', true) | ('=', false) => *field &= !set,
                    _ => {}
                }
            }
            rest = next;
        }
        Some(())
    }

    /// The value of `security.capability`.
    pub fn encode(self) -> [u8; VALUE_SIZE] {
        let Self { effective, permitted, inheritable } = self;
        let flag = if effective == 0 { 0 } else { EFFECTIVE };
        let mut value = [0; VALUE_SIZE];
        let words = [
            REVISION_2 | flag,
            permitted as u32,
            inheritable as u32,
            (permitted >> 32) as u32,
            (inheritable >> 32) as u32,
        ];
        for (bytes, word) in value.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        value
    }
}

/// A path and the capabilities of the file.
pub type Line = (Vec<u8>, Capabilities);

/// Parses lines of `getcap -r /`: a path, a space, the capabilities; returns them sorted by path. Empty lines and
/// comments (`#`) are skipped.
///
/// # Errors
/// The number of a malformed line, from 1 on.
pub fn lines(text: &[u8]) -> Result<Vec<Line>, (usize, Fault)> {
    let mut files = BTreeMap::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) || line.starts_with(b"#") {
            continue;
        }
        let at = |fault| (number + 1, fault);
        let (path, capabilities) = file(line).map_err(at)?;
        if files.insert(path.to_owned(), capabilities).is_some() {
            return Err(at(Fault::Twice));
        }
    }
    Ok(files.into_iter().collect())
}

/// A line: the path may have spaces, and ends where all that follows are clauses.
fn file(line: &[u8]) -> Result<(&[u8], Capabilities), Fault> {
    let mut path = line;
    // from the end, so that the time is linear in the length
    while let Some(space) = path.iter().rposition(|byte| *byte == b' ') {
        let (before, word) = path.split_at(space);
        let word = core::str::from_utf8(word).unwrap_or("\u{fffd}").trim_matches(' ');
        if !word.is_empty() && Capabilities::default().apply(word).is_none() {
            if path.len() == line.len() {
                return Err(Fault::NotAClause(word.to_owned()));
            }
            break;
        }
        path = before;
    }
    let text = line.get(path.len()..).and_then(|text| core::str::from_utf8(text).ok());
    match text.map(str::trim) {
        Some(text) if !text.is_empty() && path.starts_with(b"/") => {
            Ok((path, Capabilities::parse(text)?))
        }
        _ => Err(Fault::NoPath),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn values_are_those_of_setcap() {
        let value = |text| Capabilities::parse(text).unwrap().encode();
        let net_raw = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for text in ["cap_net_raw=ep", "CAP_NET_RAW+ep", "= cap_net_raw+ep", "cap_net_raw=eip-i"] {
            assert_eq!(value(text), net_raw, "{text}");
        }
        assert_eq!(
            value("cap_chown,cap_bpf=p cap_syslog+i"),
            [0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 4, 0, 0, 0]
        );
    }

    #[test]
    fn other_text_is_rejected() {
        for text in ["=ep", "cap_net_raw", "net_raw=ep", "cap_none=ep", "cap_net_raw=x", "all=ep"] {
            let fault = Capabilities::parse(text).unwrap_err();
            assert_eq!(fault, Fault::NotAClause(text.to_owned()));
        }
        let partly = Capabilities::parse("cap_net_raw=ep cap_chown=p");
        assert_eq!(partly, Err(Fault::PartlyEffective));
    }

    #[test]
    fn a_path_may_have_spaces() {
        let text = b"# of the target\n\n/usr/bin/ping cap_net_raw=ep\n/a b=p c = cap_chown+ep\n";
        let paths: Vec<_> = lines(text).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, vec![b"/a b=p c".to_vec(), b"/usr/bin/ping".to_vec()]);
        for (text, line, fault) in [
            (&b"usr/bin/ping cap_net_raw=ep"[..], 1, Fault::NoPath),
            (b"/usr/bin/ping", 1, Fault::NoPath),
            (b"/a cap_chown=p\n/a cap_chown=ep", 2, Fault::Twice),
            (b"\n/a cap_chown=p [rootid=1]", 2, Fault::NotAClause("[rootid=1]".to_owned())),
            (b"/a cap_chown=p cap_bpf=ep", 1, Fault::PartlyEffective),
            (b"/a  ", 1, Fault::NoPath),
        ] {
            assert_eq!(lines(text).unwrap_err(), (line, fault));
        }
    }
}
