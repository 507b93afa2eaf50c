//! `imactl keys`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use ima::key::certificate::Certificate;
use ima::key::check::{self, Finding, Material, Severity};
use ima::key::create::{self, KeyAlgorithm, Plan, Purpose};
use ima::system::{load_certificate, Machine};
use ima::HashAlgorithm;
use serde::Serialize;

use crate::hint::hinted;
use crate::output::{JsonPath, Level, Output, Style};
use crate::passphrase::PassphraseArgs;
use crate::Outcome;

/// Make, show, check and load keys and certificates
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    Create(CreateArgs),
    Show(ShowArgs),
    Check(CheckArgs),
    Load(LoadArgs),
}

impl KeysArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match &self.command {
            KeysCommand::Create(args) => args.run(output),
            KeysCommand::Show(args) => args.run(output),
            KeysCommand::Check(args) => args.run(output),
            KeysCommand::Load(args) => args.run(output),
        }
    }
}

/// Make a key store: a chain of keys and certificates
///
/// system_trusted_keys (the CA that goes into the kernel), secondary_trusted_keys (a CA that
/// it signed), modsign_keys (signs modules) and ima_keys (signs files). The passphrase
/// encrypts all private keys but the one for modules, which the kernel's build reads.
/// Nothing that is there is overwritten; all is made, or nothing.
#[derive(Debug, Args)]
struct CreateArgs {
    /// The store's directory; it is made
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// rsa-2048, rsa-3072, rsa-4096, p-256, p-384, or p-521 (Linux 6.10 and newer)
    #[arg(long, value_name = "NAME", default_value = "rsa-2048")]
    algorithm: KeyAlgorithm,
    /// Hash algorithm of the certificates' signatures: sha256, sha384 or sha512
    #[arg(long, value_name = "NAME", default_value = "sha256")]
    hash: HashAlgorithm,
    /// Days that the certificates are valid (no kernel keyring looks at it)
    #[arg(long, value_name = "N", default_value_t = 3650,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Organization of the certificates' subjects
    #[arg(long, value_name = "NAME", default_value = "imactl")]
    organization: String,
    /// What the common names of the certificates' subjects begin with
    #[arg(long, value_name = "NAME", default_value = "Integrity")]
    common_name: String,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the private keys without a passphrase
    #[arg(long, conflicts_with = "PassphraseArgs")]
    no_passphrase: bool,
    /// Make keys for development: marked as such, without a passphrase
    #[arg(long, conflicts_with_all = ["PassphraseArgs", "no_passphrase"])]
    sample: bool,
}

#[derive(Serialize)]
struct JsonCertificate {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    subject: String,
    issuer: String,
    key_id: String,
    subject_key_identifier: Option<String>,
    algorithm: String,
    serial: String,
    not_before: String,
    not_after: String,
    days_left: i32,
    usage: String,
    fingerprint_sha256: String,
    self_signed: bool,
    sample: bool,
}

impl CreateArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let passphrase = match self.no_passphrase || self.sample {
            true => None,
            false => Some(self.new_passphrase()?),
        };
        let plan = Plan {
            algorithm: self.algorithm,
            hash: self.hash,
            days: self.days,
            organization: self.organization.clone(),
            common_name: self.common_name.clone(),
            passphrase,
            purpose: if self.sample { Purpose::Sample } else { Purpose::Production },
        };
        for (role, certificate) in create::create(&self.directory, &plan)? {
            print_certificate(&role.path(&self.directory, "der"), &certificate, output)?;
        }
        if self.sample {
            output.warn("these are sample keys, for development only: do not ship");
        }
        Ok(Outcome::Good)
    }

    fn new_passphrase(&self) -> Result<ima::key::passphrase::Passphrase> {
        match self.passphrase.ask_new()? {
            Some(passphrase) if passphrase.as_bytes().is_empty() => {
                Err(hinted("the passphrase is empty", "say --no-passphrase if that is meant"))
            }
            Some(passphrase) => Ok(passphrase),
            None => Err(hinted(
                "no passphrase for the private keys, and no terminal to ask on",
                "give --passphrase-file, --passphrase-env or --passphrase-fd; or --no-passphrase",
            )),
        }
    }
}

