//! Which files the dynamic loader opens for a program: `elf/dl-load.c` of glibc, and musl's
//! `ldso/dynlink.c` where its loader is asked for.
//!
//! | where | looked at |
//! |---|---|
//! | a name with a `/` | is a path |
//! | `DT_RPATH` of the object and of those that loaded it | where the object has no `DT_RUNPATH` |
//! | `DT_RUNPATH` of the object | |
//! | the directories of `/etc/ld.so.conf`, by file name, then by `DT_SONAME` | stands for `/etc/ld.so.cache`, which `ldconfig` makes of them |
//! | `/lib64 /usr/lib64 /lib /usr/lib`, those of Debian's multiarch, the loader's own directory | compiled into the loader; not with `DF_1_NODEFLIB` |
//!
//! A file for another machine or word size is passed over. Not modelled: `LD_LIBRARY_PATH`,
//! `LD_PRELOAD` in an environment, `dlopen`, and `glibc-hwcaps`, whose choice is the
//! processor's.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ima_format::elf::{Class, Elf, Machine};

use super::paths::Paths;
use super::purpose::path_of;

/// A file of [`Paths`].
type Number = usize;

/// Looks libraries up in one root.
pub(super) struct Libraries<'a> {
    paths: &'a Paths,
    elves: &'a HashMap<Number, &'a Elf>,
    configured: Vec<PathBuf>,
    musl: Vec<PathBuf>,
    by_soname: HashMap<(PathBuf, Vec<u8>), Vec<Number>>,
    found: RefCell<HashMap<Wanted, Option<Number>>>,
}

/// A name looked for in the directories that all programs have in common.
type Wanted = (Vec<u8>, Machine, PathBuf, bool);

/// What a program's start comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The loader and libraries, in the order in which they are opened, and for what.
    pub(super) files: Vec<(Number, Number)>,
    /// Names that lead nowhere, and which file needs them.
    pub(super) missing: Vec<(Vec<u8>, Number)>,
}

const DEFAULT_DIRECTORIES: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRECTORIES: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

impl<'a> Libraries<'a> {
    /// `text` gives the content of a small file.
    pub(super) fn new(
        paths: &'a Paths,
        elves: &'a HashMap<Number, &'a Elf>,
        text: &mut dyn FnMut(&Path) -> Option<Vec<u8>>,
    ) -> Self {
        let configured = configured(paths, text);
        let mut by_soname: HashMap<_, Vec<Number>> = HashMap::new();
        for (number, elf) in elves {
            let parent = paths.get(*number).path.parent();
            if let (Some(parent), Some(soname)) = (parent, &elf.soname) {
                by_soname.entry((parent.to_owned(), soname.clone())).or_default().push(*number);
            }
        }
        by_soname.values_mut().for_each(|numbers| numbers.sort_unstable());
        let musl = musl_path(paths, text);
        Self { paths, elves, configured, musl, by_soname, found: RefCell::default() }
    }

    /// What is opened when a program starts.
    pub(super) fn needs(&self, program: Number, elf: &Elf) -> Needs {
        let mut needs = Needs::default();
        let mut loader = None;
        if let Some(interpreter) = &elf.interpreter {
            match self.paths.file(&path_of(interpreter)) {
                Some(number) => {
                    needs.files.push((number, program));
                    loader = Some(number);
                }
                None => needs.missing.push((interpreter.clone(), program)),
            }
        }
        self.load(program, elf, loader, &mut needs);
        needs
    }

    /// Breadth first, each name once, as the loader goes.
    fn load(&self, program: Number, elf: &Elf, loader: Option<Number>, needs: &mut Needs) {
        let mut loaded: HashSet<Vec<u8>> = HashSet::new();
        if let Some(soname) = loader.and_then(|loader| self.elves.get(&loader)?.soname.clone()) {
            loaded.insert(soname);
        }
        // objects, and the RPATHs of those that loaded them
        let mut waiting = vec![(program, elf, Vec::<PathBuf>::new())];
        let mut next = 0;
        while let Some((object, elf, inherited)) = waiting.get(next).cloned() {
            next += 1;
            let origin = self.paths.get(object).path.parent().unwrap_or(Path::new("/"));
            let mut rpath = inherited;
            if elf.runpath.is_none() {
                let own = expand(elf.rpath.as_deref(), origin);
                rpath.splice(0..0, own);
            }
            for name in &elf.needed {
                if !loaded.insert(name.clone()) {
                    continue;
                }
                let wanted = Search { elf, origin, rpath: &rpath, loader };
                let Some(number) = self.find(name, &wanted) else {
                    needs.missing.push((name.clone(), object));
                    continue;
                };
                if needs.files.iter().any(|(other, _)| *other == number) {
                    continue;
                }
                needs.files.push((number, object));
                if let Some(library) = self.elves.get(&number) {
                    waiting.push((number, library, rpath.clone()));
                }
            }
        }
    }

