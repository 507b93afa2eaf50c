//! Verifies files.

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::Attribute;

use crate::container::{Access, AttributeName, Change, Item, ItemError, Operation};
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// Gives the kernel's verdict on each file.
#[derive(Debug)]
pub struct Verify<'a> {
    keyring: &'a Keyring,
    requirement: Requirement,
}

impl<'a> Verify<'a> {
    /// Verifies with these keys, under a rule with this requirement.
    pub fn new(keyring: &'a Keyring, requirement: Requirement) -> Self {
        Self { keyring, requirement }
    }
}

impl Operation for Verify<'_> {
    type Outcome = Verdict;
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
    ) -> Result<(Verdict, Change), ItemError> {
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let digest_of = |algorithm| item.digest(algorithm);
        let verdict = verifier.verdict(self.requirement, value.as_deref(), digest_of)?;
        Ok((verdict, Change::none()))
    }
}
