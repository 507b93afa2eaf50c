//! Where compressed content lies: logical clusters, of which one or several are packed into a
//! physical one (`zmap.c`).
//!
//! A header of 8 bytes follows the inode and its attributes, at a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | where in the packed inode the content's end is, low half |
//! | 2 | 2 | size of the last physical cluster, which follows the indexes |
//! | 4 | 2 | flags: 1 indexes of 2 bytes, 2 and 4 large clusters, 8 last cluster next to the indexes, 16 what is not compressed is turned, 32 the end is in the packed inode |
//! | 6 | 1 | compression of the first and the second kind, 4 bits each |
//! | 7 | 1 | log2 of the logical clusters' size, less that of a block; 0x80: all is in the packed inode, at the number that the other 63 bits are |
//!
//! Full indexes begin 8 bytes later, and have 8 bytes each:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | kind: 0 not compressed, 1 and 3 compressed, 2 continues; 0x8000: a part of what is packed |
//! | 2 | 2 | where in the logical cluster its extent begins |
//! | 4 | 4 | the block; where it continues, the distance of its start, or 0x800 and the blocks |
//!
//! Compact indexes follow the header: 2 in 8 bytes, and between those, from a multiple of
//! 32 on, 16 in 32 bytes. The pack's last 4 bytes are a block number, from which the others
//! count. An index has at least 12 bits with the same meaning as above, and 2 with the kind.
//!
//! To read at a position, [`Volume::extent`] finds the extent that covers it: it steps back from the index of
//! the logical cluster at that position to one at which an extent begins (`head`), and forward to the next such index,
//! where the extent ends. The whole extent is unpacked at once, from one physical cluster. Nothing in the image is
//! trusted to bound this. An extent has at most `UNPACKED_MAX` bytes, which limits the steps in both directions, and a
//! physical cluster has at most `PACKED_MAX` bytes and lies within the image. The last extent may be next to the indexes
//! (`tail`) or in the packed inode (`fragment`). It is found once per inode, by steps that count against the size of the
//! image, so that inodes which share their indexes cannot make the search quadratic.

use alloc::vec::Vec;

use super::inode::Layout;
use super::{u16_at, u32_at, u64_at, Algorithm, Disk, Fault, Inode, Unpack, Volume};

/// `Z_EROFS_PCLUSTER_MAX_SIZE`
const PACKED_MAX: u64 = 1 << 20;
/// `Z_EROFS_PCLUSTER_MAX_DSIZE`
const UNPACKED_MAX: u64 = 12 << 20;
/// `Z_EROFS_LI_D0_CBLKCNT`
const BLOCK_COUNT: u32 = 1 << 11;
/// Larger logical clusters are not made; compact indexes end at 2^14 bytes.
const BITS_MAX: u32 = 20;

/// In full indexes: extents instead.
const COMPACT_TWO: u16 = 0x1;
const LARGE_1: u16 = 0x2;
const LARGE_2: u16 = 0x4;
const INLINE: u16 = 0x8;
const TURNED: u16 = 0x10;
const FRAGMENT: u16 = 0x20;
const ALL_FRAGMENT: u8 = 0x80;

/// The indexes of some content.
#[derive(Debug)]
pub(super) struct Clusters {
    /// Where the header lies.
    pub(super) header: u64,
    /// From which position on all is in the packed inode, and where it is there.
    pub(super) fragment: Option<(u64, u64)>,
    size: u64,
    layout: Layout,
    flags: u16,
    algorithms: [u8; 2],
    bits: u32,
    /// The logical cluster whose extent is next to the indexes; where, and its size.
    tail: Option<(u64, u64, u64)>,
    /// Indexes that were read last, and where.
    window: Vec<u8>,
    window_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    First,
    Second,
    /// Continues; a block count, if it has one.
    Rest(u32),
}

/// An index.
#[derive(Debug, Clone, Copy)]
struct Index {
    kind: Kind,
    /// Where in the logical cluster the extent begins.
    offset: u64,
    block: u32,
    /// Where the index stands, and where the pack ends that it is in.
    at: u64,
    pack_end: u64,
}

