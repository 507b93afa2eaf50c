//! The patterns of file contexts: regular expressions of PCRE, in the syntax of Rust's crates.
//!
//! libselinux compiles `^PATTERN$` with PCRE2 (`PCRE2_DOTALL`, no UTF). Both syntaxes are alike, and
//! some texts have two meanings: `a++`, `[a&&b]`, `\<`, `\v`. Everything but what is known to mean the
//! same is refused. The file contexts of reference policies use nothing else.
//!
//! Without meta characters, a pattern is a path, and counts before all regular expressions
//! (`regex_has_meta_chars` and `regex_simplify` in `label_file.h`). Rules are looked up by the fixed
//! names that their path starts with, up to each slash: `/a/?b` does not fit `/ab`, whatever PCRE
//! makes of it. How many names count differs between versions, and so does what an escape like `\@`
//! makes of a path without meta characters: such patterns are refused.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Fault;
use crate::Error;

/// Characters that make a pattern a regular expression.
const META: &[u8] = b".^$?*+|[({])}";
/// Other characters that may be escaped in a path.
const ESCAPED: &[u8] = b"-_,";
/// The named classes of POSIX.
const NAMES: [&str; 13] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
/// The largest repetition of PCRE.
const REPEATED_MAX: u32 = 65535;

/// The paths of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// One path.
    Literal(Vec<u8>),
    /// Those that match a regular expression.
    Regex {
        /// They all start with these bytes.
        prefix: Vec<u8>,
        /// It, for the whole path, in the syntax of the crate regex-syntax: for bytes, without
        /// Unicode, with a dot that matches any byte.
        syntax: String,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A pattern that this crate does not support, and its offset.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if let Some(path) = literal(text) {
            return Ok(Self::Literal(path));
        }
        let mut parser = Parser {
            text,
            offset: 0,
            syntax: String::from("^"),
            prefix: Some(Vec::new()),
            fixed: Vec::new(),
            depth: 0,
            is_expression: false,
            last: Last::Nothing,
        };
        parser.parse()?;
        // an escape or a brace that only libselinux 3.8 and newer do not take for part of a path
        if !parser.is_expression {
            let ambiguous = |byte: &u8| b"\\]})".contains(byte);
            let offset = text.iter().position(ambiguous).unwrap_or_default();
            return Err(Error::new(Fault::Escape, offset));
        }
        let prefix = parser.prefix.take().unwrap_or(parser.fixed);
        // `$` of PCRE matches before a newline at the end, too
        Ok(Self::Regex { prefix, syntax: parser.syntax + "\\n?$" })
    }
}

/// The path that a pattern without meta characters stands for.
fn literal(text: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => *bytes.next().filter(|it| META.contains(it) || ESCAPED.contains(it))?,
            meta if META.contains(meta) => return None,
            other => *other,
        });
    }
    Some(path)
}

/// What a repetition would repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Slash,
    One,
    Repeated,
    /// A repetition that takes as little as it can: no matter for whether there is a match.
    Lazy,
}

/// A member of a class.
enum Member {
    Byte(u8),
    Class,
}

