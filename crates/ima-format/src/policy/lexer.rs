//! Lines and words of a policy, with their positions in the text.
//!
//! Mirrors the `strsep()` calls of `ima_read_policy`, `ima_parse_add_rule` and `ima_parse_rule`: lines end at `\n`,
//! words at a space or a tab, and consecutive separators count as one. A carriage return, a form feed or a no-break
//! space is not a separator.

/// Bytes `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The number of bytes.
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no bytes.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes of `text` in the span; empty if it is out of range.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// A line without its final newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, counted from 1.
    pub number: usize,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its position.
    pub span: Span,
}

/// The kind of a line, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Only spaces and tabs.
    Blank,
    /// The first character other than a space or tab is `#`.
    Comment,
    /// A rule, or text that the kernel treats as one.
    Rule,
}

impl<'a> Line<'a> {
    /// The kind of the line.
    pub fn content(&self) -> Content {
        match self.bytes.iter().find(|byte| !is_separator(**byte)) {
            None => Content::Blank,
            Some(b'#') => Content::Comment,
            Some(_) => Content::Rule,
        }
    }

    /// Its words.
    pub fn words(&self) -> Words<'a> {
        Words { rest: self.bytes, offset: self.span.start }
    }
}

/// The lines of `text`, each ended by a byte for which `ends` is true or by the end of the text. If the text ends with
/// such a byte, there is no empty line after it.
pub fn lines(text: &[u8], ends: fn(u8) -> bool) -> Lines<'_> {
    Lines { rest: text, offset: 0, number: 0, ends }
}

/// Iterator over lines; see [`lines`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
    offset: usize,
    number: usize,
    ends: fn(u8) -> bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let length =
            self.rest.iter().position(|byte| (self.ends)(*byte)).unwrap_or(self.rest.len());
        let bytes = self.rest.get(..length).unwrap_or_default();
        let span = Span { start: self.offset, end: self.offset + length };
        self.rest = self.rest.get(length + 1..).unwrap_or_default();
        self.offset += length + 1;
        self.number += 1;
        Some(Line { number: self.number, bytes, span })
    }
}

/// A word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its bytes, at least one.
    pub bytes: &'a [u8],
    /// Its position.
    pub span: Span,
}

/// Iterator over the words of a line; see [`Line::words`].
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let skipped = self.rest.iter().position(|byte| !is_separator(*byte))?;
        let rest = self.rest.get(skipped..)?;
        let length = rest.iter().position(|byte| is_separator(*byte)).unwrap_or(rest.len());
        let start = self.offset + skipped;
        self.rest = rest.get(length..)?;
        self.offset = start + length;
        Some(Word { bytes: rest.get(..length)?, span: Span { start, end: start + length } })
    }
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn split(text: &[u8]) -> Vec<(usize, &[u8], Content)> {
        lines(text, |byte| byte == b'\n')
            .map(|line| (line.number, line.bytes, line.content()))
            .collect()
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(
            split(b"a\n\n \t\n #b"),
            [
                (1, &b"a"[..], Content::Rule),
                (2, b"", Content::Blank),
                (3, b" \t", Content::Blank),
                (4, b" #b", Content::Comment),
            ]
        );
        assert_eq!(split(b"a\n").len(), 1);
        assert!(split(b"").is_empty());
    }

    #[test]
    fn words_know_their_places() {
        let text = b"x\n  measure \t\tfunc=A\r \n";
        let line = lines(text, |byte| byte == b'\n').nth(1).unwrap();
        let words: Vec<_> = line.words().collect();
        assert_eq!(words.len(), 2);
        assert_eq!(words[0].bytes, b"measure");
        assert_eq!(words[1].bytes, b"func=A\r", "a carriage return separates nothing");
        assert!(words.iter().all(|word| word.span.of(text) == word.bytes));
    }
}
