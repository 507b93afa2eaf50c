//! imactl's operations as evmctl needs them: the outcome includes the values.

use ima::container::{
    Access, Anomaly, AttributeName, Change, FurtherName, Item, ItemError, LeftOver, Operation,
};
use ima::digest::DigestKind;
use ima::evm::{Coverage, EvmVerifier, Verdict as EvmVerdict};
use ima::operation::{EvmEffect, Judgement, Verify};
use ima::verify::{Keyring, Verdict, Verifier};
use ima_format::policy::kernel::KernelVersion;

/// An operation whose outcome includes the change.
pub(super) struct Captured<O>(pub(super) O);

impl<O: Operation> Operation for Captured<O> {
    type Outcome = (O::Outcome, Change);
    type Worker = O::Worker;

    const ACCESS: Access = O::ACCESS;
    const LEFT_OVER: LeftOver = O::LEFT_OVER;

    fn attributes(&self) -> &'static [AttributeName] {
        self.0.attributes()
    }

    fn worker(&self) -> O::Worker {
        self.0.worker()
    }

    fn digest_for(&self, attribute: Option<&[u8]>) -> Option<DigestKind> {
        self.0.digest_for(attribute)
    }

    fn item(
        &self,
        worker: &mut O::Worker,
        item: &mut dyn Item,
    ) -> Result<(Self::Outcome, Change), ItemError> {
        let (outcome, change) = self.0.item(worker, item)?;
        Ok(((outcome, change.clone()), change))
    }

    fn further_name(&self, name: FurtherName) -> Option<Result<Self::Outcome, Anomaly>> {
        let outcome = self.0.further_name(name)?;
        Some(outcome.map(|outcome| (outcome, Change::none())))
    }
}

/// Why a signature is not good.
pub(super) enum Failure {
    /// There is no attribute.
    Missing(String),
    Bad(String),
}

/// Verifies `security.ima`; the outcome is why it is not good.
pub(super) struct VerifyContent<'a>(pub(super) Verify<'a>);

impl<'a> Operation for VerifyContent<'a> {
    type Outcome = Option<Failure>;
    type Worker = <Verify<'a> as Operation>::Worker;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> Self::Worker {
        self.0.worker()
    }

    fn item(
        &self,
        worker: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Option<Failure>, Change), ItemError> {
        let (is_good, detail) = match self.0.item(worker, item)?.0 {
            Judgement::Kernel(verdict @ Verdict::Missing(_)) => {
                return Ok((Some(Failure::Missing(verdict.to_string())), Change::none()));
            }
            Judgement::Kernel(verdict) => (verdict.is_valid(), verdict.to_string()),
            Judgement::WithEvm { evm, .. } => (evm.is_valid(), evm.to_string()),
            Judgement::Appended(verdict) => (verdict.is_valid(), verdict.to_string()),
            Judgement::Anomaly(anomaly) => (false, anomaly.to_string()),
            Judgement::NotSigned => (false, "not signed".to_owned()),
        };
        Ok(((!is_good).then_some(Failure::Bad(detail)), Change::none()))
    }
}

/// Verifies `security.evm` alone, of directories, too; the outcome is why it is not good.
pub(super) struct VerifyMetadata<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) coverage: Coverage,
    pub(super) kernel: KernelVersion,
}

impl<'a> Operation for VerifyMetadata<'a> {
    type Outcome = Option<Failure>;
    type Worker = EvmVerifier<'a>;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> Self::Worker {
        let verifier = Verifier::new(self.keyring.clone());
        EvmVerifier::new(verifier, self.kernel, self.coverage.clone(), None)
    }

    fn item(
        &self,
        verifier: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Option<Failure>, Change), ItemError> {
        let failure = match verifier.verdict(item)? {
            verdict if verdict.is_valid() => None,
            verdict @ EvmVerdict::Missing => Some(Failure::Missing(verdict.to_string())),
            verdict => Some(Failure::Bad(verdict.to_string())),
        };
        Ok((failure, Change::none()))
    }
}

/// Sets `security.ima` to an existing value.
pub(super) struct Restore(pub(super) Vec<u8>);

impl Operation for Restore {
    type Outcome = EvmEffect;
    type Worker = ();

    const ACCESS: Access = Access::Sets;

    fn worker(&self) {}

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(EvmEffect, Change), ItemError> {
        let change = Change::set(AttributeName::Ima, self.0.clone());
        Ok((EvmEffect::of(item, &change)?, change))
    }
}

/// Opens each file: a kernel with `ima_appraise=fix` or `evm=fix` writes its attributes then.
pub(super) struct Open;

impl Operation for Open {
    type Outcome = ();
    type Worker = ();

    const ACCESS: Access = Access::Reads;

    fn worker(&self) {}

    fn item(&self, (): &mut (), _: &mut dyn Item) -> Result<((), Change), ItemError> {
        Ok(((), Change::none()))
    }
}
