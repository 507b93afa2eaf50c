//! Signatures that were made before: a file in a directory for each key.
//!
//! A file that is signed again, in a tree, package or image that was built again, needs no key then. A
//! signature is verified before it is used: whatever is in a file, a wrong one costs time, and is
//! made again. Nothing is kept of keys that sign faster than their signatures are verified (ECDSA keys
//! in files).
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 32 | SHA-256 of the form, the key ID and the public key (DER), which is also the file's name |
//! | 32 | 32 | SHA-256 of the signed message with its kind and algorithm |
//! | 64 | 2 | length of the signature, little-endian |
//! | 66 | | the signature; then the next record, from the message on |
//!
//! Any number of processes read and append. Records are appended under a lock (flock), in one write,
//! to what a process has read so far and others have appended since; what a process that was killed
//! left of a record is cut off. A file that became larger than the limit is replaced by an empty one;
//! who still has the old one open reads on in that.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ima_format::hash::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::xattr::KeyId;
use rustix::fs::{flock, FlockOperation, OFlags};

use crate::advice::Advice;
use crate::digest::{DigestError, Hasher};
use crate::key::{Message, PublicKey, Session, SignError, Signer};
use crate::staging::{self, Location};
use crate::verify::{Keyring, Verifier};

/// In the names of files: another layout has another form.
const FORM: &[u8] = b"imactl signatures 1";
/// No file becomes larger: half a million signatures by RSA-4096.
const LARGEST: u64 = 256 << 20;
/// So many bytes are kept until they are appended.
const BATCH: usize = 1 << 18;
/// Where the first record begins, and where in a record the signature.
const HEAD: u64 = 32;
const RECORD_HEAD: u64 = 34;

type Sum = [u8; 32];

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No digest could be made.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    /// The key cannot be used.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Advice for CacheError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("give a directory that you own, or sign without --cache"),
            Self::Sign(error) => error.advice(),
            Self::Digest(_) | Self::OpenSsl(_) => None,
        }
    }
}

/// A key whose signatures are kept.
#[allow(missing_debug_implementations)] // a signer may hold a device
pub struct Cached<S> {
    signer: S,
    path: PathBuf,
    name: Sum,
    largest: u64,
    /// To make a signature costs less than to verify it.
    is_fast: bool,
    store: Mutex<Store>,
    failed: OnceLock<io::Error>,
}

impl<S> Drop for Cached<S> {
    fn drop(&mut self) {
        let (path, name, largest) = (&self.path, &self.name, self.largest);
        let store = self.store.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !store.new.is_empty() {
            // a signature that is not kept is made again
            store.append(path, name, largest).ok();
        }
    }
}

/// The signatures of a key.
#[derive(Default)]
struct Store {
    file: Option<Arc<File>>,
    /// How far the file was read.
    end: u64,
    /// Where signatures begin, and how long they are, by message.
    known: HashMap<Sum, (u64, u16)>,
    /// Records that are not in the file yet.
    new: Vec<u8>,
    hits: u64,
}

impl<S: Signer> Cached<S> {
    /// Keeps the signatures of a key in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// Those of making the directory, and of opening and reading the file.
    pub fn new(signer: S, directory: &Path) -> Result<Self, CacheError> {
        Self::limited(signer, directory, LARGEST)
    }

