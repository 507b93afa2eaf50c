//! The new package: whole under its name, or not there.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{mkdirat, openat, Mode, OFlags, CWD};
use rustix::io::Errno;

use super::package::Content;
use super::PackageError;
use crate::container::Destination;
use crate::staging::{Location, Staged};

/// A directory to which packages go under their own names, and in their own directories where
/// they were found in one that was named.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Names that packages of this run bear.
    taken: HashSet<PathBuf>,
    /// The directory, opened for the first of them.
    open: Option<Arc<OwnedFd>>,
}

impl OutputDirectory {
    /// A directory that is there. What bears a package's name in it is replaced, but not a
    /// package of the same run.
    pub fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // it is whole even if a thread panicked beside it
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: &Path) -> Result<PathBuf, PackageError> {
        let path = self.path.join(name);
        match self.state().taken.insert(name.to_owned()) {
            true => Ok(path),
            false => Err(PackageError::NameTaken(path)),
        }
    }

    /// The place of a package, in directories that are made where they are not there.
    fn location(&self, name: &Path) -> io::Result<Location> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = match &mut self.state().open {
            Some(open) => Arc::clone(open),
            none => {
                let open = Arc::new(openat(CWD, &self.path, flags, Mode::empty())?);
                Arc::clone(none.insert(open))
            }
        };
        for below in name.parent().into_iter().flat_map(Path::components) {
            match mkdirat(&*directory, below.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = flags | OFlags::NOFOLLOW;
            directory = Arc::new(openat(&*directory, below.as_os_str(), flags, Mode::empty())?);
        }
        Ok(Location::new(directory, name.file_name().unwrap_or_default().to_owned()))
    }
}

/// Writes the package with this signature header in place of its own. A package that would be
/// the same stays untouched.
pub(super) fn write(
    content: &Content<'_>,
    header: &[u8],
    output: Option<&OutputDirectory>,
    destination: &Destination,
) -> Result<(), PackageError> {
    content.package.open.check_unchanged()?;
    let path = match output {
        None if header == content.signature.bytes() => return Ok(()),
        None => content.package.candidate.path.clone(),
        Some(directory) => directory.take(&content.package.below)?,
    };
    if destination.is_nowhere() {
        return Ok(());
    }
    let failed = |source| PackageError::Write { path: path.clone(), source };
    let location = match output {
        None => content.package.open.location(),
        Some(directory) => directory.location(&content.package.below).map_err(failed)?,
    };
    let staged = stage(content, header, location).map_err(failed)?;
    // what was copied is what was read and signed
    content.package.open.check_unchanged()?;
    staged.persist().map_err(failed)
}

/// The new package, on the disc.
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

/// Appends what a file has from an offset on: by reference or within the kernel where the file
/// system can (`copy_file_range`).
fn copy_from(mut from: &File, offset: u64, mut to: &File) -> io::Result<()> {
    from.seek(SeekFrom::Start(offset))?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}
