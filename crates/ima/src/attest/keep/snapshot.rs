//! The complete list at one time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::KeepError;
use super::kernel::KERNEL;

/// The complete list at one time: segments, which do not change, and a copy of the rest.
#[derive(Debug)]
pub struct Snapshot {
    segments: Vec<PathBuf>,
    rest: File,
}

impl Snapshot {
    pub(super) fn new(segments: &[PathBuf], parts: Vec<File>) -> Result<Self, KeepError> {
        let copied = || -> io::Result<File> {
            let mut rest = tempfile::tempfile()?;
            for mut part in parts {
                io::copy(&mut part, &mut rest)?;
            }
            rest.rewind()?;
            Ok(rest)
        };
        let rest = copied().map_err(KeepError::file(Path::new(KERNEL)))?;
        Ok(Self { segments: segments.to_vec(), rest })
    }

    /// Writes the list from an offset on; returns the number of bytes.
    ///
    /// # Errors
    /// Reading the segments or writing fails.
    pub fn write_from(self, offset: u64, output: &mut dyn Write) -> io::Result<u64> {
        let (mut skip, mut written) = (offset, 0);
        for segment in &self.segments {
            let mut file = File::open(segment)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(skip.min(length)))?;
            skip = skip.saturating_sub(length);
            written += io::copy(&mut file, output)?;
        }
        let mut rest = self.rest;
        io::copy(&mut (&mut rest).take(skip), &mut io::sink())?;
        Ok(written + io::copy(&mut rest, output)?)
    }
}
