//! `imactl initramfs`
//!
//! Everything that would stop the boot is checked here, against the version of the kernel that will boot:
//! the certificates by the rules of their key rings, the policy by the kernel's parser, its signature,
//! the revocations and the init. Nothing is written unless all of them are accepted.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use ima::container::tree::detached_path;
use ima::digest::Hasher;
use ima::initramfs::{self, Compression, Contents, UnknownWord};
use ima::key::acceptance::Keyring;
use ima::key::certificate::Certificate;
use ima::key::store::{KeyStore, Role};
use ima::preflight::Authorities;
use ima::verify::{self, Requirement, Revocations, Rule, Verifier};
use ima::{revoke, staging};
use ima_format::policy::builtin::Preset;
use ima_format::policy::kernel::{Kernel, LsmRules};

use super::policy::accepted;
use crate::args::{default_store, warn_of_sample};
use crate::error::{hinted, Context, Result};
use crate::kernel::{warn_of_hearsay, KernelArgs, Target};
use crate::output::{Level, Output, Style};
use crate::Outcome;
use ima::input::{self, KEY_MAX, LIST_MAX};
use ima_format::blacklist::Entry;

/// Make an initramfs that secures the kernel and hands over to the real root
#[derive(Debug, Args)]
pub(crate) struct InitramfsArgs {
    #[command(subcommand)]
    command: InitramfsCommand,
}

#[derive(Debug, Subcommand)]
enum InitramfsCommand {
    Create(CreateArgs),
}

impl InitramfsArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match &self.command {
            InitramfsCommand::Create(args) => args.run(output),
        }
    }
}

/// Make an initramfs: imactl-init, the IMA certificate, the policy, and for EVM its certificate
///
/// At boot imactl-init mounts the root that root= names, loads certificates and policies and
/// executes the real init; drivers for the root's disk must be in the kernel, or in a separate
/// archive before this one (cat drivers.img initramfs.img). The output is reproducible: it depends
/// only on the input files.
#[derive(Debug, Args)]
struct CreateArgs {
    /// The initramfs
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A key store, whose IMA certificate is included [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR", conflicts_with = "cert")]
    keys: Option<PathBuf>,
    /// The IMA certificate, instead of a key store's
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Enable EVM at boot, and include the key store's EVM certificate
    #[arg(long, conflicts_with = "cert")]
    evm: bool,
    /// An EVM certificate, instead of the key store's; EVM is enabled at boot
    #[arg(long, value_name = "FILE")]
    evm_cert: Option<PathBuf>,
    /// A policy instead of the default one (imactl policy default). FILE.sig, its detached
    /// signature (imactl policy sign --detached), is included if it exists: kernels with
    /// CONFIG_IMA_ARCH_POLICY demand it under Secure Boot
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// A revoked digest or key: a signed entry or a certificate, as imactl revoke writes them; may
    /// be repeated. The boot stops if the kernel rejects one
    #[arg(long, value_name = "FILE")]
    blacklist: Vec<PathBuf>,
    /// Compression
    #[arg(long, value_name = "HOW", default_value = "zstd")]
    compress: CompressionArg,
    /// Words that imactl-init reads before the kernel's command line, which overrides them:
    /// imactl.mode=, imactl.root-certificates= and imactl.timeout= (written to /etc/imactl/cmdline)
    #[arg(long, value_name = "WORDS", value_parser = words)]
    cmdline: Option<String>,
    /// The program imactl-init [default: next to imactl, or on $PATH]
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressionArg {
    /// Needs CONFIG_RD_ZSTD
    Zstd,
    /// Needs CONFIG_RD_GZIP
    Gzip,
    None,
}

impl CreateArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let init = self.init()?;
        warn_of_hearsay(self.kernel.resolve()?.version, output);
        let Some((certificate, earlier)) = self.certificates(Keyring::Ima, output)? else {
            return Ok(Outcome::Finding);
        };
        let (evm_certificate, earlier_evm) = match self.evm || self.evm_cert.is_some() {
            true => match self.certificates(Keyring::Evm, output)? {
                None => return Ok(Outcome::Finding),
                Some((certificate, earlier)) => (Some(certificate), earlier),
            },
            false => (None, Vec::new()),
        };
        let policy = match &self.policy {
            Some(path) => match accepted(path, &self.at_boot()?, output)? {
                Some(text) => Some(text),
                None => {
                    let text = "not created: the boot would stop at this policy";
                    output.complain(Style::Bad, "error:", text);
                    return Ok(Outcome::Finding);
                }
            },
            None => None,
        };
        let signature = match (&self.policy, &policy) {
            (Some(path), Some(text)) => self.signature(path, text, &certificate)?,
            _ => None,
        };
        let revocations: Vec<_> =
            self.blacklist.iter().map(|path| revocation(path)).collect::<Result<_>>()?;
        let contents = Contents {
            revocations: &revocations,
            init: &init,
            certificate: &certificate,
            earlier: &earlier,
            evm_certificate: evm_certificate.as_ref(),
            earlier_evm: &earlier_evm,
            default_policy: Preset::Appraise.text().as_bytes(),
            policy: policy.as_deref(),
            policy_signature: signature.as_deref(),
            words: self.cmdline.as_deref(),
        };
        let archive = initramfs::create(
            &contents,
            match self.compress {
                CompressionArg::Zstd => Compression::Zstd,
                CompressionArg::Gzip => Compression::Gzip,
                CompressionArg::None => Compression::None,
            },
        )?;
        let path = &self.output;
        staging::write_path(path, 0o644, &archive).at(path)?;
        let (size, key_id) = (archive.len() as u64, certificate.key_id());
        let evm_key_id = evm_certificate.map(|certificate| certificate.key_id());
        let which = if policy.is_some() { "custom" } else { "default" };
        output
            .object("initramfs")
            .path(path.as_path())
            .field("size", size)
            .field("key_id", key_id.to_string())
            .optional("evm_key_id", evm_key_id.as_ref().map(ToString::to_string))
            .field("policy", which)
            .end()?;
        let size = indicatif::DecimalBytes(size);
        let path = path.display();
        let evm = evm_key_id.map(|id| format!(", EVM certificate {id}")).unwrap_or_default();
        let line = format!("{path}: {size}, certificate {key_id}{evm}, the {which} policy");
        output.line(Level::Normal, &line)?;
        Ok(Outcome::Good)
    }

