//! Appends signatures to the content of files, verifies and removes them.
//!
//! The file is written again, whole or not at all. `security.ima` and `security.evm` covered the old
//! content, and do not stay.

use std::io::Read;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::kind::{self, Compression};
use ima_format::modsig::{Message, SignatureKey, SignerId, TRAILER_SIZE};
use ima_format::policy::kernel::KernelVersion;
use ima_format::xattr::KeyId;
use ima_format::Error as FormatError;

use super::sign::EvmEffect;
use super::{Cleared, Judgement, SignMode, Signed};
use crate::compression::decoder;
use crate::container::{Access, Change, Content, Item, ItemError, LeftOver, Operation};
use crate::digest::FileHasher;
use crate::key::certificate::Certificate;
use crate::key::{self, Signer};
use crate::modsig::{self, Appended, Over, Verdict};
use crate::verify::Keyring;

/// Appends a signature by a key to each file, in place of one that is there.
#[allow(missing_debug_implementations)] // a signer may hold a device
pub struct Append<'a> {
    /// The key.
    pub signer: &'a dyn Signer,
    /// Its certificate, whose issuer and serial number name the signer.
    pub certificate: &'a Certificate,
    /// The hash of the signed digest; ML-DSA keys sign the content itself.
    pub algorithm: HashAlgorithm,
    /// Which files are signed.
    pub mode: SignMode,
}

/// Removes the appended signature of each file.
#[derive(Debug, Clone, Copy)]
pub struct Strip;

/// Verifies the appended signature of each file.
#[derive(Debug, Clone, Copy)]
pub struct VerifyAppended<'a> {
    /// The keys.
    pub keyring: &'a Keyring,
    /// The kernel whose verdict it is.
    pub kernel: KernelVersion,
}

/// The appended signature of a file.
type Found = Option<Result<Appended, FormatError>>;

fn rewritable(item: &dyn Item) -> Result<&dyn Content, ItemError> {
    item.rewritable().ok_or(ItemError::NoContentAccess)
}

/// Finds the appended signature of a file, where its container gives access to the end of the content.
pub(super) fn find(item: &dyn Item) -> Result<Found, ItemError> {
    match item.end() {
        Some(content) => modsig::read(content.size(), |offset, to| content.read_at(offset, to)),
        None => Ok(None),
    }
}

/// The digest of the first bytes of a file.
fn digest(
    hasher: &mut FileHasher,
    content: &dyn Content,
    size: u64,
    algorithm: HashAlgorithm,
) -> Result<Digest, ItemError> {
    let read = |offset: u64, to: &mut [u8]| {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX).min(to.len());
        content.read_at(offset, &mut to[..left])
    };
    match hasher.digest_with(read, algorithm, &|_| {})? {
        (digest, found) if found == size => Ok(digest),
        _ => Err(ItemError::Changed),
    }
}

/// What a signature is over, of the first bytes of a file.
fn signed(
    hasher: &mut FileHasher,
    content: &dyn Content,
    size: u64,
    over: Over,
) -> Result<key::Message, ItemError> {
    if let Over::Digest(algorithm) = over {
        return digest(hasher, content, size, algorithm).map(key::Message::Digest);
    }
    match modsig::content(size, |offset, to| content.read_at(offset, to))? {
        bytes if bytes.len() as u64 == size => Ok(key::Message::Bytes(bytes)),
        _ => Err(ItemError::Changed),
    }
}

/// The size of the content before an appended signature that is well-formed, or of all of it.
fn content_size(content: &dyn Content, found: &Found) -> u64 {
    match found {
        Some(Ok(appended)) => appended.content,
        Some(Err(_)) | None => content.size(),
    }
}

/// The digests that an appended signature is over, by the algorithms that it names.
pub(super) fn signed_digests(
    item: &dyn Item,
    hasher: &mut FileHasher,
) -> Result<Vec<Digest>, ItemError> {
    let (Some(Ok(appended)), Some(content)) = (find(item)?, item.content()) else {
        return Ok(Vec::new());
    };
    let Ok(message) = Message::parse(&appended.message) else { return Ok(Vec::new()) };
    let hashes = message.signers.iter().filter_map(|signer| signer.hash);
    hashes.map(|hash| digest(hasher, content, appended.content, hash)).collect()
}

/// The key that made an appended signature, if it is in a keyring; nothing is verified.
pub(super) fn signer_in(item: &dyn Item, keyring: &Keyring) -> Result<Option<KeyId>, ItemError> {
    if keyring.is_empty() {
        return Ok(None);
    }
    let Some(Ok(appended)) = find(item)? else { return Ok(None) };
    let message = Message::parse(&appended.message);
    let signers = message.map(|message| message.signers).unwrap_or_default();
    let mut keys = signers.iter().flat_map(|info| keyring.certified(info.signer));
    Ok(keys.next().map(|certified| certified.key_id))
}

