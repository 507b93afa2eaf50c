//! Removes the attributes of files.

use ima_format::hash::HashAlgorithm;

use crate::container::{
    Access, Anomaly, AttributeName, Change, FurtherName, Item, ItemError, Operation,
};

/// Removes `security.ima` from each file.
#[derive(Debug, Clone, Copy)]
pub struct Clear;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// Its attribute is gone; in a dry run, it would be.
    Cleared,
    /// It had none.
    Bare,
}

impl Operation for Clear {
    type Outcome = Cleared;
    type Worker = ();

    const ACCESS: Access = Access::Removes;

    fn worker(&self) {}

    fn digest_for(&self, _: Option<&[u8]>) -> Option<HashAlgorithm> {
        None
    }

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(Cleared, Change), ItemError> {
        Ok(match item.has_attribute(AttributeName::Ima)? {
            true => (Cleared::Cleared, Change::remove(AttributeName::Ima)),
            false => (Cleared::Bare, Change::none()),
        })
    }

    fn further_name(&self, name: FurtherName) -> Option<Result<Cleared, Anomaly>> {
        name.has_attribute.then_some(Ok(Cleared::Cleared))
    }
}
