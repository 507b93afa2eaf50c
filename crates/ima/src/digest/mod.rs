//! Digests of bytes and of open files: of their content, and of fs-verity.

mod large;
mod verity;

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::md_ctx::MdCtx;
use streebog::digest::Digest as _;
use streebog::{Streebog256, Streebog512};

use verity::Tree;

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::verity::Parameters;

use crate::advice::Advice;

/// Why a digest could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// No implementation of the algorithm is at hand.
    #[error("no implementation of {0}")]
    Unavailable(HashAlgorithm),
    /// OpenSSL failed.
    #[error("OpenSSL: {0}")]
    OpenSsl(#[from] ErrorStack),
    /// Reading failed.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
}

impl Advice for DigestError {}

/// What a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestKind {
    /// The content.
    Content(HashAlgorithm),
    /// The root of a Merkle tree over the content: what the kernel checks pages against.
    Verity(Parameters),
}

impl DigestKind {
    /// The hash algorithm.
    pub fn algorithm(self) -> HashAlgorithm {
        match self {
            Self::Content(algorithm) => algorithm,
            Self::Verity(parameters) => parameters.algorithm(),
        }
    }
}

impl From<HashAlgorithm> for DigestKind {
    fn from(algorithm: HashAlgorithm) -> Self {
        Self::Content(algorithm)
    }
}

/// Computes digests of one kind, one after the other, with one context.
pub struct Hasher {
    kind: DigestKind,
    state: State,
}

enum State {
    OpenSsl { md: Md, context: MdCtx },
    Streebog256(Box<Streebog256>),
    Streebog512(Box<Streebog512>),
    Verity(Box<Tree>),
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hasher({:?})", self.kind)
    }
}

/// OpenSSL's name of the algorithm, for those that it has.
fn openssl_name(algorithm: HashAlgorithm) -> Option<&'static str> {
    Some(match algorithm {
        HashAlgorithm::Md4 => "MD4",
        HashAlgorithm::Md5 => "MD5",
        HashAlgorithm::Sha1 => "SHA1",
        HashAlgorithm::Rmd160 => "RIPEMD160",
        HashAlgorithm::Sha224 => "SHA2-224",
        HashAlgorithm::Sha256 => "SHA2-256",
        HashAlgorithm::Sha384 => "SHA2-384",
        HashAlgorithm::Sha512 => "SHA2-512",
        HashAlgorithm::Wp512 => "WHIRLPOOL",
        HashAlgorithm::Sm3 => "SM3",
        HashAlgorithm::Sha3_256 => "SHA3-256",
        HashAlgorithm::Sha3_384 => "SHA3-384",
        HashAlgorithm::Sha3_512 => "SHA3-512",
        _ => return None,
    })
}

/// OpenSSL's digest for the algorithm.
pub(crate) fn openssl_digest(algorithm: HashAlgorithm) -> Result<Md, DigestError> {
    let name = openssl_name(algorithm).ok_or(DigestError::Unavailable(algorithm))?;
    Md::fetch(None, name, None).map_err(|_| DigestError::Unavailable(algorithm))
}

impl Hasher {
    /// A hasher, ready for a first message.
    ///
    /// # Errors
    /// [`DigestError::Unavailable`] where neither OpenSSL nor this library has the
    /// algorithm (MD4 and Whirlpool need OpenSSL's legacy provider).
    pub fn new(kind: impl Into<DigestKind>) -> Result<Self, DigestError> {
        let kind = kind.into();
        let state = match kind {
            DigestKind::Verity(parameters) => State::Verity(Box::new(Tree::new(parameters)?)),
            DigestKind::Content(HashAlgorithm::Streebog256) => State::Streebog256(Box::default()),
            DigestKind::Content(HashAlgorithm::Streebog512) => State::Streebog512(Box::default()),
            DigestKind::Content(algorithm) => {
                let md = openssl_digest(algorithm)?;
                let mut context = MdCtx::new()?;
                context.digest_init(&md)?;
                State::OpenSsl { md, context }
            }
        };
        Ok(Self { kind, state })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.kind.algorithm()
    }

    /// Adds bytes to the message.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), DigestError> {
        match &mut self.state {
            State::OpenSsl { context, .. } => context.digest_update(bytes)?,
            State::Streebog256(hasher) => hasher.update(bytes),
            State::Streebog512(hasher) => hasher.update(bytes),
            State::Verity(tree) => tree.update(bytes)?,
        }
        Ok(())
    }

    /// Ends the message and is ready for the next.
    pub fn finish(&mut self) -> Result<Digest, DigestError> {
        let algorithm = self.algorithm();
        let mut bytes = [0; MAX_DIGEST_SIZE];
        let bytes = &mut bytes[..algorithm.digest_size()];
        match &mut self.state {
            State::OpenSsl { md, context } => {
                context.digest_final(bytes)?;
                context.digest_init(md)?;
            }
            State::Streebog256(hasher) => bytes.copy_from_slice(&hasher.finalize_reset()),
            State::Streebog512(hasher) => bytes.copy_from_slice(&hasher.finalize_reset()),
            State::Verity(tree) => return tree.finish(),
        }
        Digest::new(algorithm, bytes).ok_or(DigestError::Unavailable(algorithm))
    }

    /// The digest of one message; what was added before and not finished is part of it.
    pub fn digest(&mut self, message: &[u8]) -> Result<Digest, DigestError> {
        self.update(message)?;
        self.finish()
    }

    /// Starts over, forgetting what was added.
    pub fn reset(&mut self) -> Result<(), DigestError> {
        self.finish().map(drop)
    }
}

