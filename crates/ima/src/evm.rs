//! `security.evm`: what it covers of a file in a container, and the kernel's verdict on it.
//!
//! Mirrors `evm_verify_hmac` in `security/integrity/evm/evm_main.c`, and what
//! `ima_appraise_measurement` makes of it (Linux 5.13 to 7.3). The bytes that are hashed are those of
//! [`ima_format::evm`].

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use ima_format::evm::{InodeId, Machine, Metadata, Protected};
use ima_format::hash::HashAlgorithm;
use ima_format::policy::decide::EvmStatus;
use ima_format::policy::kernel::{Feature, KernelVersion};
use ima_format::xattr::{Attribute, KeyId, Signature, SignatureKind, SignatureVersion};
use ima_format::Error as FormatError;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use zeroize::Zeroizing;

use crate::container::source::{part, Entry, Source, Unread, Visit};
use crate::container::{AttributeName, Change, Item, ItemError};
use crate::digest::FileHasher;
use crate::key::Form;
use crate::verify::Verifier;

/// Bytes of a signature before the signature itself (`struct signature_v2_hdr`).
const SIGNATURE_HEADER: usize = 9;

/// What `security.evm` is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: it is good on any machine, and makes the file immutable there.
    Portable,
    /// One inode of one file system.
    Inode,
}

/// Which signatures EVM accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// All that the kernel knows.
    #[default]
    All,
    /// Those of version 3 (`EVM_SIGV3_REQUIRED`, since Linux 7.1).
    V3,
}

/// The directories in which a root has programs.
const PROGRAMS: [&str; 7] =
    ["/", "/bin", "/sbin", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib/systemd"];

/// The machine that a root is for, by the first program in it.
pub fn machine_of(root: &dyn Source) -> Option<Machine> {
    struct First<'a> {
        root: &'a dyn Source,
        machine: Option<Machine>,
    }
    impl Visit for First<'_> {
        fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
            let Some(entry) = found.ok().filter(|it| it.size() > Some(0) && it.is_executable())
            else {
                return ControlFlow::Continue(());
            };
            let file = self.root.open(&entry);
            let head = file.and_then(|file| part(&*file, 0, 6)).unwrap_or_default();
            self.machine = Machine::of_elf(&head);
            match self.machine {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        }

        fn descends(&self, path: &Path) -> bool {
            PROGRAMS.iter().any(|directory| path == Path::new(directory))
        }
    }
    let mut first = First { root, machine: None };
    root.list(&mut first);
    first.machine
}

/// What `security.evm` is made over.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// What it is bound to.
    pub binding: Binding,
    /// The machine that verifies it.
    pub machine: Machine,
    /// The attributes that it covers there.
    pub protected: Protected,
    /// What is given in place of what the container has.
    pub given: Given,
}

/// What the file will have on the machine that verifies, where that differs from the container.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // as those of `Metadata` and `InodeId`
pub struct Given {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u16>,
    pub number: Option<u64>,
    pub generation: Option<u32>,
    /// The UUID, or that the kernel does not include it.
    pub fsuuid: Option<Option<[u8; 16]>>,
    /// Attributes: a value, or that the file does not have it.
    pub attributes: Vec<(AttributeName, Option<Vec<u8>>)>,
}

impl Binding {
    /// What signatures with this binding vouch for: the attribute's type.
    pub fn signature_kind(self) -> SignatureKind {
        match self {
            Self::Portable => SignatureKind::EvmPortable,
            Self::Inode => SignatureKind::Ima,
        }
    }
}

impl Coverage {
    /// A portable signature for most machines.
    pub fn portable() -> Self {
        let (protected, given) = Default::default();
        Self { binding: Binding::Portable, machine: Machine::DEFAULT, protected, given }
    }

    /// The bytes that are hashed of a file after a change of its attributes.
    ///
    /// # Errors
    /// Those of reading; a portable signature without `security.ima`.
    pub fn message(&self, item: &dyn Item, change: &Change) -> Result<Vec<u8>, ItemError> {
        let mut message = Vec::new();
        let mut has_ima = false;
        let (portable, of_inode) = match self.binding {
            Binding::Portable => (Some(self.protected.by_portable_signatures()), None),
            Binding::Inode => (None, Some(self.protected.by_inode())),
        };
        for name in portable.into_iter().flatten().chain(of_inode.into_iter().flatten()) {
            let given = self.given.attributes.iter().find(|(given, _)| *given == name);
            let value = match (given, change.value(name)) {
                (Some((_, value)), _) => value.as_deref().map(Cow::Borrowed),
                (None, Some(value)) => Some(Cow::Borrowed(value)),
                (None, None) => item.attribute(name)?,
            };
            has_ima |= name == AttributeName::Ima && value.is_some();
            message.extend_from_slice(&value.unwrap_or_default());
        }
        if self.binding == Binding::Portable && !has_ima {
            return Err(ItemError::NothingToCover);
        }
        self.metadata(item)?.append_to(&mut message, self.inode(item)?, self.machine);
        Ok(message)
    }

