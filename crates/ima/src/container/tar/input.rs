//! The archive's bytes, with their offset.

use std::io::{self, Read};

use ima_format::tar::{self, BLOCK_SIZE};
use ima_format::ErrorKind;

use super::TarError;

/// A stream that knows how far it was read.
pub(in crate::container) struct Stream<'a> {
    source: Box<dyn Read + Send + 'a>,
    offset: u64,
}

impl<'a> Stream<'a> {
    pub(in crate::container) fn new(source: Box<dyn Read + Send + 'a>) -> Self {
        Self { source, offset: 0 }
    }

    /// Fills as much of `buffer` as there is input.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + filled as u64;
                    return Err(TarError::Read { offset, source });
                }
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Fills all of `buffer`.
    pub(super) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let offset = tar::Input::offset(self);
        match self.read(buffer)? {
            read if read == buffer.len() => Ok(()),
            available => {
                let kind = ErrorKind::Truncated { needed: buffer.len(), available };
                Err(TarError::Malformed { offset, kind })
            }
        }
    }
}

impl tar::Input for Stream<'_> {
    type Error = TarError;

    fn offset(&self) -> u64 {
        self.offset
    }

    fn block(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<usize, TarError> {
        self.read(block)
    }

    fn bytes(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), TarError> {
        let offset = self.offset;
        // memory grows with the input, not with the size that a header claims
        let read = self.source.by_ref().take(count as u64).read_to_end(bytes);
        let available = read.map_err(|source| TarError::Read { offset, source })?;
        self.offset += available as u64;
        match available == count {
            true => Ok(()),
            false => {
                let kind = ErrorKind::Truncated { needed: count, available };
                Err(TarError::Malformed { offset, kind })
            }
        }
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> TarError {
        TarError::Malformed { offset, kind }
    }
}
