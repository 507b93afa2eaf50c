//! A new chain of keys and certificates, in the layout of [`super::store`].
//!
//! The module key's certificate has an issuer of its own, whose key is discarded after signing: the kernel has
//! the certificate built in and requires no issuer for it, but `.ima` accepts any certificate that a built-in key
//! signed (`restrict_link_by_signature`). If it were signed by the store's CA or by its own key, root could add
//! it to `.ima`, and the module key could sign programs, too.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ima_format::x509::MlDsa;
use openssl::asn1::Asn1Object;
use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::{Id, PKey, Private};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Rsa;
use openssl::symm::{encrypt, Cipher};
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::der;
use super::issue::{issue, Authority, Holder, IssueError, Issuer, Profile, Purpose};
use super::passphrase::{keep_out_of_dumps, Passphrase};
use super::store::{Role, SAMPLE_FILE};
use super::KeyType;
use crate::advice::Advice;
use crate::staging::{Location, Staged, StoreDirectory};

/// PBKDF2 rounds for a key's passphrase: the number that OWASP recommends for HMAC-SHA-256. A key is decrypted
/// once per run, in a fraction of a second.
const PBKDF2_ITERATIONS: u32 = 600_000;

/// The algorithm of new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are their names
pub enum KeyAlgorithm {
    Rsa2048,
    Rsa3072,
    Rsa4096,
    P256,
    P384,
    P521,
    MlDsa(MlDsa),
}

impl KeyAlgorithm {
    /// All algorithms of new keys.
    pub const ALL: [Self; 9] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::MlDsa(MlDsa::MlDsa44),
        Self::MlDsa(MlDsa::MlDsa65),
        Self::MlDsa(MlDsa::MlDsa87),
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p-256",
            Self::P384 => "p-384",
            Self::P521 => "p-521",
            Self::MlDsa(set) => set.name(),
        }
    }

    /// The algorithm of a key; `None` if keys of this type cannot be created.
    pub fn of(key_type: KeyType) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == key_type.to_string())
    }

    fn generate(self) -> Result<PKey<Private>, CreateError> {
        let rsa = |bits| PKey::from_rsa(Rsa::generate(bits)?);
        let ec = |nid| {
            let mut group = EcGroup::from_curve_name(nid)?;
            // the kernel supports only curves that are given by name
            group.set_asn1_flag(Asn1Flag::NAMED_CURVE);
            PKey::from_ec_key(EcKey::generate(&group)?)
        };
        Ok(match self {
            Self::Rsa2048 => rsa(2048)?,
            Self::Rsa3072 => rsa(3072)?,
            Self::Rsa4096 => rsa(4096)?,
            Self::P256 => ec(Nid::X9_62_PRIME256V1)?,
            Self::P384 => ec(Nid::SECP384R1)?,
            Self::P521 => ec(Nid::SECP521R1)?,
            Self::MlDsa(set) => generate_ml_dsa(set)?,
        })
    }
}

/// OpenSSL supports ML-DSA since 3.5, under a dynamic number that it assigns to the object identifier.
fn generate_ml_dsa(set: MlDsa) -> Result<PKey<Private>, CreateError> {
    let unavailable = |_| CreateError::Unavailable(set);
    let object = Asn1Object::from_str(set.object_identifier()).map_err(unavailable)?;
    let id = Id::from_raw(object.nid().as_raw());
    let mut context = PkeyCtx::new_id(id).map_err(unavailable)?;
    context.keygen_init()?;
    Ok(context.keygen()?)
}

impl FromStr for KeyAlgorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
            format!("no key algorithm of that name; there are {}", known.join(", "))
        })
    }
}

/// The plan of a new store.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The algorithm of the keys.
    pub algorithm: KeyAlgorithm,
    /// The algorithm of the key that signs files.
    pub ima_algorithm: KeyAlgorithm,
    /// The content of the certificates.
    pub profile: Profile,
    /// Encrypts the private keys; `None` leaves them plain.
    pub passphrase: Option<Passphrase>,
}

/// Why a store could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A file exists already; nothing was changed.
    #[error("{}: exists; key stores are never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory cannot be created; those that were created before are removed.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A certificate could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The linked OpenSSL does not support ML-DSA.
    #[error("{}: the linked OpenSSL has no ML-DSA ({})", .0.name(), openssl::version::version())]
    Unavailable(MlDsa),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl Advice for CreateError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable(_) => Some(
                "ML-DSA needs OpenSSL 3.5 or newer: build imactl with its default features, which \
                 include it",
            ),
            _ => None,
        }
    }
}

/// Creates a store as a whole, or not at all. `directory` is created if it is missing; existing files in it are not
/// overwritten. Directories have mode 0700, keys 0600.
pub fn create(directory: &Path, plan: &Plan) -> Result<Vec<(Role, Certificate)>, CreateError> {
    keep_out_of_dumps();
    refuse_existing(directory)?;
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)
        .map_err(|source| CreateError::Write { path: parent.to_owned(), source })?;
    // generating keys takes time: keys are on disk only for the time of writing them
    let pairs = generate(plan, &Role::ALL, None)?;
    // created next to its final path, so that a rename can move it
    let staging = StoreDirectory::in_directory(parent)
        .map_err(|source| CreateError::Write { path: parent.to_owned(), source })?;
    let mut files = Vec::new();
    for pair in &pairs {
        files.extend(pair.stage(staging.path())?);
    }
    if plan.profile.purpose == Purpose::Sample {
        let text = b"These keys were made for development and protect nothing.\n\
            Anybody who has them can sign for a machine that trusts them. Do not ship them.\n";
        files.push(StagedFile::new(staging.path().join(SAMPLE_FILE), 0o644, text)?);
    }
    // a run that is killed before this leaves no key with a name
    for file in files {
        file.persist()?;
    }
    staging.publish(|staging| publish(staging, directory))?;
    Ok(pairs.into_iter().map(|pair| (pair.role, pair.certificate)).collect())
}

