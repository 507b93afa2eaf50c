//! The files of a package, as its main header lists them.

use alloc::vec::Vec;

use super::{tag, Fault, Header};
use crate::hash::{Digest, HashAlgorithm};
use crate::{hex, Error};

/// `RPMFILE_CONFIG`: the administrator may change it.
pub const FILE_CONFIG: u32 = 1;
/// `RPMFILE_GHOST`: the package owns it and does not bring it.
pub const FILE_GHOST: u32 = 1 << 6;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its directory's number.
    directory: usize,
    /// Where in the list's text the last part of its name is.
    name: (usize, usize),
    /// `st_mode`.
    pub mode: u16,
    /// `RPMFILE_` flags.
    pub flags: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Device and inode on the machine that built it: the same for names of one file. `None`
    /// where the header does not say, or says 0.
    pub device_and_inode: Option<(u64, u64)>,
    /// The digest of its content. A file without content ([`File::has_content`]) has none,
    /// whatever the header lists.
    pub digest: Option<Digest>,
}

impl File {
    /// Whether the payload brings its content, under its own or another name: a regular file
    /// that is not a ghost. Nothing else gets a signature.
    pub fn has_content(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000 && !self.is_ghost()
    }

    /// Whether it can be another name of a file: its content is the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.size, self.digest) == (other.size, other.digest)
    }

    /// Whether it is a symbolic link.
    pub fn is_symbolic_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// Whether it is of a type that rpm installs: socket, link, regular file, block device,
    /// directory, character device, FIFO.
    fn has_known_type(&self) -> bool {
        matches!(self.mode >> 12, 0o14 | 0o12 | 0o10 | 0o6 | 0o4 | 0o2 | 0o1)
    }

    /// Whether the package only lays claim to it.
    pub fn is_ghost(&self) -> bool {
        self.flags & FILE_GHOST != 0
    }
}

/// All files of a package.
#[derive(Debug, Clone)]
pub struct FileList<'a> {
    files: Vec<File>,
    directories: Vec<&'a [u8]>,
    names: Vec<&'a [u8]>,
    algorithm: HashAlgorithm,
}

