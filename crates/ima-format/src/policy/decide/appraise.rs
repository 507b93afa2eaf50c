//! An event from decision to verdict: `process_measurement`, `ima_collect_measurement`,
//! `ima_appraise_measurement`, `xattr_verify`.

use alloc::vec::Vec;

use super::event::Event;
use super::file::{
    AttributeRead, Cause, Evidence, EvmStatus, FileSystemTrust, Inode, Modsig, OpenFile,
    SignatureCheck, Signed,
};
use super::walk::{Decider, Decision, Demands, Kind};
use crate::boot::AppraiseMode;
use crate::hash::{Digest, HashAlgorithm};
use crate::policy::ast::{Access, Func, Subaction};
use crate::policy::kernel::{Feature, Kernel};
use crate::xattr::AttributeType;

/// The result of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The event is allowed.
    Allowed,
    /// There is a cause for denial, but the event is allowed, since the mode is not [`AppraiseMode::Enforce`].
    Tolerated,
    /// The event is denied (`EACCES`).
    Denied,
}

/// The effects of an event on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The rules that decided.
    pub decision: Decision,
    /// Whether the event is allowed.
    pub verdict: Verdict,
    /// Causes for denial. If the event is denied, the last one is the cause.
    pub causes: Vec<Cause>,
    /// The PCR of the entry that is added to the measurement list.
    pub measured: Option<u8>,
    /// Violations that are added to the measurement list.
    pub violations: Vec<Violation>,
    /// Whether the digest is written to the audit log.
    pub audited: bool,
    /// Whether the attribute is replaced by a digest ([`AppraiseMode::Fix`]).
    pub fixed: bool,
}

/// The reason why a measurement is unreliable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// `ToMToU`: the file was measured, is still open, and is opened for writing.
    TimeOfMeasureTimeOfUse,
    /// `open_writers`: the file is measured while it is open for writing.
    OpenWriters,
}

/// The kernel's result of an appraisal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pass,
    Fail(Cause),
}

impl Decider<'_> {
    /// Whether portable EVM signatures have statuses of their own (`INTEGRITY_PASS_IMMUTABLE`,
    /// `INTEGRITY_FAIL_IMMUTABLE`).
    fn knows_immutable(&self) -> bool {
        self.kernel().version.has(Feature::EvmPortable)
    }

    /// Processes an event on a file as the kernel does, and updates `inode`, the kernel's cache.
    ///
    /// # Errors
    /// Those of `evidence`.
    pub fn process<E: Evidence>(
        &self,
        event: &Event,
        file: &OpenFile<'_>,
        inode: &mut Inode,
        evidence: &mut E,
    ) -> Result<Outcome, E::Error> {
        let decision = self.decide(event);
        let mut step = Step {
            decider: self,
            event,
            file,
            inode,
            evidence,
            outcome: Outcome {
                decision,
                verdict: Verdict::Allowed,
                causes: Vec::new(),
                measured: None,
                violations: Vec::new(),
                audited: false,
                fixed: false,
            },
        };
        if file.regular {
            step.run()?;
        }
        Ok(step.outcome)
    }
}

/// `ima_get_hash_algo`: the algorithm of the digest that an attribute is compared with.
pub fn attribute_algorithm(value: Option<&[u8]>, kernel: &Kernel) -> HashAlgorithm {
    let default = kernel.default_hash;
    let Some(value) = value.filter(|value| value.len() >= 2) else {
        return default;
    };
    let kind = value.first().copied().and_then(AttributeType::from_id);
    let byte = |offset: usize| value.get(offset).copied().unwrap_or_default();
    let signature = |versions: &[u8]| {
        let known = versions.contains(&byte(1)) && value.len() > SIGNATURE_HEADER_SIZE;
        known.then(|| HashAlgorithm::from_id(byte(2))).flatten()
    };
    let algorithm = match kind {
        Some(AttributeType::VeritySignature) => signature(&[3]),
        Some(AttributeType::ImaSignature) => {
            signature(if kernel.version.has(Feature::FileSigv3) { &[2, 3] } else { &[2] })
        }
        Some(AttributeType::ImaDigestNg) => HashAlgorithm::from_id(byte(1)),
        Some(AttributeType::ImaDigest) => match value.len() {
            // this type does not name its algorithm: an MD5 digest in 20 bytes ends with zeros
            21 if value.ends_with(&[0; 4]) => Some(HashAlgorithm::Md5),
            21 => Some(HashAlgorithm::Sha1),
            17 => Some(HashAlgorithm::Md5),
            _ => None,
        },
        _ => None,
    };
    algorithm.unwrap_or(default)
}

