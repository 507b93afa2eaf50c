//! JSON (RFC 8259) that is changed in place: values know where they stand in the text, and every
//! byte that is not changed stays.
//!
//! Manifests of container images are read by other programs as well, most of them written in Go,
//! where names of members are compared without case and the last of several wins. A name that such
//! a program would accept as the one that is asked for is an error, as is a duplicate name.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::{Error, ErrorKind};

/// The largest text: as large as registries accept manifests.
pub const SIZE_MAX: usize = 4 << 20;
/// How deep arrays and objects may be nested.
const DEPTH_MAX: usize = 64;
/// How many values there may be: each takes memory, and two bytes of text.
const VALUES_MAX: usize = 1 << 18;

/// Why a text is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is larger than this many bytes.
    TooLarge(usize),
    /// It is not UTF-8.
    NotUtf8,
    /// Something else should be here.
    Expected(&'static str),
    /// Too many values, or nested too deep.
    TooComplex,
    /// A member that is there twice, or that programs treat as another one.
    Ambiguous(&'static str),
    /// A value of another type.
    NotA(&'static str, &'static str),
    /// There is no such member.
    Missing(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => write!(f, "JSON larger than {limit} bytes"),
            Self::NotUtf8 => f.write_str("JSON that is not UTF-8"),
            Self::Expected(expected) => write!(f, "JSON: {expected} expected"),
            Self::TooComplex => f.write_str("JSON with too many values, or nested too deep"),
            Self::Ambiguous(name) => {
                write!(f, "JSON: \"{name}\" is there twice or in another case, and programs differ")
            }
            Self::NotA(name, kind) => write!(f, "JSON: \"{name}\" is not {kind}"),
            Self::Missing(name) => write!(f, "JSON: no \"{name}\""),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Json(fault)
    }
}

/// A value, and where it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes in the text.
    pub span: Range<usize>,
    /// Its kind.
    pub kind: Kind,
}

/// The kind of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number; its text is in the span.
    Number,
    /// A string, without escapes.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object, in the order of the text.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, without escapes.
    pub name: String,
    /// Where the name stands, with its quotes.
    pub span: Range<usize>,
    /// Its value.
    pub value: Value,
}

/// A text, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    text: &'a str,
    /// The value.
    pub value: Value,
}

impl<'a> Text<'a> {
    /// Parses a text of at most [`SIZE_MAX`] bytes.
    ///
    /// # Errors
    /// Anything but JSON; a text that is too large.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::parse_within(bytes, SIZE_MAX)
    }

    /// Parses a text of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn parse_within(bytes: &'a [u8], limit: usize) -> Result<Self, Error> {
        if bytes.len() > limit {
            return Err(Error::new(Fault::TooLarge(limit), limit));
        }
        let text = core::str::from_utf8(bytes)
            .map_err(|error| Error::new(Fault::NotUtf8, error.valid_up_to()))?;
        let mut parser = Parser { text, at: 0, values: 0 };
        let value = parser.value(0)?;
        parser.blank();
        match parser.at == text.len() {
            true => Ok(Self { text, value }),
            false => Err(parser.expected("the end")),
        }
    }

    /// The unsigned number that a member is.
    ///
    /// # Errors
    /// A member that is something else, or not there.
    pub fn number(&self, object: &Value, name: &'static str) -> Result<(u64, Range<usize>), Error> {
        let value = object.required(name)?;
        let digits = self.text.get(value.span.clone()).unwrap_or_default();
        let number = digits.parse().ok().filter(|_| value.kind == Kind::Number);
        let number = number.ok_or_else(|| value.is_not(name, "an unsigned number"))?;
        Ok((number, value.span.clone()))
    }
}

/// A name in the case folding of Go's `encoding/json`.
fn folded(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().map(|char| match char {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        char => char.to_ascii_lowercase(),
    })
}

impl Value {
    fn is_not(&self, name: &'static str, kind: &'static str) -> Error {
        Error::new(Fault::NotA(name, kind), self.span.start)
    }

