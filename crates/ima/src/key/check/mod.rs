//! Faults of keys and certificates, found before a kernel returns `-ENOKEY`.

mod finding;
mod material;
mod store;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::error::ErrorStack;

use super::acceptance::{self, Keyring, Refusal};
use super::caveat::{self, Caveat};
use super::certificate::{Certificate, Usage};
use super::store::{is_sample_directory, Role};
use super::KeyType;
use finding::Report;
pub use finding::{Finding, Severity};
pub use material::{read, KeyFile, Material};

/// Checks keys and certificates, each by itself and against the others. Issuers are searched among all given
/// certificates; those of a key store's certificates among the CAs of the store, which its kernel trusts.
pub fn check(materials: &[Material]) -> Result<Vec<Finding>, ErrorStack> {
    let mut findings = Vec::new();
    let all: Vec<&Certificate> =
        materials.iter().flat_map(|material| &material.certificates).collect();
    for material in materials {
        let mut report = Report { path: &material.path, findings: &mut findings };
        if let Some(key) = &material.key {
            check_key(key, &all, &mut report)?;
        }
        let authorities =
            material.store.as_deref().and_then(|root| store::authorities(root, materials));
        for certificate in &material.certificates {
            check_certificate(certificate, &mut report)?;
            check_keyring(certificate, &all, authorities.as_deref(), &mut report);
        }
    }
    store::check_directories(materials, &mut findings);
    store::check_same(materials, &mut findings);
    // reported once, for all files with the mark
    let mut samples = 0;
    findings.retain(|finding| {
        samples += usize::from(finding.name == SAMPLE_KEY);
        finding.name != SAMPLE_KEY || samples == 1
    });
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

fn check_key(
    key: &KeyFile,
    certificates: &[&Certificate],
    report: &mut Report<'_>,
) -> Result<(), ErrorStack> {
    if let Ok(metadata) = report.path.metadata() {
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("private key with mode {mode:04o}: others can read or change it");
            report.say(Severity::Error, "key-permissions", message, "chmod 0600 the file");
        }
    }
    let beside = report.path.parent().unwrap_or(Path::new("."));
    let is_sample = is_sample_directory(beside);
    if is_sample {
        say_sample(report);
    }
    let key = match key {
        KeyFile::Open(key) => key,
        KeyFile::Closed => {
            let message = "encrypted, not opened: the key itself is not checked".to_owned();
            let hint = "give its passphrase: --passphrase-file, --passphrase-env, --passphrase-fd";
            report.say(Severity::Note, "not-opened", message, hint);
            return Ok(());
        }
    };
    check_key_type(key.public_key().key_type(), report);
    if !key.is_encrypted() && !is_sample {
        let message = "private key without a passphrase".to_owned();
        let hint = "encrypt it (openssl pkcs8 -topk8 -v2 aes-256-cbc), or keep it in a token";
        report.say(Severity::Warning, "key-not-encrypted", message, hint);
    }
    if !store::check_pair(key, report) {
        let pairs = |certificate: &&Certificate| certificate.public_key().is(key.public_key());
        if !certificates.iter().any(pairs) {
            let key_id = key.public_key().default_key_id()?;
            let message = format!("no certificate for this key; its key id would be {key_id}");
            let hint = "give the certificate too: its Subject Key Identifier may be another";
            report.say(Severity::Note, "no-certificate", message, hint);
        }
    }
    Ok(())
}

const SAMPLE_KEY: &str = "sample-key";

fn say_sample(report: &mut Report<'_>) {
    let message = "a sample key, made for development: it must not ship".to_owned();
    let hint = "create your own keys: imactl keys create DIR";
    report.say(Severity::Warning, SAMPLE_KEY, message, hint);
}

fn check_key_type(key_type: KeyType, report: &mut Report<'_>) {
    if let Some(Caveat { severity, name, message, hint }) = caveat::of_key(key_type) {
        report.say(severity, name, message, hint);
    }
}

