//! `imactl sign`

mod evm;
mod rpm;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::cache::Cached;
use ima::capabilities::FileCapabilities;
use ima::container::rpm::PackageSummary;
use ima::container::Report;
use ima::evm::Coverage;
use ima::key::caveat::{self, Caveat};
use ima::key::check::Severity;
use ima::key::{Form, KeyType, Signer};
use ima::modsig::Over;
use ima::operation::{Append, EvmEffect, Renewal, Sign, SignMode, Signed};
use ima::sign::{default_version, Maker};
use ima::{HashAlgorithm, KeyId};
use ima_format::kind::Kind;
use ima_format::policy::kernel::KernelVersion;
use ima_format::xattr::{SignatureKind, SignatureVersion};

use self::evm::EvmKey;
use crate::args::{describe, EvmKeyArgs, SignerArgs};
use crate::error::{hinted, Context, Result};
use crate::evm::{CoverageArgs, EvmType, ProtectedArgs};
use crate::inputs::{InputArgs, Inputs};
use crate::kernel::{target, warn_of_hearsay};
use crate::output::{count, Level, Name, Output};
use crate::outputs::ResultArgs;
use crate::report::{self, Changed, Printer, Results, Totals};
use crate::verity::SignedDigestArgs;
use crate::Outcome;

/// Sign files, trees of files, packages, archives and images
///
/// Directories are processed recursively. Symbolic links are not followed; devices, FIFOs and
/// sockets are not opened; a file with several names is signed once. Container types are detected
/// from content: imactl signs the files inside an RPM package, a tar archive, an ext4 image, a disk
/// or a container image (OCI layout or archive, docker save). The path - is a tar archive on
/// standard input.
/// Archives and images are written completely or not at all; members of more than 1 MiB are kept in
/// a temporary file ($TMPDIR, else /var/tmp) until their signature is known. Errors do not stop the
/// run; the exit status is 2 if any requested file was not signed, for example because it is a link
/// or a device. An empty directory is not an error; imactl prints "no files". To complete an
/// interrupted run, run the same command again: its temporary files (.imactl-XXXXXX) are skipped.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    #[command(flatten)]
    files: SignFilesArgs,
    /// The configuration of the kernel that verifies: .config, /boot/config-*, /proc/config.gz. It
    /// selects the attributes that HMACs and inode-bound signatures cover [default: all]
    #[arg(long, value_name = "FILE", requires = "evm", help_heading = "EVM")]
    kernel_config: Option<PathBuf>,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    rpm: rpm::SignRpmArgs,
}

/// How files are signed
#[derive(Debug, Args)]
pub(super) struct SignFilesArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// Hash algorithm of the signed digest (sha1 only for very old kernels) [default: sha256]
    #[arg(long, value_name = "NAME", help_heading = "Signature")]
    hash: Option<HashAlgorithm>,
    /// Append the signature to the content, as modules, kernels and initramfs images have it for
    /// CONFIG_MODULE_SIG and appraise_type=imasig|modsig; the module key of --keys signs. Signatures by
    /// RSA and ECDSA keys are those of sign-file for all kernels; those by ML-DSA keys, over the content
    /// itself, are for Linux 7.2 and newer. security.ima and security.evm covered the old content and are
    /// removed: sign them afterwards
    #[arg(long, help_heading = "Signature")]
    #[arg(conflicts_with_all = ["signature_version", "for_kernel", "digest", "cache", "hash_only"])]
    #[arg(conflicts_with_all = ["evm", "enable_verity", "xattr_namespace", "detached"])]
    appended: bool,
    /// Version of the signature: 2 is over the file's digest (all kernels), 3 over its type, algorithm
    /// and digest (Linux 7.1 and newer; of fs-verity digests 5.19, by ML-DSA keys 7.2) [default: 2, for
    /// ML-DSA keys 3]
    #[arg(long, value_name = "2|3", conflicts_with = "hash_only", help_heading = "Signature")]
    signature_version: Option<SignatureVersion>,
    /// Choose the newest signature version that all these kernels verify, or fail and explain why
    /// there is none
    #[arg(long, value_name = "VERSION,...", value_delimiter = ',', help_heading = "Signature")]
    #[arg(conflicts_with = "hash_only")]
    for_kernel: Vec<KernelVersion>,
    #[command(flatten)]
    signed: SignedDigestArgs,
    /// Keep signatures in a directory and reuse them for the same content: signing files that were
    /// built again costs little more than hashing them [default: $IMACTL_SIGNATURE_CACHE]
    #[arg(long, value_name = "DIR", conflicts_with = "hash_only", help_heading = "Signature")]
    cache: Option<PathBuf>,
    /// Store a digest instead of a signature: without --evm it detects corruption, not tampering by root
    #[arg(long, conflicts_with_all = ["key", "cert", "keyid"], help_heading = "Signature")]
    hash_only: bool,
    #[command(flatten)]
    evm: SignEvmArgs,
    /// Skip files that already have a valid signature by this key with this hash algorithm
    #[arg(long, help_heading = "Selection")]
    changed: bool,
    /// Show what would be done, without writing
    #[arg(long, short = 'n', help_heading = None)]
    dry_run: bool,
}

