//! Arguments that several commands share: as typed, and resolved.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, ValueEnum};
use ima::container::tree::Place;
use ima::key::acceptance::{refused_for_itself, Keyring};
use ima::key::certificate::{Certificate, Usage};
use ima::key::private::PrivateKey;
use ima::key::store::{certificate_files, is_sample_directory, KeyStore};
use ima::key::Signer;
use ima::verify;
use ima::KeyId;
use ima_format::pkcs11::Uri;

use crate::error::{hinted, Context, Result};
use crate::output::Output;
use crate::passphrase::PassphraseArgs;
use crate::token;

/// More threads than any machine has work for.
const MOST_JOBS: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(jobs) => jobs,
    None => NonZeroUsize::MIN,
};

/// The number of worker threads.
pub(crate) fn jobs(given: Option<NonZeroUsize>) -> NonZeroUsize {
    let jobs = given.or_else(|| thread::available_parallelism().ok());
    jobs.unwrap_or(NonZeroUsize::MIN).min(MOST_JOBS)
}

/// Where labels are kept
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The attribute's namespace: user.ima is for trials without root, no kernel looks at it
    /// [default: security]
    #[arg(long, value_name = "NAME")]
    xattr_namespace: Option<Namespace>,
    /// Keep the label in FILE.sig (the attribute's whole value), not in an attribute
    #[arg(long, conflicts_with = "xattr_namespace")]
    detached: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Namespace {
    Security,
    User,
}

impl PlaceArgs {
    pub(crate) fn resolve(&self) -> Place {
        match (self.detached, self.xattr_namespace) {
            (true, _) => Place::Detached,
            (false, None | Some(Namespace::Security)) => Place::Security,
            (false, Some(Namespace::User)) => Place::User,
        }
    }
}

/// The signing key
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(crate) struct SignerArgs {
    /// A key store: its IMA key signs [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A private key, in place of a store's: a file, or pkcs11:token=NAME;object=NAME
    /// (RFC 7512) for a key in a smart card or HSM
    #[arg(long, value_name = "FILE|URI", conflicts_with = "keys")]
    key: Option<PathBuf>,
    /// The certificate of --key, which gives the key id
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key id: the last four bytes of the certificate's Subject Key Identifier
    #[arg(long, value_name = "HEX", requires = "key", conflicts_with = "cert")]
    keyid: Option<KeyId>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl SignerArgs {
    pub(crate) fn resolve(&self, output: &mut Output) -> Result<Box<dyn Signer>> {
        let mut ask = |path: &Path| self.passphrase.ask(path);
        if let Some(uri) = self.key.as_deref().and_then(token::uri) {
            return self.token_signer(uri?, output);
        }
        if let Some(path) = &self.key {
            let key = PrivateKey::read(path, &mut ask)?;
            let certificate = match self.given_certificate()? {
                None => key.certificate().cloned(),
                given => given,
            };
            if let Some(certificate) = &certificate {
                if !certificate.public_key().is(key.public_key()) {
                    let message = format!("{}: not the certificate's key", path.display());
                    return Err(hinted(message, "--cert must certify --key"));
                }
            }
            if is_sample_directory(path.parent().unwrap_or(Path::new(".")))
                || certificate.as_ref().is_some_and(Certificate::is_sample)
            {
                warn_of_sample(output, path);
            }
            let key_id = match (self.keyid, &certificate) {
                (Some(key_id), _) => key_id,
                (None, Some(certificate)) => certificate.key_id(),
                (None, None) => key.public_key().default_key_id()?,
            };
            warn_of_refusal(output, certificate.iter());
            return Ok(Box::new(key.into_signer(key_id)?));
        }
        let Some(keys) = &self.keys.clone().or_else(default_store) else {
            return Err(hinted(
                "no key to sign with",
                "give --keys DIR or --key FILE, or set IMACTL_KEYS; imactl keys create makes keys",
            ));
        };
        let store = KeyStore::open(keys)?;
        if store.is_sample() {
            warn_of_sample(output, keys);
        }
        let signer = store.ima_signer(&mut ask)?;
        let certificates = store.ima_certificates()?;
        let own = certificates.iter().filter(|it| it.public_key().is(signer.public_key()));
        warn_of_refusal(output, own);
        Ok(Box::new(signer))
    }

    /// The first certificate in --cert.
    fn given_certificate(&self) -> Result<Option<Certificate>> {
        Ok(match &self.cert {
            Some(cert) => Certificate::read_all(cert)?.into_iter().next(),
            None => None,
        })
    }

    fn token_signer(&self, uri: Uri, output: &mut Output) -> Result<Box<dyn Signer>> {
        let given = self.given_certificate()?;
        let token = token::open(&uri, &self.passphrase)?;
        let mut key = token.key(&uri)?;
        if let Some(certificate) = &given {
            key = key.certified_by(certificate)?;
        }
        let certificate = match (&given, self.keyid) {
            (None, None) => key.certificate()?,
            _ => given.as_ref(),
        };
        if certificate.is_some_and(Certificate::is_sample) {
            warn_of_sample(output, Path::new(&key.uri().to_string()));
        }
        warn_of_refusal(output, certificate.into_iter());
        let key_id = match (self.keyid, certificate) {
            (Some(key_id), _) => key_id,
            (None, Some(certificate)) => certificate.key_id(),
            (None, None) => key.public_key()?.default_key_id()?,
        };
        Ok(Box::new(token.into_signer(key, key_id)?))
    }
}

/// The store that the environment names.
pub(crate) fn default_store() -> Option<PathBuf> {
    std::env::var_os("IMACTL_KEYS").filter(|path| !path.is_empty()).map(PathBuf::from)
}

pub(crate) fn warn_of_sample(output: &mut Output, path: &Path) {
    output.warn(&format!("{}: sample keys, for development only: do not ship", path.display()));
}

/// Warns of certificates that no kernel accepts into `.ima`, whoever issued them, and of those
/// whose key the kernel does not find.
pub(crate) fn warn_of_refusal<'a>(
    output: &mut Output,
    certificates: impl Iterator<Item = &'a Certificate>,
) {
    for certificate in certificates {
        let subject = certificate.subject();
        if let Some(refused) = refused_for_itself(Keyring::Ima, certificate.der()) {
            output.warn(&format!("{subject}: {refused}"));
        }
        if !certificate.is_found_by_key_id() {
            output.warn(&format!(
                "{subject}: no Subject Key Identifier of 4 bytes or more: the kernel does not find \
                 the key by the key id of a signature"
            ));
        }
    }
}