/// The digest that a signature of this version covers.
fn signed(version: u8, digest: &Digest) -> Signed<'_> {
    match version {
        3 => Signed::FileId(digest),
        _ => Signed::Digest(digest),
    }
}

/// The size of the header before a signature in an attribute (`struct signature_v2_hdr`), in bytes.
const SIGNATURE_HEADER_SIZE: usize = 9;

/// The fields of the template `ima`, which has no signature.
const OLDEST_TEMPLATE: &[u8] = b"d|n";

struct Step<'a, E> {
    decider: &'a Decider<'a>,
    event: &'a Event,
    file: &'a OpenFile<'a>,
    inode: &'a mut Inode,
    evidence: &'a mut E,
    outcome: Outcome,
}

/// The actions that remain after those of earlier events on the same file.
#[derive(Debug, Clone, Copy)]
struct Todo {
    measure: bool,
    appraise: Option<Subaction>,
    audit: bool,
    hash: bool,
}

/// The result of `ima_collect_measurement`.
enum Collected {
    Digest(Digest),
    /// No digest, but the event is measured and logged anyway (`EINVAL`).
    Unread,
    Failed,
}

impl<'a, E: Evidence> Step<'a, E> {
    fn run(&mut self) -> Result<(), E::Error> {
        self.note_violations();
        let decision = &self.outcome.decision;
        if decision.is_idle() && decision.demands == Demands::default() {
            return Ok(());
        }
        self.inode.demands = self.inode.demands.and(decision.demands);
        let mut content = self.look()?;
        if self.event.access.contains(Access::Write) && self.inode.signed && !self.inode.new_file {
            content = false;
            if self.must_appraise() {
                self.outcome.causes.push(Cause::SignedFileWritten);
            }
        }
        self.outcome.verdict = match (self.must_appraise() && !content, self.decider.mode()) {
            (false, _) => Verdict::Allowed,
            (true, AppraiseMode::Enforce) => Verdict::Denied,
            (true, AppraiseMode::Log | AppraiseMode::Fix | AppraiseMode::Off) => Verdict::Tolerated,
        };
        Ok(())
    }

    fn must_appraise(&self) -> bool {
        self.outcome.decision.appraise.does()
    }

    /// `ima_rdwr_violation_check`.
    fn note_violations(&mut self) {
        let hooks = [Func::FileCheck, Func::MmapCheck, Func::MmapCheckReqprot];
        let measuring = self.decider.active_kinds().contains(&Kind::Measure);
        if !measuring || !hooks.contains(&self.event.func) {
            return;
        }
        let limited = self.decider.kernel().version.has(Feature::LimitedViolations);
        if self.file.writable {
            if self.file.read_elsewhere && self.inode.may_emit_tomtou {
                self.outcome.violations.push(Violation::TimeOfMeasureTimeOfUse);
                self.inode.may_emit_tomtou = !limited;
            }
        } else if self.outcome.decision.measure.does() {
            self.inode.may_emit_tomtou = true;
            if self.file.written_elsewhere {
                if !limited || !self.inode.emitted_open_writers {
                    self.outcome.violations.push(Violation::OpenWriters);
                }
                self.inode.emitted_open_writers = true;
            }
        }
    }

    /// The part of `process_measurement` under the lock; returns whether the event passes.
    fn look(&mut self) -> Result<bool, E::Error> {
        let mut todo = self.todo();
        if todo.hash && !self.inode.signed {
            self.inode.hashed = true;
            self.inode.signed = self.file.attribute.value().is_some_and(|value| {
                value.len() > 2 && value.first() == Some(&(AttributeType::ImaSignature as u8))
            });
            todo.hash = false;
        }
        if !todo.measure && todo.appraise.is_none() && !todo.audit && !todo.hash {
            // earlier events on the file did all actions, and the appraisal passed
            return Ok(!self.must_appraise() || self.is_unmapped());
        }
        let (algorithm, modsig) = self.read_signatures(&mut todo)?;
        let collected = self.collect(algorithm)?;
        if let Collected::Failed = collected {
            return Ok(false);
        }
        if todo.measure {
            self.measure(&collected);
        }
        let mut content = match (&collected, todo.appraise) {
            (Collected::Digest(digest), Some(subaction)) => {
                self.appraise(subaction, digest, modsig.as_ref())? && self.is_unmapped()
            }
            (Collected::Digest(_), None) => true,
            (Collected::Unread | Collected::Failed, _) => false,
        };
        if todo.audit {
            self.inode.audited = true;
            self.outcome.audited = true;
        }
        if self.file.direct && self.inode.demands.permit_directio {
            content = true;
        }
        let allowed = self.outcome.decision.allowed_algos;
        if content && allowed.is_some_and(|set| !set.contains(algorithm)) {
            self.outcome.causes.push(Cause::DeniedHashAlgorithm);
            content = false;
        }
        Ok(content)
    }

