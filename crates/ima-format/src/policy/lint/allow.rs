//! Comments that disable lints.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::catalog;
use crate::policy::ast::{ItemContent, Policy, Position};
use crate::policy::diagnostic::{Diagnostic, Location};
use crate::policy::lexer::Span;
use crate::policy::suggest::nearest;

/// The lints that the comments of a policy disable.
pub(super) struct Allowed {
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    /// The rule; `None` for the whole policy.
    rule: Option<usize>,
    line: usize,
    span: Span,
}

const MARK: &str = "imactl:";

impl Allowed {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut allowed = Self { entries: Vec::new() };
        let mut rule = 0;
        for item in &policy.items {
            match &item.content {
                ItemContent::Rule(_) => rule += 1,
                ItemContent::Comment(comment) => allowed.comment(comment, &item.position, rule),
            }
        }
        allowed
    }

    fn comment(&mut self, comment: &[u8], position: &Position, rule: usize) {
        let text = String::from_utf8_lossy(comment);
        let Some(words) = text.trim_start_matches('#').trim().strip_prefix(MARK) else {
            return;
        };
        let words = words.trim();
        let (form, names) = words.split_once('(').unwrap_or((words, ""));
        let scope = match form.trim() {
            "allow" => Some(Some(rule)),
            "allow-file" => Some(None),
            _ => None,
        };
        let (Some(rule), Some(names)) = (scope, names.strip_suffix(')')) else {
            // reported as an unknown lint, since the comment has no effect
            self.push(words, Some(rule), position);
            return;
        };
        for name in names.split(',') {
            self.push(name.trim(), rule, position);
        }
    }

    fn push(&mut self, name: &str, rule: Option<usize>, position: &Position) {
        let name = name.to_string();
        self.entries.push(Entry { name, rule, line: position.line, span: position.span });
    }

    /// Whether findings of the lint `name` about `rule` are disabled.
    pub(super) fn allows(&self, name: &str, rule: Option<usize>) -> bool {
        self.entries.iter().any(|entry| {
            entry.name == name && (entry.rule.is_none() || (rule.is_some() && entry.rule == rule))
        })
    }

    /// Names in comments that are not lints.
    pub(super) fn unknown(&self, text: &[u8]) -> Vec<Diagnostic> {
        let unknown = self.entries.iter().filter(|entry| catalog::find(&entry.name).is_none());
        let tell = |entry: &Entry| Diagnostic {
            severity: catalog::UNKNOWN_LINT.severity,
            name: catalog::UNKNOWN_LINT.name,
            location: Some(Location::of(text, entry.line, entry.span)),
            message: format!("no lint is called {:?}", entry.name),
            reason: Some(catalog::UNKNOWN_LINT.reason),
            hint: Some(hint(&entry.name)),
        };
        unknown.map(tell).collect()
    }
}

fn hint(name: &str) -> String {
    match nearest(name.as_bytes(), catalog::LINTS.iter().map(|lint| lint.name)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "write # imactl: allow(NAME) or # imactl: allow-file(NAME)".to_string(),
    }
}
