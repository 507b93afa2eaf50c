//! The documents that describe changed layers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;

use ima_format::oci::{BlobDigest, Descriptor, Edits, Layers};

use super::graph::{named_by, Body, Document, Graph, Image, SavedImages, SAVED};
use super::layer::Changed;
use super::store::of_bytes;
use super::OciError;

/// What takes the place of the files of an image.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The new files by the name of the one whose place they take.
    pub(super) files: BTreeMap<String, Vec<NewFile>>,
    /// Files that stay, though another takes their place: something that is left alone uses them.
    pub(super) pinned: HashSet<String>,
    /// Digits in old names, and those in the new ones, for links between them.
    pub(super) renamed: HashMap<String, String>,
}

/// A file of the result.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) name: String,
    pub(super) content: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Bytes(Vec<u8>),
    File(File, u64),
}

impl Data {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }
}

/// A new blob, as a descriptor describes it.
struct Described {
    digest: BlobDigest,
    size: u64,
}

/// Makes the files that change with the layers.
pub(super) fn rewrite(graph: &Graph, changed: Vec<Option<Changed>>) -> Result<Changes, OciError> {
    let mut rewriter = Rewriter::default();
    rewriter.changes.pinned = graph.pinned.clone();
    for (layer, changed) in graph.layers.iter().zip(changed) {
        let new = changed.map(|Changed { digest, size, diff_id, file }| {
            let mut pairs = vec![(layer.diff_id.hex(), diff_id.hex())];
            if let Some(old) = &layer.expected.digest {
                pairs.push((old.hex(), digest.hex()));
            }
            for (old, new) in pairs.iter().rev() {
                rewriter.changes.renamed.entry((*old).into()).or_insert((*new).into());
            }
            // as a blob it is named by its own digest, elsewhere by that without compression
            let name = match layer.name.starts_with("blobs/") {
                true => digest.path(),
                false => layer.name.replace(layer.diff_id.hex(), diff_id.hex()),
            };
            rewriter.add(&layer.name, name, Data::File(file, size));
            (Described { digest, size }, diff_id)
        });
        rewriter.layers.push(new);
    }
    for document in &graph.documents {
        let new = rewriter.document(document)?;
        rewriter.documents.push(new);
    }
    if let Some(saved) = &graph.saved {
        rewriter.saved(saved, graph)?;
    }
    Ok(rewriter.changes)
}

#[derive(Default)]
struct Rewriter {
    changes: Changes,
    /// The new layers, and their digests without compression.
    layers: Vec<Option<(Described, BlobDigest)>>,
    documents: Vec<Option<Described>>,
}

impl Rewriter {
    fn add(&mut self, old: &str, name: String, content: Data) {
        self.changes.files.entry(old.to_owned()).or_default().push(NewFile { name, content });
    }

    fn layer(&self, number: usize) -> Option<&(Described, BlobDigest)> {
        self.layers.get(number).and_then(Option::as_ref)
    }

    /// Makes the blob of a document that was edited.
    fn blob(
        &mut self,
        name: &str,
        like: &BlobDigest,
        text: Vec<u8>,
    ) -> Result<Described, OciError> {
        let (digest, size) = (of_bytes(like, &text)?, text.len() as u64);
        self.add(name, digest.path(), Data::Bytes(text));
        Ok(Described { digest, size })
    }

    /// The configuration with the digests of the new layers; `None` if there are none.
    fn config(&self, image: &Image) -> Option<Vec<u8>> {
        let mut edits = Edits::default();
        for (number, layer) in image.layers.iter().enumerate() {
            if let Some((_, diff_id)) = self.layer(*layer) {
                image.config.edit(&mut edits, number, diff_id);
            }
        }
        (!edits.is_empty()).then(|| edits.apply(&image.config_text))
    }

    fn document(&mut self, document: &Document) -> Result<Option<Described>, OciError> {
        let Document { name, digest, text, body } = document;
        let mut edits = Edits::default();
        match body {
            Body::Index(entries) => {
                for (descriptor, number) in entries {
                    let new = number.and_then(|number| self.documents.get(number)?.as_ref());
                    edit(&mut edits, descriptor, new)?;
                }
            }
            Body::Image(manifest, image) => self.image(manifest, image, &mut edits)?,
        }
        if edits.is_empty() {
            return Ok(None);
        }
        let text = edits.apply(text);
        let Some(digest) = digest else {
            self.add(name, name.clone(), Data::Bytes(text));
            return Ok(None);
        };
        self.blob(name, digest, text).map(Some)
    }

    fn image(
        &mut self,
        manifest: &Layers,
        image: &Image,
        edits: &mut Edits,
    ) -> Result<(), OciError> {
        for (descriptor, number) in manifest.layers.iter().zip(&image.layers) {
            edit(edits, descriptor, self.layer(*number).map(|(new, _)| new))?;
        }
        if let Some(text) = self.config(image) {
            let new = self.blob(&image.config_name, &manifest.config.digest, text)?;
            edit(edits, &manifest.config, Some(&new))?;
        }
        Ok(())
    }

    /// The list of docker save: names, and the descriptors of layers.
    fn saved(&mut self, saved: &SavedImages, graph: &Graph) -> Result<(), OciError> {
        let mut edits = Edits::default();
        for (parsed, image) in saved.parsed.images.iter().zip(&saved.images) {
            if let Some(text) = self.config(image) {
                let (name, span) = &parsed.config;
                let mut new_name = name.clone();
                // docker and podman name it by its digest, which nothing demands
                if let Some(old) = named_by(name).digest {
                    let new = of_bytes(&old, &text)?;
                    new_name = name.replace(old.hex(), new.hex());
                    edits.string(span.clone(), &new_name);
                    self.changes.renamed.insert(old.hex().to_owned(), new.hex().to_owned());
                }
                self.add(name, new_name, Data::Bytes(text));
            }
            let known = |number: usize| Some((graph.layers.get(number)?, self.layer(number)?));
            for ((name, span), number) in parsed.layers.iter().zip(&image.layers) {
                let Some((old, (new, diff_id))) = known(*number) else { continue };
                let by_blob = old.expected.digest.as_ref().map(|old| (old, &new.digest));
                let pairs = by_blob.into_iter().chain([(&old.diff_id, diff_id)]);
                let name =
                    pairs.fold(name.clone(), |name, (old, new)| name.replace(old.hex(), new.hex()));
                edits.string(span.clone(), &name);
            }
            for source in &parsed.sources {
                let (id, span) = &source.diff_id;
                let numbers = image.layers.iter().filter_map(|number| known(*number));
                let mut same = numbers.filter(|(old, _)| old.diff_id == *id);
                if let Some((_, (new, diff_id))) = same.next() {
                    edits.string(span.clone(), diff_id.as_str());
                    edit(&mut edits, &source.descriptor, Some(new))?;
                }
            }
        }
        if !edits.is_empty() {
            self.add(SAVED, SAVED.to_owned(), Data::Bytes(edits.apply(&saved.text)));
        }
        Ok(())
    }
}

/// Has a descriptor describe the new blob, if there is one.
fn edit(
    edits: &mut Edits,
    descriptor: &Descriptor,
    new: Option<&Described>,
) -> Result<(), OciError> {
    match new {
        Some(_) if descriptor.has_data => Err(OciError::Data(descriptor.digest.to_string())),
        Some(Described { digest, size }) => {
            descriptor.edit(edits, digest, *size);
            Ok(())
        }
        None => Ok(()),
    }
}
