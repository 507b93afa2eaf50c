//! One file to a verdict: the policy's decision, the attribute, the signature.

use std::borrow::Cow;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::ast::{Access, Action, Func, Policy, Rule, Uuid};
use ima_format::policy::decide::{
    AppraiseMode, AttributeRead, Cause, Credentials, Decider, Event, Evidence, EvmStatus,
    FileFacts, Inode, Labels, Modsig, OpenFile, Operation, Outcome, SignatureCheck, Signed,
    Verdict,
};
use ima_format::policy::filesystem::{FileSystem, Purpose};
use ima_format::policy::kernel::{Kernel, KernelVersion};
use ima_format::verity::{Parameters, Salt};
use ima_format::xattr::{Attribute, KeyId, Signature, SignatureKind};

use super::immutable::{self, Evm};
use super::trial::Trial;
use crate::container::source::{Entry, SourceError, SourceFile};
use crate::container::AttributeName;
use crate::digest::{DigestError, DigestKind, FileHasher};
use crate::evm::EvmVerifier;
use crate::key::Message;
use crate::modsig::{self, Over};
use crate::verify::{Keyring, Verifier};

/// Which file system a part of the root will be on.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where it is mounted.
    pub path: std::path::PathBuf,
    /// Its name, as in `/proc/filesystems`.
    pub name: Cow<'static, str>,
    /// Its magic number.
    pub magic: u64,
    /// Its UUID; null where it is not known.
    pub uuid: Uuid,
    /// Whether its files can carry `security.ima`.
    pub attributes: Attributes,
}

/// Whether a file system has extended attributes in the `security` name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// It has.
    Kept,
    /// It has none.
    None,
}

impl Mount {
    /// A file system that is known, at `path`.
    pub fn new(path: std::path::PathBuf, system: FileSystem, uuid: Uuid) -> Self {
        // ramfs has none; a vfat or an ISO image has no room for any
        let none = matches!(system.purpose, Purpose::Removable | Purpose::Pseudo)
            || system.magic == 0x8584_58f6;
        Self {
            path,
            name: system.name.into(),
            magic: system.magic,
            uuid,
            attributes: if none { Attributes::None } else { Attributes::Kept },
        }
    }
}

/// Who owns the files of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As they are.
    Kept,
    /// All are root's, whoever they belong to here.
    Root,
}

impl Owners {
    /// The one of all files.
    pub(super) fn one(self) -> Option<u32> {
        match self {
            Self::Kept => None,
            Self::Root => Some(0),
        }
    }
}

/// A denial by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// By which hook.
    pub func: Func,
    /// The kernel's word for it.
    pub cause: Cause,
    /// The key that made the signature, where that is not known.
    pub unknown_key: Option<KeyId>,
    /// The rule, counted from 0.
    pub rule: Option<usize>,
}

/// Why the kernel's answer cannot be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unknown {
    /// The rule asks for the file's fs-verity digest, which it has only where that is enabled. All
    /// else is right, if it is enabled without a salt.
    Verity,
    /// A rule that would decide otherwise asks for a label of a security module.
    Labels,
}

/// The kernel's answer to one use of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is let through.
    Allowed {
        /// Whether a rule had it checked.
        appraised: bool,
    },
    /// It is denied.
    Denied(Refusal),
    /// It is unknown.
    Unknown(Unknown),
}

impl Answer {
    /// Whether it is denied.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

/// The policy, keys and kernel by which all files are judged.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(super) decider: Decider<'a>,
    pub(super) mounts: &'a [Mount],
    pub(super) owners: Owners,
    pub(super) keyring: &'a Keyring,
    /// EVM, where it is enabled.
    pub(super) evm: Option<&'a Evm>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        policy: &'a Policy,
        kernel: &'a Kernel,
        keyring: &'a Keyring,
        mounts: &'a [Mount],
        owners: Owners,
    ) -> Self {
        Self::in_mode(policy, kernel, keyring, (mounts, owners), AppraiseMode::Enforce)
    }

    pub(crate) fn in_mode(
        policy: &'a Policy,
        kernel: &'a Kernel,
        keyring: &'a Keyring,
        (mounts, owners): (&'a [Mount], Owners),
        mode: AppraiseMode,
    ) -> Self {
        Self { decider: Decider::new(policy, kernel, mode), mounts, owners, keyring, evm: None }
    }

    /// The same with EVM.
    pub(crate) fn with_evm(self, evm: Option<&'a Evm>) -> Self {
        Self { evm, ..self }
    }

    fn mount(&self, entry: &Entry) -> Option<&Mount> {
        let covers = |mount: &&Mount| entry.path.starts_with(&mount.path);
        let depth = |mount: &&Mount| mount.path.components().count();
        self.mounts.iter().filter(covers).max_by_key(depth)
    }
}

