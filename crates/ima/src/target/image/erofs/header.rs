//! Headers of the archive's members: pax records, and a ustar header.

use ima_format::erofs::{Attribute, Inode};
use ima_format::tar::{padding, BLOCK_SIZE};

/// The largest number that the size's field holds.
const SIZE_MAX: u64 = 0o777_7777_7777;
/// The largest number that fields of owners and devices hold.
const ID_MAX: u32 = 0o777_7777;

/// A member that is being described.
pub(super) struct Header {
    records: Vec<u8>,
    block: [u8; BLOCK_SIZE],
}

impl Header {
    /// A member with this path, and with an inode's mode and owners.
    pub(super) fn new(path: &[u8], inode: &Inode) -> Self {
        let mut header = Self { records: Vec::new(), block: [0; BLOCK_SIZE] };
        header.record(b"path", path);
        header.text(0..100, path);
        header.number(100..108, u64::from(inode.mode()));
        for (field, key, id) in [(108, "uid", inode.uid()), (116, "gid", inode.gid())] {
            if id > ID_MAX {
                header.record(key.as_bytes(), id.to_string().as_bytes());
            }
            header.number(field..field + 8, u64::from(id.min(ID_MAX)));
        }
        header.number(124..136, 0);
        header.number(136..148, 0);
        header.block[257..265].copy_from_slice(b"ustar\x0000");
        header
    }

    pub(super) fn attribute(&mut self, attribute: &Attribute) {
        let key = [b"SCHILY.xattr.", attribute.name.as_slice()].concat();
        self.record(&key, &attribute.value);
    }

    pub(super) fn file(&mut self, size: u64) {
        self.block[156] = b'0';
        if size > SIZE_MAX {
            self.record(b"size", size.to_string().as_bytes());
        }
        self.number(124..136, size.min(SIZE_MAX));
    }

    pub(super) fn hard_link(&mut self, first: &[u8]) {
        self.target(b'1', first);
    }

    pub(super) fn link(&mut self, target: &[u8]) {
        self.target(b'2', target);
    }

    pub(super) fn device(&mut self, kind: u8, major: u32, minor: u32) {
        self.block[156] = kind;
        self.number(329..337, u64::from(major));
        self.number(337..345, u64::from(minor));
    }

    pub(super) fn directory(&mut self) {
        self.block[156] = b'5';
    }

    pub(super) fn pipe(&mut self) {
        self.block[156] = b'6';
    }

    fn target(&mut self, kind: u8, target: &[u8]) {
        self.block[156] = kind;
        self.record(b"linkpath", target);
        self.text(157..257, target);
    }

    /// Adds a pax record, whose length counts its own digits.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        self.records.extend(length.to_string().as_bytes());
        self.records.push(b' ');
        self.records.extend([key, b"=", value, b"\n"].concat());
    }

    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8]) {
        let length = text.len().min(field.len());
        self.block[field][..length].copy_from_slice(&text[..length]);
    }

    fn number(&mut self, field: std::ops::Range<usize>, number: u64) {
        let width = field.len() - 1;
        let digits = format!("{number:0width$o}");
        self.block[field][..width].copy_from_slice(digits.as_bytes());
    }

    /// Appends the records and the header.
    pub(super) fn encode_into(mut self, bytes: &mut Vec<u8>) {
        let mut extension = Self { records: Vec::new(), block: [0; BLOCK_SIZE] };
        extension.block[156] = b'x';
        extension.block[257..265].copy_from_slice(b"ustar\x0000");
        extension.text(0..100, b"pax");
        extension.number(124..136, self.records.len() as u64);
        extension.seal();
        bytes.extend(extension.block);
        bytes.extend(&self.records);
        bytes.resize(bytes.len() + padding(self.records.len() as u64), 0);
        self.seal();
        bytes.extend(self.block);
    }

    /// Sets the sum, which is made with blanks in its place.
    fn seal(&mut self) {
        self.block[148..156].fill(b' ');
        let sum: u64 = self.block.iter().map(|byte| u64::from(*byte)).sum();
        self.number(148..155, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for (value, length) in [(1, "9 "), (2, "11 "), (90, "99 "), (91, "101 ")] {
            let mut header = Header { records: Vec::new(), block: [0; BLOCK_SIZE] };
            header.record(b"path", &vec![b'a'; value]);
            let said = String::from_utf8(header.records).unwrap();
            assert!(said.starts_with(length), "{said}");
            assert_eq!(said.len().to_string(), length.trim());
        }
    }
}
