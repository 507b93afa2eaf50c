//! Members: the extensions, the header, and the properties that they state together.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::header::NAME_FIELD;
use super::sparse::{Segment, SparseMap};
use super::{padding, pax, records, Fault, Field, Header, BLOCK_SIZE, EXTENSION_MAX};
use crate::{Error, ErrorKind};

/// Where an archive comes from.
pub trait Input {
    /// The error: the archive is malformed, or cannot be read.
    type Error;

    /// The offset of the next byte.
    fn offset(&self) -> u64;

    /// Reads a block; returns how many bytes there were, fewer than its size only at the end.
    fn block(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<usize, Self::Error>;

    /// Appends this many bytes to `bytes`; reserves no more memory than there is input.
    fn bytes(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// The error for a defect at an offset.
    fn malformed(&self, offset: u64, kind: ErrorKind) -> Self::Error;
}

/// A part of an archive.
#[derive(Debug)]
pub enum Item {
    /// A member; its [`Member::stored`] bytes follow, and their [`padding`].
    Member(Member),
    /// An extension for all members that follow.
    Global(Extension),
    /// A block of zeros.
    Zeros,
    /// After the end of the last archive, a block (or less) that begins no other; only where
    /// archives that follow one another are read.
    Foreign(Vec<u8>),
}

/// An extended header: a header, and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub(super) header: Header,
    /// With the padding.
    pub(super) body: Vec<u8>,
    /// Of the body in the archive.
    pub(super) offset: u64,
}

impl Extension {
    pub(super) fn content(&self) -> &[u8] {
        let size = usize::try_from(self.header.size()).unwrap_or(usize::MAX);
        self.body.get(..size).unwrap_or(&self.body)
    }

    fn replace(&mut self, mut content: Vec<u8>) {
        self.header.set_size(content.len() as u64);
        content.resize(content.len() + padding(content.len() as u64), 0);
        self.body = content;
    }

    /// Appends its bytes.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.header.as_bytes());
        bytes.extend_from_slice(&self.body);
    }

    /// Whether it is pax for one member: Solaris wrote `X`.
    pub(super) fn is_pax(&self) -> bool {
        matches!(self.header.typeflag(), b'x' | b'X')
    }

    /// The name in a GNU `L` or `K`, which ends at the first zero byte; nothing follows it.
    pub(super) fn name(&self) -> Result<&[u8], Fault> {
        let end = self.body.iter().position(|byte| *byte == 0).unwrap_or(self.body.len());
        let (name, rest) = self.body.split_at(end);
        let is_whole = name.len() <= self.content().len() && rest.iter().all(|byte| *byte == 0);
        is_whole.then_some(name).ok_or(Fault::LongName)
    }
}

/// The kind of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// Another name of a file that came before.
    HardLink,
    /// Something without content of its own.
    Other,
}

/// The type of file that a member is unpacked as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // what they are called everywhere
pub enum FileType {
    File,
    HardLink,
    SymbolicLink,
    Directory,
    /// A device or a FIFO.
    Special,
    /// Nothing: it names the archive.
    VolumeLabel,
}

/// A member of an archive, up to its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its own header begins in the archive.
    pub offset: u64,
    /// Its name, from wherever it stands.
    pub path: Vec<u8>,
    /// Its kind.
    pub kind: MemberKind,
    /// The target, if it is a link.
    pub link: Vec<u8>,
    /// The bytes of data that follow, without padding.
    pub stored: u64,
    /// Which parts of the file they are, unless all of it.
    pub sparse: Option<SparseMap>,
    pub(super) extensions: Vec<Extension>,
    pub(super) header: Header,
    /// The blocks between header and data: the map of a sparse file.
    pub(super) map: Vec<u8>,
}

