//! Faults of input bytes, with their offsets.

use core::fmt;

use crate::{
    audit, der, elf, erofs, ext4, file_contexts, json, loader_cache, measure, modsig, oci,
    partition, pkcs11, policy, rpm, tar, tpm, x509, xattr,
};

/// A fault of input bytes, and its offset from the start of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The fault.
    pub kind: ErrorKind,
    /// Byte offset of the field that is wrong.
    pub offset: usize,
}

/// A fault of the input; those of one format are grouped under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input ends before the field does.
    Truncated {
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that were left.
        available: usize,
    },
    /// Bytes follow where the format ends.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An ELF file is malformed.
    Elf(elf::Fault),
    /// A cache of libraries is malformed.
    LoaderCache(loader_cache::Fault),
    /// An extended attribute's value is malformed.
    Xattr(xattr::Fault),
    /// The kernel rejects the policy.
    Policy(policy::Fault),
    /// An RPM package is malformed.
    Rpm(rpm::Fault),
    /// An ext2, ext3 or ext4 image is malformed.
    Ext4(ext4::Fault),
    /// An EROFS image is malformed.
    Erofs(erofs::Fault),
    /// SELinux's file contexts are malformed, or not supported.
    FileContexts(file_contexts::Fault),
    /// A partition table is damaged, or programs read it differently.
    Partition(partition::Fault),
    /// A tar archive is malformed.
    Tar(tar::Fault),
    /// A JSON text is malformed.
    Json(json::Fault),
    /// A document of a container image is malformed.
    Oci(oci::Fault),
    /// The URI of a token's object is malformed.
    Pkcs11(pkcs11::Fault),
    /// An audit record is malformed.
    Audit(audit::Fault),
    /// A measurement list is malformed.
    Measure(measure::Fault),
    /// A structure of a TPM is malformed.
    Tpm(tpm::Fault),
    /// DER, such as a certificate's, is malformed.
    Der(der::Fault),
    /// A certificate is one that the kernel rejects.
    X509(x509::Fault),
    /// An appended signature is malformed.
    Modsig(modsig::Fault),
}

impl Error {
    /// An error of `kind` at `offset`.
    pub fn new(kind: impl Into<ErrorKind>, offset: usize) -> Self {
        Self { kind: kind.into(), offset }
    }

    /// The same in an input that has `count` bytes more in front.
    pub(crate) fn after(mut self, count: usize) -> Self {
        self.offset = self.offset.saturating_add(count);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.kind, self.offset)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(f, "truncated: {needed} bytes needed, {available} left")
            }
            Self::TrailingBytes { count } => write!(f, "{count} bytes too many"),
            Self::Elf(fault) => fault.fmt(f),
            Self::LoaderCache(fault) => fault.fmt(f),
            Self::Xattr(fault) => fault.fmt(f),
            Self::Policy(fault) => fault.fmt(f),
            Self::Rpm(fault) => fault.fmt(f),
            Self::Ext4(fault) => fault.fmt(f),
            Self::Erofs(fault) => fault.fmt(f),
            Self::FileContexts(fault) => fault.fmt(f),
            Self::Partition(fault) => fault.fmt(f),
            Self::Tar(fault) => fault.fmt(f),
            Self::Json(fault) => fault.fmt(f),
            Self::Oci(fault) => fault.fmt(f),
            Self::Pkcs11(fault) => fault.fmt(f),
            Self::Audit(fault) => fault.fmt(f),
            Self::Measure(fault) => fault.fmt(f),
            Self::Tpm(fault) => fault.fmt(f),
            Self::Der(fault) => fault.fmt(f),
            Self::X509(fault) => fault.fmt(f),
            Self::Modsig(fault) => fault.fmt(f),
        }
    }
}

#[cfg(feature = "std")]
impl std::error::Error for Error {}
