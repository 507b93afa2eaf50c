//! Records in JSON (RFC 8259). Bytes are in hexadecimal.

use alloc::vec::Vec;

use super::{CelRecord, Fault};
use crate::hash::{Digest, HashAlgorithm};
use crate::hex::{self, Hex};
use crate::Error;

/// Deeper than any record.
const MAX_DEPTH: usize = 8;

/// A value; names of members and texts without escapes, which no record needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Text(&'a [u8]),
    Array(Vec<Value<'a>>),
    Object(Vec<(&'a [u8], Value<'a>)>),
}

/// Where the object ends that a window begins with; `None` if it does not end in it.
pub(super) fn object_end(window: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in window.iter().enumerate() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{') => depth += 1,
            (false, b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, expected: &'static str) -> Result<T, Error> {
        Err(Error::new(Fault::Cel(expected), self.at))
    }

    /// The next byte that is not white space; it stays.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.get(self.at).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        if !self.accept(b'"') {
            return self.fail("a text");
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        match length.and_then(|length| Some((rest.get(..length)?, rest.get(length)?))) {
            Some((text, b'"')) => {
                self.at += text.len() + 1;
                Ok(text)
            }
            _ => self.fail("a text without escapes"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        if depth > MAX_DEPTH {
            return self.fail("a value that is nested less");
        }
        match self.peek() {
            Some(b'"') => self.text().map(Value::Text),
            Some(b'0'..=b'9') => self.number(),
            Some(b'[') => {
                self.at += 1;
                let mut values = Vec::new();
                while !self.accept(b']') {
                    if !values.is_empty() && !self.accept(b',') {
                        return self.fail("a comma or the end of the array");
                    }
                    values.push(self.value(depth + 1)?);
                }
                Ok(Value::Array(values))
            }
            Some(b'{') => {
                self.at += 1;
                let mut members = Vec::new();
                while !self.accept(b'}') {
                    if !members.is_empty() && !self.accept(b',') {
                        return self.fail("a comma or the end of the object");
                    }
                    self.peek();
                    let name = self.text()?;
                    if !self.accept(b':') {
                        return self.fail("a colon");
                    }
                    if members.iter().any(|(known, _)| *known == name) {
                        return self.fail("each member once");
                    }
                    members.push((name, self.value(depth + 1)?));
                }
                Ok(Value::Object(members))
            }
            _ => self.fail("a number, a text, an array or an object"),
        }
    }

    fn number(&mut self) -> Result<Value<'a>, Error> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = rest.get(..length).and_then(|digits| core::str::from_utf8(digits).ok());
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(number) => {
                self.at += length;
                Ok(Value::Number(number))
            }
            None => self.fail("a number of at most 64 bits"),
        }
    }
}

impl<'a> Value<'a> {
    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.member(name)? {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&'a [u8]> {
        match self.member(name)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn array(&self, name: &str) -> Option<&[Self]> {
        match self.member(name)? {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads a record from an object.
pub(super) fn record(text: &[u8]) -> Result<CelRecord, Error> {
    let value = Parser { text, at: 0 }.value(0)?;
    let missing = |named| Error::new(Fault::Cel(named), 0);
    match value.member("content_type") {
        Some(Value::Text(b"ima_template") | Value::Number(7)) => {}
        Some(Value::Number(other)) => return Err(Error::new(Fault::CelContent(*other), 0)),
        _ => return Err(missing("content_type \"ima_template\"")),
    }
    let number = value.number("recnum").ok_or(missing("the number recnum"))?;
    let pcr = value.number("pcr").ok_or(missing("the number pcr"))?;
    let mut digests = Vec::new();
    for digest in value.array("digests").ok_or(missing("the array digests"))? {
        let known = |algorithm: &&HashAlgorithm| {
            algorithm.tpm_id().is_some()
                && digest.text("hashAlg") == Some(algorithm.name().as_bytes())
        };
        let Some(algorithm) = HashAlgorithm::ALL.iter().find(known) else { continue };
        let bytes = digest.text("digest").ok_or(missing("the text digest"))?;
        let bytes = hex::decode(bytes).map_err(|_| Error::new(Fault::Hex, 0))?;
        let digest = Digest::new(*algorithm, &bytes);
        digests.push(digest.ok_or(Error::new(Fault::DigestSize(bytes.len()), 0))?);
    }
    let content = value.member("content").ok_or(missing("the object content"))?;
    let name = content.text("template_name").ok_or(missing("the text template_name"))?.to_vec();
    let data = content.text("template_data").ok_or(missing("the text template_data"))?;
    let data = hex::decode(data).map_err(|_| Error::new(Fault::Hex, 0))?;
    let pcr = u32::try_from(pcr).unwrap_or(u32::MAX);
    CelRecord { number, pcr, digests, name, data }.checked(0)
}

/// Appends a record.
pub(super) fn encode_into(record: &CelRecord, output: &mut Vec<u8>) {
    let CelRecord { number, pcr, digests, name, data } = record;
    let digests: Vec<_> = digests
        .iter()
        .map(|digest| {
            let (algorithm, bytes) = (digest.algorithm(), Hex(digest.as_bytes()));
            alloc::format!("{{\"hashAlg\":\"{algorithm}\",\"digest\":\"{bytes}\"}}")
        })
        .collect();
    // the name of a template needs no escapes
    let name = core::str::from_utf8(name).unwrap_or_default();
    let (digests, data) = (digests.join(","), Hex(data));
    output.extend_from_slice(
        alloc::format!(
            "{{\"recnum\":{number},\"pcr\":{pcr},\"digests\":[{digests}],\
             \"content_type\":\"ima_template\",\
             \"content\":{{\"template_name\":\"{name}\",\"template_data\":\"{data}\"}}}}"
        )
        .as_bytes(),
    );
}
