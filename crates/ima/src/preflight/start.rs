//! The files that a program needs besides itself, and whether the machine reaches its init.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ima_format::elf::Elf;
use ima_format::policy::ast::Func;

use super::judge::{Answer, Refusal};
use super::libraries::{Libraries, Needs};
use super::paths::Paths;
use super::purpose::{path_of, Nature, Use};
use super::scan::{in_path, Scanned};

/// An obstacle for a program that is allowed itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The file that it needs: a path, or the name of a library that was not found.
    pub what: PathBuf,
    /// The file that asks for it: the program itself, or one that it needs.
    pub needed_by: PathBuf,
    /// The problem.
    pub why: Why,
    /// The CPUs on which it stands in the way, or levels of them; empty: all.
    pub on: Vec<&'static str>,
}

/// The problem with a file that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The kernel denies it.
    Denied(Refusal),
    /// It is not in the root.
    Missing,
    /// It demands this level of x86-64 (2 to 4), and the loader ends the program on other CPUs.
    NeedsLevel(u8),
    /// A script interprets a script, and so on, deeper than the kernel goes (`ELOOP`).
    TooDeep,
}

impl Obstacle {
    /// On all CPUs.
    fn new(what: PathBuf, needed_by: PathBuf, why: Why) -> Self {
        Self { what, needed_by, why, on: Vec::new() }
    }

    /// Whether it is missing, or of no use, on some CPUs only.
    pub fn is_doubtful(&self) -> bool {
        matches!(self.why, Why::Missing | Why::NeedsLevel(_)) && !self.on.is_empty()
    }

    /// Whether it is the policy that stands in the way.
    pub fn is_refusal(&self) -> bool {
        matches!(self.why, Why::Denied(_))
    }
}

/// One program that the kernel tries to start as the first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The path that is tried.
    pub path: PathBuf,
    /// The file that it leads to, where it is another.
    pub file: Option<PathBuf>,
    /// The result.
    pub end: AttemptEnd,
}

/// The result of an [`Attempt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It runs.
    Runs,
    /// There is no such file.
    Absent,
    /// It is no program: not executable, or neither ELF nor a script.
    NoProgram,
    /// `execve` fails: the next is tried.
    Denied(Refusal),
    /// `execve` fails for something that it needs: the next is tried.
    Fails(Obstacle),
    /// It is executed and dies of this; the kernel panics.
    Dies(Obstacle),
}

/// A program that init starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Who asks for it: `/etc/inittab`, or a unit.
    pub asked_by: String,
    /// The program's path as it stands there.
    pub program: PathBuf,
    /// The problem with which it does not start.
    pub problem: Option<Problem>,
}

/// Why a program does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The kernel denies it.
    Denied(Refusal),
    /// Something that it needs.
    Needs(Obstacle),
    /// It is not there.
    Missing,
}

impl Problem {
    /// Whether it is the policy that stands in the way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Denied(_) => true,
            Self::Needs(obstacle) => obstacle.is_refusal(),
            Self::Missing => false,
        }
    }
}

/// Scripts whose interpreters are scripts, up to so many (`exec_binprm`).
const MOST_INTERPRETERS: u32 = 5;

/// How far a script is followed.
#[derive(Clone, Copy)]
struct Depth {
    /// By the kernel, which counts interpreters.
    interpreters: u32,
    /// By `env`, which starts another program, and may go on for ever.
    starts: u32,
}

impl Depth {
    const FIRST: Self = Self { interpreters: MOST_INTERPRETERS, starts: 8 };
}

/// Answers about programs and the files that they need.
pub(super) struct Starter<'a> {
    pub(super) paths: &'a Paths,
    scanned: &'a [Option<Scanned>],
    libraries: Libraries<'a>,
    known: RefCell<HashMap<usize, Option<Obstacle>>>,
}

impl<'a> Starter<'a> {
    pub(super) fn new(
        paths: &'a Paths,
        scanned: &'a [Option<Scanned>],
        libraries: Libraries<'a>,
    ) -> Self {
        Self { paths, scanned, libraries, known: RefCell::default() }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.paths.get(number).path.clone()
    }