/// Content that belongs together.
#[derive(Debug)]
pub(super) enum Extent {
    /// Not compressed: of `stored` bytes from `from` on, turned to the left, the first ones.
    Stored { start: u64, length: u64, from: u64, stored: u64, turn: usize },
    /// Compressed to `packed` bytes from `from` on.
    Packed { start: u64, length: u64, from: u64, packed: u64, algorithm: Algorithm, at: u64 },
    /// To the content's end, in the packed inode from `offset` on.
    Fragment { start: u64, offset: u64 },
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// Reads the header of compressed content, and looks where its end is.
    pub(super) fn clusters(&self, inode: &Inode) -> Result<Clusters, D::Error> {
        let header = inode.end().next_multiple_of(8);
        let bytes = self.bytes(header, 8, inode.offset())?;
        let flags = u16_at(&bytes, 4);
        let (algorithms, shape) = match bytes.as_slice() {
            [.., algorithms, shape] => ([algorithms & 15, algorithms >> 4], *shape),
            _ => return Err(self.fail(header, Fault::PastEnd { offset: header, length: 8 })),
        };
        let bits = u32::from(self.block_bits) + u32::from(shape & 15);
        let mut clusters = Clusters {
            header,
            fragment: None,
            size: inode.size(),
            layout: inode.layout,
            flags,
            algorithms,
            bits,
            tail: None,
            window: Vec::new(),
            window_at: 0,
        };
        if shape & ALL_FRAGMENT != 0 {
            clusters.fragment = Some((0, u64_at(&bytes, 0) & !(1 << 63)));
            return Ok(clusters);
        }
        let compact = inode.layout == Layout::Compact;
        if bits > if compact { 14 } else { BITS_MAX } {
            return Err(self.fail(header + 7, Fault::ClusterSize(bits)));
        }
        if !compact && flags & COMPACT_TWO != 0 {
            return Err(self.fail(header + 4, Fault::Extents));
        }
        if compact && (flags & LARGE_1 != 0) != (flags & LARGE_2 != 0) {
            return Err(self.fail(header + 4, Fault::Cluster("large clusters of one kind only")));
        }
        // the last index is there, and so are those before it
        let last = self.index(&mut clusters, (inode.size() - 1) >> bits)?;
        let inline = u64::from(u16_at(&bytes, 2));
        if flags & FRAGMENT != 0 {
            let (head, index) = self.last_head(&mut clusters)?;
            let start = if head == 0 { 0 } else { (head << bits) + index.offset };
            // full indexes have room for a whole number
            let high = if compact { 0 } else { u64::from(index.block) };
            clusters.fragment = Some((start, high << 32 | u64::from(u32_at(&bytes, 0))));
        } else if flags & INLINE != 0 && inline > 0 {
            let (head, _) = self.last_head(&mut clusters)?;
            let from = last.pack_end;
            if from % self.block_size() + inline > self.block_size() {
                return Err(self.fail(header + 2, Fault::Tail(inline)));
            }
            self.contains(from, inline, header + 2)?;
            clusters.tail = Some((head, from, inline));
        }
        Ok(clusters)
    }

    /// The logical cluster in which the last extent begins, and its index.
    fn last_head(&self, clusters: &mut Clusters) -> Result<(u64, Index), D::Error> {
        // an index belongs to one inode: those that share theirs would be walked without end
        let steps = self.disk.size().saturating_sub(self.walked.get());
        let last = clusters.size - 1;
        let (head, index) = self.head(clusters, last, steps)?;
        self.walked.set(self.walked.get() + (last >> clusters.bits) - head);
        Ok((head, index))
    }

    /// The logical cluster in which the extent begins that has a position, and its index, at
    /// most so many steps before.
    fn head(
        &self,
        clusters: &mut Clusters,
        position: u64,
        mut steps: u64,
    ) -> Result<(u64, Index), D::Error> {
        let mut number = position >> clusters.bits;
        let mut index = self.index(clusters, number)?;
        let within = position % (1 << clusters.bits);
        let mut begins = !matches!(index.kind, Kind::Rest(_)) && index.offset <= within;
        while !begins {
            let Some(before) = number.checked_sub(1) else {
                return Err(self.fail(index.at, Fault::Cluster("no extent begins at the start")));
            };
            steps = steps.checked_sub(1).ok_or_else(|| {
                self.fail(index.at, Fault::Cluster("no extent begins near before it"))
            })?;
            number = before;
            index = self.index(clusters, number)?;
            begins = !matches!(index.kind, Kind::Rest(_));
        }
        Ok((number, index))
    }