    fn find(&self, name: &[u8], search: &Search<'_>) -> Option<Number> {
        let machine = search.elf.machine;
        if name.contains(&b'/') {
            let path = expand(Some(name), search.origin).pop()?;
            return self.fitting(&path, machine);
        }
        let runpath = expand(search.elf.runpath.as_deref(), search.origin);
        let rpath = if search.elf.runpath.is_none() { search.rpath } else { &[] };
        let name_path = path_of(name);
        let own = rpath.iter().chain(&runpath);
        let found = own.map(|directory| directory.join(&name_path));
        let found = found.into_iter().find_map(|path| self.fitting(&path, machine));
        found.or_else(|| self.find_in_common(name, search))
    }

    /// In the directories that do not hang on the object.
    fn find_in_common(&self, name: &[u8], search: &Search<'_>) -> Option<Number> {
        let machine = search.elf.machine;
        let loader = search.loader.map(|loader| self.paths.get(loader).path.as_path());
        let beside = loader.and_then(Path::parent).unwrap_or(Path::new("/lib")).to_owned();
        let defaults = !search.elf.no_default_directories;
        let wanted = (name.to_vec(), machine, beside.clone(), defaults);
        if let Some(found) = self.found.borrow().get(&wanted) {
            return *found;
        }
        let is_musl = loader
            .and_then(Path::file_name)
            .is_some_and(|name| name.to_string_lossy().starts_with("ld-musl"));
        let name_path = path_of(name);
        let in_directory = |directory: &PathBuf| self.fitting(&directory.join(&name_path), machine);
        let found = if is_musl {
            self.musl.iter().find_map(in_directory)
        } else {
            let by_name = self.configured.iter().find_map(in_directory);
            let found = by_name.or_else(|| self.by_soname(name, machine));
            let standard =
                if defaults { standard_directories(machine, beside) } else { Vec::new() };
            found.or_else(|| standard.iter().find_map(in_directory))
        };
        self.found.borrow_mut().insert(wanted, found);
        found
    }

    /// As `ldconfig` would enter it into its cache.
    fn by_soname(&self, name: &[u8], machine: Machine) -> Option<Number> {
        self.configured.iter().find_map(|directory| {
            let directory = self.paths.get(self.paths.resolve(directory)?).path.clone();
            let numbers = self.by_soname.get(&(directory, name.to_vec()))?;
            let fits = |number: &&Number| self.elves[number].machine == machine;
            numbers.iter().find(fits).copied()
        })
    }

    /// The file that a path leads to, if it is a library for this machine.
    fn fitting(&self, path: &Path, machine: Machine) -> Option<Number> {
        let number = self.paths.file(path)?;
        // what is no ELF file would be an error of the loader's, and is found all the same
        self.elves.get(&number).map_or(true, |elf| elf.machine == machine).then_some(number)
    }
}

/// What is compiled into glibc's loader, of whatever distribution: what is not there does no
/// harm.
fn standard_directories(machine: Machine, beside: PathBuf) -> Vec<PathBuf> {
    let multiarch = match (machine.number, machine.class) {
        (62, Class::Bits64) => Some("x86_64-linux-gnu"),
        (3, _) => Some("i386-linux-gnu"),
        (183, _) => Some("aarch64-linux-gnu"),
        (40, _) => Some("arm-linux-gnueabihf"),
        (243, Class::Bits64) => Some("riscv64-linux-gnu"),
        (21, _) => Some("powerpc64le-linux-gnu"),
        (22, Class::Bits64) => Some("s390x-linux-gnu"),
        _ => None,
    };
    let multiarch = multiarch.into_iter().flat_map(|triplet| {
        ["/lib", "/usr/lib"].map(|directory| Path::new(directory).join(triplet))
    });
    multiarch.chain(DEFAULT_DIRECTORIES.iter().map(PathBuf::from)).chain([beside]).collect()
}

struct Search<'a> {
    elf: &'a Elf,
    origin: &'a Path,
    rpath: &'a [PathBuf],
    loader: Option<Number>,
}

/// The directories of a search path; `$ORIGIN` is where the object is.
fn expand(path: Option<&[u8]>, origin: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let origin = origin.as_os_str().as_bytes();
    let directories = path.unwrap_or_default().split(|byte| *byte == b':');
    directories
        .filter(|directory| !directory.is_empty())
        .map(|directory| {
            let braced = replace(directory, b"${ORIGIN}", origin);
            path_of(&replace(&braced, b"$ORIGIN", origin))
        })
        .collect()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                replaced.extend_from_slice(to);
                rest = behind;
            }
            None => {
                replaced.push(*first);
                rest = &rest[1..];
            }
        }
    }
    replaced
}

