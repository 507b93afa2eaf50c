//! Shows the attributes of files, without judging them.

use ima_format::xattr::Attribute;
use ima_format::Error as FormatError;

use super::appended::{self, AppendedInspection};
use crate::container::{Access, AttributeName, Change, Item, ItemError, Operation};
use crate::digest::DigestKind;

/// Reads and decodes the attribute of each file.
#[derive(Debug, Clone, Copy)]
pub struct Inspect;

/// The attribute of a file.
#[derive(Debug)]
pub struct Inspection {
    /// The attribute's value, if there is one.
    pub value: Option<Vec<u8>>,
    /// The value decoded, or what is malformed in it.
    pub attribute: Option<Result<Attribute, FormatError>>,
    /// Whether a digest in it fits the file.
    pub fit: Option<Fit>,
    /// `security.evm`, if there is one.
    pub evm: Option<EvmInspection>,
    /// The signature appended to its content, if there is one, or what is malformed in it.
    pub appended: Option<Result<AppendedInspection, FormatError>>,
}

/// The `security.evm` of a file.
#[derive(Debug)]
pub struct EvmInspection {
    /// Its value.
    pub value: Vec<u8>,
    /// The value decoded, or what is malformed in it.
    pub attribute: Result<Attribute, FormatError>,
}

fn evm(item: &dyn Item) -> Result<Option<EvmInspection>, ItemError> {
    let value = item.attribute(AttributeName::Evm)?.map(|value| value.into_owned());
    Ok(value.map(|value| EvmInspection { attribute: Attribute::decode(&value), value }))
}

/// Whether a digest in an attribute fits the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Matches,
    /// It does not.
    Differs,
    /// Its algorithm is not at hand.
    Unknown,
}

impl Operation for Inspect {
    type Outcome = Inspection;
    type Worker = ();

    const ACCESS: Access = Access::Reads;

    fn worker(&self) {}

    fn digest_for(&self, attribute: Option<&[u8]>) -> Option<DigestKind> {
        match Attribute::decode(attribute?).ok()? {
            Attribute::Digest(digest) | Attribute::DigestNg(digest) => {
                Some(digest.algorithm().into())
            }
            _ => None,
        }
    }

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(Inspection, Change), ItemError> {
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let attribute = value.as_deref().map(Attribute::decode);
        let fit = match &attribute {
            Some(Ok(Attribute::Digest(expected) | Attribute::DigestNg(expected))) => {
                match item.digest(expected.algorithm().into()) {
                    Ok(digest) if digest == *expected => Some(Fit::Matches),
                    Ok(_) => Some(Fit::Differs),
                    Err(ItemError::Digest(_) | ItemError::Anomaly(_)) => Some(Fit::Unknown),
                    Err(error) => return Err(error),
                }
            }
            _ => None,
        };
        let (evm, appended) = (evm(item)?, appended::inspect(item)?);
        Ok((Inspection { value, attribute, fit, evm, appended }, Change::none()))
    }

    /// A digest in the attribute cannot be compared with anything.
    fn without_content(&self, item: &dyn Item) -> Result<Option<Inspection>, ItemError> {
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let attribute = value.as_deref().map(Attribute::decode);
        Ok(Some(Inspection { value, attribute, fit: None, evm: evm(item)?, appended: None }))
    }
}