/// Digests files through one buffer: large enough that few reads are made, small enough to stay in
/// the cache together with the hash.
#[derive(Debug)]
pub struct FileHasher {
    buffer: Vec<u8>,
    hashers: Vec<Hasher>,
}

/// A chunk: one read for most files. 256 KiB fits the second-level cache of small machines.
const CHUNK: usize = 256 << 10;
/// From this size on it pays to find out whether a second thread should read ahead.
const LARGE: u64 = 32 << 20;
/// From this size on all processors hash the blocks of a Merkle tree.
const LARGE_TREE: u64 = 4 << 20;

impl Default for FileHasher {
    fn default() -> Self {
        Self { buffer: vec![0; CHUNK], hashers: Vec::new() }
    }
}

impl FileHasher {
    /// The hasher for a kind of digest, made at its first use.
    pub fn hasher(&mut self, kind: impl Into<DigestKind>) -> Result<&mut Hasher, DigestError> {
        let index = self.index_of(kind.into())?;
        Ok(&mut self.hashers[index])
    }

    fn index_of(&mut self, kind: DigestKind) -> Result<usize, DigestError> {
        match self.hashers.iter().position(|hasher| hasher.kind == kind) {
            Some(index) => Ok(index),
            None => {
                self.hashers.push(Hasher::new(kind)?);
                Ok(self.hashers.len() - 1)
            }
        }
    }

    /// The digest of an open file from its start (the offset is left alone), and the number
    /// of bytes read. `size` is what the file is believed to hold; at most that much is
    /// read, and the caller compares. `progress` is told of each chunk's bytes.
    pub fn digest(
        &mut self,
        file: impl AsFd,
        size: u64,
        kind: impl Into<DigestKind>,
        progress: &dyn Fn(u64),
    ) -> Result<(Digest, u64), DigestError> {
        let index = self.index_of(kind.into())?;
        let hasher = &mut self.hashers[index];
        let result = match &mut hasher.state {
            State::Verity(tree) if size >= LARGE_TREE => {
                tree.update_from(file.as_fd(), size, progress)
            }
            _ if size >= LARGE => {
                large::update(file.as_fd(), size, hasher, &mut self.buffer, progress)
            }
            _ => update(file.as_fd(), 0..size, hasher, &mut self.buffer, progress),
        };
        match result {
            Ok(read) => Ok((hasher.finish()?, read)),
            Err(error) => {
                hasher.reset()?;
                Err(error)
            }
        }
    }

    /// The digest of what `read_at` gives from offset 0 on until it gives nothing, and the
    /// number of bytes. `progress` is called with the size of each chunk.
    pub(crate) fn digest_with<E: From<DigestError>>(
        &mut self,
        mut read_at: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
        kind: impl Into<DigestKind>,
        progress: &dyn Fn(u64),
    ) -> Result<(Digest, u64), E> {
        let index = self.index_of(kind.into())?;
        let hasher = &mut self.hashers[index];
        hasher.reset()?;
        let mut offset = 0;
        loop {
            match read_at(offset, &mut self.buffer)? {
                0 => return Ok((hasher.finish()?, offset)),
                read => {
                    hasher.update(&self.buffer[..read])?;
                    offset += read as u64;
                    progress(read as u64);
                }
            }
        }
    }

    /// Reads the first bytes of an open file, as many as `head` takes or the file has.
    pub(crate) fn head(file: impl AsFd, head: &mut [u8]) -> io::Result<&[u8]> {
        let read = read_at(file, head, 0)?;
        Ok(&head[..read])
    }
}

/// Adds a part of a file, up to where it ends, and gives the number of bytes read.
fn update(
    file: impl AsFd,
    part: Range<u64>,
    hasher: &mut Hasher,
    buffer: &mut [u8],
    progress: &dyn Fn(u64),
) -> Result<u64, DigestError> {
    let mut offset = part.start;
    while offset < part.end {
        let wanted = buffer.len().min(usize::try_from(part.end - offset).unwrap_or(usize::MAX));
        let read = read_at(&file, &mut buffer[..wanted], offset)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read])?;
        offset += read as u64;
        progress(read as u64);
    }
    Ok(offset - part.start)
}

fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *buffer, offset))?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Digests of "abc": RFC 1321, FIPS 180-4, FIPS 202, GB/T 32905, the paper of RIPEMD-160,
    /// and for Streebog what `gost12sum` prints.
    const ABC: &[(&str, &str)] = &[
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("rmd160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        ("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("sm3", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        ("sha3-256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ("streebog256", "4e2919cf137ed41ec4fb6270c61826cc4fffb660341e0af3688cd0626d23b481"),
    ];

    #[test]
    fn digests_are_the_standards() {
        for (name, expected) in ABC {
            let algorithm: HashAlgorithm = name.parse().unwrap();
            let mut hasher = Hasher::new(algorithm).unwrap();
            for _ in 0..2 {
                let digest = hasher.digest(b"abc").unwrap();
                assert_eq!(digest.to_string(), format!("{name}:{expected}"));
            }
        }
    }

    #[test]
    fn every_size_of_file_is_read_whole() {
        for size in [0, 1, CHUNK - 1, CHUNK + 1, LARGE as usize + 12_345] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            let expected = Hasher::new(HashAlgorithm::Sha256).unwrap().digest(&content).unwrap();
            let (digest, read) = FileHasher::default()
                .digest(&file, size as u64, HashAlgorithm::Sha256, &|_| ())
                .unwrap();
            assert_eq!((digest, read), (expected, size as u64));
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_believed_is_told_by_the_count() {
        for believed in [100, LARGE * 2] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"abc").unwrap();
            let (_, read) = FileHasher::default()
                .digest(&file, believed, HashAlgorithm::Sha256, &|_| ())
                .unwrap();
            assert_eq!(read, 3);
        }
    }
}
