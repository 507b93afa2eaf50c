//! One open package: its headers read, its main header held against its digests.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ima_format::hash::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::kind;
use ima_format::rpm::{
    read_lead, tag, FileList, Header, Intro, PackageType, Section, INTRO_SIZE, LEAD_SIZE,
};
use ima_format::{Error as FormatError, ErrorKind};

use super::{DigestCheck, PackageError};
use crate::container::tree::{Candidate, Folders, OpenFile};
use crate::container::ItemError;
use crate::digest::{DigestError, Hasher};

/// The name, version and architecture of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name, version, release and architecture, as rpm prints them.
    pub name: String,
    /// The format: 4 or 6.
    pub format: u64,
    /// Binary or source.
    pub package_type: PackageType,
}

/// An open package.
pub(super) struct Package {
    pub(super) candidate: Candidate,
    /// Its name below the directory that was named, or its own.
    pub(super) below: PathBuf,
    pub(super) open: OpenFile<'static>,
    pub(super) lead: Vec<u8>,
    signature: Vec<u8>,
    main: Vec<u8>,
}

/// An open package, its headers read.
pub(super) struct Content<'a> {
    pub(super) package: &'a Package,
    pub(super) identity: Identity,
    pub(super) signature: Header<'a>,
    pub(super) main: Header<'a>,
    pub(super) files: FileList<'a>,
    /// Where the main header begins.
    pub(super) main_offset: u64,
    /// Where the payload begins.
    pub(super) payload_offset: u64,
}

impl Package {
    /// Opens a package. `None` where it is no package, has not the name of one, and was not named.
    pub(super) fn open(
        candidate: Candidate,
        below: PathBuf,
        folders: &mut Folders,
    ) -> Result<Option<Self>, PackageError> {
        let open = OpenFile::open(&candidate, folders)?.into_owned();
        let called_so = candidate.path.extension().is_some_and(|extension| extension == "rpm");
        if !candidate.named && !called_so && !is_package(&open.file)? {
            return Ok(None);
        }
        let lead = read_at(&open.file, 0, LEAD_SIZE)?;
        read_lead(&lead)?;
        let signature = read_header(&open.file, LEAD_SIZE, Section::Signature)?;
        // before the bytes after it are parsed as a header
        Header::read(&signature, LEAD_SIZE, Section::Signature)?;
        let main = read_header(&open.file, LEAD_SIZE + signature.len(), Section::Main)?;
        Ok(Some(Self { candidate, below, open, lead, signature, main }))
    }

    /// Reads its headers.
    pub(super) fn content(&self) -> Result<Content<'_>, PackageError> {
        let main_offset = LEAD_SIZE + self.signature.len();
        let main = Header::read(&self.main, main_offset, Section::Main)?;
        Ok(Content {
            package: self,
            identity: Identity::read(&main, read_lead(&self.lead)?)?,
            signature: Header::read(&self.signature, LEAD_SIZE, Section::Signature)?,
            files: FileList::read(&main)?,
            main,
            main_offset: main_offset as u64,
            payload_offset: (main_offset + self.main.len()) as u64,
        })
    }
}

/// Whether a file's first bytes are a package's.
fn is_package(file: &File) -> Result<bool, ItemError> {
    let mut magic = [0; 4];
    let read = file.read_at(&mut magic, 0).map_err(ItemError::Read)?;
    Ok(kind::Content::of(&magic[..read]) == Some(kind::Content::Rpm))
}

impl Identity {
    fn read(main: &Header<'_>, lead_type: PackageType) -> Result<Self, FormatError> {
        let text = |tag| -> Result<String, FormatError> {
            let text = String::from_utf8_lossy(main.string(tag)?.unwrap_or(b"?"));
            // the text is shown on terminals
            Ok(text.replace(char::is_control, "\u{fffd}"))
        };
        // as `headerIsSource`
        let package_type = match main.find(tag::SOURCERPM) {
            Some(_) => lead_type,
            None => PackageType::Source,
        };
        let arch = match package_type {
            PackageType::Binary => text(tag::ARCH)?,
            PackageType::Source => "src".to_owned(),
        };
        let epoch = match main.number(tag::EPOCH)? {
            Some(epoch) => format!("{epoch}:"),
            None => String::new(),
        };
        let (name, version, release) = (text(tag::NAME)?, text(tag::VERSION)?, text(tag::RELEASE)?);
        Ok(Self {
            name: format!("{name}-{epoch}{version}-{release}.{arch}"),
            format: main.number(tag::RPMFORMAT)?.unwrap_or(4),
            package_type,
        })
    }
}

impl Content<'_> {
    /// Compares the main header with the digests of it in the signature header.
    pub(super) fn header_digests(&self) -> Result<Vec<DigestCheck>, PackageError> {
        let mut found = Vec::new();
        for (tag, algorithm) in [
            (tag::SIG_SHA1, HashAlgorithm::Sha1),
            (tag::SIG_SHA256, HashAlgorithm::Sha256),
            (tag::SIG_SHA3_256, HashAlgorithm::Sha3_256),
        ] {
            let Some(expected) = self.signature.string(tag)? else { continue };
            let digest = match Hasher::new(algorithm) {
                Ok(mut hasher) => hasher.digest(self.main.bytes())?,
                // a provider without SHA-1: the others have to do
                Err(DigestError::Unavailable(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let matches = Hex(digest.as_bytes()).to_string().as_bytes() == expected;
            found.push(DigestCheck { part: "header", algorithm, matches });
        }
        Ok(found)
    }

    /// Refuses a package whose main header is not the one that was built.
    pub(super) fn check_header(&self) -> Result<(), PackageError> {
        match self.header_digests()?.iter().find(|digest| !digest.matches) {
            Some(digest) => Err(PackageError::HeaderDigest(digest.algorithm)),
            None => Ok(()),
        }
    }
}

fn read_header(file: &File, offset: usize, section: Section) -> Result<Vec<u8>, PackageError> {
    let intro = read_at(file, offset, INTRO_SIZE)?;
    let size = Intro::read(&intro, offset, section)?.size(section);
    read_at(file, offset, size)
}

/// Reads so many bytes; memory grows with the input, not with the size that is asked for.
fn read_at(file: &File, offset: usize, size: usize) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    let mut section = FileSection { file, offset: offset as u64 }.take(size as u64);
    section.read_to_end(&mut bytes).map_err(ItemError::Read)?;
    match bytes.len() == size {
        true => Ok(bytes),
        false => {
            let kind = ErrorKind::Truncated { needed: size, available: bytes.len() };
            Err(FormatError::new(kind, offset).into())
        }
    }
}

/// A file from an offset on, read without moving the file's own position.
#[derive(Debug)]
pub(super) struct FileSection<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Read for FileSection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
