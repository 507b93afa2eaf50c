//! The kernel's keyrings and their contents.
//!
//! `/proc/keys` lists what the reader may view; `keyctl(KEYCTL_READ)` returns the keys in a keyring.

use std::ffi::CString;
use std::path::Path;
use std::{fs, io};

use ima_format::keyring::{listed, Description};
use ima_format::xattr::KeyId;

use super::Sight;

use crate::advice::Advice;
use crate::key::version_1::KeyV1;

/// The keyrings that IMA looks at, and the ones behind them.
pub const KEYRINGS: [&str; 8] = [
    ".ima",
    "_ima",
    ".evm",
    ".builtin_trusted_keys",
    ".secondary_trusted_keys",
    ".machine",
    ".ima_blacklist",
    BLACKLIST,
];

/// Has entries, each the description of a key.
pub const BLACKLIST: &str = ".blacklist";

/// A keyring of the kernel's.
#[derive(Debug, Clone)]
pub struct Keyring {
    /// Its name, with the dot of those that the kernel guards.
    pub name: String,
    /// Its keys.
    pub members: Members,
}

/// The visible state of a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// The kernel has none of that name.
    Absent,
    /// It is not seen without root; the kernel may have it, or not.
    Hidden,
    /// It is there, and its keys may not be read.
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
    #[error("keyring {0} not found")]
    Unknown(String),
}

impl Advice for KeyringError {}

/// Finds a keyring by name.
pub(super) fn find(proc: &Path, name: &str) -> Result<i32, KeyringError> {
    let list = fs::read(proc.join("keys")).map_err(KeyringError::List)?;
    serial(&list, name).ok_or_else(|| KeyringError::Unknown(name.to_owned()))
}

/// The serial number of a keyring in `/proc/keys`. The kernel is asked again what it is: a user's
/// key may have a description that looks like a line of the list.
fn serial(list: &[u8], name: &str) -> Option<i32> {
    let mut serials = listed(list).filter(|found| found.name == name).map(|found| found.serial);
    serials.find(|&serial| {
        let description = syscall::describe(serial).unwrap_or_default();
        Description::parse(&description).is_some_and(|it| it.is_keyring(name))
    })
}

/// The visible state of the keyrings of [`KEYRINGS`].
pub(super) fn read(proc: &Path, sight: &mut Sight<'_>) -> Vec<Keyring> {
    let list = sight.text(&proc.join("keys"));
    let unlisted = match list {
        Some(_) if sees_all(proc) => Members::Absent,
        _ => Members::Hidden,
    };
    let list = list.unwrap_or_default();
    let keyring = |name: &str| {
        let members = match serial(list.as_bytes(), name).map(syscall::members) {
            None => unlisted.clone(),
            Some(Ok(members)) => Members::Keys(members.into_iter().map(describe).collect()),
            Some(Err(error)) => {
                sight.note(format!("the keys in {name}"), &error);
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

fn describe(serial: i32) -> Key {
    let bytes = match syscall::describe(serial) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Key { description: format!("key {serial:#x}: {error}"), key_id: None };
        }
    };
    let Some(found) = Description::parse(&bytes) else {
        return Key { description: String::from_utf8_lossy(&bytes).into_owned(), key_id: None };
    };
    let digits = found.key_identifier().and_then(|(_, digits)| std::str::from_utf8(digits).ok());
    let key_id = digits.and_then(|it| it.get(it.len().checked_sub(8)?..)?.parse().ok());
    Key { description: String::from_utf8_lossy(found.text).into_owned(), key_id }
}

/// Adds a certificate in DER to a keyring, and gives the key's serial number; the kernel decides.
pub(super) fn add(keyring: i32, der: &[u8]) -> io::Result<i32> {
    syscall::add("asymmetric", "", der, keyring)
}

/// Adds a key for signatures of version 1 to the keyring with this serial number, and gives that of the
/// key.
///
/// # Errors
/// The kernel's answer.
pub fn add_version_1(keyring: i32, key: &KeyV1) -> io::Result<i32> {
    syscall::add("user", &key.to_string(), &key.payload, keyring)
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The key system calls, which neither libc nor rustix wraps.
mod syscall {
    use super::{c_string, io};

    const KEYCTL_DESCRIBE: libc::c_int = 6;
    const KEYCTL_READ: libc::c_int = 11;

    /// The serial numbers in a keyring.
    pub(super) fn members(keyring: i32) -> io::Result<Vec<i32>> {
        let bytes = read(KEYCTL_READ, keyring)?;
        let serials = bytes.chunks_exact(4);
        Ok(serials.filter_map(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes).collect())
    }

    /// A key's description.
    pub(super) fn describe(key: i32) -> io::Result<Vec<u8>> {
        read(KEYCTL_DESCRIBE, key)
    }

    /// Reads the result of an operation, with enough room.
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

    /// Adds a key of this type; the kernel names asymmetric keys itself.
    pub(super) fn add(
        kind: &str,
        description: &str,
        payload: &[u8],
        keyring: i32,
    ) -> io::Result<i32> {
        let (kind, description) = (c_string(kind)?, c_string(description)?);
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
        match i32::try_from(serial) {
            Ok(serial) if serial >= 0 => Ok(serial),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