    fn todo(&self) -> Todo {
        let decision = &self.outcome.decision;
        Todo {
            measure: decision.measure.does() && !self.inode.measured_pcrs.contains(&self.pcr()),
            appraise: decision
                .subaction
                .filter(|subaction| !self.inode.appraised.contains(subaction)),
            audit: decision.audit.does() && !self.inode.audited,
            hash: decision.hash.does() && !self.inode.hashed,
        }
    }

    fn pcr(&self) -> u8 {
        self.outcome.decision.pcr.unwrap_or(self.decider.kernel().default_pcr)
    }

    /// `mmap_violation_check`. A rule without `func=` has the subaction of `FILE_CHECK`, which is not checked.
    fn is_unmapped(&mut self) -> bool {
        let mapping = matches!(self.event.func, Func::MmapCheck | Func::MmapCheckReqprot);
        let specific = self.outcome.decision.subaction == Some(Subaction::Mmap);
        let violated = mapping && specific && self.file.mapped_writable;
        if violated {
            self.outcome.causes.push(Cause::MmappedWriters);
        }
        !violated
    }

    /// Reads the attribute, which selects the algorithm of the digest, and the appended signature, if any action
    /// needs them.
    fn read_signatures(
        &mut self,
        todo: &mut Todo,
    ) -> Result<(HashAlgorithm, Option<Modsig>), E::Error> {
        let fields = self.template_fields();
        let kernel = self.decider.kernel();
        if todo.appraise.is_none() && fields == OLDEST_TEMPLATE {
            return Ok((kernel.default_hash, None));
        }
        // hooks that are called with the content of the file in memory
        let buffered = self.event.func.subaction() == Subaction::Read;
        let modsig = match self.inode.demands.modsig_allowed && buffered {
            true => self.evidence.modsig()?,
            false => None,
        };
        let wants_modsig = fields
            .split(|byte| *byte == b'|')
            .any(|field| matches!(field, b"modsig" | b"d-modsig"));
        // the appended signature needs an entry of its own, even if the file was measured before
        if modsig.is_some() && wants_modsig && !self.inode.measured_pcrs.is_empty() {
            todo.measure = true;
        }
        Ok((attribute_algorithm(self.file.attribute.value(), kernel), modsig))
    }

