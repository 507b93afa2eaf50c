//! Where all programs' libraries are: `/etc/ld.so.cache`, the directories that `ldconfig` makes it of, and
//! musl's list.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use ima_format::elf::Elf;
use ima_format::loader_cache::{Cache, Variant};

use super::super::paths::Paths;
use super::super::purpose::path_of;
use super::{musl_machine, Number};

/// The cache, as glibc's loader reads it. It does not look at `/etc/ld.so.conf`.
pub(super) const CACHE: &str = "/etc/ld.so.cache";
const CONFIGURATION: &str = "/etc/ld.so.conf";
const MUSL_DIRECTORIES: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

/// Gives the content of a small file.
pub(super) type Text<'a> = dyn FnMut(&Path) -> Option<Vec<u8>> + 'a;

/// A fault of `/etc/ld.so.cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFault {
    /// It is not there, and `/etc/ld.so.conf` names directories with libraries, in which the
    /// loader does not look then.
    Absent {
        /// These directories.
        directories: Vec<PathBuf>,
    },
    /// The loader takes no notice of it.
    Malformed(ima_format::Error),
    /// It was made of other files than there are.
    Stale {
        /// Files that it names and that are not there.
        gone: Vec<PathBuf>,
        /// Libraries in the directories of `/etc/ld.so.conf` that it does not name.
        lacking: Vec<PathBuf>,
    },
}

/// One file for a name.
pub(super) struct Cached {
    pub(super) path: PathBuf,
    pub(super) flags: u32,
    pub(super) variant: For,
}

/// The CPUs that a file of the cache is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum For {
    /// All.
    All,
    /// Those of a level: its directory of `glibc-hwcaps`.
    Level(Vec<u8>),
    /// Those with these capabilities: of a legacy directory.
    Capabilities(u64),
}

/// Which subdirectories a glibc searches for libraries that only some CPUs take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subdirectories {
    /// Legacy ones (`tls/haswell/x86_64`): before glibc 2.33.
    Legacy,
    /// Those of `glibc-hwcaps`, then legacy ones: from 2.33 to 2.36.
    Both,
    /// Those of `glibc-hwcaps`: from 2.37 on.
    Levels,
}

impl Subdirectories {
    /// As the texts in a loader show it: legacy ones have a heading in its `--help`.
    fn of(loader: &[u8]) -> Self {
        let holds = |text: &[u8]| loader.windows(text.len()).any(|part| part == text);
        match (holds(b"glibc-hwcaps"), holds(b"Legacy HWCAP subdirectories")) {
            (false, _) => Self::Legacy,
            (true, true) => Self::Both,
            (true, false) => Self::Levels,
        }
    }
}

/// The directories that the loaders of glibc search.
pub(super) fn subdirectories(
    paths: &Paths,
    elves: &HashMap<Number, &Elf>,
    text: &mut Text<'_>,
) -> HashMap<Number, Subdirectories> {
    let by_glibc = |path: &&Vec<u8>| musl_machine(path).is_none();
    let interpreters: HashSet<_> =
        elves.values().filter_map(|elf| elf.interpreter.as_ref()).filter(by_glibc).collect();
    let mut found = HashMap::new();
    for number in interpreters.into_iter().filter_map(|path| paths.file(&path_of(path))) {
        if let Some(loader) = text(&paths.get(number).path) {
            found.insert(number, Subdirectories::of(&loader));
        }
    }
    found
}

/// The entries of the cache, by name, in its order.
pub(super) type Names = HashMap<Vec<u8>, Vec<Cached>>;

/// Reads the cache; an absent one is empty.
pub(super) fn cache(text: &mut Text<'_>) -> (Option<Names>, Option<CacheFault>) {
    let Some(bytes) = text(Path::new(CACHE)) else { return (None, None) };
    let cache = match Cache::parse(&bytes) {
        Ok(cache) => cache,
        Err(error) => return (None, Some(CacheFault::Malformed(error))),
    };
    let mut names = Names::new();
    for entry in cache.entries {
        let variant = match entry.variant {
            Variant::Any => For::All,
            Variant::Directory(name) => For::Level(name.to_vec()),
            Variant::Capabilities(all) => For::Capabilities(all),
        };
        let cached = Cached { path: path_of(entry.path), flags: entry.flags, variant };
        names.entry(entry.name.to_vec()).or_default().push(cached);
    }
    (Some(names), None)
}

