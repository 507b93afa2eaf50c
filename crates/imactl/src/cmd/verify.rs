//! `imactl verify`

mod rpm;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ima::container::rpm::{FileContent, PackageSummary, Payload};
use ima::container::{Anomaly, Operation, Report};
use ima::evm::{Binding, HmacKey};
use ima::modsig;
use ima::operation::{EvmVerify, Judgement, Verify, VerifyAppended};
use ima::verify::{Keyring, Requirement, Rule, Verdict};
use ima_format::verity::Salt;
use serde::Serialize;

use crate::args::KeyringArgs;
use crate::error::Result;
use crate::evm::{hmac_key, CoverageArgs, ProtectedArgs, VersionsArgs};
use crate::inputs::{InputArgs, Inputs};
use crate::kernel::{warn_of_hearsay, KernelArgs};
use crate::output::{count, Entry, Level, Name, Output, Style};
use crate::report::{self, Printer, Results};
use crate::Outcome;

/// Verify files and print a verdict for each, in the kernel's words
///
/// Prints `valid`, or the cause that the kernel's audit record would give. The exit status is 1 if a
/// file is not valid, 2 if a file could not be read. If there was nothing to verify, it is 1, unless
/// --allow-empty is given.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// Requirement of the policy: sigv3 is a signature of version 3, verity one over the fs-verity
    /// digest; with digest, a matching digest is valid, too [default: signature]
    #[arg(long, value_name = "WHAT", help_heading = "Verdict")]
    require: Option<Require>,
    /// Verify the signature appended to the content, as in modules and kernels, instead of
    /// security.ima; the module keys of --keys are trusted, too
    #[arg(long, conflicts_with_all = ["require", "evm", "xattr_namespace", "detached"])]
    #[arg(help_heading = "Verdict")]
    appended: bool,
    /// Salt of fs-verity, at most 32 bytes in hexadecimal digits [default: none]
    #[arg(long, value_name = "HEX", help_heading = "Verdict")]
    verity_salt: Option<Salt>,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    evm: VerifyEvmArgs,
    /// Exit with status 0 if there was nothing to verify [default: 1]
    #[arg(long, help_heading = "Verdict")]
    allow_empty: bool,
    /// Also unpack the payload of RPM packages, and compare each file with its digest
    #[arg(long, help_heading = "Packages")]
    payload: bool,
}

/// Whether metadata is verified, too
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
struct VerifyEvmArgs {
    /// Also verify security.evm, as a kernel on which EVM is enabled
    #[arg(long)]
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
    coverage: CoverageArgs,
    #[command(flatten)]
    protected: ProtectedArgs,
}

/// The keys that verify metadata.
struct EvmKeys {
    keyring: Keyring,
    hmac: Option<HmacKey>,
}

impl VerifyEvmArgs {
    /// The keys, if metadata is verified. HMACs need no certificate.
    fn keys(&self, keyring: &KeyringArgs, output: &mut Output) -> Result<Option<EvmKeys>> {
        if !self.evm {
            return Ok(None);
        }
        let hmac = self.hmac_key.as_deref().map(hmac_key).transpose()?;
        let keyring = match keyring.resolve_evm(&self.evm_cert, output) {
            Err(_) if hmac.is_some() && self.evm_cert.is_empty() => Keyring::default(),
            keyring => keyring?,
        };
        Ok(Some(EvmKeys { keyring, hmac }))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Require {
    Signature,
    Sigv3,
    Verity,
    Digest,
}

impl VerifyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut inputs = self.inputs.resolve()?;
        if let Some(packages) = inputs.packages() {
            packages.payload = if self.payload { Payload::Unpacked } else { Payload::Left };
        }
        let requirement = match self.require {
            None | Some(Require::Signature) => Requirement::Signature,
            Some(Require::Sigv3) => Requirement::SignatureV3,
            Some(Require::Verity) => Requirement::Verity,
            Some(Require::Digest) => Requirement::Digest,
        };
        let target = self.kernel.resolve()?;
        let kernel = target.version;
        warn_of_hearsay(kernel, output);
        if self.appended {
            let keyring = Keyring::of_certificates(&self.keyring.modules(output)?);
            return self.report(&VerifyAppended { keyring: &keyring, kernel }, inputs, output);
        }
        let keyring = self.keyring.resolve(output)?;
        let evm = self.evm.keys(&self.keyring, output)?;
        let salt = self.verity_salt.unwrap_or_default();
        let operation = Verify::new(&keyring, Rule { requirement, kernel, salt });
        let operation = match &evm {
            Some(EvmKeys { keyring, hmac }) => operation.with_evm(EvmVerify {
                keyring,
                coverage: {
                    let protected = self.evm.protected.resolve(&target)?;
                    self.evm.coverage.resolve(Binding::Portable, &inputs, (&target, protected))?
                },
                hmac: hmac.as_ref(),
                versions: self.evm.versions.resolve(),
            }),
            None => operation,
        };
        self.report(&operation, inputs, output)
    }

