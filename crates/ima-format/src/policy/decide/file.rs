//! A file as the kernel meets it: its attribute, how it was opened, who vouches for it.
//!
//! Mirrors `ima_appraise_measurement` of `ima_appraise.c` and `struct ima_iint_cache`. The decision
//! never reads a file: it asks [`Evidence`], and only for digests and signatures that this decision
//! depends on. An error of the evidence is returned as it is, so that a file that cannot be read is
//! never treated as one without an attribute.

use alloc::vec::Vec;
use core::fmt;

use crate::hash::{Digest, HashAlgorithm};
use crate::policy::ast::Subaction;

/// What reading `security.ima` gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeRead<'a> {
    /// This value.
    Value(&'a [u8]),
    /// There is none.
    Missing,
    /// The file system keeps attributes, but none in the `security` name space
    /// (`EOPNOTSUPP`).
    Unsupported,
    /// The file system keeps no attributes at all (`IOP_XATTR` is not set): squashfs or ext4
    /// built without, vfat.
    NoAttributes,
    /// Reading it failed.
    Unreadable,
}

impl<'a> AttributeRead<'a> {
    /// The value, where there is one; an empty value counts as none.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) if !value.is_empty() => Some(value),
            _ => None,
        }
    }
}

/// What EVM says of a file's attributes (`enum integrity_status` from `evm_verifyxattr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvmStatus {
    /// EVM has no key, or does not look at this file system.
    Unknown,
    /// The HMAC or the signature holds.
    Pass,
    /// The portable signature holds.
    PassImmutable,
    /// The HMAC or the signature does not hold.
    Fail,
    /// The portable signature does not hold.
    FailImmutable,
    /// `security.evm` is missing where there are attributes to be protected.
    NoLabel,
    /// There is nothing to be protected.
    NoXattrs,
}

/// Whether a file system can be trusted to give the kernel the same bytes twice
/// (`SB_I_IMA_UNVERIFIABLE_SIGNATURE`, `SB_I_UNTRUSTED_MOUNTER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileSystemTrust {
    /// It can.
    Verifiable,
    /// It cannot, and was mounted with privilege: FUSE.
    Unverifiable,
    /// It cannot, and was mounted without privilege.
    UntrustedMounter,
}

/// A file at the moment of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenFile<'a> {
    /// Whether it is a regular file; no other is looked at.
    pub regular: bool,
    /// Its size in bytes.
    pub size: u64,
    /// `security.ima`.
    pub attribute: AttributeRead<'a>,
    /// What EVM says.
    pub evm: EvmStatus,
    /// Its file system.
    pub trust: FileSystemTrust,
    /// Whether this very `open` created it (`FMODE_CREATED`).
    pub created: bool,
    /// Whether it was opened with `O_DIRECT`.
    pub direct: bool,
    /// Whether it is open for writing here (`FMODE_WRITE`).
    pub writable: bool,
    /// Whether it is open for writing elsewhere.
    pub written_elsewhere: bool,
    /// Whether it is open for reading elsewhere.
    pub read_elsewhere: bool,
    /// Whether someone has it mapped shared and writable.
    pub mapped_writable: bool,
    /// Whether an attribute could be written: the file system is not mounted read-only, the
    /// file not immutable.
    pub fixable: bool,
}

impl<'a> OpenFile<'a> {
    /// A file with this attribute at rest: nobody writes it, EVM has no key.
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

/// How a signature was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureCheck {
    /// It holds.
    Good,
    /// It does not.
    Bad,
    /// No key with its id is in the keyring (`ENOKEY`).
    UnknownKey,
    /// The kernel cannot check signatures of its kind (`EOPNOTSUPP`).
    Unsupported,
}

/// What a signature in an attribute is a signature of.
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
    /// Whether it holds with a key in `.ima` (in `.platform` too, for a kexec kernel).
    pub check: SignatureCheck,
    /// The digest that it signs, for the blacklist; `None` if it signs the content itself.
    pub digest: Option<Digest>,
}

/// What depends on the file's bytes and on the keys. Nothing is asked for that the decision does
/// not need. An error ends the decision: the kernel would have known, and the caller does not.
pub trait Evidence {
    /// Why evidence is not to be had.
    type Error;

    /// The digest of the file's content; `None` if this kernel cannot compute it.
    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Option<Digest>, Self::Error>;

    /// The fs-verity digest; `None` if the file has none.
    fn verity_digest(&mut self) -> Result<Option<Digest>, Self::Error> {
        Ok(None)
    }

