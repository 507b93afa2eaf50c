//! Signs files.

use std::sync::{Arc, OnceLock};

use ima_format::hash::HashAlgorithm;
use ima_format::xattr::KeyId;

use crate::container::{
    Access, Anomaly, AttributeName, Change, FurtherName, Item, ItemError, LeftOver, Operation,
};
use crate::key::SignError;
use crate::sign::{LabelSession, Labeler};

/// Signs each file on its own. One that fails does not stop the others, unless the key is lost:
/// then those that need it are not tried.
#[derive(Debug)]
pub struct Sign<'a> {
    labeler: Labeler<'a>,
    algorithm: HashAlgorithm,
    mode: SignMode,
    /// How the first thread that noticed lost the key.
    lost: OnceLock<Arc<SignError>>,
}

/// Which of the selected files are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignMode {
    /// All.
    Always,
    /// Those without a valid signature by this key over this digest.
    Changed,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// It was signed; in a dry run, it would have been.
    Signed {
        /// The signing key, unless only the digest was asked for.
        key_id: Option<KeyId>,
    },
    /// It was signed already.
    Unchanged {
        /// The key whose signature it carries, unless only the digest was asked for.
        key_id: Option<KeyId>,
    },
}

impl<'a> Sign<'a> {
    /// Signs with this key, over a digest by this algorithm.
    pub fn new(labeler: Labeler<'a>, algorithm: HashAlgorithm, mode: SignMode) -> Self {
        Self { labeler, algorithm, mode, lost: OnceLock::new() }
    }

    fn check_key(&self) -> Result<(), ItemError> {
        match self.lost.get() {
            Some(error) => Err(ItemError::KeyLost(Arc::clone(error))),
            None => Ok(()),
        }
    }

    fn sign(
        &self,
        session: &mut Option<LabelSession<'a>>,
        item: &mut dyn Item,
    ) -> Result<(Signed, Change), ItemError> {
        let key_id = self.labeler.key_id();
        let existing = match self.mode {
            SignMode::Always => None,
            SignMode::Changed => {
                item.attribute(AttributeName::Ima)?.map(|value| value.into_owned())
            }
        };
        // a file with a good signature does not need the key
        if existing.is_none() {
            self.check_key()?;
        }
        let digest = item.digest(item.algorithm().unwrap_or(self.algorithm))?;
        let session = match session {
            Some(session) => session,
            none => none.insert(self.labeler.session()?),
        };
        if let Some(existing) = existing {
            if session.keeps(&existing, &digest)? {
                return Ok((Signed::Unchanged { key_id }, Change::none()));
            }
            self.check_key()?;
        }
        if let Some(anomaly) = item.anomaly() {
            return Err(anomaly.into());
        }
        item.check_content()?;
        let mut value = Vec::new();
        session.label(&digest, &mut value)?;
        Ok((Signed::Signed { key_id }, Change::set(AttributeName::Ima, value)))
    }
}

impl<'a> Operation for Sign<'a> {
    type Outcome = Signed;
    /// Opened at the first file.
    type Worker = Option<LabelSession<'a>>;

    const ACCESS: Access = Access::Sets;
    const LEFT_OVER: LeftOver = LeftOver::LeftOut;

    fn worker(&self) -> Self::Worker {
        None
    }

    fn digest_for(&self, _: Option<&[u8]>) -> Option<HashAlgorithm> {
        Some(self.algorithm)
    }

    fn item(
        &self,
        session: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Signed, Change), ItemError> {
        let signed = self.sign(session, item);
        if let Err(ItemError::Sign(error)) = &signed {
            if error.is_lasting() {
                self.lost.get_or_init(|| Arc::clone(error));
            }
        }
        signed
    }

    /// The attribute of its file is the one that counts.
    fn further_name(&self, name: FurtherName) -> Option<Result<Signed, Anomaly>> {
        let anomaly = name.anomaly.filter(|it| !matches!(it, Anomaly::LinkAttribute(_)));
        anomaly.map(Err)
    }
}
