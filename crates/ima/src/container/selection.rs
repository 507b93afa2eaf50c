//! Which files are selected.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::advice::Advice;
use crate::digest::FileHasher;

/// Kinds of files to which a run can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Only {
    /// Every regular file.
    #[default]
    All,
    /// Files that the kernel runs, maps or loads: those with an execute bit, ELF programs,
    /// libraries and modules, scripts with a `#!` line, compressed modules, firmware, IMA policies.
    Executable,
}

/// Which of the files below the roots are selected.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Option<Globs>,
    exclude: Option<Globs>,
    /// Do not descend into directories on other file systems.
    pub one_file_system: bool,
    /// Kinds of files.
    pub only: Only,
    names: Names,
}

/// The meaning of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Names {
    /// Those of files.
    #[default]
    Files,
    /// In a layer of a container image, `.wh.NAME` removes a file of the layers below.
    Layer,
}

/// A glob that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("glob {glob:?}: {reason}")]
pub struct SelectionError {
    glob: String,
    reason: String,
}

impl Advice for SelectionError {}

impl Selection {
    /// A selection by globs (`*`, `?`, `**`, `[a-z]`, `{a,b}`; `*` does not match `/`). A
    /// glob with a `/` is matched against the path below the root, one without against the
    /// name of each file and directory. With no `include`, everything is included. Files
    /// that `exclude` matches are skipped, and directories with all files below.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, SelectionError> {
        Ok(Self { include: Globs::new(include)?, exclude: Globs::new(exclude)?, ..Self::default() })
    }

    /// The same in a layer of a container image: whiteouts are not selected.
    pub(super) fn in_layer(self) -> Self {
        Self { names: Names::Layer, ..self }
    }

    /// Whether files are those of a layer.
    pub(super) fn is_in_layer(&self) -> bool {
        self.names == Names::Layer
    }

    /// Whether nothing is left out by its path.
    pub(crate) fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// The globs of `include` and of `exclude` that nothing has matched, in this selection and its
    /// clones.
    pub fn unmatched(&self) -> [Vec<&str>; 2] {
        [&self.include, &self.exclude]
            .map(|globs| globs.iter().flat_map(Globs::unmatched).collect())
    }

    /// Whether a file or directory, by its path below the root, is left out.
    pub(super) fn excludes(&self, below_root: &Path) -> bool {
        self.exclude.as_ref().is_some_and(|globs| globs.is_match(below_root))
    }

    /// Whether a file, by its path below the root, is included.
    pub(super) fn includes(&self, below_root: &Path) -> bool {
        self.include.as_ref().map_or(true, |globs| globs.is_match(below_root))
    }

    /// Whether a directory in a container, by its path below the root, is looked into.
    pub(crate) fn descends(&self, below_root: &Path) -> bool {
        !self.excludes(below_root)
    }

    /// Whether a file in a container is selected by its path below the root.
    pub fn selects(&self, below_root: &Path) -> bool {
        // both are asked, to see which globs match anything
        let excluded = below_root.ancestors().any(|path| self.excludes(path));
        let name = below_root.file_name().unwrap_or_default().as_bytes();
        let removes = self.is_in_layer() && name.starts_with(b".wh.");
        self.includes(below_root) && !excluded && !removes
    }

    /// Whether an open file is of a selected kind.
    pub(super) fn wants(&self, path: &Path, file: impl AsFd) -> io::Result<bool> {
        match self.only {
            Only::All => Ok(true),
            Only::Executable => {
                let mut head = [0; 4];
                let mode = rustix::fs::fstat(&file)?.st_mode;
                let head = FileHasher::head(file, &mut head)?;
                // firmware and policies are known by their directories, however the path is given
                Ok(self.wants_head(path, head, mode) || is_loaded_by_name(&from_root(path)?))
            }
        }
    }

    /// Whether a file that begins with `head` is of a selected kind. The kernel appraises any
    /// file that is executed, before it looks for a format (`search_binary_handler()`).
    pub(crate) fn wants_head(&self, path: &Path, head: &[u8], mode: u32) -> bool {
        match self.only {
            Only::All => true,
            Only::Executable => {
                is_loaded_by_name(path)
                    || mode & 0o111 != 0
                    || matches!(head, [0x7f, b'E', b'L', b'F', ..] | [b'#', b'!', ..])
            }
        }
    }
}

/// A path from the root on, `.` and `..` resolved by name.
fn from_root(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = match path.is_relative() {
        true => std::env::current_dir()?,
        false => PathBuf::new(),
    };
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(resolved.pop()),
            other => resolved.push(other),
        }
    }
    Ok(resolved)
}

