//! Hands certificates and policies to the running kernel, and makes its errors
//! understandable.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{keyring, Ima, KeyringError, Machine};
use crate::advice::Advice;
use crate::key::certificate::Certificate;

/// Why the kernel did not load a certificate or a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The keyring is not there.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The kernel rejected a certificate.
    #[error("{keyring} rejects {subject}: {source}")]
    Certificate {
        /// The keyring's name.
        keyring: String,
        /// The certificate's subject.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no IMA to load a policy into.
    #[error("no IMA here: {0}")]
    NoIma(&'static str),
    /// The policy's path cannot be handed over.
    #[error("{}: {reason}", path.display())]
    Path {
        /// The policy's path.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The kernel's file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The kernel's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel rejected the policy.
    #[error("{}: rejected: {source}", path.display())]
    Policy {
        /// The policy's path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Advice for LoadError {
    /// The usual cause of the kernel's error, and the advice.
    fn advice(&self) -> Option<&'static str> {
        let code = match self {
            Self::Certificate { source, .. }
            | Self::Open { source, .. }
            | Self::Policy { source, .. } => source.raw_os_error()?,
            Self::Keyring(KeyringError::Unknown(_)) => {
                return Some("as root? A kernel without CONFIG_INTEGRITY_TRUSTED_KEYRING has none");
            }
            Self::NoIma(_) => return Some("imactl status shows the features of this kernel"),
            _ => return None,
        };
        Some(match (self, code) {
            (Self::Certificate { .. }, libc::ENOKEY) => {
                "no key in .builtin_trusted_keys or .secondary_trusted_keys signed it, or its key \
                 usage is not only digitalSignature: imactl keys check shows why"
            }
            (Self::Certificate { .. }, libc::EKEYREJECTED) => {
                "its signature is not by the key that it names, or it is blacklisted"
            }
            (Self::Certificate { .. }, libc::ENOPKG) => {
                "the kernel lacks its signature algorithm or hash"
            }
            (Self::Certificate { .. }, libc::EBADMSG) => "the kernel cannot parse it as X.509 DER",
            (Self::Certificate { .. } | Self::Open { .. }, libc::EACCES | libc::EPERM) => {
                "run it as root; a keyring without user write permission accepts no keys"
            }
            (Self::Open { .. }, libc::EBUSY | libc::ENOENT) => {
                "this kernel already has its one policy: CONFIG_IMA_WRITE_POLICY allows more"
            }
            (Self::Policy { .. }, libc::EACCES) => {
                "the policy in force requires signed policies: imactl policy sign FILE, with a \
                 key in .ima"
            }
            (Self::Policy { .. }, libc::EINVAL) => {
                "a rule is rejected: imactl policy check FILE and dmesg show which one"
            }
            (Self::Policy { .. }, libc::ENOENT) => "the kernel does not see a file of that name",
            _ => return None,
        })
    }
}

/// Adds a certificate to a keyring.
pub fn load_certificate(
    machine: &Machine,
    keyring: &str,
    certificate: &Certificate,
) -> Result<(), LoadError> {
    let serial = keyring::find(&machine.proc, keyring)?;
    add(serial, keyring, certificate).map(drop)
}

/// Adds a certificate to the keyring with this serial number, and gives that of the key.
pub fn add_certificate(keyring: i32, certificate: &Certificate) -> Result<i32, LoadError> {
    add(keyring, &format!("keyring {keyring}"), certificate)
}

fn add(serial: i32, keyring: &str, certificate: &Certificate) -> Result<i32, LoadError> {
    keyring::add(serial, certificate.der()).map_err(|source| LoadError::Certificate {
        keyring: keyring.to_owned(),
        subject: certificate.subject(),
        source,
    })
}

/// Has the kernel load the policy in a file: by its path, so that the kernel reads and
/// appraises the file itself.
pub fn load_policy(machine: &Machine, path: &Path) -> Result<(), LoadError> {
    match machine.ima() {
        Ima::Present => {}
        Ima::NoSecurityfs => return Err(LoadError::NoIma("securityfs is not mounted")),
        Ima::Absent => return Err(LoadError::NoIma("the kernel was built without it")),
    }
    let absolute = path
        .canonicalize()
        .map_err(|error| LoadError::Path { path: path.to_owned(), reason: error.to_string() })?;
    let refused =
        |reason: &str| Err(LoadError::Path { path: absolute.clone(), reason: reason.to_owned() });
    let bytes = OsStr::as_bytes(absolute.as_os_str());
    // `ima_write_policy`: one page holds the path and its NUL; a newline ends it
    if bytes.len() >= 4096 {
        return refused("the path is too long for the kernel");
    }
    if bytes.contains(&b'\n') {
        return refused("the kernel does not accept paths with a newline");
    }
    let kernel = machine.policy_file();
    let file = OpenOptions::new()
        .write(true)
        .open(&kernel)
        .map_err(|source| LoadError::Open { path: kernel, source })?;
    // one write: the kernel takes each for a policy or a rule of its own
    let refusal = match rustix::io::write(&file, bytes) {
        Ok(written) if written == bytes.len() => return Ok(()),
        Ok(_) => io::ErrorKind::WriteZero.into(),
        Err(errno) => errno.into(),
    };
    Err(LoadError::Policy { path: absolute, source: refusal })
}
