//! Predicts the decisions of a kernel with this policy and these keys on a root file system.
//!
//! Every regular file is read once: its use, the decision of the policy about each event of that use,
//! and the kernel's verdict on its attribute. Then programs are followed to the files that they need,
//! and the machine to its init.
//!
//! | module | knows | mirrors |
//! |---|---|---|
//! | `paths` | paths and symbolic links within it | `fs/namei.c` |
//! | `certificates` | which of them the kernel takes | `crypto/asymmetric_keys/restrict.c` |
//! | `purpose` | the use of a file | `fs/binfmt_script.c`, `kernel/module`, `drivers/base/firmware_loader` |
//! | `judge` | the kernel's answer to one use of one file | [`ima_format::policy::decide`] |
//! | `scan` | all of them, on all cores | |
//! | `immutable` | EVM's verdicts, and files that it makes immutable | `security/integrity/evm/evm_main.c` |
//! | `libraries` | which files the loader opens | `elf/dl-load.c` of glibc |
//! | `coverage` | which files are signed, and their packages | |
//! | `update` | updates, whose programs run on another root | `src/install.c` of RAUC, `core/installer.c` of SWUpdate |
//! | `trial` | one event on one file | [`ima_format::policy::decide`] |
//! | `start`, `services` | the files that a program needs; init, and the programs that it starts | `init/main.c`, `inittab(5)`, `systemd.unit(5)` |
//!
//! Nothing is known of: labels of security modules, file
//! systems that are mounted later, what programs open or execute in the end.

mod certificates;
mod coverage;
mod immutable;
mod judge;
mod libraries;
mod paths;
mod purpose;
mod scan;
mod services;
mod start;
mod trial;
mod update;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use ima_format::policy::ast::Policy;
use ima_format::policy::kernel::Kernel;

pub use certificates::Authorities;
pub use coverage::{coverage, Covered};

pub(crate) use immutable::verdict as evm_verdict;
pub use immutable::{Evm, Immutable};
pub use judge::{Answer, Attributes, Mount, Owners, Refusal, Unknown};
pub(crate) use judge::{Bench, Judge};
pub use purpose::Use;
pub(crate) use purpose::{of as purpose_of, Nature};
pub use start::{Attempt, AttemptEnd, Obstacle, Problem, Step, Why};
pub use trial::{Subject, Trial, TrialError};

pub use crate::container::open::{open, OpenError};
pub use crate::container::source::{Entry, EntryKind, Source, SourceError, SourceFile, Unread};
use crate::container::Progress;
use crate::modsig;
use crate::verify::Keyring;
use libraries::Libraries;
pub use libraries::{CacheFault, Cpus, UnknownCpu};
use paths::Paths;
pub use scan::CertificateFault;
use scan::Scanned;
use start::Starter;

/// The machine for which a root is judged.
#[derive(Debug)]
pub struct Options<'a> {
    /// The policy in force when init is started.
    pub policy: &'a Policy,
    /// The kernel. It enforces.
    pub kernel: &'a Kernel,
    /// The keys in its `.ima` keyring.
    pub keyring: &'a Keyring,
    /// EVM, if it is enabled.
    pub evm: Option<Evm>,
    /// The keys with which it verifies the signatures of modules; empty where they are not known.
    pub modules: &'a Keyring,
    /// Whether it insists on them.
    pub module_check: ModuleCheck,
    /// The certificates in its keyrings, by which those in the root are judged.
    pub authorities: Authorities<'a>,
    /// The file systems that the root will be on; ext4 where none covers a path.
    pub mounts: Vec<Mount>,
    /// Whose the files will be.
    pub owners: Owners,
    /// The CPUs that the root may run on. That of this machine means nothing.
    pub cpus: Cpus,
    /// The program that the machine starts first.
    pub init: Init,
    /// Worker threads.
    pub jobs: NonZeroUsize,
}

/// What becomes of a module without a good signature of its own (`module_sig_check()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleCheck {
    /// It is loaded, unless the command line or the configuration say otherwise.
    Optional,
    /// It is rejected: `set_module_sig_enforced()`.
    Enforced,
}