/// Whether metadata is signed, too
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
struct SignEvmArgs {
    /// Also sign owner, mode, capabilities and security labels: write security.evm
    #[arg(long)]
    evm: bool,
    /// Leave security.ima unchanged, and write a security.evm that covers it
    #[arg(long, requires = "evm", conflicts_with = "hash_only")]
    evm_only: bool,
    /// Type of security.evm [default: portable]
    #[arg(long, value_name = "TYPE", requires = "evm")]
    evm_type: Option<EvmType>,
    /// The key for --evm-type hmac: the decrypted bytes of the kernel's encrypted key "evm-key"
    #[arg(long, value_name = "FILE", requires = "evm")]
    hmac_key: Option<PathBuf>,
    /// Label the files by the target's SELinux policy, and sign these labels: its file_contexts
    /// (ROOT/etc/selinux/TYPE/contexts/files/file_contexts; .homedirs, .local, .subs and .subs_dist
    /// next to it are read, too)
    #[arg(long, value_name = "FILE", requires = "evm")]
    selinux_contexts: Option<PathBuf>,
    /// Sign files without an SELinux label although /etc/selinux/config of the root enables SELinux
    #[arg(long, requires = "evm", conflicts_with = "selinux_contexts")]
    allow_unlabeled: bool,
    /// Set these file capabilities, and sign them: lines as getcap -r / prints them on the target (/usr/bin/ping
    /// cap_net_raw=ep). Files that are not in the list keep theirs
    #[arg(long, value_name = "FILE", requires = "evm")]
    capabilities: Option<PathBuf>,
    #[command(flatten)]
    key: EvmKeyArgs,
    #[command(flatten)]
    coverage: CoverageArgs,
    #[command(flatten)]
    protected: ProtectedArgs,
}

impl SignArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut inputs = self.inputs.resolve()?;
        if let Some(packages) = inputs.packages() {
            self.rpm.set(packages);
        }
        self.files.run(inputs, self.kernel_config.as_deref(), Some(&self.result), output)
    }
}

