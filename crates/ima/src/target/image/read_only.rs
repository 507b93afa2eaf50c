//! Images of read-only file systems, as the tar archives that they could have been made of.

use std::io::{self, Read};
use std::path::Path;

use ima_format::kind::{Content, HEAD_SIZE};

use super::{erofs_as_tar, squashfs_as_tar, ImageError};
use crate::input;
use crate::target::tar::TarError;

fn content_of(path: &Path) -> io::Result<Option<Content>> {
    let mut head = Vec::new();
    input::open(path)?.take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    Ok(Content::of(&head))
}

/// Whether a file is an image of a read-only file system.
///
/// # Errors
/// Those of reading it.
pub fn is_read_only(path: &Path) -> io::Result<bool> {
    Ok(matches!(content_of(path)?, Some(Content::Squashfs | Content::Erofs)))
}

/// An image of a read-only file system as a tar archive with attributes, whichever file system
/// it is.
///
/// # Errors
/// [`ImageError::Unsupported`] where it is none that is read so; where a program is needed that
/// is not there, an error that names it; what is wrong in the image, as far as its root.
pub fn read_only_as_tar(path: &Path) -> Result<Box<dyn Read + Send>, ImageError> {
    match content_of(path).map_err(|source| ImageError::Read { offset: 0, source })? {
        Some(Content::Squashfs) => Ok(Box::new(squashfs_as_tar(path)?)),
        Some(Content::Erofs) => Ok(Box::new(erofs_as_tar(path)?)),
        _ => Err(ImageError::Unsupported("no image of a read-only file system")),
    }
}

/// What ended the reading of such an archive: what is wrong in the image, where that is known,
/// with its offset there.
pub fn read_only_error(error: TarError) -> ImageError {
    match error {
        TarError::Read { offset, source } => match inner(source) {
            Ok(error) => error,
            Err(source) => ImageError::Archive(TarError::Read { offset, source }),
        },
        error => ImageError::Archive(error),
    }
}

fn inner(error: io::Error) -> Result<ImageError, io::Error> {
    if !error.get_ref().is_some_and(|inner| inner.is::<ImageError>()) {
        return Err(error);
    }
    let inner = error.into_inner().map(|inner| inner.downcast::<ImageError>());
    match inner {
        Some(Ok(error)) => Ok(*error),
        Some(Err(other)) => Err(io::Error::other(other)),
        None => Err(io::ErrorKind::Other.into()),
    }
}
