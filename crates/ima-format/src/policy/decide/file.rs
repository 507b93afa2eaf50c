//! A file as the kernel sees it: its attribute, how it was opened, and its signatures.
//!
//! Mirrors `ima_appraise_measurement` of `ima_appraise.c` and `struct ima_iint_cache`. The decision never reads a
//! file: it calls [`Evidence`], and only for digests and signatures that the decision depends on. An error of the
//! evidence is returned as it is, so that a file that cannot be read is never treated as one without an attribute.

use alloc::vec::Vec;

use crate::hash::{Digest, HashAlgorithm};
use crate::policy::ast::Subaction;

/// The result of reading `security.ima`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeRead<'a> {
    /// The attribute has this value.
    Value(&'a [u8]),
    /// The file has no such attribute.
    Missing,
    /// The file system has attributes, but none in the `security` name space (`EOPNOTSUPP`).
    Unsupported,
    /// The file system has no attributes at all (`IOP_XATTR` is not set): vfat, or squashfs and ext4 if they are
    /// built without.
    NoAttributes,
    /// Reading it failed.
    Unreadable,
}

impl<'a> AttributeRead<'a> {
    /// The value, if there is one; an empty value counts as a missing attribute.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) if !value.is_empty() => Some(value),
            _ => None,
        }
    }
}

/// EVM's verdict on a file's attributes (`enum integrity_status` from `evm_verifyxattr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvmStatus {
    /// EVM has no key, or does not support this file system.
    Unknown,
    /// The HMAC or the signature is valid.
    Pass,
    /// The portable signature is valid.
    PassImmutable,
    /// The HMAC or the signature is invalid.
    Fail,
    /// The portable signature is invalid.
    FailImmutable,
    /// `security.evm` is missing, but there are attributes to protect.
    NoLabel,
    /// There are no attributes to protect.
    NoXattrs,
}

/// Whether a file system is trusted to return the same bytes for every read
/// (`SB_I_IMA_UNVERIFIABLE_SIGNATURE`, `SB_I_UNTRUSTED_MOUNTER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileSystemTrust {
    /// It is trusted.
    Verifiable,
    /// It is not trusted, and was mounted with privilege: FUSE.
    Unverifiable,
    /// It is not trusted, and was mounted without privilege.
    UntrustedMounter,
}

/// A file at the moment of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenFile<'a> {
    /// Whether it is a regular file; the kernel ignores all others.
    pub regular: bool,
    /// Its size in bytes.
    pub size: u64,
    /// `security.ima`.
    pub attribute: AttributeRead<'a>,
    /// EVM's verdict.
    pub evm: EvmStatus,
    /// Whether its file system is trusted.
    pub trust: FileSystemTrust,
    /// Whether this `open` created it (`FMODE_CREATED`).
    pub created: bool,
    /// Whether it was opened with `O_DIRECT`.
    pub direct: bool,
    /// Whether it is open for writing here (`FMODE_WRITE`).
    pub writable: bool,
    /// Whether it is open for writing elsewhere.
    pub written_elsewhere: bool,
    /// Whether it is open for reading elsewhere.
    pub read_elsewhere: bool,
    /// Whether a shared, writable mapping of it exists.
    pub mapped_writable: bool,
    /// Whether an attribute can be written: the file system is not mounted read-only, and the file is not immutable.
    pub fixable: bool,
}

impl<'a> OpenFile<'a> {
    /// A file with this attribute at rest: it is not open elsewhere, and EVM has no key.
    pub const fn at_rest(size: u64, attribute: AttributeRead<'a>) -> Self {
        Self {
            regular: true,
            size,
            attribute,
            evm: EvmStatus::Unknown,
            trust: FileSystemTrust::Verifiable,
            created: false,
            direct: false,
            writable: false,
            written_elsewhere: false,
            read_elsewhere: false,
            mapped_writable: false,
            fixable: true,
        }
    }
}

/// The result of verifying a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureCheck {
    /// It is valid.
    Good,
    /// It is invalid.
    Bad,
    /// No key in the keyring has its key ID (`ENOKEY`).
    UnknownKey,
    /// The kernel does not support its algorithm (`EOPNOTSUPP`).
    Unsupported,
}

/// The input of a signature in an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signed<'a> {
    /// The digest itself: versions 1 and 2.
    Digest(&'a Digest),
    /// The digest of [`Signature::file_id`](crate::xattr::Signature::file_id): version 3.
    FileId(&'a Digest),
}

/// A signature appended to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modsig {
    /// Whether it is valid by a key in `.ima` (for a kexec kernel also by one in `.platform`).
    pub check: SignatureCheck,
    /// The digest that it signs, for the blacklist; `None` if it signs the content itself.
    pub digest: Option<Digest>,
}

/// Facts that depend on the file's bytes and on the keys. Only those that the decision needs are requested. An
/// error ends the decision: the kernel would have known the fact, but the caller does not.
pub trait Evidence {
    /// Why a fact cannot be determined.
    type Error;

    /// The digest of the file's content; `None` if this kernel cannot compute it.
    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Option<Digest>, Self::Error>;

    /// The fs-verity digest; `None` if the file has none.
    fn verity_digest(&mut self) -> Result<Option<Digest>, Self::Error> {
        Ok(None)
    }

    /// Verifies the signature in an attribute's value with the keys in `.ima`. The value is not validated: its length
    /// field, algorithm or version may be anything.
    fn verify(
        &mut self,
        attribute: &[u8],
        signed: Signed<'_>,
    ) -> Result<SignatureCheck, Self::Error>;

