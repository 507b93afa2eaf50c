//! Where files and their attributes are: trees of files, packages, archives, images.
//!
//! A [`Container`] gives each of its files, as an [`Item`], to an [`Operation`], and carries out the
//! [`Change`] that comes of it. Neither knows the other's cases: an operation is written once for
//! all containers, and a container once for all operations.
//!
//! Operations are called from several threads. Reports reach the caller's thread in the order in
//! which the files were found. An error of one file or of one container is a report, too, and does
//! not end the run.

mod any;
mod change;
mod destination;
mod detect;
mod error;
mod formats;
pub mod image;
pub mod initramfs;
pub(crate) mod links;
pub mod oci;
pub mod open;
pub(crate) mod pool;
pub mod rpm;
mod selection;
pub mod source;
mod swu;
pub mod tar;
pub mod tree;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ima_format::evm::{InodeId, Metadata};
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::kind::Compression;
use ima_format::tar::AfterEnd;

pub use any::AnyContainer;
pub use change::{Change, Edit, End};
pub use destination::{Destination, DirectoryMode, OutputDirectory};
pub use detect::{detect, DetectError, Found};
pub use error::{Anomaly, ContainerError, ItemError, WalkError};
pub use formats::{Changes, Format, Named, FORMATS};
pub use ima_format::xattr::AttributeName;
pub use selection::{Only, Selection, SelectionError};

use crate::digest::DigestKind;

/// How many zeros of sparse files are digested in an archive or an image, unless more are
/// allowed. They take time and no room: a few KiB can ask for any number of them.
pub const MAX_SPARSE: u64 = 16 << 30;

/// A file in a container, as an operation sees it.
pub trait Item {
    /// The value of an attribute, if the file has it.
    ///
    /// # Errors
    /// Those of reading it.
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError>;

    /// Whether the file has an attribute, whatever it is.
    ///
    /// # Errors
    /// Those of looking for it.
    fn has_attribute(&self, name: AttributeName) -> Result<bool, ItemError> {
        Ok(self.attribute(name)?.is_some())
    }

    /// Its path below the root of the container; `None` where that is not known.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// The digest of its content, or that of fs-verity; a package gives the one that its header
    /// lists.
    ///
    /// # Errors
    /// Those of reading and of the hash; a file that changed.
    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError>;

    /// Its owner and mode, as they will be where the container is used.
    ///
    /// # Errors
    /// Those of reading them; a container that does not have them.
    fn metadata(&self) -> Result<Metadata, ItemError>;

    /// Its inode; `None` where the container's files get one when they are unpacked.
    ///
    /// # Errors
    /// Those of reading it.
    fn inode(&self) -> Result<Option<InodeId>, ItemError> {
        Ok(None)
    }

    /// The algorithm of the only digest that there is; `None` where any can be made.
    fn algorithm(&self) -> Option<HashAlgorithm> {
        None
    }

    /// A property with which no signature can be right.
    fn anomaly(&self) -> Option<Anomaly> {
        None
    }

    /// Its content, where any part of it can be read.
    fn content(&self) -> Option<&dyn Content> {
        None
    }

    /// The same, where at least the end of it can be read: where an appended signature is.
    fn end(&self) -> Option<&dyn Content> {
        self.content()
    }

    /// The same, where the end of it can also be replaced ([`Change::of_end`]).
    fn rewritable(&self) -> Option<&dyn Content> {
        None
    }

    /// Checks that the container has the content that its digest stands for, before that is signed.
    ///
    /// # Errors
    /// Content that differs, or cannot be read.
    fn check_content(&self) -> Result<(), ItemError> {
        Ok(())
    }
}

/// Content of which any part can be read.
pub trait Content {
    /// In bytes.
    fn size(&self) -> u64;

    /// Reads at an offset; 0 bytes at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ItemError>;
}

/// Work on the files of containers.
pub trait Operation: Sync {
    /// The result for one file.
    type Outcome: Send;
    /// The state of one thread: a signing session, a verifier.
    type Worker;

    /// Whether it changes attributes.
    const ACCESS: Access;
    /// The treatment of temporary files that interrupted runs left in a tree.
    const LEFT_OVER: LeftOver = LeftOver::Found;

    /// The attributes that it judges or changes.
    fn attributes(&self) -> &'static [AttributeName] {
        &[AttributeName::Ima]
    }

    /// Makes the state of a thread.
    fn worker(&self) -> Self::Worker;

    /// The digest that it will ask for, of a file with this `security.ima`. A stream makes it while
    /// it reads, and keeps no more data than needed. By default there is none.
    fn digest_for(&self, _: Option<&[u8]>) -> Option<DigestKind> {
        None
    }

    /// Processes a file.
    ///
    /// # Errors
    /// Those of the item, and of the work itself.
    fn item(
        &self,
        worker: &mut Self::Worker,
        item: &mut dyn Item,
    ) -> Result<(Self::Outcome, Change), ItemError>;

    /// Processes a file without content: a directory, a link or a device that a package lists.
    ///
    /// # Errors
    /// Those of the item.
    fn without_content(&self, _: &dyn Item) -> Result<Option<Self::Outcome>, ItemError> {
        Ok(None)
    }

    /// Processes a further name of a file, in a container that gives attributes to names. Those of
    /// [`Operation::attributes`] that it has itself are removed by an operation that writes.
    fn further_name(&self, name: FurtherName) -> Option<Result<Self::Outcome, Anomaly>> {
        name.anomaly.map(Err)
    }
}

/// A further name of a file: a hard link in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherName {
    /// It has attributes itself.
    pub has_attribute: bool,
    /// Why the result for its file does not hold for it.
    pub anomaly: Option<Anomaly>,
}

