//! The step that secures the kernel: certificates, then policies, then a summary.

use alloc::vec::Vec;
use core::fmt;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{self, Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::certificate::Certificate;
use crate::cmdline::{self, Appraise, CommandLine, SecureBoot};
use crate::console::Console;
use crate::file::{self, Tree};
use crate::keyring::{self, Keyring};
use crate::plan::{self, Files, Origin, PolicyFile, Step};
use crate::policy::{self, Policy, Refusal};
use crate::pseudo;
use crate::say;
use crate::syscall;
use crate::text::{Printable, Reason};

/// Why the kernel is not secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The kernel has no securityfs.
    NoSecurityfs(Errno),
    /// The kernel has no IMA.
    NoIma,
    /// `.ima` holds no key.
    NoCertificate,
    /// The initramfs has no policy.
    NoPolicy,
    /// The policy of the initramfs could not be loaded.
    PolicyRefused,
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
                ".ima holds no certificate (but, maybe, the kernel's own of its modules): put one \
                 that a built-in trusted key signed at /etc/keys/x509_ima.der of the initramfs",
            ),
            Self::NoPolicy => f.write_str(
                "no policy: put one at /etc/ima/ima_policy or /etc/ima/ima_policy.default of the \
                 initramfs",
            ),
            Self::PolicyRefused => f.write_str("the kernel did not take the initramfs's policy"),
            Self::NoTree(errno) => write!(f, "cannot look for files: {}", Reason(*errno)),
        }
    }
}

/// No certificate is as large; it must fit `add_key`.
const CERTIFICATE_LIMIT: usize = 256 << 10;

/// Secures the kernel by the files of the initramfs, which is `/`, and of the real root.
pub fn secure(
    console: &Console,
    proc: &OwnedFd,
    root: &[u8],
    command_line: &CommandLine,
) -> Result<(), Failure> {
    let start = syscall::monotonic_milliseconds();
    let appraise = appraise_in_force(console, proc, command_line);
    if appraise == Appraise::Off {
        say!(console, Warning, "ima_appraise=off: nothing is loaded, and nothing is appraised");
        return Ok(());
    }
    let securityfs = pseudo::SECURITY.open().map_err(Failure::NoSecurityfs)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if fs::openat(&securityfs, "ima/ascii_runtime_measurements", flags, Mode::empty()).is_err() {
        return Err(Failure::NoIma);
    }
    let initramfs = Tree::open(b"/").map_err(Failure::NoTree)?;
    let root = Tree::open(root).map_err(Failure::NoTree)?;
    let mut work = Work::new(console, proc, securityfs, initramfs, root);
    let files = work.files(Origin::Initramfs);
    let root_files = (!work.root.is(&work.initramfs)).then(|| work.files(Origin::Root));
    for step in plan::plan(&files, root_files.as_ref()) {
        work.carry_out(&step)?;
    }
    work.summary(appraise, syscall::monotonic_milliseconds().wrapping_sub(start));
    Ok(())
}

/// What of `ima_appraise=` the kernel obeys; says so where it does not.
fn appraise_in_force(console: &Console, proc: &OwnedFd, command_line: &CommandLine) -> Appraise {
    if command_line.appraise == Appraise::Enforce {
        return Appraise::Enforce;
    }
    let environment = file::read_at(proc, b"1/environ", 1 << 20).unwrap_or_default();
    match cmdline::appraise_in_force(command_line, &environment, secure_boot()) {
        Ok(appraise) => appraise,
        Err(reason) => {
            let name = command_line.appraise.name();
            say!(console, Warning, "ima_appraise={name} has no effect: {reason}; going on");
            Appraise::Enforce
        }
    }
}