impl SignFilesArgs {
    /// Signs files for a kernel with this configuration, if it is known.
    pub(super) fn run(
        &self,
        mut inputs: Inputs,
        kernel_config: Option<&Path>,
        results: Option<&ResultArgs>,
        output: &mut Output,
    ) -> Result<Outcome> {
        let results = match self.dry_run {
            true => Results::DryRun(results),
            false => Results::At(results),
        };
        if self.appended {
            return self.append(inputs, results, output);
        }
        if let Some(parameters) = self.signed.enabled(self.hash())? {
            inputs.enable_verity(parameters);
        }
        for kernel in &self.for_kernel {
            warn_of_hearsay(*kernel, output);
        }
        let evm_key = self.evm.key(&self.signer, self.cache().as_deref(), output)?;
        let contexts = self.evm.contexts(&inputs)?;
        let capabilities = match &evm_key {
            Some(key) => self.evm.capabilities(key.binding(), &inputs)?,
            None => None,
        };
        let evm = match &evm_key {
            Some(key) => {
                // the oldest one: newer ones cover no less
                let oldest = self.for_kernel.iter().min().copied();
                let kernel = target(oldest, kernel_config)?.kernel;
                let protected = self.evm.protected.resolve(&kernel)?;
                let coverage =
                    self.evm.coverage.resolve(key.binding(), &inputs, (&kernel, protected))?;
                let labels = self.evm.labels(contexts.as_ref(), key.binding(), &inputs);
                let version = |kind, key| self.version(kind, key);
                let covered = (labels, capabilities.as_ref());
                let evm = key.sign(coverage, self.evm_hash(), covered, &version)?;
                evm.check()?;
                Some(evm)
            }
            None => None,
        };
        let evm_key_id = evm_key.as_ref().and_then(EvmKey::key_id);
        let kind = inputs.kind;
        let run = |operation: &Sign<'_>, key_id, output: &mut Output| {
            self.check_room(operation, &inputs, output)?;
            let mut printer =
                SignPrinter { args: self, key_id, evm_key_id, files: 0, renewed: 0, outdated: 0 };
            let totals = report::run(operation, inputs, results, "signing", output, &mut printer)?;
            printer.report_evm(output);
            for path in capabilities.iter().flat_map(FileCapabilities::not_found) {
                let path = path.display();
                output.warn(&format!(
                    "{path}: in --capabilities, but no file of this name was signed"
                ));
            }
            printer.conclude(&totals, output)
        };
        match evm {
            Some(evm) if self.evm.evm_only => run(&Sign::metadata(evm, self.mode()), None, output),
            evm => self.with_maker(kind, output, |maker, output| {
                let digest = self.signed.digest(self.hash())?;
                let operation = Sign::new(maker, digest, self.mode());
                let at_hand = match evm {
                    None if kind != Kind::Rpm && !self.hash_only => self.signer.evm_at_hand(),
                    _ => None,
                };
                let operation = match evm {
                    Some(evm) => operation.with_evm(evm),
                    None => match self.renewal(maker, at_hand.as_deref(), kernel_config)? {
                        Some(renewal) if kind != Kind::Rpm => operation.renewing(renewal),
                        _ => operation,
                    },
                };
                run(&operation, maker.key_id(), output)
            }),
        }
    }

    /// Keys that renew their own signatures of metadata: the one that signs the content, and the EVM key of the store.
    fn renewal<'a>(
        &self,
        maker: Maker<'a>,
        at_hand: Option<&'a dyn Signer>,
        kernel_config: Option<&Path>,
    ) -> Result<Option<Renewal<'a>>> {
        let Maker::Signature { signer, .. } = maker else { return Ok(None) };
        let oldest = self.for_kernel.iter().min().copied();
        let kernel = target(oldest, kernel_config)?.kernel;
        // a kernel without EVM
        let Ok(protected) = self.evm.protected.resolve(&kernel) else { return Ok(None) };
        let given = self.evm.coverage.given(&kernel);
        let coverage = Coverage { protected, given, ..Coverage::portable() };
        let signers = [signer].into_iter().chain(at_hand).collect();
        Ok(Some(Renewal { signers, coverage }))
    }

    /// Appends signatures to the content of files.
    fn append(&self, inputs: Inputs, results: Results<'_>, output: &mut Output) -> Result<Outcome> {
        if self.hash().is_weak() {
            let message = format!("no appended signatures over {}: it is weak", self.hash());
            return Err(hinted(message, "use sha256, sha384 or sha512"));
        }
        let (signer, certificate) = self.signer.resolve_module(output)?;
        let key = signer.public_key().key_type();
        let over = match Over::of(key, self.hash()) {
            Over::Digest(hash) => format!("over {hash}"),
            Over::Content if self.hash.is_some() => {
                let message = format!("{key} keys sign the content itself: --hash does not apply");
                return Err(hinted(message, "leave out --hash"));
            }
            Over::Content => "over the content".to_owned(),
        };
        output.line(Level::Verbose, format_args!("signing with {} {over}", describe(&*signer)))?;
        tell(caveat::of_key(key), output);
        let key_id = Some(certificate.key_id());
        let operation = Append {
            signer: &*signer,
            certificate: &certificate,
            algorithm: self.hash(),
            mode: self.mode(),
        };
        let evm_key_id = None;
        let mut printer =
            SignPrinter { args: self, key_id, evm_key_id, files: 0, renewed: 0, outdated: 0 };
        let totals = report::run(&operation, inputs, results, "signing", output, &mut printer)?;
        printer.conclude(&totals, output)
    }

    /// Checks before the first file that large attributes can be stored.
    fn check_room(&self, operation: &Sign<'_>, inputs: &Inputs, output: &mut Output) -> Result<()> {
        /// Smaller ones fit any file system that has attributes.
        const LARGE: usize = 900;
        let sizes = operation.sizes();
        let size: usize = sizes.iter().map(|(_, size)| size).sum();
        if size < LARGE || self.dry_run {
            return Ok(());
        }
        if inputs.kind == Kind::Rpm {
            output.note(&format!("each file adds {} bytes to the signature header", 2 * size));
        }
        for container in &inputs.containers {
            let path = container.path().map(|path| path.display().to_string());
            let checked = container.check_room(&sizes);
            match path {
                Some(path) => checked.with_context(|| path)?,
                None => checked?,
            }
        }
        Ok(())
    }

    /// The hash algorithm of metadata: collisions are as harmful there, so a weak one is not used.
    fn evm_hash(&self) -> HashAlgorithm {
        match self.hash() {
            weak if weak.is_weak() => HashAlgorithm::Sha256,
            hash => hash,
        }
    }

    /// The directory of the signature cache.
    fn cache(&self) -> Option<PathBuf> {
        let named = || std::env::var_os("IMACTL_SIGNATURE_CACHE").map(PathBuf::from);
        self.cache.clone().or_else(named).filter(|path| !path.as_os_str().is_empty())
    }

    fn hash(&self) -> HashAlgorithm {
        self.hash.unwrap_or(HashAlgorithm::Sha256)
    }

    fn mode(&self) -> SignMode {
        match self.changed {
            true => SignMode::Changed,
            false => SignMode::Always,
        }
    }

    /// Runs `sign` with a maker of attributes.
    fn with_maker<T>(
        &self,
        kind: Kind,
        output: &mut Output,
        sign: impl FnOnce(Maker<'_>, &mut Output) -> Result<T>,
    ) -> Result<T> {
        if self.hash_only {
            if self.signer.has_keys() && !self.evm.evm {
                let message = "--hash-only makes no signatures: --keys is not used";
                return Err(hinted(message, "leave out --keys, or sign the metadata with --evm"));
            }
            // check once before the first file, not at each file
            Maker::Digest.check(self.hash())?;
            tell(caveat::of_hash(self.hash()), output);
            return sign(Maker::Digest, output);
        }
        if self.hash().is_weak() {
            match self.hash() {
                HashAlgorithm::Sha1 => output.warn("sha1 is weak: not collision resistant"),
                weak => {
                    let message = format!("no signatures over {weak}: not collision resistant");
                    return Err(hinted(message, "use sha256, sha384 or sha512"));
                }
            }
        }
        let signer = self.signer.resolve(output)?;
        let Some(directory) = self.cache() else {
            return self.with_signer(kind, &signer, output, sign);
        };
        let cached = Cached::new(signer, &directory)?;
        let signed = self.with_signer(kind, &cached, output, sign);
        let hits = count(cached.hits(), "signature");
        output.line(Level::Verbose, format_args!("{hits} from the cache"))?;
        if let Err(error) = cached.finish() {
            output.warn(&format!("signatures are not kept: {error}"));
        }
        signed
    }

    /// Runs `sign` with a key.
    fn with_signer<T>(
        &self,
        kind: Kind,
        signer: &dyn Signer,
        output: &mut Output,
        sign: impl FnOnce(Maker<'_>, &mut Output) -> Result<T>,
    ) -> Result<T> {
        let key = signer.public_key().key_type();
        let version = self.version(self.signed.kind(), key)?;
        let maker = Maker::Signature { signer, kind: self.signed.kind(), version };
        if kind == Kind::Rpm {
            output.line(Level::Verbose, format_args!("signing with {}", describe(signer)))?;
            maker.check(HashAlgorithm::Sha256)?;
            return sign(maker, output);
        }
        let mut what = format!("{} over {}", describe(signer), self.hash());
        if version != SignatureVersion::V2 {
            what += &format!(", version {version}");
        }
        output.line(Level::Verbose, format_args!("signing with {what}"))?;
        maker.check(self.hash())?;
        if self.for_kernel.is_empty() {
            tell(caveat::of_key(key), output);
            if default_version(key, self.signed.kind()) != version {
                tell(caveat::of_version(version), output);
            }
            tell(caveat::of_hash(self.hash()), output);
        }
        sign(maker, output)
    }

    /// The version of the signatures: one that all requested kernels verify.
    fn version(&self, kind: SignatureKind, key: KeyType) -> Result<SignatureVersion> {
        let version = self.signature_version.unwrap_or(default_version(key, kind));
        let form = Form { kind, version, key, algorithm: self.hash() };
        match (self.for_kernel.as_slice(), self.signature_version) {
            ([], _) => Ok(version),
            (kernels, None) => Ok(form.for_kernels(kernels)?.version),
            (kernels, Some(_)) => match kernels.iter().find(|it| !form.is_verified_by(**it)) {
                None => Ok(version),
                Some(kernel) => {
                    let message = format!("Linux {kernel} does not verify {form}");
                    Err(hinted(message, "leave out --signature-version to have one chosen"))
                }
            },
        }
    }
}

/// Prints what was signed.
struct SignPrinter<'a> {
    args: &'a SignFilesArgs,
    key_id: Option<KeyId>,
    evm_key_id: Option<KeyId>,
    /// Files of packages.
    files: u64,
    /// Files whose `security.evm` was made again.
    renewed: u64,
    /// Files whose `security.evm` is no longer valid.
    outdated: u64,
}

