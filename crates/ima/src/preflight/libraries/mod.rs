//! Which files the dynamic loader opens for a program: `elf/dl-load.c` of glibc, and musl's
//! `ldso/dynlink.c` where its loader is asked for.
//!
//! | where glibc looks | |
//! |---|---|
//! | a name with a `/` | is a path |
//! | `DT_RPATH` of the object and of those that loaded it | where the object has no `DT_RUNPATH` |
//! | `DT_RUNPATH` of the object | |
//! | `/etc/ld.so.cache` | `/etc/ld.so.conf` is read by `ldconfig`, which makes it, and not by the loader |
//! | `/lib64 /usr/lib64 /lib /usr/lib`, those of Debian's multiarch, the loader's own directory | compiled into the loader; not with `DF_1_NODEFLIB` |
//!
//! In each directory some subdirectories are searched before it, those of `glibc-hwcaps` from
//! glibc 2.33 on, up to the level of the CPU, and up to 2.36 those named after capabilities and
//! platforms (`tls/haswell/x86_64`). The CPU of the machine that asks means nothing: each CPU that
//! the root may run on is followed for itself, unless no library depends on it. A file for another
//! machine, word size or byte order is skipped.
//!
//! musl looks into the search paths of the object and of those that loaded it, whichever of the
//! two they are, then into those of `/etc/ld-musl-ARCH.path`; a handful of names mean the loader
//! itself.
//!
//! A program or a library for x86-64 may demand a level of the CPU, `GNU_PROPERTY_X86_ISA_1_NEEDED`;
//! glibc 2.33 and later end the program on others (`dl_isa_level_check`).
//!
//! Not modelled: `LD_LIBRARY_PATH`, `LD_PRELOAD` and `GLIBC_TUNABLES` in an environment, `dlopen`.

mod cpu;
mod machine;
mod places;
mod search_path;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ima_format::elf::{Elf, Machine};

use super::paths::Paths;
use super::purpose::path_of;
use crate::container::source::{Entry, EntryKind};
use cpu::Cpu;
pub use cpu::{Cpus, UnknownCpu};
pub use places::CacheFault;
use places::{For, Names, Subdirectories, Text};
use search_path::{asks_for_platform, Tokens};

/// A file of [`Paths`].
type Number = usize;

/// Looks libraries up in one root.
pub(super) struct Libraries<'a> {
    paths: &'a Paths,
    elves: &'a HashMap<Number, &'a Elf>,
    cache: Option<Names>,
    fault: Option<CacheFault>,
    musl: HashMap<Vec<u8>, Vec<PathBuf>>,
    cpus: &'a Cpus,
    depends: Depends,
    subdirectories: HashMap<Number, Subdirectories>,
    found: RefCell<HashMap<Wanted, Option<Number>>>,
}

/// A name looked for in the directories that all programs have in common.
type Wanted = (Vec<u8>, Machine, &'static Cpu, Subdirectories, Option<PathBuf>, bool);

/// How libraries depend on the CPU.
#[derive(Debug, Clone, Copy, Default)]
struct Depends {
    /// There are libraries in `glibc-hwcaps`.
    levels: bool,
    /// There are libraries in legacy directories.
    legacy: bool,
    /// A search path holds `$PLATFORM`.
    platform: bool,
    /// A file demands a level of the CPU.
    demands: bool,
}

impl Depends {
    fn of(paths: &Paths, elves: &HashMap<Number, &Elf>) -> Self {
        let names = cpu::legacy_names();
        let directory = |entry: &&Entry| !matches!(entry.kind, EntryKind::File { .. });
        let is_level =
            |entry: &Entry| entry.path.parent().is_some_and(|parent| parent.ends_with(HWCAPS));
        let is_legacy =
            |entry: &Entry| std::str::from_utf8(entry.name()).is_ok_and(|it| names.contains(it));
        let searched = |elf: &&Elf| {
            let mut paths = elf.rpath.iter().chain(&elf.runpath).chain(&elf.needed);
            paths.any(|path| asks_for_platform(path))
        };
        Self {
            levels: paths.entries.iter().filter(directory).any(is_level),
            legacy: paths.entries.iter().filter(directory).any(is_legacy),
            platform: elves.values().any(searched),
            demands: elves.values().any(|elf| elf.x86_64_level > 0),
        }
    }
}

/// CPUs on which programs find the same libraries, the first one for all.
pub(super) struct Group {
    first: &'static Cpu,
    all: Vec<&'static Cpu>,
}

/// The result of starting a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The loader and libraries, in the order in which they are opened, and for what.
    pub(super) files: Vec<(Number, Number)>,
    /// Names that lead nowhere, and which file needs them.
    pub(super) missing: Vec<(Vec<u8>, Number)>,
    /// Files that demand a level of x86-64 which the CPU does not have, and the level.
    pub(super) demanding: Vec<(Number, u8)>,
}

