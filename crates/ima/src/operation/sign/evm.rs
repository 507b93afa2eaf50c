//! The signature or HMAC over metadata.

use std::borrow::Cow;

use ima_format::hash::HashAlgorithm;

use super::SignMode;
use crate::container::{AttributeName, Change, Item, ItemError};
use crate::digest::Hasher;
use crate::evm::{Coverage, HmacKey};
use crate::key::SignError;
use crate::sign::{LabelSession, Labeler};

/// How `security.evm` is made.
#[derive(Debug, Clone)]
pub struct EvmSign<'a> {
    /// What it is made with.
    pub maker: EvmMaker<'a>,
    /// What it is made over.
    pub coverage: Coverage,
    /// The hash algorithm of the signed digest.
    pub algorithm: HashAlgorithm,
}

/// What `security.evm` is made with.
#[derive(Debug, Clone)]
pub enum EvmMaker<'a> {
    /// A key, for signatures.
    Signature(Labeler<'a>),
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
            EvmMaker::Signature(labeler) => labeler.check(self.algorithm),
            EvmMaker::Hmac(_) => Ok(()),
        }
    }

    /// The size of the largest value.
    pub(super) fn size(&self) -> usize {
        match &self.maker {
            EvmMaker::Signature(labeler) => labeler.size(),
            EvmMaker::Hmac(_) => 1 + HashAlgorithm::Sha1.digest_size(),
        }
    }

    /// The value of `security.evm` after a change of other attributes; `None` if the one that is
    /// there is good.
    pub(super) fn renewed(
        &self,
        mode: SignMode,
        session: &mut Option<LabelSession<'a>>,
        item: &dyn Item,
        change: &Change,
    ) -> Result<Option<Vec<u8>>, ItemError> {
        let ima = match change.value(AttributeName::Ima) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => item.attribute(AttributeName::Ima)?,
        };
        let message = self.coverage.message(item, ima.as_deref())?;
        let existing = match mode {
            SignMode::Changed if change.is_none() => item.attribute(AttributeName::Evm)?,
            _ => None,
        };
        let labeler = match &self.maker {
            EvmMaker::Signature(labeler) => labeler,
            EvmMaker::Hmac(key) => {
                let made = key.attribute(&message).map_err(ItemError::Hmac)?;
                return Ok(Some(made).filter(|made| existing.as_deref() != Some(made)));
            }
        };
        let session = match session {
            Some(session) => session,
            none => none.insert(labeler.session()?),
        };
        let digest = Hasher::new(self.algorithm)?.digest(&message)?;
        if let Some(existing) = existing {
            if session.keeps(&existing, &digest)? {
                return Ok(None);
            }
        }
        let mut value = Vec::new();
        session.label(&digest, &mut value)?;
        Ok(Some(value))
    }
}