/// The directories of `/etc/ld.so.conf` and of what it includes.
fn configured(paths: &Paths, text: &mut dyn FnMut(&Path) -> Option<Vec<u8>>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut waiting = vec![PathBuf::from("/etc/ld.so.conf")];
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

/// `/etc/ld-musl-ARCH.path`, or what stands in its place.
fn musl_path(paths: &Paths, text: &mut dyn FnMut(&Path) -> Option<Vec<u8>>) -> Vec<PathBuf> {
    let is_list = |name: &[u8]| name.starts_with(b"ld-musl-") && name.ends_with(b".path");
    let entries = paths.children(Path::new("/etc")).iter();
    let list = entries.map(|number| paths.get(*number)).find(|entry| is_list(entry.name()));
    let listed = list.and_then(|entry| text(&entry.path));
    match listed {
        Some(text) => {
            let directories = text.split(|byte| matches!(byte, b'\n' | b':'));
            directories.filter(|directory| !directory.is_empty()).map(path_of).collect()
        }
        None => MUSL_DIRECTORIES.iter().map(PathBuf::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use ima_format::elf::Kind;

    use super::super::root::{Entry, EntryKind};
    use super::*;

    const X86_64: Machine = Machine { class: Class::Bits64, number: 62 };
    const I386: Machine = Machine { class: Class::Bits32, number: 3 };

    fn elf(machine: Machine, needed: &[&str]) -> Elf {
        Elf {
            machine,
            kind: Kind::Shared,
            interpreter: None,
            needed: needed.iter().map(|name| name.as_bytes().to_vec()).collect(),
            soname: None,
            rpath: None,
            runpath: None,
            pie: false,
            no_default_directories: false,
        }
    }

    /// The paths opened for the first of some files, and what is missing.
    fn needs(files: &[(&str, Elf)], texts: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut add = |path: &Path, kind: EntryKind| {
            if entries.iter().all(|entry| entry.path != path) {
                let path = path.to_owned();
                entries.push(Entry { path, kind, mode: 0o755, uid: 0, gid: 0, identity: (0, 0) });
            }
        };
        for path in files.iter().map(|(path, _)| path).chain(texts.iter().map(|(path, _)| path)) {
            let path = Path::new(*path);
            path.ancestors().skip(1).for_each(|parent| add(parent, EntryKind::Directory));
            add(path, EntryKind::File { size: 1 });
        }
        let paths = Paths::new(entries);
        let number = |path: &str| paths.file(Path::new(path)).unwrap();
        let elves: HashMap<_, _> = files.iter().map(|(path, elf)| (number(path), elf)).collect();
        let mut text = |path: &Path| {
            let found = texts.iter().find(|(other, _)| Path::new(other) == path);
            found.map(|(_, text)| text.as_bytes().to_vec())
        };
        let libraries = Libraries::new(&paths, &elves, &mut text);
        let (program, elf) = &files[0];
        let Needs { files, missing } = libraries.needs(number(program), elf);
        let shown = |number: &Number| paths.get(*number).path.display().to_string();
        (
            files.iter().map(|(number, _)| shown(number)).collect(),
            missing.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect(),
        )
    }

    #[test]
    fn libraries_of_another_machine_are_passed_over() {
        let found = needs(
            &[
                ("/bin/program", elf(X86_64, &["liba.so", "libgone.so"])),
                ("/opt/32/liba.so", elf(I386, &[])),
                ("/opt/64/liba.so", elf(X86_64, &["libb.so", "liba.so"])),
                ("/usr/lib/libb.so", elf(X86_64, &[])),
            ],
            &[
                ("/etc/ld.so.conf", "include ld.so.conf.d/*.conf\n"),
                ("/etc/ld.so.conf.d/b.conf", "/opt/64 # words\n"),
                ("/etc/ld.so.conf.d/a.conf", "/opt/32\n"),
                ("/etc/ld.so.conf.d/not", "/nowhere\n"),
            ],
        );
        assert_eq!(found.0, ["/opt/64/liba.so", "/usr/lib/libb.so"]);
        assert_eq!(found.1, ["libgone.so"]);
    }

    #[test]
    fn rpath_is_inherited_and_runpath_is_not() {
        let mut program = elf(X86_64, &["liba.so"]);
        program.rpath = Some(b"$ORIGIN/../mine:/nowhere".to_vec());
        let library = elf(X86_64, &["libb.so"]);
        let files = |program: &Elf| {
            [
                ("/opt/bin/program", program.clone()),
                ("/opt/mine/liba.so", library.clone()),
                ("/opt/mine/libb.so", elf(X86_64, &[])),
            ]
        };
        let found = needs(&files(&program), &[]);
        assert_eq!(
            found.0,
            ["/opt/bin/../mine/liba.so", "/opt/bin/../mine/libb.so"]
                .map(|path| { path.replace("/bin/..", "") })
        );
        program.runpath = program.rpath.take();
        let found = needs(&files(&program), &[]);
        assert_eq!((found.0.len(), found.1), (1, vec!["libb.so".to_owned()]));
    }

    #[test]
    fn a_loader_is_opened_first_and_once() {
        let mut program = elf(X86_64, &["ld.so.1", "libc.so"]);
        program.interpreter = Some(b"/lib/ld.so.1".to_vec());
        let mut loader = elf(X86_64, &[]);
        loader.soname = Some(b"ld.so.1".to_vec());
        let mut libc = elf(X86_64, &["ld.so.1"]);
        libc.soname = Some(b"libc.so".to_vec());
        let found = needs(
            &[("/bin/a", program), ("/lib/ld.so.1", loader), ("/lib/libc-2.so", libc)],
            &[("/etc/ld.so.conf", "/lib\n")],
        );
        assert_eq!(found.0, ["/lib/ld.so.1", "/lib/libc-2.so"], "by its soname");
    }
}
