//! Lowercase hexadecimal, as the kernel, rpm and evmctl print it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Displays bytes as lowercase hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Appends `bytes` as lowercase hexadecimal to `text`.
pub fn push(text: &mut String, bytes: &[u8]) {
    text.reserve(bytes.len().saturating_mul(2));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
        }
    }
}

/// Decodes hexadecimal of either case; the error is the offset of the first character
/// that is not a digit, or the length where it is odd.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let digit = |offset: usize, byte: u8| {
        char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(offset)
    };
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for (index, pair) in text.chunks(2).enumerate() {
        let offset = index * 2;
        match *pair {
            [high, low] => bytes.push(digit(offset, high)? << 4 | digit(offset + 1, low)?),
            _ => {
                digit(offset, pair.first().copied().unwrap_or_default())?;
                return Err(text.len());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes() {
        let mut text = String::new();
        push(&mut text, &[0x00, 0xaf, 0x10]);
        assert_eq!(text, "00af10");
        assert_eq!(std::format!("{}", Hex(&[0x00, 0xaf, 0x10])), text);
        assert_eq!(decode(b"00aF10").unwrap(), [0x00, 0xaf, 0x10]);
    }

    #[test]
    fn tells_where_it_is_not_hexadecimal() {
        assert_eq!(decode(b"00x0"), Err(2));
        assert_eq!(decode(b"000"), Err(3));
    }
}
