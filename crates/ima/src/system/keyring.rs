//! The kernel's keyrings: which there are, and what is in them.
//!
//! `/proc/keys` lists what the reader may view (`proc_keys_show` in `security/keys/proc.c`):
//! `serial flags usage timeout permissions uid gid type description`. Which key is in which
//! keyring, `keyctl(KEYCTL_READ)` tells.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::{fs, io};

use ima_format::xattr::KeyId;

use super::Sight;

/// The keyrings that IMA looks at, and the ones behind them.
pub const KEYRINGS: [&str; 7] = [
    ".ima",
    "_ima",
    ".evm",
    ".builtin_trusted_keys",
    ".secondary_trusted_keys",
    ".machine",
    ".ima_blacklist",
];

/// A keyring of the kernel's.
#[derive(Debug, Clone)]
pub struct Keyring {
    /// Its name, with the dot of those that the kernel guards.
    pub name: String,
    /// What is in it.
    pub members: Members,
}

/// What is seen of a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// The kernel has none of that name.
    Absent,
    /// It is not seen without root; the kernel may have it, or not.
    Hidden,
    /// It is there, and what is in it may not be read.
    Unreadable,
    /// These keys.
    Keys(Vec<Key>),
}

impl Keyring {
    /// Its keys, where they are seen.
    pub fn keys(&self) -> Option<&[Key]> {
        match &self.members {
            Members::Keys(keys) => Some(keys),
            _ => None,
        }
    }
}

/// A key in a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The kernel's description: for a certificate, its subject's names and its key
    /// identifier.
    pub description: String,
    /// The last four bytes of the identifier.
    pub key_id: Option<KeyId>,
}

/// Why a keyring could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// `/proc/keys` cannot be read.
    #[error("/proc/keys: {0}")]
    List(io::Error),
    /// The kernel has no keyring of that name, or does not show it.
    #[error("the kernel shows no keyring {0}")]
    Unknown(String),
}

/// Finds a keyring by name.
pub(super) fn find(proc: &Path, name: &str) -> Result<i32, KeyringError> {
    let list = fs::read(proc.join("keys")).map_err(KeyringError::List)?;
    let list = String::from_utf8_lossy(&list);
    let found = keyrings(&list).find(|(_, found)| *found == name).map(|(serial, _)| serial);
    found.ok_or_else(|| KeyringError::Unknown(name.to_owned()))
}

/// What is seen of the keyrings of [`KEYRINGS`].
pub(super) fn read(proc: &Path, sight: &mut Sight<'_>) -> Vec<Keyring> {
    let list = sight.text(&proc.join("keys"));
    let unlisted = match list {
        Some(_) if sees_all(proc) => Members::Absent,
        _ => Members::Hidden,
    };
    let list = list.unwrap_or_default();
    let keyring = |name: &str| {
        let serial = keyrings(&list).find(|(_, keyring)| *keyring == name);
        let members = match serial.map(|(serial, _)| syscall::members(serial)) {
            None => unlisted.clone(),
            Some(Ok(members)) => Members::Keys(members.into_iter().map(describe).collect()),
            Some(Err(error)) => {
                sight.note(format!("what is in {name}"), &error);
                Members::Unreadable
            }
        };
        Keyring { name: name.to_owned(), members }
    };
    KEYRINGS.map(keyring).into()
}

/// Whether `/proc/keys` lists all keyrings of the kernel's for this process: they let root look
/// at them, who is root outside of any user namespace.
fn sees_all(proc: &Path) -> bool {
    let map = fs::read_to_string(proc.join("self/uid_map")).unwrap_or_default();
    let mut first = map.split_whitespace();
    let is_initial = map.is_empty() || (first.next(), first.next()) == (Some("0"), Some("0"));
    is_initial && rustix::process::geteuid().is_root()
}