/// The program that the machine starts first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// One of those that the kernel tries.
    Usual,
    /// `init=` on the kernel's command line.
    At(PathBuf),
    /// Nothing: no machine has this as its root. A container, a system extension.
    Unwanted,
}

/// The prediction for a file.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// Its path as the booted machine sees it.
    pub path: PathBuf,
    /// Its use.
    pub purpose: Use,
    /// The kernel's answer to root.
    pub answer: Answer,
    /// The answer to an ordinary user, if users use the file.
    pub as_user: Option<Answer>,
    /// Another obstacle for it; none if it is denied itself.
    pub obstacle: Option<Obstacle>,
    /// A policy that the kernel does not take: the line at which it gives up, and why.
    pub policy_fault: Option<(usize, String)>,
    /// A certificate that the kernel does not take into a keyring.
    pub certificate_fault: Option<CertificateFault>,
    /// The verdict on the signature of a module, which counts where the kernel insists on it
    /// (`module.sig_enforce`, `CONFIG_MODULE_SIG_FORCE`, lockdown).
    pub module_signature: Option<modsig::Verdict>,
    /// Whether the kernel insists on it.
    pub module_check: ModuleCheck,
}

impl FileReport {
    /// Whether the kernel denies it, or something that it needs, to root or to a user; or
    /// would not take what it says.
    pub fn is_finding(&self) -> bool {
        self.answer.is_denied()
            || self.as_user.as_ref().is_some_and(Answer::is_denied)
            || self.obstacle.as_ref().is_some_and(Obstacle::is_refusal)
            || self.policy_fault.is_some()
            || self.certificate_fault.is_some()
            || self.is_rejected_module()
    }

    /// Whether it is a module that the kernel rejects for its own signature.
    pub fn is_rejected_module(&self) -> bool {
        let is_bad = |verdict: &modsig::Verdict| !verdict.is_valid();
        self.module_check == ModuleCheck::Enforced
            && self.module_signature.as_ref().is_some_and(is_bad)
    }
}

/// The prediction for a root.
#[derive(Debug)]
pub struct Report {
    /// The files that the kernel will be asked for, sorted by path.
    pub files: Vec<FileReport>,
    /// Whether it is an update, whose programs run on another root: no init is looked for.
    pub is_update: bool,
    /// How the kernel looks for an init; the last attempt is the one that counts.
    pub init: Vec<Attempt>,
    /// The programs that init starts, as far as that can be read.
    pub steps: Vec<Step>,
    /// The fault of `/etc/ld.so.cache`, if programs use it.
    pub cache: Option<CacheFault>,
    /// Files that software changes, although their EVM signature makes them immutable.
    pub immutable: Vec<Immutable>,
    /// The files that could not be read.
    pub unread: Vec<Unread>,
    /// How many regular files there are.
    pub regular: u64,
    /// How many modules are compressed.
    pub compressed_modules: u64,
    /// How many files belong to others than root.
    pub not_roots: u64,
}

impl Report {
    /// Whether the machine gets as far as an init that runs; `None` where none is wanted.
    pub fn reaches_init(&self) -> Option<bool> {
        self.init.last().map(|attempt| attempt.end == AttemptEnd::Runs)
    }

    /// Whether no file that is needed is denied, and init is reached, where one is wanted.
    pub fn is_good(&self) -> bool {
        !self.has_findings() && self.reaches_init() != Some(false)
    }

    /// Whether a file that is needed would be denied.
    fn has_findings(&self) -> bool {
        let refused = |attempt: &Attempt| match &attempt.end {
            AttemptEnd::Denied(_) => true,
            AttemptEnd::Fails(obstacle) | AttemptEnd::Dies(obstacle) => obstacle.is_refusal(),
            _ => false,
        };
        let step = |step: &Step| step.problem.as_ref().is_some_and(Problem::is_refusal);
        self.files.iter().any(FileReport::is_finding)
            || self.init.iter().any(refused)
            || self.steps.iter().any(step)
    }
}

