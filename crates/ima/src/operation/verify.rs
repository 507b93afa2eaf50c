//! Verifies files.

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::Attribute;

use crate::container::{Access, Anomaly, AttributeName, Change, Item, ItemError, Operation};
use crate::verify::{Keyring, Rule, Verdict, Verifier};

/// Gives the kernel's verdict on each file.
#[derive(Debug)]
pub struct Verify<'a> {
    keyring: &'a Keyring,
    rule: Rule,
}

impl<'a> Verify<'a> {
    /// Verifies with these keys, under this rule.
    pub fn new(keyring: &'a Keyring, rule: Rule) -> Self {
        Self { keyring, rule }
    }
}

/// What is found of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The kernel's verdict, of a package: once it is installed.
    Kernel(Verdict),
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
            Self::Anomaly(_) => false,
            Self::NotSigned => true,
        }
    }
}

impl Operation for Verify<'_> {
    type Outcome = Judgement;
    type Worker = Verifier;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> Verifier {
        Verifier::new(self.keyring.clone())
    }

    fn digest_for(&self, attribute: Option<&[u8]>) -> Option<HashAlgorithm> {
        match Attribute::decode(attribute?).ok()? {
            Attribute::Digest(digest) | Attribute::DigestNg(digest) => Some(digest.algorithm()),
            Attribute::Signature(signature) => Some(signature.algorithm),
            Attribute::EvmHmac(_) | Attribute::SignatureV1(_) => None,
        }
    }

    fn item(
        &self,
        verifier: &mut Verifier,
        item: &mut dyn Item,
    ) -> Result<(Judgement, Change), ItemError> {
        if let Some(anomaly) = item.anomaly() {
            return Ok((Judgement::Anomaly(anomaly), Change::none()));
        }
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let digest_of = |algorithm| item.digest(algorithm);
        let judgement = match verifier.verdict(self.rule, value.as_deref(), digest_of) {
            Ok(verdict) => Judgement::Kernel(verdict),
            Err(ItemError::Anomaly(anomaly)) => Judgement::Anomaly(anomaly),
            Err(error) => return Err(error),
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