impl SignPrinter<'_> {
    fn result(&self, signed: bool) -> &'static str {
        match (signed, self.args.dry_run) {
            (false, _) => "unchanged",
            (true, true) => "would-sign",
            (true, false) => "signed",
        }
    }

    /// Reports signatures of metadata that were made again, and warns of files that a kernel with active EVM denies
    /// from now on.
    fn report_evm(&self, output: &mut Output) {
        if self.renewed > 0 {
            let files = count(self.renewed, "file");
            output.note(&format!(
                "{files}: security.evm was valid, and was signed again by its key to cover the new \
                 security.ima"
            ));
        }
        if self.outdated > 0 {
            let files = count(self.outdated, "file");
            output.warn(&format!(
                "{files}: security.evm covers the old security.ima and is no longer valid; \
                 --evm renews it"
            ));
        }
    }

    fn conclude(&self, totals: &Totals, output: &mut Output) -> Result<Outcome> {
        let (signed, unchanged) = (totals.tally.matched, totals.tally.other);
        let is_packages = totals.noun == "package";
        let files = is_packages.then_some(self.files);
        totals.summarize(("signed", "unchanged"), files, output)?;
        let done = if self.args.dry_run { "would sign" } else { "signed" };
        let mut line = format!("{done} {}", count(signed, totals.noun));
        if is_packages {
            line += &format!(" ({})", count(self.files, "file"));
        }
        if unchanged > 0 || (self.args.changed && !is_packages) {
            line += &format!(", left {} unchanged", count(unchanged, totals.noun));
        }
        let mut time = format!(" in {:.2} s", totals.seconds);
        if !is_packages {
            time = format!(" ({}){time}", indicatif::DecimalBytes(totals.bytes));
        }
        totals.conclude(line, &time, "not signed", output)
    }
}

