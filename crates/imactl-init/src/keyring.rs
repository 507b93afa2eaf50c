//! The kernel's keyrings: found by name in `/proc/keys`, filled with `add_key`.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use ima_format::hex::Hex;
use ima_format::keyring::{listed, Description};
use ima_format::x509::{Certificate, Purpose};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::file;
use crate::syscall;
pub use crate::syscall::KeySerial;

/// A keyring of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// Keys that are compiled into the kernel.
    BuiltinTrusted,
    /// Keys that sign files for IMA.
    Ima,
    /// Keys that sign metadata for EVM.
    Evm,
    /// Keys that, like the built-in ones, sign certificates for `.ima`.
    SecondaryTrusted,
    /// Keys whose signatures IMA no longer accepts.
    ImaBlacklist,
    /// Digests that the kernel denies.
    Blacklist,
}

impl Keyring {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltinTrusted => ".builtin_trusted_keys",
            Self::Ima => ".ima",
            Self::Evm => ".evm",
            Self::SecondaryTrusted => ".secondary_trusted_keys",
            Self::ImaBlacklist => ".ima_blacklist",
            Self::Blacklist => ".blacklist",
        }
    }

    /// The configuration option of the keyring.
    pub fn option(self) -> &'static str {
        match self {
            Self::BuiltinTrusted => "CONFIG_SYSTEM_TRUSTED_KEYRING",
            Self::Ima => "CONFIG_INTEGRITY_TRUSTED_KEYRING",
            Self::Evm => "CONFIG_EVM, CONFIG_INTEGRITY_TRUSTED_KEYRING",
            Self::SecondaryTrusted => "CONFIG_SECONDARY_TRUSTED_KEYRING",
            Self::ImaBlacklist => "CONFIG_IMA_BLACKLIST_KEYRING",
            Self::Blacklist => "CONFIG_SYSTEM_BLACKLIST_AUTH_UPDATE",
        }
    }
}

/// The limit on `/proc/keys`: large enough for a machine with very many keys.
const PROC_KEYS_LIMIT: usize = 4 << 20;

/// Finds a keyring; `ENOKEY` if the kernel has none of this name.
///
/// The description of a user's key may imitate a line of the list, so the kernel is asked for the
/// description of each match.
pub fn find(proc: &OwnedFd, keyring: Keyring) -> Result<KeySerial, Errno> {
    let list = file::read_at(proc, b"keys", PROC_KEYS_LIMIT)?;
    let found = listed(&list).filter(|found| found.name == keyring.name()).find(|found| {
        let description = syscall::key_description(found.serial).unwrap_or_default();
        Description::parse(&description).is_some_and(|it| it.is_keyring(keyring.name()))
    });
    Ok(found.ok_or(Errno::NOKEY)?.serial)
}

/// Whether `.ima` has a key that is not built in: with `CONFIG_IMA_APPRAISE_MODSIG` the kernel
/// itself adds the built-in module key, which signs no programs.
pub fn ima_holds_more_than_builtin(proc: &OwnedFd) -> Result<bool, Errno> {
    let in_ima = descriptions(find(proc, Keyring::Ima)?)?;
    let builtin = find(proc, Keyring::BuiltinTrusted).and_then(descriptions).unwrap_or_default();
    Ok(in_ima.iter().any(|key| !builtin.contains(key)))
}

/// Offers a DER certificate to a keyring; the kernel decides.
pub fn load(keyring: KeySerial, der: &[u8]) -> Result<(), Errno> {
    let asymmetric = CStr::from_bytes_with_nul(b"asymmetric\0");
    syscall::add_key(asymmetric.map_err(|_| Errno::INVAL)?, None, der, keyring).map(drop)
}

/// Adds an entry to `.blacklist`, with the signature of its text.
pub fn deny(blacklist: KeySerial, entry: &[u8], signature: &[u8]) -> Result<(), Errno> {
    let kind = CStr::from_bytes_with_nul(b"blacklist\0").map_err(|_| Errno::INVAL)?;
    let entry = CString::new(entry).map_err(|_| Errno::INVAL)?;
    syscall::add_key(kind, Some(&entry), signature, blacklist).map(drop)
}

