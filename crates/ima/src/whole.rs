//! Files that are there whole, or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::temporary::Temporary;

/// Writes a file beside its place and, when it is on disc, puts it there.
///
/// # Errors
/// What the system said; what was at `path` before is still there then.
pub fn write(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    let file = Temporary::beside(path, permissions)?;
    file.as_file().write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)
}
