//! Takes file signatures out of packages.

use std::io;

use ima_format::rpm::{tag, ReservedSpace};

use super::write::{write, Destination};
use super::{Content, Crew, Packages, Sink};
use crate::target::Progress;

/// How packages are cleared.
#[derive(Debug)]
pub struct ClearOptions {
    /// Where the packages without signatures go.
    pub destination: Destination,
    /// What becomes of the filler: as when they were signed.
    pub reserved: ReservedSpace,
    /// Whether to change anything.
    pub dry_run: bool,
}

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// Its file signatures are gone; in a dry run, they would be.
    Cleared,
    /// It had none.
    Bare,
}

/// Removes the file signatures of packages.
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
            let signature = &content.signature;
            let found = [tag::SIG_FILESIGNATURES, tag::SIG_FILESIGNATURELENGTH];
            let (header, cleared) = match found.iter().any(|tag| signature.find(*tag).is_some()) {
                true => (signature.without_file_signatures(options.reserved)?, Cleared::Cleared),
                false => (signature.bytes().to_vec(), Cleared::Bare),
            };
            write(content, &header, &options.destination, options.dry_run)?;
            Ok(cleared)
        }
    };
    packages.run(progress, &crew, start, sink)
}
