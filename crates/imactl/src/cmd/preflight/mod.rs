//! `imactl preflight`

mod json;
mod people;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::Args;
use ima::container::FORMATS;
use ima::evm::machine_of;
use ima::key::acceptance;
use ima::preflight::{
    open, preflight, Authorities, Cpus, Evm, Init, Mount, Options, Owners, Report, Source,
};
use ima::revoke;
use ima::verify::{Keyring, Revocations};
use ima_format::blacklist::Kind;
use ima_format::evm::Machine;
use ima_format::policy::ast::Uuid;
use ima_format::policy::filesystem::{self, FileSystem};
use ima_format::policy::kernel::Kernel;

use super::policy::{BootArgs, Loaded};
use crate::args::{jobs, KeyringArgs};
use crate::error::{with_causes, Context, Result};
use crate::evm::{
    covered_uuid, hmac_key, machine_of_config, ProtectedArgs, VersionsArgs, WordSize,
};
use crate::kernel::{warn_of_hearsay, KernelArgs, Target};
use crate::output::{Output, Style};
use crate::progress::Bar;
use crate::Outcome;
pub(crate) use people::{noun, unreached, why, Fate};

/// Predict which files of a root file system a kernel will deny
///
/// Judges programs, libraries, scripts, modules, firmware, policies and certificates by the rules
/// of the policy and by their signatures, and each program also by the libraries that it needs. The
/// exit status is 1 if a file that is needed would be denied, or if the machine would not reach its
/// init (see --no-init); 2 if a file could not be read.
#[derive(Debug, Args)]
pub(crate) struct PreflightArgs {
    #[arg(value_name = "ROOT", help = root_help())]
    root: PathBuf,
    /// The policies, in the order of loading; default:appraise is imactl's default one
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Print all files, not only the first ones of each group
    #[arg(long)]
    details: bool,
}

/// The kernel that a root is judged for
#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {
    /// The partition of a disk that has the root, by number, label or PARTUUID
    #[arg(long, value_name = "PARTITION", help_heading = "Root", requires = "root")]
    partition: Option<String>,
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
    /// Revoked digests and keys: a signed entry or a certificate as imactl revoke writes them, or a
    /// list for CONFIG_SYSTEM_BLACKLIST_HASH_LIST; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Key", requires = "root")]
    blacklist: Vec<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    boot: BootArgs,
    /// The type of the file system that the root, or the directory PATH, will be on [default: ext4]
    #[arg(long, value_name = "[PATH=]NAME", help_heading = "Root", requires = "root")]
    fs: Vec<FsArg>,
    /// The UUID of the root's file system, for policies with fsuuid= and for HMACs
    #[arg(long, value_name = "UUID", help_heading = "Root", requires = "root")]
    fsuuid: Option<String>,
    /// Treat all files as owned by root
    #[arg(long, help_heading = "Root", requires = "root")]
    all_root: bool,
    /// A CPU that the root will run on, as in x86-64-v3-intel, or a level as in x86-64-v3; may be
    /// repeated [default: all CPUs that its programs can run on]
    #[arg(long, value_name = "NAME", help_heading = "Root", requires = "root")]
    #[arg(value_parser = PossibleValuesParser::new(Cpus::names()), hide_possible_values = true)]
    cpu: Vec<String>,
    /// init= on the kernel's command line
    #[arg(long, value_name = "PATH", help_heading = "Root", requires = "root")]
    init: Option<PathBuf>,
    /// Do not require an init: no machine boots from this root (a container, a system extension)
    #[arg(long, conflicts_with = "init", help_heading = "Root", requires = "root")]
    no_init: bool,
    #[command(flatten)]
    evm: PreflightEvmArgs,
    /// Number of worker threads [default: number of CPUs; maximum 1024]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

/// Lists all containers that have a root, for the help.
fn root_help() -> String {
    let formats = FORMATS.iter().filter(|format| format.can_be_root());
    let names: Vec<_> = formats.map(|format| format.name).collect();
    format!(
        "The root file system: a directory, {} or a container image. Or an update of RAUC (.raucb) or \
         SWUpdate (.swu), whose scripts run on another root",
        names.join(", ")
    )
}

