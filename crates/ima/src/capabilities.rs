//! File capabilities that the files of a root will have: given as a list, as [`selinux`](crate::selinux)'s labels are
//! by a policy, since `security.evm` covers them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::capability::{self, Fault, VALUE_SIZE};

use crate::advice::Advice;
use crate::container::source::{whole, Entry, Source, Unread, Visit};
use crate::input::{self, ReadError};

const LIST_MAX: u64 = 16 << 20;

/// Where OpenEmbedded keeps scripts of packages that run at the first boot (`run-postinsts`).
const DEFERRED: [&str; 3] = ["/etc/rpm-postinsts", "/etc/deb-postinsts", "/etc/ipk-postinsts"];
const SCRIPT_MAX: usize = 1 << 20;

/// The capabilities of files, by their paths on the target.
#[derive(Debug, Default)]
pub struct FileCapabilities {
    files: HashMap<PathBuf, File>,
}

#[derive(Debug)]
struct File {
    value: [u8; VALUE_SIZE],
    /// Whether it was among the files.
    found: AtomicBool,
}

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line is malformed.
    #[error("{}: line {line}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong.
        fault: Fault,
    },
}

impl Advice for ListError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Read(_) => None,
            Self::Malformed { .. } => Some("getcap -r / on the target prints such lines"),
        }
    }
}

impl FileCapabilities {
    /// Reads lines as `getcap -r /` prints them.
    ///
    /// # Errors
    /// The file cannot be read, or is malformed.
    pub fn read(path: &Path) -> Result<Self, ListError> {
        let text = input::read_path(path, LIST_MAX)?;
        let lines = capability::lines(&text).map_err(|(line, fault)| ListError::Malformed {
            path: path.to_owned(),
            line,
            fault,
        })?;
        let files = lines.into_iter().map(|(path, capabilities)| {
            let file = File { value: capabilities.encode(), found: AtomicBool::new(false) };
            (PathBuf::from(OsString::from_vec(path)), file)
        });
        Ok(Self { files: files.collect() })
    }

    /// The value of `security.capability` of a file that is in the list, by its path below the root.
    pub fn value(&self, below_root: &Path) -> Option<&[u8]> {
        let file = self.files.get(&Path::new("/").join(below_root))?;
        file.found.store(true, Ordering::Relaxed);
        Some(&file.value)
    }

    /// The paths that were not asked for, sorted.
    pub fn not_found(&self) -> Vec<&Path> {
        let left = self.files.iter().filter(|(_, file)| !file.found.load(Ordering::Relaxed));
        let mut paths: Vec<_> = left.map(|(path, _)| path.as_path()).collect();
        paths.sort_unstable();
        paths
    }
}

/// The first script in a root that calls `setcap` at the first boot.
pub fn deferred(root: &dyn Source) -> Option<PathBuf> {
    struct Scripts<'a> {
        root: &'a dyn Source,
        found: Option<PathBuf>,
    }
    impl Visit for Scripts<'_> {
        fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
            let is_script = |entry: &Entry| {
                let directory = entry.path.parent().unwrap_or(Path::new(""));
                entry.size().is_some() && DEFERRED.iter().any(|it| directory == Path::new(it))
            };
            let Some(entry) = found.ok().filter(is_script) else {
                return ControlFlow::Continue(());
            };
            let file = self.root.open(&entry);
            let text = file.and_then(|file| whole(&*file, SCRIPT_MAX)).ok().flatten();
            let text = text.unwrap_or_default();
            let is_word = |word: &[u8]| word == b"setcap" || word.ends_with(b"/setcap");
            let between = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"_-./".contains(byte));
            if !text.split(between).any(is_word) {
                return ControlFlow::Continue(());
            }
            self.found = Some(entry.path);
            ControlFlow::Break(())
        }

        fn descends(&self, path: &Path) -> bool {
            DEFERRED.iter().any(|directory| Path::new(directory).starts_with(path))
        }
    }
    let mut scripts = Scripts { root, found: None };
    root.list(&mut scripts);
    scripts.found
}