    /// A member of an object that is not `null`.
    ///
    /// # Errors
    /// A value that is no object; a name that programs read differently.
    pub fn member(&self, name: &'static str) -> Result<Option<&Self>, Error> {
        let Kind::Object(members) = &self.kind else {
            return Err(Error::new(Fault::Expected("an object"), self.span.start));
        };
        let mut same = members.iter().filter(|member| folded(&member.name).eq(folded(name)));
        match (same.next(), same.next()) {
            (None, _) => Ok(None),
            (Some(member), None) if member.name == name => {
                Ok(Some(&member.value).filter(|value| value.kind != Kind::Null))
            }
            (Some(first), second) => {
                let offset = second.unwrap_or(first).span.start;
                Err(Error::new(Fault::Ambiguous(name), offset))
            }
        }
    }

    /// A member that must be there.
    ///
    /// # Errors
    /// Those of [`Self::member`]; no such member.
    pub fn required(&self, name: &'static str) -> Result<&Self, Error> {
        self.member(name)?.ok_or(Error::new(Fault::Missing(name), self.span.start))
    }

    /// The string that a member is.
    ///
    /// # Errors
    /// Those of [`Self::member`]; another type.
    pub fn string(&self, name: &'static str) -> Result<Option<(&str, Range<usize>)>, Error> {
        let Some(value) = self.member(name)? else { return Ok(None) };
        match &value.kind {
            Kind::String(string) => Ok(Some((string, value.span.clone()))),
            _ => Err(value.is_not(name, "a string")),
        }
    }

    /// The string that a member is, which must be there.
    ///
    /// # Errors
    /// Those of [`Self::string`]; no such member.
    pub fn required_string(&self, name: &'static str) -> Result<(&str, Range<usize>), Error> {
        self.string(name)?.ok_or(Error::new(Fault::Missing(name), self.span.start))
    }

    /// The elements of an array; none where there is no such member.
    ///
    /// # Errors
    /// Those of [`Self::member`]; another type.
    pub fn array(&self, name: &'static str) -> Result<&[Self], Error> {
        match self.member(name)?.map(|value| (value, &value.kind)) {
            None => Ok(&[]),
            Some((_, Kind::Array(elements))) => Ok(elements),
            Some((value, _)) => Err(value.is_not(name, "an array")),
        }
    }

    /// The members of an object; none where there is no such member.
    ///
    /// # Errors
    /// Those of [`Self::member`]; another type.
    pub fn members(&self, name: &'static str) -> Result<&[Member], Error> {
        match self.member(name)?.map(|value| (value, &value.kind)) {
            None => Ok(&[]),
            Some((_, Kind::Object(members))) => Ok(members),
            Some((value, _)) => Err(value.is_not(name, "an object")),
        }
    }
}

