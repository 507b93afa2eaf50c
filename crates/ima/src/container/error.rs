//! Why an item or a container was not processed.
//!
//! The two types say how far an error reaches. An [`ItemError`] concerns one file: it is reported,
//! and the run continues with the next file. A [`ContainerError`] ends its container: nothing of it
//! is written, and the run continues with the next container. In a container that is written as a
//! whole, an item that fails is a [`ContainerError::Item`]: it must not be left out of the result.
//! [`ContainerError::Report`] alone ends the run, because no one reads its results.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::kind::Compression;
use ima_format::Error as FormatError;
use rustix::io::Errno;

use super::source::SourceError;
use super::Part;
use crate::advice::{Advice, Failure};
use crate::digest::DigestError;
use crate::key::SignError;

/// The longest path that is walked: it bounds the memory of the queue.
pub(super) const LONGEST_PATH: usize = 1 << 15;

/// Why a file was not processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// It was not found, or is not a file to be processed.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It cannot be opened.
    #[error("cannot open: {0}")]
    Open(io::Error),
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// It was changed, replaced or cut while it was read.
    #[error("changed while it was read; not signed")]
    Changed,
    /// No digest could be made.
    #[error(transparent)]
    Digest(DigestError),
    /// No signature could be made.
    #[error(transparent)]
    Sign(Arc<SignError>),
    /// The signing key was lost at another file: this one was not tried.
    #[error("not signed: the key was lost before")]
    KeyLost(Arc<SignError>),
    /// It was named, and is a detached signature, which is not signed itself.
    #[error("a detached signature, which is not signed itself")]
    IsSignature,
    /// Its container does not let it be signed or judged.
    #[error(transparent)]
    Anomaly(#[from] Anomaly),
    /// Its container does not have all metadata that EVM covers.
    #[error("{0}")]
    NoMetadata(&'static str),
    /// The root enables SELinux, and the file has no label.
    #[error("no security.selinux: the target labels the file, and security.evm becomes invalid")]
    Unlabeled,
    /// It was named itself, so that its path on the target is not known.
    #[error("its label or capability depends on its path on the target, which is not known")]
    NoPath,
    /// There is no `security.ima` that a portable EVM signature could cover.
    #[error("no security.ima for the EVM signature to cover")]
    NothingToCover,
    /// Its container's files have no inodes yet.
    #[error(
        "no inode that security.evm could be bound to: the container's files are not unpacked"
    )]
    NoInode,
    /// The UUID of the file system is not known.
    #[error("the UUID of the file system is not known")]
    NoFsUuid,
    /// No HMAC could be made.
    #[error("HMAC: {0}")]
    Hmac(openssl::error::ErrorStack),
    /// The generation of its inode cannot be read.
    #[error("cannot read the inode's generation: {0}")]
    Inode(io::Error),
    /// fs-verity cannot be enabled.
    #[error("fs-verity cannot be enabled: {0}")]
    EnableVerity(io::Error),
    /// fs-verity is enabled with another algorithm or salt.
    #[error("fs-verity is enabled with another algorithm, salt or block size: {0}")]
    OtherVerity(Digest),
    /// The container gives no access to parts of its content.
    #[error("appended signatures are for files, not for files in archives, packages and images")]
    NoContentAccess,
    /// The appended signature is malformed.
    #[error("{0}")]
    Appended(FormatError),
    /// The kernel looks for the signature of a compressed module inside.
    #[error("a module compressed by {0}: the signature belongs to the uncompressed module")]
    CompressedModule(Compression),
    /// A file that is written again has other names, which would keep the old content.
    #[error("has several names (hard links), of which only one would be changed")]
    SeveralNames,
    /// The file cannot be written again.
    #[error("cannot write it: {0}")]
    Rewrite(io::Error),
    /// The attribute cannot be read.
    #[error("cannot read the attribute: {0}")]
    ReadAttribute(io::Error),
    /// No permission to set the attribute.
    #[error("no permission to change the attribute: {0}")]
    AttributeDenied(io::Error),
    /// The file system has no such attributes.
    #[error("the file system does not keep this attribute: {0}")]
    AttributeUnsupported(io::Error),
    /// The file system takes no changes.
    #[error("cannot change the attribute: {0}")]
    ReadOnly(io::Error),
    /// There is no room for the attribute.
    #[error("no room for an attribute of {size} bytes: {source}")]
    NoRoom {
        /// The attribute's size.
        size: usize,
        /// The system's error.
        source: io::Error,
    },
    /// The attribute cannot be set for another reason.
    #[error("cannot change the attribute: {0}")]
    Attribute(io::Error),
    /// The signature's file cannot be written, read or removed.
    #[error("{}: {source}", path.display())]
    Detached {
        /// The signature's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The container that it is in cannot be read any further.
    #[error(transparent)]
    Container(Box<ContainerError>),
}