/// Holds the cache against the directories that it is made of.
pub(super) fn compare(
    paths: &Paths,
    elves: &HashMap<Number, &Elf>,
    names: Option<&Names>,
    text: &mut Text<'_>,
) -> Option<CacheFault> {
    let directories = configured(paths, text);
    let Some(names) = names else {
        let standard = |directory: &PathBuf| {
            ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].iter().any(|it| Path::new(it) == directory)
                || directory.to_string_lossy().ends_with("-linux-gnu")
        };
        let holds = |directory: &PathBuf| !libraries_in(paths, elves, directory).is_empty();
        let mut named: Vec<_> = directories;
        named.retain(|directory| !standard(directory) && holds(directory));
        return (!named.is_empty()).then_some(CacheFault::Absent { directories: named });
    };
    let cached = || names.values().flatten();
    let gone: BTreeSet<_> = cached()
        .filter(|cached| paths.file(&cached.path).is_none())
        .map(|cached| cached.path.clone())
        .collect();
    let lacking: BTreeSet<_> = directories
        .iter()
        .flat_map(|directory| libraries_in(paths, elves, directory))
        .filter(|number| {
            let soname = elves.get(number).and_then(|elf| elf.soname.as_ref());
            soname.is_some_and(|soname| !names.contains_key(soname))
        })
        .map(|number| paths.get(number).path.clone())
        .collect();
    let (gone, lacking): (Vec<_>, Vec<_>) =
        (gone.into_iter().collect(), lacking.into_iter().collect());
    (!gone.is_empty() || !lacking.is_empty()).then_some(CacheFault::Stale { gone, lacking })
}

/// The libraries of a directory that `ldconfig` would enter.
fn libraries_in(paths: &Paths, elves: &HashMap<Number, &Elf>, directory: &Path) -> Vec<Number> {
    let is_library = |number: &&Number| {
        let name = paths.get(**number).name();
        let named = name.starts_with(b"lib") || name.starts_with(b"ld-");
        let is_shared = name.windows(3).any(|part| part == b".so");
        named && is_shared && elves.get(number).is_some_and(|elf| elf.soname.is_some())
    };
    paths.children(directory).iter().filter(is_library).copied().collect()
}

/// The directories of `/etc/ld.so.conf` and of the files that it includes.
fn configured(paths: &Paths, text: &mut Text<'_>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut waiting = vec![PathBuf::from(CONFIGURATION)];
    let mut seen = HashSet::new();
    while let Some(file) = waiting.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        let text = text(&file).unwrap_or_default();
        let mut included = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
                Some(pattern) => included.extend(matching(paths, pattern.trim())),
                None if line.starts_with('/') => {
                    // old files name a library type: /lib/libc5=libc5
                    let words = line.split([' ', '\t', ',', ':', '=']);
                    directories.extend(words.filter(|word| word.starts_with('/')).map(Into::into));
                }
                None => {}
            }
        }
        included.reverse();
        waiting.extend(included);
    }
    directories
}

/// The files that an `include` means: a `*` in the last part of its path.
fn matching(paths: &Paths, pattern: &str) -> Vec<PathBuf> {
    let pattern = Path::new("/etc").join(pattern);
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = pattern.parent().unwrap_or(Path::new("/"));
    let Some((before, after)) = name.split_once('*') else { return vec![pattern] };
    let fits = |number: &Number| {
        let name = String::from_utf8_lossy(paths.get(*number).name()).into_owned();
        let long_enough = name.len() >= before.len() + after.len();
        (long_enough && name.starts_with(before) && name.ends_with(after))
            .then(|| parent.join(name))
    };
    // entries are sorted by path
    paths.children(parent).iter().filter_map(fits).collect()
}

/// musl's list for a machine by its own name of it: `/etc/ld-musl-ARCH.path`, or what stands in
/// its place.
pub(super) fn musl(paths: &Paths, text: &mut Text<'_>) -> HashMap<Vec<u8>, Vec<PathBuf>> {
    let mut lists = HashMap::new();
    for number in paths.children(Path::new("/etc")) {
        let entry = paths.get(*number);
        let machine = entry.name().strip_prefix(b"ld-musl-");
        let machine = machine.and_then(|rest| rest.strip_suffix(b".path"));
        let listed = machine.and_then(|machine| Some((machine, text(&entry.path)?)));
        let Some((machine, listed)) = listed else { continue };
        let directories = listed.split(|byte| matches!(byte, b'\n' | b':'));
        let directories = directories.filter(|directory| !directory.is_empty());
        lists.insert(machine.to_vec(), directories.map(path_of).collect());
    }
    lists
}

/// Where musl looks without a list.
pub(super) fn musl_directories() -> Vec<PathBuf> {
    MUSL_DIRECTORIES.iter().map(PathBuf::from).collect()
}
