//! The kernel's keyrings: found by name in `/proc/keys`, filled with `add_key`.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::certificate::{Certificate, Usage};
use crate::file;
use crate::syscall::{self, KeySerial};

/// A keyring of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// What was compiled into the kernel.
    BuiltinTrusted,
    /// What may sign what IMA appraises.
    Ima,
    /// What may, besides the built-in keys, sign certificates for `.ima`.
    SecondaryTrusted,
}

impl Keyring {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltinTrusted => ".builtin_trusted_keys",
            Self::Ima => ".ima",
            Self::SecondaryTrusted => ".secondary_trusted_keys",
        }
    }

    /// The option that makes the kernel have it.
    pub fn option(self) -> &'static str {
        match self {
            Self::BuiltinTrusted => "CONFIG_SYSTEM_TRUSTED_KEYRING",
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

/// Whether `.ima` holds a key that is not the kernel's own: with `CONFIG_IMA_APPRAISE_MODSIG`
/// the kernel puts the built-in key of its modules there, which signs no programs.
pub fn ima_holds_more_than_builtin(proc: &OwnedFd) -> Result<bool, Errno> {
    let in_ima = descriptions(find(proc, Keyring::Ima)?)?;
    let builtin = find(proc, Keyring::BuiltinTrusted).and_then(descriptions).unwrap_or_default();
    Ok(in_ima.iter().any(|key| !builtin.contains(key)))
}

/// Loads a DER certificate: the kernel decides.
pub fn load(keyring: KeySerial, der: &[u8]) -> Result<(), Errno> {
    let asymmetric = core::ffi::CStr::from_bytes_with_nul(b"asymmetric\0");
    syscall::add_key(asymmetric.map_err(|_| Errno::INVAL)?, der, keyring).map(drop)
}

/// Whether the keyring holds a key with a certificate's id and subject. Another certificate of
/// the same key is not held: it is for the kernel to judge.
pub fn holds_certificate(keyring: KeySerial, certificate: &Certificate) -> Result<bool, Errno> {
    let end = [&certificate.subject, &b": "[..], certificate.key_id.as_bytes(), b"\0"].concat();
    Ok(descriptions(keyring)?.iter().any(|key| key.ends_with(&end)))
}

/// Whether the keyring holds the key with this id (see [`Certificate::key_id`]).
pub fn holds(keyring: KeySerial, key_id: &str) -> Result<bool, Errno> {
    let end = [b": ", key_id.as_bytes(), b"\0"].concat();
    Ok(descriptions(keyring)?.iter().any(|key| key.ends_with(&end)))
}

/// Whether the key that signed a certificate is a built-in or secondary trusted one; `None`
/// if the certificate does not name it.
pub fn is_signer_trusted(proc: &OwnedFd, certificate: &Certificate) -> Option<bool> {
    let signer = certificate.signer_key_id.as_ref()?;
    let holds_it = |keyring| find(proc, keyring).and_then(|serial| holds(serial, signer));
    Some([Keyring::BuiltinTrusted, Keyring::SecondaryTrusted].map(holds_it).contains(&Ok(true)))
}

/// The descriptions of the keys in a keyring, `type;uid;gid;perm;description` and a NUL.
fn descriptions(keyring: KeySerial) -> Result<Vec<Vec<u8>>, Errno> {
    let keys = syscall::keyring_members(keyring)?.into_iter();
    Ok(keys.filter_map(|key| syscall::key_description(key).ok()).collect())
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
pub fn refusal(
    keyring: Keyring,
    errno: Errno,
    usage: Option<Usage>,
    signer_is_trusted: Option<bool>,
) -> &'static str {
    match (errno, keyring, signer_is_trusted, usage) {
        (Errno::NOKEY, Keyring::Ima, Some(true), Some(Usage::Authority)) => {
            "it is an authority's: .ima takes none since Linux 6.4"
        }
        (Errno::NOKEY, Keyring::Ima, Some(true), Some(Usage::Other)) => {
            "its key usage lacks digitalSignature, which .ima wants since Linux 6.4"
        }
        (Errno::NOKEY, Keyring::Ima, Some(true), _) => {
            "a secondary trusted key signed it, and the kernel lacks \
             CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY"
        }
        (Errno::NOKEY, ..) => {
            "it was signed by no key of .builtin_trusted_keys or .secondary_trusted_keys"
        }
        (Errno::KEYREJECTED, ..) => {
            "the signature on it is not by the trusted key it names, or it is blacklisted"
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
    fn a_signer_that_is_trusted_leaves_the_usage_to_blame() {
        let cause = |trusted, usage| refusal(Keyring::Ima, Errno::NOKEY, Some(usage), trusted);
        assert!(cause(Some(true), Usage::Authority).contains("authority"));
        assert!(cause(Some(true), Usage::Other).contains("digitalSignature"));
        assert!(cause(Some(true), Usage::Signer).contains("SECONDARY"));
        assert!(cause(Some(false), Usage::Authority).contains("signed by no key"));
        assert!(cause(None, Usage::Signer).contains("signed by no key"));
    }
}