    fn metadata(&self, item: &dyn Item) -> Result<Metadata, ItemError> {
        let Metadata { uid, gid, mode } = item.metadata()?;
        let Given { uid: owner, gid: group, mode: given, .. } = self.given;
        Ok(Metadata {
            uid: owner.unwrap_or(uid),
            gid: group.unwrap_or(gid),
            mode: given.unwrap_or(mode),
        })
    }

    fn inode(&self, item: &dyn Item) -> Result<Option<InodeId>, ItemError> {
        if self.binding == Binding::Portable {
            return Ok(None);
        }
        let given = &self.given;
        let inode = match (given.number, given.generation, given.fsuuid) {
            (Some(number), Some(generation), Some(fsuuid)) => {
                return Ok(Some(InodeId { number, generation, fsuuid }));
            }
            // only the UUID is missing, and it is read together with the generation
            (Some(_), Some(_), None) => match item.inode() {
                Ok(inode) => inode.ok_or(ItemError::NoInode)?,
                Err(ItemError::Inode(_)) => return Err(ItemError::NoFsUuid),
                Err(error) => return Err(error),
            },
            _ => item.inode()?.ok_or(ItemError::NoInode)?,
        };
        let fsuuid = given.fsuuid.or(inode.fsuuid.map(Some)).ok_or(ItemError::NoFsUuid)?;
        Ok(Some(InodeId {
            number: given.number.unwrap_or(inode.number),
            generation: given.generation.unwrap_or(inode.generation),
            fsuuid,
        }))
    }
}

/// The key of an EVM HMAC, as the kernel keeps it: 128 bytes, zeros after those that are given
/// (`MAX_KEY_SIZE`).
#[derive(Clone)]
pub struct HmacKey(Zeroizing<[u8; 128]>);

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey")
    }
}

impl HmacKey {
    /// The key with these bytes, if there are no more than the kernel takes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 128]);
        key.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// The HMAC of a file: the attribute's value (type 2).
    ///
    /// # Errors
    /// Those of OpenSSL.
    pub fn attribute(&self, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let key = PKey::hmac(&*self.0)?;
        let hmac = Signer::new(MessageDigest::sha1(), &key)?.sign_oneshot_to_vec(message)?;
        let hmac = hmac.try_into().map(Attribute::EvmHmac);
        Ok(hmac.map(|attribute| attribute.encode()).unwrap_or_default())
    }
}

/// What the kernel would say of a file's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A good signature by a known key.
    ValidSignature {
        /// The key.
        key_id: KeyId,
        /// The digest's algorithm.
        algorithm: HashAlgorithm,
        /// What it is bound to.
        binding: Binding,
    },
    /// The HMAC is right.
    ValidHmac,
    /// There is no `security.evm`.
    Missing,
    /// No certificate at hand has this key id.
    UnknownKey(KeyId, Binding),
    /// The key is known, the signature is not its over this metadata.
    InvalidSignature(KeyId, Binding),
    /// A kernel of this version has no such keys, or cannot verify such signatures.
    NewerForm(Form, Binding),
    /// The signature is good on a machine with another layout.
    OtherMachine(KeyId, Machine),
    /// A signature that is not of version 3, which EVM requires.
    OldVersion,
    /// The HMAC does not fit.
    InvalidHmac,
    /// An HMAC, and its key is not at hand.
    NoHmacKey,
    /// A portable signature of a file without `security.ima`.
    NothingCovered,
    /// A signature or HMAC for an inode, which the files of this container do not have yet.
    NoInode,
    /// The attribute is of a type that belongs into `security.ima`, or obsolete.
    WrongType(Binding),
    /// The attribute is malformed.
    Malformed(FormatError, Binding),
    /// A portable signature that is not valid, and whose cause is that of the other forms: the kernel
    /// is older than 5.14.
    AsOthers(Box<Verdict>),
}

