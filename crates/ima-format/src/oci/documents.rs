//! Indexes, manifests, configurations, and the list of `docker save`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use super::{BlobDigest, Fault, MediaType};
use crate::json::{Edits, Kind, Member, Text, Value};
use crate::Error;

/// A string, and where it stands in its document.
type Spanned = (String, Range<usize>);

/// The description of a blob in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its media type, as text.
    pub media_type: String,
    /// Its digest.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// It has the content of the blob, too (`data`).
    pub has_data: bool,
    /// The names of its annotations.
    pub annotations: Vec<String>,
    digest_span: Range<usize>,
    size_span: Range<usize>,
}

impl Descriptor {
    fn read(text: &Text<'_>, value: &Value) -> Result<Self, Error> {
        let media_type = value.string("mediaType")?.map_or("", |(media_type, _)| media_type);
        let (digest, digest_span) = value.required_string("digest")?;
        let at = digest_span.start;
        let (size, size_span) = text.number(value, "size")?;
        Ok(Self {
            media_type: media_type.to_string(),
            digest: digest.parse().map_err(|fault: Fault| Error::new(fault, at))?,
            size,
            has_data: value.member("data")?.is_some(),
            annotations: names(value.members("annotations")?),
            digest_span,
            size_span,
        })
    }

    /// The meaning of its media type.
    pub fn kind(&self) -> MediaType {
        MediaType::of(&self.media_type)
    }

    /// Has it describe another blob.
    pub fn edit(&self, edits: &mut Edits, digest: &BlobDigest, size: u64) {
        edits.string(self.digest_span.clone(), digest.as_str());
        edits.number(self.size_span.clone(), size);
    }
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

fn descriptors(text: &Text<'_>, values: &[Value]) -> Result<Vec<Descriptor>, Error> {
    values.iter().map(|value| Descriptor::read(text, value)).collect()
}

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Manifests, and other indexes.
    Index(Vec<Descriptor>),
    /// An image, or an artifact.
    Manifest(Layers),
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The names of its annotations.
    pub annotations: Vec<String>,
    /// It is about another manifest.
    pub has_subject: bool,
}

impl Document {
    /// Reads an index or a manifest, whose descriptor has this media type; `None` for `index.json`,
    /// which has no descriptor.
    ///
    /// # Errors
    /// Anything else, and a document that could be read as both.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, Error> {
        let text = Text::parse(bytes)?;
        let value = &text.value;
        if let (Some((own, span)), Some(expected)) = (value.string("mediaType")?, media_type) {
            if own != expected {
                return Err(Error::new(Fault::MediaType(own.to_string()), span.start));
            }
        }
        let has = |name| value.member(name).map(|member| member.is_some());
        let is_manifest = has("config")? || has("layers")? || has("fsLayers")?;
        match media_type.map_or(MediaType::Index, MediaType::of) {
            MediaType::Index if !is_manifest => {
                Ok(Self::Index(descriptors(&text, value.array("manifests")?)?))
            }
            MediaType::Manifest if !has("manifests")? => Ok(Self::Manifest(Layers {
                config: Descriptor::read(&text, value.required("config")?)?,
                layers: descriptors(&text, value.array("layers")?)?,
                annotations: names(value.members("annotations")?),
                has_subject: has("subject")?,
            })),
            _ => Err(Error::new(Fault::Neither, 0)),
        }
    }
}

/// The layers in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The digests of the layers without compression.
    pub diff_ids: Vec<BlobDigest>,
    /// The names of its labels.
    pub labels: Vec<String>,
    spans: Vec<Range<usize>>,
}

impl Config {
    /// Reads the configuration of an image with so many layers.
    ///
    /// # Errors
    /// A configuration without layers, or of another number of them.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, Error> {
        let text = Text::parse(bytes)?;
        let root = text.value.required("rootfs")?;
        if !matches!(root.string("type")?, Some(("layers", _))) {
            return Err(Error::new(Fault::RootFs, root.span.start));
        }
        let (mut diff_ids, mut spans) = (Vec::new(), Vec::new());
        for value in root.array("diff_ids")? {
            let Kind::String(id) = &value.kind else {
                return Err(Error::new(Fault::Digest(String::new()), value.span.start));
            };
            let id = id.parse().map_err(|fault: Fault| Error::new(fault, value.span.start))?;
            diff_ids.push(id);
            spans.push(value.span.clone());
        }
        if diff_ids.len() != layers {
            let fault = Fault::LayerCount { layers, listed: diff_ids.len() };
            return Err(Error::new(fault, root.span.start));
        }
        let labels = match text.value.member("config")? {
            Some(config) => names(config.members("Labels")?),
            None => Vec::new(),
        };
        Ok(Self { diff_ids, labels, spans })
    }

    /// Changes the digest of a layer.
    pub fn edit(&self, edits: &mut Edits, layer: usize, diff_id: &BlobDigest) {
        if let Some(span) = self.spans.get(layer) {
            edits.string(span.clone(), diff_id.as_str());
        }
    }
}

/// The list of images that `docker save` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The images.
    pub images: Vec<SavedImage>,
}

/// An image of [`Saved`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// The name of the file with the configuration.
    pub config: Spanned,
    /// The names of the files with the layers, the lowest first.
    pub layers: Vec<Spanned>,
    /// Descriptors of layers.
    pub sources: Vec<Source>,
}

/// The descriptor of a layer by its digest without compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The digest, and where it stands.
    pub diff_id: (BlobDigest, Range<usize>),
    /// The descriptor.
    pub descriptor: Descriptor,
}

impl Saved {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// Anything but such a list; names that lead out of the archive.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let text = Text::parse(bytes)?;
        let Kind::Array(images) = &text.value.kind else {
            return Err(Error::new(Fault::Saved, 0));
        };
        let images = images.iter().map(|image| SavedImage::read(&text, image));
        Ok(Self { images: images.collect::<Result<_, _>>()? })
    }
}

impl SavedImage {
    fn read(text: &Text<'_>, value: &Value) -> Result<Self, Error> {
        let (config, span) = value.required_string("Config")?;
        let mut layers = Vec::new();
        for layer in value.array("Layers")? {
            let Kind::String(name) = &layer.kind else {
                return Err(Error::new(Fault::Saved, layer.span.start));
            };
            layers.push(checked(name, layer.span.clone())?);
        }
        let mut sources = Vec::new();
        for Member { name, span, value } in value.members("LayerSources")? {
            let id = name.parse().map_err(|fault: Fault| Error::new(fault, span.start))?;
            let descriptor = Descriptor::read(text, value)?;
            sources.push(Source { diff_id: (id, span.clone()), descriptor });
        }
        Ok(Self { config: checked(config, span)?, layers, sources })
    }
}

/// A name that is a path below the top of the archive, and needs no escapes.
fn checked(name: &str, span: Range<usize>) -> Result<Spanned, Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    let is_component = |part: &str| !matches!(part, "" | "." | "..");
    match name.bytes().all(is_plain) && name.split('/').all(is_component) {
        true => Ok((name.to_string(), span)),
        false => Err(Error::new(Fault::Name(name.chars().take(80).collect()), span.start)),
    }
}
