//! Signatures of version 1 (`--rsa`): verified with bare public keys, in keyrings that are not trusted.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ima::container::{Access, AttributeName, Change, Item, ItemError, Operation};
use ima::digest::Hasher;
use ima::evm::Coverage;
use ima::key::version_1::KeyV1;
use ima::key::{PublicKey, Signer};
use ima::sign::Maker;
use ima::staging;
use ima::system::add_version_1;
use ima::verify::is_version_1_by;
use ima_format::xattr::{Attribute, SignatureKind};

use super::import;
use super::operations::Failure;
use super::options::Options;
use crate::error::{Context, Error, Result};
use crate::Outcome;

pub(super) const PUBLIC_KEY: &str = "/etc/keys/pubkey_evm.pem";

/// Makes signatures with the current time, or with that of reproducible builds.
pub(super) fn maker(signer: &dyn Signer, kind: SignatureKind) -> Maker<'_> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|time| time.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // the field has 32 bits: from 2106 on it has the lower ones
    let time = given.unwrap_or_else(now) as u32;
    Maker::Version1 { signer, kind, time }
}

/// The key in a file, in the form that the kernel loads.
fn kernel_key(operand: Option<&std::ffi::OsString>) -> Result<(PathBuf, KeyV1)> {
    let path = operand.map_or_else(|| PUBLIC_KEY.into(), PathBuf::from);
    let key = KeyV1::of(&PublicKey::read(&path)?);
    let key = key.ok_or_else(|| Error::new(format!("{}: not an RSA key", path.display())))?;
    Ok((path, key))
}

/// `convert`: writes the key in the kernel's form to `KEY.bin`, and its description to `KEY.keyid`.
pub(super) fn convert(options: &Options) -> Result<Outcome> {
    let (path, key) = kernel_key(options.operands.get(1))?;
    for (suffix, content) in [(".bin", &key.payload[..]), (".keyid", key.to_string().as_bytes())] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        let written = staging::write_path(Path::new(&name), 0o644, content);
        written.at(Path::new(&name))?;
    }
    Ok(Outcome::Good)
}

/// `import --rsa`: adds the key to a keyring, and prints its serial number.
pub(super) fn import(options: &Options) -> Result<Outcome> {
    let (path, key) = kernel_key(options.operands.get(1))?;
    let keyring = import::keyring(options.operands.get(2))?;
    println!("{}", add_version_1(keyring, &key).at(&path)?);
    Ok(Outcome::Good)
}

/// Verifies signatures of all versions.
pub(super) struct Verify<'a, O> {
    /// Verifies those of version 2 and newer.
    pub(super) newer: O,
    pub(super) keys: &'a [(PathBuf, PublicKey)],
    /// The coverage of `security.evm`; `None` for `security.ima`.
    pub(super) coverage: Option<Coverage>,
}

impl<O> Verify<'_, O> {
    /// Why a file's signature of version 1 is not good, or `None` without such a signature. It is never portable.
    fn version_1(&self, item: &mut dyn Item) -> Result<Option<Option<Failure>>, ItemError> {
        let name = self.coverage.as_ref().map_or(AttributeName::Ima, |_| AttributeName::Evm);
        let value = item.attribute(name)?;
        let signature = match value.map(|value| Attribute::decode(&value)) {
            Some(Ok(Attribute::SignatureV1(it))) if it.kind == SignatureKind::Ima => it,
            _ => return Ok(None),
        };
        let Some(algorithm) = signature.algorithm() else {
            return Ok(Some(Some(Failure::Bad("unknown hash algorithm".to_owned()))));
        };
        let digest = match &self.coverage {
            None => item.digest(algorithm.into())?,
            Some(coverage) => {
                Hasher::new(algorithm)?.digest(&coverage.message(item, &Change::none())?)?
            }
        };
        let is_good = self.keys.iter().any(|(_, key)| is_version_1_by(key, &signature, &digest));
        Ok(Some(match is_good {
            true => None,
            false => {
                let bad = "signature of version 1 by another key or over another file";
                Some(Failure::Bad(bad.to_owned()))
            }
        }))
    }
}

impl<O: Operation<Outcome = Option<Failure>>> Operation for Verify<'_, O> {
    /// Why the signature is not good.
    type Outcome = Option<Failure>;
    type Worker = O::Worker;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> Self::Worker {
        self.newer.worker()
    }

    fn item(
        &self,
        worker: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Self::Outcome, Change), ItemError> {
        if let Some(outcome) = self.version_1(item)? {
            return Ok((outcome, Change::none()));
        }
        self.newer.item(worker, item)
    }
}
