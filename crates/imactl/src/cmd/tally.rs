//! Counting, and telling of files that could not be dealt with.

use std::fmt::Display;
use std::io;
use std::path::Path;

use ima::container::tree::{FileError, TreeError, WalkError};
use serde::Serialize;

use crate::output::{JsonPath, Name, Output, Style};

/// Two counts of files that were dealt with.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) matched: u64,
    pub(crate) other: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, matched: bool) {
        *(if matched { &mut self.matched } else { &mut self.other }) += 1;
    }
}

/// Files that could not be dealt with; each hint is given once.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u64,
    hints: Vec<&'static str>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Failures {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Tells of one file of a tree.
    pub(crate) fn report(
        &mut self,
        path: &Path,
        error: &TreeError,
        output: &mut Output,
    ) -> io::Result<()> {
        if matches!(error, TreeError::File(FileError::KeyLost)) && !output.is_json() {
            // told at the file where it happened; the summary counts the others
            self.count += 1;
            return Ok(());
        }
        self.tell(path.into(), error, hint(error), output)
    }

    /// Tells of one file.
    pub(crate) fn tell(
        &mut self,
        name: Name<'_>,
        error: &dyn Display,
        hint: Option<&'static str>,
        output: &mut Output,
    ) -> io::Result<()> {
        self.count += 1;
        if output.is_json() {
            let (path, error) = (name.into(), error.to_string());
            return output.json(&JsonError { kind: "error", path, error, hint });
        }
        output.complain(Style::Bad, "error:", &format!("{name}: {error}"));
        if let Some(hint) = hint.filter(|hint| !self.hints.contains(hint)) {
            output.complain(Style::Dim, "hint:", hint);
            self.hints.push(hint);
        }
        Ok(())
    }
}

fn hint(error: &TreeError) -> Option<&'static str> {
    match error {
        TreeError::File(error) => error.hint(),
        TreeError::Walk(WalkError::SymbolicLink) => Some("name the file that it points to"),
        _ => None,
    }
}
