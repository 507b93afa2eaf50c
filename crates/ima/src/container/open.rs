//! Opens a directory, an archive or an image as a [`Source`]: its kind is detected from its content.

use std::io::{self, Read};
use std::path::Path;

use ima_format::kind::{Content, Kind, HEAD_SIZE};

use super::detect::{kind_of, nested, DetectError};
use super::image;
use super::oci;
use super::source::Source;
use super::swu::{self, SwuError};
use super::tar::{Index, TarError};
use super::tree::Directory;
use super::ContainerError;
use crate::advice::Advice;
use crate::input;

/// Why a root was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not known what it is.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// An archive that cannot be read, or an image that is read as one.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// An image that cannot be read.
    #[error(transparent)]
    Image(#[from] ContainerError),
    /// An update of SWUpdate that cannot be read.
    #[error(transparent)]
    Update(#[from] SwuError),
    /// It is none.
    #[error("not a directory, tar archive or supported image")]
    NoRoot,
}

impl Advice for OpenError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Archive(error) => error.advice(),
            Self::Read(_) | Self::NoRoot => Some(
                "ROOT is a directory, a tar archive (compressed or not), an image of ext4, \
                 squashfs or EROFS, a container image, or an update of RAUC or SWUpdate; mount anything \
                 else, and give the directory",
            ),
            Self::Detect(error) => error.advice(),
            Self::Image(error) => error.advice(),
            Self::Update(_) => None,
        }
    }
}

/// Opens a root: a directory, a tar archive, compressed or not, or an image of a file system
/// that `verify` reads, in a partition of a disk if there are several.
///
/// # Errors
/// What is none of them, and what cannot be read or is malformed.
pub fn open(path: &Path, partition: Option<&str>) -> Result<Box<dyn Source>, OpenError> {
    if kind_of(path)? == Kind::Oci {
        return Ok(oci::source(path)?);
    }
    if path.metadata()?.is_dir() {
        return match nested(path)? {
            Some(nested) => Err(TarError::Nested(nested).into()),
            None => Ok(Box::new(Directory::open(path)?)),
        };
    }
    let mut head = Vec::new();
    input::open(path)?.take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    match Content::of(&head) {
        // what is compressed is an archive, or it is nothing that is read here
        Some(Content::Tar | Content::Compressed(_)) => {
            let index = Index::open(path)?;
            match index.nested() {
                Ok(Some(nested)) => Err(TarError::Nested(nested).into()),
                Ok(None) => Ok(Box::new(index)),
                Err(error) => Err(OpenError::Image(error.into())),
            }
        }
        Some(Content::Ext | Content::Erofs | Content::Squashfs | Content::Disk) => {
            Ok(image::source(path, partition)?)
        }
        None if swu::is_update(&head) => Ok(Box::new(swu::Update::open(path)?)),
        Some(Content::Rpm) | None => Err(OpenError::NoRoot),
    }
}