/// The state of a thread.
pub(crate) struct Judge<'a> {
    bench: &'a Bench<'a>,
    verifier: Verifier,
    evm: Option<EvmVerifier<'a>>,
    hasher: FileHasher,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(bench: &'a Bench<'a>) -> Self {
        let verifier = Verifier::new(bench.keyring.clone());
        let kernel = bench.decider.kernel().version;
        let evm = bench.evm.map(|evm| evm.verifier(kernel, bench.owners.one()));
        Self { bench, verifier, evm, hasher: FileHasher::default() }
    }

    /// Takes up a file.
    pub(crate) fn open<'f>(
        &'f mut self,
        entry: &Entry,
        size: u64,
        content: &'f dyn SourceFile,
        progress: &'f dyn Fn(u64),
    ) -> Result<Case<'f>, SourceError> {
        let mount = self.bench.mount(entry);
        let keeps = mount.map_or(true, |mount| mount.attributes == Attributes::Kept);
        let attribute = if keeps { content.attribute(AttributeName::Ima)? } else { None };
        let (owner, group) = match self.bench.owners {
            Owners::Kept => (entry.uid, entry.gid),
            Owners::Root => (0, 0),
        };
        let evm = match &mut self.evm {
            // without security.ima the kernel does not come so far
            Some(verifier) if attribute.is_some() => {
                immutable::verdict(verifier, entry, content)?.status()
            }
            _ => EvmStatus::Unknown,
        };
        let verity = verity_parameters(&attribute);
        let facts = match mount {
            None => FileFacts { owner, group, ..FileFacts::on_ext4() },
            Some(Mount { name, magic, uuid, .. }) => FileFacts {
                owner,
                group,
                fsmagic: *magic,
                fsname: name.as_bytes().to_vec(),
                fs_subtype: None,
                fsuuid: *uuid,
            },
        };
        Ok(Case {
            bench: self.bench,
            facts,
            setuid: (entry.mode & 0o4000 != 0).then_some(owner),
            setgid: (entry.mode & 0o2010 == 0o2010).then_some(group),
            keeps,
            attribute,
            evm,
            size,
            proof: Proof {
                keyring: self.bench.keyring,
                kernel: self.bench.decider.kernel().version,
                verifier: &mut self.verifier,
                hasher: &mut self.hasher,
                size,
                content,
                progress,
                digests: Vec::new(),
                checked: Vec::new(),
                unknown_key: None,
                verity,
                verity_digest: None,
            },
        })
    }
}

/// A file that is judged, and its properties that are known so far.
pub(crate) struct Case<'f> {
    bench: &'f Bench<'f>,
    facts: FileFacts,
    setuid: Option<u32>,
    setgid: Option<u32>,
    keeps: bool,
    attribute: Option<Vec<u8>>,
    evm: EvmStatus,
    size: u64,
    proof: Proof<'f>,
}

/// Evidence from the file's content and the keys, each computed once.
struct Proof<'f> {
    keyring: &'f Keyring,
    kernel: KernelVersion,
    verifier: &'f mut Verifier,
    hasher: &'f mut FileHasher,
    size: u64,
    content: &'f dyn SourceFile,
    progress: &'f dyn Fn(u64),
    digests: Vec<Digest>,
    checked: Vec<(Digest, SignatureCheck)>,
    unknown_key: Option<KeyId>,
    /// How fs-verity is taken to be enabled.
    verity: Option<Parameters>,
    /// The digest, where a rule asked for it.
    verity_digest: Option<Digest>,
}

/// fs-verity as a signature needs it: with its algorithm, without a salt.
fn verity_parameters(attribute: &Option<Vec<u8>>) -> Option<Parameters> {
    let algorithm = match Attribute::decode(attribute.as_deref().unwrap_or_default()) {
        Ok(Attribute::Signature(signature)) if signature.kind == SignatureKind::Verity => {
            signature.algorithm
        }
        _ => HashAlgorithm::Sha256,
    };
    Parameters::new(algorithm, Salt::default())
}

