//! Removes the attributes of files.

use super::sign::EvmEffect;
use crate::container::{
    Access, Anomaly, AttributeName, Change, FurtherName, Item, ItemError, Operation,
};

/// Removes attributes from each file.
#[derive(Debug, Clone, Copy)]
pub enum Clear {
    /// `security.ima`.
    Ima,
    /// `security.ima` and `security.evm`.
    Both,
    /// `security.evm`.
    Evm,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// Its attributes are gone; in a dry run, they would be.
    Cleared(EvmEffect),
    /// It had none of them.
    Bare,
}

impl Operation for Clear {
    type Outcome = Cleared;
    type Worker = ();

    const ACCESS: Access = Access::Removes;

    fn attributes(&self) -> &'static [AttributeName] {
        match self {
            Self::Ima => &[AttributeName::Ima],
            Self::Both => &[AttributeName::Evm, AttributeName::Ima],
            Self::Evm => &[AttributeName::Evm],
        }
    }

    fn worker(&self) {}

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(Cleared, Change), ItemError> {
        let mut change = Change::none();
        for name in self.attributes() {
            if item.has_attribute(*name)? {
                change = change.and_remove(*name);
            }
        }
        Ok(match change.is_none() {
            true => (Cleared::Bare, change),
            false => {
                let outdated =
                    matches!(self, Self::Ima) && item.has_attribute(AttributeName::Evm)?;
                let effect = if outdated { EvmEffect::Outdated } else { EvmEffect::Absent };
                (Cleared::Cleared(effect), change)
            }
        })
    }

    fn further_name(&self, name: FurtherName) -> Option<Result<Cleared, Anomaly>> {
        name.has_attribute.then_some(Ok(Cleared::Cleared(EvmEffect::Absent)))
    }
}
