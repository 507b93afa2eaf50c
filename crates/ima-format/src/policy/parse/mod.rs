//! Text to [`Policy`], rejecting the texts that the kernel rejects.
//!
//! Mirrors `ima_read_policy` and `ima_write_policy` (`ima_fs.c`) here and
//! `ima_parse_add_rule`, `ima_parse_rule` and `ima_validate_rule` (`ima_policy.c`) in
//! `rule` and `validate`.

mod rule;
mod validate;
mod word;

use alloc::vec::Vec;

use super::ast::{Item, ItemContent, Policy, Position};
use super::fault::{Fault, Refusal};
use super::kernel::Kernel;
use super::lexer::{self, Content, Line, Span};
use crate::Error;

/// The way in which a policy reaches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loading {
    /// The path of a file is written to `ima/policy`, and the kernel reads the file.
    File,
    /// The rules are written to `ima/policy`, as by `cat`: one rule per write.
    Text,
    /// The opposite direction: the text was read from `ima/policy`. The kernel shows rules that it would not accept:
    /// `appraise_type=sigv3` before `digest_type=verity`, and ids above 2147483647 as negative numbers.
    ReadBack,
}

/// The result of reading a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Comments, and the rules that the kernel would accept one by one. It accepts all rules of a policy or none:
    /// if there is a refusal, none.
    pub policy: Policy,
    /// The faults, in the order of the text, with the first one of each line. The kernel stops at the first such line.
    pub refusals: Vec<Refusal>,
}

/// The most bytes of one write that the kernel reads (`PAGE_SIZE - 1`; pages are larger on some machines, smaller on
/// none).
const WRITE_MAX: usize = 4095;

/// Reads a policy as `kernel` would.
pub fn read(text: &[u8], kernel: &Kernel, loading: Loading) -> Reading {
    let mut reading = Reading { policy: Policy::default(), refusals: Vec::new() };
    let mut set_apart = false;
    let ends: fn(u8) -> bool = match loading {
        Loading::File => |byte| byte == b'\n',
        // a NUL ends the string, and the text after it belongs to the next write
        Loading::Text | Loading::ReadBack => |byte| matches!(byte, b'\n' | 0),
    };
    for line in lexer::lines(file_text(text, loading), ends) {
        let mut item = match read_line(&line, kernel, loading) {
            Ok(Some(item)) => item,
            Ok(None) => {
                set_apart = true;
                continue;
            }
            Err(refusal) => {
                reading.refusals.push(refusal);
                continue;
            }
        };
        item.set_apart = core::mem::take(&mut set_apart) && !reading.policy.items.is_empty();
        reading.policy.items.push(item);
    }
    refuse_file(text, loading, &mut reading);
    reading
}

/// A NUL at the end of a file also ends its last line.
fn file_text(text: &[u8], loading: Loading) -> &[u8] {
    match (loading, text) {
        (Loading::File, [text @ .., 0]) => text,
        _ => text,
    }
}

fn read_line(line: &Line<'_>, kernel: &Kernel, loading: Loading) -> Result<Option<Item>, Refusal> {
    let refuse = |fault, span| Err(Refusal { fault, span, line: line.number });
    if let Some(index) = line.bytes.iter().position(|byte| *byte == 0) {
        let start = line.span.start + index;
        return refuse(Fault::NulByte, Span { start, end: start + 1 });
    }
    if loading == Loading::Text && line.bytes.len() > WRITE_MAX {
        return refuse(Fault::LineTooLong { maximum: WRITE_MAX }, line.span);
    }
    match line.content() {
        Content::Blank => Ok(None),
        Content::Comment => Ok(Some(comment(line))),
        Content::Rule => match rule::read(line, kernel, loading) {
            Ok(item) => Ok(Some(item)),
            Err((fault, span)) => refuse(fault, span),
        },
    }
}

/// The text of a line from an offset on, without trailing spaces.
fn tail<'a>(line: &Line<'a>, start: usize) -> &'a [u8] {
    let text = line.bytes.get(start..).unwrap_or_default();
    let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |end| end + 1);
    text.get(..end).unwrap_or_default()
}

fn comment(line: &Line<'_>) -> Item {
    let start = line.bytes.iter().position(|byte| *byte == b'#').unwrap_or_default();
    let text = tail(line, start);
    let start = line.span.start + start;
    let span = Span { start, end: start + text.len() };
    let position = Position { line: line.number, span, ..Position::default() };
    let content = ItemContent::Comment(text.to_vec());
    Item { set_apart: false, position, content, remark: Vec::new() }
}

/// Adds the faults of the text as a whole.
fn refuse_file(text: &[u8], loading: Loading, reading: &mut Reading) {
    let end = Span { start: text.len(), end: text.len() };
    let line = lexer::lines(text, |byte| byte == b'\n').count().max(1);
    let mut refuse = |fault| reading.refusals.push(Refusal { fault, span: end, line });
    match (loading, text) {
        (Loading::File, []) => refuse(Fault::EmptyFile),
        (Loading::File, [.., b'\n' | 0]) | (Loading::Text | Loading::ReadBack, _) => {}
        // `size` underflows: the kernel rejects the file, or reads past its end
        (Loading::File, _) => refuse(Fault::NoFinalNewline),
    }
    if reading.refusals.is_empty()
        && loading != Loading::ReadBack
        && reading.policy.rules().next().is_none()
    {
        reading.refusals.push(Refusal { fault: Fault::NoRules, span: end, line });
    }
}

impl Policy {
    /// Parses a policy that is to be loaded as a file. The error is the first fault for which `kernel` rejects
    /// it; [`read`] returns all of them.
    pub fn parse(text: &[u8], kernel: &Kernel) -> Result<Self, Error> {
        let reading = read(text, kernel, Loading::File);
        match reading.refusals.into_iter().next() {
            None => Ok(reading.policy),
            Some(refusal) => Err(refusal.into()),
        }
    }
}

#[cfg(test)]
mod tests;
