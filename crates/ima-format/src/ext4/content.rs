//! Content: where it is, and how it is read.
//!
//! Mirrors `fs/ext4/extents.c`, `indirect.c` and `inline.c`. Blocks that are not mapped, or were
//! never written, read as zeros.

use alloc::vec::Vec;

use super::inode::BLOCKS;
use super::{u16_at, u32_at, Disk, Fault, Inode, Volume};

const EXTENT_MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH`
const EXTENT_DEPTH: u16 = 5;
/// An extent of more blocks than this was not written: it reads as zeros.
const EXTENT_WRITTEN: u16 = 32_768;

/// An inode's content, which can be read at any position.
#[derive(Debug)]
pub struct Content {
    size: u64,
    source: Source,
    /// How many zeros it has in holes, until they are read the first time.
    holes: u64,
    /// Where the size is in the image.
    at: u64,
}

#[derive(Debug)]
enum Source {
    /// In the inode.
    Inline(Vec<u8>),
    /// In blocks, in order, without overlap; blocks outside all runs are zeros.
    Blocks(Vec<Run>),
}

/// Blocks that follow each other, in the file and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) logical: u64,
    physical: u64,
    pub(super) count: u64,
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many of them are zeros in holes.
    pub(super) fn holes(&self) -> u64 {
        self.holes
    }
}

impl<D: Disk> Volume<D> {
    /// Begins to read the content of a file.
    pub fn content(&self, inode: &Inode) -> Result<Content, D::Error> {
        if inode.is_encrypted() {
            return Err(self.fail(inode.offset() + 0x20, Fault::Encrypted));
        }
        let (size, at) = (inode.size(), inode.offset() + 4);
        if inode.is_inline() {
            let mut content = self.inline_content(inode)?;
            let fits = usize::try_from(size).ok().filter(|size| *size <= content.len());
            content.truncate(fits.ok_or_else(|| self.fail(at, Fault::InlineSize(size)))?);
            return Ok(Content { size, source: Source::Inline(content), holes: 0, at });
        }
        let block_size = u64::from(self.block_size);
        let runs = self.runs(inode, size.div_ceil(block_size))?;
        let within = |run: &Run| {
            let start = run.logical.saturating_mul(block_size).min(size);
            (run.logical + run.count).saturating_mul(block_size).min(size) - start
        };
        let holes = size - runs.iter().map(within).sum::<u64>();
        Ok(Content { size, source: Source::Blocks(runs), holes, at })
    }

    /// Reads content from an offset on: at least one byte, except at the end.
    pub fn read_at(
        &self,
        content: &mut Content,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, D::Error> {
        let most = |room: u64| usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let length = most(content.size.saturating_sub(offset));
        let runs = match &content.source {
            Source::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let part = bytes.get(start..start + length).unwrap_or_default();
                buffer.get_mut(..part.len()).unwrap_or_default().copy_from_slice(part);
                return Ok(part.len());
            }
            Source::Blocks(runs) => runs,
        };
        let block_size = u64::from(self.block_size);
        let block = offset / block_size;
        let next = runs.partition_point(|run| run.logical + run.count <= block);
        let run = runs.get(next).copied();
        let (start, end) = match run {
            Some(run) if run.logical <= block => {
                let start = (run.physical + block - run.logical) * block_size + offset % block_size;
                (Some(start), (run.logical + run.count) * block_size)
            }
            Some(run) => (None, run.logical * block_size),
            None => (None, content.size),
        };
        let length = length.min(most(end.saturating_sub(offset)));
        let part = buffer.get_mut(..length).unwrap_or_default();
        match start {
            Some(start) => self.disk.read(start, part)?,
            None => {
                self.disk.zeros(core::mem::take(&mut content.holes), content.at)?;
                part.fill(0);
            }
        }
        Ok(length)
    }

    /// Content that is in the inode: in place of block numbers, and in an attribute. There may
    /// be more of it than the inode's size says: of a directory the kernel uses all of it.
    pub(super) fn inline_content(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        // without the attribute the kernel reads blocks
        let rest = self.inline_attribute(inode)?;
        let rest = rest.ok_or_else(|| {
            self.fail(inode.offset() + 0x20, Fault::Inode("inline data without its attribute"))
        })?;
        let mut content = inode.block_bytes().to_vec();
        content.extend(rest);
        Ok(content)
    }

    /// Where the content is that was written, up to this block.
    pub(super) fn runs(&self, inode: &Inode, end: u64) -> Result<Vec<Run>, D::Error> {
        let seed = self.inode_seed(inode);
        let mut map = Map { volume: self, runs: Vec::new(), blocks: 0, next: 0, seed };
        let at = inode.offset() + BLOCKS as u64;
        let numbers = inode.block_bytes();
        if inode.has_extents() {
            map.extents(numbers, at, None)?;
        } else {
            for index in 0..15_usize {
                let number = u32_at(numbers, index * 4).unwrap_or_default();
                let depth = u32::try_from(index.saturating_sub(11)).unwrap_or_default();
                map.indirect(number, at + index as u64 * 4, depth, end)?;
            }
        }
        let most = if inode.has_extents() { u64::from(u32::MAX) } else { map.next };
        match end > most && inode.size() > 0 && end != u64::MAX {
            true => Err(self.fail(inode.offset() + 4, Fault::Size(inode.size()))),
            false => Ok(map.runs),
        }
    }
}

/// Puts an inode's map together.
struct Map<'a, D> {
    volume: &'a Volume<D>,
    runs: Vec<Run>,
    /// How many blocks it has so far, with those that hold its map.
    blocks: u64,
    /// The first block of the file that is not mapped yet.
    next: u64,
    /// Of the inode's checksums.
    seed: u32,
}

impl<D: Disk> Map<'_, D> {
    /// Adds blocks; where they follow the last ones, to those.
    fn add(&mut self, run: Run, at: u64) -> Result<(), D::Error> {
        self.block_range(run.physical, run.count, at)?;
        self.count(run.count, at)?;
        match self.runs.last_mut() {
            Some(last)
                if last.logical + last.count == run.logical
                    && last.physical + last.count == run.physical =>
            {
                last.count += run.count;
            }
            _ => self.runs.push(run),
        }
        Ok(())
    }

    /// Checks that blocks are there.
    fn block_range(&self, physical: u64, count: u64, at: u64) -> Result<(), D::Error> {
        self.volume.block_offset(physical, at)?;
        self.volume.block_offset(physical.saturating_add(count - 1), at)?;
        Ok(())
    }

    /// Counts blocks: who claims more than there are claims some twice.
    fn count(&mut self, count: u64, at: u64) -> Result<(), D::Error> {
        self.blocks += count;
        match self.blocks > self.volume.blocks {
            true => Err(self.volume.fail(at, Fault::TooManyBlocks)),
            false => Ok(()),
        }
    }

    /// A node of an extent tree; below the root, its depth and the first block that it maps are
    /// known. Checks the same as `__ext4_ext_check`.
    fn extents(&mut self, node: &[u8], at: u64, above: Option<(u16, u64)>) -> Result<(), D::Error> {
        let half = |offset| u16_at(node, offset).unwrap_or_default();
        let word = |offset| u32_at(node, offset).unwrap_or_default();
        let (entries, most, level) = (usize::from(half(2)), usize::from(half(4)), half(6));
        // the checksum follows, except in the inode
        let fits = (1..=(node.len() - 12) / 12).contains(&most) && entries <= most;
        let expected = above.map_or(level <= EXTENT_DEPTH, |(depth, _)| depth == level);
        let is_empty = entries == 0 && level > 0;
        if half(0) != EXTENT_MAGIC || !fits || !expected || is_empty {
            return Err(self.volume.fail(at, Fault::ExtentHeader));
        }
        if above.is_some() {
            self.volume.check_extents(self.seed, node, at)?;
        }
        let first = above.map(|(_, first)| first).filter(|_| entries > 0);
        if first.is_some_and(|first| first != u64::from(word(12))) {
            return Err(self.volume.fail(at, Fault::ExtentOrder));
        }
        for offset in (1..=entries).map(|entry| entry * 12) {
            let at = at + offset as u64;
            let logical = u64::from(word(offset));
            if logical < self.next {
                return Err(self.volume.fail(at, Fault::ExtentOrder));
            }
            if let Some(below) = level.checked_sub(1) {
                let number = u64::from(half(offset + 8)) << 32 | u64::from(word(offset + 4));
                self.count(1, at)?;
                let (start, block) = self.volume.block(number, at)?;
                self.extents(&block, start, Some((below, logical)))?;
                continue;
            }
            let length = half(offset + 4);
            let count = u64::from(match length > EXTENT_WRITTEN {
                true => length - EXTENT_WRITTEN,
                false => length,
            });
            let physical = u64::from(half(offset + 6)) << 32 | u64::from(word(offset + 8));
            if count == 0 || logical + count > u64::from(u32::MAX) {
                return Err(self.volume.fail(at, Fault::ExtentOrder));
            }
            match length <= EXTENT_WRITTEN {
                true => self.add(Run { logical, physical, count }, at)?,
                false => self.block_range(physical, count, at)?,
            }
            self.next = logical + count;
        }
        Ok(())
    }

    /// A block number, or a block of them, `depth` levels above the data; zero is a hole.
    fn indirect(&mut self, number: u32, at: u64, depth: u32, end: u64) -> Result<(), D::Error> {
        let per_block = u64::from(self.volume.block_size / 4);
        let covered = per_block.checked_pow(depth).unwrap_or(u64::MAX);
        if self.next >= end {
            return Ok(());
        }
        if number == 0 {
            self.next = self.next.saturating_add(covered);
            return Ok(());
        }
        let Some(below) = depth.checked_sub(1) else {
            self.add(Run { logical: self.next, physical: u64::from(number), count: 1 }, at)?;
            self.next += 1;
            return Ok(());
        };
        self.count(1, at)?;
        let (start, block) = self.volume.block(u64::from(number), at)?;
        for (index, number) in block.chunks_exact(4).enumerate() {
            let number = u32_at(number, 0).unwrap_or_default();
            self.indirect(number, start + index as u64 * 4, below, end)?;
        }
        Ok(())
    }
}
