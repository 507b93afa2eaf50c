//! Takes labels off.

use std::io;

use super::{Candidate, Folders, LeftOver, Place, Sink, Tree};
use crate::container::Progress;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// Its label is gone; in a dry run, it would be.
    Cleared,
    /// It had none.
    Bare,
}

/// Removes the label of each file of a tree.
///
/// # Errors
/// Those of `sink`; a file's are in its report.
pub fn clear(
    tree: &Tree,
    place: Place,
    dry_run: bool,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Cleared>,
) -> io::Result<()> {
    let start = || {
        move |candidate: &Candidate, folders: &mut Folders| {
            let Some(file) = tree.open(candidate, place, folders)? else { return Ok(None) };
            let had_one = match dry_run {
                true => file.label(place)?.is_some(),
                false => file.remove_label(place)?,
            };
            Ok(Some(if had_one { Cleared::Cleared } else { Cleared::Bare }))
        }
    };
    tree.run(LeftOver::Found, progress, start, sink)
}
