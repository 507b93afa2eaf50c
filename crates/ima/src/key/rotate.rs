//! A new generation of a store's keys.
//!
//! The files of replaced keys stay next to the new ones, with their key IDs in the names:
//! `x509_ima_1a2b3c4d.{key,crt,der}`. So the store trusts the certificates of all generations, and imactl-init
//! loads them. Each directory is created as a whole, with hard links to the files that stay, and exchanged with
//! the old one in one step (`renameat2`, `RENAME_EXCHANGE`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{renameat_with, RenameFlags, CWD};

use super::certificate::Certificate;
use super::create::{generate, CreateError, KeyAlgorithm, Pair, Plan};
use super::issue::{Authority, Profile};
use super::passphrase::{keep_out_of_dumps, Passphrase};
use super::store::{KeyStore, Role, StoreError};
use crate::advice::Advice;
use crate::staging::StoreDirectory;

/// The keys to replace.
#[derive(Debug)]
pub enum Replaced {
    /// One key that signs, with a certificate of the store's CA.
    Signer(Role, Authority),
    /// All keys, with a new CA.
    All,
}

/// The new generation.
#[derive(Debug)]
pub struct Generation {
    /// The keys to replace.
    pub replaced: Replaced,
    /// The algorithm of the new keys; `None` to keep that of the old ones.
    pub algorithm: Option<KeyAlgorithm>,
    /// The content of the certificates.
    pub profile: Profile,
    /// Encrypts the private keys; `None` leaves them plain.
    pub passphrase: Option<Passphrase>,
}

/// Why there is no new generation; the store is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new keys cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The store has the certificate of a key, but not the key.
    #[error("{}: not in the store: no new key can take its place", path.display())]
    KeptElsewhere {
        /// Where the key would be.
        path: PathBuf,
    },
    /// The algorithm of the old key cannot be used for a new one.
    #[error("{}: no algorithm known that is the old key's", path.display())]
    Algorithm {
        /// The directory of the old key.
        path: PathBuf,
    },
    /// A directory cannot be replaced.
    #[error("{}: {source}", path.display())]
    Replace {
        /// The directory or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Advice for RotateError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.advice(),
            Self::Create(error) => error.advice(),
            Self::KeptElsewhere { .. } => Some(
                "make the new key where the old one is kept, and have it certified: imactl keys certify",
            ),
            Self::Algorithm { .. } => Some("name one with --algorithm"),
            Self::Replace { .. } => Some(
                "the file system must have hard links and RENAME_EXCHANGE, as ext4, XFS, btrfs and tmpfs do",
            ),
        }
    }
}

/// Replaces keys of a store, all of them or none, and returns the new certificates. No file is deleted.
///
/// # Errors
/// The store does not have these keys, or they cannot be replaced.
pub fn rotate(
    store: &Path,
    generation: &Generation,
) -> Result<Vec<(Role, Certificate)>, RotateError> {
    keep_out_of_dumps();
    let (roles, authority) = match &generation.replaced {
        Replaced::Signer(role, authority) => (vec![*role], Some(authority)),
        Replaced::All => (Role::ALL.to_vec(), None),
    };
    let opened = KeyStore::open(store)?;
    let mut old = Vec::new();
    for role in &roles {
        let key = role.path(store, "key");
        if !key.exists() {
            return Err(RotateError::KeptElsewhere { path: key });
        }
        old.push((*role, opened.current(*role)?));
    }
    let plan = plan(store, generation, &old)?;
    let pairs = generate(&plan, &roles, authority)?;
    let failed = |path: &Path, source| RotateError::Replace { path: path.to_owned(), source };
    let staging = StoreDirectory::in_directory(store).map_err(|error| failed(store, error))?;
    for ((role, certificate), pair) in old.iter().zip(&pairs) {
        stage(store, staging.path(), *role, certificate, pair)?;
    }
    staging.publish(|staging| exchange(store, staging, &roles))?;
    Ok(pairs.into_iter().map(|pair| (pair.role, pair.certificate)).collect())
}

fn plan(
    store: &Path,
    generation: &Generation,
    old: &[(Role, Certificate)],
) -> Result<Plan, RotateError> {
    let algorithm_of = |role: Role| {
        let same = old.iter().find(|(other, _)| *other == role).or(old.first());
        let key_type = same.map(|(_, certificate)| certificate.public_key().key_type());
        let like = key_type.and_then(KeyAlgorithm::of);
        generation
            .algorithm
            .or(like)
            .ok_or_else(|| RotateError::Algorithm { path: store.join(role.directory()) })
    };
    Ok(Plan {
        algorithm: algorithm_of(Role::SystemTrusted)?,
        ima_algorithm: algorithm_of(Role::Ima)?,
        profile: generation.profile.clone(),
        passphrase: generation.passphrase.clone(),
    })
}

/// Creates the directory that replaces that of a role.
fn stage(
    store: &Path,
    staging: &Path,
    role: Role,
    old: &Certificate,
    pair: &Pair,
) -> Result<(), RotateError> {
    let (from, to) = (store.join(role.directory()), staging.join(role.directory()));
    let failed = |path: &Path, source| RotateError::Replace { path: path.to_owned(), source };
    // creates the directory, which only its owner can read
    let files = pair.stage(staging)?;
    for entry in fs::read_dir(&from).map_err(|error| failed(&from, error))? {
        let path = entry.map_err(|error| failed(&from, error))?.path();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // the files of the replaced key get its key ID; those of earlier generations have theirs
        if path.file_stem() == Some(role.stem().as_ref()) {
            let kept = format!("{}_{}", role.stem(), old.key_id());
            name = match path.extension() {
                Some(extension) => Path::new(&kept).with_extension(extension).into(),
                None => kept.into(),
            };
        }
        fs::hard_link(&path, to.join(name)).map_err(|error| failed(&path, error))?;
    }
    let mode = fs::metadata(&from).map_err(|error| failed(&from, error))?.permissions();
    fs::set_permissions(&to, mode).map_err(|error| failed(&to, error))?;
    files.into_iter().try_for_each(|file| file.persist())?;
    Ok(())
}

/// Exchanges the new directories with the old ones, which are in `staging` afterwards.
fn exchange(store: &Path, staging: &Path, roles: &[Role]) -> Result<(), RotateError> {
    let exchange = |role: &Role| {
        let [new, old] = [staging, store].map(|parent| parent.join(role.directory()));
        renameat_with(CWD, &new, CWD, &old, RenameFlags::EXCHANGE)
            .map_err(|error| RotateError::Replace { path: old, source: error.into() })
    };
    for (number, role) in roles.iter().enumerate() {
        if let Err(error) = exchange(role) {
            roles[..number].iter().try_for_each(exchange)?;
            return Err(error);
        }
    }
    Ok(())
}