    /// The extent that has a position.
    pub(super) fn extent(
        &self,
        clusters: &mut Clusters,
        position: u64,
    ) -> Result<Extent, D::Error> {
        let bits = clusters.bits;
        match clusters.fragment {
            Some((start, offset)) if position >= start => {
                return Ok(Extent::Fragment { start, offset });
            }
            _ => {}
        }
        let (head, index) = self.head(clusters, position, (UNPACKED_MAX >> bits) + 1)?;
        let start = (head << bits) + index.offset;
        let length = self.extent_end(clusters, head, start, index.at)? - start;
        let (from, packed, is_tail) = match clusters.tail {
            Some((tail, from, size)) if tail == head => (from, size, true),
            _ => {
                let blocks = self.packed_blocks(clusters, head, index.kind)?;
                let packed = blocks << self.block_bits;
                if packed > PACKED_MAX {
                    return Err(self.fail(index.at, Fault::PackedSize(packed)));
                }
                (u64::from(index.block) << self.block_bits, packed, false)
            }
        };
        self.contains(from, packed, index.at)?;
        let number = match index.kind {
            Kind::Second => clusters.algorithms[1],
            Kind::First => clusters.algorithms[0],
            Kind::Plain | Kind::Rest(_) => {
                if length > packed {
                    return Err(self.fail(index.at, Fault::UnpackedSize(length)));
                }
                let (stored, turn) = match clusters.flags & TURNED != 0 && !is_tail {
                    true if packed == self.block_size() => (packed, start % packed),
                    true => return Err(self.fail(index.at, Fault::PackedSize(packed))),
                    false => (length, 0),
                };
                let turn = usize::try_from(turn).unwrap_or_default();
                return Ok(Extent::Stored { start, length, from, stored, turn });
            }
        };
        let algorithm = Algorithm::of(number)
            .filter(|_| self.algorithms >> number & 1 != 0)
            .ok_or_else(|| self.fail(clusters.header + 6, Fault::Algorithm(number)))?;
        Ok(Extent::Packed { start, length, from, packed, algorithm, at: index.at })
    }

    /// Where an extent ends: where the next one begins, or the content ends.
    fn extent_end(
        &self,
        clusters: &mut Clusters,
        head: u64,
        start: u64,
        at: u64,
    ) -> Result<u64, D::Error> {
        let bits = clusters.bits;
        let mut number = head + 1;
        let end = loop {
            if number << bits >= clusters.size {
                break clusters.size;
            }
            let index = self.index(clusters, number)?;
            if !matches!(index.kind, Kind::Rest(_)) {
                break ((number << bits) + index.offset).min(clusters.size);
            }
            if (number << bits) - start > UNPACKED_MAX {
                return Err(self.fail(at, Fault::UnpackedSize((number << bits) - start)));
            }
            number += 1;
        };
        match end.checked_sub(start) {
            Some(1..=UNPACKED_MAX) => Ok(end),
            Some(0) | None => Err(self.fail(at, Fault::Cluster("an extent past the end"))),
            Some(length) => Err(self.fail(at, Fault::UnpackedSize(length))),
        }
    }

    /// How many blocks a physical cluster has (`z_erofs_get_extent_compressedlen`).
    fn packed_blocks(
        &self,
        clusters: &mut Clusters,
        head: u64,
        kind: Kind,
    ) -> Result<u64, D::Error> {
        let large = match kind {
            Kind::First => clusters.flags & LARGE_1,
            _ => clusters.flags & LARGE_2,
        };
        if large == 0 || (head + 1) << clusters.bits >= clusters.size {
            return Ok(1);
        }
        match self.index(clusters, head + 1)?.kind {
            Kind::Rest(blocks) => Ok(u64::from(blocks.max(1))),
            _ => Ok(1),
        }
    }

    /// The index of a logical cluster.
    fn index(&self, clusters: &mut Clusters, number: u64) -> Result<Index, D::Error> {
        let index = match clusters.layout {
            Layout::Compact => self.compact_index(clusters, number)?,
            _ => self.full_index(clusters, number)?,
        };
        let begins = !matches!(index.kind, Kind::Rest(_));
        if begins && index.offset >= 1 << clusters.bits {
            return Err(self.fail(index.at, Fault::Cluster("an extent past its cluster")));
        }
        if matches!(index.kind, Kind::Rest(1..)) && clusters.flags & (LARGE_1 | LARGE_2) == 0 {
            return Err(self.fail(index.at, Fault::Cluster("a block count, but no large cluster")));
        }
        Ok(index)
    }

    fn full_index(&self, clusters: &mut Clusters, number: u64) -> Result<Index, D::Error> {
        let at = (clusters.header + 16).saturating_add(number.saturating_mul(8));
        let bytes = self.window(clusters, at, 8)?;
        let head = u16_at(&bytes, 0);
        let block = u32_at(&bytes, 4);
        let kind = match head & 3 {
            0 => Kind::Plain,
            1 => Kind::First,
            3 => Kind::Second,
            _ => Kind::Rest(block_count(u32::from(u16_at(&bytes, 4)))),
        };
        let offset = u64::from(u16_at(&bytes, 2));
        Ok(Index { kind, offset, block, at, pack_end: at + 8 })
    }

