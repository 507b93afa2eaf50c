//! Inodes, and where their content lies.

use alloc::vec::Vec;

use super::{u16_at, u32_at, Disk, Fault, Volume};

const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;
const ENCRYPTED: u32 = 0x800;
const EA_INODE: u32 = 0x20_0000;

/// Where block numbers stand.
const BLOCKS: usize = 0x28;
const EXTENT_MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH`
const EXTENT_DEPTH: u16 = 5;
/// An extent of more blocks than this was not written: it reads as zeros.
const EXTENT_WRITTEN: u16 = 32_768;

/// Takes content, part by part.
pub type Take<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, a pipe, a socket.
    Other,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    number: u32,
    offset: u64,
    bytes: Vec<u8>,
}

/// Blocks that follow each other, in the file and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    logical: u64,
    physical: u64,
    count: u64,
}

impl Inode {
    pub(super) fn new(number: u32, offset: u64, bytes: Vec<u8>) -> Self {
        Self { number, offset, bytes }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where it lies in the image.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn half(&self, offset: usize) -> u16 {
        u16_at(&self.bytes, offset).unwrap_or_default()
    }

    pub(super) fn word(&self, offset: usize) -> u32 {
        u32_at(&self.bytes, offset).unwrap_or_default()
    }

    /// What it is; `None` where it is in no use.
    pub fn kind(&self) -> Option<FileKind> {
        if self.links() == 0 {
            return None;
        }
        match self.half(0) & 0xf000 {
            0x8000 => Some(FileKind::File),
            0x4000 => Some(FileKind::Directory),
            0xa000 | 0x6000 | 0x2000 | 0x1000 | 0xc000 => Some(FileKind::Other),
            _ => None,
        }
    }

    /// Its permissions, with the set-user-ID and set-group-ID bits.
    pub fn mode(&self) -> u32 {
        u32::from(self.half(0) & 0o7777)
    }

    /// Its owner (`i_uid`, `l_i_uid_high`).
    pub fn uid(&self) -> u32 {
        u32::from(self.half(0x78)) << 16 | u32::from(self.half(0x02))
    }

    /// Its group (`i_gid`, `l_i_gid_high`).
    pub fn gid(&self) -> u32 {
        u32::from(self.half(0x7a)) << 16 | u32::from(self.half(0x18))
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.half(0) & 0xf000 == 0xa000
    }

    /// How many names it has.
    pub fn links(&self) -> u16 {
        self.half(0x1a)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.word(0x6c)) << 32 | u64::from(self.word(0x04))
    }

    pub(super) fn attribute_block(&self) -> u64 {
        u64::from(self.half(0x76)) << 32 | u64::from(self.word(0x68))
    }

    pub(super) fn is_attribute(&self) -> bool {
        self.flags() & EA_INODE != 0
    }

    fn flags(&self) -> u32 {
        self.word(0x20)
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags() & INLINE_DATA != 0
    }

    /// The 60 bytes with block numbers, or content.
    pub(super) fn block_bytes(&self) -> &[u8] {
        self.bytes.get(BLOCKS..BLOCKS + 60).unwrap_or_default()
    }
}

/// The longest target of a link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

impl<D: Disk> Volume<D> {
    /// Where a symbolic link leads to: in the inode if it fits there
    /// (`ext4_inode_is_fast_symlink`), else its content.
    pub fn link_target(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        let size = inode.size();
        if !inode.is_inline() && size < inode.block_bytes().len() as u64 {
            let size = usize::try_from(size).unwrap_or_default();
            return Ok(inode.block_bytes().get(..size).unwrap_or_default().to_vec());
        }
        if size > TARGET_MAX {
            return Err(self.fail(inode.offset + 4, Fault::InlineSize(size)));
        }
        let mut target = Vec::new();
        self.content(inode, &mut |part| {
            target.extend_from_slice(part);
            Ok(())
        })?;
        Ok(target)
    }

    /// Gives the content of a file to `take`, in parts.
    pub fn content(&self, inode: &Inode, take: &mut Take<'_, D::Error>) -> Result<(), D::Error> {
        if inode.flags() & ENCRYPTED != 0 {
            return Err(self.fail(inode.offset + 0x20, Fault::Encrypted));
        }
        if inode.is_inline() {
            return take(&self.inline_content(inode)?);
        }
        let (size, block_size) = (inode.size(), u64::from(self.block_size));
        let runs = self.runs(inode)?;
        let mapped = runs.iter().map(|run| run.count).sum::<u64>().saturating_mul(block_size);
        self.disk.zeros(size.saturating_sub(mapped), inode.offset + 4)?;
        let mut buffer = alloc::vec![0; 1 << 16];
        let mut done = 0;
        for run in runs {
            let start = run.logical.saturating_mul(block_size).min(size);
            zeros(start - done, &mut buffer, take)?;
            let end = (run.logical + run.count).saturating_mul(block_size).min(size);
            let mut offset = run.physical * block_size;
            let mut left = end - start;
            while left > 0 {
                let now = left.min(buffer.len() as u64);
                let part = buffer.get_mut(..now as usize).unwrap_or_default();
                self.disk.read(offset, part)?;
                take(part)?;
                (left, offset) = (left - now, offset + now);
            }
            done = end;
        }
        zeros(size - done, &mut buffer, take)
    }

    /// Content that stands in the inode: in place of block numbers, and in an attribute.
    pub(super) fn inline_content(&self, inode: &Inode) -> Result<Vec<u8>, D::Error> {
        let mut content = inode.block_bytes().to_vec();
        if inode.size() > content.len() as u64 {
            content.extend(self.inline_attribute(inode)?);
        }
        let size = usize::try_from(inode.size()).ok().filter(|size| *size <= content.len());
        let size =
            size.ok_or_else(|| self.fail(inode.offset + 4, Fault::InlineSize(inode.size())))?;
        content.truncate(size);
        Ok(content)
    }

    /// Where the content lies that was written; the rest is zeros. In order, none twice.
    fn runs(&self, inode: &Inode) -> Result<Vec<Run>, D::Error> {
        let mut map = Map { volume: self, runs: Vec::new(), blocks: 0, next: 0 };
        let at = inode.offset + BLOCKS as u64;
        if inode.flags() & EXTENTS != 0 {
            map.extents(inode.block_bytes(), at, None)?;
            return Ok(map.runs);
        }
        let numbers = inode.block_bytes();
        let end = inode.size().div_ceil(u64::from(self.block_size));
        for index in 0..15_usize {
            let number = u32_at(numbers, index * 4).unwrap_or_default();
            let depth = u32::try_from(index.saturating_sub(11)).unwrap_or_default();
            map.indirect(number, at + index as u64 * 4, depth, end)?;
        }
        Ok(map.runs)
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
}

impl<D: Disk> Map<'_, D> {
    /// Adds blocks; where they follow the last ones, to those.
    fn add(&mut self, run: Run, at: u64) -> Result<(), D::Error> {
        let last = run.physical.checked_add(run.count).and_then(|end| end.checked_sub(1));
        self.volume.block_offset(last.unwrap_or(u64::MAX), at)?;
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

    /// Counts blocks: who claims more than there are claims some twice.
    fn count(&mut self, count: u64, at: u64) -> Result<(), D::Error> {
        self.blocks += count;
        match self.blocks > self.volume.blocks {
            true => Err(self.volume.fail(at, Fault::TooManyBlocks)),
            false => Ok(()),
        }
    }

    /// A node of an extent tree; below the root its depth is known.
    fn extents(&mut self, node: &[u8], at: u64, depth: Option<u16>) -> Result<(), D::Error> {
        let half = |offset| u16_at(node, offset).unwrap_or_default();
        let word = |offset| u32_at(node, offset).unwrap_or_default();
        let (entries, level) = (usize::from(half(2)), half(6));
        let fits = (entries + 1) * 12 <= node.len();
        let expected = depth.map_or(level <= EXTENT_DEPTH, |depth| depth == level);
        if half(0) != EXTENT_MAGIC || !fits || !expected {
            return Err(self.volume.fail(at, Fault::ExtentHeader));
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
                self.extents(&block, start, Some(below))?;
                continue;
            }
            let length = half(offset + 4);
            let count = u64::from(match length > EXTENT_WRITTEN {
                true => length - EXTENT_WRITTEN,
                false => length,
            });
            let physical = u64::from(half(offset + 6)) << 32 | u64::from(word(offset + 8));
            if count == 0 {
                return Err(self.volume.fail(at, Fault::ExtentOrder));
            }
            if length <= EXTENT_WRITTEN {
                self.add(Run { logical, physical, count }, at)?;
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

fn zeros<E>(mut count: u64, buffer: &mut [u8], take: &mut Take<'_, E>) -> Result<(), E> {
    if count > 0 {
        buffer.fill(0);
    }
    while count > 0 {
        let now = count.min(buffer.len() as u64);
        take(buffer.get(..now as usize).unwrap_or_default())?;
        count -= now;
    }
    Ok(())
}
