//! DER (ITU-T X.690), as far as certificates and public keys need it: tags of one octet, lengths
//! of up to four octets.
//!
//! | octets | content |
//! |---|---|
//! | 1 | tag |
//! | 1 | length below 128, or 0x80 plus the number of octets that hold it |
//! | 0 to 4 | the length, big-endian |
//! | length | content; values again in a [`SEQUENCE`] or [`SET`] |

use core::fmt;

use crate::reader::Reader;
use crate::{Error, ErrorKind};

/// `BOOLEAN`.
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// `SEQUENCE`, `SEQUENCE OF`.
pub const SEQUENCE: u8 = 0x30;
/// `SET`, `SET OF`.
pub const SET: u8 = 0x31;

/// A fault of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Another type stands where one is required.
    Tag {
        /// The tag of that type.
        expected: u8,
        /// The tag that is there.
        found: u8,
    },
    /// A length in a form that DER does not have, or of more than four octets.
    Length,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { expected, found } => {
                write!(f, "DER: tag {found:#04x} instead of {expected:#04x}")
            }
            Self::Length => f.write_str("DER: invalid length"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Der(fault)
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its tag.
    pub tag: u8,
    /// Its content.
    pub content: &'a [u8],
    /// Where the content begins, from the start of the input.
    pub offset: usize,
}

impl<'a> Value<'a> {
    /// The values inside it.
    pub fn values(self) -> Values<'a> {
        Values(Reader::at(self.content, self.offset))
    }
}

/// Values one after the other.
#[derive(Debug, Clone)]
pub struct Values<'a>(Reader<'a>);

impl<'a> Values<'a> {
    /// The values in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.0.remaining() == 0
    }

    /// Checks that there is none left.
    pub fn end(&self) -> Result<(), Error> {
        match self.0.remaining() {
            0 => Ok(()),
            count => Err(Error::new(ErrorKind::TrailingBytes { count }, self.0.offset())),
        }
    }

    /// The next one, whatever its type.
    pub fn any(&mut self) -> Result<Value<'a>, Error> {
        let tag = self.0.u8()?;
        let offset = self.0.offset();
        let length = match self.0.u8()? {
            short @ 0..=0x7f => usize::from(short),
            long @ 0x81..=0x84 => {
                let octets = self.0.take(usize::from(long & 0x7f))?;
                octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet))
            }
            _ => return Err(Error::new(Fault::Length, offset)),
        };
        let offset = self.0.offset();
        Ok(Value { tag, content: self.0.take(length)?, offset })
    }

    /// The octets of the next one, its tag and length among them; it stays.
    pub fn peek(&self) -> Result<&'a [u8], Error> {
        let mut ahead = self.clone();
        ahead.any()?;
        let length = self.0.remaining().saturating_sub(ahead.0.remaining());
        self.0.clone().take(length)
    }

    /// The next one, which must be of this type.
    pub fn take(&mut self, expected: u8) -> Result<Value<'a>, Error> {
        match self.0.clone().u8() {
            Ok(found) if found != expected => {
                Err(Error::new(Fault::Tag { expected, found }, self.0.offset()))
            }
            _ => self.any(),
        }
    }

    /// The next one if it is of this type; else it stays.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, Error> {
        match self.0.clone().u8() {
            Ok(next) if next == tag => self.any().map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_one_after_the_other() {
        let bytes = [SEQUENCE, 0x81, 5, INTEGER, 1, 7, OCTET_STRING, 0, BOOLEAN, 1, 0xff];
        let mut values = Values::new(&bytes);
        let sequence = values.take(SEQUENCE).unwrap();
        assert_eq!((sequence.content.len(), sequence.offset), (5, 3));
        let mut inner = sequence.values();
        assert_eq!(inner.take(INTEGER).unwrap().content, [7]);
        assert_eq!(inner.optional(INTEGER), Ok(None));
        assert_eq!(inner.optional(OCTET_STRING).unwrap().unwrap().content, []);
        assert!(inner.is_empty());
        assert_eq!(values.any().unwrap().tag, BOOLEAN);
    }

    #[test]
    fn errors_say_where_also_inside() {
        for (bytes, kind, offset) in [
            (&[0x30, 0x80][..], Fault::Length.into(), 1),
            (&[0x30, 0x85, 1, 1, 1, 1, 1], Fault::Length.into(), 1),
            (&[0x30, 3, 1, 2], ErrorKind::Truncated { needed: 3, available: 2 }, 2),
            (&[0x02, 0], Fault::Tag { expected: SEQUENCE, found: INTEGER }.into(), 0),
            (&[0x30, 2, 4, 1], ErrorKind::Truncated { needed: 1, available: 0 }, 4),
        ] {
            let error = Values::new(bytes)
                .take(SEQUENCE)
                .and_then(|sequence| sequence.values().any())
                .unwrap_err();
            assert_eq!((error.kind, error.offset), (kind, offset), "{bytes:x?}");
        }
    }
}
