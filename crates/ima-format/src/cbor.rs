//! CBOR (RFC 8949), written: of definite lengths, with arguments in the shortest form. What reads a form of it is
//! next to that form.

use alloc::vec::Vec;

pub(crate) const NUMBER: u8 = 0;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
const TAG: u8 = 6;

/// Appends data items to bytes.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// A major type with its argument.
    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        let (additional, length) = match argument {
            0..=23 => (argument as u8, 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.0.push(major | additional);
        self.0.extend(bytes.iter().skip(bytes.len() - length));
        self
    }

    /// An unsigned number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.head(NUMBER, number)
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// An array of as many items, which follow.
    pub fn array(&mut self, count: u64) -> &mut Self {
        self.head(ARRAY, count)
    }

    /// A map of as many keys with their values, which follow.
    pub fn map(&mut self, count: u64) -> &mut Self {
        self.head(MAP, count)
    }

    /// A tag of the item that follows.
    pub fn tag(&mut self, number: u64) -> &mut Self {
        self.head(TAG, number)
    }
}
