//! Errors of a keeper.

use std::io;
use std::path::{Path, PathBuf};

use crate::advice::Advice;
use crate::attest::pcr::PcrError;
use crate::attest::ListError;
use crate::digest::DigestError;

/// Why entries were not moved. No entry is lost: they are still in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The kernel has no staging.
    #[error("{}: the kernel cannot stage its measurement list", path.display())]
    NoStaging {
        /// The missing file.
        path: PathBuf,
    },
    /// Without PCR values, entries cannot be verified.
    #[error("no TPM with PCR values in sysfs: the list cannot be verified, so nothing is deleted")]
    NoTpm,
    /// Another keeper uses the directory.
    #[error("{}: another imactl log keep is using this directory", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// Another program has the list open.
    #[error("{}: in use by another program", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The kernel is about to start another kernel.
    #[error(
        "the kernel has suspended measuring for a kexec or reboot; it hands the list over itself"
    )]
    Suspended,
    /// Segments and list do not result in the PCRs.
    #[error("{}: segments and list do not result in the PCR values", directory.display())]
    Mismatch {
        /// The segments.
        directory: PathBuf,
    },
    /// The staged entries are not those of the last segment.
    #[error(
        "the staged entries are not the last segment: another program staged or deleted entries"
    )]
    Changed,
    /// A segment is missing.
    #[error("{}: expected this segment before later ones", path.display())]
    Gap {
        /// The segment.
        path: PathBuf,
    },
    /// The directory is not that of a boot.
    #[error("{}: not a directory of segments (boot-NUMBER)", path.display())]
    NotABoot {
        /// The directory.
        path: PathBuf,
    },
    /// The segments of the last boot, which the keeper continues.
    #[error("{}: the segments of the last boot, which imactl log keep continues", path.display())]
    LastBoot {
        /// The directory.
        path: PathBuf,
    },
    /// A file in the directory of a boot is not a segment.
    #[error("{}: not a segment", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A list cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The PCRs cannot be read.
    #[error(transparent)]
    Pcr(#[from] PcrError),
    /// Digests cannot be computed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl KeepError {
    /// Wraps an I/O error of a file.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// Whether a later cycle may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Suspended => true,
            Self::File { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
            }
            _ => false,
        }
    }
}

impl Advice for KeepError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoStaging { .. } => {
                Some("this needs Linux 7.2 with CONFIG_IMA_STAGING, and securityfs mounted")
            }
            Self::Mismatch { .. } => Some(
                "nothing was deleted; run imactl log verify on the segments, the staged entries \
                 and the list for the reason",
            ),
            Self::Changed | Self::Busy { .. } => {
                Some("only one program may stage and delete entries")
            }
            Self::File { source, .. } => match source.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => {
                    Some("free some space; until then the entries stay in the kernel")
                }
                Some(libc::EPERM | libc::EACCES) => Some("staging needs root (CAP_SYS_ADMIN)"),
                _ => None,
            },
            Self::LastBoot { .. } => {
                Some("they can be removed after the next boot; until then the list needs them")
            }
            Self::OtherFile { .. } => Some("move it to another directory"),
            Self::List(error) => error.advice(),
            _ => None,
        }
    }
}