    /// Runs the operation, and prints its verdicts.
    fn report<O: Operation<Outcome = Judgement>>(
        &self,
        operation: &O,
        inputs: Inputs,
        output: &mut Output,
    ) -> Result<Outcome> {
        let mut printer = Verdicts::default();
        let totals =
            report::run(operation, inputs, Results::None, "verifying", output, &mut printer)?;
        let (valid, invalid) = (totals.tally.matched, totals.tally.other);
        let failed = totals.failures.count();
        totals.summarize(("valid", "invalid"), None, output)?;
        // a package without files is good, but nothing in it was verified
        if invalid + failed + printer.files == 0 {
            return self.nothing_verified(output);
        }
        let mut line = format!("{} valid", count(valid, totals.noun));
        for (number, text) in [(invalid, "not valid"), (failed, "not verified")] {
            if number > 0 {
                line += &format!(", {}", output.paint(Style::Bad, &format!("{number} {text}")));
            }
        }
        output.line(Level::Normal, &line)?;
        Ok(Outcome::of(failed, invalid))
    }

    /// Reports that there was nothing to verify: a mistyped path or glob must not look like success.
    fn nothing_verified(&self, output: &mut Output) -> Result<Outcome> {
        let (outcome, level, line) = match self.allow_empty {
            true => (Outcome::Good, Level::Normal, "no files"),
            false => (
                Outcome::Finding,
                Level::Quiet,
                "no files: nothing was verified (--allow-empty accepts that)",
            ),
        };
        output.line(level, line)?;
        Ok(outcome)
    }
}

/// The verdict on a file.
#[derive(Serialize)]
struct FileVerdict<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    name: Name<'a>,
    size: u64,
    valid: bool,
    verdict: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evm_detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evm_key_id: Option<String>,
    /// The state of the content, if the payload of its package was unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'static str>,
    #[serde(skip)]
    level: Level,
}

impl<'a> FileVerdict<'a> {
    fn new(name: Name<'a>, size: u64, judgement: &Judgement) -> Self {
        let (verdict, detail) = words(judgement);
        let (content, evm) = match judgement {
            Judgement::Kernel(content) => (Some(content), None),
            Judgement::WithEvm { content, evm } => (Some(content), Some(evm)),
            Judgement::Appended(_) | Judgement::Anomaly(_) | Judgement::NotSigned => (None, None),
        };
        let (hash, key_id) = match content {
            Some(Verdict::ValidSignature { key_id, algorithm }) => (Some(algorithm), Some(key_id)),
            Some(Verdict::ValidDigest { algorithm }) => (Some(algorithm), None),
            Some(Verdict::InvalidVeritySignature(Some(verdict))) => (None, verdict.key_id()),
            Some(verdict) => (None, verdict.key_id()),
            None => (None, None),
        };
        let (appended_hash, appended_key_id) = match judgement {
            Judgement::Appended(modsig::Verdict::Valid { key_id, over }) => match over {
                modsig::Over::Digest(algorithm) => (Some(algorithm), Some(key_id)),
                modsig::Over::Content => (None, Some(key_id)),
            },
            Judgement::Appended(verdict) => (None, verdict.key_id()),
            _ => (None, None),
        };
        Self {
            kind: "file",
            name,
            size,
            valid: judgement.is_good(),
            verdict,
            detail,
            key_id: key_id.or(appended_key_id).map(ToString::to_string),
            hash: hash.or(appended_hash).map(|algorithm| algorithm.name()),
            evm: evm.map(|evm| evm.cause().unwrap_or("valid")),
            evm_detail: evm.map(ToString::to_string),
            evm_key_id: evm.and_then(|evm| evm.key_id()).map(|key_id| key_id.to_string()),
            content: None,
            level: if judgement.is_good() { Level::Normal } else { Level::Quiet },
        }
    }

