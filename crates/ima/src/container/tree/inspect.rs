//! Shows what is there, without judging it.

use std::io;

use ima_format::xattr::Attribute;
use ima_format::Error as FormatError;

use super::{Candidate, FileError, Folders, LeftOver, Place, Sink, Tree};
use crate::container::Progress;
use crate::digest::FileHasher;

/// What a file carries.
#[derive(Debug)]
pub struct Inspection {
    /// The attribute's value; empty where there is none.
    pub value: Option<Vec<u8>>,
    /// The value decoded, or what is malformed in it.
    pub attribute: Option<Result<Attribute, FormatError>>,
    /// Whether a digest in it fits the file.
    pub fit: Option<Fit>,
}

/// Whether a digest fits the file that it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Matches,
    /// It does not.
    Differs,
    /// Its algorithm is not at hand.
    Unknown,
}

/// Reads the label of each file of a tree.
///
/// # Errors
/// Those of `sink`; a file's are in its report.
pub fn inspect(
    tree: &Tree,
    place: Place,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Inspection>,
) -> io::Result<()> {
    let start = || {
        let mut hasher = FileHasher::default();
        move |candidate: &Candidate, folders: &mut Folders| {
            let Some(file) = tree.open(candidate, place, folders)? else { return Ok(None) };
            let value = file.label(place)?;
            let attribute = value.as_deref().map(Attribute::decode);
            let fit = match &attribute {
                Some(Ok(Attribute::Digest(expected) | Attribute::DigestNg(expected))) => {
                    let algorithm = expected.algorithm();
                    match file.digest(&mut hasher, algorithm, &|bytes| progress.read(bytes)) {
                        Ok(digest) if digest == *expected => Some(Fit::Matches),
                        Ok(_) => Some(Fit::Differs),
                        Err(FileError::Digest(_)) => Some(Fit::Unknown),
                        Err(error) => return Err(error),
                    }
                }
                _ => None,
            };
            Ok(Some(Inspection { value, attribute, fit }))
        }
    };
    tree.run(LeftOver::Found, progress, start, sink)
}