impl Member {
    /// The size of the file.
    pub fn size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.stored, SparseMap::size)
    }

    /// How much memory it takes: all of it was read from the archive, up to some MiB.
    pub fn memory(&self) -> u64 {
        let extensions = self.extensions.iter().map(|extension| extension.body.len());
        let segments = self.sparse.as_ref().map_or(0, |sparse| sparse.segments().len());
        let names = self.path.len() + self.link.len();
        let map = self.map.len() + segments * core::mem::size_of::<Segment>();
        (extensions.sum::<usize>() + names + map) as u64
    }

    /// The type of file that it is unpacked as.
    pub fn file_type(&self) -> FileType {
        match (self.kind, self.header.typeflag()) {
            (MemberKind::File, _) => FileType::File,
            (MemberKind::HardLink, _) => FileType::HardLink,
            (MemberKind::Other, b'2') => FileType::SymbolicLink,
            (MemberKind::Other, b'5' | b'D') => FileType::Directory,
            // as in version 7: a name that ends in a slash is a directory
            (MemberKind::Other, 0 | b'0' | b'7') => FileType::Directory,
            (MemberKind::Other, b'V') => FileType::VolumeLabel,
            (MemberKind::Other, _) => FileType::Special,
        }
    }

    /// Permissions (with the set-user-ID and set-group-ID bits), owner and group.
    ///
    /// # Errors
    /// One of them that is no number, or too large for a 32-bit id. The offset is the archive's.
    pub fn access(&self) -> Result<(u32, u32, u32), (u64, ErrorKind)> {
        let in_header = |error: Error| (self.offset + error.offset as u64, error.kind);
        let [mode, mut uid, mut gid] = self.header.access().map_err(in_header)?;
        let malformed = |field| (self.offset, ErrorKind::from(Fault::Number(field)));
        if let Some(extension) = self.pax() {
            // they were read before, so that no error is lost here
            for record in records(extension.content()).flatten() {
                let (id, field) = match record.keyword {
                    b"uid" => (&mut uid, Field::Owner),
                    b"gid" => (&mut gid, Field::Group),
                    _ => continue,
                };
                *id = pax::decimal(record.value).ok_or_else(|| malformed(field))?;
            }
        }
        let id = |id: u64, field| u32::try_from(id).map_err(|_| malformed(field));
        let mode = u32::try_from(mode & 0o7777).unwrap_or_default();
        Ok((mode, id(uid, Field::Owner)?, id(gid, Field::Group)?))
    }

    /// The value of an attribute of the file.
    ///
    /// # Errors
    /// An attribute that is not Base64 where it should be, or two that differ. The offset is
    /// the archive's.
    pub fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, (u64, ErrorKind)> {
        let Some(extension) = self.pax() else { return Ok(None) };
        pax::attribute(extension.content(), name)
            .map_err(|error| (extension.offset + error.offset as u64, error.kind))
    }

    /// Whether anything is said of an attribute of the file.
    pub fn mentions_attribute(&self, name: &str) -> bool {
        self.pax().is_some_and(|extension| pax::mention_attribute(extension.content(), name))
    }

    /// The names of the attributes `security.*` that something is said of.
    pub fn security_attributes(&self) -> BTreeSet<String> {
        self.pax().map(Extension::content).map(pax::security_attributes).unwrap_or_default()
    }

    /// Whether it has a pax record with this keyword.
    pub fn mentions_keyword(&self, keyword: &[u8]) -> bool {
        let content = self.pax().map(Extension::content).unwrap_or_default();
        records(content).flatten().any(|record| record.keyword == keyword)
    }

    /// Its pax extension: there is one at most.
    pub(super) fn pax(&self) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.is_pax())
    }

    /// Sets an attribute of the file, or removes it. Every other byte stays; an extension
    /// that holds nothing any more goes with it.
    ///
    /// # Errors
    /// Records that would be larger than [`EXTENSION_MAX`] with it.
    pub fn set_attribute(&mut self, name: &str, value: Option<&[u8]>) -> Result<(), Error> {
        let position = self.extensions.iter().position(Extension::is_pax);
        let Some(extension) = position.and_then(|position| self.extensions.get_mut(position))
        else {
            let body = pax::with_attribute(&[], name, value)?;
            if !body.is_empty() {
                let header = Header::pax_for(&self.path, &self.header, body.len());
                let mut extension = Extension { header, body: Vec::new(), offset: self.offset };
                extension.replace(body);
                self.extensions.push(extension);
            }
            return Ok(());
        };
        let body = pax::with_attribute(extension.content(), name, value)?;
        if body.len() as u64 > EXTENSION_MAX {
            return Err(Error::new(Fault::ExtensionTooLarge(body.len() as u64), 0));
        }
        if body != extension.content() {
            extension.replace(body);
        }
        self.extensions.retain(|extension| !extension.is_pax() || !extension.body.is_empty());
        Ok(())
    }

    /// Appends its bytes up to the data.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        self.extensions.iter().for_each(|extension| extension.encode_into(bytes));
        bytes.extend_from_slice(self.header.as_bytes());
        bytes.extend_from_slice(&self.map);
    }
}

/// The replacement of a member.
#[derive(Debug, Clone, Copy)]
pub enum Substitute<'a> {
    /// A file of this size.
    File(u64),
    /// A symbolic link to this.
    Link(&'a [u8]),
}

impl Member {
    /// The bytes of another member in the place of this one, up to its data: with its owner, mode
    /// and time, and nothing else of it.
    pub fn substitute(&self, path: &[u8], substitute: Substitute<'_>) -> Vec<u8> {
        let (header, link) = match substitute {
            Substitute::File(size) => (Header::file_for(path, &self.header, size), &[][..]),
            Substitute::Link(link) => (Header::link_for(path, &self.header, link), link),
        };
        let names = [(&b"path"[..], path), (b"linkpath", link)];
        let long = names.into_iter().filter(|(_, name)| name.len() > NAME_FIELD);
        let body: Vec<u8> = long.flat_map(|(name, value)| pax::encode(name, value)).collect();
        let mut bytes = Vec::new();
        if !body.is_empty() {
            let header = Header::pax_for(path, &self.header, body.len());
            let mut extension = Extension { header, body: Vec::new(), offset: self.offset };
            extension.replace(body);
            extension.encode_into(&mut bytes);
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes
    }
}

/// An archive in memory.
#[derive(Debug)]
pub struct Slice<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Slice<'a> {
    /// An input from its first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
}

impl Input for Slice<'_> {
    type Error = Error;

    fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn block(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<usize, Error> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let count = rest.len().min(BLOCK_SIZE);
        block.iter_mut().zip(rest).for_each(|(byte, new)| *byte = *new);
        self.offset += count;
        Ok(count)
    }

    fn bytes(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let kind = ErrorKind::Truncated { needed: count, available: rest.len() };
        bytes.extend_from_slice(rest.get(..count).ok_or(Error::new(kind, self.offset))?);
        self.offset += count;
        Ok(())
    }

    fn malformed(&self, offset: u64, kind: ErrorKind) -> Error {
        Error::new(kind, usize::try_from(offset).unwrap_or(usize::MAX))
    }
}