impl Case<'_> {
    /// The kernel's answer when `caller` uses the file like this.
    ///
    /// # Errors
    /// The digest was needed, and could not be computed.
    pub(crate) fn answer(
        &mut self,
        operation: Operation,
        caller: Credentials,
    ) -> Result<Answer, SourceError> {
        let decider = &self.bench.decider;
        let executed = caller.executing(self.setuid, self.setgid);
        let file = OpenFile {
            evm: self.evm,
            ..OpenFile::at_rest(self.size, attribute_read(self.keeps, &self.attribute))
        };
        let mut inode = Inode::default();
        let (mut appraised, mut labels) = (false, false);
        for asked in operation.events(decider.kernel().version) {
            let event = Event {
                func: asked.func,
                access: asked.access,
                credentials: asked.behalf.credentials(&caller, &executed),
                file: Some(self.facts.clone()),
                labels: Labels::Unknown,
                data: None,
            };
            let outcome = decider.process(&event, &file, &mut inode, &mut self.proof)?;
            appraised |= outcome.decision.appraise.does();
            labels |= depends_on_labels(decider.rules(), &outcome);
            if outcome.verdict != Verdict::Denied {
                continue;
            }
            let cause = outcome.causes.last().copied().unwrap_or(Cause::Unknown);
            if labels {
                return Ok(Answer::Unknown(Unknown::Labels));
            }
            if cause == Cause::NoVerityDigest {
                return Ok(Answer::Unknown(Unknown::Verity));
            }
            let unknown_key = match cause {
                Cause::InvalidSignature => self.proof.unknown_key,
                _ => None,
            };
            let rule = outcome.decision.appraise.rule();
            return Ok(Answer::Denied(Refusal { func: asked.func, cause, unknown_key, rule }));
        }
        Ok(match (labels, self.proof.verity_digest) {
            (true, _) => Answer::Unknown(Unknown::Labels),
            (false, Some(_)) if appraised => Answer::Unknown(Unknown::Verity),
            (false, _) => Answer::Allowed { appraised },
        })
    }

    /// The kernel's reaction to one event.
    ///
    /// # Errors
    /// The digest was needed, and could not be computed.
    pub(crate) fn try_event(&mut self, event: &Event) -> Result<Trial, SourceError> {
        let decider = &self.bench.decider;
        let file = OpenFile {
            evm: self.evm,
            writable: event.access.contains(Access::Write),
            ..OpenFile::at_rest(self.size, attribute_read(self.keeps, &self.attribute))
        };
        let outcome = decider.process(event, &file, &mut Inode::default(), &mut self.proof)?;
        let unknown_key = match outcome.causes.last() {
            Some(Cause::InvalidSignature) => self.proof.unknown_key,
            _ => None,
        };
        let verity = self.proof.verity_digest.is_some();
        Ok(Trial { outcome, unknown_key, verity })
    }
}

fn attribute_read(keeps: bool, attribute: &Option<Vec<u8>>) -> AttributeRead<'_> {
    match (attribute, keeps) {
        (_, false) => AttributeRead::NoAttributes,
        (Some(value), true) => AttributeRead::Value(value),
        (None, true) => AttributeRead::Missing,
    }
}

/// Whether a rule before the one that decided would decide otherwise.
fn depends_on_labels(rules: &[&Rule], outcome: &Outcome) -> bool {
    let decision = &outcome.decision;
    decision.undetermined.iter().filter_map(|rule| rules.get(*rule)).any(|rule| {
        let excludes = rule.action == Action::DontAppraise;
        rule.action == Action::Appraise || (excludes && decision.appraise.does())
    })
}

impl Proof<'_> {
    fn check(&mut self, signature: &Signature, digest: &Digest) -> SignatureCheck {
        if let Some((_, check)) = self.checked.iter().find(|(other, _)| other == digest) {
            return *check;
        }
        let check = if self.keyring.is_revoked(signature.key_id) {
            SignatureCheck::Bad
        } else if !self.keyring.knows(signature.key_id) {
            self.unknown_key = Some(signature.key_id);
            SignatureCheck::UnknownKey
        } else if self.verifier.accepts(signature, digest) {
            SignatureCheck::Good
        } else {
            SignatureCheck::Bad
        };
        self.checked.push((*digest, check));
        check
    }
}

