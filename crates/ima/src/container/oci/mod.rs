//! Container images: OCI layouts as directories and as archives, and archives of `docker save`.
//!
//! [`store`] gives files by name, from a directory or an archive, and checks digests. [`graph`] reads
//! the documents and their references to each other, each blob once. The files of the layers are then processed
//! by the tar container, layer by layer ([`layer`]); a layer whose bytes change is kept in a
//! temporary file. [`rewrite`] makes the documents that describe the new layers, and [`mod@write`] puts
//! all of it in its place.
//!
//! A digest, and the size next to it, are checked on the bytes that are used, while they are used:
//! results of a layer hold when the container as a whole is reported without an error.

mod applied;
mod detect;
mod graph;
mod layer;
mod rewrite;
mod store;
mod write;

use std::io;
use std::path::PathBuf;

use ima_format::kind::Compression;

use super::error::ContainerError;
use super::source::SourceError;
use super::tar::TarError;
use super::{one, Container, Operation, Part, Report, Reports, Run, Sink, Summary};
use crate::advice::{Advice, Failure};

pub(super) use applied::source;
pub(super) use detect::{has_index, is_archive};
use graph::Graph;
use store::Store;

/// A container image in an archive or a directory.
#[derive(Debug)]
pub struct Oci {
    /// The archive or directory.
    pub path: PathBuf,
}

impl Container for Oci {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        one::<O>(&self.path, |reports| self.process(run, reports), sink)
    }
}

impl Oci {
    /// Whether it is a directory, which is changed in place.
    pub fn is_directory(&self) -> bool {
        self.path.is_dir()
    }

    fn process<O: Operation>(
        &self,
        run: &Run<'_, O>,
        reports: &mut Reports<'_, O>,
    ) -> Result<Summary, ContainerError> {
        let store = Store::open(&self.path, &run.spool)?;
        let graph = Graph::read(&store)?;
        if O::ACCESS.writes() {
            // before anything is read that takes time
            store.check_writable(&run.destination)?;
            for layer in &graph.layers {
                named(&layer.part, layer.check_writable(&store).map_err(Into::into))?;
            }
        }
        let (mut changed, mut holes) = (Vec::new(), run.max_sparse);
        for layer in &graph.layers {
            let mut reports = |report| reports(Report { part: Some(layer.part.clone()), ..report });
            let processed = match O::ACCESS.writes() {
                false => layer.process(&store, run, &mut holes, None, &mut reports).map(|()| None),
                true => layer.write(&store, run, &mut holes, &mut reports),
            };
            changed.push(named(&layer.part, processed)?);
        }
        if O::ACCESS.writes() && !run.destination.is_nowhere() {
            write::write(self, &store, rewrite::rewrite(&graph, changed)?, run)?;
        }
        Ok(Summary::Image(graph.left))
    }
}

/// Names the part in an error.
fn named<T>(part: &Part, result: Result<T, ContainerError>) -> Result<T, ContainerError> {
    result.map_err(|error| match error {
        ContainerError::Report(error) => ContainerError::Report(error),
        error => ContainerError::Part { part: part.clone(), source: Box::new(error) },
    })
}

/// Why a container image was not processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// A file of it cannot be read.
    #[error("{name}: cannot read")]
    Read {
        /// Its name.
        name: String,
        /// Why.
        source: SourceError,
    },
    /// The directory or archive cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Neither an index nor a manifest of docker save is there.
    #[error("not a container image: neither oci-layout nor manifest.json was found")]
    NoLayout,
    /// Docker would read an older list, which is not read here.
    #[error("repositories without manifest.json, the form of docker save before 1.10")]
    Legacy,
    /// Its index has no image.
    #[error("no image that can be processed")]
    NoImage,
    /// A file that is needed is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file is there twice.
    #[error("{0} is in the archive twice")]
    Repeated(String),
    /// A document is larger than registries accept.
    #[error("{0}: document larger than 4 MiB")]
    TooLarge(String),
    /// There are too many documents, or they are nested too deep.
    #[error("too many indexes and manifests, or indexes that are nested too deep")]
    TooMany,
    /// Content that is not the one that a descriptor or configuration names.
    #[error("{name}: content does not match its {what}")]
    Differs {
        /// The file.
        name: String,
        /// The digest, the size, the diff ID.
        what: &'static str,
    },
    /// Two documents say different things of a layer.
    #[error("{0}: described differently by the documents of the image")]
    Contradiction(String),
    /// A document is malformed.
    #[error("{name}: {error}")]
    Malformed {
        /// The document.
        name: String,
        /// The fault.
        error: ima_format::Error,
    },
    /// A layer of a form that is not read.
    #[error("layer of media type {0:?}")]
    MediaType(String),
    /// A layer is compressed otherwise than its media type says.
    #[error("content is {found}, but the media type says otherwise")]
    OtherCompression {
        /// How it is compressed.
        found: Form,
    },
    /// A layer is compressed in a way that images do not use.
    #[error("compressed by {0}")]
    Compression(Compression),
    /// Layers with an index of their files.
    #[error("a {0} layer: its index of files and offsets cannot be updated")]
    Chunked(&'static str),
    /// Files are in the objects of an ostree repository.
    #[error("an ostree container: files are objects of a repository, with their attributes")]
    Ostree,
    /// A descriptor that has its blob in itself.
    #[error("{0}: a descriptor with embedded data, which would have to change")]
    Data(String),
    /// A directory in two forms, which cannot be replaced in one step.
    #[error("a directory with both index.json and manifest.json")]
    TwoForms,
    /// A directory is changed in place.
    #[error("a directory, which is changed in place")]
    InPlaceOnly,
    /// One image is needed, and there are so many.
    #[error("{0} images")]
    Images(usize),
    /// A temporary file cannot be written.
    #[error("{}: cannot keep a layer in a temporary file", directory.display())]
    Spool {
        /// Where.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// No digest could be made.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
}

/// How a blob is compressed, in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form(pub Option<Compression>);

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(compression) => write!(f, "compressed by {compression}"),
            None => f.write_str("not compressed"),
        }
    }
}

impl Advice for OciError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { source, .. } | Self::Source(source) => return source.advice(),
            Self::Missing(_) | Self::Differs { .. } => {
                "the image is damaged or incomplete: copy it again (skopeo copy)"
            }
            Self::MediaType(_) => {
                "layers are tar archives, compressed by gzip or zstd or not at all"
            }
            Self::Compression(_) | Self::OtherCompression { .. } => {
                "configure the builder to write gzip or zstd layers with their media types"
            }
            Self::Chunked(_) => "sign the image before its layers are converted",
            Self::Ostree => {
                "sign the files of the commit (ostree-ext-cli ima-sign), or the root before it is \
                 committed"
            }
            Self::Legacy => {
                "save it again: docker load and other programs read different images from it"
            }
            Self::TwoForms => "sign the archive that it was unpacked from",
            Self::InPlaceOnly => "copy it (cp -a), and leave out -o",
            Self::Images(_) => "skopeo copy writes one of them",
            Self::Spool { .. } => "set TMPDIR to a directory with room for the layers",
            _ => return None,
        })
    }
}

impl From<OciError> for ContainerError {
    fn from(error: OciError) -> Self {
        Failure::new(error).into()
    }
}

impl From<TarError> for OciError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Write(error) => Self::Write(error),
            error => Self::Source(SourceError::Format(Failure::new(error))),
        }
    }
}
