//! Findings about keys and certificates.

use std::fmt;
use std::path::{Path, PathBuf};

pub use ima_format::policy::Severity;

/// A fault, with a hint.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The severity.
    pub severity: Severity,
    /// A stable name in kebab case.
    pub name: &'static str,
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, severity, name, message, .. } = self;
        write!(f, "{}: {}[{name}]: {message}", path.display(), severity.name())
    }
}

/// Collects findings about one file.
pub(super) struct Report<'a> {
    pub(super) path: &'a Path,
    pub(super) findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    pub(super) fn say(
        &mut self,
        severity: Severity,
        name: &'static str,
        message: String,
        hint: &'static str,
    ) {
        let path = self.path.to_owned();
        self.findings.push(Finding { path, severity, name, message, hint });
    }
}
