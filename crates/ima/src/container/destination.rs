//! Where the result of changing a container goes: a file is there whole, or not at all.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ima_format::kind::Compression;
use rustix::fs::{mkdirat, openat, Mode, OFlags, CWD};
use rustix::io::Errno;

use super::error::ContainerError;
use super::image::copy;
use crate::compression::Encoder;
use crate::staging::{Location, Staged};

/// Where a result goes.
#[derive(Debug)]
pub enum Destination {
    /// To the place of the original.
    InPlace,
    /// To a file.
    File(PathBuf),
    /// To a directory, under its own name.
    Directory(OutputDirectory),
    /// To standard output.
    Stdout,
    /// Nowhere: everything is done but writing.
    Nowhere,
}

/// A directory to which results go under their own names, and in their own directories where
/// they were found in one that was named.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    mode: DirectoryMode,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The names of the results of this run.
    taken: HashSet<PathBuf>,
    /// The directory, opened for the first of them.
    open: Option<Arc<OwnedFd>>,
}

impl OutputDirectory {
    /// A directory that is there. A file with the name of a result is replaced, but not a result of
    /// the same run.
    pub fn new(path: PathBuf, mode: DirectoryMode) -> Self {
        Self { path, mode, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // it is complete even if another thread panicked
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a result, and gives its place; `None` where nothing is written.
    ///
    /// # Errors
    /// A name that is taken; those of making directories.
    pub(super) fn place(&self, name: &Path) -> Result<Option<(PathBuf, Location)>, ContainerError> {
        let path = self.path.join(name);
        if !self.state().taken.insert(name.to_owned()) {
            return Err(ContainerError::NameTaken(path));
        }
        if self.mode == DirectoryMode::Check {
            return Ok(None);
        }
        match self.location(name) {
            Ok(location) => Ok(Some((path, location))),
            Err(source) => Err(ContainerError::Write { path, source }),
        }
    }

    /// The place of a result, in directories that are made where they are not there.
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

/// The use of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryMode {
    /// Results are written.
    Write,
    /// Their names are compared, and nothing is written.
    Check,
}

/// A file that is being written.
struct Output {
    path: PathBuf,
    staged: Staged,
}

impl Output {
    /// Begins to write a file, which replaces the one of that name; a new one takes its permissions from
    /// the original. Through a link, the file that it points to is replaced, and the link stays.
    fn begin(path: &Path, original: &Path) -> Result<Self, ContainerError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(ContainerError::NotRegular(path));
        }
        let metadata = fs::metadata(original).ok().filter(|metadata| metadata.is_file());
        let permissions = metadata.map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
        match Location::of(&path).and_then(|place| Staged::replacing(place, permissions)) {
            Ok(staged) => Ok(Self { path, staged }),
            Err(source) => Err(ContainerError::Write { path, source }),
        }
    }

    /// Puts the new file in its place.
    fn finish(self) -> Result<(), ContainerError> {
        let Self { path, staged } = self;
        let finished = staged.complete().and_then(|()| staged.persist());
        finished.map_err(|source| ContainerError::Write { path, source })
    }
}

impl Destination {
    /// The file that is written, of a container at `original`.
    fn file<'a>(&'a self, original: &'a Path) -> Option<&'a Path> {
        match self {
            Self::InPlace => Some(original),
            Self::File(path) => Some(path),
            Self::Directory(_) | Self::Stdout | Self::Nowhere => None,
        }
    }

    /// Whether nothing is written.
    pub(super) fn is_nowhere(&self) -> bool {
        match self {
            Self::Nowhere => true,
            Self::Directory(directory) => directory.mode == DirectoryMode::Check,
            Self::InPlace | Self::File(_) | Self::Stdout => false,
        }
    }

    /// Has `edit` change a copy of a file, and puts that in its place; where nothing is written, the
    /// original is given, which `edit` must not change. The copy is an open file: no one can
    /// exchange it for another one by its name.
    pub(super) fn edit<T>(
        &self,
        original: &Path,
        source: File,
        edit: impl FnOnce(File) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        let Some(path) = self.file(original) else { return edit(source) };
        let output = Output::begin(path, original)?;
        let failed = |source| ContainerError::Write { path: output.path.clone(), source };
        copy(&source, output.staged.as_file()).map_err(failed)?;
        let edited = edit(output.staged.as_file().try_clone().map_err(failed)?)?;
        output.finish()?;
        Ok(edited)
    }

    /// Has `write` write a stream, compressed, and puts the result in its place.
    pub(super) fn write<T>(
        &self,
        original: &Path,
        compression: Option<Compression>,
        jobs: NonZeroUsize,
        write: impl FnOnce(&mut dyn Write) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        if let Some(path) = self.file(original) {
            let output = Output::begin(path, original)?;
            let written = packed(&output.path, output.staged.as_file(), compression, jobs, write)?;
            output.finish()?;
            return Ok(written);
        }
        match self {
            Self::Stdout => {
                let name = Path::new("standard output");
                packed(name, io::stdout().lock(), compression, jobs, write)
            }
            _ => write(&mut io::sink()),
        }
    }
}

fn packed<T>(
    path: &Path,
    sink: impl Write,
    compression: Option<Compression>,
    jobs: NonZeroUsize,
    write: impl FnOnce(&mut dyn Write) -> Result<T, ContainerError>,
) -> Result<T, ContainerError> {
    let failed = |source| ContainerError::Write { path: path.to_owned(), source };
    let sink = BufWriter::with_capacity(1 << 18, sink);
    let mut encoder = Encoder::new(compression, sink, jobs).map_err(failed)?;
    let written = write(&mut encoder)?;
    encoder.finish().and_then(|mut sink| sink.flush()).map_err(failed)?;
    Ok(written)
}
