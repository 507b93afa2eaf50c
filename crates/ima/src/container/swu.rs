//! An update of SWUpdate (`.swu`), as preflight reads it: a cpio archive whose first file describes it.
//!
//! cpio has no attributes, so no verb signs or verifies it. SWUpdate unpacks scripts to its directory for
//! temporary files, makes them executable whatever mode they have here
//! (`handlers/shell_scripthandler.c`), and executes them by their paths; programs that it copies to the
//! root come without attributes, too.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ima_format::rpm::cpio::{self, Form};

use super::source::{Entry, EntryKind, Source, SourceError, SourceFile, Visit};
use super::AttributeName;
use crate::input;

/// The file that an update begins with.
const DESCRIPTION: &[u8] = b"sw-description";
/// More files than any update has.
const MOST: usize = 1 << 16;

/// Why an update is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwuError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A header that is malformed.
    #[error(transparent)]
    Malformed(#[from] ima_format::Error),
    /// It ends within an entry.
    #[error("truncated: the entry at offset {0} is not complete")]
    Truncated(u64),
    /// A name that is not one of a file in this directory, or is there twice.
    #[error("invalid or repeated file name at offset {0}")]
    Name(u64),
    /// Too many files.
    #[error("more than {MOST} files")]
    Files,
}

/// The files of an update.
#[derive(Debug)]
pub(super) struct Update {
    file: File,
    entries: Vec<Entry>,
    /// Where their contents begin.
    contents: Vec<u64>,
}

/// Whether a file begins as an update does.
pub(super) fn is_update(head: &[u8]) -> bool {
    let name = head.get(cpio::MAGIC_SIZE + cpio::NAMED_SIZE..).unwrap_or_default();
    (head.starts_with(b"070701") || head.starts_with(b"070702"))
        && name.strip_prefix(DESCRIPTION).is_some_and(|rest| rest.first() == Some(&0))
}

impl Update {
    pub(super) fn open(path: &Path) -> Result<Self, SwuError> {
        let file = input::open(path)?;
        let size = file.metadata()?.len();
        let mut update = Self { file, entries: Vec::new(), contents: Vec::new() };
        let mut at = 0;
        while let Some((name, content, length)) = update.entry(at, size)? {
            if update.entries.len() == MOST {
                return Err(SwuError::Files);
            }
            let name = PathBuf::from(std::ffi::OsString::from_vec(name));
            let path = Path::new("/").join(&name);
            let repeated = update.entries.iter().any(|entry| entry.path == path);
            if repeated || name.file_name() != Some(name.as_os_str()) {
                return Err(SwuError::Name(at));
            }
            let identity = (0, update.contents.len() as u64);
            let kind = EntryKind::File { size: length };
            let mode = update.mode(content, length)?;
            update.entries.push(Entry { path, kind, mode, uid: 0, gid: 0, identity });
            update.contents.push(content);
            at = (content + length).next_multiple_of(4);
        }
        Ok(update)
    }

    /// A mode that goes with the content: programs and scripts are made executable, images are not.
    fn mode(&self, start: u64, size: u64) -> io::Result<u32> {
        let mut head = [0; 4];
        let head = &mut head[..size.min(4) as usize];
        self.file.read_exact_at(head, start)?;
        let is_program = head.starts_with(b"#!") || head == b"\x7fELF";
        Ok(if is_program { 0o755 } else { 0o644 })
    }

    /// The name of the entry at an offset, and where its content is; `None` at the end.
    fn entry(&self, at: u64, size: u64) -> Result<Option<(Vec<u8>, u64, u64)>, SwuError> {
        let read = |bytes: &mut [u8], offset| match self.file.read_exact_at(bytes, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(SwuError::Truncated(at)),
            other => Ok(other?),
        };
        let (mut magic, mut fields) = ([0; cpio::MAGIC_SIZE], [0; cpio::NAMED_SIZE]);
        read(&mut magic, at)?;
        let offset = usize::try_from(at).unwrap_or(usize::MAX);
        if Form::of(magic, offset)? == Form::Numbered {
            return Err(SwuError::Name(at));
        }
        let start = at + magic.len() as u64;
        read(&mut fields, start)?;
        let named = cpio::read_named(&fields, offset + magic.len())?;
        let mut name = vec![0; named.name_size as usize];
        let start = start + fields.len() as u64;
        read(&mut name, start)?;
        let content = (start + name.len() as u64).next_multiple_of(4);
        if name.pop() != Some(0) || name.contains(&0) {
            return Err(SwuError::Name(at));
        }
        if name == cpio::TRAILER {
            return Ok(None);
        }
        match content + u64::from(named.size) <= size {
            true => Ok(Some((name, content, named.size.into()))),
            false => Err(SwuError::Truncated(at)),
        }
    }
}

impl Source for Update {
    fn list(&self, visit: &mut dyn Visit) {
        for entry in &self.entries {
            if visit.found(Ok(entry.clone())).is_break() {
                return;
            }
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let number = usize::try_from(entry.identity.1).unwrap_or(usize::MAX);
        let start = *self.contents.get(number).ok_or(io::Error::from(ErrorKind::NotFound))?;
        Ok(Box::new(Open { file: &self.file, start, size: entry.size().unwrap_or_default() }))
    }
}

/// A part of a file, without attributes.
pub(super) struct Open<'a> {
    pub(super) file: &'a File,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl SourceFile for Open<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        Ok(self.file.read_at(&mut buffer[..count], self.start.saturating_add(offset))?)
    }

    fn attribute(&self, _: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(None)
    }
}
