//! Members: the extensions, the header, and what they say together.

use alloc::vec::Vec;

use super::header::Format;
use super::sparse::{self, Pax, SparseMap};
use super::{padding, pax, records, Fault, Field, Header, Record, BLOCK_SIZE, EXTENSION_MAX};
use crate::{Error, ErrorKind};

/// Where an archive comes from.
pub trait Input {
    /// What can go wrong: the archive is malformed, or cannot be read.
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

/// What an archive consists of.
#[derive(Debug)]
pub enum Item {
    /// A member; its [`Member::stored`] bytes follow, and their [`padding`].
    Member(Member),
    /// An extension for all members that follow.
    Global(Extension),
    /// A block of zeros.
    Zeros,
    /// After the end of an archive, a block (or less) that begins no other.
    Foreign(Vec<u8>),
}

/// An extended header: a header, and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    header: Header,
    /// With the padding.
    body: Vec<u8>,
    /// Of the body in the archive.
    offset: u64,
}

impl Extension {
    fn content(&self) -> &[u8] {
        let size = usize::try_from(self.header.size()).unwrap_or(usize::MAX);
        self.body.get(..size).unwrap_or(&self.body)
    }

    fn replace(&mut self, mut content: Vec<u8>) {
        self.header.set_size(content.len());
        content.resize(content.len() + padding(content.len() as u64), 0);
        self.body = content;
    }

    /// Appends its bytes.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.header.as_bytes());
        bytes.extend_from_slice(&self.body);
    }

    fn is_pax(&self) -> bool {
        matches!(self.header.typeflag(), b'x' | b'X')
    }

    /// The name in a GNU `L` or `K`.
    fn name(&self) -> &[u8] {
        self.content().split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// Another name of a file that came before.
    HardLink,
    /// Something without content of its own.
    Other,
}

/// What becomes of a member when it is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // what they are called everywhere
pub enum FileType {
    File,
    HardLink,
    SymbolicLink,
    Directory,
    /// A device, a FIFO; what only the archive is about.
    Other,
}

/// A member of an archive, up to its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its own header begins in the archive.
    pub offset: u64,
    /// Its name, from wherever it stands.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// The target, if it is a link.
    pub link: Vec<u8>,
    /// The bytes of data that follow, without padding.
    pub stored: u64,
    /// Which parts of the file they are, unless all of it.
    pub sparse: Option<SparseMap>,
    extensions: Vec<Extension>,
    header: Header,
    /// What stands between header and data: the map of a sparse file.
    map: Vec<u8>,
}

