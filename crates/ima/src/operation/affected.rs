//! Finds the files that a revocation affects.

use ima_format::blacklist::{Entry, Kind};
use ima_format::xattr::{Attribute, KeyId};

use super::appended;
use crate::container::{Access, AttributeName, Change, Item, ItemError, Operation};
use crate::digest::{DigestKind, FileHasher};
use crate::revoke::looked_up_by;

/// Looks for files with these digests, and for signatures by these keys.
#[derive(Debug, Clone)]
pub struct FindAffected {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The keys.
    pub keys: Vec<KeyId>,
}

/// Why a file is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affected {
    /// It has a denied digest.
    Digest,
    /// Its content before an appended signature has one.
    AppendedDigest,
    /// A revoked key signed it.
    Key(KeyId),
}

impl FindAffected {
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
        if let Ok(Attribute::Signature(signature)) =
            Attribute::decode(value.as_deref().unwrap_or_default())
        {
            if self.keys.contains(&signature.key_id) {
                return found(Affected::Key(signature.key_id));
            }
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