    fn template_fields(&self) -> &'a [u8] {
        let kernel = self.decider.kernel();
        let rule = self.outcome.decision.template.and_then(|rule| self.decider.rules().get(rule));
        let name = rule.and_then(|rule| rule.template.as_ref()).unwrap_or(&kernel.default_template);
        kernel.template_fields(name.as_bytes()).unwrap_or_default()
    }

    /// `ima_collect_measurement`: a digest that is cached is used, whatever algorithm is requested now.
    fn collect(&mut self, algorithm: HashAlgorithm) -> Result<Collected, E::Error> {
        if let Some(digest) = self.inode.collected {
            return Ok(Collected::Digest(digest));
        }
        let buffered = self.event.func.subaction() == Subaction::Read;
        let (digest, cause) = if self.inode.demands.verity {
            (self.evidence.verity_digest()?, Cause::NoVerityDigest)
        } else if self.file.direct && !buffered {
            self.outcome.causes.push(Cause::FailedDirectio);
            return Ok(Collected::Unread);
        } else {
            (self.evidence.digest(algorithm)?, Cause::Failed)
        };
        Ok(match digest {
            Some(digest) => {
                self.inode.collected = Some(digest);
                Collected::Digest(digest)
            }
            None => {
                let cause = if self.file.direct { Cause::FailedDirectio } else { cause };
                self.outcome.causes.push(cause);
                Collected::Failed
            }
        })
    }

    /// `ima_store_measurement`. The oldest template has room for SHA-1 and MD5 only; if another digest was collected,
    /// it computes its own (`ima_eventdigest_init`).
    fn measure(&mut self, collected: &Collected) {
        let algorithm = match collected {
            Collected::Digest(digest) => digest.algorithm(),
            Collected::Unread | Collected::Failed => self.decider.kernel().default_hash,
        };
        let fits = matches!(algorithm, HashAlgorithm::Sha1 | HashAlgorithm::Md5);
        if self.file.direct && !fits && self.template_fields() == OLDEST_TEMPLATE {
            self.outcome.causes.push(Cause::Failed);
            return;
        }
        let pcr = self.pcr();
        self.outcome.measured = Some(pcr);
        if !self.file.direct && !self.inode.measured_pcrs.contains(&pcr) {
            self.inode.measured_pcrs.push(pcr);
        }
    }

    /// `ima_check_blacklist`, then `ima_appraise_measurement`.
    fn appraise(
        &mut self,
        subaction: Subaction,
        digest: &Digest,
        modsig: Option<&Modsig>,
    ) -> Result<bool, E::Error> {
        if self.is_blacklisted(digest, modsig)? {
            self.outcome.causes.push(Cause::Blacklisted);
            return Ok(false);
        }
        if modsig.is_none() && self.file.attribute == AttributeRead::NoAttributes {
            self.outcome.causes.push(Cause::NoAttributes);
            return Ok(false);
        }
        let status = self.status(digest, modsig)?;
        let distrusted = match self.file.trust {
            FileSystemTrust::Verifiable => false,
            FileSystemTrust::Unverifiable => self.inode.demands.fail_unverifiable,
            FileSystemTrust::UntrustedMounter => true,
        };
        Ok(match status {
            _ if distrusted => {
                self.outcome.causes.push(Cause::UnverifiableSignature);
                false
            }
            Status::Pass => {
                self.inode.appraised.push(subaction);
                true
            }
            Status::Fail(cause) => {
                self.outcome.causes.push(cause);
                // a new file may get its signature before its content
                let empty = self.file.size == 0 && self.inode.new_file && self.inode.signed;
                self.fix(modsig) || empty
            }
        })
    }

    fn is_blacklisted(
        &mut self,
        digest: &Digest,
        modsig: Option<&Modsig>,
    ) -> Result<bool, E::Error> {
        let demands = self.inode.demands;
        let any = self.decider.kernel().version.has(Feature::BlacklistByDefault);
        let looked_up = match modsig.map(|modsig| modsig.digest.as_ref()) {
            Some(Some(signed)) => signed,
            None if any && demands.signature => digest,
            // pkcs7_get_digest() has no digest for ML-DSA: nothing is looked up
            Some(None) | None => return Ok(false),
        };
        Ok(demands.check_blacklist && self.evidence.is_blacklisted(looked_up.as_bytes())?)
    }

    /// Replaces the attribute by a digest in [`AppraiseMode::Fix`]; signatures are kept.
    fn fix(&mut self, modsig: Option<&Modsig>) -> bool {
        let kind = self.file.attribute.value().and_then(|value| value.first());
        self.outcome.fixed = self.decider.mode() == AppraiseMode::Fix
            && modsig.is_none()
            && kind != Some(&(AttributeType::ImaSignature as u8))
            && self.file.attribute != AttributeRead::Unsupported
            && self.file.fixable;
        self.outcome.fixed
    }

    fn status(&mut self, digest: &Digest, modsig: Option<&Modsig>) -> Result<Status, E::Error> {
        let demands = self.inode.demands;
        let attribute = self.file.attribute.value();
        if attribute.is_none() && modsig.is_none() {
            return Ok(self.status_without_attribute());
        }
        let immutable = match self.file.evm {
            EvmStatus::PassImmutable => self.decider.knows_immutable(),
            EvmStatus::Pass | EvmStatus::Unknown => false,
            EvmStatus::NoXattrs if modsig.is_some() => false,
            EvmStatus::NoXattrs | EvmStatus::NoLabel => {
                return Ok(Status::Fail(Cause::MissingHmac))
            }
            EvmStatus::FailImmutable if self.decider.knows_immutable() => {
                self.inode.signed = true;
                return Ok(Status::Fail(Cause::InvalidFailImmutable));
            }
            EvmStatus::Fail | EvmStatus::FailImmutable => {
                return Ok(Status::Fail(Cause::InvalidHmac))
            }
        };
        let (status, unknown_key) = match attribute {
            None => (Status::Fail(Cause::Unknown), false),
            Some(value) => self.verify(value, digest, demands, immutable)?,
        };
        let digest_ng =
            attribute.and_then(|value| value.first()) == Some(&(AttributeType::ImaDigestNg as u8));
        Ok(match modsig {
            Some(modsig) if attribute.is_none() || digest_ng || unknown_key => match modsig.check {
                SignatureCheck::Good => Status::Pass,
                _ => Status::Fail(Cause::InvalidSignature),
            },
            _ => status,
        })
    }

    fn status_without_attribute(&mut self) -> Status {
        if self.file.attribute == AttributeRead::Unreadable {
            return Status::Fail(Cause::Unknown);
        }
        let demands = self.inode.demands;
        self.inode.new_file |= self.file.created;
        if self.inode.new_file && (!demands.signature || self.file.size == 0) {
            return Status::Pass;
        }
        Status::Fail(match (demands.signature, demands.verity) {
            (false, _) => Cause::MissingHash,
            (true, false) => Cause::ImaSignatureRequired,
            (true, true) => Cause::VeritySignatureRequired,
        })
    }

    /// `xattr_verify`; also returns whether it failed because the key is unknown.
    fn verify(
        &mut self,
        value: &[u8],
        digest: &Digest,
        demands: Demands,
        immutable: bool,
    ) -> Result<(Status, bool), E::Error> {
        let kind = value.first().copied().and_then(AttributeType::from_id);
        let version = value.get(1).copied().unwrap_or_default();
        let fail = |cause| (Status::Fail(cause), false);
        Ok(match kind {
            Some(AttributeType::ImaDigest | AttributeType::ImaDigestNg) => {
                if demands.signature && !immutable {
                    return Ok(fail(if demands.verity {
                        Cause::VeritySignatureRequired
                    } else {
                        Cause::ImaSignatureRequired
                    }));
                }
                self.inode.signed = immutable;
                let start = if kind == Some(AttributeType::ImaDigest) { 1 } else { 2 };
                // bytes after the digest are ignored
                let held = value.get(start..).unwrap_or_default();
                match held.starts_with(digest.as_bytes()) {
                    true => (Status::Pass, false),
                    false => fail(Cause::InvalidHash),
                }
            }
            Some(AttributeType::ImaSignature) => {
                self.inode.signed = true;
                if demands.signature && demands.verity {
                    return Ok(fail(Cause::VeritySignatureRequired));
                }
                let newest =
                    if self.decider.kernel().version.has(Feature::FileSigv3) { 3 } else { 2 };
                match version {
                    _ if version > newest => fail(Cause::InvalidSignatureVersion),
                    _ if demands.sigv3 && version != 3 => fail(Cause::ImaSigv3Required),
                    // an attribute of one byte has no version, and is too short for a signature
                    0 if value.len() > 1 => fail(Cause::Unknown),
                    _ => match self.evidence.verify(value, signed(version, digest))? {
                        SignatureCheck::Good => (Status::Pass, false),
                        SignatureCheck::Bad => fail(Cause::InvalidSignature),
                        SignatureCheck::UnknownKey => (Status::Fail(Cause::InvalidSignature), true),
                        SignatureCheck::Unsupported => fail(Cause::Unknown),
                    },
                }
            }
            Some(AttributeType::VeritySignature) => {
                self.inode.signed = true;
                if demands.signature && !demands.verity {
                    return Ok(fail(Cause::ImaSignatureRequired));
                }
                if version != 3 {
                    return Ok(fail(Cause::InvalidSignatureVersion));
                }
                match self.evidence.verify(value, Signed::FileId(digest))? {
                    SignatureCheck::Good => (Status::Pass, false),
                    SignatureCheck::UnknownKey => {
                        (Status::Fail(Cause::InvalidVeritySignature), true)
                    }
                    _ => fail(Cause::InvalidVeritySignature),
                }
            }
            Some(AttributeType::EvmHmac | AttributeType::EvmPortableSignature) | None => {
                fail(Cause::UnknownImaData)
            }
        })
    }
}
