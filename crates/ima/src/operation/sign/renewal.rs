//! An existing `security.evm` when the `security.ima` that it covers changes.

use std::fmt;

use ima_format::xattr::{Attribute, KeyId, Signature, SignatureKind};

use crate::container::{AttributeName, Change, Item, ItemError};
use crate::digest::Hasher;
use crate::evm::{Binding, Coverage};
use crate::key::Signer;
use crate::sign::Maker;
use crate::verify::{Keyring, Verifier};

/// What signing or restoring `security.ima` does to a file's `security.evm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvmEffect {
    /// The file has none, and gets none.
    Absent,
    /// It is made.
    Made,
    /// It covered another `security.ima`, and is made again by the same key.
    Renewed(KeyId),
    /// It covered another `security.ima`: it is no longer valid.
    Outdated,
}

impl EvmEffect {
    /// The effect of a change that does not make it again.
    ///
    /// # Errors
    /// Those of reading attributes.
    pub fn of(item: &dyn Item, change: &Change) -> Result<Self, ItemError> {
        let is_covered = item.has_attribute(AttributeName::Evm)?
            && item.attribute(AttributeName::Ima)?.as_deref() != change.value(AttributeName::Ima);
        Ok(if is_covered { Self::Outdated } else { Self::Absent })
    }
}

/// Keys that renew their own signatures. Those by others, and those that were not valid before, are not replaced: no
/// one vouched for the metadata that the file has now.
#[derive(Clone)]
pub struct Renewal<'a> {
    /// The keys.
    pub signers: Vec<&'a dyn Signer>,
    /// What they cover; binding and machine are those of the existing signature.
    pub coverage: Coverage,
}

impl fmt::Debug for Renewal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.signers.iter().map(|signer| signer.key_id().to_string());
        write!(f, "Renewal({})", keys.collect::<Vec<_>>().join(", "))
    }
}

impl Renewal<'_> {
    /// Verifies signatures by these keys.
    pub(super) fn verifier(&self) -> Verifier {
        let mut keyring = Keyring::default();
        for signer in &self.signers {
            keyring.add(signer.key_id(), signer.public_key().clone());
        }
        Verifier::new(keyring)
    }

    /// The value of `security.evm` after a change of `security.ima`; `None` if the existing one is not a valid
    /// signature by one of these keys.
    pub(super) fn value(
        &self,
        verifier: &mut Verifier,
        item: &dyn Item,
        change: &Change,
    ) -> Result<Option<(KeyId, Vec<u8>)>, ItemError> {
        let Some(existing) = item.attribute(AttributeName::Evm)? else { return Ok(None) };
        let Ok(Attribute::Signature(existing)) = Attribute::decode(&existing) else {
            return Ok(None);
        };
        let Signature { kind, version, algorithm, key_id, .. } = existing;
        let signer = self.signers.iter().find(|signer| signer.key_id() == key_id);
        let binding = match kind {
            SignatureKind::EvmPortable => Binding::Portable,
            SignatureKind::Ima => Binding::Inode,
            SignatureKind::Verity => return Ok(None),
        };
        let Some(&signer) = signer else { return Ok(None) };
        for machine in self.coverage.machine.all() {
            let coverage = Coverage { binding, machine, ..self.coverage.clone() };
            let message = match coverage.message(item, &Change::none()) {
                Ok(message) => message,
                // it cannot have been valid here
                Err(
                    ItemError::NothingToCover
                    | ItemError::NoInode
                    | ItemError::NoFsUuid
                    | ItemError::Inode(_),
                ) => return Ok(None),
                Err(error) => return Err(error),
            };
            if !verifier.accepts(&existing, &Hasher::new(algorithm)?.digest(&message)?) {
                continue;
            }
            let message = coverage.message(item, change)?;
            let (mut value, maker) = (Vec::new(), Maker::Signature { signer, kind, version });
            maker.session()?.make(&Hasher::new(algorithm)?.digest(&message)?, &mut value)?;
            return Ok(Some((key_id, value)));
        }
        Ok(None)
    }
}
