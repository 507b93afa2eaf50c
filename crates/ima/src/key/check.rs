//! What is wrong with keys and certificates, before a kernel says `-ENOKEY`.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;

use super::certificate::{Certificate, CertificateError, Usage};
use super::private::{AskPassphrase, PrivateKey, PrivateKeyError};
use super::store::{certificate_files, is_sample_directory, Role};
use super::KeyType;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, but should not stay so.
    Warning,
    /// Does not work, or is not safe.
    Error,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The file that it is about.
    pub path: PathBuf,
    /// How bad it is.
    pub severity: Severity,
    /// A name for it, in kebab case, that stays the same.
    pub name: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, severity, name, message, .. } = self;
        write!(f, "{}: {}[{name}]: {message}", path.display(), severity.name())
    }
}

/// What was read from one file: what it is, or the finding that it is nothing.
#[derive(Debug)]
pub struct Material {
    /// The file.
    pub path: PathBuf,
    /// The certificates in it.
    pub certificates: Vec<Certificate>,
    /// The private key in it.
    pub key: Option<PrivateKey>,
}

/// Reads the keys and certificates in files and directories (key stores: all four
/// directories; others: the directory itself). Files that hold neither are findings.
pub fn read(
    paths: &[PathBuf],
    ask: &mut AskPassphrase<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Material> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files_in(path, &mut files, findings),
            false => files.push(path.clone()),
        }
    }
    files.iter().filter_map(|path| read_file(path, ask, findings)).collect()
}

fn files_in(directory: &Path, files: &mut Vec<PathBuf>, findings: &mut Vec<Finding>) {
    let before = files.len();
    let inner = Role::ALL.iter().map(|role| directory.join(role.directory()));
    for directory in inner.filter(|path| path.is_dir()).chain([directory.to_owned()]) {
        match certificate_files(&directory) {
            Ok(found) => files.extend(found),
            Err(error) => findings.push(unreadable(&directory, error.to_string())),
        }
        let keys = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut keys: Vec<_> = keys.map(|entry| entry.path()).collect();
        keys.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
        keys.sort();
        files.extend(keys);
    }
    if files.len() == before {
        findings.push(unreadable(directory, "no key and no certificate in it".to_owned()));
    }
}

fn unreadable(path: &Path, message: String) -> Finding {
    Finding {
        path: path.to_owned(),
        severity: Severity::Error,
        name: "unreadable",
        message,
        hint: "give keys and certificates in PEM or DER, or the directory of a key store",
    }
}

fn read_file(
    path: &Path,
    ask: &mut AskPassphrase<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Material> {
    let certificates = match Certificate::read_all(path) {
        Ok(certificates) => certificates,
        Err(CertificateError::NotACertificate { .. }) => Vec::new(),
        Err(error) => {
            findings.push(unreadable(path, error.to_string()));
            return None;
        }
    };
    let key = match PrivateKey::read(path, ask) {
        Ok(key) => Some(key),
        Err(PrivateKeyError::NotAKey { .. }) => None,
        Err(error) => {
            findings.push(unreadable(path, error.to_string()));
            return None;
        }
    };
    if key.is_none() && certificates.is_empty() {
        findings.push(unreadable(path, "neither a key nor a certificate".to_owned()));
        return None;
    }
    Some(Material { path: path.to_owned(), certificates, key })
}

/// Collects findings about one file.
struct Report<'a> {
    path: &'a Path,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn say(&mut self, severity: Severity, name: &'static str, message: String, hint: &'static str) {
        let path = self.path.to_owned();
        self.findings.push(Finding { path, severity, name, message, hint });
    }
}

