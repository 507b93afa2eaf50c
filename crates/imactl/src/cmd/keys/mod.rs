//! `imactl keys`

mod certify;
mod create;
mod rotate;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ima::advice::Advice;
use ima::key::acceptance::{refused_for_itself, Keyring};
use ima::key::certificate::Certificate;
use ima::key::check::{self, Finding, Severity};
use ima::system::{load_certificate, Machine};

use crate::error::Result;
use crate::output::{Level, Output, Style};
use crate::passphrase::PassphraseArgs;
use crate::report::Failures;
use crate::Outcome;

/// Make, show, check and load keys and certificates
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    Create(create::CreateArgs),
    Certify(certify::CertifyArgs),
    Rotate(Box<rotate::RotateArgs>),
    Show(show::ShowArgs),
    Check(CheckArgs),
    Load(LoadArgs),
}

impl KeysArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match &self.command {
            KeysCommand::Create(args) => args.run(output),
            KeysCommand::Certify(args) => args.run(output),
            KeysCommand::Rotate(args) => args.run(output),
            KeysCommand::Show(args) => args.run(output),
            KeysCommand::Check(args) => args.run(output),
            KeysCommand::Load(args) => args.run(output),
        }
    }
}

fn print_certificate(path: &Path, certificate: &Certificate, output: &mut Output) -> Result<()> {
    let algorithm = certificate.public_key().key_type().to_string();
    let (not_before, not_after) =
        (certificate.not_before().to_string(), certificate.not_after().to_string());
    let identifier = certificate
        .subject_key_identifier()
        .map(|identifier| ima_format::hex::Hex(identifier).to_string());
    let fingerprint = certificate.fingerprint()?;
    let keyring = check::keyring_of(path, certificate);
    let refused = refused_for_itself(keyring, certificate.der());
    if output.is_json() {
        return Ok(output
            .object("certificate")
            .path(path)
            .field("subject", certificate.subject())
            .field("issuer", certificate.issuer())
            .field("key_id", certificate.key_id().to_string())
            .field("subject_key_identifier", identifier)
            .field("algorithm", algorithm)
            .field("serial", certificate.serial())
            .field("not_before", not_before)
            .field("not_after", not_after)
            .field("days_left", certificate.days_left()?)
            .field("usage", certificate.usage().to_string())
            .field("fingerprint_sha256", fingerprint)
            .field("self_signed", certificate.is_self_signed())
            .field("sample", certificate.is_sample())
            .field("keyring", keyring.name())
            .field("rejected", refused.map(|refused| refused.to_string()))
            .end()?);
    }
    let issuer = match certificate.is_self_signed() {
        true => "itself".to_owned(),
        false => certificate.issuer(),
    };
    let accepted = match (refused, keyring.takes_keys_from_programs()) {
        (Some(refused), _) => refused.to_string(),
        (None, true) => format!("{keyring} accepts it, if a trusted key issued it"),
        (None, false) => format!("{keyring} accepts it, compiled in"),
    };
    let signed_over = match certificate.signature_hash() {
        Some(hash) => format!(" (over {hash})"),
        None => String::new(),
    };
    let path = output.paint(Style::Bold, &path.display().to_string());
    output.line(Level::Normal, &path)?;
    for (field, value) in [
        ("subject", certificate.subject()),
        ("issuer", format!("{issuer}{signed_over}")),
        ("key id", certificate.key_id().to_string()),
        ("key", algorithm),
        ("usage", certificate.usage().to_string()),
        ("validity", format!("{not_before} to {not_after} (the kernel ignores it)")),
        ("serial", certificate.serial()),
        ("SHA-256", fingerprint),
        ("kernel", accepted),
    ] {
        output.line(Level::Normal, format_args!("    {field:<14} {value}"))?;
    }
    Ok(())
}

