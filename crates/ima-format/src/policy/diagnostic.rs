//! What is to be told about a policy: refusals and lints in one form.

use alloc::string::{String, ToString};
use core::fmt;

use super::fault::Refusal;
use super::lexer::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It does not do what it seems to do, or leaves a hole.
    Warning,
    /// The kernel rejects it.
    Error,
}

impl Severity {
    /// `note`, `warning`, `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
    /// The bytes of the text.
    pub span: Span,
}

impl Location {
    /// Where `span`, which begins on `line`, stands in `text`.
    pub(super) fn of(text: &[u8], line: usize, span: Span) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start =
            before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self { line, column: span.start.saturating_sub(line_start) + 1, span }
    }
}

/// One thing to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A name for programs: of a [`Fault`](super::Fault) or of a [`Lint`](super::lint::Lint).
    pub name: &'static str,
    /// Where; `None`: the policy as a whole.
    pub location: Option<Location>,
    /// What is the matter.
    pub message: String,
    /// Why that matters.
    pub reason: Option<&'static str>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A refusal, told as an error.
    pub fn of_refusal(refusal: &Refusal, text: &[u8]) -> Self {
        Self {
            severity: Severity::Error,
            name: refusal.fault.name(),
            location: Some(Location::of(text, refusal.line, refusal.span)),
            message: refusal.fault.to_string(),
            reason: None,
            hint: refusal.fault.hint(),
        }
    }
}
