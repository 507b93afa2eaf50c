//! What a path holds, told by its content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ima_format::kind::{Compression, Content, Foreign, Kind, Nested, HEAD_SIZE};
use rustix::fs::OFlags;

use super::formats::{Changes, Format};
use super::oci;
use crate::advice::Advice;
use crate::compression;

/// Why it is not known what is at a path.
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
}

impl Advice for DetectError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Read(_) => None,
            Self::Ambiguous { .. } => Some(
                "somebody may have made it so that you sign other files than are used: --kind \
                 says how you use it",
            ),
        }
    }
}

/// What is at `path`: a container if its first bytes say so, else a file or a directory for
/// [`Kind::Tree`]. Of a compressed file as much is unpacked as tells whether a tar archive is
/// in it. A symbolic link stands for the container that it leads to; one that leads to
/// anything else is for [`Kind::Tree`], which does not follow it.
///
/// # Errors
/// Those of looking at the file, and a file that is a container of two kinds.
pub fn kind_of(path: &Path) -> Result<Kind, DetectError> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() && oci::is_layout(path) {
        return Ok(Kind::Oci);
    }
    if !metadata.is_file() {
        return Ok(Kind::Tree);
    }
    let mut file = open(path)?;
    let head = read_head(&mut file)?;
    Ok(match single(&head)? {
        Some(Content::Compressed(compression)) => {
            // if it cannot be unpacked, it is a plain file
            let Ok(mut decoder) = compression::decoder(compression, head.chain(file)) else {
                return Ok(Kind::Tree);
            };
            let inside = read_head(&mut decoder).unwrap_or_default();
            // what is not a stream is read at any offset, which a decoder cannot do
            let format = single(&inside)?.and_then(Format::of);
            let stream = format.filter(|it| it.changes == Changes::Stream);
            match stream.map_or(Kind::Tree, |format| format.kind) {
                Kind::Tar if oci::is_archive(Box::new(inside.chain(decoder))) => Kind::Oci,
                kind => kind,
            }
        }
        Some(Content::Tar) if oci::is_archive(Box::new(head.chain(file))) => Kind::Oci,
        content => content.and_then(Format::of).map_or(Kind::Tree, |format| format.kind),
    })
}

/// What a file that begins with `head` holds. Two formats of one kind are for its reader to refuse.
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

/// What a directory is that holds archives, whose files are in these.
///
/// # Errors
/// Those of reading its files, but for a file that is not there.
pub fn nested(directory: &Path) -> io::Result<Option<Nested>> {
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

/// Why a file with the name of a container is none.
#[derive(Debug, Clone, Copy)]
pub enum Mismatch {
    /// Nothing but zeros, which is an empty tar archive.
    Zeros,
    /// Compressed, and does not unpack: cut short, or damaged.
    NotUnpacked(Compression),
    /// An image or a package, compressed.
    Packed(Compression, &'static Format),
    /// A known format that is not supported.
    Foreign(Foreign),
    /// Anything else.
    Unknown,
}

/// Looks closer at a file that is a container by its name and none by its content.
///
/// # Errors
/// Those of reading it.
pub fn mismatch(path: &Path) -> io::Result<Mismatch> {
    let mut file = open(path)?;
    let head = read_head(&mut file)?;
    let Some(Content::Compressed(compression)) = Content::of(&head) else {
        return match Foreign::of(&head) {
            Some(foreign) => Ok(Mismatch::Foreign(foreign)),
            None => is_zeros(head.chain(file)).map(|zeros| zero_or(zeros, Mismatch::Unknown)),
        };
    };
    let unpacked = compression::decoder(compression, head.chain(file)).and_then(|mut decoder| {
        let inside = read_head(&mut decoder)?;
        Ok(match (Format::of_head(&inside), Foreign::of(&inside)) {
            (Some(format), _) => Mismatch::Packed(compression, format),
            (None, Some(foreign)) => Mismatch::Foreign(foreign),
            (None, None) => zero_or(is_zeros(inside.chain(decoder))?, Mismatch::Unknown),
        })
    });
    Ok(unpacked.unwrap_or(Mismatch::NotUnpacked(compression)))
}

fn zero_or(zeros: bool, otherwise: Mismatch) -> Mismatch {
    match zeros {
        true => Mismatch::Zeros,
        false => otherwise,
    }
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
