//! A policy in plain words: each rule, and their effect as a whole.
//!
//! The whole is not derived from the rules but from the decisions of [`Decider`] about selected events: programs
//! that root and others run, files that the kernel reads, records, and holes.

mod rule;
mod whole;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::ast::{Policy, Position};
use super::decide::{AppraiseMode, Decider};
use super::kernel::Kernel;

/// A policy explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Each rule, in order.
    pub rules: Vec<RuleExplanation>,
    /// Their effect, in groups.
    pub whole: Vec<Topic>,
}

/// A rule explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExplanation {
    /// Its position.
    pub position: Position,
    /// The rule as it is printed.
    pub rule: String,
    /// Its effect, as a sentence.
    pub meaning: String,
}

/// Statements about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// A title of a few words.
    pub title: &'static str,
    /// Sentences.
    pub statements: Vec<String>,
}

/// Explains a policy on `kernel`, in the mode `enforce`.
pub fn explain(policy: &Policy, kernel: &Kernel) -> Explanation {
    let rules = policy.positioned_rules().map(|(position, rule)| RuleExplanation {
        position: position.clone(),
        rule: rule.to_string(),
        meaning: rule::meaning(rule, kernel),
    });
    let decider = Decider::new(policy, kernel, AppraiseMode::Enforce);
    Explanation { rules: rules.collect(), whole: whole::topics(&decider) }
}

#[cfg(test)]
mod tests;
