//! Any of the containers.

use std::io;
use std::path::Path;

use super::image::Image;
use super::oci::Oci;
use super::rpm::Packages;
use super::tar::Archive;
use super::tree::Tree;
use super::{AttributeName, Container, ContainerError, Operation, Run, Sink};

/// A container of any format.
#[derive(Debug)]
#[allow(missing_docs)] // each is described where it is defined
pub enum AnyContainer {
    Tree(Tree),
    Packages(Packages),
    Archive(Archive),
    Image(Image),
    Oci(Oci),
}

/// Does the same with whichever it is.
macro_rules! with {
    ($container:expr, $inner:ident => $body:expr) => {
        match $container {
            AnyContainer::Tree($inner) => $body,
            AnyContainer::Packages($inner) => $body,
            AnyContainer::Archive($inner) => $body,
            AnyContainer::Image($inner) => $body,
            AnyContainer::Oci($inner) => $body,
        }
    };
}

impl Container for AnyContainer {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        with!(self, container => container.run(run, sink))
    }
}

impl AnyContainer {
    /// Checks that a file can have all these attributes, before any is made; the sizes are those of
    /// their values.
    ///
    /// # Errors
    /// Attributes that are too large for the file system.
    pub fn check_room(&self, attributes: &[(AttributeName, usize)]) -> Result<(), ContainerError> {
        match self {
            Self::Tree(tree) => tree.check_room(attributes),
            Self::Image(image) => Ok(image.check_room(attributes)?),
            Self::Packages(_) | Self::Archive(_) | Self::Oci(_) => Ok(()),
        }
    }

    /// The noun for it in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Tree(_) => "file",
            Self::Packages(_) => "package",
            Self::Archive(_) => "archive",
            Self::Image(_) | Self::Oci(_) => "image",
        }
    }

    /// The file that it is in; `None` where there are many.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tree(_) | Self::Packages(_) => None,
            Self::Archive(archive) => Some(&archive.path),
            Self::Image(image) => Some(&image.path),
            Self::Oci(image) => Some(&image.path),
        }
    }
}
