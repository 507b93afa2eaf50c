//! The signature or HMAC over metadata.

use ima_format::hash::HashAlgorithm;

use super::SignMode;
use crate::capabilities::FileCapabilities;
use crate::container::{AttributeName, Change, Item, ItemError};
use crate::digest::Hasher;
use crate::evm::{Coverage, HmacKey};
use crate::key::SignError;
use crate::selinux::FileContexts;
use crate::sign::{Maker, MakerSession};

/// How `security.evm` is made.
#[derive(Debug, Clone)]
pub struct EvmSign<'a> {
    /// What it is made with.
    pub maker: EvmMaker<'a>,
    /// What it is made over.
    pub coverage: Coverage,
    /// The hash algorithm of the signed digest.
    pub algorithm: HashAlgorithm,
    /// The labels that it covers.
    pub labels: Labels<'a>,
    /// Capabilities that files get; the others keep those that they have.
    pub capabilities: Option<&'a FileCapabilities>,
}

/// The SELinux label of a file whose metadata is signed.
#[derive(Debug, Clone, Copy)]
pub enum Labels<'a> {
    /// The one that it has, if any.
    Kept,
    /// The one that it has; a file without label is refused.
    Required,
    /// The one that the target's policy has for it. The file gets it.
    Set(&'a FileContexts),
}

impl Labels<'_> {
    /// The size of the largest label that is set.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::Kept | Self::Required => None,
            Self::Set(contexts) => Some(contexts.longest()),
        }
    }

    /// Adds the label to a change.
    fn set(self, item: &dyn Item, change: Change) -> Result<Change, ItemError> {
        let name = AttributeName::Selinux;
        match self {
            Self::Kept => Ok(change),
            Self::Required if item.has_attribute(name)? => Ok(change),
            Self::Required => Err(ItemError::Unlabeled),
            Self::Set(contexts) => {
                let label = contexts.label(item.path().ok_or(ItemError::NoPath)?);
                let existing = item.attribute(name)?;
                Ok(match label.filter(|label| existing.as_deref() != Some(*label)) {
                    Some(label) => change.and_set(name, label.to_vec()),
                    None => change,
                })
            }
        }
    }
}

/// What `security.evm` is made with.
#[derive(Debug, Clone)]
pub enum EvmMaker<'a> {
    /// A key, for signatures.
    Signature(Maker<'a>),
    /// The key of an HMAC.
    Hmac(&'a HmacKey),
}

impl<'a> EvmSign<'a> {
    /// Checks that the key makes signatures with this hash algorithm.
    ///
    /// # Errors
    /// Those of the key.
    pub fn check(&self) -> Result<(), SignError> {
        match &self.maker {
            EvmMaker::Signature(maker) => maker.check(self.algorithm),
            EvmMaker::Hmac(_) => Ok(()),
        }
    }

    /// Adds the attributes that the file gets, and that are covered, to a change.
    pub(super) fn set(&self, item: &dyn Item, change: Change) -> Result<Change, ItemError> {
        let change = self.labels.set(item, change)?;
        let Some(capabilities) = self.capabilities else { return Ok(change) };
        let name = AttributeName::Capability;
        let value = capabilities.value(item.path().ok_or(ItemError::NoPath)?);
        let existing = item.attribute(name)?;
        Ok(match value.filter(|value| existing.as_deref() != Some(*value)) {
            Some(value) => change.and_set(name, value.to_vec()),
            None => change,
        })
    }

    /// The size of the largest value.
    pub(super) fn size(&self) -> usize {
        match &self.maker {
            EvmMaker::Signature(maker) => maker.size(),
            EvmMaker::Hmac(_) => 1 + HashAlgorithm::Sha1.digest_size(),
        }
    }

    /// The value of `security.evm` after a change of other attributes; `None` if the one that is
    /// there is good.
    pub(super) fn renewed(
        &self,
        mode: SignMode,
        session: &mut Option<MakerSession<'a>>,
        item: &dyn Item,
        change: &Change,
    ) -> Result<Option<Vec<u8>>, ItemError> {
        let message = self.coverage.message(item, change)?;
        let existing = match mode {
            SignMode::Changed if change.is_none() => item.attribute(AttributeName::Evm)?,
            _ => None,
        };
        let maker = match &self.maker {
            EvmMaker::Signature(maker) => maker,
            EvmMaker::Hmac(key) => {
                let made = key.attribute(&message).map_err(ItemError::Hmac)?;
                return Ok(Some(made).filter(|made| existing.as_deref() != Some(made)));
            }
        };
        let session = match session {
            Some(session) => session,
            none => none.insert(maker.session()?),
        };
        let digest = Hasher::new(self.algorithm)?.digest(&message)?;
        if let Some(existing) = existing {
            if session.keeps(&existing, &digest)? {
                return Ok(None);
            }
        }
        let mut value = Vec::new();
        session.make(&digest, &mut value)?;
        Ok(Some(value))
    }
}
