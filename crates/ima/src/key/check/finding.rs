//! What is said of keys and certificates.

use std::fmt;
use std::path::{Path, PathBuf};

pub use ima_format::policy::Severity;

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The file that it is about.
    pub path: PathBuf,
    /// How bad it is.
    pub severity: Severity,
    /// A name for it, in kebab case, that stays the same.
    pub name: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
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