impl<'a> FileList<'a> {
    /// Reads the list; a package may have no files.
    ///
    /// # Errors
    /// Lists of unequal length, directories that are not there, digests that are none.
    pub fn read(header: &Header<'a>) -> Result<Self, Error> {
        let algorithm = digest_algorithm(header)?;
        let none =
            Self { files: Vec::new(), directories: Vec::new(), names: Vec::new(), algorithm };
        for tag in [tag::OLDFILENAMES, tag::ORIGBASENAMES, tag::FILESIGNATURES] {
            if let Some(entry) = header.find(tag) {
                return Err(Error::new(Fault::OtherList(tag), header.offset_of(entry)));
            }
        }
        let Some(names) = header.strings(tag::BASENAMES)? else { return Ok(none) };
        let names = names.map(|(at, name)| read_name(name, at)).collect::<Result<Vec<_>, _>>()?;
        let directories =
            header.strings(tag::DIRNAMES)?.ok_or_else(|| missing(header, tag::DIRNAMES))?;
        let directories = directories
            .map(|(at, name)| read_directory(name, at))
            .collect::<Result<Vec<_>, _>>()?;
        let count = names.len();
        // as `rpmfilesFSize`, where a header has both
        let short = header.find(tag::FILESIZES).is_some();
        let mut sizes =
            numbers(header, if short { tag::FILESIZES } else { tag::LONGFILESIZES }, count)?;
        let mut modes = numbers(header, tag::FILEMODES, count)?;
        let mut flags = numbers(header, tag::FILEFLAGS, count)?;
        let mut indexes = numbers(header, tag::DIRINDEXES, count)?;
        let mut devices = optional_numbers(header, tag::FILEDEVICES, count)?;
        let mut inodes = optional_numbers(header, tag::FILEINODES, count)?;
        check_count(header, tag::FILELINKTOS, count)?;
        let mut targets = header.strings(tag::FILELINKTOS)?;
        check_count(header, tag::FILEDIGESTS, count)?;
        let mut digests = header.strings(tag::FILEDIGESTS)?;
        let mut files = Vec::with_capacity(count);
        for (index, name) in names.iter().enumerate() {
            let next = |numbers: &mut dyn Iterator<Item = (usize, u64)>| {
                numbers.next().unwrap_or_default()
            };
            let (at, directory) = next(&mut indexes);
            if directory >= directories.len() as u64 {
                let directory = u32::try_from(directory).unwrap_or(u32::MAX);
                return Err(Error::new(Fault::DirectoryIndex(directory), at));
            }
            if name.is_empty() && directories.get(directory as usize) != Some(&b"/".as_slice()) {
                return Err(Error::new(Fault::FileName, at));
            }
            let digest = match digests.as_mut().and_then(|digests| digests.next()) {
                Some((at, text)) => read_digest(text, algorithm, at)?,
                None => None,
            };
            let optional = |numbers: &mut Option<_>| numbers.as_mut().map(next_of);
            let identity = optional(&mut devices).zip(optional(&mut inodes));
            let mut file = File {
                directory: directory as usize,
                name: (index, name.len()),
                mode: next(&mut modes).1 as u16,
                flags: next(&mut flags).1 as u32,
                size: next(&mut sizes).1,
                device_and_inode: identity.filter(|(_, inode)| *inode > 0),
                digest,
            };
            let target = targets.as_mut().and_then(|targets| targets.next());
            let (at, target) = target.unwrap_or((header.position, b""));
            if !file.has_known_type() || file.is_symbolic_link() && target.is_empty() {
                return Err(Error::new(Fault::FileType(file.mode), at));
            }
            file.digest = digest.filter(|_| file.has_content());
            files.push(file);
        }
        Ok(Self { files, directories, names, algorithm })
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files, in the header's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &File> {
        self.files.iter()
    }

    /// The file with this number.
    pub fn get(&self, index: usize) -> Option<&File> {
        self.files.get(index)
    }

    /// A file's path: absolute, but for source packages.
    pub fn path(&self, file: &File) -> Vec<u8> {
        let directory = self.directories.get(file.directory).copied().unwrap_or_default();
        let name = self.names.get(file.name.0).copied().unwrap_or_default();
        [directory, name].concat()
    }

    /// The algorithm of the files' digests.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Whether rpm installs a file without a digest: an empty one, from when digests were by MD5.
    pub fn may_lack_digest(&self, file: &File) -> bool {
        file.size == 0 && self.algorithm == HashAlgorithm::Md5
    }

    /// For each file, the number of the one that has the content in the payload: itself, but
    /// of several names of one file the last (`rpmfilesBuildNLink`).
    pub fn content_holders(&self) -> Vec<usize> {
        let mut holders: Vec<usize> = (0..self.files.len()).collect();
        let linked = |index: &usize| {
            let file = self.files.get(*index)?;
            file.device_and_inode.filter(|_| file.has_content())
        };
        let mut regular: Vec<usize> =
            holders.iter().copied().filter(|i| linked(i).is_some()).collect();
        regular.sort_by_key(|index| (linked(index), *index));
        let mut last: Option<usize> = None;
        for index in regular.iter().rev() {
            let holder = match last {
                Some(last) if linked(&last) == linked(index) => last,
                _ => *index,
            };
            if let Some(slot) = holders.get_mut(*index) {
                *slot = holder;
            }
            last = Some(holder);
        }
        holders
    }

    /// Two names of one file of which the header says different things; the second is the
    /// one with the content.
    pub fn names_that_disagree(&self) -> Option<(&File, &File)> {
        let holders = self.content_holders();
        self.files.iter().zip(holders).find_map(|(file, holder)| {
            let holder = self.get(holder)?;
            (!file.agrees_with(holder)).then_some((file, holder))
        })
    }
}