/// Whether the keyring has a key with a certificate's identifier and subject. Another certificate of
/// the same key counts as absent: the kernel decides about it.
pub fn holds_certificate(keyring: KeySerial, certificate: &Certificate<'_>) -> Result<bool, Errno> {
    // the kernel may put another name of the subject first
    holds(keyring, certificate.key_identifier(), |names| names.ends_with(certificate.subject))
}

/// Whether the keyring has a key with this identifier (see [`Certificate::key_identifier`]) and
/// matching names.
fn holds(
    keyring: KeySerial,
    identifier: &[u8],
    names_fit: impl Fn(&[u8]) -> bool,
) -> Result<bool, Errno> {
    let digits = alloc::format!("{}", Hex(identifier));
    Ok(descriptions(keyring)?.iter().any(|key| {
        let key = Description::parse(key).and_then(|key| key.key_identifier());
        key.is_some_and(|(names, found)| found == digits.as_bytes() && names_fit(names))
    }))
}

/// Whether the key that signed a certificate is a built-in or secondary trusted one; `None` if the
/// certificate does not name it.
pub fn is_signer_trusted(proc: &OwnedFd, certificate: &Certificate<'_>) -> Option<bool> {
    let signer = certificate.authority_key_identifier?;
    let holds_it = |keyring| find(proc, keyring).and_then(|serial| holds(serial, signer, |_| true));
    Some([Keyring::BuiltinTrusted, Keyring::SecondaryTrusted].map(holds_it).contains(&Ok(true)))
}

/// Whether the keyring has a key with this description.
pub fn holds_description(keyring: KeySerial, wanted: &[u8]) -> Result<bool, Errno> {
    let is_wanted = |key: &Vec<u8>| {
        let text = key.strip_suffix(&[0]).unwrap_or(key);
        text.splitn(5, |byte| *byte == b';').nth(4) == Some(wanted)
    };
    Ok(descriptions(keyring)?.iter().any(is_wanted))
}

/// The descriptions of the keys in a keyring, `type;uid;gid;perm;description` and a NUL.
fn descriptions(keyring: KeySerial) -> Result<Vec<Vec<u8>>, Errno> {
    let keys = syscall::keyring_members(keyring)?.into_iter();
    Ok(keys.filter_map(|key| syscall::key_description(key).ok()).collect())
}

/// The likely reason why the kernel rejected a certificate.
pub fn refusal(
    keyring: Keyring,
    errno: Errno,
    purpose: Option<Purpose>,
    signer_is_trusted: Option<bool>,
) -> &'static str {
    match (errno, keyring, signer_is_trusted, purpose) {
        (Errno::NOKEY, Keyring::Ima | Keyring::Evm, Some(true), Some(Purpose::Authority)) => {
            "it is a CA certificate, which this keyring rejects since Linux 6.6"
        }
        (Errno::NOKEY, Keyring::Ima | Keyring::Evm, Some(true), Some(Purpose::Other)) => {
            "its key usage lacks digitalSignature, which this keyring requires since Linux 6.6"
        }
        (Errno::NOKEY, Keyring::Ima | Keyring::Evm, Some(true), _) => {
            "a secondary trusted key signed it, and the kernel lacks \
             CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY"
        }
        (Errno::NOKEY, Keyring::ImaBlacklist | Keyring::Blacklist, ..) => {
            "no key in .builtin_trusted_keys signed it"
        }
        (Errno::NOKEY, ..) => {
            "no key in .builtin_trusted_keys or .secondary_trusted_keys signed it"
        }
        (Errno::KEYREJECTED, ..) => {
            "its signature is not by the trusted key that it names, or it is blacklisted"
        }
        (Errno::NOPKG, ..) => "the kernel lacks its signature or hash algorithm",
        (Errno::BADMSG | Errno::INVAL, ..) => "it is not an X.509 certificate in DER form",
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

    #[test]
    fn a_signer_that_is_trusted_leaves_the_usage_to_blame() {
        let cause = |trusted, purpose| refusal(Keyring::Ima, Errno::NOKEY, Some(purpose), trusted);
        assert!(cause(Some(true), Purpose::Authority).contains("a CA certificate"));
        assert!(cause(Some(true), Purpose::Other).contains("digitalSignature"));
        assert!(cause(Some(true), Purpose::Signer).contains("SECONDARY"));
        assert!(cause(Some(false), Purpose::Authority).contains("signed it"));
        assert!(cause(None, Purpose::Signer).contains("signed it"));
    }
}
