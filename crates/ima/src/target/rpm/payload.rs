//! Unpacks a payload, a buffer at a time, and compares each file's content with its digest.
//! Nothing is written anywhere.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::hex::Hex;
use ima_format::kind::Compression;
use ima_format::rpm::cpio::{self, Form};
use ima_format::rpm::{tag, Fault, FileList};
use ima_format::Error as FormatError;

use super::package::FileSection;
use super::verify::{DigestCheck, FileContent};
use super::{Content, PackageError};
use crate::compression;
use crate::digest::{DigestError, Hasher};

/// What is wrong with a payload as a whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum PayloadFinding {
    /// Its form is none that is known: not cpio, or another compression.
    Unknown(String),
    /// It does not unpack: damaged, cut, or larger in memory than is allowed.
    Compression {
        /// How much of it did, in bytes.
        unpacked: u64,
        /// What is wrong.
        error: io::Error,
    },
    /// The archive in it is malformed; the offset counts what is unpacked.
    Archive(FormatError),
}

impl fmt::Display for PayloadFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(form) => write!(f, "the payload is of an unknown form: {form}"),
            Self::Compression { unpacked, error } => {
                write!(f, "the payload does not unpack after {unpacked} bytes: {error}")
            }
            Self::Archive(error) => write!(f, "the payload's archive: {error}"),
        }
    }
}

/// What came of unpacking.
pub(super) struct Unpacked {
    pub(super) files: Vec<Option<FileContent>>,
    pub(super) digests: Vec<DigestCheck>,
    pub(super) finding: Option<PayloadFinding>,
}

/// Reads all of the payload.
pub(super) fn unpack(content: &Content<'_>) -> Result<Unpacked, PackageError> {
    let (digests, finding);
    let mut files = vec![None; content.files.len()];
    match payload_form(content)? {
        Err(form) => {
            digests = Vec::new();
            finding = Some(PayloadFinding::Unknown(form));
        }
        Ok(compression) => {
            finding = match unpack_archive(content, compression, &mut files) {
                Ok(()) => None,
                Err(Trouble::Finding(finding)) => Some(finding),
                Err(Trouble::Digest(error)) => return Err(error.into()),
            };
            digests = payload_digests(content)?;
        }
    }
    spread(&content.files, &mut files);
    Ok(Unpacked { files, digests, finding })
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
        // as rpm, whose gzip reader takes what is not compressed as it is
        None | Some(b"gzip") => {
            let mut magic = [0; 2];
            let mut payload =
                FileSection { file: &content.open.file, offset: content.payload_offset };
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

/// Unpacks the archive; `files` learns of each content that is there.
fn unpack_archive(
    content: &Content<'_>,
    compression: Option<Compression>,
    files: &mut [Option<FileContent>],
) -> Result<(), Trouble> {
    let raw = FileSection { file: &content.open.file, offset: content.payload_offset };
    let unpacked: Box<dyn Read + '_> = match compression {
        None => Box::new(raw),
        Some(compression) => compression::decoder(compression, raw).map_err(|error| {
            Trouble::Finding(PayloadFinding::Compression { unpacked: 0, error })
        })?,
    };
    let mut archive = Archive { unpacked, offset: 0, buffer: vec![0; 1 << 16] };
    let list = &content.files;
    let paths: HashMap<Vec<u8>, usize> =
        list.iter().enumerate().map(|(index, file)| (list.path(file), index)).collect();
    let holders = list.content_holders();
    let mut hasher = Hasher::new(list.algorithm())?;
    while let Some(member) = archive.next(&paths)? {
        let Member { index, declared, at } = member;
        let unknown = || FormatError::new(Fault::CpioUnknownFile, at);
        let file = list.get(index).ok_or_else(unknown)?;
        let holds = holders.get(index) == Some(&index);
        let expected = match file.is_regular() && holds || file.is_symbolic_link() {
            true => file.size,
            false => 0,
        };
        let size = declared.unwrap_or(expected);
        // a name of a file whose content comes with another may bring it all the same
        if size != expected && !(file.is_regular() && size == file.size) {
            let fault = Fault::CpioSize { declared: size, expected };
            return Err(FormatError::new(fault, at).into());
        }
        archive.content(size, |bytes| hasher.update(bytes))?;
        let digest = hasher.finish()?;
        // the first name of several says nothing, unless the file is empty
        if file.is_regular() && (size > 0 || file.size == 0) {
            let fits = file.digest.map_or(true, |expected| expected == digest);
            if let Some(found) = files.get_mut(index) {
                *found = Some(if fits { FileContent::Matches } else { FileContent::Differs });
            }
        }
    }
    archive.rest()
}

/// Gives each name of a file what was found of the one that has the content.
fn spread(list: &FileList<'_>, files: &mut [Option<FileContent>]) {
    for (index, holder) in list.content_holders().into_iter().enumerate() {
        let wanted = list.get(index).is_some_and(|file| file.is_regular() && !file.is_ghost());
        let found = files.get(index).copied().flatten().or(files.get(holder).copied().flatten());
        if let Some(slot) = files.get_mut(index) {
            *slot = wanted.then(|| found.unwrap_or(FileContent::Missing));
        }
    }
}

/// An entry of the archive.
struct Member {
    /// The file's number.
    index: usize,
    /// What the entry says of its size, where it says anything.
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
                // in binary packages ./usr/bin/ls, in source packages ls
                let path = name.strip_prefix(b".").filter(|rest| rest.starts_with(b"/"));
                let index = paths.get(path.unwrap_or(name)).or_else(|| paths.get(name));
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
            // a provider without MD5: nothing hangs on it
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
    let mut section = FileSection { file: &content.open.file, offset };
    let mut buffer = vec![0; 1 << 17];
    loop {
        match section.read(&mut buffer)? {
            0 => return hasher.finish(),
            read => hasher.update(&buffer[..read])?,
        }
    }
}
