//! From blocks to members: which extensions belong to a member, and the properties that they state together.
//!
//! [`Parser::next`] collects extensions until a header comes that is a member's, and
//! [`Member`] is made of both. Each rule that refuses something here stands for a case in which
//! GNU tar and libarchive unpack different files, or one of them stops with an error.

use alloc::vec::Vec;

use super::header::Format;
use super::sparse::{self, Pax, SparseMap};
use super::{padding, pax};
use super::{
    records, Extension, Fault, Field, Header, Input, Item, Member, MemberKind, Record, BLOCK_SIZE,
    COMPONENT_MAX, EXTENSIONS_MAX, EXTENSION_MAX, MAP_MAX, NAME_MAX,
};
use crate::{Error, ErrorKind};

/// The treatment of bytes after an archive's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterEnd {
    /// All but zeros are refused: no program reads them unless it is asked to.
    #[default]
    Refuse,
    /// Archives that follow one another are read as one, as GNU tar does with `--ignore-zeros`;
    /// other bytes are passed on.
    Read,
}

/// Reads an archive item by item.
#[derive(Debug, Default)]
pub struct Parser {
    after_end: AfterEnd,
    /// Blocks of zeros, since the last member.
    zeros: u64,
    /// Extensions, since the last member.
    extensions: usize,
}

impl Parser {
    /// A parser at the start of an archive.
    pub fn new(after_end: AfterEnd) -> Self {
        Self { after_end, ..Self::default() }
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
                Ok(None) if extensions.is_empty() => {
                    self.zeros += 1;
                    return Ok(Some(Item::Zeros));
                }
                _ if read == 0 && extensions.is_empty() => return Ok(None),
                _ if self.zeros > 0 && self.after_end == AfterEnd::Refuse => {
                    return Err(input.malformed(at, Fault::AfterEnd.into()));
                }
                Ok(Some(header)) => header,
                _ if !extensions.is_empty() => {
                    return Err(input.malformed(at, Fault::ExtensionsWithoutMember.into()));
                }
                Err(error) if self.zeros < 2 => return Err(malformed(input, at, error)),
                _ => {
                    let block = block.get(..read).unwrap_or_default();
                    return Ok(Some(Item::Foreign(block.to_vec())));
                }
            };
            self.zeros = 0;
            let typeflag = header.typeflag();
            // libarchive counts the labels of volumes
            if matches!(typeflag, b'x' | b'X' | b'L' | b'K' | b'g' | b'V') {
                self.extensions += 1;
                if self.extensions > EXTENSIONS_MAX {
                    return Err(input.malformed(at, Fault::TooManyExtensions.into()));
                }
            } else {
                self.extensions = 0;
            }
            if !matches!(typeflag, b'x' | b'X' | b'L' | b'K' | b'g') {
                return member(input, at, extensions, header).map(|m| Some(Item::Member(m)));
            }
            let extension = extension(input, at, header)?;
            if typeflag == b'g' && extensions.is_empty() {
                return Ok(Some(Item::Global(extension)));
            }
            let same = |other: &Extension| {
                other.header.typeflag() == typeflag || other.is_pax() && extension.is_pax()
            };
            if extensions.iter().any(same) {
                return Err(input.malformed(at, Fault::TwoExtensions.into()));
            }
            extensions.push(extension);
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
    let checked = match extension.header.typeflag() {
        b'L' | b'K' => extension.name().map(drop).map_err(|fault| Error::new(fault, 0)),
        typeflag => records(extension.content()).try_for_each(|record| match record? {
            record if typeflag == b'g' && is_for_one(&record) => {
                Err(Error::new(Fault::GlobalRecord, record.offset))
            }
            _ => Ok(()),
        }),
    };
    checked.map_err(|error| malformed(input, offset, error))?;
    Ok(extension)
}

/// Whether a record changes members: in an extension for all, GNU tar obeys it, and libarchive
/// does not.
fn is_for_one(record: &Record<'_>) -> bool {
    let vendors: [&[u8]; 5] = [b"GNU.", b"LIBARCHIVE.", b"RHT.", b"SCHILY.", b"SUN."];
    match record.keyword {
        b"GNU.volume.label" => false,
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"uname" | b"gname" => true,
        keyword => vendors.iter().any(|vendor| keyword.starts_with(vendor)),
    }
}

