//! The new package: whole under its name, or not there.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use super::package::Content;
use super::PackageError;
use crate::container::{ContainerError, Destination};
use crate::staging::{Location, Staged};

/// Writes the package with this signature header in place of its own. A package that would be
/// the same stays untouched.
pub(super) fn write(
    content: &Content<'_>,
    header: &[u8],
    destination: &Destination,
) -> Result<(), ContainerError> {
    content.package.open.check_unchanged().map_err(PackageError::from)?;
    let (path, location) = match destination {
        Destination::Directory(directory) => match directory.place(&content.package.below)? {
            Some(place) => place,
            None => return Ok(()),
        },
        _ if header == content.signature.bytes() || destination.is_nowhere() => return Ok(()),
        _ => (content.package.candidate.path.clone(), content.package.open.location()),
    };
    let failed = |source| ContainerError::Write { path: path.clone(), source };
    let staged = stage(content, header, location).map_err(failed)?;
    // the bytes that were copied are those that were read and signed
    content.package.open.check_unchanged().map_err(PackageError::from)?;
    staged.persist().map_err(failed)
}

/// The new package, on the disk.
fn stage(content: &Content<'_>, header: &[u8], location: Location) -> io::Result<Staged> {
    let mode = content.package.open.file.metadata()?.mode() & 0o777;
    let staged = Staged::replacing(location, mode)?;
    let mut file = staged.as_file();
    if header.len() == content.signature.bytes().len() {
        // nothing moves: on file systems that share blocks the copy is one of references
        copy_from(&content.package.open.file, 0, file)?;
        file.seek(SeekFrom::Start(content.package.lead.len() as u64))?;
        file.write_all(header)?;
    } else {
        file.write_all(&content.package.lead)?;
        file.write_all(header)?;
        copy_from(&content.package.open.file, content.main_offset, file)?;
    }
    staged.complete()?;
    Ok(staged)
}

/// Appends the bytes of a file from an offset on: by reference or within the kernel if the file
/// system can (`copy_file_range`).
fn copy_from(mut from: &File, offset: u64, mut to: &File) -> io::Result<()> {
    from.seek(SeekFrom::Start(offset))?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}
