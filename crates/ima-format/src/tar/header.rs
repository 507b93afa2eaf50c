//! One header; the layout is in the parent module.

use alloc::vec::Vec;

use super::{Fault, Field, BLOCK_SIZE};
use crate::Error;

/// How many bytes of a name are in the header itself.
pub(super) const NAME_FIELD: usize = 100;
const NAME: (usize, usize) = (0, NAME_FIELD);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPEFLAG: (usize, usize) = (156, 1);
const LINK_NAME: (usize, usize) = (157, NAME_FIELD);
const MAGIC: (usize, usize) = (257, 8);
const DEVICE_MAJOR: (usize, usize) = (329, 8);
const DEVICE_MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);
/// star's header: the prefix ends earlier, and two times follow.
const STAR_PREFIX_END: usize = 475;
const STAR_TIMES: [usize; 2] = [476, 488];
/// The map of an old GNU sparse file, and its size.
const GNU_SPARSE: (usize, usize) = (386, 109);

const MAGIC_POSIX: &[u8; 8] = b"ustar\x0000";
const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

/// Which of its dialects a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `ustar`, with a prefix of the name; pax is ustar with extensions.
    Posix,
    /// GNU tar's, old and new.
    Gnu,
    /// Neither: Unix version 7.
    V7,
}

/// A header whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    block: [u8; BLOCK_SIZE],
    size: u64,
}

impl Header {
    /// Decodes a block; `None` where it is all zeros.
    pub fn decode(block: &[u8; BLOCK_SIZE]) -> Result<Option<Self>, Error> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Self { block: *block, size: 0 };
        let declared = header.number(CHECKSUM, Field::Checksum)?;
        let (sum, signed) = header.sums();
        if declared != sum && i64::try_from(declared) != Ok(signed) {
            return Err(Error::new(Fault::Checksum { declared, sum }, CHECKSUM.0));
        }
        let is_known = !header.field(MAGIC).starts_with(b"ustar") || header.format() != Format::V7;
        if !is_known {
            return Err(Error::new(Fault::Magic, MAGIC.0));
        }
        for (at, field) in [(DEVICE_MAJOR, Field::Device), (DEVICE_MINOR, Field::Device)] {
            header.number(at, field)?;
        }
        header.access()?;
        // a time before 1970: 64 bits with their sign
        if !matches!(header.field(MTIME), [0xff, 0xff, 0xff, 0xff, 0x80..=0xff, ..]) {
            header.number(MTIME, Field::Time)?;
        }
        let size = header.number(SIZE, Field::Size)?;
        Ok(Some(Self { size, ..header }))
    }

    /// The header of a pax extension for a member: reproducible, as its name and its time are
    /// the member's.
    pub(super) fn pax_for(path: &[u8], member: &Self, size: usize) -> Self {
        let mut header = Self::blank(b"x", member);
        header.put(NAME, &pax_name(path));
        header.set_size(size as u64);
        header
    }

    /// The header of another file in the place of a member, with its owner, mode and time. A name
    /// that is too long for it is cut.
    pub(super) fn file_for(path: &[u8], member: &Self, size: u64) -> Self {
        let mut header = Self::blank(b"0", member);
        header.take_over(member, &[MODE, UID, GID]);
        header.put(NAME, path);
        header.set_size(size);
        header
    }

    /// The header of a symbolic link in the place of another one.
    pub(super) fn link_for(path: &[u8], member: &Self, link: &[u8]) -> Self {
        let mut header = Self::blank(b"2", member);
        header.take_over(member, &[MODE, UID, GID]);
        header.put(NAME, path);
        header.put(LINK_NAME, link);
        header.set_size(0);
        header
    }

    /// A header without a name and a size, of the time of a member.
    fn blank(typeflag: &[u8], member: &Self) -> Self {
        let mut header = Self { block: [0; BLOCK_SIZE], size: 0 };
        header.put(MODE, b"0000644");
        header.put(UID, b"0000000");
        header.put(GID, b"0000000");
        header.put(MTIME, b"00000000000");
        header.take_over(member, &[MTIME]);
        header.put(TYPEFLAG, typeflag);
        header.put(MAGIC, MAGIC_POSIX);
        header.put(CHECKSUM, b"      \0 ");
        header
    }

    /// Takes over numbers, where they are octal.
    fn take_over(&mut self, member: &Self, fields: &[(usize, usize)]) {
        let octal = |byte: &u8| matches!(byte, b'0'..=b'7' | b' ' | 0);
        for field in fields.iter().filter(|field| member.field(**field).iter().all(octal)) {
            self.put(*field, member.field(*field));
        }
    }

    /// The size of the data that follows, in bytes without padding.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Permissions, owner and group, without extensions.
    pub(super) fn access(&self) -> Result<[u64; 3], Error> {
        Ok([
            self.number(MODE, Field::Mode)?,
            self.number(UID, Field::Owner)?,
            self.number(GID, Field::Group)?,
        ])
    }

    /// The type of member.
    pub fn typeflag(&self) -> u8 {
        self.byte(TYPEFLAG.0)
    }

    /// Its dialect.
    pub fn format(&self) -> Format {
        match self.field(MAGIC) {
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Posix,
            magic if magic == MAGIC_GNU => Format::Gnu,
            _ => Format::V7,
        }
    }

    /// Whether GNU tar takes it for star's, where pax records make no file sparse.
    pub(super) fn is_star(&self) -> bool {
        self.format() == Format::Posix
            && self.byte(STAR_PREFIX_END) == 0
            && STAR_TIMES
                .into_iter()
                .all(|time| matches!(self.byte(time), b'0'..=b'7') && self.byte(time + 11) == b' ')
    }

    /// Whether it has the map of an old GNU sparse file: libarchive reads one whatever the type.
    pub(super) fn has_sparse_map(&self) -> bool {
        self.format() == Format::Gnu && self.field(GNU_SPARSE).iter().any(|byte| *byte != 0)
    }

    /// The member's name, without extensions.
    pub fn path(&self) -> Vec<u8> {
        let prefix = match self.format() {
            Format::Posix => text(self.field(PREFIX)),
            Format::Gnu | Format::V7 => &[],
        };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text(self.field(NAME)));
        path
    }

    /// The name of the link's target, without extensions.
    pub fn link_name(&self) -> &[u8] {
        text(self.field(LINK_NAME))
    }

    /// The header's bytes.
    pub fn as_bytes(&self) -> &[u8; BLOCK_SIZE] {
        &self.block
    }

    /// Sets the size, and the checksum. The bytes after their digits stay, unless they were digits
    /// or part of another form of number.
    pub(super) fn set_size(&mut self, size: u64) {
        self.size = size;
        let mut digits = [b'0'; 11];
        match size < 1 << 33 {
            true => {
                octal(&mut digits, size);
                self.put(SIZE, &digits);
                self.end_number(SIZE, digits.len());
            }
            // base-256
            false => {
                self.put(SIZE, &[0x80, 0, 0, 0]);
                self.put((SIZE.0 + 4, 8), &size.to_be_bytes());
            }
        }
        let sum = self.sums().0;
        let mut digits = [b'0'; 6];
        octal(&mut digits, sum);
        self.put(CHECKSUM, &digits);
        self.end_number(CHECKSUM, digits.len());
    }

    /// Makes zero bytes of all but spaces after the digits of a field.
    fn end_number(&mut self, (offset, length): (usize, usize), digits: usize) {
        let field = self.block.iter_mut().skip(offset).take(length);
        field.skip(digits).filter(|byte| **byte != b' ').for_each(|byte| *byte = 0);
    }

    /// The sum of all bytes, and of all bytes with a sign, as some programs had it.
    fn sums(&self) -> (u64, i64) {
        let (before, rest) = self.block.split_at(CHECKSUM.0);
        let after = rest.get(CHECKSUM.1..).unwrap_or_default();
        let of = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let negative = |bytes: &[u8]| bytes.iter().filter(|byte| **byte >= 0x80).count() as i64;
        let spaces = CHECKSUM.1 as u32 * u32::from(b' ');
        let sum = u64::from(of(before) + of(after) + spaces);
        (sum, sum as i64 - 256 * (negative(before) + negative(after)))
    }

    pub(super) fn byte(&self, offset: usize) -> u8 {
        self.block.get(offset).copied().unwrap_or_default()
    }

    fn field(&self, (offset, length): (usize, usize)) -> &[u8] {
        self.block.get(offset..offset + length).unwrap_or_default()
    }

    /// Writes `bytes` at the beginning of a field.
    fn put(&mut self, (offset, length): (usize, usize), bytes: &[u8]) {
        let field = self.block.iter_mut().skip(offset).take(length);
        field.zip(bytes).for_each(|(byte, new)| *byte = *new);
    }

    fn number(&self, (offset, length): (usize, usize), field: Field) -> Result<u64, Error> {
        let bytes = self.field((offset, length));
        number(bytes).ok_or(Error::new(Fault::Number(field), offset))
    }
}