    fn limited(signer: S, directory: &Path, largest: u64) -> Result<Self, CacheError> {
        let KeyId(id) = signer.key_id();
        let der = signer.public_key().pkey().public_key_to_der()?;
        let name = sum(&mut Hasher::new(HashAlgorithm::Sha256)?, &[FORM, &id, &der])?;
        let path = directory.join(Hex(&name).to_string());
        let failed = |source| CacheError::File { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut store = Store::default();
        store.append(&path, &name, largest).map_err(failed)?;
        let is_fast = signer.session()?.repeats_itself();
        let (store, failed) = (Mutex::new(store), OnceLock::new());
        Ok(Self { signer, path, name, largest, is_fast, store, failed })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many signatures were not made, as they were known.
    pub fn hits(&self) -> u64 {
        self.store().hits
    }

    /// Appends the records that are not in the file yet.
    ///
    /// # Errors
    /// Those of writing, now or before: signatures were made anyway.
    pub fn finish(mut self) -> Result<(), CacheError> {
        let appended = self.append(&mut self.store());
        let failed = self.failed.take().map_or(appended, Err);
        failed.map_err(|source| CacheError::File { path: self.path.clone(), source })
    }

    fn append(&self, store: &mut Store) -> io::Result<()> {
        store.append(&self.path, &self.name, self.largest)
    }

    fn known(&self, message: &Sum) -> Option<Vec<u8>> {
        let (file, (at, length)) = {
            let store = self.store();
            (store.file.clone()?, *store.known.get(message)?)
        };
        let mut signature = vec![0; usize::from(length)];
        file.read_exact_at(&mut signature, at).ok()?;
        Some(signature)
    }

    fn keep(&self, message: &Sum, signature: &[u8]) {
        let Ok(length) = u16::try_from(signature.len()) else { return };
        let mut store = self.store();
        store.new.extend_from_slice(message);
        store.new.extend_from_slice(&length.to_le_bytes());
        store.new.extend_from_slice(signature);
        if store.new.len() >= BATCH {
            if let Err(error) = self.append(&mut store) {
                self.failed.get_or_init(|| error);
            }
        }
    }
}

impl Store {
    /// Reads what others have appended, and appends the new records, all under the lock.
    fn append(&mut self, path: &Path, name: &Sum, largest: u64) -> io::Result<()> {
        let new = std::mem::take(&mut self.new);
        let mut file = self.locked(path)?;
        let size = file.metadata()?.len();
        let mut head = Sum::default();
        if size == 0 {
            file.write_all_at(name, 0)?;
        } else if size > largest || file.read_exact_at(&mut head, 0).is_err() || head != *name {
            // not cut: other processes know the offsets
            staging::write(&Location::of(path)?, 0o644, name)?;
            *self = Self { hits: self.hits, ..Self::default() };
            file = self.locked(path)?;
        }
        let appended = self.catch_up(&file).and_then(|()| {
            if new.is_empty() {
                return Ok(());
            }
            file.write_all_at(&new, self.end)?;
            self.catch_up(&file)
        });
        flock(&*file, FlockOperation::Unlock)?;
        appended
    }

    /// The file, under a lock that ends with it.
    fn locked(&mut self, path: &Path) -> io::Result<Arc<File>> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                // NONBLOCK: opening a FIFO does not wait
                let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false);
                let file = options.custom_flags(flags.bits() as i32).open(path)?;
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("not a regular file"));
                }
                Arc::clone(self.file.insert(Arc::new(file)))
            }
        };
        flock(&*file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Reads the records from where reading ended, and cuts off an incomplete one.
    fn catch_up(&mut self, file: &File) -> io::Result<()> {
        let size = file.metadata()?.len();
        self.end = self.end.max(HEAD);
        let mut reader = io::BufReader::with_capacity(1 << 18, At { file, offset: self.end });
        while self.end < size {
            let (mut message, mut length) = (Sum::default(), [0; 2]);
            if reader
                .read_exact(&mut message)
                .and_then(|()| reader.read_exact(&mut length))
                .is_err()
            {
                break;
            }
            let length = u16::from_le_bytes(length);
            let signature = self.end + RECORD_HEAD;
            let read = io::copy(&mut reader.by_ref().take(u64::from(length)), &mut io::sink())?;
            if read < u64::from(length) {
                break;
            }
            self.known.insert(message, (signature, length));
            self.end = signature + read;
        }
        match self.end < size {
            true => file.set_len(self.end),
            false => Ok(()),
        }
    }
}

/// A file from an offset on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// SHA-256 of parts, each after its length.
fn sum(hasher: &mut Hasher, parts: &[&[u8]]) -> Result<Sum, DigestError> {
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes())?;
        hasher.update(part)?;
    }
    let digest = hasher.finish()?;
    Ok(digest.as_bytes().try_into().unwrap_or_default())
}

impl<S: Signer> Signer for Cached<S> {
    fn key_id(&self) -> KeyId {
        self.signer.key_id()
    }

    fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    fn session(&self) -> Result<Box<dyn Session + '_>, SignError> {
        Ok(Box::new(CachedSession {
            cached: self,
            session: None,
            hasher: Hasher::new(HashAlgorithm::Sha256)?,
            verifier: Verifier::new(Keyring::of_public_key(
                self.key_id(),
                self.public_key().clone(),
            )),
        }))
    }
}

struct CachedSession<'a, S> {
    cached: &'a Cached<S>,
    /// Opened for the first signature that is not known.
    session: Option<Box<dyn Session + 'a>>,
    hasher: Hasher,
    verifier: Verifier,
}