    /// Checks the signature in an attribute's value with the keys in `.ima`. The value is not
    /// checked before: its length field, algorithm or version may be anything.
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
    fn is_blacklisted(&mut self, digest: &[u8]) -> Result<bool, Self::Error> {
        let _ = digest;
        Ok(false)
    }
}

/// Lists the causes with their words.
macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident = $word:literal,)*) => {
        /// Why the kernel denies an access: the `cause=` of its audit record, where it writes one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// All causes.
            pub const ALL: &'static [Self] = &[$(Self::$cause,)*];

            /// The kernel's word if it has one, else one of ours.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $word,)*
                }
            }
        }
    };
}

causes! {
    /// No signature, and the policy wants one.
    ImaSignatureRequired = "IMA-signature-required",
    /// A signature of an older version, and the policy wants version 3.
    ImaSigv3Required = "IMA-sigv3-required",
    /// No version 3 signature of the fs-verity digest, and the policy wants one.
    VeritySignatureRequired = "verity-signature-required",
    /// No attribute.
    MissingHash = "missing-hash",
    /// The digest in the attribute is not the file's.
    InvalidHash = "invalid-hash",
    /// The signature does not hold, or its key is not known, or it is malformed.
    InvalidSignature = "invalid-signature",
    /// A signature of a version that does not go with its type.
    InvalidSignatureVersion = "invalid-signature-version",
    /// The fs-verity signature does not hold.
    InvalidVeritySignature = "invalid-verity-signature",
    /// An attribute that is neither a digest nor a signature.
    UnknownImaData = "unknown-ima-data",
    /// `security.evm` is missing.
    MissingHmac = "missing-HMAC",
    /// `security.evm` does not hold.
    InvalidHmac = "invalid-HMAC",
    /// The portable signature in `security.evm` does not hold.
    InvalidFailImmutable = "invalid-fail-immutable",
    /// The file system can give other bytes than those that were checked.
    UnverifiableSignature = "unverifiable-signature",
    /// A hash algorithm that the rule does not allow.
    DeniedHashAlgorithm = "denied-hash-algorithm",
    /// Someone has the file mapped shared and writable.
    MmappedWriters = "mmapped_writers",
    /// The file has no fs-verity digest.
    NoVerityDigest = "no-verity-digest",
    /// The digest could not be computed.
    Failed = "failed",
    /// The digest could not be computed from a file opened with `O_DIRECT`.
    FailedDirectio = "failed(directio)",
    /// Something else: reading the attribute failed, a signature of a version that is none.
    Unknown = "unknown",
    /// The file system keeps no attributes. No record is written.
    NoAttributes = "no-attributes",
    /// The blacklist has the file's digest. No record is written.
    Blacklisted = "blacklisted",
    /// A signed file is opened for writing. No record is written.
    SignedFileWritten = "signed-file-written",
}

impl Cause {
    /// The `op=` of the audit record; `None` where the kernel writes none.
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The kernel's cache of results for a file (`struct ima_iint_cache`). It is valid while the file and
/// its attributes are unchanged: after a change, start again with [`Inode::default`]. A stale entry
/// would allow a file that was changed after it was appraised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inode {
    /// Demands of every rule that has matched so far. They stay: a `measure` rule with
    /// `digest_type=verity` on an earlier event binds a later appraisal.
    pub(super) demands: super::walk::Demands,
    /// The digest, once it is computed.
    pub(super) collected: Option<Digest>,
    /// For which hooks it needs no second look.
    pub(super) appraised: Vec<Subaction>,
    /// PCRs that have it.
    pub(super) measured_pcrs: Vec<u8>,
    /// Whether it was written to the audit log.
    pub(super) audited: bool,
    /// Whether a `hash` rule has seen it.
    pub(super) hashed: bool,
    /// `IMA_DIGSIG`: it is signed, and not to be written.
    pub(super) signed: bool,
    /// `IMA_NEW_FILE`
    pub(super) new_file: bool,
    /// `IMA_MAY_EMIT_TOMTOU`
    pub(super) may_emit_tomtou: bool,
    /// `IMA_EMITTED_OPENWRITERS`
    pub(super) emitted_open_writers: bool,
}

impl Inode {
    /// A file that this process created: what it writes is not refused for a missing
    /// attribute (`ima_post_path_mknod`, `ima_post_create_tmpfile`).
    pub fn new_file() -> Self {
        Self { new_file: true, ..Self::default() }
    }

    /// What the kernel complains of when the last writer closes the file, on a file system that
    /// does not count changes: a `hash` rule has it write the digest again, another rule asked for
    /// the fs-verity digest, and there is none (`ima_update_xattr`).
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