/// The last part of a file's name. rpm would go where it leads to; `/` alone has an empty one.
fn read_name(name: &[u8], at: usize) -> Result<&[u8], Error> {
    match name.contains(&b'/') || matches!(name, b"." | b"..") {
        true => Err(Error::new(Fault::FileName, at)),
        false => Ok(name),
    }
}

/// A directory's name, which rpm adds nothing to when it prints a path; in source packages it
/// is empty.
fn read_directory(name: &[u8], at: usize) -> Result<&[u8], Error> {
    let leads_back = name.split(|byte| *byte == b'/').any(|part| matches!(part, b"." | b".."));
    match leads_back || !(name.is_empty() || name.ends_with(b"/")) {
        true => Err(Error::new(Fault::DirectoryName, at)),
        false => Ok(name),
    }
}

fn next_of(numbers: &mut impl Iterator<Item = (usize, u64)>) -> u64 {
    numbers.next().map_or(0, |(_, number)| number)
}

fn missing(header: &Header<'_>, tag: u32) -> Error {
    Error::new(Fault::MissingTag(tag), header.position)
}

fn check_count(header: &Header<'_>, tag: u32, expected: usize) -> Result<(), Error> {
    match header.find(tag) {
        Some(entry) if entry.count as usize != expected => {
            let expected = u32::try_from(expected).unwrap_or(u32::MAX);
            let fault = Fault::FileCount { tag, count: entry.count, expected };
            Err(Error::new(fault, header.offset_of(entry)))
        }
        _ => Ok(()),
    }
}

/// The numbers of a tag that has one for each file, if it is there.
fn optional_numbers<'a>(
    header: &Header<'a>,
    tag: u32,
    count: usize,
) -> Result<Option<impl Iterator<Item = (usize, u64)> + 'a>, Error> {
    check_count(header, tag, count)?;
    header.numbers(tag)
}

fn numbers<'a>(
    header: &Header<'a>,
    tag: u32,
    count: usize,
) -> Result<impl Iterator<Item = (usize, u64)> + 'a, Error> {
    optional_numbers(header, tag, count)?.ok_or_else(|| missing(header, tag))
}

/// The algorithm that the header names, by its number in OpenPGP; MD5 where it names none.
fn digest_algorithm(header: &Header<'_>) -> Result<HashAlgorithm, Error> {
    let mut numbers = header.numbers(tag::FILEDIGESTALGO)?;
    let Some((at, id)) = numbers.as_mut().and_then(|numbers| numbers.next()) else {
        return Ok(HashAlgorithm::Md5);
    };
    let unknown = Fault::DigestAlgorithm(u32::try_from(id).unwrap_or(u32::MAX));
    algorithm_of_id(id).ok_or(Error::new(unknown, at))
}

/// The algorithm with this number in OpenPGP (RFC 9580, 9.5).
pub(super) fn algorithm_of_id(id: u64) -> Option<HashAlgorithm> {
    Some(match id {
        1 => HashAlgorithm::Md5,
        2 => HashAlgorithm::Sha1,
        3 => HashAlgorithm::Rmd160,
        8 => HashAlgorithm::Sha256,
        9 => HashAlgorithm::Sha384,
        10 => HashAlgorithm::Sha512,
        11 => HashAlgorithm::Sha224,
        12 => HashAlgorithm::Sha3_256,
        14 => HashAlgorithm::Sha3_512,
        _ => return None,
    })
}

/// A digest in hexadecimal; an empty one, and one of zeros, stand for none.
fn read_digest(text: &[u8], algorithm: HashAlgorithm, at: usize) -> Result<Option<Digest>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = hex::decode(text).map_err(|offset| Error::new(Fault::FileDigest, at + offset))?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    Digest::new(algorithm, &bytes).map(Some).ok_or(Error::new(Fault::FileDigest, at))
}
