//! Manifests: the files of a root or of packages, with their digests, to compare measurement lists with.
//!
//! A file has one entry under its path as the kernel sees it. It may be from several packages or versions, or
//! have several names: then any of its digests is correct.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::xattr::{Attribute, AttributeName, KeyId};

use crate::container::source::{Entry, Source, SourceError, Unread};
use crate::container::{pool, Access, Change, Item, ItemError, Operation, Progress, Selection};
use crate::digest::{DigestKind, FileHasher};

/// Files by path, which begins with `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(pub BTreeMap<Vec<u8>, Expected>);

/// The expected properties of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Digests of its content, sorted; any of them is correct.
    pub digests: Vec<Digest>,
    /// The keys that signed it.
    pub key_ids: Vec<KeyId>,
    /// Owner, group and permissions; `None` if they are unknown or differ between packages.
    pub owner: Option<Owner>,
    /// The packages that contain it.
    pub packages: Vec<String>,
}

/// Owner, group and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permissions, with set-user-ID, set-group-ID and the sticky bit.
    pub mode: u32,
}

impl Expected {
    /// Adds the properties of the same file in another manifest.
    pub fn merge(&mut self, other: Self) {
        if self.digests.is_empty() {
            self.owner = other.owner;
        } else if self.owner != other.owner {
            self.owner = None;
        }
        self.digests.extend(other.digests);
        self.key_ids.extend(other.key_ids);
        self.packages.extend(other.packages);
        self.digests.sort_by_key(|digest| (digest.algorithm(), digest.as_bytes().to_vec()));
        self.digests.dedup();
        self.key_ids.sort();
        self.key_ids.dedup();
        self.packages.sort();
        self.packages.dedup();
    }
}

impl Manifest {
    /// Adds a file, or merges it with an existing one of the same path.
    pub fn add(&mut self, path: &[u8], expected: Expected) {
        self.0.entry(path.to_vec()).or_default().merge(expected);
    }

    /// The same manifest by the names in a measurement list, where `_` replaces each space (`n-ng`).
    pub fn as_measured(&self) -> Self {
        let mut measured = Self::default();
        for (path, expected) in &self.0 {
            let name: Vec<_> =
                path.iter().map(|byte| if *byte == b' ' { b'_' } else { *byte }).collect();
            measured.add(&name, expected.clone());
        }
        measured
    }
}

/// A difference between two manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Only the second has the file.
    Added,
    /// Only the first has it.
    Removed,
    /// Digests, keys, owner or packages differ.
    Changed,
}

/// The files that differ between two manifests, by path.
pub fn differences<'a>(one: &'a Manifest, other: &'a Manifest) -> Vec<(&'a [u8], Difference)> {
    let mut differences: Vec<_> = one
        .0
        .iter()
        .filter_map(|(path, expected)| match other.0.get(path) {
            None => Some((&path[..], Difference::Removed)),
            Some(other) if other != expected => Some((path, Difference::Changed)),
            Some(_) => None,
        })
        .collect();
    let added = other.0.keys().filter(|path| !one.0.contains_key(*path));
    differences.extend(added.map(|path| (&path[..], Difference::Added)));
    differences.sort_by_key(|(path, _)| *path);
    differences
}

