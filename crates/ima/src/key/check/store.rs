//! Errors between files: certificates next to a key, directories, a store's CAs.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Report, Severity};
use super::material::Material;
use crate::key::certificate::Certificate;
use crate::key::private::PrivateKey;
use crate::key::store::{certificate_files, Role};

/// The CAs of a store, if its certificates are there: a kernel trusts the certificates that they signed.
pub(super) fn authorities<'a>(
    root: &Path,
    materials: &'a [Material],
) -> Option<Vec<&'a Certificate>> {
    let of_store = |material: &&Material| {
        [Role::SystemTrusted, Role::SecondaryTrusted]
            .iter()
            .any(|role| material.path.starts_with(root.join(role.directory())))
    };
    let found: Vec<_> =
        materials.iter().filter(of_store).flat_map(|material| &material.certificates).collect();
    (!found.is_empty()).then_some(found)
}

/// Compares a private key with each certificate next to it, since kernel, evmctl and imactl use different ones. Returns
/// whether there is one.
pub(super) fn check_pair(key: &PrivateKey, report: &mut Report<'_>) -> bool {
    let beside = certificates_beside(report.path);
    for (path, certificates) in &beside {
        if certificates.iter().any(|certificate| certificate.public_key().is(key.public_key())) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let message = format!("not the private key of the certificate next to it, {name}");
        let hint = "the kernel will reject every signature: find the key that belongs to it";
        report.say(Severity::Error, "key-mismatch", message, hint);
    }
    !beside.is_empty()
}

/// The certificates in files with the same name as the key's, except for the extension.
fn certificates_beside(key: &Path) -> Vec<(PathBuf, Vec<Certificate>)> {
    let directory = key.parent().filter(|parent| !parent.as_os_str().is_empty());
    let files = certificate_files(directory.unwrap_or(Path::new("."))).unwrap_or_default();
    let alike = files.into_iter().filter(|path| path.file_stem() == key.file_stem());
    alike.filter_map(|path| Certificate::read_all(&path).ok().map(|read| (path, read))).collect()
}

/// Compares certificates in files whose names differ only in the extension, which should be the same certificate.
pub(super) fn check_same(materials: &[Material], findings: &mut Vec<Finding>) {
    for (number, material) in materials.iter().enumerate() {
        let Some(certificate) = material.certificates.first() else { continue };
        let alike = |other: &&Material| {
            other.path.with_extension("") == material.path.with_extension("")
                && other.path != material.path
                && !other.certificates.is_empty()
        };
        let Some(other) = materials[..number].iter().find(alike) else { continue };
        if other.certificates.iter().any(|other| other.der() == certificate.der()) {
            continue;
        }
        let name = other.path.file_name().unwrap_or_default().to_string_lossy();
        let message = format!("not the certificate in {name}, which has the same name");
        let hint = "the kernel loads the one in DER: create the other from it, or both again";
        let mut report = Report { path: &material.path, findings };
        report.say(Severity::Error, "certificates-differ", message, hint);
    }
}

/// Reports directories in which other users can put keys and certificates: those of stores, and those with
/// private keys.
pub(super) fn check_directories(materials: &[Material], findings: &mut Vec<Finding>) {
    let mut directories = BTreeSet::new();
    for material in materials {
        directories.extend(material.store.as_deref());
        if material.store.is_some() || material.key.is_some() {
            let directory = material.path.parent();
            directories.extend(directory.filter(|path| !path.as_os_str().is_empty()));
        }
    }
    for directory in directories {
        let Ok(metadata) = directory.metadata() else { continue };
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o022 == 0 {
            continue;
        }
        let mut report = Report { path: directory, findings };
        let hint = "chmod 0700 the directory";
        // in a sticky directory others cannot replace files, but add some
        let (severity, harm) = match mode & 0o1000 {
            0 => (Severity::Error, "replace keys and certificates in it"),
            _ => (Severity::Warning, "add certificates to it"),
        };
        let message = format!("directory with mode {mode:04o}: others can {harm}");
        report.say(severity, "directory-permissions", message, hint);
    }
}
