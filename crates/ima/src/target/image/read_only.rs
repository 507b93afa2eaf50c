//! Images of read-only file systems, as the tar archives that they could have been made of.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ima_format::kind::{Content, HEAD_SIZE};

use super::{squashfs_as_tar, ImageError};

/// An image of a read-only file system as a tar archive with attributes, whichever file system
/// it is.
///
/// # Errors
/// [`ImageError::Unsupported`] where it is none that is read so; where a program is needed that
/// is not there, an error that names it.
pub fn read_only_as_tar(path: &Path) -> Result<Box<dyn Read + Send>, ImageError> {
    let fail = |source| ImageError::Read { offset: 0, source };
    let mut head = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(HEAD_SIZE as u64).read_to_end(&mut head).map_err(fail)?;
    match Content::of(&head) {
        Some(Content::Squashfs) => Ok(Box::new(squashfs_as_tar(path)?)),
        Some(Content::Erofs) => Err(ImageError::Unsupported("an erofs image")),
        _ => Err(ImageError::Unsupported("no image of a read-only file system")),
    }
}
