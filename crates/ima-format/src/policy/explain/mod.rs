//! A policy in plain words: each rule, and what it comes to as a whole.
//!
//! The whole is not read off the rules but found by asking [`Decider`] about what matters:
//! what root and others may run, what the kernel takes, what is recorded, what is left open.

mod rule;
mod whole;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::ast::{Policy, Position};
use super::decide::{Decider, Mode};
use super::kernel::Kernel;

/// A policy explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Each rule, in order.
    pub rules: Vec<RuleExplanation>,
    /// What they come to, in groups.
    pub whole: Vec<Topic>,
}

/// A rule explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExplanation {
    /// Where it stands.
    pub position: Position,
    /// The rule as it is printed.
    pub rule: String,
    /// What it does: a sentence.
    pub meaning: String,
}

/// Statements about one matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// A few words.
    pub title: &'static str,
    /// Sentences.
    pub statements: Vec<String>,
}

/// Explains a policy as `kernel` would follow it, in the mode `enforce`.
pub fn explain(policy: &Policy, kernel: &Kernel) -> Explanation {
    let rules = policy.positioned_rules().map(|(position, rule)| RuleExplanation {
        position: position.clone(),
        rule: rule.to_string(),
        meaning: rule::meaning(rule, kernel),
    });
    let decider = Decider::new(policy, kernel, Mode::Enforce);
    Explanation { rules: rules.collect(), whole: whole::topics(&decider) }
}

#[cfg(test)]
mod tests;
