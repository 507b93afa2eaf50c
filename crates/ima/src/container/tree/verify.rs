//! Verifies files.

use std::io;

use super::{Candidate, Folders, LeftOver, Place, Sink, Tree};
use crate::container::Progress;
use crate::digest::FileHasher;
use crate::verify::{Keyring, Requirement, Verdict, Verifier};

/// How files are verified.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// The trusted keys.
    pub keyring: &'a Keyring,
    /// What is asked of a file.
    pub requirement: Requirement,
    /// Where its label is.
    pub place: Place,
}

/// Gives the verdict on each file of a tree.
///
/// # Errors
/// Those of `sink`; a file's are in its report.
pub fn verify(
    tree: &Tree,
    options: &VerifyOptions<'_>,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Verdict>,
) -> io::Result<()> {
    let VerifyOptions { keyring, requirement, place } = *options;
    let start = || {
        let mut hasher = FileHasher::default();
        let mut verifier = Verifier::new(keyring.clone());
        move |candidate: &Candidate, folders: &mut Folders| {
            let Some(file) = tree.open(candidate, place, folders)? else { return Ok(None) };
            let label = file.label(place)?;
            let verdict = verifier.verdict(requirement, label.as_deref(), |algorithm| {
                file.digest(&mut hasher, algorithm, &|bytes| progress.read(bytes))
            })?;
            file.check_unchanged()?;
            Ok(Some(verdict))
        }
    };
    tree.run(LeftOver::Found, progress, start, sink)
}
