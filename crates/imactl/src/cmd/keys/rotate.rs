//! `imactl keys rotate`

use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Args, ValueEnum};
use ima::key::certificate::Certificate;
use ima::key::create::KeyAlgorithm;
use ima::key::issue::{Authority, Purpose};
use ima::key::rotate::{rotate, Generation, Replaced};
use ima::key::store::{KeyStore, Role};
use ima::operation::FindAffected;
use ima::verify::Keyring;

use super::create::{new_passphrase, ProfileArgs};
use super::print_certificate;
use crate::args::default_store;
use crate::cmd::revoke::AffectedFiles;
use crate::error::{hinted, Result};
use crate::inputs::InputArgs;
use crate::output::{count, Output};
use crate::outputs::tell_left_over;
use crate::passphrase::PassphraseArgs;
use crate::report::{self, Results};
use crate::Outcome;

/// Replace a key of a key store by a new one, and list the files that must be signed again
///
/// The new key takes the place of the old one, whose files stay next to it with its key ID in their names
/// (x509_ima_1a2b3c4d.der). Until the old certificate is removed, all commands trust the signatures of
/// both keys, and imactl initramfs create puts both certificates into an initramfs. Nothing is deleted
/// and nothing is revoked. With PATH, files that keys of earlier generations have signed are listed, in
/// any kind of container. Exit status 2 if something could not be read.
#[derive(Debug, Args)]
#[command(mut_arg("paths", |arg| arg.required_unless_present(Resettable::Reset)))]
pub(super) struct RotateArgs {
    /// The key store [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR", help_heading = "Key")]
    keys: Option<PathBuf>,
    /// The key to replace
    #[arg(long, value_name = "KEY", default_value = "ima", help_heading = "Key")]
    role: RoleArg,
    /// Make no keys, only list the files of the earlier generations
    #[arg(long, requires = "paths")]
    list: bool,
    /// Algorithm of the new key, as for keys create [default: that of the old key]
    #[arg(long, value_name = "NAME", help_heading = "Key")]
    algorithm: Option<KeyAlgorithm>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the new private keys without a passphrase
    #[arg(long, help_heading = "Key")]
    no_passphrase: bool,
    #[command(flatten)]
    inputs: InputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// The key that signs files; the store's CA issues its certificate
    Ima,
    /// The key that signs metadata
    Evm,
    /// The key that signs modules
    Modsign,
    /// All keys, with a new CA: the kernel must be built again
    All,
}

impl RoleArg {
    fn roles(self) -> &'static [Role] {
        match self {
            Self::Ima => &[Role::Ima],
            Self::Evm => &[Role::Evm],
            Self::Modsign => &[Role::Modsign],
            Self::All => &[Role::Ima, Role::Evm, Role::Modsign],
        }
    }
}

impl RotateArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let Some(store) = self.keys.clone().or_else(default_store) else {
            return Err(hinted("no key store", "give --keys DIR, or set IMACTL_KEYS"));
        };
        if !self.list {
            tell_left_over(&store, output);
            self.replace(&store, output)?;
        }
        match self.inputs.tree.roots()?.is_empty() {
            true => Ok(Outcome::Good),
            false => self.report(&KeyStore::open(&store)?, output),
        }
    }

    fn replace(&self, store: &Path, output: &mut Output) -> Result<()> {
        let opened = KeyStore::open(store)?;
        let purpose = match opened.is_sample() {
            true => Purpose::Sample,
            false => Purpose::Production,
        };
        let replaced = match self.role {
            RoleArg::All => Replaced::All,
            role => {
                let authority = Authority::read(store, &mut |path| self.passphrase.ask(path))?;
                Replaced::Signer(role.roles()[0], authority)
            }
        };
        let generation = Generation {
            replaced,
            algorithm: self.algorithm,
            profile: self.profile.resolve(purpose),
            passphrase: match self.no_passphrase || purpose == Purpose::Sample {
                true => None,
                false => Some(new_passphrase(&self.passphrase)?),
            },
        };
        for (role, certificate) in rotate(store, &generation)? {
            print_certificate(&role.path(store, "der"), &certificate, output)?;
        }
        if purpose == Purpose::Sample {
            output.warn("these are sample keys, for development only: do not ship");
        }
        Ok(())
    }

    /// Lists the files that keys of earlier generations have signed.
    fn report(&self, store: &KeyStore, output: &mut Output) -> Result<Outcome> {
        let earlier = |role: Role| -> Result<Vec<Certificate>> {
            match self.role.roles().contains(&role) {
                true => Ok(store.earlier(role)?),
                false => Ok(Vec::new()),
            }
        };
        let mut signers = earlier(Role::Ima)?;
        signers.extend(earlier(Role::Evm)?);
        let of_modules = earlier(Role::Modsign)?;
        if signers.is_empty() && of_modules.is_empty() {
            return Err(hinted(
                "the store has no certificate of an earlier generation",
                "leave --list out to make a new one",
            ));
        }
        let operation = FindAffected {
            entries: Vec::new(),
            keys: signers.iter().map(Certificate::key_id).collect(),
            appended: Keyring::of_certificates(&of_modules),
        };
        let inputs = self.inputs.resolve()?;
        let mut printer = AffectedFiles;
        let totals =
            report::run(&operation, inputs, Results::None, "checking", output, &mut printer)?;
        totals.summarize(("unaffected", "affected"), None, output)?;
        let affected = count(totals.tally.other, totals.noun);
        totals.conclude(format!("{affected} to be signed again"), "", "not checked", output)
    }
}
