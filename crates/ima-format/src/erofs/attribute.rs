//! Extended attributes: those that follow an inode, and those that several inodes share.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | filter: a bit is set if no attribute's name has that hash |
//! | 4 | 1 | how many shared ones |
//! | 12 | 4 each | the shared ones' places, in units of 4 bytes from where they begin |
//!
//! Then come the inode's own. Each attribute:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | length of the name |
//! | 1 | 1 | number of the name's prefix; from 0x80 on one of the superblock's |
//! | 2 | 2 | length of the value |
//! | 4 | | name, value, and zeros up to a multiple of 4 |
//!
//! Of two with one name the kernel takes the first one, and fsck.erofs the last one: they are
//! refused.

use alloc::string::String;
use alloc::vec::Vec;

use super::{u16_at, u32_at, Content, Disk, Fault, Inode, Prefix, Unpack, Volume};
use super::{COMPAT_PLAIN_PREFIXES, SUPERBLOCK};

/// `struct erofs_xattr_ibody_header`
const HEADER: u64 = 12;
/// `EROFS_XATTR_LONG_PREFIX`
const LONG_PREFIX: u8 = 0x80;
/// `EROFS_XATTR_FILTER_SEED`
const FILTER_SEED: u32 = 0x25bb_e08f;
/// The longest infix of a prefix (`EROFS_NAME_LEN`).
const INFIX_MAX: usize = 255;

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The whole name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// The start of names by number (`erofs_xattr_prefix`).
fn prefix(number: u8) -> Option<&'static [u8]> {
    Some(match number {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        _ => return None,
    })
}

fn padded(length: u64) -> u64 {
    length.next_multiple_of(4)
}

impl<D: Disk, U: Unpack> Volume<D, U> {
    /// An inode's attributes, as far as the kernel knows their prefixes.
    pub fn attributes(&self, inode: &Inode) -> Result<Vec<Attribute>, D::Error> {
        let (offset, length) = inode.attributes();
        let mut attributes = Vec::new();
        if length == 0 {
            return Ok(attributes);
        }
        let body = self.bytes(offset, length, inode.offset() + 0x02)?;
        let filter = u32_at(&body, 0);
        let shared = body.get(4).copied().map_or(0, u64::from);
        let mut next = HEADER + 4 * shared;
        if next > length {
            return Err(self.fail(offset + 4, Fault::AttributeBounds));
        }
        while next < length {
            let at = offset + next;
            next += self.attribute(at, length - next, at, filter, &mut attributes)?;
        }
        for index in 0..shared {
            let place = HEADER + 4 * index;
            let units = u32_at(&body, usize::try_from(place).unwrap_or_default());
            let from = self.shared_attributes.saturating_add(u64::from(units) * 4);
            let room = self.disk.size().saturating_sub(from);
            self.attribute(from, room, offset + place, filter, &mut attributes)?;
        }
        Ok(attributes)
    }