const DEFAULT_DIRECTORIES: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Whose loader it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Glibc,
    Musl,
}

/// A program's loader, on one CPU.
#[derive(Debug)]
struct Loader {
    flavour: Flavour,
    cpu: &'static Cpu,
    subdirectories: Subdirectories,
    /// The names of the CPU's legacy directories, the outermost one first.
    legacy: Vec<&'static str>,
    /// musl's directories.
    listed: Vec<PathBuf>,
    /// Where it is, links followed.
    directory: Option<PathBuf>,
    /// Debian's directory of libraries, where its C library is.
    library: Option<PathBuf>,
}

impl<'a> Libraries<'a> {
    pub(super) fn new(
        paths: &'a Paths,
        elves: &'a HashMap<Number, &'a Elf>,
        cpus: &'a Cpus,
        text: &mut Text<'_>,
    ) -> Self {
        let (cache, malformed) = places::cache(text);
        let by_glibc = |elf: &&Elf| {
            elf.interpreter.as_deref().is_some_and(|path| musl_machine(path).is_none())
        };
        let fault = match elves.values().copied().any(|elf| by_glibc(&elf)) {
            true => malformed.or_else(|| places::compare(paths, elves, cache.as_ref(), text)),
            false => None,
        };
        let musl = places::musl(paths, text);
        let mut depends = Depends::of(paths, elves);
        let subdirectories = match depends.levels || depends.legacy {
            true => places::subdirectories(paths, elves, text),
            false => HashMap::new(),
        };
        depends.legacy &= subdirectories.values().any(|it| *it != Subdirectories::Levels);
        let found = RefCell::default();
        Self { paths, elves, cache, fault, musl, cpus, depends, subdirectories, found }
    }

    /// The fault of the cache, if a program's loader reads it.
    pub(super) fn fault(&self) -> Option<&CacheFault> {
        self.fault.as_ref()
    }

    /// The CPUs that the root may run on, those for which a program finds the same libraries
    /// together.
    pub(super) fn groups(&self, machine: Machine) -> Vec<Group> {
        let Depends { levels, legacy, platform, demands } = self.depends;
        let same = |one: &Cpu, other: &Cpu| {
            (!(levels || demands) || one.level == other.level)
                && (!legacy || one.capabilities == other.capabilities)
                && (!(legacy || platform) || one.platform == other.platform)
        };
        let mut groups: Vec<Group> = Vec::new();
        for cpu in self.cpus.of(machine) {
            match groups.iter_mut().find(|group| same(group.first, cpu)) {
                Some(group) => group.all.push(cpu),
                None => groups.push(Group { first: cpu, all: vec![cpu] }),
            }
        }
        groups
    }

