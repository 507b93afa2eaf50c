//! EROFS.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ima_format::erofs::{self, Content, FileKind, Found, Inode};

use super::unpack::Libraries;
use super::{path_of, Bytes, ImageError};
use crate::container::source::{Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit};
use crate::container::AttributeName;

type Volume = erofs::Volume<Bytes, Libraries>;

/// A file system in an image, which is read without being mounted.
///
/// A volume keeps the data that it unpacked last, so that the small files in one cluster are read
/// quickly, and is used by one thread at a time: who opens a file takes an idle volume, or one
/// that is made for it, and closing the file gives it back.
#[derive(Debug)]
pub(super) struct Erofs {
    first: Mutex<Volume>,
    idle: Mutex<Vec<Volume>>,
}

impl Erofs {
    pub(super) fn open(bytes: Bytes) -> Result<Self, ImageError> {
        let volume = Volume::open(bytes, Libraries)?;
        // fails where there is no root
        volume.walk()?;
        Ok(Self { first: Mutex::new(volume), idle: Mutex::default() })
    }

    fn take(&self) -> Volume {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.first.lock().unwrap_or_else(PoisonError::into_inner).share())
    }

    fn give_back(&self, volume: Volume) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(volume);
    }
}

fn entry(volume: &Volume, path: PathBuf, inode: &Inode) -> Result<Entry, ImageError> {
    let kind = match inode.kind() {
        FileKind::File => EntryKind::File { size: inode.size() },
        FileKind::Directory => EntryKind::Directory,
        FileKind::Link => EntryKind::Link(OsString::from_vec(volume.link_target(inode)?).into()),
        _ => EntryKind::Other,
    };
    let (mode, uid, gid) = (inode.mode(), inode.uid(), inode.gid());
    Ok(Entry { path, kind, mode, uid, gid, identity: (0, inode.number()) })
}

impl Source for Erofs {
    fn list(&self, visit: &mut dyn Visit) {
        let volume = self.take();
        if let Err(error) = list(&volume, visit) {
            let (path, error) = ("/".into(), error.into());
            // it is the last one
            let _ = visit.found(Err(Unread { path, error }));
        }
        self.give_back(volume);
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let volume = self.take();
        let opened = volume.inode(entry.identity.1, 0).and_then(|inode| {
            let content = RefCell::new(volume.content(&inode)?);
            Ok((inode, content))
        });
        let (inode, content) = opened?;
        Ok(Box::new(Open { home: self, volume: Some(volume), inode, content }))
    }
}

fn list(volume: &Volume, visit: &mut dyn Visit) -> Result<(), ImageError> {
    let root = volume.root()?;
    if visit.found(Ok(entry(volume, "/".into(), &root)?)).is_break() {
        return Ok(());
    }
    let mut walk = volume.walk()?;
    loop {
        let next = volume.next(&mut walk, &mut |path| visit.descends(&path_of(path)))?;
        let Some(Found { path, inode }) = next else { return Ok(()) };
        let path = path_of(&path);
        let unread = |error: ImageError| Unread { path: path.clone(), error: error.into() };
        if visit.found(entry(volume, path.clone(), &inode).map_err(unread)).is_break() {
            return Ok(());
        }
    }
}

struct Open<'a> {
    home: &'a Erofs,
    /// Until the file is closed.
    volume: Option<Volume>,
    inode: Inode,
    content: RefCell<Content>,
}

impl Open<'_> {
    fn with<T>(
        &self,
        read: impl FnOnce(&Volume) -> Result<T, ImageError>,
    ) -> Result<T, SourceError> {
        let volume = self.volume.as_ref().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(read(volume)?)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(volume) = self.volume.take() {
            self.home.give_back(volume);
        }
    }
}

impl SourceFile for Open<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.with(|volume| {
            let content = &mut *self.content.borrow_mut();
            let mut filled = 0;
            while filled < buffer.len() {
                let part = volume.part(content, offset.saturating_add(filled as u64))?;
                let count = part.len().min(buffer.len() - filled);
                if count == 0 {
                    break;
                }
                buffer[filled..filled + count].copy_from_slice(&part[..count]);
                filled += count;
            }
            Ok(filled)
        })
    }

    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        self.with(|volume| volume.attribute_named(&self.inode, name.as_str().as_bytes()))
    }
}