    fn scanned(&self, number: usize) -> Option<&'a Scanned> {
        self.scanned.get(number)?.as_ref()
    }

    /// The obstacle for a program, other than the program itself: denied files come before missing ones.
    pub(super) fn obstacle(&self, number: usize) -> Option<Obstacle> {
        if let Some(known) = self.known.borrow().get(&number) {
            return known.clone();
        }
        let found = self.obstacle_within(number, Depth::FIRST);
        self.known.borrow_mut().insert(number, found.clone());
        found
    }

    fn obstacle_within(&self, number: usize, depth: Depth) -> Option<Obstacle> {
        match &self.scanned(number)?.nature {
            Nature::Elf(_) => self.of_program(number),
            Nature::Script(_) => self.of_script(number, depth),
            Nature::Other => None,
        }
    }

    /// The obstacle for a program on some CPUs, or on all.
    fn of_program(&self, number: usize) -> Option<Obstacle> {
        let Nature::Elf(elf) = &self.scanned(number)?.nature else { return None };
        let groups = self.libraries.groups(elf.machine);
        let needs: Vec<_> =
            groups.iter().map(|group| self.libraries.needs(number, elf, group)).collect();
        let first = |check: &dyn Fn(&Needs) -> Option<Obstacle>| {
            let found: Vec<_> = needs.iter().map(check).collect();
            let is_found = |group: usize| matches!(found.get(group), Some(Some(_)));
            let on = Libraries::names(&groups, is_found, elf.machine);
            found.into_iter().flatten().next().map(|obstacle| Obstacle { on, ..obstacle })
        };
        first(&|needs| self.refused(number, elf, needs))
            .or_else(|| first(&|needs| self.missing(needs)))
            .or_else(|| first(&|needs| self.demanding(number, needs)))
    }

    fn refused(&self, number: usize, elf: &Elf, needs: &Needs) -> Option<Obstacle> {
        needs.files.iter().enumerate().find_map(|(order, (file, by))| {
            let scanned = self.scanned(*file)?;
            let is_loader = elf.interpreter.is_some() && order == 0 && *by == number;
            let answer = if is_loader { &scanned.loaded } else { &scanned.mapped };
            let Some(Answer::Denied(refusal)) = answer else { return None };
            let why = Why::Denied(refusal.clone());
            Some(Obstacle::new(self.path(*file), self.path(*by), why))
        })
    }

    fn missing(&self, needs: &Needs) -> Option<Obstacle> {
        let (name, by) = needs.missing.first()?;
        Some(Obstacle::new(path_of(name), self.path(*by), Why::Missing))
    }

    fn demanding(&self, program: usize, needs: &Needs) -> Option<Obstacle> {
        let (file, level) = needs.demanding.first()?;
        let by = needs.files.iter().find(|(needed, _)| needed == file).map(|(_, by)| *by);
        let by = self.path(by.unwrap_or(program));
        Some(Obstacle::new(self.path(*file), by, Why::NeedsLevel(*level)))
    }

    fn of_script(&self, number: usize, depth: Depth) -> Option<Obstacle> {
        let Nature::Script(shebang) = &self.scanned(number)?.nature else { return None };
        let needed_by = || self.path(number);
        let Some(interpreters) = depth.interpreters.checked_sub(1) else {
            let what = shebang.interpreter.clone();
            return Some(Obstacle::new(what, needed_by(), Why::TooDeep));
        };
        let interpreter = self.paths.file(&shebang.interpreter);
        let inner = Depth { interpreters, ..depth };
        let mut needed = vec![(shebang.interpreter.clone(), interpreter, Some(inner))];
        if let Some(name) = &shebang.by_env {
            let started = depth.starts.checked_sub(1);
            let inner = started.map(|starts| Depth { starts, ..Depth::FIRST });
            needed.push((path_of(name), in_path(self.paths, name), inner));
        }
        needed.into_iter().find_map(|(what, file, inner)| {
            let Some(file) = file else {
                return Some(Obstacle::new(what, needed_by(), Why::Missing));
            };
            match &self.scanned(file)?.answer {
                Answer::Denied(refusal) => {
                    let why = Why::Denied(refusal.clone());
                    Some(Obstacle::new(self.path(file), needed_by(), why))
                }
                // that of a program does not depend on its parent
                _ if matches!(self.scanned(file)?.nature, Nature::Elf(_)) => self.obstacle(file),
                _ => self.obstacle_within(file, inner?),
            }
        })
    }

    /// The attempts of the kernel to start an init (`kernel_init` in `init/main.c`).
    pub(super) fn init(&self, asked_for: Option<&Path>) -> Vec<Attempt> {
        const TRIED: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];
        let tried = match asked_for {
            Some(path) => vec![path],
            None => TRIED.map(Path::new).to_vec(),
        };
        let mut attempts = Vec::new();
        for path in tried {
            let number = self.paths.file(path);
            let file = number.map(|number| self.path(number)).filter(|file| file != path);
            let end = number.map_or(AttemptEnd::Absent, |number| self.attempt(number));
            let last = matches!(end, AttemptEnd::Runs | AttemptEnd::Dies(_));
            attempts.push(Attempt { path: path.to_owned(), file, end });
            if last {
                break;
            }
        }
        attempts
    }

    fn attempt(&self, number: usize) -> AttemptEnd {
        let Some(scanned) = self.scanned(number) else { return AttemptEnd::NoProgram };
        let entry = self.paths.get(number);
        if !entry.is_executable() || scanned.nature == Nature::Other {
            return AttemptEnd::NoProgram;
        }
        if let Answer::Denied(refusal) = &scanned.answer {
            if is_too_late(refusal.func) {
                let (what, why) = (entry.path.clone(), Why::Denied(refusal.clone()));
                return AttemptEnd::Dies(Obstacle::new(what.clone(), what, why));
            }
            return AttemptEnd::Denied(refusal.clone());
        }
        match self.obstacle(number) {
            None => AttemptEnd::Runs,
            Some(obstacle) if self.stops_execve(number, &obstacle) => AttemptEnd::Fails(obstacle),
            Some(obstacle) => AttemptEnd::Dies(obstacle),
        }
    }

    /// Whether an obstacle makes `execve` fail, so that the caller continues; later errors kill the
    /// process.
    fn stops_execve(&self, number: usize, obstacle: &Obstacle) -> bool {
        if obstacle.why == Why::TooDeep {
            return true;
        }
        let opened_by_kernel = match self.scanned(number).map(|scanned| &scanned.nature) {
            Some(Nature::Elf(elf)) => {
                let loader = elf.interpreter.as_deref().map(path_of);
                let file = loader.as_ref().and_then(|loader| self.paths.file(loader));
                let loader_file = file.map(|file| self.path(file));
                Some(&obstacle.what) == loader.as_ref()
                    || Some(&obstacle.what) == loader_file.as_ref()
            }
            Some(Nature::Script(_)) => obstacle.needed_by == self.path(number),
            _ => false,
        };
        opened_by_kernel
            && match &obstacle.why {
                Why::Missing | Why::NeedsLevel(_) | Why::TooDeep => true,
                Why::Denied(refusal) => !is_too_late(refusal.func),
            }
    }

    /// A program that init starts.
    pub(super) fn step(&self, asked_by: &str, program: &[u8]) -> Step {
        let file = in_path(self.paths, program);
        let scanned = file.and_then(|file| self.scanned(file));
        let problem = match (file, scanned) {
            (Some(file), Some(scanned)) => match &scanned.answer {
                Answer::Denied(refusal) => Some(Problem::Denied(refusal.clone())),
                _ if scanned.purpose == Use::Data => None,
                _ => self.obstacle(file).map(Problem::Needs),
            },
            _ => Some(Problem::Missing),
        };
        Step { asked_by: asked_by.to_owned(), program: path_of(program), problem }
    }
}

/// Hooks behind the point of no return of `execve`.
fn is_too_late(func: Func) -> bool {
    matches!(func, Func::MmapCheck | Func::MmapCheckReqprot)
}
