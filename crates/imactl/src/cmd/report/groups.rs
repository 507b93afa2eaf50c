//! Counts by directory or package, in bounded memory.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// The maximum number of groups; the rest is counted together.
const GROUPS: usize = 10_000;

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct Groups<T> {
    pub(super) named: BTreeMap<Vec<u8>, T>,
    /// The groups that exceed [`GROUPS`].
    pub(super) others: T,
}

impl<T: Default + AddAssign> Groups<T> {
    pub(super) fn add(&mut self, name: &[u8], counts: T) {
        if let Some(known) = self.named.get_mut(name) {
            *known += counts;
        } else if self.named.len() < GROUPS {
            self.named.insert(name.to_vec(), counts);
        } else {
            self.others += counts;
        }
    }
}

/// The maximum number of path components that name a directory.
const DEPTH: usize = 3;

/// The directory under which a file is counted; `None` for names that are not paths.
pub(super) fn directory(path: &[u8]) -> Option<&[u8]> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let last = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let end = slashes.nth(DEPTH).unwrap_or(last).min(last);
    Some(if end == 0 { b"/" } else { &path[..end] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_at_most_three_names() {
        for (path, expected) in [
            ("/init", Some("/")),
            ("/usr/bin/true", Some("/usr/bin")),
            ("/usr/lib/x86_64-linux-gnu/libc.so", Some("/usr/lib/x86_64-linux-gnu")),
            ("/usr/lib/x86_64-linux-gnu/perl/5.36/x", Some("/usr/lib/x86_64-linux-gnu")),
            ("boot_aggregate", None),
        ] {
            assert_eq!(directory(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut groups = Groups::<u64>::default();
        for number in 0..GROUPS + 7 {
            groups.add(number.to_string().as_bytes(), 1);
            groups.add(b"0", 1);
        }
        assert_eq!(groups.named.len(), GROUPS);
        assert_eq!(groups.others, 7);
        assert_eq!(groups.named[&b"0"[..]], GROUPS as u64 + 8);
    }
}