struct Parser<'a> {
    text: &'a [u8],
    offset: usize,
    syntax: String,
    /// What all paths start with, as long as the pattern is fixed.
    prefix: Option<Vec<u8>>,
    /// The same, when it no longer is.
    fixed: Vec<u8>,
    depth: usize,
    /// Whether any version of libselinux sees a regular expression.
    is_expression: bool,
    last: Last,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.offset += 1;
        Some(byte)
    }

    /// An error at the byte that was read last.
    fn error(&self, fault: Fault) -> Error {
        Error::new(fault, self.offset.saturating_sub(1))
    }

    fn parse(&mut self) -> Result<(), Error> {
        while let Some(byte) = self.next() {
            self.is_expression |= b".[(?*+{".contains(&byte);
            match byte {
                b'(' => self.open()?,
                b')' => {
                    self.depth =
                        self.depth.checked_sub(1).ok_or_else(|| self.error(Fault::Unbalanced))?;
                    self.push(")", Last::One);
                }
                b'|' if self.depth > 0 => self.push("|", Last::Nothing),
                b'|' | b'^' | b'$' => return Err(self.error(Fault::Anchor)),
                b'.' => self.push(".", Last::One),
                b'[' => self.class()?,
                b'?' if self.last == Last::Repeated => self.last = Last::Lazy,
                b'?' => self.repeat("?")?,
                b'*' => self.repeat("*")?,
                b'+' => self.repeat("+")?,
                b'{' => self.counted()?,
                b'\\' => match self.escape()? {
                    Member::Byte(byte) => self.byte(byte),
                    Member::Class => self.end_of_fixed(Last::One),
                },
                byte => self.byte(byte),
            }
        }
        match self.depth {
            0 => Ok(()),
            _ => Err(self.error(Fault::Unbalanced)),
        }
    }

    /// One byte of a path.
    fn byte(&mut self, byte: u8) {
        self.syntax += &escaped(byte);
        if let Some(prefix) = &mut self.prefix {
            prefix.push(byte);
        }
        self.last = match byte {
            b'/' if self.prefix.is_some() => Last::Slash,
            _ => Last::One,
        };
    }

    /// Something that is not fixed.
    fn push(&mut self, syntax: &str, last: Last) {
        self.syntax += syntax;
        self.end_of_fixed(last);
    }

    fn end_of_fixed(&mut self, last: Last) {
        if let Some(prefix) = self.prefix.take() {
            self.fixed = prefix;
        }
        self.last = last;
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.peek() == Some(b'*') {
            return Err(self.error(Fault::Extension));
        }
        if self.text.get(self.offset..).is_some_and(|rest| rest.starts_with(b"?:")) {
            self.offset += 2;
        } else if self.peek() == Some(b'?') {
            return Err(self.error(Fault::Extension));
        }
        self.depth += 1;
        self.push("(?:", Last::Nothing);
        Ok(())
    }

    fn repeat(&mut self, syntax: &str) -> Result<(), Error> {
        match self.last {
            Last::One => {}
            Last::Slash => return Err(self.error(Fault::Slash)),
            Last::Nothing | Last::Repeated | Last::Lazy => {
                return Err(self.error(Fault::Repetition))
            }
        }
        // what is repeated may not be there at all
        if let Some(prefix) = &mut self.prefix {
            prefix.pop();
        }
        self.push(syntax, Last::Repeated);
        Ok(())
    }

    /// `{N}`, `{N,}` or `{N,M}`.
    fn counted(&mut self) -> Result<(), Error> {
        let fault = self.error(Fault::Brace);
        let rest = self.text.get(self.offset..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'}') else { return Err(fault) };
        let inside = rest.get(..length).unwrap_or_default();
        let number = |digits: &[u8]| {
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let number = core::str::from_utf8(digits).ok()?.parse::<u32>().ok()?;
            (is_number && number <= REPEATED_MAX).then_some(number)
        };
        let mut parts = inside.splitn(2, |byte| *byte == b',');
        let least = parts.next().and_then(number);
        let syntax = match (least, parts.next()) {
            (Some(least), None) => format!("{{{least}}}"),
            (Some(least), Some(b"")) => format!("{{{least},}}"),
            (Some(least), Some(most)) => match number(most).filter(|most| least <= *most) {
                Some(most) => format!("{{{least},{most}}}"),
                None => return Err(fault),
            },
            (None, _) => return Err(fault),
        };
        self.repeat(&syntax)?;
        self.offset += length + 1;
        Ok(())
    }

    /// After a backslash. A class is part of the syntax already.
    fn escape(&mut self) -> Result<Member, Error> {
        match self.next() {
            Some(class @ (b'd' | b'D' | b's' | b'S' | b'w' | b'W')) => {
                self.syntax.push('\\');
                self.syntax.push(class.into());
                Ok(Member::Class)
            }
            Some(byte) if !byte.is_ascii_alphanumeric() => Ok(Member::Byte(byte)),
            _ => Err(self.error(Fault::Escape)),
        }
    }

    /// After an opening bracket.
    fn class(&mut self) -> Result<(), Error> {
        self.end_of_fixed(Last::One);
        self.syntax.push('[');
        if self.peek() == Some(b'^') {
            self.offset += 1;
            self.syntax.push('^');
        }
        let start = self.offset;
        while self.offset == start || self.peek() != Some(b']') {
            let from = self.member(start)?;
            let is_range = self.peek() == Some(b'-')
                && self.text.get(self.offset + 1).is_some_and(|after| *after != b']');
            match (from, is_range) {
                (Member::Class, false) => {}
                (Member::Byte(byte), false) => self.syntax += &escaped(byte),
                (Member::Class, true) => return Err(self.error(Fault::Class)),
                (Member::Byte(from), true) => {
                    self.offset += 1;
                    match self.member(start)? {
                        Member::Byte(to) if from <= to => {
                            self.syntax += &format!("{}-{}", escaped(from), escaped(to));
                        }
                        _ => return Err(self.error(Fault::Class)),
                    }
                }
            }
        }
        self.offset += 1;
        self.syntax.push(']');
        Ok(())
    }

    /// A member of the class that starts there. A class is part of the syntax already.
    fn member(&mut self, start: usize) -> Result<Member, Error> {
        let is_first = self.offset == start;
        match self.next() {
            None => Err(Error::new(Fault::Unbalanced, self.offset)),
            Some(b'\\') => self.escape(),
            Some(b'[') if matches!(self.peek(), Some(b':' | b'.' | b'=')) => self.named(),
            Some(b'-') if !is_first && self.peek() != Some(b']') => Err(self.error(Fault::Class)),
            Some(byte) => Ok(Member::Byte(byte)),
        }
    }

    /// `[:NAME:]`, after its bracket.
    fn named(&mut self) -> Result<Member, Error> {
        let rest = self.text.get(self.offset..).unwrap_or_default();
        let is_named = |name: &&&str| {
            let after = rest.strip_prefix(b":").and_then(|it| it.strip_prefix(name.as_bytes()));
            after.is_some_and(|after| after.starts_with(b":]"))
        };
        let Some(name) = NAMES.iter().find(is_named) else { return Err(self.error(Fault::Class)) };
        self.offset += name.len() + 3;
        self.syntax += &format!("[:{name}:]");
        Ok(Member::Class)
    }
}