/// Check keys and certificates: chain, identifiers, strength, permissions, expiry
///
/// In a key store (a directory with its layout) each certificate must be issued by a CA of the
/// store, if the store has one, and match the private key in the file next to it. A file named as
/// in a store, or x509_secondary_*, is checked against the keyring that it is for, any other
/// against .ima. The keyrings are those of Linux 6.1, 6.12, 7.2 and 7.3, whose sources were read; a
/// finding names the versions if not all of them agree, and only what 7.3 rejects is an error (since
/// 6.6 .ima and .evm demand digitalSignature and reject CAs; docs/kernels.md). Without a passphrase, encrypted keys are not opened; everything else is checked.
/// Exit status 1 if a finding is an error, 2 if a path cannot be read.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Files (PEM or DER), key stores, directories of certificates
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl CheckArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut findings = Vec::new();
        let (paths, failures) = readable(&self.paths, output)?;
        let mut ask = self.passphrase.ask_once()?;
        let materials = check::read(&paths, &mut ask, &mut findings);
        findings.extend(check::check(&materials)?);
        for finding in &findings {
            print_finding(finding, output)?;
        }
        if findings.is_empty() && failures.count() == 0 {
            output.line(Level::Normal, "nothing wrong")?;
        }
        Ok(match failures.count() {
            0 if has_error(&findings) => Outcome::Finding,
            0 => Outcome::Good,
            _ => Outcome::Failed,
        })
    }
}

fn has_error(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// The paths that can be read; errors of the others are reported.
fn readable(paths: &[PathBuf], output: &mut Output) -> Result<(Vec<PathBuf>, Failures)> {
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for path in paths {
        let looked = fs::metadata(path).and_then(|metadata| match metadata.file_type() {
            kind if kind.is_dir() => fs::read_dir(path).map(drop),
            kind if kind.is_file() => fs::File::open(path).map(drop),
            // do not open anything else: a FIFO would block
            _ => Ok(()),
        });
        match looked {
            Ok(()) => found.push(path.clone()),
            Err(error) => failures.container(path.as_path().into(), "key", &error, output)?,
        }
    }
    Ok((found, failures))
}

fn print_finding(finding: &Finding, output: &mut Output) -> Result<()> {
    let Finding { path, severity, name, message, hint } = finding;
    output
        .object("finding")
        .path(path.as_path())
        .field("severity", severity.name())
        .field("name", name)
        .field("message", message)
        .field("hint", hint)
        .end()?;
    let (style, level) = match severity {
        Severity::Error => (Style::Bad, Level::Quiet),
        Severity::Warning => (Style::Warning, Level::Quiet),
        Severity::Note => (Style::Dim, Level::Normal),
    };
    let word = output.paint(style, &format!("{}[{name}]", severity.name()));
    output.line(level, format_args!("{word} {}: {message}", path.display()))?;
    output.line(level, format_args!("    {} {hint}", output.paint(Style::Dim, "hint:")))?;
    Ok(())
}

/// Add certificates to a keyring of the running kernel
///
/// The kernel decides: .ima accepts certificates that a key in .builtin_trusted_keys or
/// .secondary_trusted_keys signed. An error does not stop the run: all certificates are tried.
#[derive(Debug, Args)]
struct LoadArgs {
    /// Certificates (PEM or DER)
    #[arg(value_name = "CERT", required = true)]
    paths: Vec<PathBuf>,
    /// The keyring
    #[arg(long, value_name = "NAME", default_value = ".ima")]
    keyring: String,
}

impl LoadArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let machine = Machine::here();
        let mut outcome = Outcome::Good;
        let keyring = Keyring::from_name(self.keyring.as_bytes());
        for path in &self.paths {
            for certificate in Certificate::read_all(path)? {
                match load_certificate(&machine, &self.keyring, &certificate) {
                    Ok(()) => {
                        let (key_id, subject) = (certificate.key_id(), certificate.subject());
                        let line = format!("{}: {key_id} {subject}", self.keyring);
                        output.line(Level::Normal, &line)?;
                    }
                    Err(error) => {
                        outcome = Outcome::Failed;
                        output.complain(Style::Bad, "error:", &error.to_string());
                        let refused = keyring
                            .and_then(|keyring| refused_for_itself(keyring, certificate.der()));
                        let reason = refused.map(|refused| refused.to_string());
                        if let Some(hint) = reason.as_deref().or(error.advice()) {
                            output.complain(Style::Dim, "hint:", hint);
                        }
                    }
                }
            }
        }
        Ok(outcome)
    }
}
