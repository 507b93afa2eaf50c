//! Foreign text (names of files, subjects, rules) for a terminal and a log: whatever could write
//! there in the program's own name is shown as `\xNN`.

use core::fmt::{self, Write};

/// Bytes in one line: control characters (line ends among them), characters that change the
/// direction of writing or end a line in Unicode, and bytes that are not UTF-8 are shown as
/// `\xNN`. Tabs stay.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while !rest.is_empty() {
            let (valid, invalid) = match core::str::from_utf8(rest) {
                Ok(_) => (rest.len(), 0),
                Err(error) => (error.valid_up_to(), error.error_len().unwrap_or(rest.len())),
            };
            let (text, tail) = rest.split_at(valid);
            let text = core::str::from_utf8(text).unwrap_or_default();
            text.chars().try_for_each(|character| show(f, character))?;
            let (bytes, tail) = tail.split_at(invalid.min(tail.len()));
            escape(f, bytes)?;
            rest = tail;
        }
        Ok(())
    }
}

/// Writes a character, or the bytes of its UTF-8 as `\xNN`.
pub fn show(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match is_unsafe(character) {
        true => escape(f, character.encode_utf8(&mut [0; 4]).as_bytes()),
        false => f.write_char(character),
    }
}

/// Whether a terminal or a reader could be misled by a character.
pub fn is_unsafe(character: char) -> bool {
    match character {
        '\t' => false,
        // marks, embeddings, overrides and isolates of direction; line and paragraph separators
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        other => other.is_control(),
    }
}

fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn control_characters_and_broken_utf8_are_escaped() {
        let shown = Printable(b"a\x1b[31m\n\t\xff\xc3\xa9 \xc2\x9b\xe2\x82").to_string();
        assert_eq!(shown, "a\\x1b[31m\\x0a\t\\xff\u{e9} \\xc2\\x9b\\xe2\\x82");
        assert_eq!(Printable("a\u{202e}b".as_bytes()).to_string(), "a\\xe2\\x80\\xaeb");
    }
}
