//! What is on disc before it has its place, and how it goes when a run is cut short.
//!
//! A file that replaces nothing has no name at all until it is whole (`O_TMPFILE`), where
//! the file system can do that. What must have a name bears [`PREFIX`] and is remembered
//! here: [`abandon`] removes it when the program is told to end. After SIGKILL it stays;
//! signing leaves it out and reports it ([`is_temporary`]).
//!
//! The directory of a file is opened once ([`Location`]), and all names are names in it: should
//! its path lead elsewhere by then, nothing is written there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    flock, fstat, linkat, openat, renameat, renameat_with, statat, unlinkat, AtFlags,
    FlockOperation, Mode, OFlags, RenameFlags, CWD,
};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::inheritance::inherit;

/// What the names of temporary files begin with.
pub const PREFIX: &str = ".imactl-";
/// What the names of the directories begin with in which key stores are made.
const STORE_PREFIX: &str = ".imactl-keys-";
/// Random characters behind it.
const RANDOM: usize = 6;

/// The temporary files and directories that have names now.
static NAMED: Mutex<Named> = Mutex::new(Named { last: 0, entries: BTreeMap::new() });

struct Named {
    last: u64,
    entries: BTreeMap<u64, Entry>,
}

enum Entry {
    File(Location),
    Directory(PathBuf),
}

fn named() -> MutexGuard<'static, Named> {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Named {
    fn remember(&mut self, entry: Entry) -> Remembered {
        self.last += 1;
        self.entries.insert(self.last, entry);
        Remembered(self.last)
    }
}

/// A name that is remembered.
#[derive(Debug)]
struct Remembered(u64);

impl Drop for Remembered {
    fn drop(&mut self) {
        named().entries.remove(&self.0);
    }
}

/// Removes every temporary file and directory that has a name. No thread makes or places
/// one afterwards: they wait for the end of the process.
pub fn abandon() {
    let mut named = named();
    for entry in std::mem::take(&mut named.entries).into_values() {
        match entry {
            // nobody is left who could deal with one that cannot be removed
            Entry::File(location) => drop(location.remove()),
            Entry::Directory(path) => remove_directory(&path),
        }
    }
    std::mem::forget(named);
}

