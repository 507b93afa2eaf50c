//! Container images: their JSON documents (OCI image-spec 1.1, `manifest.md`,
//! `image-index.md`, `config.md`, `image-layout.md`; Docker's image manifest 2.2 and `docker save`).
//!
//! | file | in | holds |
//! |---|---|---|
//! | `oci-layout` | layout | `{"imageLayoutVersion": "1.0.0"}` |
//! | `index.json` | layout | an index: descriptors of manifests and of other indexes |
//! | `blobs/ALGORITHM/HEX` | layout | blobs by digest: indexes, manifests, configurations, layers |
//! | `manifest.json` | `docker save` | for each image the names of its configuration and layers |
//!
//! A descriptor has the media type, digest and size of a blob. A configuration lists the digests of
//! the layers without their compression (`rootfs.diff_ids`).
//!
//! Documents are kept as text, and changed by [`Edits`]: unknown members, order and spaces stay.
//! A digest is the only thing that a path is made of, and its syntax is checked.

mod documents;
mod fault;

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

pub use crate::json::Edits;
pub use documents::{Config, Descriptor, Document, Layers, Saved, SavedImage, Source};
pub use fault::Fault;

use crate::hash::HashAlgorithm;
use crate::hex::Hex;
use crate::kind::Compression;

/// The digest of a blob: `sha256:` or `sha512:` and lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobDigest {
    text: String,
    algorithm: HashAlgorithm,
}

impl FromStr for BlobDigest {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let malformed = || Fault::Digest(text.chars().take(80).collect());
        let (name, hex) = text.split_once(':').ok_or_else(malformed)?;
        let algorithm = match name {
            "sha256" => HashAlgorithm::Sha256,
            "sha512" => HashAlgorithm::Sha512,
            _ => return Err(malformed()),
        };
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match is_hex && hex.len() == 2 * algorithm.digest_size() {
            true => Ok(Self { text: text.to_string(), algorithm }),
            false => Err(malformed()),
        }
    }
}

impl BlobDigest {
    /// Of a digest's bytes.
    pub fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Self, Fault> {
        format!("{algorithm}:{}", Hex(bytes)).parse()
    }

    /// The hash algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its digits.
    pub fn hex(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where its blob is in a layout.
    pub fn path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm, self.hex())
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a media type says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// A list of manifests.
    Index,
    /// An image, or an artifact in the form of one.
    Manifest,
    /// The configuration of an image.
    Config,
    /// A layer, compressed so.
    Layer(Option<Compression>),
    /// A layer in a form that is not read: encrypted, or compressed otherwise.
    OtherLayer,
    /// Anything else.
    Other,
}

impl MediaType {
    /// By its name.
    pub fn of(name: &str) -> Self {
        const OCI: &str = "application/vnd.oci.image.layer.";
        const DOCKER: &str = "application/vnd.docker.image.rootfs.";
        match name {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => return Self::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => return Self::Manifest,
            "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json" => return Self::Config,
            _ => {}
        }
        let form = name.strip_prefix(OCI).map(|form| form.trim_start_matches("nondistributable."));
        let form = form.or_else(|| Some(name.strip_prefix(DOCKER)?.trim_start_matches("foreign.")));
        match form {
            Some("v1.tar" | "diff.tar") => Self::Layer(None),
            Some("v1.tar+gzip" | "diff.tar.gzip") => Self::Layer(Some(Compression::Gzip)),
            Some("v1.tar+zstd" | "diff.tar.zstd") => Self::Layer(Some(Compression::Zstd)),
            Some(_) => Self::OtherLayer,
            None => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
