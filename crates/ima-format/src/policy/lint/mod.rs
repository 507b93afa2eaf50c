//! Lints: rules that the kernel accepts, but that are probably a mistake.
//!
//! Each lint has a name, a severity, a reason and usually a hint. Comments disable lints:
//! `# imactl: allow(NAME, ...)` for the next rule, `# imactl: allow-file(NAME, ...)` for the whole policy. A lint about
//! the policy as a whole belongs to no rule: only the second form disables it.

mod allow;
mod catalog;
mod coverage;
mod named;
mod order;
mod single;

use alloc::string::String;
use alloc::vec::Vec;

use super::ast::{Key, Policy, Position, Rule};
use super::decide::{AppraiseMode, Decider};
use super::diagnostic::{Diagnostic, Location, Severity};
use super::kernel::Kernel;
use super::parse::{read, Loading};

pub use catalog::{find, LINTS};

/// A lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lint {
    /// A stable name for people and programs.
    pub name: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The pattern that it finds.
    pub summary: &'static str,
    /// Why it matters.
    pub reason: &'static str,
}

/// A finding of a lint.
struct Finding {
    lint: &'static Lint,
    /// The rule, counted from 0, and the key in it; `None` for the policy as a whole.
    position: Option<(usize, Option<Key>)>,
    message: String,
    hint: Option<String>,
    severity: Severity,
}

impl Finding {
    fn on_policy(lint: &'static Lint, message: impl Into<String>) -> Self {
        Self { lint, position: None, message: message.into(), hint: None, severity: lint.severity }
    }

    fn on_rule(lint: &'static Lint, rule: usize, message: impl Into<String>) -> Self {
        Self {
            lint,
            position: Some((rule, None)),
            message: message.into(),
            hint: None,
            severity: lint.severity,
        }
    }

    fn on_key(lint: &'static Lint, rule: usize, key: Key, message: impl Into<String>) -> Self {
        Self {
            lint,
            position: Some((rule, Some(key))),
            message: message.into(),
            hint: None,
            severity: lint.severity,
        }
    }

    /// Replaces the severity of the lint.
    fn of_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The input of lints.
struct Subject<'a> {
    text: &'a [u8],
    policy: &'a Policy,
    kernel: &'a Kernel,
    rules: Vec<(&'a Position, &'a Rule)>,
    decider: Decider<'a>,
}

/// All diagnostics of a policy: the errors for which `kernel` rejects it, otherwise the findings of the lints. They are
/// in the order of the text; those about the policy as a whole are last.
pub fn check(text: &[u8], kernel: &Kernel, loading: Loading) -> Vec<Diagnostic> {
    let reading = read(text, kernel, loading);
    if !reading.refusals.is_empty() {
        let refusals = reading.refusals.iter();
        return refusals.map(|refusal| Diagnostic::of_refusal(refusal, text)).collect();
    }
    lint(text, &reading.policy, kernel)
}

/// The findings of all lints in a policy that was read from `text`.
pub fn lint(text: &[u8], policy: &Policy, kernel: &Kernel) -> Vec<Diagnostic> {
    let subject = Subject {
        text,
        policy,
        kernel,
        rules: policy.positioned_rules().collect(),
        decider: Decider::new(policy, kernel, AppraiseMode::Enforce),
    };
    let mut findings = Vec::new();
    single::find(&subject, &mut findings);
    order::find(&subject, &mut findings);
    coverage::find(&subject, &mut findings);
    named::find(&subject, &mut findings);
    let allowed = allow::Allowed::of(policy);
    let mut diagnostics: Vec<_> = findings
        .into_iter()
        .filter(|finding| {
            !allowed.allows(finding.lint.name, finding.position.map(|(rule, _)| rule))
        })
        .map(|finding| finding.told(&subject))
        .collect();
    diagnostics.extend(allowed.unknown(text));
    diagnostics.sort_by_key(|diagnostic| (diagnostic.location.is_none(), diagnostic.location));
    diagnostics
}

impl Finding {
    fn told(self, subject: &Subject<'_>) -> Diagnostic {
        let position = self.position.and_then(|(rule, key)| {
            let (position, _) = subject.rules.get(rule)?;
            let span = key.map_or(position.span, |key| position.of(key));
            Some(Location::of(subject.text, position.line, span))
        });
        Diagnostic {
            severity: self.severity,
            name: self.lint.name,
            location: position,
            message: self.message,
            reason: Some(self.lint.reason),
            hint: self.hint,
        }
    }
}

#[cfg(test)]
mod tests;
