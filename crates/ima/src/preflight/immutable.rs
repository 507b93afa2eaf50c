//! EVM on the machine: its verdicts, and files that it makes immutable although software changes
//! them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ima_format::evm::{InodeId, Machine, Metadata, Protected};
use ima_format::hash::Digest;
use ima_format::policy::decide::EvmStatus;
use ima_format::policy::kernel::KernelVersion;

use super::paths::Paths;
use crate::container::source::{Entry, Source, SourceError, SourceFile};
use crate::container::{AttributeName, Item, ItemError};
use crate::digest::{DigestKind, FileHasher};
use crate::evm::{Coverage, EvmVerifier, Given, HmacKey, Verdict, Versions};
use crate::verify::{Keyring, Verifier};

/// EVM on a machine where it is enabled.
#[derive(Debug)]
pub struct Evm {
    /// The keys in `.evm`.
    pub keyring: Keyring,
    /// The HMAC key, if it has one.
    pub hmac: Option<HmacKey>,
    /// Its layout of the hashed bytes.
    pub machine: Machine,
    /// The attributes that it covers.
    pub protected: Protected,
    /// The UUID of the file system, or that EVM does not cover it; `None` for the one that the root has.
    pub fsuuid: Option<Option<[u8; 16]>>,
    /// The versions of signatures that it accepts.
    pub versions: Versions,
}

impl Evm {
    /// What a thread verifies with, files that all have one owner, if one is given.
    pub(crate) fn verifier(&self, kernel: KernelVersion, owner: Option<u32>) -> EvmVerifier<'_> {
        let given = Given { uid: owner, gid: owner, fsuuid: self.fsuuid, ..Given::default() };
        let (machine, protected) = (self.machine, self.protected.clone());
        let coverage = Coverage { machine, protected, given, ..Coverage::portable() };
        let verifier = Verifier::new(self.keyring.clone());
        EvmVerifier::new(verifier, kernel, coverage, self.hmac.as_ref()).accepting(self.versions)
    }
}

/// EVM's verdict on a file of the root.
pub(crate) fn verdict(
    verifier: &mut EvmVerifier<'_>,
    entry: &Entry,
    content: &dyn SourceFile,
) -> Result<Verdict, SourceError> {
    let size = entry.size().unwrap_or_default();
    verifier.verdict(&Held { entry, content, size }).map_err(|error| match error {
        ItemError::Read(error) => SourceError::Read(error),
        error => SourceError::Read(std::io::Error::other(error.to_string())),
    })
}

/// A file of a source, as an operation sees it.
struct Held<'a> {
    entry: &'a Entry,
    content: &'a dyn SourceFile,
    size: u64,
}

impl Item for Held<'_> {
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError> {
        Ok(self.content.attribute(name)?.map(Cow::Owned))
    }

    fn metadata(&self) -> Result<Metadata, ItemError> {
        Ok(self.entry.metadata())
    }

    fn inode(&self) -> Result<Option<InodeId>, ItemError> {
        Ok(self.content.inode()?)
    }

    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError> {
        Ok(self.content.digest(&mut FileHasher::default(), self.size, kind, &|_| {})?)
    }
}

/// Files that software of a running system changes or replaces, and which software that is.
const CHANGED: [(&str, &str); 19] = [
    ("/etc/passwd", "useradd, chsh"),
    ("/etc/group", "useradd"),
    ("/etc/shadow", "passwd"),
    ("/etc/gshadow", "gpasswd"),
    ("/etc/subuid", "useradd"),
    ("/etc/subgid", "useradd"),
    ("/etc/machine-id", "systemd"),
    ("/etc/hostname", "hostnamectl"),
    ("/etc/machine-info", "hostnamectl"),
    ("/etc/locale.conf", "localectl"),
    ("/etc/vconsole.conf", "localectl"),
    ("/etc/resolv.conf", "the DHCP client"),
    ("/etc/ld.so.cache", "ldconfig"),
    ("/etc/adjtime", "hwclock"),
    ("/etc/mtab", "mount"),
    ("/etc/timestamp", "OpenEmbedded's scripts"),
    ("/etc/random-seed", "the init scripts"),
    ("/etc/udev/hwdb.bin", "systemd-hwdb"),
    ("/etc/.updated", "systemd"),
];

/// A file that a portable signature makes immutable although software changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Immutable {
    /// Its path.
    pub path: PathBuf,
    /// The operation that changes it.
    pub by: &'static str,
}

/// Those of the root, in its order.
pub(super) fn find(
    root: &dyn Source,
    paths: &Paths,
    verifier: &mut EvmVerifier<'_>,
) -> Vec<Immutable> {
    let mut found = Vec::new();
    for entry in paths.entries.iter().filter(|entry| entry.size().is_some()) {
        let known = CHANGED.iter().find(|(path, _)| entry.path == Path::new(path));
        let by = match known {
            Some((_, by)) => by,
            None if entry.path.starts_with("/var") => "programs that keep data there",
            None => continue,
        };
        // one that cannot be read was reported
        let verdict = root.open(entry).and_then(|content| verdict(verifier, entry, &*content));
        if verdict.is_ok_and(|verdict| verdict.status() == EvmStatus::PassImmutable) {
            found.push(Immutable { path: entry.path.clone(), by });
        }
    }
    found
}
