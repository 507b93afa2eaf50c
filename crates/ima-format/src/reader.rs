//! A cursor over bytes that cannot panic and knows its offset.

use crate::{Error, ErrorKind};

/// Reads a slice from front to back; each error carries the offset from the slice's start.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// A reader of a part of the input, which begins at `offset`.
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// Offset of the next byte from the start of the input.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.bytes.get(..count).zip(self.bytes.get(count..)) else {
            let kind = ErrorKind::Truncated { needed: count, available: self.bytes.len() };
            return Err(Error::new(kind, self.offset));
        };
        self.bytes = tail;
        self.offset += count;
        Ok(head)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a big-endian 16-bit integer.
    pub fn u16_be(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a big-endian 32-bit integer.
    pub fn u32_be(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a little-endian 32-bit integer.
    pub fn u32_le(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes;
        self.offset += rest.len();
        self.bytes = &[];
        rest
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), Error> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(Error::new(ErrorKind::TrailingBytes { count }, self.offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_names_need_and_offset() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16_be().unwrap(), 0x0102);
        let error = reader.u32_le().unwrap_err();
        assert_eq!(error.offset, 2);
        assert_eq!(error.kind, ErrorKind::Truncated { needed: 4, available: 1 });
        assert_eq!(reader.remaining(), 1, "a failed read takes nothing");
    }

    #[test]
    fn finish_refuses_what_is_left() {
        let mut reader = Reader::new(&[1, 2, 3]);
        reader.u8().unwrap();
        let error = reader.finish().unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::TrailingBytes { count: 2 }, 1));
    }
}
