//! The documents of an image and their references. Each blob is read once, however often it is
//! described, and comes before the documents that describe it.

use std::collections::{HashMap, HashSet};

use ima_format::oci::{
    BlobDigest, Config, Descriptor, Document as Parsed, Layers, MediaType, Saved,
};
use ima_format::Error;

use super::layer::Layer;
use super::store::{Expected, Store};
use super::OciError;
use crate::container::{Left, Part};

/// How deep indexes are nested.
const DEPTH_MAX: usize = 8;
/// How many documents there are, and how large they are in all.
const DOCUMENTS_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;

/// The documents and the layers of an image.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) documents: Vec<Document>,
    pub(super) saved: Option<SavedImages>,
    pub(super) layers: Vec<Layer>,
    pub(super) left: Vec<Left>,
    /// Files that a document mentions.
    mentioned: HashSet<String>,
    /// Files of documents that are left alone.
    pub(super) pinned: HashSet<String>,
}

/// An index or a manifest.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    /// The one that names it; `index.json` has none.
    pub(super) digest: Option<BlobDigest>,
    pub(super) text: Vec<u8>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Descriptors, and the documents among them that are processed.
    Index(Vec<(Descriptor, Option<usize>)>),
    Image(Box<Layers>, Image),
}

/// The configuration of an image, and its layers.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config_name: String,
    pub(super) config_text: Vec<u8>,
    pub(super) config: Config,
    pub(super) layers: Vec<usize>,
}

/// The list of docker save.
#[derive(Debug)]
pub(super) struct SavedImages {
    pub(super) text: Vec<u8>,
    pub(super) parsed: Saved,
    pub(super) images: Vec<Image>,
}

pub(super) const INDEX: &str = "index.json";
pub(super) const SAVED: &str = "manifest.json";

impl Graph {
    /// Reads the documents of an image.
    pub(super) fn read(store: &Store) -> Result<Self, OciError> {
        let mut reader = Reader::new(store);
        let has_layout = store.has("oci-layout");
        if has_layout {
            let text = reader.document(INDEX, &Expected::default())?;
            reader.parse(INDEX, text, None, 0)?;
        }
        if !store.has(SAVED) && store.has("repositories") {
            return Err(OciError::Legacy);
        }
        if store.has(SAVED) {
            reader.saved(!has_layout)?;
        } else if !has_layout {
            return Err(OciError::NoLayout);
        }
        let Reader { mut graph, .. } = reader;
        let is_image = |document: &Document| matches!(document.body, Body::Image(..));
        if !graph.documents.iter().any(is_image) && graph.saved.is_none() {
            return Err(OciError::NoImage);
        }
        let unknown = store.blobs().filter(|name| !graph.mentioned.contains(*name)).count();
        if unknown > 0 {
            let part = Part { noun: "blobs", name: unknown.to_string() };
            graph.left.push(Left { part, content: "mentioned by no manifest" });
        }
        Ok(graph)
    }

    /// The images, in the order of the documents.
    pub(super) fn images(&self) -> impl Iterator<Item = &Image> {
        let images = self.documents.iter().filter_map(|document| match &document.body {
            Body::Image(_, image) => Some(image),
            Body::Index(_) => None,
        });
        images.chain(self.saved.iter().flat_map(|saved| &saved.images))
    }
}

struct Reader<'a> {
    store: &'a Store,
    graph: Graph,
    /// The documents, or none where they are left alone, by name and media type.
    known: HashMap<(String, String), Option<usize>>,
    /// The layers by name.
    layers: HashMap<String, usize>,
    bytes: usize,
}

fn malformed(name: &str) -> impl Fn(Error) -> OciError + '_ {
    move |error| OciError::Malformed { name: name.to_owned(), error }
}

impl Expected {
    fn of(descriptor: &Descriptor) -> Self {
        Self { digest: Some(descriptor.digest.clone()), size: Some(descriptor.size) }
    }
}

impl<'a> Reader<'a> {
    fn new(store: &'a Store) -> Self {
        let (graph, known, layers) = Default::default();
        Self { store, graph, known, layers, bytes: 0 }
    }

