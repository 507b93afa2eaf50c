//! The kernel's keyrings: found by name in `/proc/keys`, filled with `add_key`.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::certificate::{Certificate, Usage};
use crate::file;
use crate::syscall::{self, KeySerial};

/// A keyring that this program puts certificates into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// What may sign what IMA appraises.
    Ima,
    /// What may, besides the built-in keys, sign certificates for `.ima`.
    SecondaryTrusted,
}

impl Keyring {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ima => ".ima",
            Self::SecondaryTrusted => ".secondary_trusted_keys",
        }
    }

    /// The option that makes the kernel have it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Ima => "CONFIG_INTEGRITY_TRUSTED_KEYRING",
            Self::SecondaryTrusted => "CONFIG_SECONDARY_TRUSTED_KEYRING",
        }
    }
}

/// `/proc/keys` on a machine with very many keys.
const PROC_KEYS_LIMIT: usize = 4 << 20;

/// Finds a keyring; `ENOKEY` where the kernel has none of this name.
///
/// A user's key may have a description that looks like a line of the list: the kernel is
/// asked again what each find is.
pub fn find(proc: &OwnedFd, keyring: Keyring) -> Result<KeySerial, Errno> {
    let list = file::read_at(proc, b"keys", PROC_KEYS_LIMIT)?;
    let end = [b";", keyring.name().as_bytes(), b"\0"].concat();
    let found = listed(&list, keyring.name()).find(|&serial| {
        syscall::key_description(serial)
            .is_ok_and(|found| found.starts_with(b"keyring;0;0;") && found.ends_with(&end))
    });
    found.ok_or(Errno::NOKEY)
}

/// How many keys a keyring holds.
pub fn count(keyring: KeySerial) -> Result<usize, Errno> {
    syscall::keyring_members(keyring).map(|keys| keys.len())
}

/// Loads a DER certificate: the kernel decides.
pub fn load(keyring: KeySerial, der: &[u8]) -> Result<(), Errno> {
    let asymmetric = core::ffi::CStr::from_bytes_with_nul(b"asymmetric\0");
    syscall::add_key(asymmetric.map_err(|_| Errno::INVAL)?, der, keyring).map(drop)
}

/// Whether the keyring holds this certificate's key.
pub fn holds(keyring: KeySerial, certificate: &Certificate) -> Result<bool, Errno> {
    let end = [b": ", certificate.key_id.as_bytes(), b"\0"].concat();
    let keys = syscall::keyring_members(keyring)?;
    Ok(keys.into_iter().filter_map(|key| syscall::key_description(key).ok()).any(
        |description: Vec<u8>| {
            description.starts_with(b"asymmetric;") && description.ends_with(&end)
        },
    ))
}

/// The keyrings of this name in the text of `/proc/keys`, whose lines (`proc_keys_show()`)
/// are `serial flags usage timeout perm uid gid type description`, where a keyring's
/// description ends with `: N` or `: empty`.
fn listed<'a>(list: &'a [u8], name: &'a str) -> impl Iterator<Item = KeySerial> + 'a {
    list.split(|&byte| byte == b'\n').filter_map(move |line| {
        let mut fields = core::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let serial = KeySerial::from_str_radix(fields.next()?, 16).ok()?;
        let is_it = fields.nth(6)? == "keyring" && fields.next()?.strip_suffix(':')? == name;
        is_it.then_some(serial)
    })
}

/// The likely cause of the kernel's refusal of a certificate.
pub fn refusal(keyring: Keyring, errno: Errno, certificate: Option<&Certificate>) -> &'static str {
    let usage = certificate.map(|certificate| certificate.usage);
    match (errno, keyring, usage) {
        (Errno::NOKEY, Keyring::Ima, Some(Usage::Authority)) => {
            "it is an authority's, and .ima takes none since Linux 6.4; or no trusted key signed it"
        }
        (Errno::NOKEY, Keyring::Ima, Some(Usage::Other)) => {
            "its key usage lacks digitalSignature, which .ima wants since Linux 6.4; \
             or no trusted key signed it"
        }
        (Errno::NOKEY, ..) => {
            "it was signed by no key of .builtin_trusted_keys or .secondary_trusted_keys"
        }
        (Errno::KEYREJECTED, ..) => {
            "the signature on it is not by the trusted key of its issuer's name, or it is blacklisted"
        }
        (Errno::NOPKG, ..) => "the kernel lacks its signature or hash algorithm",
        (Errno::BADMSG | Errno::INVAL, ..) => "it is no X.509 certificate in DER form",
        (Errno::PERM | Errno::ACCESS, ..) => "this keyring takes no keys from user space",
        (Errno::KEYEXPIRED, ..) => "its time is over",
        (Errno::DQUOT, ..) => "root's key quota is used up (kernel.keys.root_maxbytes)",
        (Errno::NODEV, ..) => "the kernel lacks the asymmetric key type",
        _ => "see the kernel's messages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
022dca02 I------     1 perm 1f0b0000     0     0 keyring   .secondary_trusted_keys: 1
14a0ad22 I------     1 perm 1f030000     0     0 asymmetri imactl test CA: 0123: X509.rsa 01 []
1a2b3c4d I--Q---     3 perm 3f010000     0     0 keyring   .ima
0cf0a1b2 I------     1 perm 1f0f0000     0     0 keyring   .ima: empty
7fffffff I------     2 perm 1f0b0000     0 65534 keyring   _uid.0: 12
";

    #[test]
    fn keyrings_are_found_by_their_whole_name() {
        let find = |name| listed(LIST.as_bytes(), name).collect::<Vec<_>>();
        assert_eq!(find(".ima"), [0x0cf0_a1b2]);
        assert_eq!(find(Keyring::SecondaryTrusted.name()), [0x022d_ca02]);
        assert_eq!(find("_uid.0"), [0x7fff_ffff]);
        assert!(find(".secondary").is_empty());
        assert!(find("imactl").is_empty(), "a key is no keyring");
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert_eq!(listed(b"\xff\xfe\nzz\n\n12 keyring .ima: 1\n", ".ima").count(), 0);
    }

    #[test]
    fn a_refused_authority_is_told_apart() {
        let authority = Certificate {
            subject: b"CA".to_vec(),
            issuer: b"CA".to_vec(),
            key_id: "00".into(),
            usage: Usage::Authority,
        };
        let cause = refusal(Keyring::Ima, Errno::NOKEY, Some(&authority));
        assert!(cause.contains("authority"));
        assert!(refusal(Keyring::SecondaryTrusted, Errno::NOKEY, None).contains("signed by no key"));
    }
}
