//! Loads certificates into keyrings.

use ima_format::printable::Printable;
use ima_format::x509::Certificate;
use rustix::io::Errno;

use super::{Failure, Work};
use crate::file;
use crate::keyring::{self, Keyring};
use crate::plan::Origin;
use crate::say;
use crate::text::Reason;

/// Larger than any certificate; `add_key` has to accept it.
const SIZE_LIMIT: usize = 256 << 10;

/// The number of certificates of both trees that are in keyrings.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// In any keyring.
    pub(super) all: usize,
    /// In `.ima`.
    ima: usize,
}

impl Certificates {
    fn add(&mut self, keyring: Keyring) {
        self.all += 1;
        if keyring == Keyring::Ima {
            self.ima += 1;
        }
    }
}

impl Work<'_> {
    /// Loads a certificate, unless it is in the keyring: the kernel may have loaded it itself, or both
    /// trees have it. Errors are reported, and do not stop the boot.
    pub(super) fn load_certificate(&mut self, keyring: Keyring, origin: Origin, name: &[u8]) {
        let tree = self.tree(origin);
        let path = tree.path_of(name);
        let (path, ring) = (Printable(&path), keyring.name());
        let read = tree.open_file(name).and_then(|opened| file::read(&opened, SIZE_LIMIT));
        let der = match read {
            Ok(der) => der,
            Err(errno) => {
                say!(self.console, Error, "cannot read certificate {path}: {}", Reason(errno));
                return;
            }
        };
        // the kernel reports errors
        let certificate = Certificate::parse(&der).ok();
        let subject = Printable(certificate.map_or(b"?", |found| found.subject));
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
        let is_there =
            |found: &Certificate<'_>| keyring::holds_certificate(serial, found) == Ok(true);
        if certificate.as_ref().is_some_and(is_there) {
            let what = "a key with this ID and name is already in the keyring";
            say!(
                self.console,
                Info,
                "certificate \"{subject}\" ({path}) not offered to {ring}: {what}"
            );
            // The real root may have the same one as the initramfs: count it once.
            if origin == Origin::Initramfs {
                self.certificates.add(keyring);
            }
            return;
        }
        if let Err(errno) = keyring::load(serial, &der) {
            self.certificate_refused(keyring, certificate.as_ref(), path, errno);
            return;
        }
        say!(self.console, Info, "certificate \"{subject}\" ({path}) loaded into {ring}");
        self.certificates.add(keyring);
    }

    fn certificate_refused(
        &self,
        keyring: Keyring,
        certificate: Option<&Certificate<'_>>,
        path: Printable<'_>,
        errno: Errno,
    ) {
        let signer_is_trusted =
            certificate.and_then(|found| keyring::is_signer_trusted(self.proc, found));
        let purpose = certificate.map(|found| found.usage.purpose());
        let cause = keyring::refusal(keyring, errno, purpose, signer_is_trusted);
        let subject = Printable(certificate.map_or(b"?", |found| found.subject));
        let issuer = Printable(certificate.map_or(b"?", |found| found.issuer));
        let (ring, reason) = (keyring.name(), Reason(errno));
        say!(
            self.console,
            Error,
            "certificate \"{subject}\" of issuer \"{issuer}\" ({path}) rejected by {ring}: \
             {reason}: {cause}"
        );
    }

    /// Checks that a signature can be valid once a policy is in force.
    pub(super) fn require_certificate(&self) -> Result<(), Failure> {
        if self.certificates.ima > 0 {
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
}
