//! Every file looked at once, by all workers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use ima_format::policy::decide::{Credentials, Operation};
use ima_format::policy::kernel::InForce;
use ima_format::policy::{read, Diagnostic, Kernel, Loading};

use super::judge::{appended_verdict, Answer, Bench, Judge};
use super::paths::Paths;
use super::purpose::{self, Nature, Use};
use crate::container::source::{whole, Entry, Source, SourceError, Unread};
use crate::container::{pool, Progress};
use crate::digest::FileHasher;
use crate::key::acceptance::{Keyring, Refusal};
use crate::modsig::Verdict;
use crate::verify;

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Scanned {
    pub(super) nature: Nature,
    pub(super) purpose: Use,
    /// The kernel's answer to that use, to root.
    pub(super) answer: Answer,
    /// The same to an ordinary user, where users have it done.
    pub(super) as_user: Option<Answer>,
    /// Mapped as a shared library.
    pub(super) mapped: Option<Answer>,
    /// Started as a program's loader.
    pub(super) loaded: Option<Answer>,
    /// The line at which the kernel would give up on this policy, and why.
    pub(super) policy_fault: Option<(usize, String)>,
    /// Why the kernel does not take this certificate.
    pub(super) certificate_fault: Option<CertificateFault>,
    /// The signature of a module, where the keys are known.
    pub(super) module_signature: Option<Verdict>,
}

/// Why the kernel does not accept a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFault {
    /// The keyring that it is for, where its name says so.
    pub keyring: Option<Keyring>,
    /// Why.
    pub refusal: Refusal,
}

/// An ordinary user.
pub(super) const USER: u32 = 1000;

/// Reads all regular files; `None` in the place of other entries and of files that could not be read.
pub(super) fn scan(
    root: &dyn Source,
    paths: &Paths,
    bench: &Bench<'_>,
    modules: &verify::Keyring,
    jobs: NonZeroUsize,
    progress: &dyn Progress,
) -> (Vec<Option<Scanned>>, Vec<Unread>) {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    let mut work = Vec::new();
    let mut links = Vec::new();
    for (number, entry) in paths.entries.iter().enumerate() {
        let Some(size) = entry.size() else { continue };
        match first.get(&entry.identity) {
            Some(other) => links.push((number, *other)),
            None => {
                first.insert(entry.identity, number);
                progress.found(size);
                work.push(number);
            }
        }
    }
    let scanner = Scanner { root, bench, modules, progress, data: reads_appraised(bench) };
    let (mut scanned, mut unread) = (vec![None; paths.entries.len()], Vec::new());
    let produce = |queue: &mut dyn FnMut(usize, u64)| {
        for number in work {
            queue(number, paths.get(number).size().unwrap_or_default());
        }
    };
    let start = || {
        let mut judge = Judge::new(bench);
        let scanner = &scanner;
        move |number| {
            let entry = paths.get(number);
            let looked = scanner.look(entry, &mut judge);
            progress.finished(entry.size().unwrap_or_default());
            (number, looked)
        }
    };
    let mut keep = |(number, looked): (usize, Result<Scanned, SourceError>)| {
        match looked {
            Ok(found) => scanned[number] = Some(found),
            Err(error) => unread.push(Unread { path: paths.get(number).path.clone(), error }),
        }
        Ok::<(), Infallible>(())
    };
    let workers = pool::Workers { jobs, batch: pool::FILES };
    if let Err(never) = pool::run(workers, &AtomicBool::new(false), produce, start, &mut keep) {
        match never {}
    }
    // further names of the same files
    let mut judge = Judge::new(bench);
    for (number, other) in links {
        let entry = paths.get(number);
        let known = scanned[other].clone();
        let same = known.filter(|known| purpose::of(entry, &known.nature) == known.purpose);
        match same.map_or_else(|| scanner.look(entry, &mut judge), Ok) {
            Ok(found) => scanned[number] = Some(found),
            Err(error) => unread.push(Unread { path: entry.path.clone(), error }),
        }
    }
    unread.sort_by(|one, other| one.path.cmp(&other.path));
    (scanned, unread)
}

