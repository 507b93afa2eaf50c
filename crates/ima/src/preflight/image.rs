//! A root that is in an image of ext2, ext3 or ext4.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ima_format::ext4::{FileKind, Inode, Volume};
use ima_format::hash::{Digest, HashAlgorithm};

use super::root::{changed, Content, Entry, EntryKind, Root, Unread};
use crate::digest::{DigestError, FileHasher};
use crate::target::image::{self, Bytes, ImageError};

/// An image that a machine will have as its root; it is read without being mounted.
#[derive(Debug)]
pub struct Image {
    volume: Volume<Bytes>,
}

impl Image {
    /// Opens the image at `path`.
    ///
    /// # Errors
    /// What is no image of ext2, ext3 or ext4, or has features that are not known.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        Ok(Self { volume: image::Image::volume(path)? })
    }

    fn entry(&self, path: PathBuf, inode: &Inode) -> Result<Entry, ImageError> {
        let kind = match inode.kind() {
            Some(FileKind::File) => EntryKind::File { size: inode.size() },
            Some(FileKind::Directory) => EntryKind::Directory,
            _ if inode.is_link() => {
                let target = self.volume.link_target(inode)?;
                EntryKind::Link(OsString::from_vec(target).into())
            }
            _ => EntryKind::Other,
        };
        Ok(Entry {
            path,
            kind,
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            identity: (0, u64::from(inode.number())),
        })
    }
}

impl Root for Image {
    fn list(&self, found: &mut dyn FnMut(Result<Entry, Unread>)) {
        let inside = |path: Vec<u8>| Path::new("/").join(OsString::from_vec(path));
        let unread = |path: PathBuf, error| Unread { path, error: io::Error::other(error) };
        let walked = self.volume.traverse(&mut |_| true, &mut |path, inode, _| {
            let path = inside(path);
            found(self.entry(path.clone(), &inode).map_err(|error| unread(path, error)));
            true
        });
        if let Err(error) = walked {
            found(Err(unread("/".into(), error)));
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> io::Result<Box<dyn Content + 'a>> {
        let number = u32::try_from(entry.identity.1).map_err(|_| changed())?;
        let inode = self.volume.inode(number, 0).map_err(io::Error::other)?;
        Ok(Box::new(Open { volume: &self.volume, inode, whole: OnceCell::new() }))
    }
}

struct Open<'a> {
    volume: &'a Volume<Bytes>,
    inode: Inode,
    whole: OnceCell<Vec<u8>>,
}

/// Of files up to this size all is read where more than the beginning is asked for.
const IN_MEMORY: u64 = 64 << 20;

impl Open<'_> {
    /// The content from `offset` on, as much as `most`.
    fn part(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut at = 0_u64;
        let read = self.volume.content(&self.inode, &mut |part| {
            let skipped = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = part.get(skipped..).unwrap_or_default();
            bytes.extend_from_slice(&wanted[..wanted.len().min(most - bytes.len())]);
            at += part.len() as u64;
            match bytes.len() == most {
                true => Err(ImageError::Unsupported("read as far as needed")),
                false => Ok(()),
            }
        });
        match read {
            Ok(()) | Err(ImageError::Unsupported(_)) => Ok(bytes),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Content for Open<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let is_head = offset == 0 && buffer.len() <= 4096;
        if self.inode.size() > IN_MEMORY || (is_head && self.whole.get().is_none()) {
            let bytes = self.part(offset, buffer.len())?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            return Ok(bytes.len());
        }
        let whole = match self.whole.get() {
            Some(whole) => whole,
            None => {
                let whole = self.part(0, IN_MEMORY as usize + 1)?;
                self.whole.get_or_init(|| whole)
            }
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let count = buffer.len().min(whole.len() - start);
        buffer[..count].copy_from_slice(&whole[start..start + count]);
        Ok(count)
    }

    fn attribute(&self) -> io::Result<Option<Vec<u8>>> {
        self.volume.label(&self.inode).map_err(io::Error::other)
    }

    fn digest(
        &self,
        hasher: &mut FileHasher,
        _: u64,
        algorithm: HashAlgorithm,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, DigestError> {
        let hasher = hasher.hasher(algorithm)?;
        hasher.reset()?;
        let mut failure = None;
        let read = self.volume.content(&self.inode, &mut |part| {
            progress(part.len() as u64);
            hasher.update(part).map_err(|error| {
                failure = Some(error);
                ImageError::Unsupported("no digest")
            })
        });
        match (read, failure) {
            (Ok(()), _) => hasher.finish(),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(io::Error::other(error).into()),
        }
    }
}