impl<S: Signer> Session for CachedSession<'_, S> {
    fn sign(&mut self, message: &Message, signature: &mut Vec<u8>) -> Result<(), SignError> {
        if self.cached.is_fast {
            return self.make(message, signature);
        }
        let sum = match message {
            Message::Digest(digest) => {
                sum(&mut self.hasher, &[&[digest.algorithm().id()], digest.as_bytes()])?
            }
            Message::Bytes(bytes) => sum(&mut self.hasher, &[bytes])?,
            Message::Bare(digest) => sum(&mut self.hasher, &[b"bare", digest])?,
        };
        if let Some(known) = self.cached.known(&sum) {
            if self.verifier.accepts_message(self.cached.key_id(), message, &known) {
                self.cached.store().hits += 1;
                signature.extend_from_slice(&known);
                return Ok(());
            }
        }
        let start = signature.len();
        self.make(message, signature)?;
        self.cached.keep(&sum, &signature[start..]);
        Ok(())
    }

    fn repeats_itself(&self) -> bool {
        self.cached.is_fast
    }
}

impl<S: Signer> CachedSession<'_, S> {
    fn make(&mut self, message: &Message, signature: &mut Vec<u8>) -> Result<(), SignError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.cached.signer.session()?),
        };
        session.sign(message, signature)
    }
}

#[cfg(test)]
mod tests {
    use ima_format::hash::Digest;

    use super::*;
    use crate::key::private::PrivateKey;

    fn signer() -> impl Signer {
        let key = openssl::rsa::Rsa::generate(2048).unwrap();
        let pem = openssl::pkey::PKey::from_rsa(key).unwrap().private_key_to_pem_pkcs8().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, pem).unwrap();
        let key = PrivateKey::read(&path, &mut |_| Ok(None)).unwrap();
        let id = key.public_key().default_key_id().unwrap();
        key.into_signer(id).unwrap()
    }

    fn sign(cached: &Cached<&dyn Signer>, number: u8) -> Vec<u8> {
        let message = Message::Digest(Digest::new(HashAlgorithm::Sha256, &[number; 32]).unwrap());
        let mut signature = Vec::new();
        cached.session().unwrap().sign(&message, &mut signature).unwrap();
        let mut verifier =
            Verifier::new(Keyring::of_public_key(cached.key_id(), cached.public_key().clone()));
        assert!(verifier.accepts_message(cached.key_id(), &message, &signature));
        signature
    }

    fn file(directory: &Path) -> PathBuf {
        fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn signatures_are_made_once() {
        let (directory, signer) = (tempfile::tempdir().unwrap(), signer());
        let open = || Cached::new(&signer as &dyn Signer, directory.path()).unwrap();
        // two at a time
        let (one, other) = (open(), open());
        let first: Vec<_> = (0..10).map(|number| sign(&one, number)).collect();
        let second: Vec<_> = (10..20).map(|number| sign(&other, number)).collect();
        one.finish().unwrap();
        other.finish().unwrap();
        let again = open();
        assert_eq!((0..10).map(|number| sign(&again, number)).collect::<Vec<_>>(), first);
        assert_eq!((10..20).map(|number| sign(&again, number)).collect::<Vec<_>>(), second);
        assert_eq!(again.hits(), 20);
    }

    #[test]
    fn whatever_is_in_the_file_signatures_are_right() {
        let (directory, signer) = (tempfile::tempdir().unwrap(), signer());
        let open = || Cached::new(&signer as &dyn Signer, directory.path()).unwrap();
        let fill = || {
            let cached = open();
            (0..4).for_each(|number| drop(sign(&cached, number)));
            cached.finish().unwrap();
        };
        fill();
        let path = file(directory.path());
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(41) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            fs::write(&path, &bytes).unwrap();
            fill();
            fs::write(&path, &whole[..at]).unwrap();
            fill();
        }
        let last = open();
        (0..4).for_each(|number| drop(sign(&last, number)));
        assert_eq!(last.hits(), 4);
    }

    #[test]
    fn a_file_that_is_too_large_is_begun_again() {
        let (directory, signer) = (tempfile::tempdir().unwrap(), signer());
        let open = || Cached::limited(&signer as &dyn Signer, directory.path(), 2000).unwrap();
        let fill = |numbers: std::ops::Range<u8>| {
            let cached = open();
            numbers.for_each(|number| drop(sign(&cached, number)));
            cached.finish().unwrap();
        };
        fill(0..8);
        let old = open();
        fill(8..10);
        assert!(fs::metadata(file(directory.path())).unwrap().len() < 2000);
        sign(&old, 3);
        old.finish().unwrap();
        let new = open();
        sign(&new, 9);
        assert_eq!(new.hits(), 1);
    }
}