/// The bytes before the first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 8) as u8;
        value /= 8;
    }
}

/// A number in a header, in the forms that all programs read alike: octal digits after spaces,
/// with nothing but spaces and zero bytes after them; nothing but zero bytes, for zero; base-256
/// after a byte 0x80, of 63 bits. `None` where it is something else.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let add = |value: i64, byte: &u8| value.checked_mul(256)?.checked_add(i64::from(*byte));
        return rest.iter().try_fold(0, add).and_then(|value| u64::try_from(value).ok());
    }
    if field.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let mut rest = field.iter().skip_while(|byte| **byte == b' ').peekable();
    rest.peek().filter(|byte| matches!(byte, b'0'..=b'7'))?;
    let mut value = 0_u64;
    while let Some(digit @ b'0'..=b'7') = rest.peek() {
        value = value.checked_mul(8)?.checked_add(u64::from(**digit - b'0'))?;
        rest.next();
    }
    rest.all(|byte| matches!(byte, b' ' | 0)).then_some(value)
}

/// `DIRECTORY/PaxHeaders/NAME`, as GNU tar has it, cut to the field.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut pax = path.get(..split).unwrap_or_default().to_vec();
    pax.extend_from_slice(b"PaxHeaders/");
    pax.extend_from_slice(path.get(split..).unwrap_or_default());
    // the last byte stays zero
    pax.truncate(NAME.1 - 1);
    pax
}
