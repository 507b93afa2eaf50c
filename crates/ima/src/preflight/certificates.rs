//! Certificates of a root: whether the kernel accepts them into a keyring.
//!
//! | file | keyring | loaded by |
//! |---|---|---|
//! | `/etc/keys/x509_secondary*.der` | `.secondary_trusted_keys` | imactl-init |
//! | `/etc/keys/x509_ima*.der` | `.ima` | the kernel (`CONFIG_IMA_X509_PATH`), imactl-init |
//! | `/etc/keys/x509_evm*.der` | `.evm` | the kernel (`CONFIG_EVM_X509_PATH`) |
//! | `/etc/keys/ima/*` | `.ima` | dracut, systemd |
//! | others | | it must be a certificate |
//!
//! [`acceptance`](crate::key::acceptance) decides.

use std::path::Path;

use ima_format::blacklist::{Entry as Denied, Kind};

use super::paths::Paths;
use super::purpose::{Use, DRACUT_KEYS};
use super::scan::{CertificateFault, Scanned};
use crate::container::source::Entry;
use crate::key::acceptance::{Keyring, Keyrings, Refusal, Rules};
use crate::key::certificate::Certificate;
use crate::verify::Revocations;

/// Certificates that are known beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Authorities<'a> {
    /// The CAs whose keys the kernel has: compiled in, or loaded by the initramfs. None: they
    /// are not known.
    pub trusted: &'a [Certificate],
    /// The certificates that should be in a keyring.
    pub offered: &'a [Certificate],
    /// The revoked digests and keys.
    pub revoked: &'a Revocations,
    /// The kernel's keyrings.
    pub rules: &'a Rules,
}

impl<'a> Authorities<'a> {
    /// A kernel as it starts: compiled-in revocations are in `.blacklist` before any certificate is loaded.
    fn at_start(self) -> Keyrings {
        let mut keyrings = Keyrings::new(self.rules.clone());
        blacklist(&mut keyrings, &self.revoked.built_in);
        keyrings
    }

    /// A kernel that trusts them.
    fn keyrings(self) -> Keyrings {
        let mut keyrings = self.at_start();
        for certificate in self.trusted {
            // one that the kernel cannot read vouches for nothing
            keyrings.build_in(Keyring::BuiltinTrusted, certificate.der()).unwrap_or_default();
        }
        // the keys that are built in stay
        blacklist(&mut keyrings, &self.revoked.added);
        keyrings
    }

    /// Those of the certificates that are built into the kernel, and are not denied by its list.
    pub fn built_in<'c>(
        self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
    ) -> Vec<&'c Certificate> {
        let keyrings = self.at_start();
        let denied = |it: &&Certificate| {
            matches!(keyrings.check_readable(it.der()), Err(Refusal::Blacklisted))
        };
        certificates.into_iter().filter(|it| !denied(it)).collect()
    }

    /// Whether it bears on the answer: about issuers nothing is known without trusted ones.
    fn counts(self, refusal: &Refusal) -> bool {
        !self.trusted.is_empty() || !refusal.is_about_issuer()
    }

    /// A certificate that should be in a keyring, and why this kernel rejects it, if it does.
    pub fn judged(
        self,
        keyring: Keyring,
    ) -> impl Iterator<Item = (&'a Certificate, Option<Refusal>)> {
        let keyrings = self.keyrings();
        self.offered.iter().map(move |certificate| {
            let refusal = keyrings.accept(keyring, certificate.der()).err();
            (certificate, refusal.filter(|refusal| self.counts(refusal)))
        })
    }
}

fn blacklist(keyrings: &mut Keyrings, entries: &[Denied]) {
    let of_certificates = entries.iter().filter(|entry| entry.kind == Kind::Certificate);
    of_certificates.for_each(|entry| keyrings.blacklist(entry.digest.clone()));
}

/// The keyring that a certificate is for, by its file's name.
fn keyring(entry: &Entry) -> Option<Keyring> {
    let name = entry.name();
    if entry.path.parent() == Some(Path::new(DRACUT_KEYS)) || name.starts_with(b"x509_ima") {
        Some(Keyring::Ima)
    } else if name.starts_with(b"x509_evm") {
        Some(Keyring::Evm)
    } else if name.starts_with(b"x509_secondary") {
        Some(Keyring::SecondaryTrusted)
    } else {
        None
    }
}

/// Judges the certificates among the files that were looked at: in the order of imactl-init, by
/// name, those that vouch before those that they vouch for.
pub(super) fn judge(
    paths: &Paths,
    scanned: &mut [Option<Scanned>],
    authorities: Authorities<'_>,
    content: &mut dyn FnMut(&Path) -> Option<Vec<u8>>,
) {
    let mut keyrings = authorities.keyrings();
    let mut found = Vec::new();
    for (number, scanned) in scanned.iter().enumerate() {
        if scanned.as_ref().is_some_and(|it| it.purpose == Use::Certificate) {
            let entry = paths.get(number);
            let Some(bytes) = content(&entry.path) else { continue };
            found.push((keyring(entry), number, bytes));
        }
    }
    found.sort_by_key(|(keyring, ..)| *keyring != Some(Keyring::SecondaryTrusted));
    for (keyring, number, bytes) in found {
        let accepted = match keyring {
            Some(keyring) => keyrings.add(keyring, &bytes),
            None => keyrings.check_readable(&bytes),
        };
        let refusal = accepted.err().filter(|refusal| authorities.counts(refusal));
        if let Some(Some(scanned)) = scanned.get_mut(number) {
            scanned.certificate_fault =
                refusal.map(|refusal| CertificateFault { keyring, refusal });
        }
    }
}