/// EVM on the machine
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
struct PreflightEvmArgs {
    /// Assume that EVM is enabled: security.evm is verified before the content
    #[arg(long, requires = "root")]
    evm: bool,
    /// A certificate in .evm; may be repeated [default: the EVM certificates of --keys]
    #[arg(long, value_name = "CERT", requires = "evm")]
    evm_cert: Vec<PathBuf>,
    /// The key of HMACs: the decrypted bytes of the kernel's encrypted key "evm-key"
    #[arg(long, value_name = "FILE", requires = "evm")]
    hmac_key: Option<PathBuf>,
    #[command(flatten)]
    versions: VersionsArgs,
    #[command(flatten)]
    protected: ProtectedArgs,
    /// Word size and byte order of the kernel: 64, 32, 64be or 32be [default: that of --kernel-config,
    /// or of the programs in the root, else 64]
    #[arg(long, value_name = "SIZE", requires = "evm")]
    word_size: Option<WordSize>,
}

/// `NAME`, or `PATH=NAME`.
#[derive(Debug, Clone)]
struct FsArg {
    path: PathBuf,
    system: FileSystem,
}

impl FromStr for FsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, name) = text.split_once('=').unwrap_or(("/", text));
        if !path.starts_with('/') {
            return Err("the path is absolute, as the booted machine sees it".to_owned());
        }
        let known = filesystem::with_name(name.as_bytes()).next();
        let system = *known.ok_or("no file system that is known here, as in ext4 or vfat")?;
        Ok(Self { path: path.into(), system })
    }
}

impl PreflightArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let Self { root, policy, judge, details } = self;
        judge.judge(root, policy, output, |_, told, output| {
            match output.is_json() {
                true => json::tell(told, *details, output)?,
                false => people::tell(told, root, *details, output)?,
            }
            Ok(told.outcome())
        })
    }
}

