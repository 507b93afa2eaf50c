//! The step that secures the kernel: certificates, then policies, then a summary.

mod certificates;
mod evm;
mod policies;
mod revocations;

use alloc::vec::Vec;
use core::fmt;

use ima_format::boot::{AppraiseMode, InForce, SecureBoot};
use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::fs::{self, Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::cmdline::{self, CommandLine};
use crate::console::{Console, Severity};
use crate::evm::Configuration;
use crate::file::{self, Tree};
use crate::plan::{self, Files, Origin, PolicyFile, Step};
use crate::policy::{self, Policy};
use crate::pseudo;
use crate::say;
use crate::syscall;
use crate::text::{Counted, Reason};
use certificates::Certificates;
use policies::Policies;

/// Why the kernel is not secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The kernel has no securityfs.
    NoSecurityfs(Errno),
    /// The kernel has no IMA.
    NoIma,
    /// `.ima` has no key.
    NoCertificate,
    /// The initramfs has no policy.
    NoPolicy,
    /// The policy of the initramfs could not be loaded.
    PolicyRefused,
    /// The initramfs requests EVM, but it is not in force.
    NoEvm,
    /// A revocation of the initramfs could not be loaded.
    NotRevoked,
    /// The real root, or /proc, cannot be reached.
    NoTree(Errno),
}

impl Failure {
    /// The exit code of the step.
    pub fn code(self) -> i32 {
        match self {
            Self::NoSecurityfs(_) => 1,
            Self::NoIma => 2,
            Self::NoCertificate => 3,
            Self::NoPolicy => 4,
            Self::PolicyRefused => 5,
            Self::NoTree(_) => crate::EXIT_UNABLE,
            Self::NoEvm => 7,
            Self::NotRevoked => 8,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecurityfs(errno) => {
                write!(f, "this kernel has no securityfs (CONFIG_SECURITYFS): {}", Reason(*errno))
            }
            Self::NoIma => f.write_str("this kernel has no IMA (CONFIG_IMA), or it is turned off"),
            Self::NoCertificate => f.write_str(
                ".ima has no certificate (except perhaps the kernel's own for its modules): add \
                 one that a built-in trusted key signed, as /etc/keys/x509_ima.der of the initramfs",
            ),
            Self::NoPolicy => f.write_str(
                "no policy: add one as /etc/ima/ima_policy or /etc/ima/ima_policy.default of the \
                 initramfs",
            ),
            Self::PolicyRefused => f.write_str("the kernel rejected the policy of the initramfs"),
            Self::NoEvm => f.write_str("the initramfs asks for EVM, but it is not in force"),
            Self::NotRevoked => f.write_str("the kernel rejected a revocation of the initramfs"),
            Self::NoTree(errno) => write!(f, "cannot look for files: {}", Reason(*errno)),
        }
    }
}

/// Secures the kernel with the files of the initramfs, which is `/`, and of the real root.
pub fn secure(
    console: &Console,
    proc: &OwnedFd,
    root: &[u8],
    command_line: &CommandLine,
) -> Result<(), Failure> {
    let start = syscall::monotonic_milliseconds();
    let appraise = appraise_in_force(console, proc, command_line);
    if appraise == Some(AppraiseMode::Off) {
        say!(console, Warning, "ima_appraise=off: nothing is loaded, and nothing is appraised");
        return Ok(());
    }
    let securityfs = pseudo::SECURITY.open().map_err(Failure::NoSecurityfs)?;
    // not `ima/policy`, which may be gone after the first policy
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if fs::openat(&securityfs, "ima/ascii_runtime_measurements", flags, Mode::empty()).is_err() {
        return Err(Failure::NoIma);
    }
    let initramfs = Tree::open(b"/").map_err(Failure::NoTree)?;
    let root = Tree::open(root).map_err(Failure::NoTree)?;
    let mut work = Work {
        console,
        proc,
        securityfs,
        initramfs,
        root,
        certificates: Certificates::default(),
        policies: Policies::default(),
        evm: Configuration::default(),
        evm_keys: Vec::new(),
        mode: command_line.mode,
    };
    work.read_evm_configuration()?;
    // after the files: the command line overrides them
    command_line.evm.iter().for_each(|(name, value)| work.evm.take(name, value));
    let files = work.files(Origin::Initramfs);
    // without an initramfs both are the same tree, whose files must not be loaded twice
    let root_files = (!work.root.is(&work.initramfs)).then(|| work.files(Origin::Root));
    let _hurry = pseudo::Hurry::begin();
    let evm = work.evm_wanted(&files, root_files.as_ref());
    for step in plan::plan(&files, root_files.as_ref(), command_line.root_certificates, evm) {
        work.carry_out(&step)?;
    }
    work.summary(appraise, syscall::monotonic_milliseconds().wrapping_sub(start));
    Ok(())
}

/// The appraisal mode in force; warns if the kernel ignores `ima_appraise=`. `None` if that is
/// unknown: then no step may be skipped.
fn appraise_in_force(
    console: &Console,
    proc: &OwnedFd,
    command_line: &CommandLine,
) -> Option<AppraiseMode> {
    let asked = command_line.appraise;
    if asked == AppraiseMode::Enforce {
        return Some(asked);
    }
    let environment = file::read_at(proc, b"1/environ", 1 << 20).ok();
    let name = asked.name();
    match InForce::of(asked, environment.as_deref(), secure_boot()) {
        InForce::Obeyed(appraise) => Some(appraise),
        InForce::Ignored(reason) => {
            say!(console, Warning, "ima_appraise={name} has no effect: {reason}; continuing");
            Some(AppraiseMode::Enforce)
        }
        InForce::Unknown(reason) => {
            say!(console, Warning, "ima_appraise={name} may have no effect: {reason}; continuing");
            None
        }
    }
}

