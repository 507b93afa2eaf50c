//! Which files of a root are signed, and which packages they are from.
//!
//! Nothing is verified here: [`super::preflight`] is about what the kernel says of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima_format::xattr::{Attribute, AttributeName, KeyId};

use super::paths::Paths;
use crate::container::source::{whole, Entry, Source, Unread};

/// A regular file of a root, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Its path as the booted machine sees it.
    pub path: PathBuf,
    /// The key that its `security.ima` names, if that is a signature.
    pub key_id: Option<KeyId>,
    /// The package that it is from, if the root's package manager says so.
    pub package: Option<String>,
}

/// Where dpkg and opkg keep the names of the files of each package.
const DATABASES: [&str; 3] = ["/var/lib/dpkg/info", "/var/lib/opkg/info", "/usr/lib/opkg/info"];

/// The most bytes of such a list; that of the largest packages of Debian has 5 MiB.
const LIST_MAX: usize = 64 << 20;

/// Lists the regular files of a root by path, and those that cannot be read.
pub fn coverage(root: &dyn Source) -> (Vec<Covered>, Vec<Unread>) {
    let (mut entries, mut unread) = (Vec::new(), Vec::new());
    root.list(&mut |found: Result<Entry, Unread>| match found {
        Ok(entry) => entries.push(entry),
        Err(error) => unread.push(error),
    });
    let paths = Paths::new(entries);
    let mut packages = packages(root, &paths);
    let mut covered = Vec::new();
    for (number, entry) in paths.entries.iter().enumerate() {
        if entry.size().is_none() {
            continue;
        }
        let path = entry.path.clone();
        match root.open(entry).and_then(|file| file.attribute(AttributeName::Ima)) {
            Ok(value) => {
                let key_id = value.as_deref().and_then(signed_by);
                covered.push(Covered { path, key_id, package: packages.remove(&number) });
            }
            Err(error) => unread.push(Unread { path, error }),
        }
    }
    (covered, unread)
}

fn signed_by(attribute: &[u8]) -> Option<KeyId> {
    match Attribute::decode(attribute).ok()? {
        Attribute::Signature(signature) => Some(signature.key_id),
        _ => None,
    }
}

/// The packages of files, by number. A list that cannot be read names none.
fn packages(root: &dyn Source, paths: &Paths) -> HashMap<usize, String> {
    let mut packages = HashMap::new();
    for number in DATABASES.iter().flat_map(|directory| paths.children(Path::new(directory))) {
        let entry = paths.get(*number);
        let Some(stem) = entry.path.file_stem().filter(|_| is_list(&entry.path)) else { continue };
        // NAME, or NAME:ARCHITECTURE
        let stem = stem.to_string_lossy();
        let name = stem.split(':').next().unwrap_or_default();
        let text = root.open(entry).and_then(|file| whole(&*file, LIST_MAX));
        for line in text.ok().flatten().unwrap_or_default().split(|byte| *byte == b'\n') {
            // opkg has the mode after a tab
            let path = line.split(|byte| *byte == b'\t').next().unwrap_or_default();
            if let Some(file) = named(paths, Path::new(OsStr::from_bytes(path))) {
                packages.insert(file, name.to_owned());
            }
        }
    }
    packages
}

fn is_list(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("list"))
}

/// The regular file that a package brought by this name: links to its directory are followed, as /bin often
/// is one, but the name itself may be a link to a file of another package.
fn named(paths: &Paths, path: &Path) -> Option<usize> {
    let directory = paths.resolve(path.parent()?)?;
    let path = paths.get(directory).path.join(path.file_name()?);
    paths.file(&path).filter(|number| paths.get(*number).path == path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::container::tree::Directory;

    #[test]
    fn packages_are_those_that_dpkg_and_opkg_list() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["usr/bin", "var/lib/dpkg/info", "usr/lib/opkg/info"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        symlink("usr/bin", at("bin")).unwrap();
        for name in ["usr/bin/dash", "usr/bin/tool", "usr/bin/own"] {
            fs::write(at(name), name).unwrap();
        }
        symlink("dash", at("usr/bin/sh")).unwrap();
        let lists = "var/lib/dpkg/info";
        fs::write(at(&format!("{lists}/dash:amd64.list")), "/.\n/bin\n/bin/dash\n").unwrap();
        // the link is its own, not the file that it leads to
        fs::write(at(&format!("{lists}/link.list")), "/bin/sh\n/nowhere/x\n").unwrap();
        fs::write(at("usr/lib/opkg/info/tool.list"), "/usr/bin/tool\t0100755\t\n").unwrap();
        let (covered, unread) = coverage(&Directory::open(directory.path()).unwrap());
        assert!(unread.is_empty());
        let package = |path: &str| {
            let file = covered.iter().find(|file| file.path == Path::new(path)).unwrap();
            assert_eq!(file.key_id, None);
            file.package.as_deref()
        };
        assert_eq!(package("/usr/bin/dash"), Some("dash"));
        assert_eq!(package("/usr/bin/tool"), Some("tool"));
        assert_eq!(package("/usr/bin/own"), None);
    }
}
