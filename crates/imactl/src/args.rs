//! Arguments that several commands share: as typed, and resolved.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use clap::builder::{PossibleValuesParser, TypedValueParser};
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

/// Parses the spellings of an enum.
pub(crate) fn spelling<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|it| name(*it)))
        .try_map(move |word| all.iter().copied().find(|it| name(*it) == word).ok_or("unknown"))
}

/// The maximum of `--jobs`: no machine has work for more threads.
const MOST_JOBS: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(jobs) => jobs,
    None => NonZeroUsize::MIN,
};

/// The number of worker threads.
pub(crate) fn jobs(given: Option<NonZeroUsize>) -> NonZeroUsize {
    let jobs = given.or_else(|| thread::available_parallelism().ok());
    jobs.unwrap_or(NonZeroUsize::MIN).min(MOST_JOBS)
}

/// Where signatures are kept
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Namespace of the attribute; user.ima is for trials without root, kernels ignore it [default:
    /// security]
    #[arg(long, value_name = "NAME")]
    xattr_namespace: Option<Namespace>,
    /// Use FILE.sig, which has the complete value of the attribute, instead of an attribute
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
    /// A key store, whose IMA key signs [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// A private key instead of a key store: a file, or pkcs11:token=NAME;object=NAME (RFC 7512)
    /// for a key in a smart card or HSM
    #[arg(long, value_name = "FILE|URI", conflicts_with = "keys")]
    key: Option<PathBuf>,
    /// The certificate of --key, which gives the key ID
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key ID: the last four bytes of the certificate's Subject Key Identifier
    #[arg(long, value_name = "HEX", requires = "key", conflicts_with = "cert")]
    keyid: Option<KeyId>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl SignerArgs {
    /// Whether a key store is named on the command line.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The key that signs files.
    pub(crate) fn resolve(&self, output: &mut Output) -> Result<Box<dyn Signer>> {
        if let Some(given) = self.given_key() {
            return Ok(self.given(given, Some(Keyring::Ima), output)?.0);
        }
        let store = self.store(output)?;
        let signer = store.ima_signer(&mut |path| self.passphrase.ask(path))?;
        warn_of_own(output, Keyring::Ima, &store.ima_certificates()?, &signer);
        Ok(Box::new(signer))
    }

    /// The key that signs a manifest: --key, or the IMA key of --keys; `None` if neither is given.
    pub(crate) fn resolve_given(&self, output: &mut Output) -> Result<Option<Box<dyn Signer>>> {
        match self.given_key() {
            // no kernel keyring has to accept the certificate of a manifest
            Some(given) => Ok(Some(self.given(given, None, output)?.0)),
            None if self.keys.is_some() => self.resolve(output).map(Some),
            None => Ok(None),
        }
    }

    /// The key that signs modules (appended signatures), and its certificate.
    pub(crate) fn resolve_module(
        &self,
        output: &mut Output,
    ) -> Result<(Box<dyn Signer>, Certificate)> {
        let Some(given) = self.given_key() else {
            let store = self.store(output)?;
            let (signer, certificate) =
                store.module_signer(&mut |path| self.passphrase.ask(path))?;
            return Ok((Box::new(signer), certificate));
        };
        match self.given(given, Some(Keyring::BuiltinTrusted), output)? {
            (signer, Some(certificate)) => Ok((signer, certificate)),
            (_, None) => Err(hinted(
                "an appended signature names the issuer and the serial number of a certificate",
                "give --cert FILE",
            )),
        }
    }

    /// The key that signs metadata: `--evm-key`, else `--key`, else the EVM key of the store.
    pub(crate) fn resolve_evm(
        &self,
        evm: &EvmKeyArgs,
        output: &mut Output,
    ) -> Result<Box<dyn Signer>> {
        let of_evm = evm.evm_key.as_ref();
        let of_evm =
            of_evm.map(|key| GivenKey { key, certificate: evm.evm_cert.as_deref(), key_id: None });
        if let Some(given) = of_evm.or_else(|| self.given_key()) {
            return Ok(self.given(given, Some(Keyring::Evm), output)?.0);
        }
        let store = self.store(output)?;
        let signer = store.evm_signer(&mut |path| self.passphrase.ask(path))?;
        warn_of_own(output, Keyring::Evm, &store.evm_certificates()?, &signer);
        Ok(Box::new(signer))
    }

    /// The key of `--key`.
    fn given_key(&self) -> Option<GivenKey<'_>> {
        let (certificate, key_id) = (self.cert.as_deref(), self.keyid);
        Some(GivenKey { key: self.key.as_ref()?, certificate, key_id })
    }

    /// The EVM key of the store, if it can be used without asking for a passphrase.
    pub(crate) fn evm_at_hand(&self) -> Option<Box<dyn Signer>> {
        let keys = self.keys.clone().or_else(default_store).filter(|_| self.key.is_none())?;
        let signer = KeyStore::open(&keys).ok()?.evm_signer(&mut |_| self.passphrase.given());
        Some(Box::new(signer.ok()?))
    }

    /// Opens a key in a file or a token. With a keyring of the kernel, warns if that rejects the certificate.
    fn given(
        &self,
        given: GivenKey<'_>,
        keyring: Option<Keyring>,
        output: &mut Output,
    ) -> Result<(Box<dyn Signer>, Option<Certificate>)> {
        let path = given.key;
        if let Some(uri) = token::uri(path) {
            return self.token_signer(uri?, &given, keyring, output);
        }
        let key = PrivateKey::read(path, &mut |path| self.passphrase.ask(path))?;
        let certificate = match given.certificate()? {
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
        let key_id = match (given.key_id, &certificate) {
            (Some(key_id), _) => key_id,
            (None, Some(certificate)) => certificate.key_id(),
            (None, None) => key.public_key().default_key_id()?,
        };
        if let Some(keyring) = keyring {
            warn_of_refusal(output, keyring, certificate.iter());
        }
        Ok((Box::new(key.into_signer(key_id)?), certificate))
    }

    /// Opens the store of `--keys`, else of the environment.
    fn store(&self, output: &mut Output) -> Result<KeyStore> {
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
        Ok(store)
    }

    fn token_signer(
        &self,
        uri: Uri,
        args: &GivenKey<'_>,
        keyring: Option<Keyring>,
        output: &mut Output,
    ) -> Result<(Box<dyn Signer>, Option<Certificate>)> {
        let given = args.certificate()?;
        let token = token::open(&uri, &self.passphrase)?;
        let mut key = token.key(&uri)?;
        if let Some(certificate) = &given {
            key = key.certified_by(certificate)?;
        }
        let certificate = match (given, args.key_id) {
            (None, None) => key.certificate()?.cloned(),
            (given, _) => given,
        };
        if certificate.as_ref().is_some_and(Certificate::is_sample) {
            warn_of_sample(output, Path::new(&key.uri().to_string()));
        }
        if let Some(keyring) = keyring {
            warn_of_refusal(output, keyring, certificate.iter());
        }
        let key_id = match (args.key_id, &certificate) {
            (Some(key_id), _) => key_id,
            (None, Some(certificate)) => certificate.key_id(),
            (None, None) => key.public_key()?.default_key_id()?,
        };
        Ok((Box::new(token.into_signer(key, key_id)?), certificate))
    }
}

/// A key that replaces the one of a store.
struct GivenKey<'a> {
    key: &'a Path,
    certificate: Option<&'a Path>,
    key_id: Option<KeyId>,
}