/// Whether an operation changes attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Reads,
    /// It removes them.
    Removes,
    /// It sets them: they vouch for the content.
    Sets,
}

impl Access {
    /// Whether it changes them.
    pub fn writes(self) -> bool {
        self != Self::Reads
    }
}

/// The treatment of temporary files that interrupted runs left in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOver {
    /// They are files like others: whoever judges a tree looks at all of it.
    Found,
    /// They are left out, and reported.
    LeftOut,
}

/// An operation, and how it is run on any container.
#[allow(missing_debug_implementations)] // progress is reported to anyone
pub struct Run<'a, O> {
    /// The operation.
    pub operation: &'a O,
    /// Which of the files.
    pub selection: Selection,
    /// Worker threads.
    pub jobs: NonZeroUsize,
    /// Where the result is written, by an operation that writes.
    pub destination: Destination,
    /// How an archive is compressed; as it was, where this is `None`.
    pub compression: Option<Option<Compression>>,
    /// How many zeros in the holes of sparse files are digested.
    pub max_sparse: u64,
    /// The treatment of bytes after an archive's end.
    pub after_end: AfterEnd,
    /// A directory with room for some of the largest files.
    pub spool: PathBuf,
    /// Where progress is reported.
    pub progress: &'a dyn Progress,
}

/// Files and their attributes.
pub trait Container: Sized {
    /// Runs an operation on each selected file, and gives the results to `sink`.
    ///
    /// # Errors
    /// Those of `sink`. All others are events.
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()>;
}

/// Takes events one by one; an error ends the run.
pub type Sink<'a, O> = dyn FnMut(Event<'_, <O as Operation>::Outcome>) -> io::Result<()> + 'a;

/// An event of a run.
#[derive(Debug)]
pub enum Event<'a, T> {
    /// A file was processed, or not.
    Item {
        /// The container that it is in; `None` in a tree.
        container: Option<&'a Path>,
        /// The result.
        report: Report<T>,
    },
    /// A container is done: the reports of its files are valid, or nothing was written.
    Container {
        /// Its path.
        path: &'a Path,
        /// The result.
        outcome: Result<Summary, ContainerError>,
    },
}

/// A part of a container that has files of its own, as a partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The kind of part: `partition`, `layer`.
    pub noun: &'static str,
    /// Which one.
    pub name: String,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the first digits of a digest, as other programs for images show them
        let digits = self.name.strip_prefix("sha256:").and_then(|digits| digits.get(..12));
        write!(f, "{} {}", self.noun, digits.unwrap_or(&self.name))
    }
}

/// A part of a container that was left alone, as it has no files with attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The part.
    pub part: Part,
    /// Its content.
    pub content: &'static str,
}

/// The result for one file.
#[derive(Debug)]
pub struct Report<T> {
    /// The part of its container that it is in, where that has parts.
    pub part: Option<Part>,
    /// Its path: in its container, or the root as given and the path below it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The outcome, or why there is none.
    pub outcome: Result<T, ItemError>,
    /// Its properties in the header of a package.
    pub listed: Option<rpm::Listed>,
}

/// Properties of a container that was processed, besides the reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum Summary {
    /// An archive.
    Archive(tar::Extent),
    /// An image of a file system or a container image, and the parts of it that were left alone.
    Image(Vec<Left>),
    /// A package.
    Package(Box<rpm::PackageSummary>),
    /// A file among packages that is not a package.
    NotAPackage,
}

/// Gives the results of one container to a sink: its reports, then its summary.
fn one<O: Operation>(
    path: &Path,
    process: impl FnOnce(&mut Reports<'_, O>) -> Result<Summary, ContainerError>,
    sink: &mut Sink<'_, O>,
) -> io::Result<()> {
    let processed = process(&mut |report| {
        sink(Event::Item { container: Some(path), report }).map_err(ContainerError::Report)
    });
    match processed {
        Err(ContainerError::Report(error)) => Err(error),
        outcome => sink(Event::Container { path, outcome }),
    }
}

/// Takes the reports of one container.
type Reports<'a, O> =
    dyn FnMut(Report<<O as Operation>::Outcome>) -> Result<(), ContainerError> + 'a;

/// Sorts the result for a file in a container that is written whole or not at all: an error of one file
/// ends the writing. If nothing is written, it is reported like others.
fn settle<O: Operation>(
    path: &Path,
    processed: Result<(O::Outcome, Change), ItemError>,
) -> Result<(Result<O::Outcome, ItemError>, Change), ContainerError> {
    let item = |source| ContainerError::Item { path: path.to_owned(), source };
    match processed {
        Ok((outcome, change)) => Ok((Ok(outcome), change)),
        Err(ItemError::Container(error)) => Err(*error),
        // another thread found it, and may report it later
        Err(ItemError::KeyLost(reason)) => Err(item(ItemError::Sign(reason))),
        Err(error) if O::ACCESS.writes() => Err(item(error)),
        Err(error) => Ok((Err(error), Change::none())),
    }
}

/// Shows the progress of a run; called from any thread.
pub trait Progress: Sync {
    /// A file or container of so many bytes was found.
    fn found(&self, bytes: u64);
    /// So many more bytes were read.
    fn read(&self, bytes: u64);
    /// One of these is done, of so many bytes, whether they were read or not.
    fn finished(&self, bytes: u64);
    /// A temporary file or directory of an interrupted run is skipped.
    fn left_out(&self, _path: &Path) {}
    /// A file of so many bytes waits in a temporary file in this directory.
    fn spooled(&self, _path: &Path, _bytes: u64, _directory: &Path) {}
}

/// Reports nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn found(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn finished(&self, _: u64) {}
}
