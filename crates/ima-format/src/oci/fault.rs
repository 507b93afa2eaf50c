//! Faults of an image's documents.

use alloc::string::String;
use core::fmt;

use crate::ErrorKind;

/// A document that is malformed, or that programs read differently.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Not a digest by SHA-256 or SHA-512.
    Digest(String),
    /// Neither an index nor a manifest, or both.
    Neither,
    /// Its own media type differs from that of its descriptor.
    MediaType(String),
    /// The configuration is not that of layers.
    RootFs,
    /// The configuration has another number of layers.
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        listed: usize,
    },
    /// `manifest.json` is not a list of images.
    Saved,
    /// A name that leads out of the archive, or is no path.
    Name(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(text) => write!(f, "not a SHA-256 or SHA-512 digest: {text:?}"),
            Self::Neither => f.write_str("not either an index or a manifest"),
            Self::MediaType(own) => {
                write!(f, "media type {own:?} differs from that of the descriptor")
            }
            Self::RootFs => f.write_str("rootfs of a configuration is not of type layers"),
            Self::LayerCount { layers, listed } => {
                write!(f, "{layers} layers, of which the configuration lists {listed}")
            }
            Self::Saved => f.write_str("not a list of images"),
            Self::Name(name) => write!(f, "not the name of a file in the archive: {name:?}"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Oci(fault)
    }
}
