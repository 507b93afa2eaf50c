//! The directory of segments: `boot-NUMBER/NUMBER`, counted from 1, and a lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{flock, FlockOperation};

use super::error::KeepError;
use crate::staging::{Location, Staged};

/// The prefix of a boot's directory, before its number.
pub(super) const BOOT: &str = "boot-";

/// The segments of a boot, in the directory of all boots.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    boot: u64,
    segments: Vec<PathBuf>,
    _lock: File,
}

impl Store {
    /// Opens the directory, and the last boot in it.
    pub(super) fn open(directory: &Path) -> Result<Self, KeepError> {
        make_directory(directory)?;
        let path = directory.join("lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(KeepError::file(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(KeepError::Locked { path });
        }
        let boot = numbers(directory, BOOT)?.last().copied().unwrap_or(1);
        let mut store =
            Self { directory: directory.to_owned(), boot, segments: Vec::new(), _lock: lock };
        let at = store.boot_directory();
        make_directory(&at)?;
        store.segments = segments(&at)?;
        Ok(store)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The segments of this boot, in order.
    pub(super) fn segments(&self) -> &[PathBuf] {
        &self.segments
    }

    fn boot_directory(&self) -> PathBuf {
        self.directory.join(boot_name(self.boot))
    }

    /// Adds a segment with the content of a file. After a crash it is complete on disk, or missing.
    pub(super) fn add(&mut self, content: File) -> Result<(), KeepError> {
        let path = segment(&self.boot_directory(), self.segments.len() as u64 + 1);
        let written = || -> io::Result<()> {
            let staged = Staged::new(Location::of(&path)?, 0o600)?;
            copy(content, staged.as_file())?;
            staged.complete()?;
            staged.persist_new()?;
            File::open(self.boot_directory())?.sync_all()
        };
        written().map_err(KeepError::file(&path))?;
        self.segments.push(path);
        Ok(())
    }

    /// Removes the last segment.
    pub(super) fn remove_last(&mut self) -> Result<(), KeepError> {
        let Some(path) = self.segments.pop() else { return Ok(()) };
        let removed = fs::remove_file(&path);
        let removed = removed.and_then(|()| File::open(self.boot_directory())?.sync_all());
        removed.map_err(KeepError::file(&path))
    }

    /// Starts a new boot without segments.
    pub(super) fn start_boot(&mut self) -> Result<(), KeepError> {
        self.boot += 1;
        self.segments.clear();
        make_directory(&self.boot_directory())
    }
}

/// The name of a boot's directory.
pub(super) fn boot_name(number: u64) -> String {
    format!("{BOOT}{number:08}")
}

fn segment(boot: &Path, number: u64) -> PathBuf {
    boot.join(format!("{number:08}"))
}

/// The segments in a boot's directory, in order. A missing one is an error.
pub(super) fn segments(boot: &Path) -> Result<Vec<PathBuf>, KeepError> {
    let numbers = numbers(boot, "")?.into_iter().zip(1..);
    let checked = numbers.map(|(number, expected)| match number == expected {
        true => Ok(segment(boot, number)),
        false => Err(KeepError::Gap { path: segment(boot, expected) }),
    });
    checked.collect()
}

/// Copies a file of the kernel, which returns at most a page per read, whatever the size of the buffer.
fn copy(content: File, mut to: &File) -> io::Result<()> {
    let mut content = BufReader::with_capacity(1 << 16, content);
    io::copy(&mut content, &mut to)?;
    to.flush()
}

/// Whether the rest of a file is equal to a segment.
pub(super) fn is_same(file: File, segment: &Path) -> Result<bool, KeepError> {
    let kept = File::open(segment).map_err(KeepError::file(segment))?;
    let (mut one, mut other) = (BufReader::new(file).bytes(), BufReader::new(kept).bytes());
    loop {
        match (one.next().transpose(), other.next().transpose()) {
            (Ok(None), Ok(None)) => return Ok(true),
            (Ok(one), Ok(other)) if one == other => {}
            (Ok(_), Ok(_)) => return Ok(false),
            (Err(error), _) | (_, Err(error)) => return Err(KeepError::file(segment)(error)),
        }
    }
}

/// Creates a directory that only its owner can read, since the kernel's list is not public either.
fn make_directory(path: &Path) -> Result<(), KeepError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            let synced = File::open(parent).and_then(|parent| parent.sync_all());
            synced.map_err(KeepError::file(parent))
        }
        Err(error) => Err(KeepError::file(path)(error)),
    }
}

/// The numbers after a prefix in the names of a directory, sorted. Other names are ignored.
pub(super) fn numbers(directory: &Path, prefix: &str) -> Result<Vec<u64>, KeepError> {
    let entries = fs::read_dir(directory).map_err(KeepError::file(directory))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(KeepError::file(directory))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let digits = digits.filter(|digits| digits.len() == 8);
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