/// Removes a directory in which a thread may still be making files: with the directory gone it
/// makes no more. What cannot be removed stays: there is nobody left who could deal with it.
fn remove_directory(path: &Path) {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ if path.symlink_metadata().is_err() => return,
            _ => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A name in a directory that is open.
#[derive(Debug, Clone)]
pub struct Location {
    pub(crate) directory: Arc<OwnedFd>,
    pub(crate) name: OsString,
}

impl Location {
    /// A name in a directory.
    pub(crate) fn new(directory: Arc<OwnedFd>, name: OsString) -> Self {
        Self { directory, name }
    }

    /// Where a path leads, whose last name need not be there.
    ///
    /// # Errors
    /// Those of opening the directory; a path that ends in `..`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |flags| openat(CWD, or_here(path.parent()), flags, Mode::empty());
        let directory = match open(flags) {
            // to write in it, it need not be readable
            Err(Errno::ACCESS) => open(flags | OFlags::PATH)?,
            opened => opened?,
        };
        Ok(Self::new(Arc::new(directory), name))
    }

    fn beside(&self, name: OsString) -> Self {
        Self::new(Arc::clone(&self.directory), name)
    }

    /// Has `make` make something beside it under a temporary name.
    fn make_beside<T>(
        &self,
        mut make: impl FnMut(&Self) -> Result<T, Errno>,
    ) -> io::Result<(Self, T)> {
        const TRIES: u32 = 1 << 16;
        for _ in 0..TRIES {
            let temporary = self.beside(random_name()?);
            match make(&temporary) {
                Ok(made) => return Ok((temporary, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    fn rename(&self, to: &Self) -> io::Result<()> {
        Ok(renameat(&*self.directory, &self.name, &*to.directory, &to.name)?)
    }

    fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&*self.directory, &self.name, AtFlags::empty())?)
    }
}

/// A name for a temporary file.
fn random_name() -> io::Result<OsString> {
    const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; RANDOM];
    openssl::rand::rand_bytes(&mut random)?;
    let random = random.map(|byte| char::from(CHARACTERS[usize::from(byte) % CHARACTERS.len()]));
    Ok(PREFIX.chars().chain(random).collect::<String>().into())
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

/// A temporary file with a name, removed when dropped.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    location: Location,
    /// `None` when it has its place.
    remembered: Option<Remembered>,
    path: PathBuf,
}

impl Temporary {
    /// A file beside `path`, whose place it will take, with these permissions under the
    /// umask.
    pub fn beside(path: &Path, permissions: u32) -> io::Result<Self> {
        let mut temporary = Self::beside_location(&Location::of(path)?, permissions)?;
        temporary.path = or_here(path.parent()).join(&temporary.location.name);
        Ok(temporary)
    }

    fn beside_location(place: &Location, permissions: u32) -> io::Result<Self> {
        let mut named = named();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(permissions);
        let create = |at: &Location| openat(&*at.directory, &at.name, flags, mode);
        let (location, file) = place.make_beside(create)?;
        let remembered = Some(named.remember(Entry::File(location.clone())));
        let (file, path) = (File::from(file), PathBuf::from(&location.name));
        // held while this process lives: who comes upon it sees whether it is in use
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
        Ok(Self { file, location, remembered, path })
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Its name until it is placed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place in its directory, and in the place of what is there.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        self.rename(&name)
    }

    /// Whether its name still leads to it: others may write to the directory, too.
    fn check(&self) -> io::Result<()> {
        let Location { directory, name } = &self.location;
        let there = statat(&**directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let ours = fstat(&self.file)?;
        match (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
            true => Ok(()),
            false => Err(io::Error::other("the temporary file was exchanged for another one")),
        }
    }

    fn rename(mut self, name: &OsStr) -> io::Result<()> {
        let remembered = self.remembered.take();
        let named = named();
        let place = self.location.beside(name.to_owned());
        let renamed = self.check().and_then(|()| self.location.rename(&place));
        if renamed.is_err() {
            self.location.remove().ok();
        }
        // forgotten after the lock that forgetting takes is free
        drop(named);
        drop(remembered);
        renamed
    }

    /// Puts it in its place in its directory if nothing is there.
    pub fn persist_noclobber(self, path: &Path) -> io::Result<()> {
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        let Location { directory, name: temporary } = &self.location;
        let (from, to) = (&**directory, &**directory);
        // dropped afterwards, it loses its temporary name
        match linkat(from, temporary, to, name, AtFlags::empty()) {
            // a file system without hard links
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                Ok(renameat_with(from, temporary, to, name, RenameFlags::NOREPLACE)?)
            }
            linked => Ok(linked?),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.remembered.is_some() {
            // one that cannot be removed is reported by the next run
            self.location.remove().ok();
        }
    }
}

/// A file that has no name before it is whole, where the file system can do that, else a
/// temporary one.
#[derive(Debug)]
pub struct Staged {
    place: Location,
    file: StagedFile,
}

#[derive(Debug)]
enum StagedFile {
    Nameless(File),
    Named(Temporary),
}

impl Staged {
    /// A file that will take this place, with these permissions under the umask.
    ///
    /// # Errors
    /// What the system said.
    pub fn new(place: Location, permissions: u32) -> io::Result<Self> {
        let file = match nameless(&place, permissions) {
            Some(file) => StagedFile::Nameless(file),
            None => StagedFile::Named(Temporary::beside_location(&place, permissions)?),
        };
        Ok(Self { place, file })
    }

    /// The open file, for reading and writing.
    pub fn as_file(&self) -> &File {
        match &self.file {
            StagedFile::Nameless(file) => file,
            StagedFile::Named(temporary) => temporary.as_file(),
        }
    }

    /// Puts it in its place, and in the place of what is there.
    ///
    /// # Errors
    /// What the system said; what was there before is still there then.
    pub fn persist(self) -> io::Result<()> {
        let Self { place, file } = self;
        let file = match file {
            StagedFile::Named(temporary) => return temporary.rename(&place.name),
            StagedFile::Nameless(file) => file,
        };
        match give_name(&file, &place) {
            Ok(()) => Ok(()),
            // linking replaces nothing, renaming does
            Err(Errno::EXIST) => replace(&file, &place),
            // without /proc, or on a file system that only seems to know it: with a name
            Err(_) => {
                let named = Temporary::beside_location(&place, 0o600)?;
                (&file).rewind()?;
                io::copy(&mut &file, &mut named.as_file())?;
                inherit(&file, named.as_file())?;
                named.as_file().sync_all()?;
                named.rename(&place.name)
            }
        }
    }
}

/// The temporary files and directories in a directory that no process uses any more.
pub fn left_over(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(or_here(Some(directory))).into_iter().flatten().flatten();
    let ours = |entry: &fs::DirEntry| {
        let path = entry.path();
        entry.file_type().is_ok_and(|kind| match kind.is_dir() {
            true => is_temporary(&path) || is_store_temporary(&path),
            false => kind.is_file() && is_temporary(&path),
        })
    };
    let paths = entries.filter(ours).map(|entry| entry.path());
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
    /// Locked while it is in use.
    _lock: File,
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
        let name = named.remember(Entry::Directory(directory.path().to_owned()));
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok();
        Ok(Self { directory, name, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Moves it, or what is in it, to its place: `publish` is not cut short.
    pub(crate) fn publish<T>(self, publish: impl FnOnce(&Path) -> T) -> T {
        let Self { directory, name, _lock } = self;
        let named = named();
        let published = publish(directory.path());
        drop(named);
        drop(name);
        published
    }
}

/// Writes a file that is there whole, or not at all. It has no name before it is whole,
/// where the file system can do that.
///
/// # Errors
/// What the system said; what was there before is still there then.
pub(crate) fn write(place: &Location, permissions: u32, content: &[u8]) -> io::Result<()> {
    let staged = Staged::new(place.clone(), permissions)?;
    staged.as_file().write_all(content)?;
    staged.as_file().sync_data()?;
    staged.persist()
}

/// A file without a name; `None` where there is no such thing.
fn nameless(place: &Location, permissions: u32) -> Option<File> {
    if under_pseudo() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(permissions);
    openat(&*place.directory, ".", flags, mode).ok().map(File::from)
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

fn give_name(file: &File, place: &Location) -> Result<(), Errno> {
    let open = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    linkat(CWD, open, &*place.directory, &place.name, AtFlags::SYMLINK_FOLLOW)
}

/// Puts a file without a name in the place of another: it has a temporary name for the
/// moment between two system calls.
fn replace(file: &File, place: &Location) -> io::Result<()> {
    // held throughout, so that nothing has to be remembered
    let _named = named();
    let (linked, ()) = place.make_beside(|temporary| give_name(file, temporary))?;
    let renamed = linked.rename(place);
    if renamed.is_err() {
        linked.remove().ok();
    }
    renamed
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
            write(&Location::of(&path).unwrap(), 0o644, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let temporary = Temporary::beside(&path, 0o600).unwrap();
        temporary.as_file().write_all(b"third").unwrap();
        temporary.persist(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        let staged = Staged::new(Location::of(&path).unwrap(), 0o600).unwrap();
        staged.as_file().write_all(b"again").unwrap();
        staged.persist().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"again");
        drop(Temporary::beside(&path, 0o600).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