impl From<SignError> for ItemError {
    fn from(error: SignError) -> Self {
        Self::Sign(Arc::new(error))
    }
}

impl From<DigestError> for ItemError {
    fn from(error: DigestError) -> Self {
        match error {
            DigestError::Read(error) => Self::Read(error),
            other => Self::Digest(other),
        }
    }
}

impl From<SourceError> for ItemError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Read(error) => Self::Read(error),
            SourceError::Digest(error) => Self::Digest(error),
            SourceError::Format(error) => Self::Container(Box::new(error.into())),
        }
    }
}

impl Advice for ItemError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Walk(WalkError::SymbolicLink) => "name the file that it points to",
            Self::Sign(error) => return error.advice(),
            Self::Container(error) => return error.advice(),
            Self::Changed => "sign it again when nothing writes to it",
            Self::AttributeDenied(_) => {
                "security.ima needs root (CAP_SYS_ADMIN) and a file that is not immutable (lsattr; \
                 where EVM is enabled, a valid portable security.evm); without root: pseudo, \
                 --detached, or --xattr-namespace user"
            }
            Self::AttributeUnsupported(_) => {
                "sign on a file system with security attributes (ext4, xfs, btrfs), or \
                 --detached"
            }
            Self::NoMetadata(_) => {
                "sign the image or tree that is built from them, or leave out --evm"
            }
            Self::Unlabeled => {
                "give --selinux-contexts FILE, or label the files first (setfiles -r ROOT), or \
                 --allow-unlabeled if the target does not"
            }
            Self::NoPath => "name the root directory, and select files with --include",
            Self::NothingToCover => "sign the content, too: the kernel rejects the one without it",
            Self::NoInode => "a portable signature (imactl sign --evm) needs none",
            Self::NoFsUuid => {
                "before Linux 6.9 it is read from the block device, as root; otherwise give --fsuuid \
                 UUID (blkid prints it), or none for a kernel without CONFIG_EVM_ATTR_FSUUID"
            }
            Self::Inode(_) => {
                "not every file system has generations (tmpfs and overlayfs do not): \
                 a portable signature needs none"
            }
            Self::EnableVerity(error) => return of_enabling(error),
            Self::OtherVerity(_) => "copy the file: fs-verity cannot be disabled or changed",
            Self::NoContentAccess => "sign the files before they are packed",
            Self::Appended(_) => "the file is truncated or damaged: copy it again from the build",
            Self::CompressedModule(_) => "unpack it, sign it, and compress it again",
            Self::SeveralNames => "copy it, or remove the other names",
            Self::Rewrite(error) => return of_writing(error),
            Self::IsSignature => "name the file that it belongs to",
            Self::ReadOnly(_) => READ_ONLY,
            Self::Detached { source, .. } => return of_writing(source),
            Self::NoRoom { source, .. } if Errno::from_io_error(source) == Some(Errno::NOSPC) => {
                "make room; on ext4 all attributes of a file have one block: make it with -b 4096, \
                 -I 512 or -O ea_inode, or use a key with shorter signatures (p-256)"
            }
            Self::NoRoom { .. } => {
                "make ext4 with -I 512 or -O ea_inode, or use a key with shorter signatures \
                 (p-256)"
            }
            _ => return None,
        })
    }
}

const READ_ONLY: &str = "the file system is mounted read-only: remount it writable, or sign a \
copy, or the tree that it is built from; ext4 images are signed as files";