impl JudgeArgs {
    /// Judges a root by policies; `tell` is called with the root and the result.
    pub(crate) fn judge<R>(
        &self,
        path: &Path,
        policies: &[PathBuf],
        output: &mut Output,
        tell: impl FnOnce(&dyn Source, &Told<'_>, &mut Output) -> Result<R>,
    ) -> Result<R> {
        let Target { kernel, rules } = self.kernel.target()?;
        warn_of_hearsay(kernel.version, output);
        let loaded = self.boot.load(policies, &kernel)?;
        let certificates = self.keyring.needed(output)?;
        let trusted = self.keyring.authorities(&certificates)?;
        let revocations = self.revocations(output)?;
        let authorities = Authorities {
            trusted: &trusted,
            offered: &certificates,
            revoked: &revocations,
            rules: &rules,
        };
        let mut keyring = in_ima(authorities, &kernel, output);
        let of_modules = self.keyring.of_modules()?;
        // with CONFIG_IMA_APPRAISE_MODSIG, the module key is in .ima, too
        if loaded.allows_modsig() {
            keyring.trust(authorities.built_in(&of_modules));
        }
        keyring.revoke(&revocations);
        let of_loader = of_modules.iter().chain(&trusted);
        let modules = Keyring::of_certificates(authorities.built_in(of_loader));
        let cpus = Cpus::named(&self.cpu)?;
        let root = open(path, self.partition.as_deref());
        let root = root.at(path)?;
        let options = Options {
            policy: &loaded.policy,
            kernel: &kernel,
            keyring: &keyring,
            evm: self.evm(&*root, &kernel, authorities, output)?,
            modules: &modules,
            module_check: self.boot.module_check(&kernel),
            authorities,
            mounts: self.mounts()?,
            owners: if self.all_root { Owners::Root } else { Owners::Kept },
            cpus,
            init: match (&self.init, self.no_init) {
                (_, true) => Init::Unwanted,
                (Some(path), false) => Init::At(path.clone()),
                (None, false) => Init::Usual,
            },
            jobs: jobs(self.jobs),
        };
        let bar = Bar::new("checking", output);
        let report = preflight(&*root, &options, &bar);
        let (bytes, seconds) = bar.finish();
        let told = Told { report: &report, loaded: &loaded, options: &options, bytes, seconds };
        let result = tell(&*root, &told, output)?;
        if !self.all_root && report.not_roots == report.regular && report.regular > 0 {
            output.warn(&format!(
                "{}: no file is root's; run it under pseudo or fakeroot, or give --all-root",
                path.display()
            ));
        }
        for unread in &report.unread {
            let (path, error) = (unread.path.display(), with_causes(&unread.error));
            output.complain(Style::Bad, "error:", &format!("{path}: {error}"));
        }
        Ok(result)
    }

    /// The keys and digests that the kernel no longer accepts.
    fn revocations(&self, output: &mut Output) -> Result<Revocations> {
        let mut revocations = Revocations::default();
        for path in &self.blacklist {
            revoke::read(path, &mut revocations)?;
        }
        if revocations.added.iter().any(|entry| entry.kind == Kind::Certificate) {
            output.warn(
                "a signed entry tbs: comes too late for certificates that the kernel loads itself \
                 (CONFIG_IMA_LOAD_X509, CONFIG_EVM_LOAD_X509): revoke the certificate, or compile the \
                 entry in",
            );
        }
        Ok(revocations)
    }

    fn evm(
        &self,
        root: &dyn Source,
        kernel: &Kernel,
        authorities: Authorities<'_>,
        output: &mut Output,
    ) -> Result<Option<Evm>> {
        if !self.evm.evm {
            return Ok(None);
        }
        let hmac = self.evm.hmac_key.as_deref().map(hmac_key).transpose()?;
        let certificates = match self.keyring.evm_certificates(&self.evm.evm_cert, output) {
            Err(_) if hmac.is_some() && self.evm.evm_cert.is_empty() => Vec::new(),
            certificates => certificates?,
        };
        let mut keyring = Keyring::of_certificates(authorities.built_in(&certificates));
        // .ima_blacklist denies the keys of .evm, too
        keyring.revoke(authorities.revoked);
        let machine = match &self.evm.word_size {
            Some(size) => size.0,
            None => {
                machine_of_config(kernel).or_else(|| machine_of(root)).unwrap_or(Machine::DEFAULT)
            }
        };
        let fsuuid = covered_uuid(kernel, self.uuid()?.map(|uuid| Some(uuid.0)));
        let protected = self.evm.protected.resolve(kernel)?;
        let versions = self.evm.versions.resolve();
        Ok(Some(Evm { keyring, hmac, machine, protected, fsuuid, versions }))
    }

    fn uuid(&self) -> Result<Option<Uuid>> {
        let parse = |text: &String| {
            Uuid::parse(text.as_bytes())
                .with_context(|| format!("not a UUID: {text:?}; blkid prints them"))
        };
        self.fsuuid.as_ref().map(parse).transpose()
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        let uuid = self.uuid()?.unwrap_or(Uuid::NULL);
        let mount = |arg: &FsArg| {
            let uuid = if arg.path == Path::new("/") { uuid } else { Uuid::NULL };
            Mount::new(arg.path.clone(), arg.system, uuid)
        };
        let mut mounts: Vec<_> = self.fs.iter().map(mount).collect();
        if mounts.iter().all(|mount| mount.path != Path::new("/")) {
            let ext4 = filesystem::with_name(b"ext4").next().context("ext4")?;
            mounts.push(Mount::new("/".into(), *ext4, uuid));
        }
        Ok(mounts)
    }
}

/// The keys of the certificates that the kernel accepts into `.ima`. For the others, a warning gives
/// the reason, unless they are CAs that were given with them.
fn in_ima(authorities: Authorities<'_>, kernel: &Kernel, output: &mut Output) -> Keyring {
    let mut accepted = Vec::new();
    for (certificate, refusal) in authorities.judged(acceptance::Keyring::Ima) {
        match refusal {
            None => accepted.push(certificate),
            Some(_) if authorities.trusted.iter().any(|it| it.der() == certificate.der()) => {}
            Some(refusal) => output.warn(&format!(
                "{}: .ima of Linux {} rejects it: {refusal}: files signed with its key are denied",
                certificate.subject(),
                kernel.version
            )),
        }
    }
    Keyring::of_certificates(accepted)
}

/// A result to be printed.
pub(crate) struct Told<'a> {
    pub(crate) report: &'a Report,
    loaded: &'a Loaded,
    pub(crate) options: &'a Options<'a>,
    bytes: u64,
    seconds: f64,
}

impl Told<'_> {
    /// The exit status: files that could not be read come before findings.
    pub(crate) fn outcome(&self) -> Outcome {
        match (self.report.unread.is_empty(), self.report.is_good()) {
            (false, _) => Outcome::Failed,
            (true, false) => Outcome::Finding,
            (true, true) => Outcome::Good,
        }
    }
}