impl GivenKey<'_> {
    /// The first certificate in its file.
    fn certificate(&self) -> Result<Option<Certificate>> {
        Ok(match self.certificate {
            Some(path) => Certificate::read_all(path)?.into_iter().next(),
            None => None,
        })
    }
}

/// The key that signs metadata
#[derive(Debug, Args)]
#[command(next_help_heading = "EVM")]
pub(crate) struct EvmKeyArgs {
    /// The private key for security.evm [default: that of --key, else the store's EVM key]
    #[arg(long, value_name = "FILE|URI", requires = "evm")]
    evm_key: Option<PathBuf>,
    /// The certificate of --evm-key, which gives the key ID
    #[arg(long, value_name = "FILE", requires = "evm_key")]
    evm_cert: Option<PathBuf>,
}

/// The store that `IMACTL_KEYS` names.
pub(crate) fn default_store() -> Option<PathBuf> {
    std::env::var_os("IMACTL_KEYS").filter(|path| !path.is_empty()).map(PathBuf::from)
}

pub(crate) fn warn_of_sample(output: &mut Output, path: &Path) {
    output.warn(&format!("{}: sample keys, for development only: do not ship", path.display()));
}

/// Warns of the certificates of a store that belong to the signing key.
fn warn_of_own(
    output: &mut Output,
    keyring: Keyring,
    certificates: &[Certificate],
    signer: &dyn Signer,
) {
    let own = certificates.iter().filter(|it| it.public_key().is(signer.public_key()));
    warn_of_refusal(output, keyring, own);
}

