//! Detects the kind of a path from its content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ima_format::kind::{Compression, Content, Foreign, Kind, Nested, HEAD_SIZE};
use rustix::fs::OFlags;

use super::formats::{Changes, Format, Named};
use super::oci;
use crate::advice::Advice;
use crate::compression;

/// Why a path is not processed as anything.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It could be read as either.
    #[error("it is {} and also {}", name(*.first), name(*.second))]
    Ambiguous {
        /// The one that it could be mistaken for.
        first: Content,
        /// Another.
        second: Content,
    },
    /// A directory of archives, which have the files.
    #[error(
        "{0}: its files are in archives or objects inside it, which --kind tree processes as plain files"
    )]
    Nested(Nested),
    /// A file with the name of a container, in a known format that is not supported.
    #[error("{0}")]
    Foreign(Foreign),
    /// A compressed image or package.
    #[error("{0}, compressed by {1}")]
    Packed(Kind, Compression),
    /// A file with the name of a container that is compressed, and does not unpack.
    #[error("compressed by {0}, and does not unpack")]
    NotUnpacked(Compression),
    /// A file with the name of a container, and any other content.
    #[error("file name says {0}, but its content is not one")]
    Misnamed(Named),
}

impl Advice for DetectError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read(_) => return None,
            Self::Ambiguous { .. } => {
                "somebody may have made it so that you sign other files than are used: --kind \
                 says how you use it"
            }
            Self::Nested(nested) => nested.hint(),
            Self::Foreign(Foreign::Lz4) => {
                "unpack it first (lz4 -d); --kind tree treats it as a plain file"
            }
            Self::Foreign(Foreign::Cpio) => {
                "--kind tree treats it as a plain file, as for an initramfs that kexec loads"
            }
            Self::Foreign(Foreign::Debian) => {
                "dpkg keeps no attributes: sign the files where they are installed; --kind tree \
                 processes it as a plain file"
            }
            Self::Packed(..) => "unpack it first; --kind tree treats it as a plain file",
            Self::NotUnpacked(_) | Self::Misnamed(_) => {
                "is it truncated? --kind tree treats it as a plain file"
            }
        })
    }
}

/// The result of detection. A file is opened once, so that all answers are about the same one.
#[derive(Debug)]
pub struct Found {
    /// How it is processed. [`Kind::Tree`] is for anything but a container.
    pub kind: Kind,
    /// By its first bytes.
    pub(super) content: Option<Content>,
    /// Its first bytes; none of a directory.
    pub(super) head: Vec<u8>,
    /// If it is a directory of archives or objects.
    pub(super) nested: Option<Nested>,
    path: PathBuf,
    file: Option<File>,
}

/// Detects the kind of `path`: a container if its first bytes say so, else a file or a directory for
/// [`Kind::Tree`]. As much of a compressed file is unpacked as is needed to see whether a tar archive
/// is in it. A symbolic link stands for the container that it leads to; one that leads to
/// anything else is for [`Kind::Tree`], which does not follow it.
///
/// # Errors
/// Those of looking at the file, and a file that is a container of two kinds.
pub fn detect(path: &Path) -> Result<Found, DetectError> {
    let mut found = Found {
        kind: Kind::Tree,
        content: None,
        head: Vec::new(),
        nested: None,
        path: path.to_owned(),
        file: None,
    };
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        // a file that cannot be read is reported when the directory is processed
        found.nested = nested(path).ok().flatten();
        if found.nested == Some(Nested::OciLayout) && oci::has_index(path) {
            found.kind = Kind::Oci;
        }
    }
    if !metadata.is_file() {
        return Ok(found);
    }
    let mut file = open(path)?;
    found.head = read_head(&mut file)?;
    found.content = single(&found.head)?;
    found.kind = kind_of(found.content, &found.head, &file)?;
    found.file = Some(file);
    Ok(found)
}

/// How a file is processed that begins with `head`; `rest` follows it.
fn kind_of(content: Option<Content>, head: &[u8], rest: &File) -> Result<Kind, DetectError> {
    Ok(match content {
        Some(Content::Compressed(compression)) => {
            // if it cannot be unpacked, it is a plain file
            let Ok(mut decoder) = compression::decoder(compression, head.chain(rest)) else {
                return Ok(Kind::Tree);
            };
            let inside = read_head(&mut decoder).unwrap_or_default();
            // other formats are read at any offset, which a decoder cannot do
            let format = single(&inside)?.and_then(Format::of);
            let stream = format.filter(|it| it.changes == Changes::Stream);
            match stream.map_or(Kind::Tree, |format| format.kind) {
                Kind::Tar if oci::is_archive(Box::new(inside.chain(decoder))) => Kind::Oci,
                kind => kind,
            }
        }
        Some(Content::Tar) if oci::is_archive(Box::new(head.chain(rest))) => Kind::Oci,
        content => content.and_then(Format::of).map_or(Kind::Tree, |format| format.kind),
    })
}

