//! Files that are there whole, or not at all.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file beside its place and, when it is on disc, puts it there.
///
/// # Errors
/// What the system said; what was at `path` before is still there then.
pub fn write(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".imactl-")
        .permissions(Permissions::from_mode(permissions))
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}