    /// The kernel in the initramfs: no policy of a security module is loaded yet.
    fn at_boot(&self) -> Result<Kernel> {
        Ok(Kernel { lsm_rules: LsmRules::Undefined, ..self.kernel.resolve()? })
    }

    /// The policy's detached signature, if it exists.
    fn signature(
        &self,
        policy: &Path,
        text: &[u8],
        certificate: &Certificate,
    ) -> Result<Option<Vec<u8>>> {
        let path = detached_path(policy);
        let value = match input::read_path(&path, LIST_MAX) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let rule = Rule::new(Requirement::Signature, self.kernel.resolve()?.version);
        let mut verifier = Verifier::new(verify::Keyring::of_certificates([certificate]));
        let verdict =
            verifier.verdict(rule, Some(&value), |kind| Hasher::new(kind)?.digest(text))?;
        if verdict.is_valid() {
            return Ok(Some(value));
        }
        let policy = policy.display();
        Err(hinted(
            format!("{}: not a valid signature of {policy}: {verdict}", path.display()),
            "sign the policy again (imactl policy sign --detached), or remove the file",
        ))
    }

    fn init(&self) -> Result<Vec<u8>> {
        let path = match &self.init {
            Some(path) => path.clone(),
            None => installed_init().ok_or_else(|| {
                hinted(
                    "imactl-init was not found next to imactl or on $PATH",
                    "give it with --init FILE; make init builds it",
                )
            })?,
        };
        let program = input::read_path(&path, LIST_MAX)?;
        match initramfs::machine_of_init(&program) {
            Ok(_) => Ok(program),
            Err(error) => Err(hinted(
                format!("{}: cannot be used as init: {error}", path.display()),
                "it must be imactl-init for the architecture that boots: a static ELF program \
                 (make init builds it)",
            )),
        }
    }