impl Found {
    /// How it is processed. Refuses files that would be signed as plain files though their names are
    /// those of containers: they are damaged, truncated or in an unsupported format; and directories
    /// whose files are in archives.
    ///
    /// # Errors
    /// These, and those of reading the file.
    pub fn checked(self) -> Result<Kind, DetectError> {
        match self {
            Self { kind: Kind::Tree, nested: Some(nested), .. } => Err(DetectError::Nested(nested)),
            Self { kind: Kind::Tree, file: Some(file), path, head, .. } => {
                // a link is refused in its turn
                let is_link = fs::symlink_metadata(&path)?.is_symlink();
                let name = path.file_name().unwrap_or_default().as_bytes();
                match Named::of(name).filter(|_| !is_link) {
                    Some(named) => check_name(named, &head, file),
                    None => Ok(Kind::Tree),
                }
            }
            Self { kind, .. } => Ok(kind),
        }
    }
}

/// Looks closer at a file that is a container by its name and none by its content.
fn check_name(named: Named, head: &[u8], mut file: File) -> Result<Kind, DetectError> {
    file.seek(io::SeekFrom::Start(head.len() as u64))?;
    // blocks of zeros are an empty archive
    let rest = |head: &[u8], rest: &mut dyn Read| match is_zeros(head.chain(rest))? {
        true if named == Named::Container(Kind::Tar) => Ok(Kind::Tar),
        _ => Err(DetectError::Misnamed(named)),
    };
    if let Some(foreign) = Foreign::of(head) {
        return Err(DetectError::Foreign(foreign));
    }
    let Some(Content::Compressed(compression)) = Content::of(head) else {
        return rest(head, &mut file);
    };
    let unpacked = compression::decoder(compression, head.chain(file)).and_then(|mut decoder| {
        let inside = read_head(&mut decoder)?;
        Ok(match (Format::of_head(&inside), Foreign::of(&inside)) {
            (Some(format), _) => Err(DetectError::Packed(format.kind, compression)),
            (None, Some(foreign)) => Err(DetectError::Foreign(foreign)),
            (None, None) => rest(&inside, &mut decoder),
        })
    });
    match unpacked {
        Ok(Err(DetectError::Read(_))) | Err(_) => Err(DetectError::NotUnpacked(compression)),
        Ok(other) => other,
    }
}

/// The content of a file that begins with `head`. Two formats of one kind are for its reader to refuse.
fn single(head: &[u8]) -> Result<Option<Content>, DetectError> {
    let kind = |content| Format::of(content).map(|format| format.kind);
    let Some(first) = Content::of(head) else { return Ok(None) };
    match Content::all(head).find(|other| kind(*other) != kind(first)) {
        Some(second) => Err(DetectError::Ambiguous { first, second }),
        None => Ok(Some(first)),
    }
}

/// As in "a tar archive".
fn name(content: Content) -> String {
    match content {
        Content::Compressed(compression) => format!("compressed by {compression}"),
        _ => Format::of(content).map_or_else(String::new, |format| format.name.to_owned()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: should it have become a FIFO by now, opening does not wait for a writer
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// The form of a directory of archives or objects, which have its files.
///
/// # Errors
/// Those of reading its files, but for a file that is not there.
pub(super) fn nested(directory: &Path) -> io::Result<Option<Nested>> {
    for marker in Nested::MARKERS {
        let path = directory.join(marker);
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let mut content = Vec::new();
        open(&path)?.take(Nested::HEAD_SIZE as u64).read_to_end(&mut content)?;
        if let Some(nested) = Nested::of(marker.as_bytes(), &content) {
            return Ok(Some(nested));
        }
    }
    Ok(None)
}

/// Whether there is something, and nothing but zeros.
fn is_zeros(mut reader: impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut any = false;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(any),
            read if buffer[..read].iter().all(|byte| *byte == 0) => any = true,
            _ => return Ok(false),
        }
    }
}

fn read_head(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_SIZE);
    reader.take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    Ok(head)
}