impl Printer<Signed> for SignPrinter<'_> {
    fn file(
        &mut self,
        name: Name<'_>,
        size: u64,
        signed: &Signed,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let (is_signed, evm) = match signed {
            Signed::Signed { evm, .. } => (true, *evm),
            Signed::Unchanged { .. } => (false, EvmEffect::Absent),
        };
        self.outdated += u64::from(evm == EvmEffect::Outdated);
        self.renewed += u64::from(matches!(evm, EvmEffect::Renewed(_)));
        let evm_key_id = match evm {
            EvmEffect::Renewed(key_id) => Some(key_id),
            _ => self.evm_key_id,
        };
        let changed = Changed {
            kind: "file",
            name,
            size: Some(size),
            result: self.result(is_signed),
            files: None,
            hash: Some(self.args.hash().name()),
            key_id: self.key_id.map(|key_id| key_id.to_string()),
            evm: match evm {
                EvmEffect::Absent => None,
                EvmEffect::Made => Some("signed"),
                EvmEffect::Renewed(_) => Some("renewed"),
                EvmEffect::Outdated => Some("outdated"),
            },
            evm_key_id: evm_key_id.map(|key_id| key_id.to_string()),
            dry_run: self.args.dry_run,
        };
        (is_signed, output.show(&changed))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Signed>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let files = files.len() as u64;
        self.files += files;
        let changed = Changed {
            kind: "package",
            name: path.into(),
            size: None,
            result: self.result(package.changed),
            files: Some(files),
            hash: Some(package.algorithm.name()),
            key_id: self.key_id.map(|key_id| key_id.to_string()),
            evm: None,
            evm_key_id: None,
            dry_run: self.args.dry_run,
        };
        (package.changed, output.show(&changed))
    }
}

/// Prints a caveat before anything is signed.
fn tell(caveat: Option<Caveat>, output: &mut Output) {
    let Some(Caveat { severity, message, hint, .. }) = caveat else { return };
    let text = format!("{message}; {hint}");
    match severity {
        Severity::Note => output.note(&text),
        Severity::Warning | Severity::Error => output.warn(&text),
    }
}
