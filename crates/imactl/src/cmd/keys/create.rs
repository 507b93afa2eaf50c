//! `imactl keys create`

use std::path::{Path, PathBuf};

use clap::Args;
use ima::key::create::{create, KeyAlgorithm, Plan};
use ima::key::issue::{Profile, Purpose};
use ima::key::passphrase::Passphrase;
use ima::HashAlgorithm;

use super::print_certificate;
use crate::error::{hinted, Result};
use crate::output::Output;
use crate::outputs::tell_left_over;
use crate::passphrase::PassphraseArgs;
use crate::Outcome;

/// The content of certificates
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// Hash algorithm of the certificates' signatures: sha256, sha384 or sha512
    #[arg(long, value_name = "NAME", default_value = "sha256")]
    hash: HashAlgorithm,
    /// Days that the certificates are valid (kernel keyrings do not check this)
    #[arg(long, value_name = "N", default_value_t = 3650,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Organization of the certificates' subjects
    #[arg(long, value_name = "NAME", default_value = "imactl")]
    organization: String,
    /// First words of the common names of the certificates' subjects
    #[arg(long, value_name = "NAME", default_value = "Integrity")]
    common_name: String,
}

impl ProfileArgs {
    pub(super) fn resolve(&self, purpose: Purpose) -> Profile {
        Profile {
            hash: self.hash,
            days: self.days,
            organization: self.organization.clone(),
            common_name: self.common_name.clone(),
            purpose,
        }
    }
}

/// Make a key store: a chain of keys and certificates
///
/// system_trusted_keys (the CA that goes into the kernel), secondary_trusted_keys (a CA that it
/// signed), modsign_keys (signs modules), ima_keys (signs files) and evm_keys (signs their
/// metadata). The passphrase encrypts all private keys. The kernel's build reads that of the module
/// key from KBUILD_SIGN_PIN. The module certificate has an issuer of its own, whose key is not
/// kept, so that .ima does not accept it. Existing files are not overwritten. Either all files are
/// created, or none.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The directory to create
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// rsa-2048, rsa-3072, rsa-4096, p-256, p-384, p-521 (Linux 6.10 and newer), or ml-dsa-44,
    /// ml-dsa-65, ml-dsa-87 (Linux 7.2 and newer)
    #[arg(long, value_name = "NAME", default_value = "rsa-2048")]
    algorithm: KeyAlgorithm,
    /// Algorithm of the key that signs files, if it should differ: an ML-DSA key under an RSA CA
    #[arg(long, value_name = "NAME")]
    ima_algorithm: Option<KeyAlgorithm>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the private keys without a passphrase
    #[arg(long, conflicts_with = "PassphraseArgs")]
    no_passphrase: bool,
    /// Make keys for development: marked as such, without a passphrase
    #[arg(long, conflicts_with_all = ["PassphraseArgs", "no_passphrase"])]
    sample: bool,
}

impl CreateArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        tell_left_over(self.directory.parent().unwrap_or(Path::new("")), output);
        let passphrase = match self.no_passphrase || self.sample {
            true => None,
            false => Some(new_passphrase(&self.passphrase)?),
        };
        let plan = Plan {
            algorithm: self.algorithm,
            ima_algorithm: self.ima_algorithm.unwrap_or(self.algorithm),
            profile: self.profile.resolve(match self.sample {
                true => Purpose::Sample,
                false => Purpose::Production,
            }),
            passphrase,
        };
        for (role, certificate) in create(&self.directory, &plan)? {
            print_certificate(&role.path(&self.directory, "der"), &certificate, output)?;
        }
        if self.sample {
            output.warn("these are sample keys, for development only: do not ship");
        }
        Ok(Outcome::Good)
    }
}

/// The passphrase that encrypts new keys.
pub(super) fn new_passphrase(passphrase: &PassphraseArgs) -> Result<Passphrase> {
    match passphrase.ask_new()? {
        Some(passphrase) if passphrase.as_bytes().is_empty() => {
            Err(hinted("the passphrase is empty", "give --no-passphrase if this is intended"))
        }
        Some(passphrase) => Ok(passphrase),
        None => Err(hinted(
            "no passphrase for the private keys, and no terminal to ask on",
            "give --passphrase-file, --passphrase-env or --passphrase-fd; or --no-passphrase",
        )),
    }
}