/// Show certificates and keys
#[derive(Debug, Args)]
struct ShowArgs {
    /// Files (PEM or DER), key stores, directories of certificates
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct JsonKey {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    algorithm: String,
    default_key_id: String,
    encrypted: bool,
}

impl ShowArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut findings = Vec::new();
        let mut ask = |path: &Path| self.passphrase.ask(path);
        let materials = check::read(&self.paths, &mut ask, &mut findings);
        // a store keeps each certificate in PEM and in DER
        let mut shown = BTreeSet::new();
        for Material { path, certificates, key } in &materials {
            for certificate in certificates {
                if shown.insert(certificate.der().to_vec()) {
                    print_certificate(path, certificate, output)?;
                }
            }
            let Some(key) = key else { continue };
            let algorithm = key.public_key().key_type().to_string();
            let default_key_id = key.public_key().default_key_id()?.to_string();
            let encrypted = key.is_encrypted();
            let state = if encrypted { "encrypted" } else { "not encrypted" };
            let path_text = output.paint(Style::Bold, &path.display().to_string());
            let line = format!("{path_text}\n    private key    {algorithm}, {state}");
            output.line(Level::Normal, &line)?;
            let path = path.as_path().into();
            output.json(&JsonKey { kind: "key", path, algorithm, default_key_id, encrypted })?;
        }
        for finding in &findings {
            print_finding(finding, output)?;
        }
        Ok(if findings.is_empty() { Outcome::Good } else { Outcome::Failed })
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
    if output.is_json() {
        return Ok(output.json(&JsonCertificate {
            kind: "certificate",
            path: path.into(),
            subject: certificate.subject(),
            issuer: certificate.issuer(),
            key_id: certificate.key_id().to_string(),
            subject_key_identifier: identifier,
            algorithm,
            serial: certificate.serial(),
            not_before,
            not_after,
            days_left: certificate.days_left()?,
            usage: certificate.usage().to_string(),
            fingerprint_sha256: fingerprint,
            self_signed: certificate.is_self_signed(),
            sample: certificate.is_sample(),
        })?);
    }
    let issuer = match certificate.is_self_signed() {
        true => "itself".to_owned(),
        false => certificate.issuer(),
    };
    let signed_over = certificate.signature_hash().map_or("?", |hash| hash.name());
    let path = output.paint(Style::Bold, &path.display().to_string());
    output.line(Level::Normal, &path)?;
    for (field, value) in [
        ("subject", certificate.subject()),
        ("issuer", format!("{issuer} (over {signed_over})")),
        ("key id", certificate.key_id().to_string()),
        ("key", algorithm),
        ("usage", certificate.usage().to_string()),
        ("validity", format!("{not_before} to {not_after}")),
        ("serial", certificate.serial()),
        ("SHA-256", fingerprint),
    ] {
        output.line(Level::Normal, &format!("    {field:<14} {value}"))?;
    }
    Ok(())
}

/// Check keys and certificates: chain, identifiers, strength, permissions, expiry
///
/// Exit status 1 if a finding is an error.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Files (PEM or DER), key stores, directories of certificates
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    severity: &'static str,
    name: &'a str,
    message: &'a str,
    hint: &'a str,
}

impl CheckArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut findings = Vec::new();
        let mut ask = |path: &Path| self.passphrase.ask(path);
        let materials = check::read(&self.paths, &mut ask, &mut findings);
        findings.extend(check::check(&materials)?);
        for finding in &findings {
            print_finding(finding, output)?;
        }
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        if findings.is_empty() {
            output.line(Level::Normal, "nothing wrong")?;
        }
        Ok(if errors > 0 { Outcome::Finding } else { Outcome::Good })
    }
}

fn print_finding(finding: &Finding, output: &mut Output) -> Result<()> {
    let Finding { path, severity, name, message, hint } = finding;
    output.json(&JsonFinding {
        kind: "finding",
        path: path.as_path().into(),
        severity: severity.name(),
        name,
        message,
        hint,
    })?;
    let (style, level) = match severity {
        Severity::Error => (Style::Bad, Level::Quiet),
        Severity::Warning => (Style::Warning, Level::Quiet),
        Severity::Note => (Style::Dim, Level::Normal),
    };
    let word = output.paint(style, &format!("{}[{name}]", severity.name()));
    output.line(level, &format!("{word} {}: {message}", path.display()))?;
    output.line(level, &format!("    {} {hint}", output.paint(Style::Dim, "hint:")))?;
    Ok(())
}

/// Add certificates to a keyring of the running kernel
///
/// The kernel decides: .ima takes what a key in .builtin_trusted_keys or
/// .secondary_trusted_keys signed. All certificates are tried.
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
                        if let Some(hint) = error.hint() {
                            output.complain(Style::Dim, "hint:", hint);
                        }
                    }
                }
            }
        }
        Ok(outcome)
    }
}