/// The advice if fs-verity cannot be enabled.
fn of_enabling(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_io_error(error)? {
        Errno::NOTTY | Errno::OPNOTSUPP => {
            "fs-verity needs CONFIG_FS_VERITY and a file system with it: ext4 (tune2fs -O verity), \
             f2fs, btrfs"
        }
        Errno::TXTBSY => "close the file where it is open for writing",
        Errno::ROFS => READ_ONLY,
        _ => return None,
    })
}

/// The advice for a file that cannot be written or removed.
fn of_writing(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::ROFS => Some(READ_ONLY),
        Errno::NOSPC | Errno::DQUOT => Some("make room on the file system"),
        Errno::PERM | Errno::ACCESS => {
            Some("the directory must be writable for you, and not immutable (lsattr -d)")
        }
        _ => None,
    }
}

/// Why something that was asked for is not among the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// It cannot be looked at.
    #[error("{0}")]
    Read(io::Error),
    /// A path that was named is a symbolic link.
    #[error("a symbolic link, which is not followed")]
    SymbolicLink,
    /// A path that was named is neither a file nor a directory.
    #[error("a {0}, not a regular file")]
    NotRegular(&'static str),
    /// A file or directory was replaced by something else during the walk.
    #[error("replaced by something else during the run")]
    Replaced,
    /// A path is longer than any that is used.
    #[error("path longer than {LONGEST_PATH} bytes")]
    TooLong,
}

impl Advice for WalkError {}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        Self::Read(errno.into())
    }
}

/// A property of a file in its container that no signature can be right with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// A hard link has an attribute that its file does not have.
    #[error("a hard link to {} with another attribute, which unpacking would set", .0.display())]
    LinkAttribute(PathBuf),
    /// A hard link to a file that the container does not contain, up to the link.
    #[error("a hard link to {}, which the archive does not contain before it", .0.display())]
    LinkMissing(PathBuf),
    /// A selected hard link to a file that is not selected.
    #[error("a hard link to {}, which is not selected", .0.display())]
    LinkNotSelected(PathBuf),
    /// A regular file of which a package has no digest: rpm does not install it.
    #[error("a regular file of which the header has no digest")]
    NoDigest,
    /// A package says another digest or size than of the name of this hard link that has the content.
    #[error("the header has another digest or size for another name of this file")]
    NameDisagrees,
    /// It has a signature, and no content: a directory, a link, a device or a ghost.
    #[error("has a signature, but is not a regular file of the payload")]
    NoContent,
    /// A package lists no digest of fs-verity.
    #[error("packages list digests of the content, not of fs-verity")]
    NoVerity,
    /// There is no digest by this algorithm, and none can be made.
    #[error("over a {0} digest, which the package lacks")]
    OtherAlgorithm(HashAlgorithm),
}

/// Why a container was not processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// It cannot be read, or not be written: an error of its format.
    #[error(transparent)]
    Format(#[from] Failure),
    /// It cannot be opened.
    #[error("{0}")]
    Open(io::Error),
    /// A part of it was not processed.
    #[error("{part}")]
    Part {
        /// The part.
        part: Part,
        /// Why.
        source: Box<ContainerError>,
    },
    /// A file in it was not processed, and it is written whole or not at all.
    #[error("{}", path.display())]
    Item {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ItemError,
    },
    /// The result cannot be written.
    #[error("{}", path.display())]
    Write {
        /// Where it was to be written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The result would replace something that is not a file.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Another container of the run went there under the same name.
    #[error("{} is another package of this run", .0.display())]
    NameTaken(PathBuf),
    /// A report was not taken.
    #[error(transparent)]
    Report(io::Error),
}

impl From<SourceError> for ContainerError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Format(error) => Self::Format(error),
            other => Self::Format(Failure::new(other)),
        }
    }
}

impl Advice for ContainerError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Format(error) => error.advice(),
            Self::Part { source, .. } => source.advice(),
            Self::Item { source, .. } => source.advice(),
            Self::NotRegular(_) => Some("give -o FILE, or -o - for standard output"),
            Self::Open(_) | Self::Write { .. } | Self::NameTaken(_) | Self::Report(_) => None,
        }
    }
}