fn check_certificate(certificate: &Certificate, report: &mut Report<'_>) -> Result<(), ErrorStack> {
    check_key_type(certificate.public_key().key_type(), report);
    match certificate.signature_hash() {
        Some(hash) if hash.is_weak() => {
            let message = format!("signed over {hash}, which is not collision resistant");
            report.say(Severity::Error, "weak-hash", message, "have it signed over sha256");
        }
        _ => {}
    }
    if !certificate.is_found_by_key_id() {
        let message = match certificate.subject_key_identifier() {
            None => "no Subject Key Identifier: the kernel finds keys by it".to_owned(),
            Some(_) => "the Subject Key Identifier is shorter than a key id".to_owned(),
        };
        let hint = "issue it again with subjectKeyIdentifier=hash";
        report.say(Severity::Error, "no-subject-key-identifier", message, hint);
    }
    if certificate.is_sample() {
        say_sample(report);
    }
    let days = certificate.days_left()?;
    let hint = "kernel keyrings ignore the validity period, but auditors and other tools check it";
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

/// Usage that other tools require of a CA, but the kernel does not.
fn check_usage(certificate: &Certificate, report: &mut Report<'_>) {
    let usage = certificate.usage();
    if is_authority(certificate) && usage.key_usage.is_some() && !usage.has(Usage::KEY_CERT_SIGN) {
        let message = "a CA whose key usage lacks keyCertSign".to_owned();
        let hint = "issue it again with keyUsage=critical,keyCertSign,cRLSign";
        report.say(Severity::Error, "ca-usage", message, hint);
    }
}

fn is_authority(certificate: &Certificate) -> bool {
    certificate.usage().ca == Some(true)
}

/// The keyring of a certificate: by the name of its file, otherwise by its usage.
pub fn keyring_of(path: &Path, certificate: &Certificate) -> Keyring {
    let is_evm = || {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        stem.is_some_and(|stem| stem.starts_with("x509_evm"))
    };
    match Role::of_file(path) {
        Some(Role::SystemTrusted | Role::Modsign) => Keyring::BuiltinTrusted,
        Some(Role::SecondaryTrusted) => Keyring::SecondaryTrusted,
        Some(Role::Ima) => Keyring::Ima,
        Some(Role::Evm) => Keyring::Evm,
        None if is_evm() => Keyring::Evm,
        None if is_authority(certificate) && certificate.is_self_signed() => {
            Keyring::BuiltinTrusted
        }
        None => Keyring::Ima,
    }
}

/// Reports why the keyring of a certificate rejects it, on kernels that trust the CAs of its store; without these,
/// on kernels that trust all other certificates.
fn check_keyring(
    certificate: &Certificate,
    all: &[&Certificate],
    authorities: Option<&[&Certificate]>,
    report: &mut Report<'_>,
) {
    if Role::of_file(report.path) == Some(Role::Modsign) {
        check_module_chain(certificate, authorities.unwrap_or_default(), report);
    }
    let others = |issuer: &&&Certificate| issuer.der() != certificate.der();
    let trusted = authorities.unwrap_or(all).iter().filter(others);
    let issuer = trusted.clone().find(|issuer| certificate.is_signed_by(issuer));
    if let Some(issuer) = issuer.filter(|issuer| !is_authority(issuer)) {
        let message = format!(
            "signed by {}, which is not a CA: the kernel accepts this, other tools do not",
            issuer.subject()
        );
        let hint = "sign it with a certificate that has CA:TRUE and keyCertSign";
        report.say(Severity::Warning, "issuer-is-no-ca", message, hint);
    }
    let keyring = keyring_of(report.path, certificate);
    let trusted = trusted.map(|issuer| issuer.der());
    let Some(refused) = acceptance::refused(keyring, certificate.der(), trusted) else { return };
    let (severity, name) = match &refused.refusal {
        // reported by check_key_type()
        Refusal::UnknownKeyAlgorithm | Refusal::NewerKeyAlgorithm(_) => return,
        Refusal::UnknownIssuer if certificate.is_self_signed() => (Severity::Error, "self-signed"),
        // a renewed certificate of a CA has another serial number
        Refusal::UnknownIssuer if issuer.is_some() => {
            (Severity::Error, Refusal::IssuerDiffers.name())
        }
        Refusal::UnknownIssuer if authorities.is_none() => {
            let message = format!("issued by {}, which was not given", certificate.issuer());
            let hint = "give the issuer's certificate too, to have the chain checked";
            report.say(Severity::Note, "issuer-missing", message, hint);
            return;
        }
        Refusal::NotVerifiableHere => (Severity::Note, refused.refusal.name()),
        refusal if refused.by_newest() => (Severity::Error, refusal.name()),
        refusal => (Severity::Note, refusal.name()),
    };
    let message = match (&refused.refusal, issuer) {
        (Refusal::UnknownIssuer, Some(issuer)) if !certificate.is_self_signed() => format!(
            "{refused}: the key of {} signed it, but it names the serial number or key identifier of \
             another certificate of that key",
            issuer.subject()
        ),
        (Refusal::UnknownIssuer, None) if !certificate.is_self_signed() => {
            let issuer = certificate.issuer();
            format!("{refused}; issued by {issuer}, whose certificate is not a CA of this store")
        }
        _ => refused.to_string(),
    };
    let hint = match name == Refusal::IssuerDiffers.name() {
        true => Refusal::IssuerDiffers.hint(),
        false => refused.refusal.hint(),
    };
    report.say(severity, name, message, hint);
}

/// The module key's certificate is built into the kernel, which requires no issuer. A certificate that `.ima`
/// accepts, signed by any built-in key including itself, would let the module key sign programs.
fn check_module_chain(
    certificate: &Certificate,
    authorities: &[&Certificate],
    report: &mut Report<'_>,
) {
    let is_known = |issuer: &&&Certificate| certificate.is_signed_by(issuer);
    if certificate.is_self_signed() || authorities.iter().any(|issuer| is_known(&issuer)) {
        let message = "a module key whose certificate .ima also accepts: it can sign programs";
        let hint = "have it issued by a CA that is not in the kernel, as imactl keys create does";
        report.say(Severity::Warning, "module-key-signs-files", message.to_owned(), hint);
    }
}
