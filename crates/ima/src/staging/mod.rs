//! Files that are there whole, or not at all.
//!
//! A file that is written has no name before it is whole (`O_TMPFILE`), where the file system can do
//! that; else it has a temporary one ([`temporary`]). The directory of a file is opened once
//! ([`Location`]), and all names are names in it: should its path lead elsewhere by then, nothing is
//! written there.

mod inheritance;
mod temporary;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{linkat, openat, renameat, unlinkat, AtFlags, Mode, OFlags, CWD};
use rustix::io::Errno;

use inheritance::inherit;
pub use temporary::{abandon, is_temporary, left_over, PREFIX};
pub(crate) use temporary::{is_store_temporary, Scratch, StoreDirectory};
use temporary::{named, random_name, Temporary};

/// How many links are followed to a file, as in the kernel.
const LINKS: usize = 40;

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

    /// Where a path leads that symbolic links at its end lead on, whether something is there or not.
    ///
    /// # Errors
    /// Those of [`Self::of`] and of reading links.
    pub fn at_end_of(path: &Path) -> io::Result<Self> {
        Self::of(&resolve(path)?)
    }

    fn beside(&self, name: OsString) -> Self {
        Self::new(Arc::clone(&self.directory), name)
    }

    /// Has `make` create a file next to it under a temporary name.
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

/// A file that has no name before it is whole, where the file system can do that, else a
/// temporary one.
#[derive(Debug)]
pub struct Staged {
    place: Location,
    file: StagedFile,
    /// The file that is replaced, whose owner, mode and attributes this one takes over.
    replaced: Option<File>,
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
    /// The system's error.
    pub fn new(place: Location, permissions: u32) -> io::Result<Self> {
        let file = match nameless(&place, permissions) {
            Some(file) => StagedFile::Nameless(file),
            None => StagedFile::Named(Temporary::beside(&place, permissions)?),
        };
        Ok(Self { place, file, replaced: None })
    }

    /// A file that will take this place, and that has owner, mode and attributes of the regular file
    /// that is there; where none is, these permissions under the umask.
    ///
    /// # Errors
    /// The system's error.
    pub fn replacing(place: Location, permissions: u32) -> io::Result<Self> {
        let replaced = inheritance::replaced(&place)?;
        // if another's permissions follow, no one else may open it before
        let permissions = if replaced.is_some() { 0o600 } else { permissions };
        Ok(Self { replaced, ..Self::new(place, permissions)? })
    }

    /// The open file, for reading and writing.
    pub fn as_file(&self) -> &File {
        match &self.file {
            StagedFile::Nameless(file) => file,
            StagedFile::Named(temporary) => temporary.as_file(),
        }
    }

    /// Completes it: it is on disk, with the inherited attributes.
    ///
    /// # Errors
    /// The system's error.
    pub fn complete(&self) -> io::Result<()> {
        if let Some(replaced) = &self.replaced {
            inherit(replaced, self.as_file())?;
        }
        self.as_file().sync_all()
    }

    /// Puts it in its place if nothing is there.
    ///
    /// # Errors
    /// The system's error; `AlreadyExists` if a file is there.
    pub fn persist_new(self) -> io::Result<()> {
        let Self { place, file, .. } = self;
        match file {
            StagedFile::Named(temporary) => temporary.rename_to_free(&place.name),
            StagedFile::Nameless(file) => match give_name(&file, &place) {
                Ok(()) => Ok(()),
                Err(Errno::EXIST) => Err(Errno::EXIST.into()),
                Err(_) => named_copy(&file, &place)?.rename_to_free(&place.name),
            },
        }
    }

    /// Puts it in its place, and replaces a file that is there.
    ///
    /// # Errors
    /// The system's error; the old file is still there then.
    pub fn persist(self) -> io::Result<()> {
        let Self { place, file, .. } = self;
        let file = match file {
            StagedFile::Named(temporary) => return temporary.rename(&place.name),
            StagedFile::Nameless(file) => file,
        };
        match give_name(&file, &place) {
            Ok(()) => Ok(()),
            // linking replaces nothing, renaming does
            Err(Errno::EXIST) => replace(&file, &place),
            Err(_) => named_copy(&file, &place)?.rename(&place.name),
        }
    }
}