impl Member {
    /// The size of the file.
    pub fn size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.stored, SparseMap::size)
    }

    /// What becomes of it when it is unpacked.
    pub fn file_type(&self) -> FileType {
        match (self.kind, self.header.typeflag()) {
            (MemberKind::File, _) => FileType::File,
            (MemberKind::HardLink, _) => FileType::HardLink,
            (MemberKind::Other, b'2') => FileType::SymbolicLink,
            (MemberKind::Other, b'5' | b'D') => FileType::Directory,
            // as in version 7, a directory is told by its slash
            (MemberKind::Other, 0 | b'0' | b'7') => FileType::Directory,
            (MemberKind::Other, _) => FileType::Other,
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
        if let Some(extension) = self.extensions.iter().find(|extension| extension.is_pax()) {
            let records = records(extension.content())
                .map_err(|error| (extension.offset + error.offset as u64, error.kind))?;
            for record in records {
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

    /// The file's `security.ima`.
    ///
    /// # Errors
    /// An attribute that is not Base64 where it should be, or two that differ. The offset is
    /// the archive's.
    pub fn label(&self) -> Result<Option<Vec<u8>>, (u64, ErrorKind)> {
        let Some(extension) = self.extensions.iter().find(|extension| extension.is_pax()) else {
            return Ok(None);
        };
        let label = records(extension.content()).and_then(|records| pax::label(&records));
        label.map_err(|error| (extension.offset + error.offset as u64, error.kind))
    }

    /// Whether anything is said of the file's `security.ima`.
    pub fn mentions_label(&self) -> bool {
        self.extensions.iter().filter(|extension| extension.is_pax()).any(|extension| {
            records(extension.content()).is_ok_and(|records| pax::mention_label(&records))
        })
    }

    /// Sets the file's `security.ima`, or takes it out. Every other byte stays; an extension
    /// that holds nothing any more goes with it.
    pub fn set_label(&mut self, label: Option<&[u8]>) -> Result<(), Error> {
        let position = self.extensions.iter().position(Extension::is_pax);
        let Some(extension) = position.and_then(|position| self.extensions.get_mut(position))
        else {
            let body = pax::with_label(&[], label);
            if !body.is_empty() {
                let header = Header::pax_for(&self.path, &self.header, body.len());
                let mut extension = Extension { header, body: Vec::new(), offset: self.offset };
                extension.replace(body);
                self.extensions.push(extension);
            }
            return Ok(());
        };
        let body = pax::with_label(&records(extension.content())?, label);
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

/// Reads an archive item by item.
#[derive(Debug, Default)]
pub struct Parser {
    /// Blocks of zeros, since the last member.
    zeros: u64,
}

impl Parser {
    /// A parser at the start of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads up to the next member's data; `None` at the end of the input. The member's data
    /// and padding have to be taken from the input before the next call.
    pub fn next<I: Input>(&mut self, input: &mut I) -> Result<Option<Item>, I::Error> {
        let mut extensions: Vec<Extension> = Vec::new();
        loop {
            let at = input.offset();
            let mut block = [0; BLOCK_SIZE];
            let read = input.block(&mut block)?;
            let header = match read {
                BLOCK_SIZE => Header::decode(&block),
                _ => {
                    Err(Error::new(ErrorKind::Truncated { needed: BLOCK_SIZE, available: read }, 0))
                }
            };
            let header = match header {
                Ok(Some(header)) => header,
                _ if !extensions.is_empty() => {
                    return Err(input.malformed(at, Fault::ExtensionsWithoutMember.into()));
                }
                _ if read == 0 => return Ok(None),
                Ok(None) => {
                    self.zeros += 1;
                    return Ok(Some(Item::Zeros));
                }
                Err(_) if self.zeros >= 2 => {
                    let block = block.get(..read).unwrap_or_default();
                    return Ok(Some(Item::Foreign(block.to_vec())));
                }
                Err(error) => return Err(malformed(input, at, error)),
            };
            self.zeros = 0;
            match header.typeflag() {
                b'x' | b'X' | b'L' | b'K' | b'g' => {
                    let extension = extension(input, at, header)?;
                    let typeflag = extension.header.typeflag();
                    if typeflag == b'g' && extensions.is_empty() {
                        return Ok(Some(Item::Global(extension)));
                    }
                    let same = |other: &Extension| other.header.typeflag() == typeflag;
                    if extensions.iter().any(same) {
                        return Err(input.malformed(at, Fault::TwoExtensions.into()));
                    }
                    extensions.push(extension);
                }
                _ => return member(input, at, extensions, header).map(|m| Some(Item::Member(m))),
            }
        }
    }
}

fn malformed<I: Input>(input: &I, at: u64, error: Error) -> I::Error {
    input.malformed(at + error.offset as u64, error.kind)
}

/// Reads the body of an extension.
fn extension<I: Input>(input: &mut I, at: u64, header: Header) -> Result<Extension, I::Error> {
    let size = header.size();
    let too_large = || Fault::ExtensionTooLarge(size).into();
    let count = usize::try_from(size).ok().filter(|_| size <= EXTENSION_MAX);
    let count = count.ok_or_else(|| input.malformed(at, too_large()))?;
    let offset = input.offset();
    let mut body = Vec::new();
    input.bytes(count + padding(size), &mut body)?;
    let extension = Extension { header, body, offset };
    let is_for_one = |record: &&Record<'_>| {
        matches!(record.keyword, b"path" | b"linkpath" | b"size")
            || record.keyword.starts_with(b"GNU.sparse.")
            || pax::mention_label(core::slice::from_ref(*record))
    };
    if matches!(extension.header.typeflag(), b'x' | b'X' | b'g') {
        let records =
            records(extension.content()).map_err(|error| malformed(input, offset, error))?;
        if extension.header.typeflag() == b'g' {
            if let Some(record) = records.iter().find(is_for_one) {
                let error = Error::new(Fault::GlobalRecord, record.offset);
                return Err(malformed(input, offset, error));
            }
        }
    }
    Ok(extension)
}

/// What a pax extension says of the member.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Said {
    fn read(records: &[Record<'_>]) -> Result<Self, Error> {
        let mut said = Self::default();
        let mut sparse_name = None;
        for record in records {
            match record.keyword {
                b"path" => said.path = Some(record.value.to_vec()),
                b"linkpath" => said.link = Some(record.value.to_vec()),
                b"GNU.sparse.name" => sparse_name = Some(record.value.to_vec()),
                b"size" => {
                    let fault = Fault::Number(Field::Size);
                    let size = pax::decimal(record.value);
                    said.size = Some(size.ok_or(Error::new(fault, record.offset))?);
                }
                _ => {}
            }
        }
        said.path = sparse_name.or(said.path);
        Ok(said)
    }
}

/// What stands before the data.
fn member<I: Input>(
    input: &mut I,
    at: u64,
    extensions: Vec<Extension>,
    header: Header,
) -> Result<Member, I::Error> {
    let gnu_name = |typeflag: u8| {
        let found = extensions.iter().find(|other| other.header.typeflag() == typeflag);
        found.map(|extension| extension.name().to_vec())
    };
    let pax = extensions.iter().find(|extension| extension.is_pax());
    let records = match pax {
        // they were read before, so that this does not fail
        Some(pax) => records(pax.content()).unwrap_or_default(),
        None => Vec::new(),
    };
    let in_pax = |error| malformed(input, pax.map_or(at, |pax| pax.offset), error);
    let said = Said::read(&records).map_err(in_pax)?;
    let path = said.path.or_else(|| gnu_name(b'L')).unwrap_or_else(|| header.path());
    let link = said.link.or_else(|| gnu_name(b'K')).unwrap_or_else(|| header.link_name().to_vec());
    let in_header = |input: &I, fault: Fault| input.malformed(at, fault.into());
    let kind = kind(&header, &path).map_err(|fault| in_header(input, fault))?;
    check_name(&path).map_err(|fault| in_header(input, fault))?;
    // the header's size of a link is the file's, in some archives; no data follows
    let in_header_size = if kind == MemberKind::HardLink { 0 } else { header.size() };
    let mut stored = said.size.unwrap_or(in_header_size);
    let typeflag = header.typeflag();
    // what `off_t` holds, with its padding
    if stored > i64::MAX as u64 - BLOCK_SIZE as u64 {
        return Err(in_header(input, Fault::Number(Field::Size)));
    }
    if kind == MemberKind::HardLink {
        check_name(&link).map_err(|fault| in_header(input, fault))?;
    }
    if kind == MemberKind::Other && stored > 0 && !matches!(typeflag, b'D' | b'V') {
        return Err(in_header(input, Fault::UnexpectedData));
    }
    let mut map = Vec::new();
    let mut sparse = None;
    if typeflag == b'S' {
        let mut more = sparse::is_extended(&header);
        while more {
            let mut block = Vec::new();
            input.bytes(BLOCK_SIZE, &mut block)?;
            more = sparse::continues(&block);
            map.append(&mut block);
            check_map(input, at, &map)?;
        }
        let read = sparse::gnu(&header, &map, stored);
        sparse = Some(read.map_err(|error| malformed(input, at, error))?);
    } else if kind == MemberKind::File {
        let offset = pax.map_or(at, |pax| pax.offset);
        let form =
            sparse::pax(&records, stored).map_err(|error| malformed(input, offset, error))?;
        match form {
            None => {}
            Some(Pax::Map(read)) => sparse = Some(read),
            Some(Pax::InData(size)) => {
                sparse = Some(data_map(input, size, &mut stored, &mut map)?);
            }
        }
    }
    Ok(Member { offset: at, path, kind, link, stored, sparse, extensions, header, map })
}

/// Reads the map of a sparse file in front of its data, and takes it off `stored`.
fn data_map<I: Input>(
    input: &mut I,
    size: u64,
    stored: &mut u64,
    map: &mut Vec<u8>,
) -> Result<SparseMap, I::Error> {
    let start = input.offset();
    let mut parser = sparse::DataMap::default();
    loop {
        let at = input.offset();
        let rest = stored.checked_sub(BLOCK_SIZE as u64);
        *stored = rest.ok_or_else(|| input.malformed(at, Fault::UnknownSparse.into()))?;
        let mut block = Vec::new();
        input.bytes(BLOCK_SIZE, &mut block)?;
        let complete = parser.push(&block).map_err(|error| malformed(input, at, error))?;
        map.append(&mut block);
        check_map(input, start, map)?;
        if complete {
            let read = parser.finish(size, *stored);
            return read.map_err(|fault| input.malformed(start, fault.into()));
        }
    }
}

fn check_map<I: Input>(input: &I, at: u64, map: &[u8]) -> Result<(), I::Error> {
    match map.len() as u64 {
        0..=EXTENSION_MAX => Ok(()),
        size => Err(input.malformed(at, Fault::ExtensionTooLarge(size).into())),
    }
}

fn kind(header: &Header, path: &[u8]) -> Result<MemberKind, Fault> {
    Ok(match header.typeflag() {
        // as in version 7, a directory is told by its slash
        0 | b'0' | b'7' if path.ends_with(b"/") => MemberKind::Other,
        0 | b'0' | b'7' => MemberKind::File,
        b'S' if header.format() == Format::Gnu => MemberKind::File,
        b'S' => return Err(Fault::UnknownSparse),
        b'1' => MemberKind::HardLink,
        b'2'..=b'6' | b'D' | b'V' => MemberKind::Other,
        b'M' => return Err(Fault::MultiVolume),
        // POSIX: what is not known is a regular file; capitals are a vendor's, who knows
        b'8' | b'9' | b'a'..=b'z' => MemberKind::File,
        typeflag => return Err(Fault::UnknownType(typeflag)),
    })
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.contains(&0) {
        return Err(Fault::NameWithZero);
    }
    match name.split(|byte| *byte == b'/').any(|component| component == b"..") {
        true => Err(Fault::Escapes),
        false => Ok(()),
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
