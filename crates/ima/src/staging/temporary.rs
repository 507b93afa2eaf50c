//! Temporary files and directories that have names, and how they go when a run is cut short.
//!
//! They bear [`PREFIX`] and are remembered here: [`abandon`] removes them when the program is told
//! to end. After SIGKILL they stay; signing leaves such files out and reports them
//! ([`is_temporary`]), and the next run that writes in that directory reports them ([`left_over`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    flock, fstat, linkat, openat, renameat_with, statat, AtFlags, FlockOperation, Mode, OFlags,
    RenameFlags,
};
use rustix::io::Errno;
use tempfile::TempDir;

use super::{or_here, Location};

/// The beginning of the names of temporary files.
pub const PREFIX: &str = ".imactl-";
/// The beginning of the names of directories in which key stores are made.
const STORE_PREFIX: &str = ".imactl-keys-";
/// Random characters behind it.
const RANDOM: usize = 6;

/// The temporary files and directories that have names now.
static NAMED: Mutex<Named> = Mutex::new(Named { last: 0, entries: BTreeMap::new() });

pub(super) struct Named {
    last: u64,
    entries: BTreeMap<u64, Entry>,
}

enum Entry {
    File(Location),
    Directory(PathBuf),
}

pub(super) fn named() -> MutexGuard<'static, Named> {
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
            // no caller is left that could handle one that cannot be removed
            Entry::File(location) => drop(location.remove()),
            Entry::Directory(path) => remove_directory(&path),
        }
    }
    std::mem::forget(named);
}

/// Removes a directory in which a thread may still be making files: with the directory gone it
/// makes no more. A file that cannot be removed stays: no caller is left that could handle it.
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

/// A name for a temporary file.
pub(super) fn random_name() -> io::Result<OsString> {
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

/// A temporary file with a name, removed when dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    location: Location,
    /// `None` when it has its place.
    remembered: Option<Remembered>,
}

impl Temporary {
    /// A file next to the path that it will take, with these permissions under the umask.
    pub(super) fn beside(place: &Location, permissions: u32) -> io::Result<Self> {
        let mut named = named();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(permissions);
        let create = |at: &Location| openat(&*at.directory, &at.name, flags, mode);
        let (location, file) = place.make_beside(create)?;
        let remembered = Some(named.remember(Entry::File(location.clone())));
        let file = File::from(file);
        // held while this process lives: who comes upon it sees whether it is in use
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
        Ok(Self { file, location, remembered })
    }

    /// The open file.
    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    /// Whether its name still leads to it: others may write to the directory, too.
    fn check(&self) -> io::Result<()> {
        let Location { directory, name } = &self.location;
        let there = statat(&**directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let ours = fstat(&self.file)?;
        match (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
            true => Ok(()),
            false => Err(io::Error::other("the temporary file was replaced by another one")),
        }
    }

    /// Gives it another name in its directory, and replaces a file of that name.
    pub(super) fn rename(mut self, name: &OsStr) -> io::Result<()> {
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

    /// Gives it another name in its directory, if nothing has it.
    pub(super) fn rename_to_free(self, name: &OsStr) -> io::Result<()> {
        self.check()?;
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
        file.is_ok_and(|file| {
            let ours =
                file.metadata().is_ok_and(|it| it.uid() == rustix::process::geteuid().as_raw());
            ours && flock(&file, FlockOperation::NonBlockingLockShared).is_ok()
        })
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
        let place = Location::of(&directory.path().join("file")).unwrap();
        let temporary = Temporary::beside(&place, 0o600).unwrap();
        assert!(left_over(directory.path()).is_empty());
        let stale = directory.path().join(".imactl-5uoi2M");
        fs::write(&stale, b"").unwrap();
        assert_eq!(left_over(directory.path()), [stale]);
        drop(temporary);
    }
}
