//! What is on disc before it has its place, and how it goes when a run is cut short.
//!
//! A file that replaces nothing has no name at all until it is whole (`O_TMPFILE`), where
//! the file system can do that. What must have a name bears [`PREFIX`] and is remembered
//! here: [`abandon`] removes it when the program is told to end. After SIGKILL it stays, and
//! walks leave it out ([`is_temporary`]).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{flock, linkat, AtFlags, FlockOperation, OFlags, CWD};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempDir};

use crate::inheritance::inherit;

/// What the names of temporary files begin with.
pub const PREFIX: &str = ".imactl-";
/// What the names of the directories begin with in which key stores are made.
const STORE_PREFIX: &str = ".imactl-keys-";
/// Random characters behind it.
const RANDOM: usize = 6;

/// The temporary files and directories that have names now.
static NAMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn named() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every temporary file and directory that has a name. No thread makes or places
/// one afterwards: they wait for the end of the process.
pub fn abandon() {
    let mut named = named();
    for path in std::mem::take(&mut *named) {
        remove(&path);
    }
    std::mem::forget(named);
}

/// Removes a file, or a directory in which a thread may still be making files: with the
/// directory gone it makes no more. What cannot be removed stays: there is nobody left who
/// could deal with it.
fn remove(path: &Path) {
    const TRIES: u32 = 100;
    if fs::remove_file(path).is_ok() {
        return;
    }
    for _ in 0..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ if path.symlink_metadata().is_err() => return,
            _ => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a file is called as temporary files are.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|random| {
        random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
    })
}

/// Whether a directory is called as those are in which key stores are made.
pub(crate) fn is_store_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.strip_prefix(STORE_PREFIX.as_bytes()).is_some_and(|random| random.len() == RANDOM)
}

fn or_here(directory: Option<&Path>) -> &Path {
    directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name that is remembered.
#[derive(Debug)]
struct Remembered(PathBuf);

impl Drop for Remembered {
    fn drop(&mut self) {
        named().remove(&self.0);
    }
}

/// A temporary file with a name, removed when dropped.
#[derive(Debug)]
pub struct Temporary {
    file: NamedTempFile<File>,
    name: Remembered,
}

impl Temporary {
    /// A file beside `path`, whose place it will take, with these permissions under the
    /// umask.
    pub fn beside(path: &Path, permissions: u32) -> io::Result<Self> {
        let mut named = named();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(permissions);
        // opened here, so that an error is the system's own
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .make_in(or_here(path.parent()), |path| options.open(path))?;
        named.insert(file.path().to_owned());
        let name = Remembered(file.path().to_owned());
        // held while this process lives: who comes upon it sees whether it is in use
        flock(file.as_file(), FlockOperation::NonBlockingLockExclusive).ok();
        Ok(Self { file, name })
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Its name until it is placed.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Puts it in its place, and in the place of what is there.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        let Self { file, name: _name } = self;
        let _named = named();
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Puts it in its place if nothing is there.
    pub fn persist_noclobber(self, path: &Path) -> io::Result<()> {
        let Self { file, name: _name } = self;
        let _named = named();
        file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    }
}

/// A file that has no name before it is whole, where the file system can do that, else a
/// temporary one.
#[derive(Debug)]
pub enum Staged {
    /// It has none.
    Nameless(File),
    /// It has one.
    Named(Temporary),
}

impl Staged {
    /// A file that will take the place of `path`, with these permissions under the umask.
    ///
    /// # Errors
    /// What the system said.
    pub fn beside(path: &Path, permissions: u32) -> io::Result<Self> {
        match nameless(or_here(path.parent()), permissions) {
            Some(file) => Ok(Self::Nameless(file)),
            None => Temporary::beside(path, permissions).map(Self::Named),
        }
    }

    /// The open file, for reading and writing.
    pub fn as_file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(temporary) => temporary.as_file(),
        }
    }

    /// Puts it in its place, and in the place of what is there.
    ///
    /// # Errors
    /// What the system said; what was at `path` before is still there then.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        let file = match self {
            Self::Named(temporary) => return temporary.persist(path),
            Self::Nameless(file) => file,
        };
        match give_name(&file, path) {
            Ok(()) => Ok(()),
            // linking replaces nothing, renaming does
            Err(Errno::EXIST) => replace(&file, path),
            // without /proc, or on a file system that only seems to know it: with a name
            Err(_) => {
                let named = Temporary::beside(path, 0o600)?;
                (&file).rewind()?;
                io::copy(&mut &file, &mut named.as_file())?;
                inherit(&file, named.as_file())?;
                named.as_file().sync_all()?;
                named.persist(path)
            }
        }
    }
}

/// The temporary files in a directory that no process uses any more.
pub fn left_over(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(or_here(Some(directory))).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let paths = files.map(|entry| entry.path()).filter(|path| is_temporary(path));
    let unused = |path: &PathBuf| {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
    };
    let mut found: Vec<_> = paths.filter(unused).collect();
    found.sort();
    found
}

