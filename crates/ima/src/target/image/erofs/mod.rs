//! EROFS images, as the tar archives that they could have been made of; nothing is mounted or
//! unpacked.

mod header;
mod unpack;

use std::io::{self, Read};
use std::path::Path;

use ima_format::erofs::{Content, FileKind, Found, Volume, Walk};
use ima_format::tar;

use self::header::Header;
use self::unpack::Libraries;
use super::{Bytes, ImageError};

/// An EROFS image as a tar archive with attributes. What is wrong in the image ends it with an
/// error that is an [`ImageError`].
///
/// # Errors
/// What has no superblock or root of EROFS, and features that are not known.
pub fn erofs_as_tar(path: &Path) -> Result<impl Read + Send, ImageError> {
    let volume = Volume::open(Bytes::open(path)?, Libraries)?;
    let walk = volume.walk()?;
    Ok(Archive { volume, walk, ready: Vec::new(), given: 0, content: None, ended: false })
}

struct Archive {
    volume: Volume<Bytes, Libraries>,
    walk: Walk,
    /// Bytes of the archive, of which the first ones were given.
    ready: Vec<u8>,
    given: usize,
    /// What comes after them, and from which position on.
    content: Option<(Content, u64)>,
    ended: bool,
}

impl Archive {
    /// Makes the next member's header ready, or the archive's end.
    fn advance(&mut self) -> Result<(), ImageError> {
        let Some(found) = self.volume.next(&mut self.walk)? else {
            self.ready.extend([0; 2 * tar::BLOCK_SIZE]);
            self.ended = true;
            return Ok(());
        };
        let Found { path, inode, first } = found;
        let mut header = Header::new(&path, &inode);
        if let Some(first) = first {
            header.hard_link(&first);
        } else {
            for attribute in self.volume.attributes(&inode)? {
                header.attribute(&attribute);
            }
            match inode.kind() {
                FileKind::File => {
                    let content = self.volume.content(&inode)?;
                    header.file(content.size());
                    self.content = Some((content, 0));
                }
                FileKind::Link => header.link(&self.volume.link_target(&inode)?),
                FileKind::Directory => header.directory(),
                FileKind::Character(major, minor) => header.device(b'3', major, minor),
                FileKind::Block(major, minor) => header.device(b'4', major, minor),
                FileKind::Pipe => header.pipe(),
                // archives hold none
                FileKind::Socket => return Ok(()),
            }
        }
        header.encode_into(&mut self.ready);
        Ok(())
    }

    fn give(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        loop {
            let ready = &self.ready[self.given..];
            if !ready.is_empty() {
                let count = ready.len().min(buffer.len());
                buffer[..count].copy_from_slice(&ready[..count]);
                self.given += count;
                return Ok(count);
            }
            self.ready.clear();
            self.given = 0;
            if let Some((content, position)) = &mut self.content {
                let part = self.volume.part(content, *position)?;
                if part.is_empty() {
                    self.ready.resize(tar::padding(content.size()), 0);
                    self.content = None;
                    continue;
                }
                let count = part.len().min(buffer.len());
                buffer[..count].copy_from_slice(&part[..count]);
                *position += count as u64;
                return Ok(count);
            }
            if self.ended {
                return Ok(0);
            }
            self.advance()?;
        }
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.give(buffer).map_err(|error| {
            self.ended = true;
            self.content = None;
            io::Error::other(error)
        })
    }
}
