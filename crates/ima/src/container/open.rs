//! Opens a directory or any container with a root as a [`Source`]; its kind is detected from its content.

use std::io;
use std::path::Path;

use ima_format::kind::{Content, Kind};

use super::detect::{detect, DetectError};
use super::image;
use super::oci;
use super::source::Source;
use super::swu::{self, SwuError};
use super::tar::{Index, TarError};
use super::tree::Directory;
use super::ContainerError;
use crate::advice::Advice;

/// Why a root was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Its kind cannot be detected.
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
    /// Anything else.
    #[error("not a directory, tar archive or supported image")]
    NoRoot,
}

impl Advice for OpenError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Archive(error) => error.advice(),
            Self::NoRoot => Some(
                "ROOT is a directory, or a container that imactl preflight --help lists; mount \
                 anything else, and give the directory",
            ),
            Self::Detect(error) => error.advice(),
            Self::Image(error) => error.advice(),
            Self::Read(_) | Self::Update(_) => None,
        }
    }
}

/// Opens a root: a directory, a tar archive, compressed or not, or an image of a file system
/// that `verify` reads, in a partition of a disk if there are several.
///
/// # Errors
/// Anything else; a root that cannot be read, or is malformed.
pub fn open(path: &Path, partition: Option<&str>) -> Result<Box<dyn Source>, OpenError> {
    let found = detect(path)?;
    if found.kind == Kind::Oci {
        return Ok(oci::source(path)?);
    }
    if let Some(nested) = found.nested {
        return Err(TarError::Nested(nested).into());
    }
    if path.is_dir() {
        return Ok(Box::new(Directory::open(path)?));
    }
    match found.content {
        // anything compressed is an archive, or not supported as a root
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
        None if swu::is_update(&found.head) => Ok(Box::new(swu::Update::open(path)?)),
        Some(Content::Rpm) | None => Err(OpenError::NoRoot),
    }
}