impl Verdict {
    /// Whether the kernel lets the file through.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::ValidSignature { .. } | Self::ValidHmac)
    }

    /// The `cause=` of the kernel's audit record, where it refuses.
    pub fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::ValidSignature { .. } | Self::ValidHmac => return None,
            Self::Missing => "missing-HMAC",
            Self::UnknownKey(_, Binding::Portable)
            | Self::InvalidSignature(_, Binding::Portable)
            | Self::NewerForm(_, Binding::Portable)
            | Self::WrongType(Binding::Portable)
            | Self::Malformed(_, Binding::Portable)
            | Self::OtherMachine(..)
            | Self::NothingCovered => "invalid-fail-immutable",
            _ => "invalid-HMAC",
        })
    }

    /// The same as IMA appraisal sees it.
    pub fn status(&self) -> EvmStatus {
        match self {
            Self::ValidSignature { binding: Binding::Portable, .. } => EvmStatus::PassImmutable,
            Self::ValidSignature { .. } | Self::ValidHmac => EvmStatus::Pass,
            Self::Missing => EvmStatus::NoLabel,
            _ if self.cause() == Some("invalid-fail-immutable") => EvmStatus::FailImmutable,
            _ => EvmStatus::Fail,
        }
    }

    /// The key of a signature.
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::ValidSignature { key_id, .. }
            | Self::UnknownKey(key_id, _)
            | Self::InvalidSignature(key_id, _)
            | Self::OtherMachine(key_id, _) => Some(*key_id),
            Self::AsOthers(verdict) => verdict.key_id(),
            _ => None,
        }
    }
}

/// What tells one verdict from another with the same cause.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValidSignature { key_id, algorithm, binding: Binding::Portable } => {
                write!(f, "portable {algorithm} EVM signature by key {key_id}")
            }
            Self::ValidSignature { key_id, algorithm, .. } => {
                write!(f, "{algorithm} EVM signature of this inode by key {key_id}")
            }
            Self::ValidHmac => f.write_str("EVM HMAC matches"),
            Self::Missing => f.write_str("no security.evm"),
            Self::UnknownKey(key_id, _) => write!(f, "EVM signature by unknown key {key_id}"),
            Self::InvalidSignature(key_id, _) => {
                write!(f, "not an EVM signature by key {key_id} over this metadata")
            }
            Self::OtherMachine(key_id, machine) => {
                write!(f, "EVM signature by key {key_id} for a {machine} machine")
            }
            Self::NewerForm(form, _) => match form.since() {
                Some(since) => write!(f, "{form}: only Linux {since} and newer verify it"),
                None => write!(f, "{form}: no kernel verifies it"),
            },
            Self::OldVersion => f.write_str("EVM requires signatures of version 3 (bit 8)"),
            Self::InvalidHmac => f.write_str("EVM HMAC does not match"),
            Self::NoHmacKey => f.write_str("an EVM HMAC, and no key to verify it"),
            Self::NothingCovered => f.write_str("EVM signature without security.ima"),
            Self::NoInode => f.write_str("bound to an inode, which these files do not have"),
            Self::WrongType(_) => f.write_str("security.evm is not an EVM attribute"),
            Self::Malformed(error, _) => write!(f, "security.evm is malformed: {error}"),
            Self::AsOthers(verdict) => verdict.fmt(f),
        }
    }
}

/// Verifies `security.evm` of files, one after the other, in one thread.
#[allow(missing_debug_implementations)] // OpenSSL's contexts have nothing to show
pub struct EvmVerifier<'a> {
    verifier: Verifier,
    kernel: KernelVersion,
    coverage: Coverage,
    hmac: Option<&'a HmacKey>,
    versions: Versions,
    hashers: FileHasher,
}

impl<'a> EvmVerifier<'a> {
    /// A verifier with these keys; what the signature is bound to, its type says.
    pub fn new(
        verifier: Verifier,
        kernel: KernelVersion,
        coverage: Coverage,
        hmac: Option<&'a HmacKey>,
    ) -> Self {
        let (versions, hashers) = Default::default();
        Self { verifier, kernel, coverage, hmac, versions, hashers }
    }