    /// The signature appended to the file, if it has one.
    fn modsig(&mut self) -> Result<Option<Modsig>, Self::Error> {
        Ok(None)
    }

    /// Whether the blacklist has this digest (`is_binary_blacklisted`).
    fn is_blacklisted(&mut self, _digest: &[u8]) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

spelled! {
    /// Why the kernel denies an access: the `cause=` of its audit record, or a word of imactl if it writes none.
    #[non_exhaustive]
    Cause {
        /// The policy requires a signature, and there is none.
        ImaSignatureRequired = "IMA-signature-required",
        /// The policy requires a signature of version 3, and it is of an older version.
        ImaSigv3Required = "IMA-sigv3-required",
        /// The policy requires a version 3 signature of the fs-verity digest, and there is none.
        VeritySignatureRequired = "verity-signature-required",
        /// There is no attribute.
        MissingHash = "missing-hash",
        /// The digest in the attribute is not the file's.
        InvalidHash = "invalid-hash",
        /// The signature is invalid or malformed, or its key is unknown.
        InvalidSignature = "invalid-signature",
        /// The signature's version is not valid for the type of the attribute.
        InvalidSignatureVersion = "invalid-signature-version",
        /// The fs-verity signature is invalid.
        InvalidVeritySignature = "invalid-verity-signature",
        /// The attribute is neither a digest nor a signature.
        UnknownImaData = "unknown-ima-data",
        /// `security.evm` is missing.
        MissingHmac = "missing-HMAC",
        /// `security.evm` is invalid.
        InvalidHmac = "invalid-HMAC",
        /// The portable signature in `security.evm` is invalid.
        InvalidFailImmutable = "invalid-fail-immutable",
        /// The file system may return other bytes than those that were verified.
        UnverifiableSignature = "unverifiable-signature",
        /// The rule does not allow the hash algorithm.
        DeniedHashAlgorithm = "denied-hash-algorithm",
        /// A shared, writable mapping of the file exists.
        MmappedWriters = "mmapped_writers",
        /// The file has no fs-verity digest.
        NoVerityDigest = "no-verity-digest",
        /// The digest could not be computed.
        Failed = "failed",
        /// The digest could not be computed from a file opened with `O_DIRECT`.
        FailedDirectio = "failed(directio)",
        /// Anything else: the attribute cannot be read, or a signature has an impossible version.
        Unknown = "unknown",
        /// The file system has no attributes. No record is written.
        NoAttributes = "no-attributes",
        /// The blacklist has the file's digest. No record is written.
        Blacklisted = "blacklisted",
        /// A signed file is opened for writing. No record is written.
        SignedFileWritten = "signed-file-written",
    }
}

impl Cause {
    /// The `op=` of the audit record; `None` if the kernel writes no record.
    pub const fn operation(self) -> Option<&'static str> {
        match self {
            Self::NoAttributes | Self::Blacklisted | Self::SignedFileWritten => None,
            Self::DeniedHashAlgorithm
            | Self::NoVerityDigest
            | Self::Failed
            | Self::FailedDirectio => Some("collect_data"),
            Self::MmappedWriters => Some("mmap_file"),
            _ => Some("appraise_data"),
        }
    }
}

/// The kernel's cache of results for a file (`struct ima_iint_cache`). It is valid while the file and its
/// attributes are unchanged: after a change, start again with [`Inode::default`]. A stale entry would allow a
/// file that was changed after it was appraised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inode {
    /// The demands of all rules that have matched so far. They stay: a `measure` rule with `digest_type=verity` on an
    /// earlier event affects a later appraisal.
    pub(super) demands: super::walk::Demands,
    /// The digest, if it was computed.
    pub(super) collected: Option<Digest>,
    /// The hooks whose appraisal passed and need not be repeated.
    pub(super) appraised: Vec<Subaction>,
    /// The PCRs that the file was measured into.
    pub(super) measured_pcrs: Vec<u8>,
    /// Whether the digest was written to the audit log.
    pub(super) audited: bool,
    /// Whether a `hash` rule has matched.
    pub(super) hashed: bool,
    /// `IMA_DIGSIG`: it is signed, and must not be written.
    pub(super) signed: bool,
    /// `IMA_NEW_FILE`
    pub(super) new_file: bool,
    /// `IMA_MAY_EMIT_TOMTOU`
    pub(super) may_emit_tomtou: bool,
    /// `IMA_EMITTED_OPENWRITERS`
    pub(super) emitted_open_writers: bool,
}

impl Inode {
    /// A file that this process created: writing it is not denied for a missing attribute (`ima_post_path_mknod`,
    /// `ima_post_create_tmpfile`).
    pub fn new_file() -> Self {
        Self { new_file: true, ..Self::default() }
    }

    /// The cause that the kernel logs when the last writer closes the file, on a file system that does not count
    /// changes: a `hash` rule makes it write the digest again, another rule requires the fs-verity digest, and there is
    /// none (`ima_update_xattr`).
    ///
    /// # Errors
    /// Those of `evidence`.
    pub fn complaint_at_close<E: Evidence>(
        &self,
        evidence: &mut E,
    ) -> Result<Option<Cause>, E::Error> {
        let collects = self.hashed && !self.signed && self.demands.verity;
        let complains = collects && evidence.verity_digest()?.is_none();
        Ok(complains.then_some(Cause::NoVerityDigest))
    }
}