/// Lists the regular files of a root file system, each under every name.
pub fn of_source(
    source: &dyn Source,
    selection: &Selection,
    algorithm: HashAlgorithm,
    jobs: NonZeroUsize,
    progress: &dyn Progress,
) -> (Manifest, Vec<Unread>) {
    let (mut unlisted, mut unread, mut names) = (Vec::new(), Vec::new(), Vec::new());
    // files are read while the walk continues, each one once
    let produce = |queue: &mut dyn FnMut(Entry, u64)| {
        let mut known: HashMap<(u64, u64), PathBuf> = HashMap::new();
        source.list(&mut |found: Result<Entry, Unread>| match found {
            Ok(entry) => {
                let below = entry.path.strip_prefix("/").unwrap_or(&entry.path);
                let Some(size) = entry.size().filter(|_| selection.selects(below)) else { return };
                match known.entry(entry.identity) {
                    Slot::Occupied(first) => names.push((entry.path, first.get().clone())),
                    Slot::Vacant(slot) => {
                        slot.insert(entry.path.clone());
                        progress.found(size);
                        queue(entry, size);
                    }
                }
            }
            Err(error) => unlisted.push(error),
        });
    };
    let start = || {
        let mut hasher = FileHasher::default();
        move |entry: Entry| {
            let described = describe(source, &entry, algorithm, &mut hasher, progress);
            progress.finished(entry.size().unwrap_or_default());
            (entry.path, described)
        }
    };
    let mut manifest = Manifest::default();
    let mut keep = |(path, described): (PathBuf, Result<Expected, SourceError>)| {
        match described {
            Ok(expected) => manifest.add(path.as_os_str().as_bytes(), expected),
            // reported once, under the first of its names
            Err(error) => unread.push(Unread { path, error }),
        }
        Ok::<(), Infallible>(())
    };
    let workers = pool::Workers { jobs, batch: pool::FILES };
    if let Err(never) = pool::run(workers, &AtomicBool::new(false), produce, start, &mut keep) {
        match never {}
    }
    for (name, first) in names {
        if let Some(expected) = manifest.0.get(first.as_os_str().as_bytes()).cloned() {
            manifest.add(name.as_os_str().as_bytes(), expected);
        }
    }
    unread.extend(unlisted);
    unread.sort_by(|one, other| one.path.cmp(&other.path));
    (manifest, unread)
}

fn describe(
    source: &dyn Source,
    entry: &Entry,
    algorithm: HashAlgorithm,
    hasher: &mut FileHasher,
    progress: &dyn Progress,
) -> Result<Expected, SourceError> {
    let file = source.open(entry)?;
    let size = entry.size().unwrap_or_default();
    let read = |bytes| progress.read(bytes);
    let digest = file.digest(hasher, size, DigestKind::Content(algorithm), &read)?;
    let attribute = file.attribute(AttributeName::Ima)?;
    Ok(Expected {
        digests: vec![digest],
        key_ids: key_id(attribute.as_deref()).into_iter().collect(),
        owner: Some(Owner { uid: entry.uid, gid: entry.gid, mode: entry.mode & 0o7777 }),
        packages: Vec::new(),
    })
}

/// The key ID of a signature in `security.ima`.
fn key_id(attribute: Option<&[u8]>) -> Option<KeyId> {
    match Attribute::decode(attribute?).ok()? {
        Attribute::Signature(signature) => Some(signature.key_id),
        _ => None,
    }
}

/// Describes the files of packages by the digests in the packages.
#[derive(Debug, Clone, Copy)]
pub struct Describe;

impl Operation for Describe {
    type Outcome = Option<Expected>;
    type Worker = ();

    const ACCESS: Access = Access::Reads;

    fn worker(&self) {}

    fn digest_for(&self, _: Option<&[u8]>) -> Option<DigestKind> {
        Some(DigestKind::Content(HashAlgorithm::Sha256))
    }

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(Self::Outcome, Change), ItemError> {
        let algorithm = item.algorithm().unwrap_or(HashAlgorithm::Sha256);
        let digest = item.digest(DigestKind::Content(algorithm))?;
        let attribute = item.attribute(AttributeName::Ima)?;
        let expected = Expected {
            digests: vec![digest],
            key_ids: key_id(attribute.as_deref()).into_iter().collect(),
            // a package has user names, which are numbers only on an installed system
            owner: None,
            packages: Vec::new(),
        };
        Ok((Some(expected), Change::none()))
    }
}

/// A path as the kernel sees it.
pub fn absolute(path: &Path) -> Vec<u8> {
    let path = path.strip_prefix(".").unwrap_or(path);
    Path::new("/").join(path).as_os_str().as_bytes().to_vec()
}