/// Checks keys and certificates, each by itself and against the others. Issuers are looked
/// for among all the certificates given.
pub fn check(materials: &[Material]) -> Result<Vec<Finding>, ErrorStack> {
    let mut findings = Vec::new();
    let all: Vec<&Certificate> =
        materials.iter().flat_map(|material| &material.certificates).collect();
    for material in materials {
        let mut report = Report { path: &material.path, findings: &mut findings };
        if let Some(key) = &material.key {
            check_key(key, &all, &mut report)?;
        }
        for certificate in &material.certificates {
            check_certificate(certificate, &mut report)?;
            check_chain(certificate, &all, &mut report);
        }
    }
    // said once, for whatever bears the mark
    let mut samples = 0;
    findings.retain(|finding| {
        samples += usize::from(finding.name == SAMPLE_KEY);
        finding.name != SAMPLE_KEY || samples == 1
    });
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

fn check_key(
    key: &PrivateKey,
    certificates: &[&Certificate],
    report: &mut Report<'_>,
) -> Result<(), ErrorStack> {
    check_key_type(key.public_key().key_type(), report);
    if let Ok(metadata) = report.path.metadata() {
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("private key with mode {mode:04o}: others can read or change it");
            report.say(Severity::Error, "key-permissions", message, "chmod 0600 the file");
        }
    }
    if let Some(mode) = open_directory_mode(report.path) {
        let message = format!("in a directory with mode {mode:04o}: others can replace the key");
        report.say(Severity::Warning, "directory-permissions", message, "chmod 0700 the directory");
    }
    let beside = report.path.parent().unwrap_or(Path::new("."));
    let is_module_key = report.path.file_stem() == Some(Role::Modsign.stem().as_ref());
    let is_sample = is_sample_directory(beside);
    if is_sample {
        say_sample(report);
    }
    if !key.is_encrypted() && !is_module_key && !is_sample {
        let message = "private key without a passphrase".to_owned();
        let hint = "encrypt it (openssl pkcs8 -topk8 -v2 aes-256-cbc), or keep it in a token";
        report.say(Severity::Warning, "key-not-encrypted", message, hint);
    }
    let named_alike = certificates_beside(report.path);
    let pairs = |certificate: &Certificate| certificate.public_key().is(key.public_key());
    if !named_alike.is_empty() && !named_alike.iter().any(pairs) {
        let message = "not the private key of the certificate beside it".to_owned();
        let hint = "the kernel will refuse every signature: find the key that belongs to it";
        report.say(Severity::Error, "key-mismatch", message, hint);
    } else if named_alike.is_empty() && !certificates.iter().any(|certificate| pairs(certificate)) {
        let key_id = key.public_key().default_key_id()?;
        let message = format!("no certificate for this key; its key id would be {key_id}");
        let hint = "give the certificate too: its Subject Key Identifier may be another";
        report.say(Severity::Note, "no-certificate", message, hint);
    }
    Ok(())
}

fn open_directory_mode(path: &Path) -> Option<u32> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let mode = directory.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o022 != 0).then_some(mode)
}

/// The certificates in files that are named as the key is.
fn certificates_beside(key: &Path) -> Vec<Certificate> {
    let directory = key.parent().filter(|parent| !parent.as_os_str().is_empty());
    let files = certificate_files(directory.unwrap_or(Path::new("."))).unwrap_or_default();
    let alike = files.into_iter().filter(|path| path.file_stem() == key.file_stem());
    alike.filter_map(|path| Certificate::read_all(&path).ok()).flatten().collect()
}

const SAMPLE_KEY: &str = "sample-key";

fn say_sample(report: &mut Report<'_>) {
    let message = "a sample key, made for development: it must not ship".to_owned();
    let hint = "make keys of your own: imactl keys create DIR";
    report.say(Severity::Warning, SAMPLE_KEY, message, hint);
}

fn check_key_type(key_type: KeyType, report: &mut Report<'_>) {
    match key_type {
        KeyType::Rsa(bits) if bits < 2048 => {
            let message = format!("RSA with {bits} bits: too short to be safe");
            report.say(Severity::Error, "weak-key", message, "use RSA-2048 or more, or P-256");
        }
        KeyType::Rsa(bits) if bits > 4096 => {
            let message = format!("RSA with {bits} bits: the kernel takes up to 4096");
            report.say(Severity::Error, "key-too-long", message, "use RSA-4096, or P-384");
        }
        key_type if !key_type.verifiable_over(ima_format::hash::HashAlgorithm::Sha256) => {
            let message = format!("{key_type}: the kernel cannot verify files with it");
            let hint = "use RSA, P-256 or P-384 (P-521 from Linux 6.10 on)";
            report.say(Severity::Error, "unsuitable-key", message, hint);
        }
        KeyType::Ecdsa(super::Curve::P521) => {
            let message = "P-521: only Linux 6.10 and newer verify with it".to_owned();
            report.say(Severity::Note, "newer-kernel", message, "use P-384 for older kernels");
        }
        KeyType::Ecdsa(super::Curve::P192) => {
            let message = "P-192: too short to be safe".to_owned();
            report.say(Severity::Error, "weak-key", message, "use P-256 or P-384");
        }
        _ => {}
    }
}

