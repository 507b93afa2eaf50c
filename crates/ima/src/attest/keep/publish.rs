//! The complete list as files, which agents read instead of the kernel's.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ima_format::measure::{Layout, Step};

use super::error::KeepError;
use super::keeper::Keeper;
use super::kernel::KernelList;
use crate::staging::{Location, Staged};

/// The names of the kernel's files.
const BINARY: &str = "binary_runtime_measurements";
const ASCII: &str = "ascii_runtime_measurements";
/// The size of a write in bytes, in whole records.
const CHUNK: usize = 1 << 16;

/// The published files. They only grow, by whole records, so an agent may keep them open and read on.
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
    binary: File,
    ascii: File,
    /// The size of both lists so far, in bytes.
    written: u64,
    printed: u64,
    /// The number of entries at the last update.
    entries: Option<u64>,
    /// The layout, once a record shows it.
    layout: Option<Layout>,
    /// Bytes that are not written yet.
    waiting: Vec<u8>,
}

impl Publisher {
    /// Creates the files in a directory with the current list; existing ones are replaced.
    ///
    /// # Errors
    /// Reading the list or writing the files fails.
    pub fn create<K: KernelList>(directory: &Path, keeper: &Keeper<K>) -> Result<Self, KeepError> {
        let paths = [BINARY, ASCII].map(|name| directory.join(name));
        let fail = || KeepError::file(directory);
        let stage = |path: &PathBuf| Staged::new(Location::of(path)?, 0o440);
        let staged = paths.iter().map(stage).collect::<io::Result<Vec<_>>>().map_err(fail())?;
        let files = staged.iter().map(|staged| staged.as_file().try_clone());
        let files = files.collect::<io::Result<Vec<_>>>().map_err(fail())?;
        let Ok([binary, ascii]) = <[File; 2]>::try_from(files) else {
            return Err(fail()(io::ErrorKind::InvalidInput.into()));
        };
        let directory = directory.to_owned();
        let mut publisher = Self {
            directory,
            binary,
            ascii,
            written: 0,
            printed: 0,
            entries: None,
            layout: None,
            waiting: Vec::new(),
        };
        publisher.update(keeper)?;
        let append = |path: &PathBuf| OpenOptions::new().append(true).open(path);
        let place = || -> io::Result<()> {
            staged.into_iter().try_for_each(Staged::persist)?;
            // reopened by name: a file that cannot be linked was copied
            publisher.binary = append(&paths[0])?;
            publisher.ascii = append(&paths[1])?;
            Ok(())
        };
        place().map_err(KeepError::file(&paths[0]))?;
        Ok(publisher)
    }

    /// Appends new entries. After an error the files are unchanged, or longer by whole records, and the next call
    /// continues.
    ///
    /// # Errors
    /// Reading the list or writing the files fails.
    pub fn update<K: KernelList>(&mut self, keeper: &Keeper<K>) -> Result<(), KeepError> {
        // before the list is read: entries that are added later are left for the next update
        let entries = keeper.entries()?;
        if entries.is_some() && self.entries == entries {
            return Ok(());
        }
        let (snapshot, offset) = (keeper.snapshot()?, self.written);
        let appended = snapshot.write_from(offset, self).and_then(|_| self.append());
        let appended = appended.and_then(|()| match self.waiting.len() {
            0 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        if appended.is_ok() {
            self.entries = entries;
        } else {
            self.waiting.clear();
            let cut = self.binary.set_len(self.written);
            cut.and_then(|()| self.ascii.set_len(self.printed))
                .map_err(KeepError::file(&self.directory))?;
        }
        appended.map_err(KeepError::file(&self.directory))
    }

    /// Writes whole records to both files.
    fn append(&mut self) -> io::Result<()> {
        if self.layout.is_none() {
            self.layout = Layout::detect(&self.waiting).ok();
        }
        let Some(layout) = self.layout else { return Ok(()) };
        let (mut rest, mut text) = (&self.waiting[..], Vec::new());
        while let Step::Record(record, size) = layout.step(rest).map_err(io::Error::other)? {
            record.print_into(&mut text).map_err(io::Error::other)?;
            rest = rest.get(size..).unwrap_or_default();
        }
        let whole = self.waiting.len() - rest.len();
        self.binary.write_all(&self.waiting[..whole])?;
        self.ascii.write_all(&text)?;
        self.waiting.drain(..whole);
        self.written += whole as u64;
        self.printed += text.len() as u64;
        Ok(())
    }
}

impl Write for Publisher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK {
            self.append()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
