//! Comparison of two lists: of two boots, or of two machines.

use std::collections::{BTreeMap, BTreeSet};

use ima_format::hash::Digest;
use ima_format::measure::Entry;

use super::reader::{Batch, ListReader};
use super::source::Source;
use super::ListError;

/// The digests and violations of a file or an event in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its digests, as text.
    pub digests: BTreeSet<String>,
    /// Whether there was a violation.
    pub violated: bool,
}

/// The names of files and events in a list.
pub type Names = BTreeMap<Vec<u8>, Seen>;

/// Reads the names of a list.
///
/// # Errors
/// A list that cannot be read to its end.
pub fn names(sources: &[Source]) -> Result<Names, ListError> {
    let (mut reader, mut batch) = (ListReader::new(sources.iter().cloned()), Batch::default());
    let mut names = Names::new();
    loop {
        reader.next(&mut batch)?;
        if batch.is_empty() {
            return Ok(names);
        }
        for item in batch.items() {
            // an entry that cannot be decoded has no name; log verify reports it
            let Ok(entry) = Entry::decode(&item.record) else { continue };
            let seen = names.entry(entry.name.to_vec()).or_default();
            seen.violated |= item.record.is_violation();
            let digest = entry.digest.and_then(|digest| digest.digest);
            seen.digests.extend(digest.as_ref().map(Digest::to_string));
        }
    }
}