/// A directory where temporary files are kept in general, for its owner alone, removed when
/// dropped.
#[derive(Debug)]
pub(crate) struct Scratch(StoreDirectory);

impl Scratch {
    /// A directory in `$TMPDIR`, else `/tmp`.
    pub(crate) fn new() -> io::Result<Self> {
        StoreDirectory::new(&std::env::temp_dir(), PREFIX).map(Self)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A directory in which a key store is made, for its owner alone, removed when dropped.
#[derive(Debug)]
pub(crate) struct StoreDirectory {
    directory: TempDir,
    name: Remembered,
}

impl StoreDirectory {
    /// A directory in `parent`.
    pub(crate) fn in_directory(parent: &Path) -> io::Result<Self> {
        Self::new(parent, STORE_PREFIX)
    }

    fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        let mut named = named();
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        named.insert(directory.path().to_owned());
        let name = Remembered(directory.path().to_owned());
        Ok(Self { directory, name })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Moves it, or what is in it, to its place: `publish` is not cut short.
    pub(crate) fn publish<T>(self, publish: impl FnOnce(&Path) -> T) -> T {
        let Self { directory, name: _name } = self;
        let _named = named();
        publish(directory.path())
    }
}

/// Writes a file that is there whole, or not at all. It has no name before it is whole,
/// where the file system can do that.
///
/// # Errors
/// What the system said; what was at `path` before is still there then.
pub(crate) fn write(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    if let Some(file) = nameless(or_here(path.parent()), permissions) {
        (&file).write_all(content)?;
        file.sync_data()?;
        match give_name(&file, path) {
            Ok(()) => return Ok(()),
            // linking replaces nothing, renaming does
            Err(Errno::EXIST) => return replace(&file, path),
            // without /proc, or on a file system that only seems to know it: with a name
            Err(_) => {}
        }
    }
    let file = Temporary::beside(path, permissions)?;
    file.as_file().write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)
}

/// A file without a name; `None` where there is no such thing.
fn nameless(directory: &Path, permissions: u32) -> Option<File> {
    if under_pseudo() {
        return None;
    }
    let flags = OFlags::TMPFILE.bits() as i32;
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(permissions)
        .custom_flags(flags)
        .open(directory)
        .ok()
}

/// Whether `pseudo` keeps account of files: it does so by their names, and links no file
/// that has none.
fn under_pseudo() -> bool {
    std::env::var_os("LD_PRELOAD").is_some_and(|libraries| {
        let libraries = libraries.as_bytes().split(|byte| matches!(byte, b' ' | b':'));
        libraries.map(OsStr::from_bytes).any(|library| {
            let name = Path::new(library).file_name().unwrap_or_default();
            name.as_bytes().starts_with(b"libpseudo")
        })
    })
}

fn give_name(file: &File, path: &Path) -> Result<(), Errno> {
    let open = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// Puts a file without a name in the place of another: it has a temporary name for the
/// moment between two system calls.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    // held throughout, so that nothing has to be remembered
    let _named = named();
    let link = |name: &Path| give_name(file, name).map_err(io::Error::from);
    let linked = tempfile::Builder::new().prefix(PREFIX).make_in(or_here(path.parent()), link)?;
    linked.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_temporaries_are_told_from_others() {
        for (name, expected) in [
            ("d/.imactl-5uoi2M", true),
            ("d/.imactl-keys-5uoi2M", false),
            ("d/.imactl-notes.txt", false),
            ("d/.imactl-5uoi2M.sig", false),
            ("d/imactl-5uoi2M", false),
        ] {
            assert_eq!(is_temporary(Path::new(name)), expected, "{name}");
        }
        assert!(is_store_temporary(Path::new("d/.imactl-keys-5uoi2M")));
    }

    #[test]
    fn what_is_in_use_is_not_left_over() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = Temporary::beside(&directory.path().join("file"), 0o600).unwrap();
        assert!(left_over(directory.path()).is_empty());
        let stale = directory.path().join(".imactl-5uoi2M");
        fs::write(&stale, b"").unwrap();
        assert_eq!(left_over(directory.path()), [stale]);
        drop(temporary);
    }

    #[test]
    fn a_file_is_written_and_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for content in [b"first", b"other"] {
            write(&path, 0o644, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let temporary = Temporary::beside(&path, 0o600).unwrap();
        temporary.as_file().write_all(b"third").unwrap();
        temporary.persist(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        let staged = Staged::beside(&path, 0o600).unwrap();
        staged.as_file().write_all(b"again").unwrap();
        staged.persist(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"again");
        drop(Temporary::beside(&path, 0o600).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(named().iter().all(|path| !path.starts_with(directory.path())));
    }
}
