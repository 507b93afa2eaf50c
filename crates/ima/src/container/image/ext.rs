//! ext2, ext3 and ext4.

use std::cell::RefCell;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ima_format::evm::InodeId;
use ima_format::ext4::{Content, FileKind, Inode, Volume};

use super::{path_of, Bytes, ImageError};
use crate::container::source::{
    changed, Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit,
};
use crate::container::AttributeName;

/// A file system in an image, which is read without being mounted.
#[derive(Debug)]
pub(super) struct Ext {
    pub(super) volume: Volume<Bytes>,
}

impl Ext {
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

    /// The number of the inode that an entry is for.
    pub(super) fn number(entry: &Entry) -> Result<u32, SourceError> {
        u32::try_from(entry.identity.1).map_err(|_| changed().into())
    }
}

impl Source for Ext {
    fn list(&self, visit: &mut dyn Visit) {
        let visit = RefCell::new(visit);
        let mut descends = |path: &[u8]| visit.borrow().descends(&path_of(path));
        let walked = self.volume.walk(&mut descends, &mut |path, inode| {
            let path = path_of(&path);
            let unread = |error: ImageError| Unread { path: path.clone(), error: error.into() };
            let entry = self.entry(path.clone(), &inode).map_err(unread);
            visit.borrow_mut().found(entry) == ControlFlow::Continue(())
        });
        if let Err(error) = walked {
            let (path, error) = ("/".into(), error.into());
            // it is the last one
            let _ = visit.borrow_mut().found(Err(Unread { path, error }));
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let inode = self.volume.inode(Self::number(entry)?, 0)?;
        let content = RefCell::new(self.volume.content(&inode)?);
        Ok(Box::new(Open { volume: &self.volume, inode, content }))
    }
}

struct Open<'a> {
    volume: &'a Volume<Bytes>,
    inode: Inode,
    content: RefCell<Content>,
}

impl SourceFile for Open<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let content = &mut self.content.borrow_mut();
        Ok(self.volume.read_at(content, offset, buffer)?)
    }

    fn inode(&self) -> Result<Option<InodeId>, SourceError> {
        let (number, generation) = (u64::from(self.inode.number()), self.inode.generation());
        Ok(Some(InodeId { number, generation, fsuuid: Some(self.volume.uuid()) }))
    }

    fn attribute(&self, name: AttributeName) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.volume.attribute(&self.inode, name.as_str())?)
    }
}
