//! Paths of a root: symbolic links are followed within it, as the booted machine will.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::container::links::follow;
use crate::container::source::{Entry, EntryKind};

/// The entries of a root, by number and by path.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) entries: Vec<Entry>,
    by_path: HashMap<PathBuf, usize>,
    children: HashMap<PathBuf, Vec<usize>>,
}

impl Paths {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let mut paths = Self { entries, ..Self::default() };
        for (number, entry) in paths.entries.iter().enumerate() {
            paths.by_path.insert(entry.path.clone(), number);
            if let Some(parent) = entry.path.parent() {
                paths.children.entry(parent.to_owned()).or_default().push(number);
            }
        }
        paths
    }

    pub(super) fn get(&self, number: usize) -> &Entry {
        &self.entries[number]
    }

    /// The file that a path leads to.
    pub(super) fn resolve(&self, path: &Path) -> Option<usize> {
        // most paths hold no link
        if let Some(number) = self.by_path.get(path) {
            if !matches!(self.entries[*number].kind, EntryKind::Link(_)) {
                return Some(*number);
            }
        }
        let kind = |path: &Path| Some(&self.entries[*self.by_path.get(path)?].kind);
        self.by_path.get(&follow(path, kind)?).copied()
    }

    /// The regular file that a path leads to.
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        self.resolve(path).filter(|number| self.entries[*number].size().is_some())
    }

    /// The entries of the directory that a path leads to, by name.
    pub(super) fn children(&self, path: &Path) -> &[usize] {
        let directory = self.resolve(path).map(|number| self.entries[number].path.as_path());
        let children = directory.and_then(|directory| self.children.get(directory));
        children.map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, identity: (0, 0) }
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let link = |target: &str| EntryKind::Link(target.into());
        let file = EntryKind::File { size: 0 };
        let paths = Paths::new(vec![
            entry("/", EntryKind::Directory),
            entry("/usr", EntryKind::Directory),
            entry("/usr/bin", EntryKind::Directory),
            entry("/usr/bin/dash", file.clone()),
            entry("/usr/bin/sh", link("dash")),
            entry("/bin", link("usr/bin")),
            entry("/abs", link("/bin/sh")),
            entry("/up", link("../../../usr/bin/dash")),
            entry("/loop", link("loop")),
            entry("/dangling", link("nowhere")),
        ]);
        let dash = paths.resolve(Path::new("/usr/bin/dash"));
        assert!(dash.is_some());
        for path in ["/bin/sh", "/abs", "/up", "/usr/bin/../bin/./sh", "/../bin/dash"] {
            assert_eq!(paths.resolve(Path::new(path)), dash, "{path}");
        }
        for path in ["/loop", "/dangling", "/usr/bin/dash/x", "/bin/nothing"] {
            assert_eq!(paths.resolve(Path::new(path)), None, "{path}");
        }
        assert_eq!(paths.children(Path::new("/bin")).len(), 2);
        assert_eq!(paths.file(Path::new("/bin")), None);
    }
}
