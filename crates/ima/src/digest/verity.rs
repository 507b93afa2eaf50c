//! fs-verity digests: a Merkle tree in constant memory, of which each level keeps one block.
//!
//! Mirrors `build_merkle_tree` in `fs/verity/enable.c`; the layout is in [`ima_format::verity`].

use std::os::fd::{AsFd, BorrowedFd};
use std::{io, thread};

use ima_format::hash::{Digest, HashAlgorithm, MAX_DIGEST_SIZE};
use ima_format::verity::{Parameters, BLOCK_SIZE};
use openssl::md::Md;
use openssl::md_ctx::MdCtx;

use super::{openssl_digest, read_at, DigestError};

/// How much a thread hashes before the next round: whole blocks.
const SHARE: u64 = 4 << 20;
/// How much it reads at once.
const CHUNK: usize = 1 << 18;

/// The tree of one file after the other.
pub(super) struct Tree {
    parameters: Parameters,
    hasher: BlockHasher,
    /// The data that does not fill a block yet.
    block: Vec<u8>,
    /// Of each level the hashes that do not fill a block yet; the last one has at least one.
    levels: Vec<Vec<u8>>,
    size: u64,
}

/// Hashes blocks with a salt.
struct BlockHasher {
    algorithm: HashAlgorithm,
    md: Md,
    context: MdCtx,
    salt: Vec<u8>,
}

impl BlockHasher {
    fn new(parameters: Parameters) -> Result<Self, DigestError> {
        let algorithm = parameters.algorithm();
        let md = openssl_digest(algorithm)?;
        Ok(Self { algorithm, md, context: MdCtx::new()?, salt: parameters.padded_salt() })
    }

    /// The hash of a block, of which the rest is zeros.
    fn block(&mut self, block: &[u8]) -> Result<Digest, DigestError> {
        const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
        self.context.digest_init(&self.md)?;
        self.context.digest_update(&self.salt)?;
        self.context.digest_update(block)?;
        self.context.digest_update(&ZEROS[block.len()..])?;
        self.finish()
    }

    fn descriptor(&mut self, descriptor: &[u8]) -> Result<Digest, DigestError> {
        self.context.digest_init(&self.md)?;
        self.context.digest_update(descriptor)?;
        self.finish()
    }

    fn finish(&mut self) -> Result<Digest, DigestError> {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        let bytes = &mut bytes[..self.algorithm.digest_size()];
        self.context.digest_final(bytes)?;
        Digest::new(self.algorithm, bytes).ok_or(DigestError::Unavailable(self.algorithm))
    }
}

impl Tree {
    pub(super) fn new(parameters: Parameters) -> Result<Self, DigestError> {
        let hasher = BlockHasher::new(parameters)?;
        Ok(Self { parameters, hasher, block: Vec::new(), levels: Vec::new(), size: 0 })
    }