/// Predicts the kernel's answers for a root.
pub fn preflight(root: &dyn Source, options: &Options<'_>, progress: &dyn Progress) -> Report {
    let mut entries = Vec::new();
    let mut unread = Vec::new();
    root.list(&mut |found: Result<Entry, Unread>| match found {
        Ok(entry) => entries.push(entry),
        Err(error) => unread.push(error),
    });
    // Sorted by path. From here on a file is its number in this list: all tables below use it.
    let paths = Paths::new(entries);
    let bench = Bench {
        evm: options.evm.as_ref(),
        ..Bench::new(
            options.policy,
            options.kernel,
            options.keyring,
            &options.mounts,
            options.owners,
        )
    };
    let (mut scanned, failed) =
        scan::scan(root, &paths, &bench, options.modules, options.jobs, progress);
    unread.extend(failed);
    // Each file is judged once, in `scan`. The steps below only follow edges between files (a CA to
    // its certificates, a program to its libraries, init to its services) and never ask again, so
    // that every edge to a file has the same answer.
    let mut text = |path: &std::path::Path| scan::text(root, &paths, path);
    certificates::judge(&paths, &mut scanned, options.authorities, &mut text);

    let mut elves = HashMap::new();
    for (number, scanned) in scanned.iter().enumerate() {
        if let Some(Scanned { nature: Nature::Elf(elf), .. }) = scanned {
            elves.insert(number, &**elf);
        }
    }
    let libraries = Libraries::new(&paths, &elves, &options.cpus, &mut text);
    let cache = libraries.fault().cloned();
    let starter = Starter::new(&paths, &scanned, libraries);
    let is_update = update::is_update(&paths);
    let init = match &options.init {
        _ if is_update => Vec::new(),
        Init::Usual => starter.init(None),
        Init::At(path) => starter.init(Some(path)),
        Init::Unwanted => Vec::new(),
    };
    let steps = match init.last() {
        Some(Attempt { path, file, end: AttemptEnd::Runs }) => {
            let file = file.as_ref().unwrap_or(path);
            let asked = services::started_by(file, &paths, &mut text);
            let mut steps: Vec<_> =
                asked.iter().map(|(by, program)| starter.step(by, program)).collect();
            steps.sort_by(|one, other| {
                (&one.asked_by, &one.program).cmp(&(&other.asked_by, &other.program))
            });
            steps.dedup();
            steps
        }
        _ => Vec::new(),
    };
    let files = scanned
        .iter()
        .enumerate()
        .filter_map(|(number, scanned)| {
            report(number, scanned.as_ref()?, options.module_check, &starter)
        })
        .map(|file| if is_update { update::without_needs(file) } else { file });
    let regular = |entry: &&Entry| entry.size().is_some();
    Report {
        files: files.collect(),
        is_update,
        init,
        steps,
        cache,
        immutable: options.evm.as_ref().map_or_else(Vec::new, |evm| {
            let mut verifier = evm.verifier(options.kernel.version, options.owners.one());
            immutable::find(root, &paths, &mut verifier)
        }),
        unread,
        regular: paths.entries.iter().filter(regular).count() as u64,
        compressed_modules: paths
            .entries
            .iter()
            .filter(regular)
            .filter(|entry| purpose::is_compressed_module(entry))
            .count() as u64,
        not_roots: paths.entries.iter().filter(regular).filter(|entry| entry.uid != 0).count()
            as u64,
    }
}

fn report(
    number: usize,
    scanned: &Scanned,
    module_check: ModuleCheck,
    starter: &Starter<'_>,
) -> Option<FileReport> {
    let Scanned { purpose, answer, as_user, policy_fault, certificate_fault, .. } = scanned;
    let module_signature = scanned.module_signature.clone();
    // data that no rule appraises is left out of the report: most files of a root are
    let untouched = Answer::Allowed { appraised: false };
    if *purpose == Use::Data && *answer == untouched {
        return None;
    }
    // a program that is denied itself does not get as far as its libraries
    let starts = matches!(purpose, Use::Program | Use::Script) && !answer.is_denied();
    Some(FileReport {
        path: starter.paths.get(number).path.clone(),
        purpose: *purpose,
        answer: answer.clone(),
        as_user: as_user.clone(),
        obstacle: if starts { starter.obstacle(number) } else { None },
        policy_fault: policy_fault.clone(),
        certificate_fault: certificate_fault.clone(),
        module_signature,
        module_check,
    })
}