    /// The same where EVM accepts these signatures.
    pub fn accepting(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// The verdict on a file.
    ///
    /// # Errors
    /// Those of reading, and of the hash.
    pub fn verdict(&mut self, item: &dyn Item) -> Result<Verdict, ItemError> {
        let verdict = self.verdict_of_newest(item)?;
        let is_older = !self.kernel.has(Feature::EvmPortable);
        Ok(match verdict.status() {
            EvmStatus::FailImmutable if is_older => Verdict::AsOthers(Box::new(verdict)),
            _ => verdict,
        })
    }

    /// The verdict, with the cause that kernels since 5.14 give.
    fn verdict_of_newest(&mut self, item: &dyn Item) -> Result<Verdict, ItemError> {
        // the kernel takes an empty value for an error, and this one for what it is worth
        let Some(value) = item.attribute(AttributeName::Evm)? else { return Ok(Verdict::Missing) };
        // the type says what becomes of the error, once there is more than a header
        let binding = match *value {
            [5, ..] if value.len() > SIGNATURE_HEADER => Binding::Portable,
            _ => Binding::Inode,
        };
        // before the kernel looks any further
        if let (Versions::V3, [3 | 5, 0..=2 | 4.., ..]) = (self.versions, &*value) {
            if value.len() > SIGNATURE_HEADER {
                return Ok(Verdict::OldVersion);
            }
        }
        let attribute = match Attribute::decode(&value) {
            Ok(attribute) => attribute,
            Err(error) => return Ok(Verdict::Malformed(error, binding)),
        };
        match attribute {
            Attribute::EvmHmac(_) => self.hmac_verdict(item, &value),
            Attribute::Signature(signature) => match signature.kind {
                SignatureKind::EvmPortable => {
                    self.signature_verdict(item, &signature, Binding::Portable)
                }
                SignatureKind::Ima => self.signature_verdict(item, &signature, Binding::Inode),
                SignatureKind::Verity => Ok(Verdict::WrongType(binding)),
            },
            Attribute::Digest(_) | Attribute::DigestNg(_) | Attribute::SignatureV1(_) => {
                Ok(Verdict::WrongType(binding))
            }
        }
    }

    fn hmac_verdict(&self, item: &dyn Item, value: &[u8]) -> Result<Verdict, ItemError> {
        let Some(key) = self.hmac else { return Ok(Verdict::NoHmacKey) };
        let coverage = Coverage { binding: Binding::Inode, ..self.coverage.clone() };
        let message = match coverage.message(item, &Change::none()) {
            Err(ItemError::NoInode) => return Ok(Verdict::NoInode),
            message => message?,
        };
        let made = key.attribute(&message).map_err(ItemError::Hmac)?;
        Ok(match made == value {
            true => Verdict::ValidHmac,
            false => Verdict::InvalidHmac,
        })
    }

    /// The verdict of kernels that know version 3 (5.19) and do not tell it from version 2 in
    /// `security.evm` (until 7.1): the version is not signed.
    fn as_version_2(
        &mut self,
        item: &dyn Item,
        signature: &Signature,
        binding: Binding,
    ) -> Result<Option<Verdict>, ItemError> {
        if signature.version == SignatureVersion::V2 || !self.kernel.has(Feature::Verity) {
            return Ok(None);
        }
        let signature = Signature { version: SignatureVersion::V2, ..signature.clone() };
        self.signature_verdict(item, &signature, binding).map(Some)
    }

    fn signature_verdict(
        &mut self,
        item: &dyn Item,
        signature: &Signature,
        binding: Binding,
    ) -> Result<Verdict, ItemError> {
        let Signature { key_id, algorithm, .. } = *signature;
        let forms = self.verifier.forms(signature);
        match forms.as_slice() {
            [] => return Ok(Verdict::UnknownKey(key_id, binding)),
            // not worth a digest, which there may be no way to make
            forms if forms.iter().all(|form| form.since().is_none()) => {
                return Ok(Verdict::InvalidSignature(key_id, binding));
            }
            [form, ..] if !forms.iter().any(|form| form.is_verified_by(self.kernel)) => {
                let newer = Verdict::NewerForm(*form, binding);
                let as_version_2 = self.as_version_2(item, signature, binding)?;
                return Ok(as_version_2.filter(Verdict::is_valid).unwrap_or(newer));
            }
            _ => {}
        }
        for (number, machine) in self.coverage.machine.all().into_iter().enumerate() {
            let coverage = Coverage { binding, machine, ..self.coverage.clone() };
            let message = match coverage.message(item, &Change::none()) {
                Err(ItemError::NothingToCover) => return Ok(Verdict::NothingCovered),
                Err(ItemError::NoInode) => return Ok(Verdict::NoInode),
                message => message?,
            };
            let digest = self.hashers.hasher(algorithm)?.digest(&message)?;
            if self.verifier.accepts(signature, &digest) {
                return Ok(match number {
                    0 => Verdict::ValidSignature { key_id, algorithm, binding },
                    _ => Verdict::OtherMachine(key_id, machine),
                });
            }
        }
        Ok(Verdict::InvalidSignature(key_id, binding))
    }
}