/// The EFI variable: four bytes of attributes, one of value.
fn secure_boot() -> SecureBoot {
    const NAME: &[u8] = b"SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let efi = pseudo::SYS
        .open()
        .and_then(|sys| fs::accessat(sys, "firmware/efi", Access::EXISTS, AtFlags::empty()));
    if efi.is_err() {
        return SecureBoot::Off; // asking for efivarfs would have the kernel look for a module
    }
    let variable = pseudo::EFI_VARIABLES.open().and_then(|all| file::read_at(all, NAME, 64));
    match variable.as_deref() {
        Ok([_, _, _, _, 1]) => SecureBoot::On,
        _ => SecureBoot::Off,
    }
}

/// The step under way.
struct Work<'a> {
    console: &'a Console,
    proc: &'a OwnedFd,
    securityfs: OwnedFd,
    initramfs: Tree,
    root: Tree,
    certificates: usize,
    ima_certificates: usize,
    policies: usize,
    rules: Option<usize>,
    signatures_demanded: bool,
}

impl<'a> Work<'a> {
    fn new(
        console: &'a Console,
        proc: &'a OwnedFd,
        securityfs: OwnedFd,
        initramfs: Tree,
        root: Tree,
    ) -> Self {
        Self {
            console,
            proc,
            securityfs,
            initramfs,
            root,
            certificates: 0,
            ima_certificates: 0,
            policies: 0,
            rules: Some(0),
            signatures_demanded: false,
        }
    }

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
            Step::RequireCertificate => self.require_certificate()?,
            Step::LoadPolicy { name } => self.load_policy(name)?,
            Step::MissPolicy => return Err(Failure::NoPolicy),
            Step::OfferPolicy { origin, name } => self.offer_policy(*origin, name),
            Step::PassOver { origin, name } => {
                let path = self.tree(*origin).path_of(name);
                let severity = match origin {
                    Origin::Initramfs => crate::console::Severity::Warning,
                    Origin::Root => crate::console::Severity::Info,
                };
                let path = Printable(&path);
                self.console.say(severity, format_args!("{path} has no rule: passed over"));
            }
        }
        Ok(())
    }

    /// Finds the files of a tree; what cannot be read is said, and left out.
    fn files(&self, origin: Origin) -> Files {
        let tree = self.tree(origin);
        let list = |directory: &str, prefix: &str, suffix: &str| {
            tree.list(directory, prefix, suffix).unwrap_or_else(|errno| {
                let path = tree.path_of(directory.as_bytes());
                let (path, reason) = (Printable(&path), Reason(errno));
                say!(self.console, Warning, "cannot list {path}: {reason}");
                Vec::new()
            })
        };
        let policies = list("etc/ima", "ima_policy", "").into_iter().map(|name| {
            let content = tree
                .open_file(&name)
                .and_then(|opened| file::read(&opened, policy::READ_LIMIT))
                .map(|text| Policy::parse(&text));
            PolicyFile { name, content: content.ok() }
        });
        Files {
            policies: policies.collect(),
            secondary_certificates: list("etc/keys", "x509_secondary_", ".der"),
            ima_certificates: list("etc/keys", "x509_ima", ".der"),
        }
    }

    fn load_certificate(&mut self, keyring: Keyring, origin: Origin, name: &[u8]) {
        let tree = self.tree(origin);
        let path = tree.path_of(name);
        let (path, ring) = (Printable(&path), keyring.name());
        let der = tree.open_file(name).and_then(|opened| file::read(&opened, CERTIFICATE_LIMIT));
        let der = match der {
            Ok(der) => der,
            Err(errno) => {
                say!(self.console, Error, "cannot read certificate {path}: {}", Reason(errno));
                return;
            }
        };
        let certificate = Certificate::parse(&der);
        let subject = certificate.as_ref().map_or(&b"?"[..], |certificate| &certificate.subject);
        let subject = Printable(subject);
        let serial = match keyring::find(self.proc, keyring) {
            Ok(serial) => serial,
            Err(errno) => {
                let (option, reason) = (keyring.option(), Reason(errno));
                say!(
                    self.console,
                    Error,
                    "certificate \"{subject}\" ({path}) not loaded: this kernel has no {ring} \
                     ({option}): {reason}"
                );
                return;
            }
        };
        // The one that the kernel itself loaded, as a rule; or the same in both trees.
        let is_there = |found: &Certificate| keyring::holds(serial, &found.key_id) == Ok(true);
        if certificate.as_ref().is_some_and(is_there) {
            self.count_certificate(keyring);
            say!(self.console, Info, "certificate \"{subject}\" ({path}) is in {ring} already");
            return;
        }
        match keyring::load(serial, &der) {
            Ok(()) => {
                self.count_certificate(keyring);
                say!(self.console, Info, "certificate \"{subject}\" ({path}) loaded into {ring}");
            }
            Err(errno) => {
                let signer_is_trusted = certificate
                    .as_ref()
                    .and_then(|found| keyring::is_signer_trusted(self.proc, found));
                let usage = certificate.as_ref().map(|found| found.usage);
                let cause = keyring::refusal(keyring, errno, usage, signer_is_trusted);
                let issuer = certificate.as_ref().map_or(&b"?"[..], |found| &found.issuer);
                let (issuer, reason) = (Printable(issuer), Reason(errno));
                say!(
                    self.console,
                    Error,
                    "certificate \"{subject}\" of issuer \"{issuer}\" ({path}) refused by {ring}: \
                     {reason}: {cause}"
                );
            }
        }
    }

    fn count_certificate(&mut self, keyring: Keyring) {
        self.certificates += 1;
        if keyring == Keyring::Ima {
            self.ima_certificates += 1;
        }
    }

    fn require_certificate(&self) -> Result<(), Failure> {
        if self.ima_certificates > 0 {
            return Ok(());
        }
        match keyring::ima_holds_more_than_builtin(self.proc) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::NoCertificate),
            Err(errno) => {
                let (option, reason) = (Keyring::Ima.option(), Reason(errno));
                say!(self.console, Error, "this kernel has no .ima ({option}): {reason}");
                Err(Failure::NoCertificate)
            }
        }
    }

    /// The policy that everything hangs on: by path, so that the kernel can appraise it; by
    /// content where that fails for other reasons than a missing signature, which also tells
    /// the rule that is to blame.
    fn load_policy(&mut self, name: &[u8]) -> Result<(), Failure> {
        let text = self.policy_text(Origin::Initramfs, name);
        let content = text.as_deref().map(Policy::parse);
        let path = self.initramfs.path_of(name);
        let mut refusal = match self.load_by_path(Origin::Initramfs, name) {
            Ok(()) => {
                self.loaded(&path, content.as_ref());
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        if let (Refusal::Path(errno), Some(text)) = (&refusal, &text) {
            let reason = Reason(*errno);
            if *errno != Errno::ACCESS {
                match policy::load_by_content(&self.securityfs, text) {
                    Ok(()) => {
                        let path = Printable(&path);
                        let defect = defect(content.as_ref());
                        say!(
                            self.console,
                            Warning,
                            "policy {path} loaded by content: by path the kernel refused it: \
                             {reason}{defect}"
                        );
                        self.loaded(path.0, content.as_ref());
                        return Ok(());
                    }
                    Err(second) => refusal = second,
                }
            }
        }
        self.refused(&path, &refusal, content.as_ref());
        Err(Failure::PolicyRefused)
    }

    /// A policy of the real root: by path alone, for the kernel to check its signature.
    fn offer_policy(&mut self, origin: Origin, name: &[u8]) {
        let demanded = policy::in_force(&self.securityfs)
            .map_or(self.signatures_demanded, |policy| policy.demands_signature);
        let content = self.policy_text(origin, name).as_deref().map(Policy::parse);
        let path = self.tree(origin).path_of(name);
        match self.load_by_path(origin, name) {
            Ok(()) => {
                if !demanded {
                    let path = Printable(&path);
                    say!(
                        self.console,
                        Warning,
                        "policy {path} taken without a look at its signature: no rule appraises \
                         func=POLICY_CHECK"
                    );
                }
                self.loaded(&path, content.as_ref());
            }
            Err(refusal) => self.refused(&path, &refusal, content.as_ref()),
        }
    }

    fn policy_text(&self, origin: Origin, name: &[u8]) -> Option<Vec<u8>> {
        let opened = self.tree(origin).open_file(name).ok()?;
        file::read(&opened, policy::READ_LIMIT).ok()
    }

    /// The kernel would follow symbolic links out of the tree, and would wait at a pipe: it
    /// is given the path of what the name leads to inside the tree, if that is a file.
    fn load_by_path(&self, origin: Origin, name: &[u8]) -> Result<(), Refusal> {
        let found = self.tree(origin).find(name).map_err(Refusal::Path)?;
        let status = fs::fstat(&found).map_err(Refusal::Path)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Refusal::NoFile);
        }
        let link = alloc::format!("self/fd/{}", found.as_raw_fd());
        let path = fs::readlinkat(self.proc, link, Vec::new()).map_err(Refusal::Path)?;
        policy::load_by_path(&self.securityfs, path.to_bytes())
    }

    fn loaded(&mut self, path: &[u8], content: Option<&Policy>) {
        self.policies += 1;
        self.rules = self.rules.zip(content).map(|(sum, policy)| sum + policy.rules);
        self.signatures_demanded |= content.is_some_and(|policy| policy.demands_signature);
        match content {
            Some(Policy { rules, .. }) => {
                say!(self.console, Info, "policy {} loaded, {rules} rules", Printable(path));
            }
            None => say!(self.console, Info, "policy {} loaded", Printable(path)),
        }
    }

    fn refused(&self, path: &[u8], refusal: &Refusal, content: Option<&Policy>) {
        let (path, reason, cause) = (Printable(path), Reason(refusal.errno()), refusal.cause());
        match refusal {
            Refusal::Rule { line, text, .. } => {
                let text = Printable(text);
                say!(
                    self.console,
                    Error,
                    "policy {path} refused at line {line}, \"{text}\": {reason}: {cause}"
                );
            }
            Refusal::Open(Errno::NOENT | Errno::BUSY) if self.policies > 0 => {
                say!(
                    self.console,
                    Error,
                    "policy {path} not loaded: this kernel takes one policy and has it; for more \
                     it needs CONFIG_IMA_WRITE_POLICY"
                );
            }
            _ => {
                let defect = match refusal.errno() {
                    Errno::INVAL => defect(content),
                    _ => Defect(None),
                };
                say!(self.console, Error, "policy {path} refused: {reason}: {cause}{defect}");
            }
        }
    }

    fn summary(&self, appraise: Appraise, milliseconds: u64) {
        let (certificates, policies) = (self.certificates, self.policies);
        let in_force = policy::in_force(&self.securityfs).map(|policy| policy.rules);
        let mode = appraise.name();
        let rules = Count(in_force.or(self.rules));
        say!(
            self.console,
            Notice,
            "secured in {milliseconds} ms: {certificates} certificates, {policies} policies, \
             {rules} rules in force, appraisal mode {mode}"
        );
        if appraise != Appraise::Enforce {
            say!(self.console, Warning, "ima_appraise={mode}: the kernel refuses no file");
        }
    }
}

/// A number that may not be known.
struct Count(Option<usize>);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => count.fmt(f),
            None => f.write_str("an unknown number of"),
        }
    }
}

fn defect(content: Option<&Policy>) -> Defect {
    Defect(content.and_then(|policy| policy.defect))
}

/// What is wrong with a policy beyond its rules, as an afterthought to a message.
struct Defect(Option<policy::Defect>);

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |defect| write!(f, "; {}", defect.text()))
    }
}
