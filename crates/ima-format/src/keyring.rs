//! The kernel's keyrings as it shows them: lines of `/proc/keys`, descriptions of keys.
//!
//! Mirrors `proc_keys_show()` of `security/keys/proc.c` and `keyctl_describe_key()` of
//! `security/keys/keyctl.c`:
//!
//! | text | fields |
//! |---|---|
//! | `/proc/keys` | serial in hexadecimal, flags, usage, timeout, permissions, uid, gid, type (9 characters), description |
//! | `KEYCTL_DESCRIBE` | `type;uid;gid;permissions;description` |
//!
//! The description of a keyring in the list ends with `: N` or `: empty`. A user may give a key a
//! description with line ends, so that a part of it looks like a line of the list: ask the kernel
//! for the description of what was found ([`Description::is_keyring`]).

/// A keyring of the kernel's own, in `/proc/keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its serial number.
    pub serial: i32,
    /// Its name.
    pub name: &'a str,
}

/// The keyrings of root in the text of `/proc/keys`. A user's keyring of the same name is not one
/// of the kernel's.
pub fn listed(list: &[u8]) -> impl Iterator<Item = Listed<'_>> + '_ {
    list.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = core::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let serial = i32::from_str_radix(fields.next()?, 16).ok()?;
        let owner = (fields.nth(4)?, fields.next()?);
        if (owner, fields.next()?) != (("0", "0"), "keyring") {
            return None;
        }
        Some(Listed { serial, name: fields.next()?.strip_suffix(':')? })
    })
}

/// The kernel's description of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description<'a> {
    /// Type, such as `keyring` or `asymmetric`.
    pub kind: &'a [u8],
    /// User and group that it belongs to.
    pub owner: (&'a [u8], &'a [u8]),
    /// Its description; of a certificate, the subject's names and [`key_identifier`](Self::key_identifier).
    pub text: &'a [u8],
}

impl<'a> Description<'a> {
    /// Reads the result of `KEYCTL_DESCRIBE`, with or without its NUL.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        let mut fields = bytes.splitn(5, |&byte| byte == b';');
        let (kind, owner) = (fields.next()?, (fields.next()?, fields.next()?));
        fields.next()?;
        Some(Self { kind, owner, text: fields.next()? })
    }

    /// Whether it is root's keyring of this name.
    pub fn is_keyring(&self, name: &str) -> bool {
        let root = (&b"0"[..], &b"0"[..]);
        self.kind == b"keyring" && self.owner == root && self.text == name.as_bytes()
    }

    /// The names of a certificate's subject, and the hexadecimal digits after them
    /// (`x509_key_preparse()`).
    pub fn key_identifier(&self) -> Option<(&'a [u8], &'a [u8])> {
        let at = self.text.windows(2).rposition(|pair| pair == b": ")?;
        Some((self.text.get(..at)?, self.text.get(at + 2..)?))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const LIST: &[u8] = b"\
022dca02 I------     1 perm 1f0b0000     0     0 keyring   .secondary_trusted_keys: 1
14a0ad22 I------     1 perm 1f030000     0     0 asymmetri .ima: an impostor: X509.rsa 0123 []
0badf00d I--Q---     1 perm 3f010000  1000  1000 keyring   .ima: 1
1a2b3c4d I--Q---     3 perm 3f010000     0     0 keyring   .ima
0cf0a1b2 I------     1 perm 1f0f0000     0     0 keyring   .ima: empty
7fffffff I------     2 perm 1f0b0000     0 65534 keyring   _uid.0: 12
not a line \xff at all
\xff\xfe
";

    #[test]
    fn keyrings_are_found_by_their_whole_name_and_owner() {
        let found: Vec<_> = listed(LIST).map(|found| (found.serial, found.name)).collect();
        assert_eq!(found, [(0x022d_ca02, ".secondary_trusted_keys"), (0x0cf0_a1b2, ".ima")]);
    }

    #[test]
    fn a_description_has_type_owner_and_text() {
        let ima = Description::parse(b"keyring;0;0;1f0f0000;.ima\0").unwrap();
        assert!(ima.is_keyring(".ima") && !ima.is_keyring(".im") && !ima.is_keyring("ima"));
        let user = Description::parse(b"keyring;1000;0;1f0f0000;.ima\0").unwrap();
        assert!(!user.is_keyring(".ima"));
        let key = Description::parse(b"asymmetric;0;0;1f030000;Org: a;b: c: 8d0c3afe\0").unwrap();
        assert!(!key.is_keyring("Org: a;b: c: 8d0c3afe"));
        assert_eq!(key.key_identifier(), Some((&b"Org: a;b: c"[..], &b"8d0c3afe"[..])));
        assert_eq!(Description::parse(b"keyring;0;0;1f0f0000"), None);
        assert_eq!(Description::parse(b"user;0;0;0;x").unwrap().key_identifier(), None);
    }
}
