//! SELinux labels that files of a root will have, by the root's policy.
//!
//! Mirrors `init` and `lookup_all` in libselinux's `label_file.c` (3.4 to 3.11): rules without meta
//! characters count before regular expressions; of each, the last one that fits. The files next to the
//! one that is named belong to it. Compiled files (`.bin`) hold the same and are not read.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima_format::file_contexts::{rules, Pattern, Substitutions};
use ima_format::Error as FormatError;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::advice::Advice;
use crate::container::source::{whole, Entry, Source, Unread, Visit};
use crate::input::{self, ReadError};

/// Policies have some hundred KiB.
const CONTEXTS_MAX: u64 = 16 << 20;
/// Where a root says whether SELinux is enabled.
const CONFIGURATION: &str = "/etc/selinux/config";
const CONFIGURATION_MAX: usize = 1 << 16;

/// The value of `security.selinux`; `None` for files that get no label.
type Label = Option<Box<[u8]>>;

/// The file contexts of a root's policy.
#[derive(Debug, Default)]
pub struct FileContexts {
    paths: HashMap<Vec<u8>, Label>,
    /// In the order of the files.
    expressions: Vec<Expression>,
    /// Of the administrator, then of the distribution.
    substitutions: [Substitutions; 2],
}

#[derive(Debug)]
struct Expression {
    /// What it matches starts with these bytes.
    prefix: Vec<u8>,
    regex: Regex,
    label: Label,
}

/// Why file contexts cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextsError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line is malformed, or not supported.
    #[error("{}: line {line}, column {column}: {}", path.display(), error.kind)]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The byte in it, from 1 on.
        column: usize,
        /// What is wrong.
        error: FormatError,
    },
    /// A regular expression is too large.
    #[error("{}: line {line}: {reason}", path.display())]
    Expression {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A path has two labels; versions of libselinux choose differently.
    #[error("{}: line {line}: another label for the same path", path.display())]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
}

impl Advice for ContextsError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { .. } => {
                "give the target's file, as in ROOT/etc/selinux/targeted/contexts/files/\
                 file_contexts"
            }
            Self::Ambiguous { .. } => "remove one of them",
            Self::Malformed { .. } | Self::Expression { .. } => {
                "label the files with setfiles -r ROOT, and sign without --selinux-contexts"
            }
        })
    }
}

impl FileContexts {
    /// Reads a file, and those next to it that extend it: `.homedirs`, `.local`, `.subs` and
    /// `.subs_dist` after its name.
    ///
    /// # Errors
    /// The file is missing; one of them cannot be read or is malformed.
    pub fn read(path: &Path) -> Result<Self, ContextsError> {
        let mut contexts = Self::default();
        contexts.add(path, &input::read_path(path, CONTEXTS_MAX)?)?;
        for suffix in [".homedirs", ".local"] {
            if let Some((path, text)) = read_beside(path, suffix)? {
                contexts.add(&path, &text)?;
            }
        }
        for (suffix, substitutions) in
            [".subs", ".subs_dist"].iter().zip(&mut contexts.substitutions)
        {
            if let Some((_, text)) = read_beside(path, suffix)? {
                *substitutions = Substitutions::parse(&text);
            }
        }
        Ok(contexts)
    }

    fn add(&mut self, path: &Path, text: &[u8]) -> Result<(), ContextsError> {
        let rules = rules(text).map_err(|error| {
            let (path, (line, column)) = (path.to_owned(), position(text, error.offset));
            ContextsError::Malformed { path, line, column, error }
        })?;
        let line = |offset| position(text, offset).0;
        let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
        let mut paths = HashMap::new();
        for rule in rules {
            let label = rule.context.map(|context| [context, &[0]].concat().into());
            match rule.pattern {
                Pattern::Literal(literal) => {
                    let other = paths.insert(literal, label.clone());
                    if other.is_some_and(|other: Label| other != label) {
                        let (path, line) = (path.to_owned(), line(rule.offset));
                        return Err(ContextsError::Ambiguous { path, line });
                    }
                }
                Pattern::Regex { prefix, syntax: text } => {
                    let regex = Regex::builder().syntax(syntax).build(&text).map_err(|error| {
                        let (path, line) = (path.to_owned(), line(rule.offset));
                        let reason = error.to_string();
                        ContextsError::Expression { path, line, reason }
                    })?;
                    self.expressions.push(Expression { prefix, regex, label });
                }
            }
        }
        self.paths.extend(paths);
        Ok(())
    }

    /// The size of the longest label.
    pub fn longest(&self) -> usize {
        let labels = self.expressions.iter().map(|it| &it.label).chain(self.paths.values());
        labels.flatten().map(|label| label.len()).max().unwrap_or_default()
    }

    /// The value of `security.selinux` of a regular file, by its path below the root; `None` if
    /// setfiles would not set one.
    pub fn label(&self, below_root: &Path) -> Option<&[u8]> {
        let mut path = [b"/", below_root.as_os_str().as_bytes()].concat();
        for substitutions in &self.substitutions {
            path = substitutions.apply(&path).unwrap_or(path);
        }
        if let Some(label) = self.paths.get(&path) {
            return label.as_deref();
        }
        let mut last_first = self.expressions.iter().rev();
        let found = last_first.find(|it| path.starts_with(&it.prefix) && it.regex.is_match(&path));
        found?.label.as_deref()
    }
}

/// The line and the column of an offset, from 1 on.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let mut lines = before.rsplit(|byte| *byte == b'\n');
    let column = 1 + lines.next().map_or(0, <[u8]>::len);
    (1 + lines.count(), column)
}

/// Reads a file that has a longer name, if there is one.
fn read_beside(path: &Path, suffix: &str) -> Result<Option<(PathBuf, Vec<u8>)>, ContextsError> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    let path = PathBuf::from(name);
    match input::read_path(&path, CONTEXTS_MAX) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a root enables SELinux: the kernel will label its files, or expects that they are labelled.
///
/// As `selinux_getenforcemode` in libselinux reads it.
pub fn is_enabled(root: &dyn Source) -> bool {
    struct Configuration<'a> {
        root: &'a dyn Source,
        text: Option<Vec<u8>>,
    }
    impl Visit for Configuration<'_> {
        fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
            let Some(entry) = found.ok().filter(|it| it.path == Path::new(CONFIGURATION)) else {
                return ControlFlow::Continue(());
            };
            let file = self.root.open(&entry);
            self.text = file.and_then(|file| whole(&*file, CONFIGURATION_MAX)).unwrap_or_default();
            ControlFlow::Break(())
        }

        fn descends(&self, path: &Path) -> bool {
            Path::new(CONFIGURATION).starts_with(path)
        }
    }
    let mut configuration = Configuration { root, text: None };
    root.list(&mut configuration);
    let text = configuration.text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let mode = |line: &str| {
        let value = line.strip_prefix("selinux=")?.trim_start();
        let modes = [("enforcing", true), ("permissive", true), ("disabled", false)];
        modes.iter().find(|(mode, _)| value.starts_with(mode)).map(|(_, is_enabled)| *is_enabled)
    };
    text.lines().find_map(mode).unwrap_or(false)
}