impl Evidence for Proof<'_> {
    type Error = SourceError;

    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Option<Digest>, SourceError> {
        let of = |digest: &&Digest| digest.algorithm() == algorithm;
        if let Some(digest) = self.digests.iter().find(of) {
            return Ok(Some(*digest));
        }
        match self.content.digest(self.hasher, self.size, algorithm.into(), self.progress) {
            Ok(digest) => {
                self.digests.push(digest);
                Ok(Some(digest))
            }
            // a kernel without the algorithm: "failed"
            Err(SourceError::Digest(DigestError::Unavailable(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn verity_digest(&mut self) -> Result<Option<Digest>, SourceError> {
        let Some(parameters) = self.verity else { return Ok(None) };
        if self.verity_digest.is_none() {
            let kind = DigestKind::Verity(parameters);
            let digest = self.content.digest(self.hasher, self.size, kind, self.progress);
            self.verity_digest = match digest {
                Err(SourceError::Digest(DigestError::Unavailable(_))) => None,
                digest => Some(digest?),
            };
        }
        Ok(self.verity_digest)
    }

    fn verify(
        &mut self,
        attribute: &[u8],
        signed: Signed<'_>,
    ) -> Result<SignatureCheck, SourceError> {
        let signature = match Attribute::decode(attribute) {
            Ok(Attribute::Signature(signature)) => signature,
            // its keys are not certificates
            Ok(Attribute::SignatureV1(_)) => return Ok(SignatureCheck::UnknownKey),
            _ => return Ok(SignatureCheck::Bad),
        };
        // the signature's version decides how the digest is hashed again
        let (Signed::Digest(digest) | Signed::FileId(digest)) = signed;
        Ok(self.check(&signature, digest))
    }

    fn is_blacklisted(&mut self, digest: &[u8]) -> Result<bool, SourceError> {
        Ok(self.keyring.denies(digest))
    }

    fn modsig(&mut self) -> Result<Option<Modsig>, SourceError> {
        let Self { size, content, keyring, kernel, hasher, .. } = self;
        let (verdict, signed) = appended_verdict(*content, *size, (keyring, *kernel), hasher)?;
        let check = match verdict {
            // one that is malformed counts as none
            modsig::Verdict::Malformed(_)
            | modsig::Verdict::Missing
            | modsig::Verdict::TooNew(_) => return Ok(None),
            modsig::Verdict::Valid { .. } => SignatureCheck::Good,
            modsig::Verdict::UnknownKey => SignatureCheck::UnknownKey,
            _ => SignatureCheck::Bad,
        };
        Ok(Some(Modsig { check, digest: signed }))
    }
}

/// The verdict on the appended signature of a file, and the digest that was made for it.
pub(super) fn appended_verdict(
    content: &dyn SourceFile,
    size: u64,
    (keyring, kernel): (&Keyring, KernelVersion),
    hasher: &mut FileHasher,
) -> Result<(modsig::Verdict, Option<Digest>), SourceError> {
    let found = modsig::read(size, |offset, to| content.read_at(offset, to))?;
    let before = match &found {
        Some(Ok(appended)) => appended.content,
        _ => size,
    };
    let read = |offset: u64, to: &mut [u8]| {
        let left = usize::try_from(before - offset).unwrap_or(usize::MAX).min(to.len());
        content.read_at(offset, &mut to[..left])
    };
    let mut digested = None;
    let signed = |over| {
        let Over::Digest(algorithm) = over else {
            return modsig::content(before, read).map(Message::Bytes);
        };
        let (digest, _) = hasher.digest_with(read, algorithm, &|_| {})?;
        digested = Some(digest);
        Ok::<_, SourceError>(Message::Digest(digest))
    };
    let verdict = modsig::verdict(keyring, kernel, found.as_ref(), signed)?;
    // the blacklist is asked for the digest before a key is
    let algorithm = match (digested, &found) {
        (None, Some(Ok(appended))) => appended.digested_by(),
        _ => None,
    };
    if let Some(algorithm) = algorithm {
        digested = Some(hasher.digest_with(read, algorithm, &|_| {})?.0);
    }
    Ok((verdict, digested))
}
