//! Entries of the kernel's `.blacklist` keyring.
//!
//! Mirrors `blacklist_vet_description()` in `certs/blacklist.c`. An entry is a text:
//!
//! | form | denies |
//! |---|---|
//! | `bin:DIGEST` | files with this digest (of IMA's, under rules that ask for a signature), and EFI programs |
//! | `tbs:DIGEST` | certificates whose signed part has this digest, when they are loaded |
//!
//! The digest is in small hexadecimal digits, of any algorithm, at most 64 bytes. Entries are compiled in
//! (`CONFIG_SYSTEM_BLACKLIST_HASH_LIST`), or added to a running kernel with a signature of their text
//! by a built-in key (`CONFIG_SYSTEM_BLACKLIST_AUTH_UPDATE`, since Linux 5.19). A signed entry in a file
//! is the text, a line feed, and the signature, a detached PKCS#7 message.

use alloc::vec::Vec;
use core::fmt;

use crate::hash::MAX_DIGEST_SIZE;
use crate::hex::{self, Hex};

/// The kind of object that an entry revokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Files.
    Binary,
    /// Certificates.
    Certificate,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The kind of object that it revokes.
    pub kind: Kind,
    /// The digest.
    pub digest: Vec<u8>,
}

impl Entry {
    /// Reads an entry as the kernel does; `None` if it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (kind, digits) = match (text.strip_prefix(b"bin:"), text.strip_prefix(b"tbs:")) {
            (Some(digits), _) => (Kind::Binary, digits),
            (None, digits) => (Kind::Certificate, digits?),
        };
        let is_plain = !digits.is_empty() && !digits.iter().any(u8::is_ascii_uppercase);
        let digest = hex::decode(digits).ok().filter(|_| is_plain)?;
        (digest.len() <= MAX_DIGEST_SIZE).then_some(Self { kind, digest })
    }

    /// Splits a signed entry into its text and the signature; `None` if the text is not an entry.
    pub fn split_signed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let text = bytes.get(..end)?;
        Self::parse(text)?;
        Some((text, bytes.get(end + 1..)?))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Binary => "bin",
            Kind::Certificate => "tbs",
        };
        write!(f, "{kind}:{}", Hex(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn entries_are_read_as_the_kernel_reads_them() {
        for text in ["bin:00ff", "tbs:0123456789abcdef"] {
            assert_eq!(Entry::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        let long = std::format!("bin:{}", "00".repeat(MAX_DIGEST_SIZE + 1));
        for text in ["bin:", "bin:0", "bin:0F", "bin:0g", "bim:00", "bin00", "sha256:00", &*long] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Entry::split_signed(b"bin:00\n\x30\n"), Some((&b"bin:00"[..], &b"\x30\n"[..])));
        assert_eq!(Entry::split_signed(b"bin:0\n\x30"), None);
        assert_eq!(Entry::split_signed(b"bin:00"), None);
    }
}