/// Warns of certificates that a keyring rejects whoever issued them, and of those whose key the
/// kernel cannot find by its ID.
fn warn_of_refusal<'a>(
    output: &mut Output,
    keyring: Keyring,
    certificates: impl Iterator<Item = &'a Certificate>,
) {
    for certificate in certificates {
        let subject = certificate.subject();
        if let Some(refused) = refused_for_itself(keyring, certificate.der()) {
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
    /// The name of an option that is given.
    pub(crate) fn option(&self) -> Option<&'static str> {
        let certificate = self.cert.first().map(|_| "--cert");
        self.keys.as_ref().map(|_| "--keys").or(certificate)
    }

    pub(crate) fn resolve(&self, output: &mut Output) -> Result<verify::Keyring> {
        let certificates = self.needed(output)?;
        // CAs are often given together with the certificates that they issued
        let is_signer = |it: &&Certificate| {
            let usage = it.usage();
            usage.ca != Some(true) || usage.has(Usage::DIGITAL_SIGNATURE)
        };
        warn_of_refusal(output, Keyring::Ima, certificates.iter().filter(is_signer));
        Ok(verify::Keyring::of_certificates(&certificates))
    }

    /// The keys that metadata is verified with.
    pub(crate) fn resolve_evm(
        &self,
        given: &[PathBuf],
        output: &mut Output,
    ) -> Result<verify::Keyring> {
        Ok(verify::Keyring::of_certificates(&self.evm_certificates(given, output)?))
    }

    /// The certificates that metadata is verified with: these, or a store's.
    pub(crate) fn evm_certificates(
        &self,
        given: &[PathBuf],
        output: &mut Output,
    ) -> Result<Vec<Certificate>> {
        let mut certificates = Vec::new();
        for path in given {
            certificates.extend(Certificate::read_all(path)?);
        }
        let store = self.keys.clone().or_else(default_store);
        if let Some(keys) = store.filter(|_| given.is_empty()) {
            certificates = KeyStore::open(&keys)?.evm_certificates()?;
        }
        if certificates.is_empty() {
            let hint = "give --keys DIR or --evm-cert FILE, or set IMACTL_KEYS";
            return Err(hinted("no certificate to verify security.evm with", hint));
        }
        warn_of_refusal(output, Keyring::Evm, certificates.iter());
        Ok(certificates)
    }

    /// The keys that verify measured files; a store's module keys are included, for appended signatures.
    /// `None` if no certificates are given.
    pub(crate) fn measured(&self, output: &mut Output) -> Result<Option<verify::Keyring>> {
        let mut keyring = verify::Keyring::of_certificates(&self.given(output)?);
        keyring.trust_appended(&self.of_modules()?);
        Ok((!keyring.is_empty()).then_some(keyring))
    }

    /// The certificates of module keys: those that are given, and those of a store.
    pub(crate) fn modules(&self, output: &mut Output) -> Result<Vec<Certificate>> {
        let mut certificates = self.needed(output)?;
        certificates.extend(self.of_modules()?);
        Ok(certificates)
    }

    /// The certificates of module keys in the store that is given.
    pub(crate) fn of_modules(&self) -> Result<Vec<Certificate>> {
        match self.store() {
            Some(keys) => Ok(KeyStore::open(&keys)?.module_certificates()?),
            None => Ok(Vec::new()),
        }
    }

    /// The certificates that are given; an error if there are none.
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

    /// The certificates that are given; possibly none.
    pub(crate) fn given(&self, output: &mut Output) -> Result<Vec<Certificate>> {
        let certificates = self.read()?;
        if let Some(sample) = certificates.iter().find(|(_, cert)| cert.is_sample()) {
            warn_of_sample(output, &sample.0);
        }
        Ok(certificates.into_iter().map(|(_, certificate)| certificate).collect())
    }

    /// The CAs of these certificates: those of the store, and those among the certificates. Empty if
    /// they are unknown.
    pub(crate) fn authorities(&self, given: &[Certificate]) -> Result<Vec<Certificate>> {
        let mut authorities: Vec<_> =
            given.iter().filter(|it| it.usage().ca == Some(true)).cloned().collect();
        if let Some(keys) = self.store() {
            authorities.extend(KeyStore::open(&keys)?.authorities()?);
        }
        Ok(authorities)
    }

    /// The store of `--keys`; without `--cert`, that of the environment.
    fn store(&self) -> Option<PathBuf> {
        self.keys.clone().or_else(|| default_store().filter(|_| self.cert.is_empty()))
    }

    fn read(&self) -> Result<Vec<(PathBuf, Certificate)>> {
        let mut certificates = Vec::new();
        for path in &self.cert {
            let files = match path.is_dir() {
                true => certificate_files(path).at(path)?,
                false => vec![path.clone()],
            };
            for file in files {
                let read = Certificate::read_all(&file)?;
                certificates.extend(read.into_iter().map(|cert| (path.clone(), cert)));
            }
        }
        if let Some(keys) = self.store() {
            let read = KeyStore::open(&keys)?.ima_certificates()?;
            certificates.extend(read.into_iter().map(|cert| (keys.clone(), cert)));
        }
        Ok(certificates)
    }
}

/// Describes a signer in messages: `rsa-2048 key 1a2b3c4d`.
pub(crate) fn describe(signer: &dyn Signer) -> String {
    format!("{} key {}", signer.public_key().key_type(), signer.key_id())
}