/// The properties of a member in a pax extension.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Said {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let mut said = Self::default();
        let mut sparse_name = None;
        for record in records(body) {
            let record = record?;
            let fail = |fault: Fault| Error::new(fault, record.offset);
            match record.keyword {
                b"path" => said.path = Some(record.value.to_vec()),
                b"linkpath" => said.link = Some(record.value.to_vec()),
                b"GNU.sparse.name" => sparse_name = Some(record.value.to_vec()),
                b"size" => {
                    let size = pax::decimal(record.value);
                    said.size = Some(size.ok_or(fail(Fault::Number(Field::Size)))?);
                }
                keyword if keyword.starts_with(b"GNU.volume.") => {
                    return Err(fail(Fault::MultiVolume));
                }
                _ => {}
            }
            said.is_sparse |= sparse::is_sparse_record(&record);
        }
        said.path = sparse_name.or(said.path);
        Ok(said)
    }
}

/// The blocks before the data.
fn member<I: Input>(
    input: &mut I,
    at: u64,
    extensions: Vec<Extension>,
    header: Header,
) -> Result<Member, I::Error> {
    let pax = extensions.iter().find(|extension| extension.is_pax());
    let pax_offset = pax.map_or(at, |pax| pax.offset);
    let said = Said::read(pax.map_or(&[], Extension::content))
        .map_err(|error| malformed(input, pax_offset, error))?;
    let (sizes, is_sparse) = ((header.size(), said.size), said.is_sparse);
    let (path, link) =
        names(&extensions, said, &header).map_err(|fault| input.malformed(at, fault.into()))?;
    let kind = kind(&header, &path).map_err(|fault| input.malformed(at, fault.into()))?;
    let mut member = Member {
        offset: at,
        path,
        kind,
        link,
        stored: 0,
        sparse: None,
        extensions,
        header,
        map: Vec::new(),
    };
    member.stored =
        check(&member, sizes, is_sparse).map_err(|fault| input.malformed(at, fault.into()))?;
    member.access().map_err(|(offset, kind)| input.malformed(offset, kind))?;
    if member.header.typeflag() == b'S' {
        let mut more = sparse::is_extended(&member.header);
        while more {
            let block = map_block(input, at, &mut member.map)?;
            more = sparse::continues(&block);
        }
        let read = sparse::gnu(&member.header, &member.map, member.stored);
        member.sparse = Some(read.map_err(|error| malformed(input, at, error))?);
    } else if let Some(pax) = member.pax().filter(|_| is_sparse) {
        let read = sparse::pax(records(pax.content()), member.stored)
            .map_err(|error| malformed(input, pax_offset, error))?;
        member.sparse = match read {
            Some(Pax::InData(size)) => {
                Some(data_map(input, size, &mut member.stored, &mut member.map)?)
            }
            Some(Pax::Map(map)) => Some(map),
            None => None,
        };
    }
    Ok(member)
}

/// A member's name, and the target if it is a link.
fn names(
    extensions: &[Extension],
    said: Said,
    header: &Header,
) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let gnu_name = |typeflag: u8| {
        extensions.iter().find(|other| other.header.typeflag() == typeflag).map(Extension::name)
    };
    let of_two = |gnu: Option<Result<&[u8], Fault>>, pax: Option<Vec<u8>>| match (gnu, pax) {
        (Some(_), Some(_)) => Err(Fault::TwoNames),
        (gnu, pax) => Ok(gnu.transpose()?.map(<[u8]>::to_vec).or(pax)),
    };
    let path = of_two(gnu_name(b'L'), said.path)?.unwrap_or_else(|| header.path());
    let link = of_two(gnu_name(b'K'), said.link)?;
    // libarchive makes a link of whatever has a target
    if link.is_some() && !matches!(header.typeflag(), b'1' | b'2') {
        return Err(Fault::UnexpectedLink);
    }
    Ok((path, link.unwrap_or_else(|| header.link_name().to_vec())))
}

