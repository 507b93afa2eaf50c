//! Finds the files that a revocation affects.

use ima_format::blacklist::{Entry, Kind};
use ima_format::xattr::{Attribute, KeyId};

use super::appended;
use crate::container::{Access, AttributeName, Change, Item, ItemError, Operation};
use crate::digest::{DigestKind, FileHasher};
use crate::revoke::looked_up_by;
use crate::verify::Keyring;

/// Looks for files with these digests, and for signatures by these keys.
#[derive(Debug, Clone)]
pub struct FindAffected {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The keys, in `security.ima` and `security.evm`.
    pub keys: Vec<KeyId>,
    /// The keys of appended signatures.
    pub appended: Keyring,
}

/// Why a file is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affected {
    /// It has a denied digest.
    Digest,
    /// Its content before an appended signature has one.
    AppendedDigest,
    /// One of the keys signed it.
    Key(KeyId),
    /// One of the keys signed its metadata.
    EvmKey(KeyId),
    /// One of the keys made the appended signature.
    AppendedKey(KeyId),
}

impl FindAffected {
    /// The key of a signature, if it is one of these.
    fn key_of(&self, value: Option<&[u8]>) -> Option<KeyId> {
        match Attribute::decode(value?) {
            Ok(Attribute::Signature(signature)) => Some(signature.key_id),
            _ => None,
        }
        .filter(|key_id| self.keys.contains(key_id))
    }

    fn denies(&self, digest: &[u8]) -> bool {
        self.entries.iter().any(|it| it.kind == Kind::Binary && it.digest == digest)
    }
}

impl Operation for FindAffected {
    type Outcome = Option<Affected>;
    type Worker = FileHasher;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> FileHasher {
        FileHasher::default()
    }

    fn digest_for(&self, attribute: Option<&[u8]>) -> Option<DigestKind> {
        let looks = self.entries.iter().any(|entry| entry.kind == Kind::Binary);
        looks.then(|| looked_up_by(attribute).into())
    }

    fn item(
        &self,
        hasher: &mut FileHasher,
        item: &mut dyn Item,
    ) -> Result<(Option<Affected>, Change), ItemError> {
        let value = item.attribute(AttributeName::Ima)?.map(|value| value.into_owned());
        let found = |affected| Ok((Some(affected), Change::none()));
        if let Some(key_id) = self.key_of(value.as_deref()) {
            return found(Affected::Key(key_id));
        }
        if let Some(key_id) = self.key_of(item.attribute(AttributeName::Evm)?.as_deref()) {
            return found(Affected::EvmKey(key_id));
        }
        if let Some(key_id) = appended::signer_in(item, &self.appended)? {
            return found(Affected::AppendedKey(key_id));
        }
        let Some(kind) = self.digest_for(value.as_deref()) else {
            return Ok((None, Change::none()));
        };
        let kind = item.algorithm().map_or(kind, DigestKind::from);
        if self.denies(item.digest(kind)?.as_bytes()) {
            return found(Affected::Digest);
        }
        for digest in appended::signed_digests(item, hasher)? {
            if self.denies(digest.as_bytes()) {
                return found(Affected::AppendedDigest);
            }
        }
        Ok((None, Change::none()))
    }
}
