//! The new package: whole under its name, or not there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Content, PackageError};
use crate::inheritance::{inherit, replaced};
use crate::temporary::Staged;

/// Where a new package goes.
#[derive(Debug)]
pub enum Destination {
    /// In the place of the old one.
    Replace,
    /// Into a directory.
    Directory(OutputDirectory),
}

/// A directory to which packages go under their own names, and in their own directories where
/// they were found in one that was named.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    /// Names that packages of this run bear.
    taken: Mutex<HashSet<PathBuf>>,
}

impl OutputDirectory {
    /// A directory that is there. What bears a package's name in it is replaced, but not a
    /// package of the same run.
    pub fn new(path: PathBuf) -> Self {
        Self { path, taken: Mutex::default() }
    }

    fn take(&self, name: &Path) -> Result<PathBuf, PackageError> {
        let path = self.path.join(name);
        // a set is whole even if a thread panicked beside it
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.insert(name.to_owned()) {
            true => Ok(path),
            false => Err(PackageError::NameTaken(path)),
        }
    }
}

/// Writes the package with this signature header in place of its own. A package that would be
/// the same stays untouched.
pub(super) fn write(
    content: &Content<'_>,
    header: &[u8],
    destination: &Destination,
    dry_run: bool,
) -> Result<(), PackageError> {
    content.open.check_unchanged()?;
    let path = match destination {
        Destination::Replace if header == content.signature.bytes() => return Ok(()),
        Destination::Replace => content.candidate.path.clone(),
        Destination::Directory(directory) => directory.take(content.below)?,
    };
    if dry_run {
        return Ok(());
    }
    if let (Destination::Directory(_), Some(parent)) = (destination, path.parent()) {
        let made = fs::create_dir_all(parent);
        made.map_err(|source| PackageError::Write { path: parent.to_owned(), source })?;
    }
    let staged = stage(content, header, &path)
        .map_err(|source| PackageError::Write { path: path.clone(), source })?;
    // what was copied is what was read and signed
    content.open.check_unchanged()?;
    staged.persist(&path).map_err(|source| PackageError::Write { path, source })
}

/// The new package, on the disc.
fn stage(content: &Content<'_>, header: &[u8], path: &Path) -> io::Result<Staged> {
    let mode = content.open.file.metadata()?.mode() & 0o777;
    let replaced = replaced(path)?;
    let staged = Staged::beside(path, if replaced.is_some() { 0o600 } else { mode })?;
    let mut file = staged.as_file();
    if header.len() == content.signature.bytes().len() {
        // nothing moves: on file systems that share blocks the copy is one of references
        copy_from(&content.open.file, 0, file)?;
        file.seek(SeekFrom::Start(content.lead.len() as u64))?;
        file.write_all(header)?;
    } else {
        file.write_all(content.lead)?;
        file.write_all(header)?;
        copy_from(&content.open.file, content.main_offset, file)?;
    }
    if let Some(replaced) = replaced {
        inherit(&replaced, file)?;
    }
    file.sync_all()?;
    Ok(staged)
}

/// Appends what a file has from an offset on: by reference or within the kernel where the file
/// system can (`copy_file_range`).
fn copy_from(mut from: &File, offset: u64, mut to: &File) -> io::Result<()> {
    from.seek(SeekFrom::Start(offset))?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}
