//! Updates as a root: nothing in them starts a machine, and programs in them run on the root of another.

use std::path::Path;

use super::paths::Paths;
use super::FileReport;

/// The files that describe an update: of RAUC, of SWUpdate.
const DESCRIPTIONS: [&str; 2] = ["/manifest.raucm", "/sw-description"];

/// Whether it is an update that is mounted or unpacked on a running system.
pub(super) fn is_update(paths: &Paths) -> bool {
    DESCRIPTIONS.iter().any(|path| paths.file(Path::new(path)).is_some())
}

/// The report on a file whose interpreter and libraries are somewhere else.
pub(super) fn without_needs(file: FileReport) -> FileReport {
    FileReport { obstacle: None, ..file }
}
