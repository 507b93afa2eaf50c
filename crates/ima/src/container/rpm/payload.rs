//! Unpacks a payload, a buffer at a time, and compares each file's content with its digest.
//! Nothing is written anywhere.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::hex::Hex;
use ima_format::kind::Compression;
use ima_format::rpm::cpio::{self, Form};
use ima_format::rpm::{tag, Fault, File, FileList};
use ima_format::Error as FormatError;

use super::package::{Content, FileSection};
use super::{DigestCheck, FileContent, PackageError};
use crate::compression;
use crate::digest::{DigestError, Hasher};

/// A fault of a payload as a whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum PayloadFinding {
    /// Its form is none that is known: not cpio, or another compression.
    Unknown(String),
    /// It does not unpack: damaged, cut, or larger in memory than is allowed.
    Compression {
        /// How much of it did, in bytes.
        unpacked: u64,
        /// The fault.
        error: io::Error,
    },
    /// The archive in it is malformed; the offset counts unpacked bytes.
    Archive(FormatError),
    /// The header lists a path twice: which of the two an entry is for is not known.
    ListedTwice(String),
}

impl fmt::Display for PayloadFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(form) => write!(f, "the payload is of an unknown form: {form}"),
            Self::Compression { unpacked, error } => {
                write!(f, "the payload does not unpack after {unpacked} bytes: {error}")
            }
            Self::Archive(error) => write!(f, "the payload's archive: {error}"),
            Self::ListedTwice(path) => write!(f, "the header lists {path} twice"),
        }
    }
}

/// The result of unpacking.
pub(super) struct Unpacked {
    pub(super) files: Vec<Option<FileContent>>,
    pub(super) digests: Vec<DigestCheck>,
    pub(super) finding: Option<PayloadFinding>,
}

impl Unpacked {
    /// Refuses a payload that does not match the header.
    pub(super) fn check(self, list: &FileList<'_>) -> Result<(), PackageError> {
        if let Some(finding) = self.finding {
            return Err(PackageError::Payload(finding));
        }
        if let Some(digest) = self.digests.iter().find(|digest| !digest.matches) {
            return Err(PackageError::PayloadDigest(digest.algorithm));
        }
        for (file, found) in list.iter().zip(self.files) {
            if let Some(found) = found.filter(|found| *found != FileContent::Matches) {
                let path = String::from_utf8_lossy(&list.path(file)).into_owned();
                return Err(PackageError::FileContent(path, found));
            }
        }
        Ok(())
    }
}

/// Reads all of the payload.
pub(super) fn unpack(content: &Content<'_>) -> Result<Unpacked, PackageError> {
    let compression = match payload_form(content)? {
        Ok(compression) => compression,
        Err(form) => {
            let finding = Some(PayloadFinding::Unknown(form));
            let files = vec![None; content.files.len()];
            return Ok(Unpacked { files, digests: Vec::new(), finding });
        }
    };
    let mut entries = Entries::new(&content.files);
    let finding = match unpack_archive(content, compression, &mut entries) {
        Ok(()) => None,
        Err(Trouble::Finding(finding)) => Some(finding),
        Err(Trouble::Digest(error)) => return Err(error.into()),
    };
    Ok(Unpacked { files: entries.compare(), digests: payload_digests(content)?, finding })
}

/// How the payload is compressed, `None` where it is not; or a form that is unknown.
fn payload_form(
    content: &Content<'_>,
) -> Result<Result<Option<Compression>, String>, PackageError> {
    let text = |tag| content.main.string(tag);
    let format = text(tag::PAYLOADFORMAT)?.unwrap_or(b"cpio");
    if format != b"cpio" {
        return Ok(Err(String::from_utf8_lossy(format).into_owned()));
    }
    Ok(Ok(Some(match text(tag::PAYLOADCOMPRESSOR)? {
        // as rpm, whose gzip reader passes on data that is not compressed
        None | Some(b"gzip") => {
            let mut magic = [0; 2];
            let mut payload =
                FileSection { file: &content.package.open.file, offset: content.payload_offset };
            match payload.read_exact(&mut magic) {
                Ok(()) if magic == [0x1f, 0x8b] => Compression::Gzip,
                _ => return Ok(Ok(None)),
            }
        }
        Some(b"bzip2") => Compression::Bzip2,
        Some(b"xz") => Compression::Xz,
        Some(b"lzma") => Compression::Lzma,
        Some(b"zstd") => Compression::Zstd,
        Some(b"identity" | b"none") => return Ok(Ok(None)),
        Some(other) => return Ok(Err(String::from_utf8_lossy(other).into_owned())),
    })))
}

enum Trouble {
    Finding(PayloadFinding),
    Digest(DigestError),
}