/// A byte that stands for itself.
fn escaped(byte: u8) -> String {
    match byte {
        b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => String::from(char::from(byte)),
        _ => format!("\\x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_paths_or_have_a_fixed_start() {
        for (text, expected) in [
            ("/a/b", Ok("/a/b")),
            (r"/a\.b\-c\+", Ok("/a.b-c+")),
            ("/a.*", Err(("/a", r"^/a.*\n?$"))),
            ("/ab?", Err(("/a", r"^/ab?\n?$"))),
            (r"/a\@b.", Err(("/a@b", r"^/a\x40b.\n?$"))),
            ("/a(/(b|c.*))?", Err(("/a", r"^/a(?:/(?:b|c.*))?\n?$"))),
            ("/a[^/-]+?", Err(("/a", r"^/a[^/\x2d]+\n?$"))),
            ("/[]a-c[&&[:digit:]_]", Err(("/", r"^/[\x5da-c\x5b\x26\x26[:digit:]\x5f]\n?$"))),
            ("/a{2,}b", Err(("/", r"^/a{2,}b\n?$"))),
            ("/.a}", Err(("/", r"^/.a\x7d\n?$"))),
        ] {
            let expected = match expected {
                Ok(path) => Pattern::Literal(path.into()),
                Err((prefix, syntax)) => {
                    Pattern::Regex { prefix: prefix.into(), syntax: syntax.into() }
                }
            };
            assert_eq!(Pattern::parse(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn texts_with_two_meanings_are_refused() {
        for (text, fault, offset) in [
            ("/a++", Fault::Repetition, 3),
            ("/a*+", Fault::Repetition, 3),
            ("/a+?*", Fault::Repetition, 4),
            ("/(*F)", Fault::Extension, 1),
            ("/(?=a)", Fault::Extension, 1),
            ("/(+)", Fault::Repetition, 2),
            ("/a|/b", Fault::Anchor, 2),
            ("/a$", Fault::Anchor, 2),
            (r"/.\v", Fault::Escape, 3),
            (r"/.\1", Fault::Escape, 3),
            (r"/.\", Fault::Escape, 2),
            (r"/a\@b", Fault::Escape, 2),
            (r"/a\@\.", Fault::Escape, 2),
            ("/a}", Fault::Escape, 2),
            (r"/a\d", Fault::Escape, 2),
            ("/a{,3}", Fault::Brace, 2),
            ("/a{3,2}", Fault::Brace, 2),
            ("/a{+3}", Fault::Brace, 2),
            ("/a{65536}", Fault::Brace, 2),
            ("/a/?b", Fault::Slash, 3),
            ("/[a-c-e]", Fault::Class, 5),
            (r"/[\d-e]", Fault::Class, 3),
            ("/[z-a]", Fault::Class, 4),
            ("/[[.a.]]", Fault::Class, 2),
            ("/[[:^digit:]]", Fault::Class, 2),
            ("/[a", Fault::Unbalanced, 3),
            ("/a.)", Fault::Unbalanced, 3),
        ] {
            let error = Error::new(fault, offset);
            assert_eq!(Pattern::parse(text.as_bytes()), Err(error), "{text}");
        }
    }
}