    /// The certificate that the kernel itself will load, and those of earlier generations of its store
    /// that it accepts; `None` if it rejects the first.
    fn certificates(
        &self,
        keyring: Keyring,
        output: &mut Output,
    ) -> Result<Option<(Certificate, Vec<Certificate>)>> {
        let (given, name_it) = match keyring {
            Keyring::Evm => (
                &self.evm_cert,
                "select one with --evm-cert; the others belong in /etc/keys/evm of the real root",
            ),
            _ => (
                &self.cert,
                "select one with --cert; the others belong in /etc/keys of the real root",
            ),
        };
        let (path, certificates, earlier, authorities) =
            match (given, self.keys.clone().or_else(default_store)) {
                (Some(path), _) => {
                    (path.clone(), Certificate::read_all(path)?, Vec::new(), Vec::new())
                }
                (None, Some(keys)) => {
                    let store = KeyStore::open(&keys)?;
                    let (role, mut certificates) = match keyring {
                        Keyring::Evm => (Role::Evm, store.evm_certificates()?),
                        _ => (Role::Ima, store.ima_certificates()?),
                    };
                    let earlier = store.earlier(role)?;
                    // the store lists earlier generations, too; the kernel itself loads only the current one
                    certificates.retain(|it| earlier.iter().all(|other| other.der() != it.der()));
                    (keys, certificates, earlier, store.authorities()?)
                }
                (None, None) => {
                    return Err(hinted(
                        "no certificate for the initramfs",
                        "give --keys DIR or --cert FILE, or set IMACTL_KEYS",
                    ));
                }
            };
        let place = path.display();
        let mut others = certificates.iter();
        let (Some(certificate), None) = (others.next(), others.next()) else {
            return Err(hinted(format!("{place}: must have exactly one certificate"), name_it));
        };
        if certificate.is_sample() {
            warn_of_sample(output, &path);
        }
        let Target { kernel, rules } = self.kernel.target()?;
        let offered = [certificates.as_slice(), &earlier].concat();
        let mut revoked = Revocations::default();
        self.blacklist.iter().try_for_each(|path| revoke::read(path, &mut revoked))?;
        let known = Authorities {
            trusted: &authorities,
            offered: &offered,
            revoked: &revoked,
            rules: &rules,
        };
        let version = kernel.version;
        let mut rejected = Vec::new();
        for (judged, refusal) in known.judged(keyring) {
            let Some(refusal) = refusal else { continue };
            let rejects = format!("{keyring} of Linux {version} rejects it: {refusal}");
            if judged.der() == certificate.der() {
                let text = format!("{place}: not created: {rejects}");
                output.complain(Style::Bad, "error:", &text);
                output.complain(Style::Dim, "hint:", refusal.hint());
                return Ok(None);
            }
            // such as one with an algorithm that the kernel lacks: the boot would stop at it
            let key = judged.key_id();
            output.warn(&format!("{place}: the earlier certificate {key} is left out: {rejects}"));
            rejected.push(judged.der());
        }
        if authorities.is_empty() && certificate.is_self_signed() {
            output.warn(&format!(
                "{place}: self-signed: {keyring} accepts only certificates that a trusted key of \
                 the kernel signed"
            ));
        }
        let accepted = earlier.iter().filter(|it| !rejected.contains(&it.der())).cloned();
        Ok(Some((certificate.clone(), accepted.collect())))
    }
}

/// A revocation in the initramfs: the suffix of its name, and its content.
fn revocation(path: &Path) -> Result<(&'static str, Vec<u8>)> {
    let content = input::read_path(path, KEY_MAX)?;
    if Entry::split_signed(&content).is_some() {
        return Ok((".entry", content));
    }
    match Certificate::read_all(path)?.as_slice() {
        [certificate] => Ok((".der", certificate.der().to_vec())),
        _ => Err(hinted(
            format!("{}: must have exactly one certificate", path.display()),
            "store each in a separate file",
        )),
    }
}

fn words(text: &str) -> Result<String, UnknownWord> {
    initramfs::check_words(text).map(|()| text.to_owned())
}

/// imactl-init as installed: next to this program, or on `$PATH`.
fn installed_init() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let beside = program.parent().map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = beside.into_iter().chain(env::split_paths(&path));
    directories.find_map(|directory| {
        let file = directory.join("imactl-init");
        file.is_file().then_some(file)
    })
}
