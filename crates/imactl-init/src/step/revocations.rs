//! Loads revoked keys into `.ima_blacklist`, and denied digests into `.blacklist`.

use ima_format::blacklist::Entry;
use ima_format::printable::Printable;
use rustix::io::Errno;

use super::{Failure, Work};
use crate::file;
use crate::keyring::{self, Keyring};
use crate::plan::Origin;
use crate::say;
use crate::text::Reason;

/// Larger than any certificate or signature.
const SIZE_LIMIT: usize = 256 << 10;

impl Work<'_> {
    /// Loads a revocation. If one of the initramfs fails, the boot stops: the kernel would accept a revoked
    /// key or file. The real root can only add revocations.
    pub(super) fn revoke(&self, origin: Origin, name: &[u8]) -> Result<(), Failure> {
        let keyring = match name.ends_with(b".der") {
            true => Keyring::ImaBlacklist,
            false => Keyring::Blacklist,
        };
        let path = self.tree(origin).path_of(name);
        let (path, ring) = (Printable(&path), keyring.name());
        match self.load_revocation(origin, name, keyring) {
            Ok(()) => {
                say!(self.console, Info, "revocation {path} loaded into {ring}");
                Ok(())
            }
            Err((errno, cause)) => {
                let reason = Reason(errno);
                say!(
                    self.console,
                    Error,
                    "revocation {path} rejected by {ring}: {reason}: {cause}"
                );
                match origin {
                    Origin::Initramfs => Err(Failure::NotRevoked),
                    Origin::Root => Ok(()),
                }
            }
        }
    }

    fn load_revocation(
        &self,
        origin: Origin,
        name: &[u8],
        keyring: Keyring,
    ) -> Result<(), (Errno, &'static str)> {
        let content = self.tree(origin).open_file(name);
        let content = content.and_then(|opened| file::read(&opened, SIZE_LIMIT));
        let content = content.map_err(|errno| (errno, "it cannot be read"))?;
        let serial = keyring::find(self.proc, keyring)
            .map_err(|errno| (errno, "this kernel has no such keyring"))?;
        let loaded = match keyring {
            Keyring::Blacklist => {
                let split = Entry::split_signed(&content);
                let (entry, signature) = split.ok_or((Errno::INVAL, "it is no signed entry"))?;
                keyring::deny(serial, entry, signature)
            }
            _ => keyring::load(serial, &content),
        };
        match loaded {
            // the entry exists, and entries cannot be updated
            Err(Errno::EXIST | Errno::PERM) if self.is_denied(serial, &content) => Ok(()),
            loaded => loaded.map_err(|errno| (errno, keyring::refusal(keyring, errno, None, None))),
        }
    }

    /// Whether an entry is in the keyring.
    fn is_denied(&self, blacklist: keyring::KeySerial, content: &[u8]) -> bool {
        let Some((entry, _)) = Entry::split_signed(content) else { return false };
        keyring::holds_description(blacklist, entry) == Ok(true)
    }
}