/// A key before it is written, and its certificate.
pub(super) struct Pair {
    pub(super) role: Role,
    key: Zeroizing<Vec<u8>>,
    pub(super) certificate: Certificate,
}

fn refuse_existing(directory: &Path) -> Result<(), CreateError> {
    let mut paths: Vec<_> = Role::ALL.iter().map(|role| directory.join(role.directory())).collect();
    paths.push(directory.join(SAMPLE_FILE));
    match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CreateError::Exists { path }),
        None => Ok(()),
    }
}

/// Creates keys, issuers first. Without a CA, the first key is one.
pub(super) fn generate(
    plan: &Plan,
    roles: &[Role],
    known: Option<&Authority>,
) -> Result<Vec<Pair>, CreateError> {
    let mut pairs = Vec::new();
    let mut made: Option<Authority> = None;
    let modules = module_authority(plan)?;
    for &role in roles {
        let algorithm = match role {
            Role::Ima => plan.ima_algorithm,
            _ => plan.algorithm,
        };
        let key = algorithm.generate()?;
        let issuer = match (role, known.or(made.as_ref())) {
            (Role::Modsign, _) => Issuer::Authority(&modules),
            (_, Some(authority)) => Issuer::Authority(authority),
            (_, None) => Issuer::Itself(&key),
        };
        let certificate = issue(&plan.profile, Holder::Role(role), &*key, issuer)?;
        let pem = match &plan.passphrase {
            Some(passphrase) => encrypted_pem(&key, passphrase)?,
            None => Zeroizing::new(key.private_key_to_pem_pkcs8()?),
        };
        pairs.push(Pair { role, key: pem, certificate: certificate.clone() });
        made.get_or_insert(Authority { key, certificate });
    }
    Ok(pairs)
}

/// The issuer of the module key's certificate.
fn module_authority(plan: &Plan) -> Result<Authority, CreateError> {
    let key = plan.algorithm.generate()?;
    let certificate = issue(&plan.profile, Holder::ModuleAuthority, &*key, Issuer::Itself(&key))?;
    Ok(Authority { key, certificate })
}

impl Pair {
    /// Writes it into a new directory of a store; the files have no names yet.
    pub(super) fn stage(&self, store: &Path) -> Result<[StagedFile; 3], CreateError> {
        let Self { role, key, certificate } = self;
        let directory = store.join(role.directory());
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|source| CreateError::Write { path: directory, source })?;
        Ok([
            StagedFile::new(role.path(store, "key"), 0o600, key)?,
            StagedFile::new(role.path(store, "crt"), 0o644, &certificate.to_pem()?)?,
            StagedFile::new(role.path(store, "der"), 0o644, certificate.der())?,
        ])
    }
}

/// A file on disk, without a name if the file system supports that.
pub(super) struct StagedFile {
    path: PathBuf,
    staged: Staged,
}

impl StagedFile {
    fn new(path: PathBuf, mode: u32, content: &[u8]) -> Result<Self, CreateError> {
        let stage = || {
            let staged = Staged::new(Location::of(&path)?, mode)?;
            staged.as_file().write_all(content)?;
            staged.as_file().sync_all()?;
            Ok(staged)
        };
        match stage() {
            Ok(staged) => Ok(Self { path, staged }),
            Err(source) => Err(CreateError::Write { path, source }),
        }
    }

    pub(super) fn persist(self) -> Result<(), CreateError> {
        let Self { path, staged } = self;
        staged.persist().map_err(|source| CreateError::Write { path, source })
    }
}

/// Moves the finished store to its place: in one rename if the place is free, otherwise directory by directory into the
/// existing one. If one cannot be moved, those that were moved are moved back.
fn publish(staging: &Path, directory: &Path) -> Result<(), CreateError> {
    let failed = |path: &Path, source| CreateError::Write { path: path.to_owned(), source };
    if directory.symlink_metadata().is_err() {
        return fs::rename(staging, directory).map_err(|source| failed(directory, source));
    }
    let mut moved: Vec<PathBuf> = Vec::new();
    let entries = fs::read_dir(staging).map_err(|source| failed(staging, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| failed(staging, source))?;
        let target = directory.join(entry.file_name());
        if let Err(source) = fs::rename(entry.path(), &target) {
            for path in &moved {
                let back = staging.join(path.file_name().unwrap_or_default());
                fs::rename(path, back).map_err(|source| failed(path, source))?;
            }
            return Err(failed(&target, source));
        }
        moved.push(target);
    }
    Ok(())
}

/// PKCS#8 under PBES2: `openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000`.
fn encrypted_pem(
    key: &PKey<Private>,
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    openssl::rand::rand_bytes(&mut salt)?;
    openssl::rand::rand_bytes(&mut iv)?;
    let mut secret = Zeroizing::new([0; 32]);
    let rounds = PBKDF2_ITERATIONS as usize;
    pbkdf2_hmac(passphrase.as_bytes(), &salt, rounds, MessageDigest::sha256(), &mut *secret)?;
    let plain = Zeroizing::new(key.private_key_to_pkcs8()?);
    let encrypted = encrypt(Cipher::aes_256_cbc(), &*secret, Some(&iv), &plain)?;
    let der = der::encrypted_private_key_info(&salt, PBKDF2_ITERATIONS, &iv, &encrypted);
    let mut pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n".to_vec();
    for line in openssl::base64::encode_block(&der).as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END ENCRYPTED PRIVATE KEY-----\n");
    Ok(Zeroizing::new(pem))
}
