//! The complete list, as files that agents read in place of the kernel's.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ima_format::measure::{Layout, Step};

use super::{KeepError, Keeper, KernelList};
use crate::staging::{Location, Staged};

/// The kernel's names of its files.
const BINARY: &str = "binary_runtime_measurements";
const ASCII: &str = "ascii_runtime_measurements";
/// Enough of a list to see its layout.
const HEAD: usize = 512;

/// The files. They only grow, so that an agent may keep one open and read on.
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
    binary: File,
    ascii: File,
    /// Bytes of the binary list so far.
    written: u64,
    /// The layout, as soon as a record shows it, and a record that is not whole yet.
    layout: Option<Layout>,
    begun: Vec<u8>,
}

impl Publisher {
    /// Makes the files in a directory, in place of those that are there.
    ///
    /// # Errors
    /// What the system said.
    pub fn create(directory: &Path) -> Result<Self, KeepError> {
        let create = |name: &str| {
            let path = directory.join(name);
            let created = || -> io::Result<File> {
                let staged = Staged::new(Location::of(&path)?, 0o440)?;
                let file = staged.as_file().try_clone()?;
                staged.persist()?;
                Ok(file)
            };
            created().map_err(KeepError::file(&path))
        };
        let (binary, ascii) = (create(BINARY)?, create(ASCII)?);
        let directory = directory.to_owned();
        Ok(Self { directory, binary, ascii, written: 0, layout: None, begun: Vec::new() })
    }

    /// Appends the entries that are new. After an error the files are to be made again.
    ///
    /// # Errors
    /// Those of reading the list and of writing the files.
    pub fn update<K: KernelList>(&mut self, keeper: &Keeper<K>) -> Result<(), KeepError> {
        let (snapshot, offset) = (keeper.snapshot()?, self.written);
        let appended = snapshot.write_from(offset, self).and_then(|_| self.print());
        appended.map_err(KeepError::file(&self.directory))
    }

    /// Prints whole records as the kernel's ASCII list has them.
    fn print(&mut self) -> io::Result<()> {
        if self.layout.is_none() {
            self.layout = Layout::detect(&self.begun).ok();
        }
        let Some(layout) = self.layout else { return Ok(()) };
        let (mut rest, mut text) = (&self.begun[..], Vec::new());
        loop {
            match layout.step(rest).map_err(io::Error::other)? {
                Step::Incomplete(_) => break,
                Step::Record(record, size) => {
                    record.print_into(&mut text).map_err(io::Error::other)?;
                    rest = &rest[size..];
                }
            }
        }
        self.begun = rest.to_vec();
        self.ascii.write_all(&text)
    }
}

impl Write for Publisher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.binary.write(bytes)?;
        self.written += written as u64;
        self.begun.extend_from_slice(&bytes[..written]);
        if self.begun.len() >= HEAD {
            self.print()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