/// A file with a name in place of one without: there is no /proc, or the file system only seems to
/// know files without names.
fn named_copy(file: &File, place: &Location) -> io::Result<Temporary> {
    let named = Temporary::beside(place, 0o600)?;
    { file }.rewind()?;
    io::copy(&mut { file }, &mut named.as_file())?;
    inherit(file, named.as_file())?;
    named.as_file().sync_all()?;
    Ok(named)
}

/// Writes a file that is there whole, or not at all. It has no name before it is whole,
/// where the file system can do that.
///
/// # Errors
/// The system's error; the old file is still there then.
pub(crate) fn write(place: &Location, permissions: u32, content: &[u8]) -> io::Result<()> {
    let staged = Staged::new(place.clone(), permissions)?;
    staged.as_file().write_all(content)?;
    staged.as_file().sync_data()?;
    staged.persist()
}

/// Writes a file under a name that the user gave: a symbolic link stays, and its target is written; a file
/// that is not regular (a device, a pipe) stays, too, and is written to.
///
/// # Errors
/// The system's error; the old file at `path` is still there then.
pub fn write_path(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    let path = resolve(path)?;
    match fs::metadata(&path) {
        // a directory refuses to be opened
        Ok(found) if !found.is_file() => {
            OpenOptions::new().write(true).open(&path)?.write_all(content)
        }
        _ => write(&Location::of(&path)?, permissions, content),
    }
}

/// The target of a path, whether that is there or not.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(target);
            }
            _ => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn or_here(directory: Option<&Path>) -> &Path {
    directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    use std::os::unix::fs::{symlink, FileTypeExt};

    use super::*;

    #[test]
    fn a_file_is_written_and_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for content in [b"first", b"other"] {
            write(&Location::of(&path).unwrap(), 0o644, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let place = Location::of(&path).unwrap();
        let temporary = Temporary::beside(&place, 0o600).unwrap();
        temporary.as_file().write_all(b"third").unwrap();
        temporary.rename(&place.name).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        let staged = Staged::new(Location::of(&path).unwrap(), 0o600).unwrap();
        staged.as_file().write_all(b"again").unwrap();
        staged.persist().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"again");
        drop(Temporary::beside(&place, 0o600).unwrap());
        let kept = Staged::new(place, 0o600).unwrap().persist_new().unwrap_err();
        assert_eq!(kept.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        fs::create_dir(inside("deep")).unwrap();
        fs::write(inside("deep/file"), "old").unwrap();
        symlink("deep/file", inside("link")).unwrap();
        symlink("link", inside("link-to-link")).unwrap();
        symlink("deep/new", inside("dangling")).unwrap();
        symlink("loop", inside("loop")).unwrap();
        write_path(&inside("link-to-link"), 0o644, b"new").unwrap();
        write_path(&inside("dangling"), 0o644, b"new").unwrap();
        for name in ["link", "link-to-link", "dangling"] {
            assert!(fs::symlink_metadata(inside(name)).unwrap().is_symlink(), "{name}");
            assert_eq!(fs::read(inside(name)).unwrap(), b"new", "{name}");
        }
        assert!(write_path(&inside("loop"), 0o644, b"x").is_err());
        assert!(write_path(&inside("deep"), 0o644, b"x").is_err());
    }

    #[test]
    fn devices_and_pipes_are_written_to() {
        let directory = tempfile::tempdir().unwrap();
        write_path(Path::new("/dev/null"), 0o644, b"x").unwrap();
        let full = write_path(Path::new("/dev/full"), 0o644, b"x").unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        for device in ["/dev/null", "/dev/full"] {
            assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
        }
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let reader = pipe.clone();
        let reader = std::thread::spawn(move || fs::read(reader).unwrap());
        write_path(&pipe, 0o644, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