    /// An inode's attribute with this name.
    pub fn attribute_named(&self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>, D::Error> {
        let attributes = self.attributes(inode)?;
        let found = attributes.into_iter().find(|attribute| attribute.name == name);
        Ok(found.map(|attribute| attribute.value))
    }

    /// Reads the attribute at an offset, and returns how much room it takes; `at` is where its
    /// place is said.
    fn attribute(
        &self,
        offset: u64,
        room: u64,
        at: u64,
        filter: u32,
        attributes: &mut Vec<Attribute>,
    ) -> Result<u64, D::Error> {
        if room < 4 {
            return Err(self.fail(at, Fault::AttributeBounds));
        }
        let entry = self.bytes(offset, 4, at)?;
        let (name_length, number) = match entry.as_slice() {
            [length, number, ..] => (usize::from(*length), *number),
            _ => return Err(self.fail(at, Fault::AttributeBounds)),
        };
        let length = name_length as u64 + u64::from(u16_at(&entry, 2));
        if padded(4 + length) > room {
            return Err(self.fail(at, Fault::AttributeBounds));
        }
        let bytes = self.bytes(offset + 4, length, at)?;
        let (name, value) = bytes.split_at(name_length.min(bytes.len()));
        let (base, infix): (u8, &[u8]) = match number.checked_sub(LONG_PREFIX) {
            Some(long) => match self.prefixes.get(usize::from(long)) {
                Some(prefix) => (prefix.base, &prefix.infix),
                None => return Err(self.fail(offset + 1, Fault::AttributePrefix(number))),
            },
            None => (number, &[]),
        };
        if let Some(prefix) = prefix(base) {
            let suffix = [infix, name].concat();
            let name = [prefix, &suffix].concat();
            if self.attribute_filter && filter >> (hash(&suffix, base) & 31) & 1 != 0 {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(self.fail(offset, Fault::AttributeFilter(name)));
            }
            if attributes.iter().any(|attribute| attribute.name == name) {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(self.fail(offset, Fault::AttributeTwice(name)));
            }
            attributes.push(Attribute { name, value: value.to_vec() });
        }
        Ok(padded(4 + length))
    }

    /// The prefixes that attributes refer to by number: in the packed inode if there is one.
    pub(super) fn read_prefixes(&self, count: u8, from: u64) -> Result<Vec<Prefix>, D::Error> {
        let at = SUPERBLOCK + 0x5c;
        let plain = self.compat & COMPAT_PLAIN_PREFIXES != 0;
        let mut packed = match self.packed_inode {
            Some(number) if count > 0 && !plain => {
                let inode = self.inode(number, SUPERBLOCK + 0x60)?;
                Some(self.packed_content(&inode)?)
            }
            _ => None,
        };
        let mut read = |offset: u64, length: u64| match &mut packed {
            Some(content) => self.range(content, offset, length, at),
            None => self.bytes(offset, length, at),
        };
        let mut prefixes = Vec::new();
        let mut next = from;
        for number in 0..count {
            let length = usize::from(u16_at(&read(next, 2)?, 0));
            let bytes = read(next.saturating_add(2), length as u64)?;
            let Some((base, infix)) = bytes.split_first().filter(|_| length <= INFIX_MAX + 1)
            else {
                return Err(self.fail(at, Fault::AttributePrefix(LONG_PREFIX | number)));
            };
            prefixes.push(Prefix { base: *base, infix: infix.to_vec() });
            next = padded(next.saturating_add(2 + length as u64));
        }
        Ok(prefixes)
    }

    /// A range of some content, that is not long.
    pub(super) fn range(
        &self,
        content: &mut Content,
        offset: u64,
        length: u64,
        at: u64,
    ) -> Result<Vec<u8>, D::Error> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let part = self.part(content, offset.saturating_add(bytes.len() as u64))?;
            if part.is_empty() {
                return Err(self.fail(at, Fault::PastEnd { offset, length }));
            }
            let missing = usize::try_from(length).unwrap_or(usize::MAX) - bytes.len();
            bytes.extend_from_slice(part.get(..missing).unwrap_or(part));
        }
        Ok(bytes)
    }
}

/// The hash of a name that the filter has a bit for: XXH32, with the prefix in the seed.
fn hash(name: &[u8], prefix: u8) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;
    let seed = FILTER_SEED.wrapping_add(u32::from(prefix));
    let round = |sum: u32, word: u32| {
        sum.wrapping_add(word.wrapping_mul(P2)).rotate_left(13).wrapping_mul(P1)
    };
    let mut sum = seed.wrapping_add(P5);
    let mut rest = name;
    if name.len() >= 16 {
        let mut lanes = [
            seed.wrapping_add(P1).wrapping_add(P2),
            seed.wrapping_add(P2),
            seed,
            seed.wrapping_sub(P1),
        ];
        while let Some(stripe) = rest.get(..16) {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks(4)) {
                *lane = round(*lane, u32_at(word, 0));
            }
            rest = rest.get(16..).unwrap_or_default();
        }
        let turned = lanes.into_iter().zip([1, 7, 12, 18]);
        sum = turned.fold(0_u32, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by)));
    }
    sum = sum.wrapping_add(name.len() as u32);
    while let Some(word) = rest.get(..4) {
        sum = sum.wrapping_add(u32_at(word, 0).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
        rest = rest.get(4..).unwrap_or_default();
    }
    for byte in rest {
        sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    sum = (sum ^ sum >> 15).wrapping_mul(P2);
    sum = (sum ^ sum >> 13).wrapping_mul(P3);
    sum ^ sum >> 16
}
