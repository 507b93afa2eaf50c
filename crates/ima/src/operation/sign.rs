//! Signs files.

mod evm;
mod renewal;

use std::sync::{Arc, OnceLock};

use ima_format::capability::VALUE_SIZE;
use ima_format::xattr::KeyId;

use crate::container::{
    Access, Anomaly, AttributeName, Change, FurtherName, Item, ItemError, LeftOver, Operation,
};
use crate::digest::DigestKind;
use crate::key::SignError;
use crate::sign::{Maker, MakerSession};
use crate::verify::Verifier;

pub use evm::{EvmMaker, EvmSign, Labels};
pub use renewal::{EvmEffect, Renewal};

/// Signs each file on its own. One that fails does not stop the others, unless the key is lost:
/// then those that need it are not tried.
#[derive(Debug)]
pub struct Sign<'a> {
    /// Makes `security.ima`; without it, that stays as it is.
    maker: Option<Maker<'a>>,
    digest: DigestKind,
    mode: SignMode,
    /// Makes `security.evm`.
    evm: Option<EvmSign<'a>>,
    /// Makes an existing `security.evm` again.
    renewal: Option<Renewal<'a>>,
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
        /// The signing key of its content, unless only the digest was asked for.
        key_id: Option<KeyId>,
        /// What this does to `security.evm`.
        evm: EvmEffect,
    },
    /// It was signed already.
    Unchanged {
        /// The key whose signature it carries, unless only the digest was asked for.
        key_id: Option<KeyId>,
    },
}

/// What a thread keeps from file to file; opened at the first one.
#[derive(Default)]
#[allow(missing_debug_implementations)] // a session may hold a device
pub struct Sessions<'a> {
    content: Option<MakerSession<'a>>,
    evm: Option<MakerSession<'a>>,
    renewal: Option<Verifier>,
}

impl<'a> Sign<'a> {
    /// Signs with this key, over a digest of this kind.
    pub fn new(maker: Maker<'a>, digest: impl Into<DigestKind>, mode: SignMode) -> Self {
        let (evm, renewal, lost) = Default::default();
        Self { maker: Some(maker), digest: digest.into(), mode, evm, renewal, lost }
    }

    /// Makes `security.evm` over what is there, and leaves `security.ima`.
    pub fn metadata(evm: EvmSign<'a>, mode: SignMode) -> Self {
        let digest = evm.algorithm.into();
        let (renewal, lost) = Default::default();
        Self { maker: None, digest, mode, evm: Some(evm), renewal, lost }
    }

    /// Makes `security.evm`, too.
    pub fn with_evm(self, evm: EvmSign<'a>) -> Self {
        Self { evm: Some(evm), ..self }
    }

    /// Makes existing signatures in `security.evm` again if the `security.ima` that they cover changes.
    pub fn renewing(self, renewal: Renewal<'a>) -> Self {
        Self { renewal: Some(renewal), ..self }
    }

    /// The attributes that it sets, with the size of the largest value of each.
    pub fn sizes(&self) -> Vec<(AttributeName, usize)> {
        let ima = self.maker.map(|maker| (AttributeName::Ima, maker.size()));
        let label = self.evm.as_ref().and_then(|evm| evm.labels.size());
        let label = label.map(|size| (AttributeName::Selinux, size));
        let evm = self.evm.as_ref().map(|evm| (AttributeName::Evm, evm.size()));
        let capability = self.evm.as_ref().and_then(|evm| evm.capabilities);
        let capability = capability.map(|_| (AttributeName::Capability, VALUE_SIZE));
        ima.into_iter().chain(label).chain(capability).chain(evm).collect()
    }

    fn check_key(&self) -> Result<(), ItemError> {
        match self.lost.get() {
            Some(error) => Err(ItemError::KeyLost(Arc::clone(error))),
            None => Ok(()),
        }
    }