/// Whether files that root only reads are appraised by any rule.
fn reads_appraised(bench: &Bench<'_>) -> bool {
    use ima_format::policy::ast::{Action, Func};
    let appraises = |func: Option<Func>| func.map_or(true, |func| func == Func::FileCheck);
    bench.decider.rules().iter().any(|rule| rule.action == Action::Appraise && appraises(rule.func))
}

struct Scanner<'a> {
    root: &'a dyn Source,
    bench: &'a Bench<'a>,
    /// The keys of modules.
    modules: &'a verify::Keyring,
    progress: &'a dyn Progress,
    /// Whether files that are only read are of interest.
    data: bool,
}

impl Scanner<'_> {
    fn look(&self, entry: &Entry, judge: &mut Judge<'_>) -> Result<Scanned, SourceError> {
        let size = entry.size().unwrap_or_default();
        let content = self.root.open(entry)?;
        let nature = Nature::of(&*content)?;
        let purpose = purpose::of(entry, &nature);
        let mut scanned = Scanned {
            nature,
            purpose,
            answer: Answer::Allowed { appraised: false },
            as_user: None,
            mapped: None,
            loaded: None,
            policy_fault: None,
            certificate_fault: None,
            module_signature: None,
        };
        if purpose == Use::Module && !self.modules.is_empty() {
            let mut hasher = FileHasher::default();
            let keys = (self.modules, self.bench.decider.kernel().version);
            let (verdict, _) = appended_verdict(&*content, size, keys, &mut hasher)?;
            scanned.module_signature = Some(verdict);
        }
        if purpose == Use::Data && !self.data {
            return Ok(scanned);
        }
        let progress = |bytes| self.progress.read(bytes);
        let mut case = judge.open(entry, size, &*content, &progress)?;
        let mut ask = |operation, caller| case.answer(operation, caller);
        let operation = purpose.operation();
        scanned.answer = ask(operation, Credentials::ROOT)?;
        if matches!(purpose, Use::Program | Use::Script | Use::Library) {
            scanned.as_user = Some(ask(operation, Credentials::user(USER, USER))?);
        }
        if matches!(scanned.nature, Nature::Elf(_)) {
            scanned.mapped = Some(ask(Operation::MapExecutable, Credentials::ROOT)?);
            scanned.loaded = Some(ask(Operation::LoadProgram, Credentials::ROOT)?);
        }
        if purpose == Use::Policy {
            const MOST: usize = 1 << 20;
            let text = whole(&*content, MOST)?.unwrap_or_default();
            scanned.policy_fault = policy_fault(&text, self.bench.decider.kernel());
        }
        Ok(scanned)
    }
}

/// Where a kernel that has a policy in force gives up on a further one.
fn policy_fault(text: &[u8], kernel: &Kernel) -> Option<(usize, String)> {
    let kernel = Kernel { in_force: InForce::Custom, ..kernel.clone() };
    let reading = read(text, &kernel, Loading::File);
    let refusal = reading.refusals.first()?;
    Some((refusal.line, Diagnostic::of_refusal(refusal, text).message))
}

/// The content of a small file of the root.
pub(super) fn text(root: &dyn Source, paths: &Paths, path: &std::path::Path) -> Option<Vec<u8>> {
    // ld.so.cache has some 100 bytes for each library
    const MOST: usize = 16 << 20;
    let number = paths.file(path)?;
    let content = root.open(paths.get(number)).ok()?;
    whole(&*content, MOST).ok().flatten()
}

/// Which path a name leads to where `PATH` is searched.
pub(super) fn in_path(paths: &Paths, name: &[u8]) -> Option<usize> {
    let name = purpose::path_of(name);
    if name.is_absolute() {
        return paths.file(&name);
    }
    purpose::PATH.iter().find_map(|directory| {
        let number = paths.file(&PathBuf::from(directory).join(&name))?;
        paths.get(number).is_executable().then_some(number)
    })
}