    /// Adds the state of its content in the payload.
    fn with_content(mut self, content: Option<FileContent>) -> Self {
        // one algorithm for all files: it is part of the package's line
        self.hash = None;
        let Some(content) = content else { return self };
        let (word, bad) = match content {
            FileContent::Matches => ("matches", None),
            FileContent::NoDigest => ("no-digest", Some(self.verdict)),
            FileContent::Differs => ("differs", Some("content-differs")),
            FileContent::Missing => ("missing", Some("content-missing")),
        };
        self.content = Some(word);
        if let Some(verdict) = bad {
            (self.valid, self.verdict) = (false, verdict);
        }
        self
    }
}

impl Entry for FileVerdict<'_> {
    fn level(&self) -> Level {
        self.level
    }

    fn text(&self, output: &Output) -> String {
        line(self.verdict, self.name, &self.detail, output)
    }
}

/// Prints verdicts.
#[derive(Default)]
struct Verdicts {
    /// Files with a verdict.
    files: u64,
}

impl Printer<Judgement> for Verdicts {
    fn file(
        &mut self,
        name: Name<'_>,
        size: u64,
        judgement: &Judgement,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        self.files += 1;
        (judgement.is_good(), output.show(&FileVerdict::new(name, size, judgement)))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Judgement>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let package = rpm::Package::new(path, package, files);
        self.files += package.verified;
        (package.is_good(), package.print(output))
    }
}

/// The word for a judgement, and the reason.
fn words(judgement: &Judgement) -> (&'static str, String) {
    match judgement {
        Judgement::Kernel(verdict) => (verdict.cause().unwrap_or("valid"), verdict.to_string()),
        Judgement::WithEvm { content, evm } => match (content, evm) {
            // a missing security.ima is reported before EVM's verdict
            (Verdict::Missing(_), _) => (content.cause().unwrap_or("valid"), content.to_string()),
            (_, evm) if !evm.is_valid() => (evm.cause().unwrap_or("valid"), evm.to_string()),
            _ => (content.cause().unwrap_or("valid"), format!("{content}; {evm}")),
        },
        Judgement::Appended(verdict) => (verdict.cause().unwrap_or("valid"), verdict.to_string()),
        Judgement::NotSigned => ("valid", "not signed".to_owned()),
        Judgement::Anomaly(anomaly) => {
            let word = match anomaly {
                Anomaly::OtherAlgorithm(_) => "invalid-signature",
                Anomaly::NoDigest => "no-digest",
                Anomaly::NameDisagrees => "hard-link-differs",
                Anomaly::NoContent => "no-content",
                _ => "invalid",
            };
            (word, anomaly.to_string())
        }
    }
}

/// Formats a verdict: its word, the file or package, and the reason.
fn line(word: &str, name: impl Display, detail: impl Display, output: &Output) -> String {
    let style = match word {
        "valid" => Style::Good,
        "empty" => Style::Warning,
        _ => Style::Bad,
    };
    let word = output.paint(style, &format!("{word:<22}"));
    let detail = output.paint(Style::Dim, &format!("({detail})"));
    format!("{word} {name} {detail}")
}
