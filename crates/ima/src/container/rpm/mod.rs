//! RPM packages: signatures of their files are in the signature header (`RPMSIGTAG_FILESIGNATURES`).
//! rpm sets them as `security.ima` when it installs a file (`plugins/ima.c`).
//!
//! A signature is made over the digest in the main header (`RPMTAG_FILEDIGESTS`), for regular files that
//! are not ghosts. The payload is never changed. Before signing it is unpacked and compared with the
//! digests, unless the header is trusted. A worker opens a package and submits its files in chunks, which
//! any worker processes; the worker that completes the last chunk writes the package (`run.rs`).

mod package;
mod payload;
mod run;
mod write;

use std::path::PathBuf;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::Error as FormatError;

pub use ima_format::rpm::ReservedSpace;
pub use package::Identity;
pub use payload::PayloadFinding;

use super::error::{ContainerError, ItemError, WalkError};
use crate::advice::{Advice, Failure};
use crate::digest::DigestError;
use crate::key::SignError;

/// Packages, and how they are processed.
#[derive(Debug)]
pub struct Packages {
    /// Packages, and directories of them.
    pub roots: Vec<PathBuf>,
    /// The treatment of directories.
    pub directories: Directories,
    /// The treatment of the reserved space when signatures are set.
    pub reserved: ReservedSpace,
    /// Whether MD5 and SHA-1 digests are signed.
    pub weak_digests: WeakDigests,
    /// Whether the payload is read and compared with the digests.
    pub payload: Payload,
    /// Whether source packages are signed.
    pub source_packages: SourcePackages,
}

impl Packages {
    /// Packages with the usual treatment: reserved space is kept, the payload is not read, weak digests
    /// and source packages are refused.
    pub fn new(roots: Vec<PathBuf>, directories: Directories) -> Self {
        Self {
            roots,
            directories,
            reserved: ReservedSpace::Keep,
            weak_digests: WeakDigests::Refused,
            payload: Payload::Left,
            source_packages: SourcePackages::Refused,
        }
    }
}

/// The treatment of digests for which collisions can be made: MD5 and SHA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakDigests {
    /// They are not signed.
    Refused,
    /// They are.
    Signed,
}

/// The treatment of source packages, whose files are not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePackages {
    /// They are not signed.
    Refused,
    /// They are.
    Signed,
}

/// Whether the payload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Only the headers are.
    Left,
    /// It is unpacked, and each file's content compared with its digest.
    Unpacked,
}

/// Properties of a package that was processed, besides the reports on its files.
#[derive(Debug)]
pub struct PackageSummary {
    /// Its name, version and architecture.
    pub identity: Identity,
    /// The algorithm of its file digests.
    pub algorithm: HashAlgorithm,
    /// The digests of its own parts, compared; none if it is written.
    pub digests: Vec<DigestCheck>,
    /// Faults of the payload as a whole.
    pub payload: Vec<String>,
    /// Whether it was written; in a dry run, whether it would have been.
    pub changed: bool,
    /// Size of the signature header, its pad included, in bytes.
    pub signature_header_size: usize,
    /// Bytes of it that are reserved (`RPMSIGTAG_RESERVEDSPACE`, `RPMSIGTAG_RESERVED`).
    pub reserved_space: usize,
}

/// A digest that a package has of a part of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestCheck {
    /// Of which part: `header`, `payload`, `header+payload`.
    pub part: &'static str,
    /// Its algorithm.
    pub algorithm: HashAlgorithm,
    /// Whether it matches.
    pub matches: bool,
}

/// Properties of a file in the header of its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The digest of its content.
    pub digest: Option<Digest>,
    /// Whether it is a configuration file (`RPMFILE_CONFIG`), which the administrator may change.
    pub is_config: bool,
    /// Whether it is a ghost (`RPMFILE_GHOST`): the package owns it, but does not contain it.
    pub is_ghost: bool,
    /// The state of its content, if the payload was unpacked.
    pub content: Option<FileContent>,
}

/// Whether a file's content matches the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// It does.
    Matches,
    /// It does not.
    Differs,
    /// The payload does not have it.
    Missing,
    /// The header has no digest to compare it with.
    NoDigest,
}

impl std::fmt::Display for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Matches => "the content matches",
            Self::Differs => "the content in the payload does not match the header",
            Self::Missing => "the payload lacks this file",
            Self::NoDigest => "the header lacks its digest",
        })
    }
}

/// The treatment of a directory that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directories {
    /// The packages below it are processed, and other files skipped.
    Packages,
    /// It is an error.
    Refused,
}

/// Why a package was not processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// It was not found, or is no regular file.
    #[error(transparent)]
    Walk(WalkError),
    /// A directory was named among packages.
    #[error("a directory")]
    Directory,
    /// It cannot be read, signed or kept still.
    #[error(transparent)]
    File(#[from] ItemError),
    /// It is malformed.
    #[error("{0}")]
    Malformed(#[from] FormatError),
    /// The main header is not the one that the signature header has digests of.
    #[error("the main header does not match its {0} digest")]
    HeaderDigest(HashAlgorithm),
    /// It is a source package, whose files no kernel will see.
    #[error("a source package")]
    Source,
    /// The files' digests are of an algorithm that is no basis for a signature.
    #[error("its file digests are {0}, which is not collision resistant")]
    WeakDigests(HashAlgorithm),
    /// The header says different things of two names of one file.
    #[error("{0} and {1} are one file, but have different digests or sizes")]
    NamesDisagree(String, String),
    /// The payload as a whole does not match the header.
    #[error("{0}")]
    Payload(PayloadFinding),
    /// The payload is not the one that the header has a digest of.
    #[error("the payload does not match its {0} digest")]
    PayloadDigest(HashAlgorithm),
    /// A file in the payload does not match the header.
    #[error("{0}: {1}")]
    FileContent(String, FileContent),
}

impl Advice for PackageError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Walk(WalkError::SymbolicLink) => "name the package that it points to",
            Self::Directory => "-r processes the packages in it",
            Self::File(error) => return error.advice(),
            Self::Payload(PayloadFinding::Unknown(_)) => {
                "verify its OpenPGP signature, then sign the digests in its header with --trust-header"
            }
            Self::HeaderDigest(_)
            | Self::NamesDisagree(..)
            | Self::Payload(_)
            | Self::PayloadDigest(_)
            | Self::FileContent(..) => "it is damaged or was tampered with: download it again",
            Self::Source => "its files are sources, which no kernel appraises; --force signs them",
            Self::WeakDigests(_) => {
                "build it with %_binary_filedigest_algorithm 8, or give --allow-weak-digests"
            }
            _ => return None,
        })
    }
}

impl From<SignError> for PackageError {
    fn from(error: SignError) -> Self {
        Self::File(error.into())
    }
}

impl From<DigestError> for PackageError {
    fn from(error: DigestError) -> Self {
        Self::File(error.into())
    }
}

impl From<PackageError> for ContainerError {
    fn from(error: PackageError) -> Self {
        Failure::new(error).into()
    }
}

impl From<PackageError> for ItemError {
    fn from(error: PackageError) -> Self {
        Self::Container(Box::new(error.into()))
    }
}