    /// The names of the CPUs of those groups to which something applies; none for all CPUs.
    pub(super) fn names(
        groups: &[Group],
        applies: impl Fn(usize) -> bool,
        machine: Machine,
    ) -> Vec<&'static str> {
        let numbered = || groups.iter().enumerate();
        if numbered().all(|(number, _)| applies(number)) {
            return Vec::new();
        }
        let some = numbered().filter(|(number, _)| applies(*number));
        let some: Vec<_> = some.flat_map(|(_, group)| group.all.iter().copied()).collect();
        cpu::names(&some, machine)
    }

    /// The files that are opened when a program starts on CPUs of a group.
    pub(super) fn needs(&self, program: Number, elf: &Elf, group: &Group) -> Needs {
        let mut needs = Needs::default();
        let mut loader = Loader {
            flavour: Flavour::Glibc,
            cpu: group.first,
            subdirectories: Subdirectories::Levels,
            legacy: group.first.legacy(elf.machine),
            listed: Vec::new(),
            directory: None,
            library: self.multiarch(elf.machine),
        };
        let mut soname = None;
        if let Some(interpreter) = &elf.interpreter {
            if let Some(machine) = musl_machine(interpreter) {
                loader.flavour = Flavour::Musl;
                let listed = self.musl.get(machine).cloned();
                loader.listed = listed.unwrap_or_else(places::musl_directories);
            }
            match self.paths.file(&path_of(interpreter)) {
                Some(number) => {
                    needs.files.push((number, program));
                    if let Some(subdirectories) = self.subdirectories.get(&number) {
                        loader.subdirectories = *subdirectories;
                    }
                    loader.directory = self.paths.get(number).path.parent().map(Path::to_owned);
                    soname = self.elves.get(&number).and_then(|elf| elf.soname.clone());
                }
                None => needs.missing.push((interpreter.clone(), program)),
            }
        }
        self.load(program, elf, &loader, soname, &mut needs);
        let checks = elf.interpreter.is_some()
            && loader.flavour == Flavour::Glibc
            && loader.subdirectories != Subdirectories::Legacy;
        if checks {
            let all = std::iter::once(program).chain(needs.files.iter().map(|(file, _)| *file));
            let demanded = all.filter_map(|file| Some((file, self.elves.get(&file)?.x86_64_level)));
            // a level is 2 to 4, and the CPU's is counted from 0
            let beyond = demanded.filter(|(_, level)| usize::from(*level) > loader.cpu.level + 1);
            needs.demanding = beyond.collect();
        }
        needs
    }

    /// Breadth first, each name once, as the loader goes.
    fn load(
        &self,
        program: Number,
        elf: &Elf,
        loader: &Loader,
        soname: Option<Vec<u8>>,
        needs: &mut Needs,
    ) {
        let mut loaded: HashSet<Vec<u8>> = soname.into_iter().collect();
        // objects, and the search paths of those that loaded them
        let mut waiting = vec![(program, elf, Vec::<PathBuf>::new())];
        let mut next = 0;
        while let Some((object, elf, inherited)) = waiting.get(next).cloned() {
            next += 1;
            let origin = self.paths.get(object).path.parent().unwrap_or(Path::new("/"));
            let tokens = Tokens::new(origin, elf.machine, loader);
            let mut rpath = inherited;
            let own = match (loader.flavour, &elf.runpath) {
                (Flavour::Glibc, Some(_)) => None,
                (Flavour::Musl, Some(path)) => Some(path),
                (_, None) => elf.rpath.as_ref(),
            };
            rpath.splice(0..0, tokens.directories(own.map(Vec::as_slice)));
            for name in &elf.needed {
                let is_loader = loader.flavour == Flavour::Musl && is_musl_itself(name);
                if is_loader || !loaded.insert(name.clone()) {
                    continue;
                }
                let wanted = Search { elf, tokens: &tokens, rpath: &rpath, loader };
                let Some(number) = self.find(name, &wanted) else {
                    needs.missing.push((name.clone(), object));
                    continue;
                };
                if needs.files.iter().any(|(other, _)| *other == number) {
                    continue;
                }
                needs.files.push((number, object));
                if let Some(library) = self.elves.get(&number) {
                    if loader.flavour == Flavour::Glibc {
                        loaded.extend(library.soname.clone());
                    }
                    waiting.push((number, library, rpath.clone()));
                }
            }
        }
    }

    fn find(&self, name: &[u8], search: &Search<'_>) -> Option<Number> {
        if name.contains(&b'/') {
            let path = search.tokens.expand(name)?;
            return self.fitting(&path, search.elf.machine);
        }
        let in_own = |directory: &PathBuf| self.in_directory(directory, name, search);
        let found = match (search.loader.flavour, &search.elf.runpath) {
            (Flavour::Glibc, Some(runpath)) => {
                search.tokens.directories(Some(runpath)).iter().find_map(in_own)
            }
            _ => search.rpath.iter().find_map(in_own),
        };
        found.or_else(|| self.find_in_common(name, search))
    }

    /// In the directories that do not depend on the object.
    fn find_in_common(&self, name: &[u8], search: &Search<'_>) -> Option<Number> {
        let (machine, beside) = (search.elf.machine, &search.loader.directory);
        let in_directory = |directory: &PathBuf| self.in_directory(directory, name, search);
        if search.loader.flavour == Flavour::Musl {
            return search.loader.listed.iter().find_map(in_directory);
        }
        let defaults = !search.elf.no_default_directories;
        let Loader { cpu, subdirectories, .. } = *search.loader;
        let wanted = (name.to_vec(), machine, cpu, subdirectories, beside.clone(), defaults);
        if let Some(found) = self.found.borrow().get(&wanted) {
            return *found;
        }
        let mut standard = standard_directories(machine);
        standard.extend(beside.clone());
        let cached = self.in_cache(name, search);
        // the cache knows the default directories, too
        let cached = cached.filter(|path| {
            defaults || path.parent().map_or(true, |it| standard.iter().all(|other| other != it))
        });
        let found = cached.and_then(|path| self.fitting(path, machine)).or_else(|| {
            if defaults {
                standard.iter().find_map(in_directory)
            } else {
                None
            }
        });
        self.found.borrow_mut().insert(wanted, found);
        found
    }

    /// The one file that the cache gives for a name: that for the best of the levels that the
    /// CPU has, or the first of the others that it takes.
    fn in_cache(&self, name: &[u8], search: &Search<'_>) -> Option<&Path> {
        let machine = search.elf.machine;
        let flags = machine::cache_flags(machine);
        let fits = |cached: &&places::Cached| match flags {
            [] => self.fitting(&cached.path, machine).is_some(),
            flags => flags.contains(&cached.flags),
        };
        let Loader { cpu, subdirectories, .. } = search.loader;
        let cached = self.cache.as_ref()?.get(name)?;
        let of_level = |level: &str| {
            let is_it = |cached: &&places::Cached| match &cached.variant {
                For::Level(name) => name == level.as_bytes(),
                _ => false,
            };
            cached.iter().filter(fits).find(is_it)
        };
        let takes = |cached: &&places::Cached| match cached.variant {
            For::All => true,
            For::Level(_) => false,
            For::Capabilities(all) => *subdirectories != Subdirectories::Levels && cpu.has(all),
        };
        let found = search.levels().find_map(of_level);
        found.or_else(|| cached.iter().filter(fits).find(takes)).map(|cached| &*cached.path)
    }

    /// In one directory, after those below it that glibc searches first.
    fn in_directory(&self, directory: &Path, name: &[u8], search: &Search<'_>) -> Option<Number> {
        let (name, machine) = (path_of(name), search.elf.machine);
        let below = directory.join(HWCAPS);
        let by_level = || {
            search.levels().find_map(|level| self.fitting(&below.join(level).join(&name), machine))
        };
        let found = if self.depends.levels { by_level() } else { None };
        let legacy = match self.depends.legacy {
            true => search.legacy(),
            false => &[],
        };
        found.or_else(|| self.in_legacy(directory, legacy, &name, machine))
    }

    /// With and without each of the legacy directories below another (`_dl_important_hwcaps`).
    fn in_legacy(
        &self,
        directory: &Path,
        legacy: &[&str],
        name: &Path,
        machine: Machine,
    ) -> Option<Number> {
        let Some((first, rest)) = legacy.split_first() else {
            return self.fitting(&directory.join(name), machine);
        };
        let below = directory.join(first);
        let found =
            self.paths.resolve(&below).and_then(|_| self.in_legacy(&below, rest, name, machine));
        found.or_else(|| self.in_legacy(directory, rest, name, machine))
    }

    fn multiarch(&self, machine: Machine) -> Option<PathBuf> {
        let triplet = machine::multiarch(machine)?;
        let directories = ["/lib", "/usr/lib"].map(|it| Path::new(it).join(triplet));
        directories.into_iter().find(|it| self.paths.file(&it.join("libc.so.6")).is_some())
    }

    /// The file that a path leads to, if it is a library for this machine.
    fn fitting(&self, path: &Path, machine: Machine) -> Option<Number> {
        let number = self.paths.file(path)?;
        // a file that is not ELF is an error of the loader, but is found anyway
        self.elves.get(&number).map_or(true, |elf| elf.machine == machine).then_some(number)
    }
}