/// The compression of a module that was compressed: its signature belongs inside.
fn compressed_module(content: &dyn Content) -> Result<Option<Compression>, ItemError> {
    let mut head = vec![0; 1 << 16];
    let read = content.read_at(0, &mut head)?;
    head.truncate(read);
    let Some(kind::Content::Compressed(compression)) = kind::Content::of(&head) else {
        return Ok(None);
    };
    let mut magic = [0; 4];
    let is_elf = decoder(compression, &*head)
        .and_then(|mut plain| plain.read_exact(&mut magic))
        .is_ok_and(|()| &magic == b"\x7fELF");
    Ok(is_elf.then_some(compression))
}

impl Operation for Append<'_> {
    type Outcome = Signed;
    type Worker = FileHasher;

    const ACCESS: Access = Access::Sets;
    const LEFT_OVER: LeftOver = LeftOver::LeftOut;

    fn worker(&self) -> FileHasher {
        FileHasher::default()
    }

    fn item(
        &self,
        hasher: &mut FileHasher,
        item: &mut dyn Item,
    ) -> Result<(Signed, Change), ItemError> {
        let key_id = Some(self.certificate.key_id());
        let found = find(item)?;
        let content = rewritable(item)?;
        if let Some(compression) = compressed_module(content)? {
            return Err(ItemError::CompressedModule(compression));
        }
        if let Some(Err(error)) = found {
            return Err(ItemError::Appended(error));
        }
        let size = content_size(content, &found);
        let wanted = Over::of(self.signer.public_key().key_type(), self.algorithm);
        if self.mode == SignMode::Changed {
            let keyring = Keyring::of_certificates([self.certificate]);
            let signed = |over| signed(hasher, content, size, over);
            let verdict = modsig::verdict(&keyring, KernelVersion::V7_3, found.as_ref(), signed)?;
            if matches!(verdict, Verdict::Valid { over, .. } if over == wanted) {
                return Ok((Signed::Unchanged { key_id }, Change::none()));
            }
        }
        let message = signed(hasher, content, size, wanted)?;
        let signature = modsig::sign(self.signer, self.certificate, &message)?;
        let signed = Signed::Signed { key_id, evm: EvmEffect::Absent };
        Ok((signed, Change::of_end(size, signature)))
    }
}

impl Operation for Strip {
    type Outcome = Cleared;
    type Worker = ();

    const ACCESS: Access = Access::Removes;

    fn worker(&self) {}

    fn item(&self, (): &mut (), item: &mut dyn Item) -> Result<(Cleared, Change), ItemError> {
        rewritable(item)?;
        match find(item)? {
            None => Ok((Cleared::Bare, Change::none())),
            Some(Err(error)) => Err(ItemError::Appended(error)),
            Some(Ok(appended)) => {
                let change = Change::of_end(appended.content, Vec::new());
                Ok((Cleared::Cleared(EvmEffect::Absent), change))
            }
        }
    }
}

impl Operation for VerifyAppended<'_> {
    type Outcome = Judgement;
    type Worker = FileHasher;

    const ACCESS: Access = Access::Reads;

    fn worker(&self) -> FileHasher {
        FileHasher::default()
    }

    fn item(
        &self,
        hasher: &mut FileHasher,
        item: &mut dyn Item,
    ) -> Result<(Judgement, Change), ItemError> {
        let found = find(item)?;
        let content = item.content().ok_or(ItemError::NoContentAccess)?;
        let size = content_size(content, &found);
        let signed = |over| signed(hasher, content, size, over);
        let verdict = modsig::verdict(self.keyring, self.kernel, found.as_ref(), signed)?;
        Ok((Judgement::Appended(verdict), Change::none()))
    }
}

/// What is shown of an appended signature: its size, and what its message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedInspection {
    /// Bytes, all that is appended.
    pub size: u64,
    /// The algorithm of the key.
    pub key: SignatureKey,
    /// The hash of the signed digest.
    pub hash: Option<HashAlgorithm>,
    /// How the signer is named.
    pub signer: Signatory,
    /// The message.
    pub message: Vec<u8>,
}

/// The name of a signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signatory {
    /// The serial number of its certificate.
    Serial(Vec<u8>),
    /// Its subject key identifier.
    KeyId(Vec<u8>),
}

/// Reads the appended signature of a file.
pub(super) fn inspect(
    item: &dyn Item,
) -> Result<Option<Result<AppendedInspection, FormatError>>, ItemError> {
    Ok(find(item)?.map(|found| {
        let Appended { message, .. } = found?;
        let parsed = Message::parse(&message)?;
        let first = parsed.signers.first();
        let signer = match first.map(|info| info.signer) {
            Some(SignerId::Serial { serial, .. }) => Signatory::Serial(serial.to_vec()),
            Some(SignerId::KeyId(id)) => Signatory::KeyId(id.to_vec()),
            None => Signatory::KeyId(Vec::new()),
        };
        let size = (message.len() + TRAILER_SIZE) as u64;
        let key = first.map_or(SignatureKey::Other, |info| info.key);
        let hash = first.and_then(|info| info.hash);
        Ok(AppendedInspection { size, key, hash, signer, message })
    }))
}