    /// Adds the next bytes of the file.
    pub(super) fn update(&mut self, mut data: &[u8]) -> Result<(), DigestError> {
        self.size += data.len() as u64;
        while !data.is_empty() {
            // most data comes in whole blocks, which need not be copied
            if self.block.is_empty() && data.len() >= BLOCK_SIZE {
                let (block, rest) = data.split_at(BLOCK_SIZE);
                let hash = self.hasher.block(block)?;
                self.push(0, &hash)?;
                data = rest;
                continue;
            }
            let (now, rest) = data.split_at(data.len().min(BLOCK_SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            data = rest;
            if self.block.len() == BLOCK_SIZE {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), DigestError> {
        let hash = self.hasher.block(&self.block)?;
        self.block.clear();
        self.push(0, &hash)
    }

    /// Adds a hash to a level, and that of each block which becomes full to the next one.
    fn push(&mut self, level: usize, hash: &Digest) -> Result<(), DigestError> {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        let block = &mut self.levels[level];
        block.extend_from_slice(hash.as_bytes());
        match block.len() == BLOCK_SIZE {
            true => self.end_level(level),
            false => Ok(()),
        }
    }

    fn end_level(&mut self, level: usize) -> Result<(), DigestError> {
        let hash = self.hasher.block(&self.levels[level])?;
        self.levels[level].clear();
        self.push(level + 1, &hash)
    }

    /// The digest of what was added; the tree is ready for the next file.
    pub(super) fn finish(&mut self) -> Result<Digest, DigestError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let one = self.parameters.algorithm().digest_size();
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels.last().is_some_and(|it| it.len() > one) {
            if !self.levels[level].is_empty() {
                self.end_level(level)?;
            }
            level += 1;
        }
        let root = self.levels.pop();
        let root = root.and_then(|root| Digest::new(self.parameters.algorithm(), &root));
        let descriptor = self.parameters.descriptor(self.size, root.as_ref());
        self.levels.clear();
        self.size = 0;
        self.hasher.descriptor(&descriptor)
    }

    /// Adds a large open file, hashed by all processors, and gives the number of bytes read.
    pub(super) fn update_from(
        &mut self,
        file: impl AsFd,
        size: u64,
        progress: &dyn Fn(u64),
    ) -> Result<u64, DigestError> {
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
        let (file, parameters) = (file.as_fd(), self.parameters);
        let mut offset = 0;
        while offset < size {
            let shares = (0..threads as u64).map(|number| offset + number * SHARE);
            let shares: Vec<u64> = shares.take_while(|start| *start < size).collect();
            let hashed: Vec<Result<(Vec<Digest>, u64), DigestError>> = thread::scope(|scope| {
                let threads: Vec<_> = shares
                    .iter()
                    .map(|start| {
                        let end = size.min(start + SHARE);
                        scope.spawn(move || hash_blocks(file, *start, end, parameters))
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
            });
            for (start, hashed) in shares.iter().zip(hashed) {
                let (hashes, read) = hashed?;
                hashes.iter().try_for_each(|hash| self.push(0, hash))?;
                offset += read;
                self.size += read;
                progress(read);
                // shorter than it was believed to be: the caller compares
                if read < size.min(start + SHARE) - start {
                    return Ok(offset);
                }
            }
        }
        Ok(offset)
    }
}

/// The hashes of the blocks of a part of a file, and how much there was to read.
fn hash_blocks(
    file: BorrowedFd<'_>,
    start: u64,
    end: u64,
    parameters: Parameters,
) -> Result<(Vec<Digest>, u64), DigestError> {
    let mut hasher = BlockHasher::new(parameters)?;
    let (mut hashes, mut buffer, mut offset) = (Vec::new(), vec![0; CHUNK], start);
    while offset < end {
        let wanted = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < wanted {
            match read_at(file, &mut buffer[filled..wanted], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        let blocks = buffer[..filled].chunks(BLOCK_SIZE);
        blocks.map(|block| hasher.block(block)).try_for_each(|hash| {
            hashes.push(hash?);
            Ok::<_, DigestError>(())
        })?;
        offset += filled as u64;
        if filled < wanted {
            break;
        }
    }
    Ok((hashes, offset - start))
}

/// A thread that panicked.
fn lost<T>(_: Box<dyn std::any::Any + Send>) -> Result<T, DigestError> {
    Err(io::Error::other("a hashing thread was lost").into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ima_format::verity::Salt;

    use super::*;

    fn of(algorithm: HashAlgorithm, salt: &[u8], content: &[u8]) -> String {
        let parameters = Parameters::new(algorithm, Salt::new(salt).unwrap()).unwrap();
        let mut tree = Tree::new(parameters).unwrap();
        // twice, in pieces: the first file must leave nothing behind
        for piece in [BLOCK_SIZE, 1000] {
            content.chunks(piece).for_each(|piece| tree.update(piece).unwrap());
            let digest = tree.finish().unwrap();
            if piece == 1000 {
                return digest.to_string();
            }
        }
        unreachable!()
    }

    #[test]
    fn an_empty_file_has_the_digest_that_fsverity_prints() {
        assert_eq!(
            of(HashAlgorithm::Sha256, b"", b""),
            "sha256:3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
        );
    }

    #[test]
    fn threads_make_the_same_tree() {
        for size in [SHARE as usize - 1, SHARE as usize + 1, 3 * SHARE as usize + 12_345] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            for (algorithm, salt) in
                [(HashAlgorithm::Sha256, &b""[..]), (HashAlgorithm::Sha512, b"salt")]
            {
                let parameters = Parameters::new(algorithm, Salt::new(salt).unwrap()).unwrap();
                let mut tree = Tree::new(parameters).unwrap();
                let read = tree.update_from(&file, size as u64, &|_| ()).unwrap();
                assert_eq!(read, size as u64);
                assert_eq!(tree.finish().unwrap().to_string(), of(algorithm, salt, &content));
            }
        }
    }
}