impl From<FormatError> for Trouble {
    fn from(error: FormatError) -> Self {
        Self::Finding(PayloadFinding::Archive(error))
    }
}

impl From<DigestError> for Trouble {
    fn from(error: DigestError) -> Self {
        Self::Digest(error)
    }
}

/// Unpacks the archive; `entries` learns of each content that is there.
fn unpack_archive(
    content: &Content<'_>,
    compression: Option<Compression>,
    entries: &mut Entries<'_>,
) -> Result<(), Trouble> {
    let raw = FileSection { file: &content.package.open.file, offset: content.payload_offset };
    let unpacked: Box<dyn Read + '_> = match compression {
        None => Box::new(raw),
        Some(compression) => compression::decoder(compression, raw).map_err(|error| {
            Trouble::Finding(PayloadFinding::Compression { unpacked: 0, error })
        })?,
    };
    let mut archive = Archive { unpacked, offset: 0, buffer: vec![0; 1 << 16] };
    let list = &content.files;
    let paths = paths(list)?;
    let mut hasher = Hasher::new(list.algorithm())?;
    while let Some(Member { index, declared, at }) = archive.next(&paths)? {
        let fault = |fault| FormatError::new(fault, at);
        let file = list.get(index).ok_or_else(|| fault(Fault::CpioUnknownFile))?;
        if file.is_ghost() {
            // rpm before 4.11 put some there, and rpm skips them by the size that they declare
            archive.content(declared.ok_or_else(|| fault(Fault::CpioUnknownFile))?, |_| Ok(()))?;
            continue;
        }
        entries.take(index).map_err(fault)?;
        let holds = file.has_content() && entries.holders[index] == index;
        let expected = if holds || file.is_symbolic_link() { file.size } else { 0 };
        let declared = declared.unwrap_or(expected);
        if declared != expected {
            return Err(fault(Fault::CpioSize { declared, expected }).into());
        }
        archive.content(expected, |bytes| hasher.update(bytes))?;
        let digest = hasher.finish()?;
        entries.digests[index] = Some(digest).filter(|_| holds);
    }
    archive.rest()
}

/// The number of each file by its path, which is relative: so are those in the payload.
fn paths(list: &FileList<'_>) -> Result<HashMap<Vec<u8>, usize>, Trouble> {
    let mut paths = HashMap::with_capacity(list.len());
    for (index, file) in list.iter().enumerate() {
        let path = list.path(file);
        let relative = path.strip_prefix(b"/").unwrap_or(&path);
        if paths.insert(relative.to_owned(), index).is_some() {
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(Trouble::Finding(PayloadFinding::ListedTwice(path)));
        }
    }
    Ok(paths)
}

/// Which files of the list the payload brings, and with which content.
struct Entries<'a> {
    list: &'a FileList<'a>,
    /// For each file, the number of the one with the content.
    holders: Vec<usize>,
    found: Vec<bool>,
    digests: Vec<Option<Digest>>,
    /// The name with the content that has to follow: rpm links whatever comes before it.
    awaited: Option<usize>,
}

impl<'a> Entries<'a> {
    fn new(list: &'a FileList<'a>) -> Self {
        let (found, digests) = (vec![false; list.len()], vec![None; list.len()]);
        Self { list, holders: list.content_holders(), found, digests, awaited: None }
    }

    /// Takes the entry of a file.
    fn take(&mut self, index: usize) -> Result<(), Fault> {
        let holder = self.holders[index];
        if self.found[index] {
            return Err(Fault::CpioTwice);
        }
        if self.found[holder] || self.awaited.is_some_and(|awaited| awaited != holder) {
            return Err(Fault::CpioNames);
        }
        self.found[index] = true;
        self.awaited = (holder != index).then_some(holder);
        Ok(())
    }

    /// The content of each file in the payload, if it has any.
    fn compare(&self) -> Vec<Option<FileContent>> {
        let compare = |(index, file): (usize, &File)| {
            let content = self.digests[self.holders[index]];
            match (self.found[index], file.has_content()) {
                _ if file.is_ghost() => None,
                (false, _) => Some(FileContent::Missing),
                (true, false) => None,
                (true, true) => Some(match (file.digest, content) {
                    (_, None) => FileContent::Missing,
                    (None, _) if self.list.may_lack_digest(file) => FileContent::Matches,
                    (None, _) => FileContent::NoDigest,
                    (Some(expected), Some(content)) if expected == content => FileContent::Matches,
                    (Some(_), Some(_)) => FileContent::Differs,
                }),
            }
        };
        self.list.iter().enumerate().map(compare).collect()
    }
}

/// An entry of the archive.
struct Member {
    /// The file's number.
    index: usize,
    /// The size that the entry states, if any.
    declared: Option<u64>,
    /// Where it begins.
    at: usize,
}