    /// The change of `security.ima`; none if it is good already.
    fn content(
        &self,
        maker: Maker<'a>,
        session: &mut Option<MakerSession<'a>>,
        item: &mut dyn Item,
    ) -> Result<Change, ItemError> {
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
        let digest = match (self.digest, item.algorithm()) {
            (DigestKind::Content(_), Some(listed)) => item.digest(listed.into())?,
            (kind, _) => item.digest(kind)?,
        };
        let session = match session {
            Some(session) => session,
            none => none.insert(maker.session()?),
        };
        if let Some(existing) = existing {
            if session.keeps(&existing, &digest)? {
                return Ok(Change::none());
            }
            self.check_key()?;
        }
        if let Some(anomaly) = item.anomaly() {
            return Err(anomaly.into());
        }
        item.check_content()?;
        let mut value = Vec::new();
        session.make(&digest, &mut value)?;
        Ok(Change::set(AttributeName::Ima, value))
    }

    /// Renews the `security.evm` that covered another `security.ima`, if that can be done.
    fn renew(
        &self,
        verifier: &mut Option<Verifier>,
        item: &dyn Item,
        change: Change,
    ) -> Result<(EvmEffect, Change), ItemError> {
        let effect = EvmEffect::of(item, &change)?;
        let Some(renewal) = self.renewal.as_ref().filter(|_| effect == EvmEffect::Outdated) else {
            return Ok((effect, change));
        };
        let verifier = verifier.get_or_insert_with(|| renewal.verifier());
        Ok(match renewal.value(verifier, item, &change)? {
            Some((key_id, value)) => {
                (EvmEffect::Renewed(key_id), change.and_set(AttributeName::Evm, value))
            }
            None => (effect, change),
        })
    }

    fn sign(
        &self,
        sessions: &mut Sessions<'a>,
        item: &mut dyn Item,
    ) -> Result<(Signed, Change), ItemError> {
        let key_id = self.maker.and_then(Maker::key_id);
        let mut change = match self.maker {
            Some(maker) => self.content(maker, &mut sessions.content, item)?,
            None => Change::none(),
        };
        if let Some(evm) = &self.evm {
            change = evm.set(item, change)?;
        }
        let (evm, change) = match &self.evm {
            Some(evm) => match evm.renewed(self.mode, &mut sessions.evm, item, &change)? {
                Some(value) => (EvmEffect::Made, change.and_set(AttributeName::Evm, value)),
                None => (EvmEffect::Absent, change),
            },
            None if change.is_none() => (EvmEffect::Absent, change),
            None => self.renew(&mut sessions.renewal, item, change)?,
        };
        Ok(match change.is_none() {
            true => (Signed::Unchanged { key_id }, change),
            false => (Signed::Signed { key_id, evm }, change),
        })
    }
}

impl<'a> Operation for Sign<'a> {
    type Outcome = Signed;
    type Worker = Sessions<'a>;

    const ACCESS: Access = Access::Sets;
    const LEFT_OVER: LeftOver = LeftOver::LeftOut;

    fn attributes(&self) -> &'static [AttributeName] {
        use AttributeName::{Capability, Evm, Ima, Selinux};
        match &self.evm {
            Some(evm) => match (evm.labels, evm.capabilities) {
                (Labels::Set(_), Some(_)) => &[Ima, Selinux, Capability, Evm],
                (Labels::Set(_), None) => &[Ima, Selinux, Evm],
                (_, Some(_)) => &[Ima, Capability, Evm],
                (_, None) => &[Ima, Evm],
            },
            None if self.renewal.is_some() => &[Ima, Evm],
            None => &[Ima],
        }
    }

    fn worker(&self) -> Self::Worker {
        Sessions::default()
    }

    fn digest_for(&self, _: Option<&[u8]>) -> Option<DigestKind> {
        self.maker.map(|_| self.digest)
    }

    fn item(
        &self,
        sessions: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Signed, Change), ItemError> {
        let signed = self.sign(sessions, item);
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