/// Changes of a text: spans, and their replacements.
#[derive(Debug, Default, Clone)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts a string, which needs no escapes, in the place of a value.
    pub fn string(&mut self, span: Range<usize>, string: &str) {
        self.0.push((span, alloc::format!("\"{string}\"")));
    }

    /// Puts a number in the place of a value.
    pub fn number(&mut self, span: Range<usize>, number: u64) {
        self.0.push((span, alloc::format!("{number}")));
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with the changes.
    pub fn apply(mut self, text: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(span, _)| span.start);
        let (mut changed, mut end) = (Vec::with_capacity(text.len()), 0);
        for (span, new) in self.0 {
            changed.extend_from_slice(text.get(end..span.start).unwrap_or_default());
            changed.extend_from_slice(new.as_bytes());
            end = span.end;
        }
        changed.extend_from_slice(text.get(end..).unwrap_or_default());
        changed
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn expected(&self, what: &'static str) -> Error {
        Error::new(Fault::Expected(what), self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips a byte, if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        self.blank();
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(Error::new(Fault::TooComplex, self.at));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Value { span: start..self.at, kind })
    }

    fn word(&mut self) -> Result<Kind, Error> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, kind) in [("null", Kind::Null), ("true", Kind::Bool), ("false", Kind::Bool)] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        Err(self.expected("a value"))
    }

    /// Reads the elements between brackets and commas.
    fn list(
        &mut self,
        end: u8,
        mut element: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.at += 1;
        self.blank();
        if self.eat(end) {
            return Ok(());
        }
        loop {
            element(self)?;
            self.blank();
            if self.eat(end) {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected("a comma or the end of the list"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Error> {
        let mut elements = Vec::new();
        self.list(b']', |parser| {
            elements.push(parser.value(depth + 1)?);
            Ok(())
        })?;
        Ok(Kind::Array(elements))
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Error> {
        let mut members = Vec::new();
        self.list(b'}', |parser| {
            parser.blank();
            let start = parser.at;
            if parser.peek() != Some(b'"') {
                return Err(parser.expected("a name in quotes"));
            }
            let name = parser.string()?;
            let span = start..parser.at;
            parser.blank();
            if !parser.eat(b':') {
                return Err(parser.expected("a colon"));
            }
            members.push(Member { name, span, value: parser.value(depth + 1)? });
            Ok(())
        })?;
        Ok(Kind::Object(members))
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.expected("a digit")),
        }
    }

    fn number(&mut self) -> Result<Kind, Error> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn string(&mut self) -> Result<String, Error> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest.find(['"', '\\']).ok_or_else(|| self.expected("a quote"))?;
            let text = rest.get(..plain).unwrap_or_default();
            if let Some(control) = text.bytes().position(|byte| byte < b' ') {
                self.at += control;
                return Err(self.expected("an escape, not a control character,"));
            }
            string.push_str(text);
            self.at += plain + 1;
            if rest.as_bytes().get(plain) == Some(&b'"') {
                return Ok(string);
            }
            string.push(self.escape()?);
        }
    }

    /// The character that an escape stands for, after its backslash.
    fn escape(&mut self) -> Result<char, Error> {
        let escape = self.peek().ok_or_else(|| self.expected("an escape"))?;
        let char = match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(char)
    }

    /// `uXXXX`, or a pair of them.
    fn unicode(&mut self) -> Result<char, Error> {
        let first = self.unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                let second = match self.eat(b'\\') {
                    true => self.unit()?,
                    false => 0,
                };
                match second {
                    0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(self.expected("the second half of a character")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.expected("a character"))
    }

    fn unit(&mut self) -> Result<u32, Error> {
        let digits = self.text.get(self.at + 1..self.at + 5).filter(|_| self.peek() == Some(b'u'));
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.expected("u and four hexadecimal digits"))?;
        self.at += 5;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn values_know_where_they_stand_and_the_rest_stays() {
        let text =
            r#" { "a\u0041" :1.50, "size": 12 ,"list":[true,null,"x\ty\ud83d\ude00"], "b":{} }"#;
        let parsed = Text::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.number(&parsed.value, "size").unwrap(), (12, 28..30));
        let list = parsed.value.array("list").unwrap();
        assert_eq!(list[2].kind, Kind::String("x\ty\u{1f600}".into()));
        assert!(parsed.value.member("aA").unwrap().is_some());
        let mut edits = Edits::default();
        edits.string(list[2].span.clone(), "new");
        edits.number(28..30, 1 << 40);
        let expected = text.replace("12", "1099511627776").replace(r"x\ty\ud83d\ude00", "new");
        assert_eq!(edits.apply(text.as_bytes()), expected.as_bytes());
    }

    #[test]
    fn names_that_other_programs_take_for_the_same_are_refused() {
        for text in [
            r#"{"digest": 1, "digest": 1}"#,
            r#"{"Digest": 1}"#,
            r#"{"digest": 1, "diGEst": 2}"#,
            r#"{"digest": 1, "dige\u017ft": 2}"#,
        ] {
            let parsed = Text::parse(text.as_bytes()).unwrap();
            let error = parsed.value.member("digest").unwrap_err();
            assert_eq!(error.kind, Fault::Ambiguous("digest").into(), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_offset() {
        for (text, offset) in [
            ("", 0),
            ("{", 1),
            ("[1,]", 3),
            ("[01]", 2),
            ("{1:2}", 1),
            (r#"{"a" 2}"#, 5),
            ("\"\t\"", 1),
            (r#""\x""#, 2),
            (r#""\ud800""#, 7),
            ("nul", 0),
            ("1 2", 2),
            ("-", 1),
            ("1e", 2),
            ("\u{feff}1", 0),
        ] {
            assert_eq!(Text::parse(text.as_bytes()).unwrap_err().offset, offset, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(Text::parse(deep.as_bytes()).unwrap_err().kind, Fault::TooComplex.into());
        let many = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert_eq!(Text::parse(many.as_bytes()).unwrap_err().kind, Fault::TooComplex.into());
        assert_eq!(Text::parse(b"\"\xff\"").unwrap_err().kind, Fault::NotUtf8.into());
    }
}
