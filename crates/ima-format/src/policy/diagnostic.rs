//! Diagnostics of a policy: rejections and lints in one form.

use alloc::string::{String, ToString};

use super::fault::Refusal;
use super::lexer::Span;

spelled! {
    /// The severity of a diagnostic.
    Severity {
        /// Useful to know.
        Note = "note",
        /// The policy does not do what it seems to do, or leaves a hole.
        Warning = "warning",
        /// The kernel rejects the policy.
        Error = "error",
    }
}

/// A position in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 1.
    pub column: usize,
    /// The bytes in the text.
    pub span: Span,
}

impl Location {
    /// The position of `span`, which begins on `line`, in `text`.
    pub(super) fn of(text: &[u8], line: usize, span: Span) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start =
            before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self { line, column: span.start.saturating_sub(line_start) + 1, span }
    }
}

/// A diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// A stable name for programs: of a [`Fault`](super::Fault) or of a [`Lint`](super::lint::Lint).
    pub name: &'static str,
    /// Its position; `None` for the policy as a whole.
    pub location: Option<Location>,
    /// The problem.
    pub message: String,
    /// Why it matters.
    pub reason: Option<&'static str>,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A rejection as an error.
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