/// The keyrings in the text of `/proc/keys`: serial numbers and names. The kernel's own
/// belong to root; a user's keyring of the same name is not meant.
fn keyrings(list: &str) -> impl Iterator<Item = (i32, &str)> {
    list.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let serial = i32::from_str_radix(fields.next()?, 16).ok()?;
        let (uid, gid) = (fields.nth(4)?, fields.next()?);
        if (uid, gid, fields.next()?) != ("0", "0", "keyring") {
            return None;
        }
        // the description ends with a count: `: 2`, `: empty`
        Some((serial, fields.next()?.strip_suffix(':')?))
    })
}

fn describe(serial: i32) -> Key {
    match syscall::describe(serial) {
        // type;uid;gid;permissions;description
        Ok(text) => {
            let description = text.splitn(5, ';').last().unwrap_or_default().to_owned();
            let key_id = key_id(&description);
            Key { description, key_id }
        }
        Err(error) => Key { description: format!("key {serial:#x}: {error}"), key_id: None },
    }
}

/// A certificate's description ends with its identifier in hexadecimal
/// (`x509_key_preparse`).
fn key_id(description: &str) -> Option<KeyId> {
    let identifier = description.rsplit(": ").next()?;
    identifier.get(identifier.len().checked_sub(8)?..)?.parse().ok()
}

/// Adds a certificate in DER to a keyring; the kernel decides.
pub(super) fn add(keyring: i32, der: &[u8]) -> io::Result<()> {
    syscall::add_asymmetric(keyring, der)
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The key system calls, which neither libc nor rustix wraps.
mod syscall {
    use super::{c_string, io, CStr};

    const KEYCTL_DESCRIBE: libc::c_int = 6;
    const KEYCTL_READ: libc::c_int = 11;

    /// The serial numbers in a keyring.
    pub(super) fn members(keyring: i32) -> io::Result<Vec<i32>> {
        let bytes = read(KEYCTL_READ, keyring)?;
        let serials = bytes.chunks_exact(4);
        Ok(serials.filter_map(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes).collect())
    }

    /// A key's description.
    pub(super) fn describe(key: i32) -> io::Result<String> {
        let bytes = read(KEYCTL_DESCRIBE, key)?;
        let text = CStr::from_bytes_until_nul(&bytes).map_or(&bytes[..], CStr::to_bytes);
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Reads what an operation gives, with room enough.
    fn read(operation: libc::c_int, key: i32) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0_u8; 4096];
        loop {
            // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which
            // outlives the call
            let length = unsafe {
                libc::syscall(libc::SYS_keyctl, operation, key, buffer.as_mut_ptr(), buffer.len())
            };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            if length <= buffer.len() {
                buffer.truncate(length);
                return Ok(buffer);
            }
            buffer.resize(length, 0);
        }
    }

    /// Adds an asymmetric key, which the kernel names itself.
    pub(super) fn add_asymmetric(keyring: i32, payload: &[u8]) -> io::Result<()> {
        let (kind, description) = (c_string("asymmetric")?, c_string("")?);
        // SAFETY: both strings end with NUL, the payload's length is its own, and the
        // kernel copies all three
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                kind.as_ptr(),
                description.as_ptr(),
                payload.as_ptr(),
                payload.len(),
                keyring,
            )
        };
        if serial < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyrings_are_found_by_name_and_owner() {
        let list = "\
02a1b2c3 I------     1 perm 1f0b0000     0     0 keyring   .ima: 2
0badf00d I--Q---     1 perm 3f010000  1000  1000 keyring   .ima: 1
1a2b3c4d I------     1 perm 1f030000     0     0 asymmetri .ima: an impostor: X509.rsa 01020304 []
7fffffff I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: empty
not a line at all
";
        let found: Vec<_> = keyrings(list).collect();
        assert_eq!(found, [(0x02a1_b2c3, ".ima"), (0x7fff_ffff, ".builtin_trusted_keys")]);
    }

    #[test]
    fn key_ids_end_descriptions() {
        let description =
            "imactl: Integrity IMA signing key: 8d0c3afe4b1e5b7e5f9b6d2f1f2e3d4ca14104d9";
        assert_eq!(key_id(description).unwrap().to_string(), "a14104d9");
        assert_eq!(key_id("no identifier"), None);
    }
}