/// A cpio archive that is read front to back.
struct Archive<'a> {
    unpacked: Box<dyn Read + 'a>,
    offset: u64,
    buffer: Vec<u8>,
}

impl Archive<'_> {
    /// The next entry's header; `None` at the end.
    fn next(&mut self, paths: &HashMap<Vec<u8>, usize>) -> Result<Option<Member>, Trouble> {
        self.align()?;
        let at = self.offset as usize;
        let mut magic = [0; cpio::MAGIC_SIZE];
        self.read(&mut magic)?;
        match Form::of(magic, at)? {
            Form::Numbered => {
                let mut field = [0; cpio::NUMBERED_SIZE];
                self.read(&mut field)?;
                let index = cpio::read_numbered(&field, at + magic.len())? as usize;
                self.align()?;
                Ok(Some(Member { index, declared: None, at }))
            }
            Form::Named => {
                let mut fields = [0; cpio::NAMED_SIZE];
                self.read(&mut fields)?;
                let named = cpio::read_named(&fields, at + magic.len())?;
                let mut name = vec![0; named.name_size as usize];
                self.read(&mut name)?;
                self.align()?;
                let name = name.strip_suffix(&[0]).unwrap_or(&name);
                if name == cpio::TRAILER {
                    return Ok(None);
                }
                // in most packages ./usr/bin/ls, in others /usr/bin/ls, in source packages ls
                let path = name.strip_prefix(b"./").unwrap_or(name);
                let index = paths.get(path.strip_prefix(b"/").unwrap_or(path));
                let unknown = || FormatError::new(Fault::CpioUnknownFile, at);
                let index = *index.ok_or_else(unknown)?;
                Ok(Some(Member { index, declared: Some(named.size.into()), at }))
            }
        }
    }

    /// Reads an entry's data, a buffer at a time.
    fn content(
        &mut self,
        size: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), DigestError>,
    ) -> Result<(), Trouble> {
        let mut left = size;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read(&mut buffer[..part])?;
            take(&buffer[..part])?;
            left -= part as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Skips to a multiple of four.
    fn align(&mut self) -> Result<(), Trouble> {
        let pad = (self.offset.next_multiple_of(4) - self.offset) as usize;
        self.read(&mut [0; 4][..pad])
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Trouble> {
        let unpacked = self.offset;
        self.unpacked
            .read_exact(bytes)
            .map_err(|error| Trouble::Finding(PayloadFinding::Compression { unpacked, error }))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Reads on to the end of the stream, so that its own check sum is looked at. There can be
    /// nothing but padding.
    fn rest(&mut self) -> Result<(), Trouble> {
        let mut rest = self.unpacked.by_ref().take(1 << 20);
        let skipped = io::copy(&mut rest, &mut io::sink());
        let unpacked = self.offset;
        match skipped {
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Finding(PayloadFinding::Compression { unpacked, error })),
        }
    }
}

/// Compares the payload as it is, compressed, with the digests of it.
fn payload_digests(content: &Content<'_>) -> Result<Vec<DigestCheck>, PackageError> {
    let mut checks = Vec::new();
    if let Some(expected) = content.main.string(tag::PAYLOADSHA256)? {
        // the tag's name notwithstanding, another tag names the algorithm
        let algorithm = match content.main.number(tag::PAYLOADSHA256ALGO)? {
            None | Some(8) => HashAlgorithm::Sha256,
            Some(9) => HashAlgorithm::Sha384,
            Some(10) => HashAlgorithm::Sha512,
            Some(_) => return Ok(checks),
        };
        let digest = digest_from(content, content.payload_offset, algorithm)?;
        let matches = Hex(digest.as_bytes()).to_string().as_bytes() == expected;
        checks.push(DigestCheck { part: "payload", algorithm, matches });
    }
    if let Some(expected) = content.signature.binary(tag::SIG_MD5)? {
        match digest_from(content, content.main_offset, HashAlgorithm::Md5) {
            Ok(digest) => checks.push(DigestCheck {
                part: "header+payload",
                algorithm: HashAlgorithm::Md5,
                matches: digest.as_bytes() == expected,
            }),
            // a provider without MD5: nothing depends on it
            Err(DigestError::Unavailable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(checks)
}

fn digest_from(
    content: &Content<'_>,
    offset: u64,
    algorithm: HashAlgorithm,
) -> Result<Digest, DigestError> {
    let mut hasher = Hasher::new(algorithm)?;
    let mut section = FileSection { file: &content.package.open.file, offset };
    let mut buffer = vec![0; 1 << 17];
    loop {
        match section.read(&mut buffer)? {
            0 => return hasher.finish(),
            read => hasher.update(&buffer[..read])?,
        }
    }
}
