//! Verifies files.

use ima_format::policy::decide::EvmStatus;
use ima_format::policy::kernel::Feature;
use ima_format::xattr::Attribute;

use crate::container::{Access, Anomaly, AttributeName, Change, Item, ItemError, Operation};
use crate::digest::DigestKind;
use crate::evm::{Coverage, EvmVerifier, HmacKey, Verdict as EvmVerdict, Versions};
use crate::modsig;
use crate::verify::{Keyring, Requirement, Rule, Verdict, Verifier};

/// Gives the kernel's verdict on each file.
#[derive(Debug)]
pub struct Verify<'a> {
    keyring: &'a Keyring,
    rule: Rule,
    evm: Option<EvmVerify<'a>>,
}

/// How `security.evm` is verified.
#[derive(Debug)]
pub struct EvmVerify<'a> {
    /// The keys of `.evm`.
    pub keyring: &'a Keyring,
    /// What it covers; each attribute says what it is bound to.
    pub coverage: Coverage,
    /// The key of HMACs.
    pub hmac: Option<&'a HmacKey>,
    /// The versions that are accepted.
    pub versions: Versions,
}

/// What a thread keeps from file to file.
#[allow(missing_debug_implementations)] // OpenSSL's contexts have nothing to show
pub struct Verifiers<'a> {
    content: Verifier,
    evm: Option<EvmVerifier<'a>>,
}

impl<'a> Verify<'a> {
    /// Verifies with these keys, under this rule.
    pub fn new(keyring: &'a Keyring, rule: Rule) -> Self {
        Self { keyring, rule, evm: None }
    }

    /// Verifies `security.evm`, too.
    pub fn with_evm(self, evm: EvmVerify<'a>) -> Self {
        Self { evm: Some(evm), ..self }
    }

    /// The rule for a file with this `security.ima`: a digest satisfies any if a portable EVM signature
    /// covers it (`INTEGRITY_PASS_IMMUTABLE` in `xattr_verify`).
    fn rule_with(&self, evm: Option<&EvmVerdict>, value: Option<&[u8]>) -> Rule {
        let is_immutable = evm.is_some_and(|evm| evm.status() == EvmStatus::PassImmutable);
        let attribute = value.and_then(|value| Attribute::decode(value).ok());
        let is_digest = matches!(attribute, Some(Attribute::Digest(_) | Attribute::DigestNg(_)));
        match is_immutable && is_digest && self.rule.kernel.has(Feature::EvmPortable) {
            true => Rule { requirement: Requirement::Digest, ..self.rule },
            false => self.rule,
        }
    }
}

/// What is found of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The kernel's verdict, of a package: once it is installed.
    Kernel(Verdict),
    /// The same, for a kernel on which EVM is active.
    WithEvm {
        /// The verdict on the content.
        content: Verdict,
        /// The verdict on the metadata, which the kernel comes to first.
        evm: EvmVerdict,
    },
    /// The verdict on its appended signature.
    Appended(modsig::Verdict),
    /// A property of the file in its container, with which no signature can be right.
    Anomaly(Anomaly),
    /// It has no content, and no signature.
    NotSigned,
}

impl Judgement {
    /// Whether there is nothing to complain of.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Kernel(verdict) => verdict.is_valid(),
            Self::WithEvm { content, evm } => content.is_valid() && evm.is_valid(),
            Self::Appended(verdict) => verdict.is_valid(),
            Self::Anomaly(_) => false,
            Self::NotSigned => true,
        }
    }
}

impl<'a> Operation for Verify<'a> {
    type Outcome = Judgement;
    type Worker = Verifiers<'a>;

    const ACCESS: Access = Access::Reads;

    fn attributes(&self) -> &'static [AttributeName] {
        match self.evm {
            Some(_) => &[AttributeName::Ima, AttributeName::Evm],
            None => &[AttributeName::Ima],
        }
    }

    fn worker(&self) -> Verifiers<'a> {
        let evm = self.evm.as_ref().map(|evm| {
            let verifier = Verifier::new(evm.keyring.clone());
            EvmVerifier::new(verifier, self.rule.kernel, evm.coverage.clone(), evm.hmac)
                .accepting(evm.versions)
        });
        Verifiers { content: Verifier::new(self.keyring.clone()), evm }
    }

    fn digest_for(&self, attribute: Option<&[u8]>) -> Option<DigestKind> {
        match Attribute::decode(attribute?).ok()? {
            Attribute::Digest(digest) | Attribute::DigestNg(digest) => {
                Some(digest.algorithm().into())
            }
            Attribute::Signature(signature) => self.rule.digest_of(&signature),
            Attribute::EvmHmac(_) | Attribute::SignatureV1(_) => None,
        }
    }

    fn item(
        &self,
        verifiers: &mut Verifiers<'a>,
        item: &mut dyn Item,
    ) -> Result<(Judgement, Change), ItemError> {
        if let Some(anomaly) = item.anomaly() {
            return Ok((Judgement::Anomaly(anomaly), Change::none()));
        }
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let evm = match &mut verifiers.evm {
            Some(evm) => Some(evm.verdict(item)?),
            None => None,
        };
        let rule = self.rule_with(evm.as_ref(), value.as_deref());
        let digest_of = |kind| item.digest(kind);
        let verdict = match verifiers.content.verdict(rule, value.as_deref(), digest_of) {
            Ok(verdict) => verdict,
            Err(ItemError::Anomaly(anomaly)) => {
                return Ok((Judgement::Anomaly(anomaly), Change::none()))
            }
            Err(error) => return Err(error),
        };
        let judgement = match evm {
            Some(evm) => Judgement::WithEvm { content: verdict, evm },
            None => Judgement::Kernel(verdict),
        };
        Ok((judgement, Change::none()))
    }

    fn without_content(&self, item: &dyn Item) -> Result<Option<Judgement>, ItemError> {
        Ok(Some(match item.has_attribute(AttributeName::Ima)? {
            true => Judgement::Anomaly(Anomaly::NoContent),
            false => Judgement::NotSigned,
        }))
    }
}
