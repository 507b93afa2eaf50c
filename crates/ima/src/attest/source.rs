//! The inputs of a list.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::ListError;
use crate::container::Progress;
use crate::input;

/// An open input.
#[derive(Debug, Clone)]
pub struct Source {
    name: Arc<str>,
    file: Arc<File>,
    access: Access,
    watch: Option<Watch>,
    others: Arc<AtomicU64>,
}

/// Reports the bytes that are read from an input; bytes that are read again do not count.
#[derive(Clone)]
struct Watch {
    progress: Arc<dyn Progress + Send + Sync>,
    read: Arc<AtomicU64>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read.fmt(f)
    }
}

/// The number of passes through an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One pass: a pipe is streamed.
    Once,
    /// Several passes: the content of a pipe is copied to a temporary file.
    Again,
}

#[derive(Debug, Clone, Copy)]
enum Access {
    /// Any number of passes, from offset 0.
    Positioned,
    /// One pass, as the data arrive.
    Sequential,
}

impl Source {
    /// Opens an input; `-` is standard input.
    ///
    /// # Errors
    /// Opening the input or copying a pipe fails.
    pub fn open(path: &Path, reading: Reading) -> Result<Self, ListError> {
        let (name, opened) = match path.to_str() {
            Some("-") => ("standard input".into(), standard_input()),
            _ => (path.to_string_lossy().into_owned(), input::open(path)),
        };
        let name: Arc<str> = name.into();
        Self::of(opened, &name, reading).map_err(|source| ListError::Read { name, source })
    }

    /// A file that this program created.
    pub(super) fn of_path(path: &Path) -> Result<Self, ListError> {
        Self::open(path, Reading::Once)
    }

    /// An open file, read once from its start.
    pub(super) fn of_file(name: &str, file: File) -> Self {
        let (access, others) = (Access::Sequential, Arc::default());
        Self { name: name.into(), file: Arc::new(file), access, watch: None, others }
    }

    fn of(opened: io::Result<File>, name: &Arc<str>, reading: Reading) -> io::Result<Self> {
        let file = opened?;
        let source = |file, access| Self {
            name: Arc::clone(name),
            file: Arc::new(file),
            access,
            watch: None,
            others: Arc::default(),
        };
        let is_positioned = file.metadata()?.is_file() && &**name != "standard input";
        Ok(match (is_positioned, reading) {
            (true, _) => source(file, Access::Positioned),
            (false, Reading::Once) => source(file, Access::Sequential),
            (false, Reading::Again) => {
                let mut copy = tempfile::tempfile()?;
                io::copy(&mut &file, &mut copy)?;
                source(copy, Access::Positioned)
            }
        })
    }

    /// The number of records that are not IMA's: a Canonical Event Log may have those of the firmware, of systemd
    /// and of the log itself. They are not entries of the list.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// The counter of these records.
    pub(super) fn others_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.others)
    }

    /// Its path, or `standard input`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The same input, with its reading reported to `progress`.
    pub fn watched(self, progress: &Arc<dyn Progress + Send + Sync>) -> Self {
        // files in securityfs have size 0
        progress.found(self.file.metadata().map_or(0, |metadata| metadata.len()));
        let watch = Watch { progress: Arc::clone(progress), read: Arc::default() };
        Self { watch: Some(watch), ..self }
    }

    /// A stream from its start.
    pub(super) fn stream(&self) -> Stream {
        let (file, watch) = (Arc::clone(&self.file), self.watch.clone());
        Stream { file, access: self.access, offset: 0, watch }
    }
}

fn standard_input() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// The content of a source.
#[derive(Debug)]
pub(super) struct Stream {
    file: Arc<File>,
    access: Access,
    offset: u64,
    watch: Option<Watch>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.access {
            Access::Positioned => self.file.read_at(buffer, self.offset)?,
            Access::Sequential => (&*self.file).read(buffer)?,
        };
        self.offset += read as u64;
        if let Some(Watch { progress, read }) = &self.watch {
            let before = read.fetch_max(self.offset, Ordering::Relaxed);
            progress.read(self.offset.saturating_sub(before));
        }
        Ok(read)
    }
}
