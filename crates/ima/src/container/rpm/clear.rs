//! Takes file signatures out of packages.

use std::io;

use ima_format::rpm::{tag, ReservedSpace};

use super::write::{write, Destination};
use super::{Content, Crew, PackageError, Packages, Sink};
use crate::container::LeftOver;
use crate::container::Progress;

/// How packages are cleared.
#[derive(Debug)]
pub struct ClearOptions {
    /// Where the packages without signatures go.
    pub destination: Destination,
    /// Whether to change anything.
    pub dry_run: bool,
}

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// File signatures of it are gone; in a dry run, they would be.
    Cleared,
    /// It had none, or none of the files that are meant.
    Bare,
}

/// Removes the file signatures of packages; where that is all of them, each is what it was
/// before.
///
/// # Errors
/// Those of `sink`; a package's are in its report.
pub fn clear(
    packages: &Packages,
    options: &ClearOptions,
    progress: &dyn Progress,
    sink: &mut Sink<'_, Cleared>,
) -> io::Result<()> {
    let crew = Crew::new(packages.jobs.get());
    let start = || {
        |content: &Content<'_>| {
            let header = cleared(content)?;
            let (header, cleared) = match &header {
                Some(header) => (header.as_slice(), Cleared::Cleared),
                None => (content.signature.bytes(), Cleared::Bare),
            };
            write(content, header, &options.destination, options.dry_run)?;
            Ok(cleared)
        }
    };
    packages.run(LeftOver::Found, progress, &crew, start, sink)
}

/// The signature header without the signatures of the files that are meant; `None` where there
/// is nothing to take out.
fn cleared(content: &Content<'_>) -> Result<Option<Vec<u8>>, PackageError> {
    let signature = &content.signature;
    let tags = [tag::SIG_FILESIGNATURES, tag::SIG_FILESIGNATURELENGTH];
    if tags.iter().all(|tag| signature.find(*tag).is_none()) {
        return Ok(None);
    }
    if content.selects_all() {
        // whatever they are, they need not be read
        return Ok(Some(signature.without_file_signatures()?));
    }
    let found = signature.file_signatures(content.files.len())?.unwrap_or_default();
    let files = content.files.iter().map(|file| content.selects(file));
    let kept = found.iter().zip(files).map(|(value, selected)| match selected {
        true => Vec::new(),
        false => value.clone(),
    });
    let kept: Vec<_> = kept.collect();
    if kept == found {
        return Ok(None);
    }
    let reserved = match signature.room_is_taken() {
        true => ReservedSpace::Use,
        false => ReservedSpace::Keep,
    };
    Ok(Some(match kept.iter().all(Vec::is_empty) {
        true => signature.without_file_signatures()?,
        false => signature.with_file_signatures(&kept, reserved)?,
    }))
}