/// The state of Secure Boot, from efivarfs.
fn secure_boot() -> SecureBoot {
    let efi = pseudo::SYS
        .open()
        .and_then(|sys| fs::accessat(sys, "firmware/efi", Access::EXISTS, AtFlags::empty()));
    match efi {
        Ok(()) => {}
        // no EFI; opening efivarfs would make the kernel load a module
        Err(Errno::NOENT) => return SecureBoot::Off,
        Err(_) => return SecureBoot::Unknown,
    }
    let Ok(variables) = pseudo::EFI_VARIABLES.open() else { return SecureBoot::Unknown };
    match file::read_at(variables, SecureBoot::VARIABLE.as_bytes(), 64) {
        Ok(content) => SecureBoot::of_variable(&content),
        Err(Errno::NOENT) => SecureBoot::Off,
        Err(_) => SecureBoot::Unknown,
    }
}

/// The state of the step.
struct Work<'a> {
    console: &'a Console,
    proc: &'a OwnedFd,
    securityfs: OwnedFd,
    initramfs: Tree,
    root: Tree,
    certificates: Certificates,
    policies: Policies,
    evm: Configuration,
    evm_keys: Vec<syscall::KeySerial>,
    mode: cmdline::Mode,
}

impl Work<'_> {
    fn tree(&self, origin: Origin) -> &Tree {
        match origin {
            Origin::Initramfs => &self.initramfs,
            Origin::Root => &self.root,
        }
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::LoadCertificate { keyring, origin, name } => {
                self.load_certificate(*keyring, *origin, name);
            }
            Step::Revoke { origin, name } => self.revoke(*origin, name)?,
            Step::SkipRootCertificates { count } => {
                let certificates = Counted(*count, "certificate", "certificates");
                say!(
                    self.console,
                    Notice,
                    "{certificates} of the real root not loaded (imactl.root-certificates=skip)"
                );
            }
            Step::RequireCertificate => self.require_certificate()?,
            Step::RequireEvmKey => self.require_evm_key()?,
            Step::EnableEvm => self.enable_evm()?,
            Step::LoadPolicy { name } => self.load_policy(name)?,
            Step::MissPolicy => return Err(Failure::NoPolicy),
            Step::OfferPolicy { origin, name } => self.offer_policy(*origin, name),
            Step::PassOver { origin, name } => {
                let path = self.tree(*origin).path_of(name);
                let severity = match origin {
                    Origin::Initramfs => Severity::Warning,
                    Origin::Root => Severity::Info,
                };
                let path = Printable(&path);
                self.console.say(severity, format_args!("{path} has no rules: skipped"));
            }
        }
        Ok(())
    }

    /// Lists the files of a tree; those that cannot be read are reported and skipped.
    fn files(&self, origin: Origin) -> Files {
        let list = |directory, prefix, suffix| self.list(origin, directory, prefix, suffix);
        let policies = list("etc/ima", "ima_policy", "").into_iter();
        let policies = policies.filter(|name| !name.ends_with(policy::SIGNATURE_SUFFIX));
        let policies = policies.map(|name| {
            let content = self.policy_text(origin, &name).map(|text| Policy::parse(&text));
            PolicyFile { name, content }
        });
        Files {
            policies: policies.collect(),
            secondary_certificates: list("etc/keys", "x509_secondary_", ".der"),
            ima_certificates: list("etc/keys", "x509_ima", ".der"),
            evm_certificates: self.evm_certificates(origin),
            revocations: [".der", ".entry"]
                .map(|suffix| list("etc/keys", "blacklist", suffix))
                .concat(),
        }
    }

    fn list(&self, origin: Origin, directory: &str, prefix: &str, suffix: &str) -> Vec<Vec<u8>> {
        let tree = self.tree(origin);
        tree.list(directory, prefix, suffix).unwrap_or_else(|errno| {
            let path = tree.path_of(directory.as_bytes());
            let (path, reason) = (Printable(&path), Reason(errno));
            say!(self.console, Warning, "cannot list {path}: {reason}");
            Vec::new()
        })
    }

    fn summary(&self, appraise: Option<AppraiseMode>, milliseconds: u64) {
        let mode = appraise.map_or("unknown", AppraiseMode::name);
        let in_force = policy::in_force(&self.securityfs);
        let in_force = in_force.map(|text| Policy::parse(&text).rules);
        let rules = match in_force.or(self.policies.rules) {
            Some(rules) => Counted(rules, "rule", "rules"),
            None => Counted(self.policies.loaded, "policy's rules", "policies' rules"),
        };
        let certificates = Counted(self.certificates.all, "certificate", "certificates");
        let policies = Counted(self.policies.loaded, "policy", "policies");
        say!(
            self.console,
            Notice,
            "secured in {milliseconds} ms: {certificates}, {policies}, {rules} in force, \
             appraisal mode {mode}"
        );
        if matches!(appraise, Some(AppraiseMode::Log | AppraiseMode::Fix)) {
            say!(self.console, Warning, "ima_appraise={mode}: the kernel denies no file");
        }
    }
}