/// The trusted certificates
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(crate) struct KeyringArgs {
    /// A key store: its IMA certificates are trusted [default without --cert: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A trusted certificate (PEM or DER), or a directory of them; may be repeated
    #[arg(long, value_name = "CERT")]
    cert: Vec<PathBuf>,
}

impl KeyringArgs {
    pub(crate) fn resolve(&self, output: &mut Output) -> Result<verify::Keyring> {
        let certificates = self.needed(output)?;
        // CAs are often given along with what they issued
        let is_signer = |it: &&Certificate| {
            let usage = it.usage();
            usage.ca != Some(true) || usage.has(Usage::DIGITAL_SIGNATURE)
        };
        warn_of_refusal(output, certificates.iter().filter(is_signer));
        Ok(verify::Keyring::of_certificates(&certificates))
    }

    /// The certificates that are given, at least one.
    pub(crate) fn needed(&self, output: &mut Output) -> Result<Vec<Certificate>> {
        let certificates = self.given(output)?;
        match certificates.is_empty() {
            false => Ok(certificates),
            true => Err(hinted(
                "no certificate to verify with",
                "give --keys DIR or --cert FILE, or set IMACTL_KEYS",
            )),
        }
    }

    /// The certificates that are given; none is as good as any.
    pub(crate) fn given(&self, output: &mut Output) -> Result<Vec<Certificate>> {
        let certificates = self.read()?;
        if let Some(sample) = certificates.iter().find(|(_, cert)| cert.is_sample()) {
            warn_of_sample(output, &sample.0);
        }
        Ok(certificates.into_iter().map(|(_, certificate)| certificate).collect())
    }

    /// The CAs that go with them: those of the store, and those among the certificates. None:
    /// they are not known.
    pub(crate) fn authorities(&self, given: &[Certificate]) -> Result<Vec<Certificate>> {
        let mut authorities: Vec<_> =
            given.iter().filter(|it| it.usage().ca == Some(true)).cloned().collect();
        let fallback = || default_store().filter(|_| self.cert.is_empty());
        if let Some(keys) = self.keys.clone().or_else(fallback) {
            authorities.extend(KeyStore::open(&keys)?.authorities()?);
        }
        Ok(authorities)
    }

    fn read(&self) -> Result<Vec<(PathBuf, Certificate)>> {
        let mut certificates = Vec::new();
        for path in &self.cert {
            let files = match path.is_dir() {
                true => certificate_files(path).with_context(|| path.display().to_string())?,
                false => vec![path.clone()],
            };
            for file in files {
                let read = Certificate::read_all(&file)?;
                certificates.extend(read.into_iter().map(|cert| (path.clone(), cert)));
            }
        }
        let fallback = || default_store().filter(|_| self.cert.is_empty());
        if let Some(keys) = self.keys.clone().or_else(fallback) {
            let read = KeyStore::open(&keys)?.ima_certificates()?;
            certificates.extend(read.into_iter().map(|cert| (keys.clone(), cert)));
        }
        Ok(certificates)
    }
}

/// The name of a signer for people: `rsa-2048 key 1a2b3c4d`.
pub(crate) fn describe(signer: &dyn Signer) -> String {
    format!("{} key {}", signer.public_key().key_type(), signer.key_id())
}