    fn document(&mut self, name: &str, expected: &Expected) -> Result<Vec<u8>, OciError> {
        let text = self.store.document(name, expected)?;
        self.bytes += text.len();
        self.graph.mentioned.insert(name.to_owned());
        match self.bytes > BYTES_MAX || self.known.len() > DOCUMENTS_MAX {
            true => Err(OciError::TooMany),
            false => Ok(text),
        }
    }

    fn leave(&mut self, digest: &BlobDigest, content: &'static str) {
        let part = Part { noun: "manifest", name: digest.to_string() };
        self.graph.left.push(Left { part, content });
    }

    /// Reads an index or a manifest that is described; `None` if it is left alone.
    fn described(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Option<usize>, OciError> {
        let name = descriptor.digest.path();
        self.graph.mentioned.insert(name.clone());
        let key = (name.clone(), descriptor.media_type.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let is_document = matches!(descriptor.kind(), MediaType::Index | MediaType::Manifest);
        let document = match (is_document, self.store.has(&name)) {
            (false, _) => {
                self.leave(&descriptor.digest, "unknown media type");
                None
            }
            (true, false) => {
                self.leave(&descriptor.digest, "not in this layout");
                None
            }
            (true, true) => {
                let text = self.document(&name, &Expected::of(descriptor))?;
                self.parse(&name, text, Some(descriptor), depth)?
            }
        };
        self.known.insert(key, document);
        Ok(document)
    }

    fn parse(
        &mut self,
        name: &str,
        text: Vec<u8>,
        descriptor: Option<&Descriptor>,
        depth: usize,
    ) -> Result<Option<usize>, OciError> {
        let media_type = descriptor.map(|descriptor| &*descriptor.media_type);
        let body = match Parsed::parse(&text, media_type).map_err(malformed(name))? {
            Parsed::Index(_) if depth > DEPTH_MAX => return Err(OciError::TooMany),
            Parsed::Index(descriptors) => {
                let mut entries = Vec::new();
                for descriptor in descriptors {
                    let document = self.described(&descriptor, depth + 1)?;
                    entries.push((descriptor, document));
                }
                Body::Index(entries)
            }
            Parsed::Manifest(layers) => match self.image(&layers)? {
                Some(image) => Body::Image(Box::new(layers), image),
                None => {
                    if let Some(descriptor) = descriptor {
                        let content = "artifact, not an image (signature, SBOM, attestation)";
                        self.leave(&descriptor.digest, content);
                    }
                    return Ok(None);
                }
            },
        };
        let digest = descriptor.map(|descriptor| descriptor.digest.clone());
        self.graph.documents.push(Document { name: name.to_owned(), digest, text, body });
        Ok(Some(self.graph.documents.len() - 1))
    }

    /// Reads the image of a manifest; `None` if it is one of something else.
    fn image(&mut self, manifest: &Layers) -> Result<Option<Image>, OciError> {
        let Layers { config, layers, annotations, has_subject } = manifest;
        let mentioned = layers.iter().chain([config]).map(|it| it.digest.path());
        let mentioned: Vec<_> = mentioned.collect();
        self.graph.mentioned.extend(mentioned.iter().cloned());
        let is_layer = |layer: &Descriptor| layer.kind() != MediaType::Other;
        let has_layers = layers.iter().any(is_layer) || layers.is_empty();
        if *has_subject || config.kind() != MediaType::Config || !has_layers {
            self.graph.pinned.extend(mentioned);
            return Ok(None);
        }
        let config_name = config.digest.path();
        let config_text = self.document(&config_name, &Expected::of(config))?;
        let parsed = Config::parse(&config_text, layers.len()).map_err(malformed(&config_name))?;
        let annotated = layers.iter().flat_map(|layer| &layer.annotations).chain(annotations);
        check_ostree(annotated.chain(&parsed.labels))?;
        let mut numbers = Vec::new();
        for (descriptor, diff_id) in layers.iter().zip(&parsed.diff_ids) {
            let MediaType::Layer(compression) = descriptor.kind() else {
                return Err(OciError::MediaType(descriptor.media_type.clone()));
            };
            let layer = Layer {
                name: self.store.resolve(&descriptor.digest.path())?,
                expected: Expected::of(descriptor),
                diff_id: diff_id.clone(),
                compression,
                chunked: chunked_by(&descriptor.annotations),
                part: Part { noun: "layer", name: descriptor.digest.to_string() },
            };
            layer.check_compression(self.store)?;
            numbers.push(self.layer(layer)?);
        }
        Ok(Some(Image { config_name, config_text, config: parsed, layers: numbers }))
    }

    /// Enters a layer, once.
    fn layer(&mut self, layer: Layer) -> Result<usize, OciError> {
        self.graph.mentioned.insert(layer.name.clone());
        let Some(known) = self.layers.get(&layer.name).copied() else {
            let number = self.graph.layers.len();
            self.layers.insert(layer.name.clone(), number);
            self.graph.layers.push(layer);
            return Ok(number);
        };
        let contradiction = OciError::Contradiction(layer.name.clone());
        let Some(first) = self.graph.layers.get_mut(known) else { return Err(contradiction) };
        first.chunked = first.chunked.or(layer.chunked);
        let size = layer.expected.size.or(first.expected.size);
        match first.diff_id == layer.diff_id && first.expected.size.or(size) == size {
            true => Ok(known),
            false => Err(contradiction),
        }
    }

    /// Reads the list of docker save. Where there is an index, too, the files are those of a layout.
    fn saved(&mut self, alone: bool) -> Result<(), OciError> {
        let text = self.document(SAVED, &Expected::default())?;
        let parsed = match Saved::parse(&text) {
            Ok(parsed) => parsed,
            // in a layout that is something else
            Err(_) if !alone && ima_format::kind::Nested::of(SAVED.as_bytes(), &text).is_none() => {
                return Ok(());
            }
            Err(error) => return Err(malformed(SAVED)(error)),
        };
        let mut images = Vec::new();
        for image in &parsed.images {
            let (config_name, _) = &image.config;
            let config_text = self.document(config_name, &named_by(config_name))?;
            let config = Config::parse(&config_text, image.layers.len());
            let config = config.map_err(malformed(config_name))?;
            check_ostree(&config.labels)?;
            let mut numbers = Vec::new();
            for ((name, _), diff_id) in image.layers.iter().zip(&config.diff_ids) {
                let name = self.store.resolve(name)?;
                let mut expected = named_by(&name);
                // which is that of the layer without compression
                expected.digest = expected.digest.filter(|_| name.starts_with("blobs/"));
                let layer = Layer {
                    expected,
                    diff_id: diff_id.clone(),
                    compression: Layer::compression_of(self.store, &name)?,
                    chunked: None,
                    part: Part { noun: "layer", name: name.clone() },
                    name,
                };
                numbers.push(self.layer(layer)?);
            }
            let config_name = config_name.clone();
            images.push(Image { config_name, config_text, config, layers: numbers });
        }
        self.graph.saved = Some(SavedImages { text, parsed, images });
        Ok(())
    }
}

/// The digest that is in the name of a blob or of a file of docker save, if there is one.
pub(super) fn named_by(name: &str) -> Expected {
    let digest = match name.strip_prefix("blobs/").and_then(|rest| rest.split_once('/')) {
        Some((algorithm, hex)) => format!("{algorithm}:{hex}"),
        None => format!("sha256:{}", name.split_once('.').map_or(name, |(stem, _)| stem)),
    };
    Expected { digest: digest.parse().ok(), size: None }
}

/// Labels and annotations of ostree's own.
fn check_ostree<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), OciError> {
    match names.into_iter().any(|name| name.starts_with("ostree.")) {
        true => Err(OciError::Ostree),
        false => Ok(()),
    }
}

/// The kind of index that a layer has, by its annotations.
fn chunked_by(annotations: &[String]) -> Option<&'static str> {
    let has = |word: &str| annotations.iter().any(|name| name.contains(word));
    match (has("zstd-chunked"), has("stargz")) {
        (true, _) => Some("zstd:chunked"),
        (_, true) => Some("eStargz"),
        _ => None,
    }
}
