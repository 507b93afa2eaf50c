//! `imactl keys certify`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use ima::key::issue::{Authority, Purpose};
use ima::key::PublicKey;
use ima::staging::{Location, Staged};

use super::create::ProfileArgs;
use super::print_certificate;
use crate::args::default_store;
use crate::error::{hinted, Context, Result};
use crate::output::Output;
use crate::passphrase::PassphraseArgs;
use crate::{token, Outcome};

/// Issue the certificate of a key that signs files and is kept elsewhere
///
/// The CA is the system trusted key of the key store, whose certificate is in the kernel. No login
/// to a token is needed; the passphrase is that of the CA key.
#[derive(Debug, Args)]
pub(super) struct CertifyArgs {
    /// A public key, a certificate request or a certificate (PEM or DER), or
    /// pkcs11:token=NAME;object=NAME
    #[arg(value_name = "FILE|URI")]
    key: PathBuf,
    /// The key store of the CA [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The file to create: PEM if its name ends with .crt or .pem, else DER
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl CertifyArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let key = match token::uri(&self.key) {
            Some(uri) => {
                let uri = uri?;
                token::find(&uri)?.public_key(&uri)?
            }
            None => PublicKey::read(&self.key)?,
        };
        let Some(store) = self.keys.clone().or_else(default_store) else {
            return Err(hinted("no CA to certify with", "give --keys DIR, or set IMACTL_KEYS"));
        };
        let authority = Authority::read(&store, &mut |path| self.passphrase.ask(path))?;
        let purpose = match authority.certificate().is_sample() {
            true => Purpose::Sample,
            false => Purpose::Production,
        };
        if purpose == Purpose::Sample {
            output.warn("the CA is a sample, and so are the keys that it certifies: do not ship");
        }
        let certificate = authority.certify(&key, &self.profile.resolve(purpose))?;
        let extension = self.output.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("crt" | "pem") => write_new(&self.output, &certificate.to_pem()?)?,
            _ => write_new(&self.output, certificate.der())?,
        }
        print_certificate(&self.output, &certificate, output)?;
        Ok(Outcome::Good)
    }
}

/// Writes a new file atomically; an error if it exists.
fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let staged = Location::of(path).and_then(|place| Staged::new(place, 0o644));
    let staged = staged.at(path)?;
    staged.as_file().write_all(content).at(path)?;
    staged.complete().at(path)?;
    match staged.persist_new() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{}: exists", path.display());
            Err(hinted(
                message,
                "certificates are not overwritten: remove it, or give another name",
            ))
        }
        Err(error) => Err(error).at(path),
    }
}