/// Globs, and which of them have matched something.
#[derive(Debug, Clone)]
struct Globs {
    set: GlobSet,
    matched: Arc<[(String, AtomicBool)]>,
}

impl Globs {
    fn new(globs: &[String]) -> Result<Option<Self>, SelectionError> {
        if globs.is_empty() {
            return Ok(None);
        }
        let refuse = |glob: &str, error: globset::Error| SelectionError {
            glob: glob.to_owned(),
            reason: error.kind().to_string(),
        };
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let anchored = match glob.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if glob.contains('/') => glob.clone(),
                None => format!("**/{glob}"),
            };
            let built =
                GlobBuilder::new(anchored.trim_end_matches('/')).literal_separator(true).build();
            set.add(built.map_err(|error| refuse(glob, error))?);
        }
        let set = set.build().map_err(|error| refuse(&globs.join(" "), error))?;
        let matched = globs.iter().map(|glob| (glob.clone(), AtomicBool::new(false))).collect();
        Ok(Some(Self { set, matched }))
    }

    fn is_match(&self, path: &Path) -> bool {
        let is_match = self.set.is_match(path);
        if is_match && self.unmatched().next().is_some() {
            for index in self.set.matches(path) {
                if let Some((_, matched)) = self.matched.get(index) {
                    matched.store(true, Ordering::Relaxed);
                }
            }
        }
        is_match
    }

    fn unmatched(&self) -> impl Iterator<Item = &str> {
        let unmatched = |(_, matched): &&(_, AtomicBool)| !matched.load(Ordering::Relaxed);
        self.matched.iter().filter(unmatched).map(|(glob, _)| glob.as_str())
    }
}

/// Whether the kernel loads a file by its name or directory: compressed modules, firmware, policies.
fn is_loaded_by_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let module = [".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end));
    let directory = path.parent().unwrap_or(Path::new(""));
    let policy = directory.ends_with("etc/ima") && name.starts_with("ima_policy")
        || directory.ends_with("etc/ima") && name.starts_with("ima-policy");
    let mut components = path.components().map(|component| component.as_os_str()).peekable();
    let firmware = std::iter::from_fn(|| components.next())
        .zip(path.components().map(|component| component.as_os_str()).skip(1))
        .any(|(directory, below)| directory == "lib" && below == "firmware");
    module || policy || firmware
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_names_or_paths() {
        let selection =
            Selection::new(&[], &["*.pyc".into(), "/usr/share/doc".into(), "cache/*.tmp".into()])
                .unwrap();
        for (path, excluded) in [
            ("a.pyc", true),
            ("deep/down/a.pyc", true),
            ("usr/share/doc", true),
            ("usr/share/doc2", false),
            ("home/usr/share/doc", false),
            ("cache/x.tmp", true),
            ("cache/deeper/x.tmp", false),
        ] {
            assert_eq!(selection.excludes(Path::new(path)), excluded, "{path}");
        }
        assert!(selection.includes(Path::new("anything")));
    }

    #[test]
    fn globs_that_match_nothing_are_known() {
        let globs = ["*.so".to_owned(), "lib/*".to_owned()];
        let selection = Selection::new(&globs, &["doc".into()]).unwrap();
        assert_eq!(selection.unmatched(), [vec!["*.so", "lib/*"], vec!["doc"]]);
        assert!(selection.clone().selects(Path::new("lib/a")));
        assert!(!selection.selects(Path::new("other")));
        assert_eq!(selection.unmatched(), [vec!["*.so"], vec!["doc"]]);
        assert!(!selection.selects(Path::new("doc/b")));
        assert_eq!(selection.unmatched(), [vec!["*.so"], vec![]]);
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = Selection::new(&["[a".into()], &[]).unwrap_err();
        assert!(error.to_string().starts_with("glob \"[a\": "), "{error}");
    }

    #[test]
    fn modules_firmware_and_policies_go_by_name() {
        for (path, expected) in [
            ("root/lib/modules/6.1/kernel/a.ko.xz", true),
            ("root/lib/firmware/a.bin", true),
            ("root/usr/lib/firmware/deep/a.bin", true),
            ("root/etc/ima/ima_policy.default", true),
            ("root/etc/ima/ima-policy", true),
            ("root/usr/share/firmware/a.bin", false),
            ("root/etc/ima/readme", false),
            ("root/usr/share/a.xz", false),
        ] {
            assert_eq!(is_loaded_by_name(Path::new(path)), expected, "{path}");
        }
    }
}
