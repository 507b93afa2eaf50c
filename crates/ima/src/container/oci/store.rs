//! The files of an image by their names: in a directory, or in an archive.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use ima_format::json::SIZE_MAX;
use ima_format::oci::BlobDigest;

use super::OciError;
use crate::container::source::{
    part, whole, Entry, EntryKind, Source, SourceError, SourceFile, Unread,
};
use crate::container::tar::Index;
use crate::container::tree::Directory;
use crate::container::Destination;
use crate::digest::Hasher;

/// How many links are followed to a file of an archive.
const LINKS: usize = 8;

/// The files of an image.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) backing: Backing,
    entries: HashMap<PathBuf, Entry>,
}

/// Where they are.
#[derive(Debug)]
pub(super) enum Backing {
    Archive(Index),
    Directory(Directory),
}

/// The digest and size of a file that a descriptor, or its name, states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) digest: Option<BlobDigest>,
    pub(super) size: Option<u64>,
}

impl Store {
    /// Lists a directory or an archive; `spool` is for the content of one that is compressed.
    pub(super) fn open(path: &Path, spool: &Path) -> Result<Self, OciError> {
        let backing = match path.is_dir() {
            true => Backing::Directory(Directory::open(path).map_err(SourceError::from)?),
            false => Backing::Archive(Index::open_in(path, spool)?),
        };
        let mut store = Self { backing, entries: HashMap::new() };
        let (mut entries, mut failed) = (HashMap::new(), None);
        store.source().list(&mut |found: Result<Entry, Unread>| match found {
            Ok(entry) => drop(entries.insert(entry.path.clone(), entry)),
            Err(unread) => failed = Some(unread),
        });
        if let Some(Unread { path, error }) = failed {
            return Err(OciError::Read { name: path.display().to_string(), source: error });
        }
        store.entries = entries;
        // programs differ in which of them they use
        match &store.backing {
            Backing::Archive(index) => match index.repeated() {
                Some(path) => Err(OciError::Repeated(path.display().to_string())),
                None => Ok(store),
            },
            Backing::Directory(_) => Ok(store),
        }
    }

    fn source(&self) -> &dyn Source {
        match &self.backing {
            Backing::Archive(index) => index,
            Backing::Directory(directory) => directory,
        }
    }

    /// Checks that a result can take the place of the whole in one step.
    pub(super) fn check_writable(&self, destination: &Destination) -> Result<(), OciError> {
        match (&self.backing, destination) {
            (Backing::Archive(_), _) | (_, Destination::Nowhere) => Ok(()),
            (Backing::Directory(_), Destination::InPlace) => match self.has("manifest.json") {
                true => Err(OciError::TwoForms),
                false => Ok(()),
            },
            (Backing::Directory(_), _) => Err(OciError::InPlaceOnly),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.resolve(name).is_ok()
    }

    /// The names of all blobs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &str> {
        let names = self.entries.values().filter(|entry| entry.size().is_some());
        let names = names.filter_map(|entry| entry.path.to_str()?.strip_prefix('/'));
        names.filter(|name| name.starts_with("blobs/"))
    }

    /// The file with a name, through links in an archive, and its size.
    fn entry(&self, name: &str) -> Result<(&Entry, u64), OciError> {
        let missing = || OciError::Missing(name.to_owned());
        let mut path = Path::new("/").join(name);
        for _ in 0..LINKS {
            let entry = self.entries.get(&path).ok_or_else(missing)?;
            match (&entry.kind, &self.backing) {
                (EntryKind::File { size }, _) => return Ok((entry, *size)),
                // as docker save writes a layer that is there twice
                (EntryKind::Link(target), Backing::Archive(_)) => path = join(&path, target),
                _ => break,
            }
        }
        Err(missing())
    }

    /// The name of the file itself that a name leads to.
    pub(super) fn resolve(&self, name: &str) -> Result<String, OciError> {
        let path = self.entry(name)?.0.path.to_str();
        Ok(path.and_then(|path| path.strip_prefix('/')).unwrap_or(name).to_owned())
    }

