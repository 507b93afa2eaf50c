//! The superblock of a dm-verity hash tree, as veritysetup writes it.
//!
//! | at | bytes | contents |
//! |---|---|---|
//! | 0 | 8 | `verity`, NUL, NUL |
//! | 8, 12 | 4, 4 | version 1; type of hash: 1, or 0 for Chrome OS |
//! | 32 | 32 | name of the hash algorithm, as in `sha256` |
//! | 64, 68, 72 | 4, 4, 8 | size of a data block, size of a hash block, number of data blocks |
//! | 80, 88 | 2, 256 | size of the salt, salt |
//!
//! Levels of hashes follow from the next hash block on, the root first. A hash is of salt and block
//! (type 1). Mirrors `drivers/md/dm-verity-target.c`.

use alloc::vec::Vec;

use crate::ext4::{u16_at, u32_at};
use crate::hash::HashAlgorithm;

/// A hash tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// `None` if it is not known here.
    pub algorithm: Option<HashAlgorithm>,
    /// In bytes.
    pub data_block_size: u32,
    /// How many bytes it covers.
    pub data_size: u64,
    /// Comes before each block (type 1).
    pub salt: Vec<u8>,
    /// Where the hash of the first data block is, counted from the superblock.
    pub first_hash: u64,
}

impl Tree {
    /// Reads a superblock; `None` if there is none.
    pub fn parse(superblock: &[u8]) -> Option<Self> {
        if !superblock.starts_with(b"verity\0\0") {
            return None;
        }
        let name = superblock.get(32..64)?.split(|byte| *byte == 0).next()?;
        let algorithm = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        let algorithm = algorithm.filter(|_| u32_at(superblock, 12) == Some(1));
        let (data_block, hash_block) = (u32_at(superblock, 64)?, u32_at(superblock, 68)?);
        let blocks = u64::from_le_bytes(superblock.get(72..80)?.try_into().ok()?);
        let salt = superblock.get(88..88 + usize::from(u16_at(superblock, 80)?.min(256)))?.to_vec();
        Some(Self {
            algorithm,
            data_block_size: data_block,
            data_size: blocks.checked_mul(u64::from(data_block))?,
            salt,
            first_hash: first_hash(algorithm, hash_block, blocks)?,
        })
    }
}

/// Where the lowest level of hashes begins.
fn first_hash(algorithm: Option<HashAlgorithm>, block_size: u32, blocks: u64) -> Option<u64> {
    let size = algorithm.map_or(32, HashAlgorithm::digest_size).next_power_of_two() as u64;
    let per_block = u64::from(block_size).checked_div(size).filter(|count| *count > 1)?;
    let (mut above, mut level) = (1_u64, blocks.div_ceil(per_block));
    while level > 1 {
        level = level.div_ceil(per_block);
        above = above.checked_add(level)?;
    }
    above.checked_mul(u64::from(block_size))
}