/// Checks the type that a member claims; gives the bytes that follow the header, of the sizes in
/// the header and in the records.
fn check(
    member: &Member,
    (in_header, in_records): (u64, Option<u64>),
    is_sparse: bool,
) -> Result<u64, Fault> {
    let Member { header, path, link, kind, .. } = member;
    let typeflag = header.typeflag();
    check_name(path)?;
    let is_directory = match typeflag {
        b'5' | b'D' | b'V' => true,
        // of slashes alone GNU tar makes a file
        0 | b'0' | b'7' => path.ends_with(b"/") && path.iter().any(|byte| *byte != b'/'),
        _ => false,
    };
    if !is_directory && !names_file(path) || typeflag == b'2' && link.is_empty() {
        return Err(Fault::EmptyName);
    }
    if typeflag == b'2' && link.len() > NAME_MAX {
        return Err(Fault::NameTooLong);
    }
    if *kind == MemberKind::HardLink {
        check_name(link)?;
        if !names_file(link) {
            return Err(Fault::EmptyName);
        }
    }
    // libarchive gives the extensions to the member after it
    if typeflag == b'V' && !member.extensions.is_empty() {
        return Err(Fault::ExtensionsWithoutMember);
    }
    let takes_sparse_records = typeflag == b'0'
        && *kind == MemberKind::File
        && header.format() == Format::Posix
        && !header.is_star();
    if is_sparse && !takes_sparse_records
        || typeflag != b'S' && typeflag != b'V' && header.has_sparse_map()
    {
        return Err(Fault::UnknownSparse);
    }
    let size = in_records.unwrap_or(in_header);
    // the largest `off_t`, with padding
    if size > i64::MAX as u64 - BLOCK_SIZE as u64 {
        return Err(Fault::Number(Field::Size));
    }
    match (kind, typeflag) {
        (MemberKind::File, _) | (_, b'D') => Ok(size),
        // the size is the file's, in some archives: all programs know them by their magic
        (MemberKind::HardLink, _) if header.format() != Format::Posix && in_records.is_none() => {
            Ok(0)
        }
        _ if size > 0 || in_header > 0 => Err(Fault::UnexpectedData),
        _ => Ok(0),
    }
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
        let block = map_block(input, start, map)?;
        if parser.push(&block).map_err(|error| malformed(input, at, error))? {
            let read = parser.finish(size, *stored);
            return read.map_err(|fault| input.malformed(start, fault.into()));
        }
    }
}

/// Reads a block of a map that begins at `start`, and appends it to the blocks before.
fn map_block<I: Input>(
    input: &mut I,
    start: u64,
    map: &mut Vec<u8>,
) -> Result<[u8; BLOCK_SIZE], I::Error> {
    if map.len() as u64 >= MAP_MAX {
        return Err(input.malformed(start, Fault::MapTooLarge.into()));
    }
    let at = input.offset();
    let mut block = [0; BLOCK_SIZE];
    match input.block(&mut block)? {
        BLOCK_SIZE => map.extend_from_slice(&block),
        available => {
            let kind = ErrorKind::Truncated { needed: BLOCK_SIZE, available };
            return Err(input.malformed(at, kind));
        }
    }
    Ok(block)
}

fn kind(header: &Header, path: &[u8]) -> Result<MemberKind, Fault> {
    Ok(match header.typeflag() {
        // as in version 7, the slash makes it a directory
        0 | b'0' | b'7' if path.ends_with(b"/") => MemberKind::Other,
        0 | b'0' | b'7' => MemberKind::File,
        b'S' if header.format() == Format::Gnu && !path.ends_with(b"/") => MemberKind::File,
        b'S' => return Err(Fault::UnknownSparse),
        b'1' => MemberKind::HardLink,
        b'2'..=b'6' | b'V' => MemberKind::Other,
        b'D' if header.format() == Format::Gnu => MemberKind::Other,
        b'M' => return Err(Fault::MultiVolume),
        typeflag => return Err(Fault::UnknownType(typeflag)),
    })
}

/// Whether a path can be that of something other than a directory.
fn names_file(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next();
    !matches!(last, None | Some(b"" | b"."))
}

fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::EmptyName);
    }
    if name.contains(&0) {
        return Err(Fault::NameWithZero);
    }
    let mut components = name.split(|byte| *byte == b'/');
    if name.len() > NAME_MAX || components.clone().any(|it| it.len() > COMPONENT_MAX) {
        return Err(Fault::NameTooLong);
    }
    match components.any(|component| component == b"..") {
        true => Err(Fault::Escapes),
        false => Ok(()),
    }
}