    fn compact_index(&self, clusters: &mut Clusters, number: u64) -> Result<Index, D::Error> {
        let base = clusters.header + 8;
        let total = clusters.size.div_ceil(self.block_size());
        // as many as it takes to a multiple of 32 bytes
        let first = ((32 - base % 32) / 4) & 7;
        let small = match clusters.flags & COMPACT_TWO != 0 && first < total {
            true => (total - first) / 16 * 16,
            false => 0,
        };
        let (width, count, at) = match number.checked_sub(first) {
            None => (4, 2, base + number * 4),
            Some(rest) if rest < small => (2, 16, base + first * 4 + rest * 2),
            Some(rest) => (4, 2, base + first * 4 + small * 2 + (rest - small) * 4),
        };
        if width == 2 && clusters.bits > 12 {
            return Err(self.fail(clusters.header + 4, Fault::ClusterSize(clusters.bits)));
        }
        let pack_size = width * count;
        let pack_at = at / pack_size * pack_size;
        let bytes = self.window(clusters, pack_at, pack_size)?;
        let pack = Pack {
            bytes: &bytes,
            low_bits: clusters.bits.max(12),
            width: u32::try_from((pack_size - 4) * 8 / count).unwrap_or_default(),
        };
        let place = i64::try_from((at - pack_at) / width).unwrap_or_default();
        let (low, kind) = pack.entry(place);
        let mut index = Index { kind, offset: 0, block: 0, at, pack_end: pack_at + pack_size };
        if !matches!(kind, Kind::Rest(_)) {
            let blocks = match clusters.flags & LARGE_1 != 0 {
                true => pack.blocks_before_large(place),
                false => pack.blocks_before(place),
            };
            let blocks =
                blocks.ok_or_else(|| self.fail(at, Fault::Cluster("no start before it")))?;
            index.offset = u64::from(low);
            index.block = pack.block().wrapping_add(blocks);
        }
        Ok(index)
    }

    /// Reads indexes, some of which were read before.
    fn window(
        &self,
        clusters: &mut Clusters,
        offset: u64,
        length: u64,
    ) -> Result<[u8; 32], D::Error> {
        let held = clusters.window_at + clusters.window.len() as u64;
        if offset < clusters.window_at || offset.saturating_add(length) > held {
            self.contains(offset, length, clusters.header)?;
            // the cluster before is checked as well
            let from = offset.saturating_sub(256).max(clusters.header);
            let rest = (self.disk.size() - from).min(1024);
            clusters.window = self.bytes(from, rest, clusters.header)?;
            clusters.window_at = from;
        }
        let within = usize::try_from(offset - clusters.window_at).unwrap_or(usize::MAX);
        let mut bytes = [0; 32];
        let source = clusters.window.get(within..).unwrap_or_default();
        for (byte, source) in bytes.iter_mut().zip(source).take(length as usize) {
            *byte = *source;
        }
        Ok(bytes)
    }
}

/// The block count that is stored in place of a distance; zero if there is none.
fn block_count(distance: u32) -> u32 {
    match distance & BLOCK_COUNT {
        0 => 0,
        _ => distance & !BLOCK_COUNT,
    }
}

/// Compact indexes with the block number from which they count.
struct Pack<'a> {
    bytes: &'a [u8; 32],
    low_bits: u32,
    width: u32,
}

impl Pack<'_> {
    /// The lower bits of an index, and its kind (`decode_compactedbits`).
    fn entry(&self, place: i64) -> (u32, Kind) {
        let position = usize::try_from(place).unwrap_or_default() * self.width as usize;
        let word = u32_at(self.bytes, position / 8) >> (position % 8);
        let low = word & ((1 << self.low_bits) - 1);
        let kind = match word >> self.low_bits & 3 {
            0 => Kind::Plain,
            1 => Kind::First,
            3 => Kind::Second,
            _ => Kind::Rest(block_count(low)),
        };
        (low, kind)
    }

    fn block(&self) -> u32 {
        // 28 bits an index of 32 bytes, 16 of 8 bytes
        let end = if self.width == 14 { 28 } else { 4 };
        u32_at(self.bytes, end)
    }

    /// How many extents begin before an index, with its own, if each has a block.
    fn blocks_before(&self, place: i64) -> Option<u32> {
        let (mut blocks, mut place) = (1, place);
        while place > 0 {
            place -= 1;
            let (low, kind) = self.entry(place);
            if let Kind::Rest(_) = kind {
                place -= i64::from(low);
            }
            if place >= 0 {
                blocks += 1;
            }
        }
        Some(blocks)
    }

    /// How many blocks those extents have that begin before an index.
    fn blocks_before_large(&self, place: i64) -> Option<u32> {
        let (mut blocks, mut place) = (0_u32, place);
        while place > 0 {
            place -= 1;
            match self.entry(place) {
                (low, Kind::Rest(_)) if low & BLOCK_COUNT != 0 => {
                    place -= 1;
                    blocks = blocks.wrapping_add(low & !BLOCK_COUNT);
                }
                (0 | 1, Kind::Rest(_)) => return None,
                (low, Kind::Rest(_)) => place -= i64::from(low) - 2,
                _ => blocks += 1,
            }
        }
        Some(blocks)
    }
}