    fn open_file(&self, name: &str) -> Result<(Box<dyn SourceFile + '_>, u64), OciError> {
        let (entry, size) = self.entry(name)?;
        let read = |source| OciError::Read { name: name.to_owned(), source };
        Ok((self.source().open(entry).map_err(read)?, size))
    }

    /// A whole document, which is checked.
    pub(super) fn document(&self, name: &str, expected: &Expected) -> Result<Vec<u8>, OciError> {
        let (file, size) = self.open_file(name)?;
        let too_large = || OciError::TooLarge(name.to_owned());
        if size > SIZE_MAX as u64 {
            return Err(too_large());
        }
        let text = whole(&*file, SIZE_MAX);
        let text = text.map_err(|source| OciError::Read { name: name.to_owned(), source })?;
        let text = text.ok_or_else(too_large)?;
        let digest = |digest: &BlobDigest| of_bytes(digest, &text);
        let found = expected.digest.as_ref().map(digest).transpose()?;
        expected.check(name, found.as_ref(), text.len() as u64)?;
        Ok(text)
    }

    /// Up to `length` bytes from an offset; from the end, where that is negative.
    pub(super) fn part(&self, name: &str, offset: i64, length: usize) -> Result<Vec<u8>, OciError> {
        let (file, size) = self.open_file(name)?;
        let start = match u64::try_from(offset) {
            Ok(offset) => offset,
            Err(_) => size.saturating_sub(offset.unsigned_abs()),
        };
        part(&*file, start, length)
            .map_err(|source| OciError::Read { name: name.to_owned(), source })
    }

    /// A file from its first byte to its last.
    pub(super) fn reader(&self, name: &str) -> Result<Reader<'_>, OciError> {
        let (file, size) = self.open_file(name)?;
        Ok(Reader { file, offset: 0, size })
    }
}

impl Expected {
    /// Compares them with the file.
    pub(super) fn check(
        &self,
        name: &str,
        digest: Option<&BlobDigest>,
        size: u64,
    ) -> Result<(), OciError> {
        let differs = |what| Err(OciError::Differs { name: name.to_owned(), what });
        match self {
            Self { size: Some(expected), .. } if *expected != size => differs("size"),
            Self { digest: Some(expected), .. } if Some(expected) != digest => differs("digest"),
            _ => Ok(()),
        }
    }
}

/// A digest of bytes, by the algorithm of another one.
pub(super) fn of_bytes(like: &BlobDigest, bytes: &[u8]) -> Result<BlobDigest, OciError> {
    let mut hashing = Hashing::new(io::sink(), like)?;
    hashing.write_all(bytes).map_err(OciError::Write)?;
    Ok(hashing.finish()?.digest)
}

/// The path that a link leads to, which does not leave the top.
pub(super) fn join(link: &Path, target: &Path) -> PathBuf {
    let mut path = link.parent().unwrap_or(link).to_owned();
    for component in target.components() {
        match component {
            Component::RootDir => path = PathBuf::from("/"),
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

/// Reads a file of an image.
pub(super) struct Reader<'a> {
    file: Box<dyn SourceFile + 'a>,
    offset: u64,
    size: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(self.offset, &mut buffer[..most]).map_err(io::Error::other)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Digests a stream on its way.
pub(super) struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    size: u64,
}

/// The end of a stream, its digest and size.
pub(super) struct Passed<T> {
    pub(super) inner: T,
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
}

impl<T> Hashing<T> {
    /// By the algorithm of a digest.
    pub(super) fn new(inner: T, like: &BlobDigest) -> Result<Self, OciError> {
        Ok(Self { inner, hasher: Hasher::new(like.algorithm())?, size: 0 })
    }

    fn passed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes).map_err(io::Error::other)
    }

    pub(super) fn finish(mut self) -> Result<Passed<T>, OciError> {
        let digest = self.hasher.finish()?;
        let digest = BlobDigest::new(digest.algorithm(), digest.as_bytes());
        let malformed = |fault| OciError::Malformed {
            name: "digest".to_owned(),
            error: ima_format::Error::new(fault, 0),
        };
        Ok(Passed { inner: self.inner, digest: digest.map_err(malformed)?, size: self.size })
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read])?;
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
