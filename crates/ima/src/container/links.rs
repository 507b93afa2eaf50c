//! Symbolic links of a root, followed within it, as the machine does that boots it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::source::EntryKind;

/// As many links are followed in a path (`MAXSYMLINKS` in `include/linux/namei.h`).
const MOST_LINKS: usize = 40;

/// The path without links, `.` and `..`; `None` if nothing is there. `kind` knows all paths of the root.
pub(crate) fn follow<'a>(
    path: &Path,
    kind: impl Fn(&Path) -> Option<&'a EntryKind>,
) -> Option<PathBuf> {
    let mut waiting = names(path);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = waiting.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        match kind(&at)? {
            EntryKind::Directory => {}
            EntryKind::Link(to) => {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                match to.is_absolute() {
                    true => at = PathBuf::from("/"),
                    false => drop(at.pop()),
                }
                waiting.extend(names(to));
            }
            _ if waiting.is_empty() => {}
            _ => return None,
        }
    }
    Some(at)
}

/// The names of a path, the last one first; `/` and `.` are skipped.
fn names(path: &Path) -> Vec<OsString> {
    let is_name =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let names = path.components().rev().filter(is_name);
    names.map(|part| part.as_os_str().to_owned()).collect()
}