fn check_certificate(certificate: &Certificate, report: &mut Report<'_>) -> Result<(), ErrorStack> {
    check_key_type(certificate.public_key().key_type(), report);
    match certificate.signature_hash() {
        Some(hash) if hash.is_weak() => {
            let message = format!("signed over {hash}, for which collisions can be made");
            report.say(Severity::Error, "weak-hash", message, "have it signed over sha256");
        }
        None => {
            let message = "signed by an algorithm that the kernel does not know".to_owned();
            report.say(Severity::Error, "unknown-signature", message, "have it signed over sha256");
        }
        Some(_) => {}
    }
    if certificate.subject_key_identifier().is_none() {
        let message = "no Subject Key Identifier: the kernel finds keys by it".to_owned();
        let hint = "issue it anew with subjectKeyIdentifier=hash";
        report.say(Severity::Error, "no-subject-key-identifier", message, hint);
    }
    if certificate.is_sample() {
        say_sample(report);
    }
    let days = certificate.days_left()?;
    let hint = "no kernel keyring looks at validity, but auditors and other tools do";
    if days < 0 {
        let message = format!("expired {} days ago ({})", -days, certificate.not_after());
        report.say(Severity::Error, "expired", message, hint);
    } else if days < 30 {
        let message = format!("expires in {days} days ({})", certificate.not_after());
        report.say(Severity::Warning, "expires-soon", message, hint);
    }
    if !certificate.is_valid_yet()? {
        let message = format!("not valid before {}", certificate.not_before());
        report.say(Severity::Warning, "not-yet-valid", message, hint);
    }
    check_usage(certificate, report);
    Ok(())
}

fn check_usage(certificate: &Certificate, report: &mut Report<'_>) {
    let usage = certificate.usage();
    let is_ca = usage.ca == Some(true);
    if is_ca && usage.key_usage.is_some() && !usage.has(Usage::KEY_CERT_SIGN) {
        let message = "a CA whose key usage lacks keyCertSign".to_owned();
        let hint = "issue it anew with keyUsage=critical,keyCertSign,cRLSign";
        report.say(Severity::Error, "ca-usage", message, hint);
    }
    if is_ca {
        return;
    }
    if usage.has(Usage::KEY_CERT_SIGN) {
        let message = "keyCertSign without CA:TRUE: .ima takes no such certificate".to_owned();
        let hint = "issue it anew with keyUsage=critical,digitalSignature";
        report.say(Severity::Error, "signer-usage", message, hint);
    } else if !usage.has(Usage::DIGITAL_SIGNATURE) {
        let message =
            "key usage lacks digitalSignature: .ima of newer kernels (6.12) takes no such certificate";
        let hint = "issue it anew with keyUsage=critical,digitalSignature";
        report.say(Severity::Error, "signer-usage", message.to_owned(), hint);
    }
}

fn check_chain(certificate: &Certificate, all: &[&Certificate], report: &mut Report<'_>) {
    let is_ca = certificate.usage().ca == Some(true);
    if certificate.is_self_signed() {
        if !is_ca {
            let message = "self-signed: .ima takes only what a trusted key signed".to_owned();
            let hint = "have it signed by the system trusted key";
            report.say(Severity::Error, "self-signed", message, hint);
        }
        return;
    }
    let Some(wanted) = certificate.authority_key_identifier() else {
        let message = "no Authority Key Identifier: the kernel finds the issuer by it".to_owned();
        let hint = "issue it anew with authorityKeyIdentifier=keyid";
        report.say(Severity::Error, "no-authority-key-identifier", message, hint);
        return;
    };
    let named = |issuer: &&&Certificate| issuer.subject_key_identifier() == Some(wanted);
    match all.iter().find(named) {
        None => {
            let message = format!("issued by {}, which is not here", certificate.issuer());
            let hint = "give the issuer's certificate too, to have the chain checked";
            report.say(Severity::Note, "issuer-missing", message, hint);
        }
        Some(issuer) if !certificate.is_signed_by(issuer) => {
            let message = format!("not signed by {}, which it names", issuer.subject());
            let hint = "the kernel will refuse it: have it issued anew";
            report.say(Severity::Error, "bad-chain", message, hint);
        }
        Some(issuer) if issuer.usage().ca != Some(true) => {
            let message = format!("signed by {}, which is no CA", issuer.subject());
            let hint = "sign it with a certificate that has CA:TRUE and keyCertSign";
            report.say(Severity::Warning, "issuer-is-no-ca", message, hint);
        }
        Some(_) => {}
    }
}