const HWCAPS: &str = "glibc-hwcaps";

/// What is compiled into glibc's loader, of whatever distribution: what is not there does no
/// harm.
fn standard_directories(machine: Machine) -> Vec<PathBuf> {
    let multiarch = machine::multiarch(machine).into_iter().flat_map(|triplet| {
        ["/lib", "/usr/lib"].map(|directory| Path::new(directory).join(triplet))
    });
    multiarch.chain(DEFAULT_DIRECTORIES.iter().map(PathBuf::from)).collect()
}

struct Search<'a> {
    elf: &'a Elf,
    tokens: &'a Tokens<'a>,
    rpath: &'a [PathBuf],
    loader: &'a Loader,
}

impl Search<'_> {
    /// The directories of `glibc-hwcaps` that the CPU has, the best one first.
    fn levels(&self) -> impl Iterator<Item = &'static str> {
        let Loader { flavour, cpu, subdirectories, .. } = self.loader;
        let levels = match (flavour, subdirectories) {
            (Flavour::Glibc, Subdirectories::Both | Subdirectories::Levels) => {
                cpu::levels(self.elf.machine)
            }
            _ => &[],
        };
        levels.iter().take(cpu.level).rev().copied()
    }

    /// The names of the CPU's legacy directories, the outermost one first.
    fn legacy(&self) -> &[&'static str] {
        match (self.loader.flavour, self.loader.subdirectories) {
            (Flavour::Glibc, Subdirectories::Legacy | Subdirectories::Both) => &self.loader.legacy,
            _ => &[],
        }
    }
}

/// The machine in the name of musl's loader, `/lib/ld-musl-ARCH.so.1`.
fn musl_machine(interpreter: &[u8]) -> Option<&[u8]> {
    let name = interpreter.rsplit(|byte| *byte == b'/').next()?;
    name.strip_prefix(b"ld-musl-")?.strip_suffix(b".so.1")
}

/// Names that mean musl's loader, which holds all of the C library (`load_library`).
fn is_musl_itself(name: &[u8]) -> bool {
    let names: [&[u8]; 7] = [b"c.", b"pthread.", b"rt.", b"m.", b"dl.", b"util.", b"xnet."];
    let rest = name.strip_prefix(b"lib");
    rest.is_some_and(|rest| names.iter().any(|name| rest.starts_with(name)))
}

#[cfg(test)]
mod tests;
