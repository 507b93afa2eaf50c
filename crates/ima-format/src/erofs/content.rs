//! Content, part by part, at any position.
//!
//! Chunks have a block number of 4 bytes each, or, by bit 5 of their form, an index of 8 bytes:
//! at 2 the device, at 4 the block. All ones are a hole. Bits 0 to 4 of the form are log2 of
//! a chunk's blocks.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cluster::{Clusters, Extent};
use super::inode::Layout;
use super::SUPERBLOCK;
use super::{lz4, u16_at, u32_at, Algorithm, Disk, Fault, Inode, Unpack, Volume};

/// How many bytes of uncompressed data are read at once.
const PART: u64 = 256 << 10;
/// `EROFS_NULL_ADDR`
const NULL: u32 = u32::MAX;
/// `EROFS_CHUNK_FORMAT_INDEXES`
const CHUNK_INDEXES: u16 = 0x20;

/// Content that is being read.
#[derive(Debug)]
pub struct Content {
    size: u64,
    /// The offset of the inode, for errors.
    at: u64,
    source: Source,
    /// How many zeros it has in holes, until they are read the first time.
    holes: u64,
    /// The data that was read last, and its position.
    part: Vec<u8>,
    start: u64,
}

#[derive(Debug)]
enum Source {
    /// In one piece at `offset`, except for the bytes from `tail_from` on.
    Flat { offset: u64, tail_from: u64, tail: u64 },
    /// All of it is a hole.
    Hole,
    /// In chunks of 2^`bits` bytes, with `unit` bytes for each from `index` on.
    Chunks { bits: u32, unit: u64, index: u64 },
    /// Compressed.
    Clusters(Box<Clusters>),
    /// A piece of the packed inode.
    Fragment { offset: u64 },
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Whether content may have pieces in the packed inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pieces {
    Allowed,
    /// In the packed inode itself.
    Refused,
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// Begins to read an inode's content. What its parts are is checked here, as far as that
    /// takes no unpacking.
    pub fn content(&self, inode: &Inode) -> Result<Content, D::Error> {
        self.content_with(inode, Pieces::Allowed)
    }

    /// The same for the packed inode.
    pub(super) fn packed_content(&self, inode: &Inode) -> Result<Content, D::Error> {
        self.content_with(inode, Pieces::Refused)
    }

    fn content_with(&self, inode: &Inode, pieces: Pieces) -> Result<Content, D::Error> {
        let (size, at) = (inode.size(), inode.offset());
        let mut holes = 0;
        let source = match inode.layout {
            _ if size == 0 => Source::Hole,
            Layout::Plain | Layout::Inline => self.flat(inode, &mut holes)?,
            Layout::Chunks => self.chunks(inode, &mut holes)?,
            Layout::Full | Layout::Compact => {
                let clusters = self.clusters(inode)?;
                if clusters.fragment.is_some() && pieces == Pieces::Refused {
                    return Err(self.fail(clusters.header, Fault::Fragment));
                }
                match clusters.fragment {
                    Some((0, offset)) => Source::Fragment { offset },
                    _ => Source::Clusters(Box::new(clusters)),
                }
            }
        };
        Ok(Content { size, at, source, holes, part: Vec::new(), start: 0 })
    }

    fn flat(&self, inode: &Inode, holes: &mut u64) -> Result<Source, D::Error> {
        let size = inode.size();
        let offset = u64::from(inode.place) << self.block_bits;
        let tail_from = match inode.layout {
            Layout::Inline => (size - 1) / self.block_size() * self.block_size(),
            _ => size,
        };
        let (tail, tail_size) = (inode.end(), size - tail_from);
        if tail_size > 0 {
            if tail % self.block_size() + tail_size > self.block_size() {
                return Err(self.fail(inode.size_at(), Fault::Tail(tail_size)));
            }
            self.contains(tail, tail_size, inode.size_at())?;
        }
        if tail_from > 0 && inode.place == NULL {
            *holes = tail_from;
            return match tail_size {
                0 => Ok(Source::Hole),
                _ => Err(self.fail(inode.place_at(), Fault::PastEnd { offset, length: tail_from })),
            };
        }
        if tail_from > 0 {
            self.contains(offset, tail_from, inode.place_at())?;
        }
        Ok(Source::Flat { offset, tail_from, tail })
    }

    fn chunks(&self, inode: &Inode, holes: &mut u64) -> Result<Source, D::Error> {
        let format = inode.place as u16; // the upper half is reserved
        if format & !0x3f != 0 {
            return Err(self.fail(inode.place_at(), Fault::ChunkFormat(format)));
        }
        let bits = u32::from(self.block_bits) + u32::from(format & 0x1f);
        let unit = if format & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let index = inode.end().next_multiple_of(unit);
        let count = inode.size().div_ceil(1 << bits);
        let length = count.saturating_mul(unit);
        self.contains(index, length, inode.size_at())?;
        // each chunk is in the image
        let mut window = Vec::new();
        for chunk in 0..count {
            let within = chunk * unit % PART;
            if within == 0 {
                let rest = (length - chunk * unit).min(PART);
                window = self.bytes(index + chunk * unit, rest, inode.size_at())?;
            }
            let entry = window.get(usize::try_from(within).unwrap_or_default()..);
            let from = chunk << bits;
            let size = (inode.size() - from).min(1 << bits);
            match self.chunk(entry.unwrap_or_default(), unit, index + chunk * unit)? {
                Some(offset) => self.contains(offset, size, index + chunk * unit)?,
                None => *holes += size, // at most the file's size
            }
        }
        Ok(Source::Chunks { bits, unit, index })
    }

    /// Where a chunk lies, unless it is a hole; `at` is where its entry stands.
    fn chunk(&self, entry: &[u8], unit: u64, at: u64) -> Result<Option<u64>, D::Error> {
        let block = u32_at(entry, if unit == 8 { 4 } else { 0 });
        if block == NULL {
            return Ok(None);
        }
        let device = if unit == 8 { u16_at(entry, 2) } else { 0 };
        match device {
            0 => Ok(Some(u64::from(block) << self.block_bits)),
            device => Err(self.fail(at + 2, Fault::ChunkDevice(device))),
        }
    }

    /// What of the content comes from a position on: a part of it that is not empty, except at
    /// the end.
    pub fn part<'a>(&self, content: &'a mut Content, position: u64) -> Result<&'a [u8], D::Error> {
        if position >= content.size {
            return Ok(&[]);
        }
        let held = content.part.len() as u64;
        if position < content.start || position - content.start >= held {
            // nothing half done stays, should this fail
            let mut part = core::mem::take(&mut content.part);
            content.start = self.fill(content, position, &mut part)?;
            content.part = part;
        }
        let skip = usize::try_from(position - content.start).unwrap_or(usize::MAX);
        Ok(content.part.get(skip..).unwrap_or_default())
    }

    /// Reads the part that has a position, and returns where it begins.
    fn fill(
        &self,
        content: &mut Content,
        position: u64,
        part: &mut Vec<u8>,
    ) -> Result<u64, D::Error> {
        let (at, rest) = (content.at, content.size - position);
        let holes = &mut content.holes;
        let mut zeros = |part: &mut Vec<u8>, rest: u64| {
            self.disk.zeros(core::mem::take(holes), at)?;
            part.clear();
            part.resize(usize::try_from(rest.min(PART)).unwrap_or_default(), 0);
            Ok(())
        };
        match &mut content.source {
            Source::Hole => zeros(part, rest)?,
            Source::Flat { offset, tail_from, tail } => {
                let (from, rest) = match position.checked_sub(*tail_from) {
                    Some(within) => (*tail + within, rest),
                    None => (*offset + position, *tail_from - position),
                };
                *part = self.bytes(from, rest.min(PART), at)?;
            }
            Source::Chunks { bits, unit, index } => {
                let within = position % (1 << *bits);
                let rest = rest.min((1 << *bits) - within);
                let place = *index + (position >> *bits) * *unit;
                let entry = self.bytes(place, *unit, at)?;
                match self.chunk(&entry, *unit, place)? {
                    Some(offset) => *part = self.bytes(offset + within, rest.min(PART), place)?,
                    None => zeros(part, rest)?,
                }
            }
            Source::Fragment { offset } => {
                let from = offset.saturating_add(position);
                self.fragment(from, rest, at, part)?;
            }
            Source::Clusters(clusters) => match self.extent(clusters, position)? {
                Extent::Fragment { offset, start } => {
                    let from = offset.saturating_add(position - start);
                    self.fragment(from, rest, at, part)?;
                }
                Extent::Stored { start, length, from, stored, turn } => {
                    let mut bytes = self.bytes(from, stored, clusters.header)?;
                    let turn = turn.min(bytes.len());
                    bytes.rotate_left(turn);
                    bytes.truncate(usize::try_from(length).unwrap_or_default());
                    *part = bytes;
                    return Ok(start);
                }
                Extent::Packed { start, length, from, packed, algorithm, at } => {
                    let packed = self.bytes(from, packed, at)?;
                    part.clear();
                    part.resize(usize::try_from(length).unwrap_or_default(), 0);
                    self.unpack(algorithm, &packed, from, part, at)?;
                    return Ok(start);
                }
            },
        }
        Ok(position)
    }

    /// Unpacks a physical cluster that was read at `from`.
    fn unpack(
        &self,
        algorithm: Algorithm,
        packed: &[u8],
        from: u64,
        unpacked: &mut [u8],
        at: u64,
    ) -> Result<(), D::Error> {
        let mut packed = packed;
        if algorithm != Algorithm::Lz4 || self.incompat & super::INCOMPAT_ZERO_PADDING != 0 {
            // zeros stand in front, in the first block (`z_erofs_fixup_insize`)
            let block = self.block_size() - from % self.block_size();
            let block = usize::try_from(block).unwrap_or(usize::MAX).min(packed.len());
            let zeros = packed.iter().take(block).take_while(|byte| **byte == 0).count();
            packed = packed.get(zeros..).unwrap_or_default();
        }
        let unpacked = match algorithm {
            Algorithm::Lz4 => lz4::unpack(packed, unpacked),
            other => self.unpack.unpack(other, packed, unpacked),
        };
        match unpacked {
            true => Ok(()),
            false => Err(self.fail(at, Fault::Packed(algorithm))),
        }
    }

    /// Reads the packed inode from an offset on, at most `rest` bytes.
    fn fragment(
        &self,
        offset: u64,
        rest: u64,
        at: u64,
        part: &mut Vec<u8>,
    ) -> Result<(), D::Error> {
        let number = self.packed_inode.ok_or_else(|| self.fail(at, Fault::Fragment))?;
        let mut packed = match self.packed.take() {
            Some(packed) => packed,
            None => {
                let inode = self.inode(number, SUPERBLOCK + 0x60)?;
                Box::new(self.packed_content(&inode)?)
            }
        };
        let piece = self.part(&mut packed, offset)?;
        if piece.is_empty() {
            return Err(self.fail(at, Fault::PastEnd { offset, length: rest }));
        }
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX);
        part.clear();
        part.extend_from_slice(piece.get(..wanted).unwrap_or(piece));
        self.packed.set(Some(packed));
        Ok(())
    }
}
