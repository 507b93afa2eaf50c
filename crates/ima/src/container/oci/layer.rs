//! A layer: a tar archive, compressed or not.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use ima_format::kind::{Compression, Content, HEAD_SIZE};
use ima_format::oci::BlobDigest;
use ima_format::tar::AfterEnd;

use super::store::{Expected, Hashing, Passed, Store};
use super::{Form, OciError};
use crate::compression::{self, Encoder};
use crate::container::tar::{self, Index, TarError};
use crate::container::{ContainerError, Destination, Operation, Part, Report, Reports, Run};

/// A layer of an image.
#[derive(Debug)]
pub(super) struct Layer {
    /// Its file.
    pub(super) name: String,
    /// Its digest and size, as documents state them.
    pub(super) expected: Expected,
    /// The digest without compression.
    pub(super) diff_id: BlobDigest,
    pub(super) compression: Option<Compression>,
    /// It has an index of its files.
    pub(super) chunked: Option<&'static str>,
    pub(super) part: Part,
}

/// A layer that was changed.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) diff_id: BlobDigest,
    pub(super) file: File,
}

impl Layer {
    /// How a file is compressed.
    pub(super) fn compression_of(
        store: &Store,
        name: &str,
    ) -> Result<Option<Compression>, OciError> {
        match Content::of(&store.part(name, 0, HEAD_SIZE)?) {
            Some(Content::Compressed(it @ (Compression::Gzip | Compression::Zstd))) => Ok(Some(it)),
            Some(Content::Compressed(other)) => Err(OciError::Compression(other)),
            _ => Ok(None),
        }
    }

    /// Checks that it is compressed as its media type says: programs go by the one or the other.
    pub(super) fn check_compression(&self, store: &Store) -> Result<(), OciError> {
        match Self::compression_of(store, &self.name)? {
            found if found == self.compression => Ok(()),
            found => Err(OciError::OtherCompression { found: Form(found) }),
        }
    }

    /// Refuses one whose index of files would have to change.
    pub(super) fn check_writable(&self, store: &Store) -> Result<(), OciError> {
        let end = store.part(&self.name, -64, 64)?;
        let has = |mark: &[u8]| end.windows(mark.len()).any(|window| window == mark);
        let chunked = self.chunked.or(match self.compression {
            Some(Compression::Gzip) if has(b"STARGZ") => Some("eStargz"),
            Some(Compression::Zstd) if has(b"GNUlInUx") => Some("zstd:chunked"),
            _ => None,
        });
        chunked.map_or(Ok(()), |kind| Err(OciError::Chunked(kind)))
    }

    /// Has `take` read it without its compression, then checks both digests.
    fn unpacked<T, E: From<OciError> + From<TarError>>(
        &self,
        store: &Store,
        take: impl FnOnce(&mut (dyn Read + Send)) -> Result<T, E>,
    ) -> Result<T, E> {
        let read = |source| TarError::Read { offset: 0, source };
        let as_digest = self.expected.digest.as_ref().unwrap_or(&self.diff_id);
        let mut packed = Hashing::new(store.reader(&self.name)?, as_digest)?;
        let decoder: Box<dyn Read + Send + '_> = match self.compression {
            Some(compression) => compression::decoder(compression, &mut packed).map_err(read)?,
            None => Box::new(&mut packed),
        };
        let mut plain = Hashing::new(decoder, &self.diff_id)?;
        let taken = take(&mut plain)?;
        io::copy(&mut plain, &mut io::sink()).map_err(read)?;
        let Passed { digest: diff_id, .. } = plain.finish()?;
        io::copy(&mut packed, &mut io::sink()).map_err(read)?;
        let Passed { digest, size, .. } = packed.finish()?;
        self.expected.check(&self.name, Some(&digest), size)?;
        match diff_id == self.diff_id {
            true => Ok(taken),
            false => Err(OciError::Differs { name: self.name.clone(), what: "diff ID" }.into()),
        }
    }

    /// Its files, for a root that it is a layer of.
    pub(super) fn index(&self, store: &Store) -> Result<Index, OciError> {
        let spool = std::env::temp_dir();
        self.unpacked(store, |plain| Index::unpacked(plain, &spool).map_err(OciError::from))
    }

    /// Processes its files, and gives it with their changes, if there are any.
    pub(super) fn write<O: Operation>(
        &self,
        store: &Store,
        run: &Run<'_, O>,
        holes: &mut u64,
        reports: &mut Reports<'_, O>,
    ) -> Result<Option<Changed>, ContainerError> {
        if run.destination.is_nowhere() {
            let output = &mut io::sink();
            self.process(store, run, holes, Some(output), reports)?;
            return Ok(None);
        }
        let spool = |source| OciError::Spool { directory: run.spool.clone(), source };
        let file = tempfile::tempfile_in(&run.spool).map_err(spool)?;
        let as_digest = self.expected.digest.as_ref().unwrap_or(&self.diff_id);
        let sink = Hashing::new(BufWriter::with_capacity(1 << 18, file), as_digest)?;
        let encoder = Encoder::new(self.compression, sink, run.jobs).map_err(spool)?;
        let mut plain = Hashing::new(encoder, &self.diff_id)?;
        self.process(store, run, holes, Some(&mut plain), reports)?;
        let Passed { inner: encoder, digest: diff_id, .. } = plain.finish()?;
        if diff_id == self.diff_id {
            return Ok(None);
        }
        let sink = encoder.finish().map_err(spool)?;
        let Passed { inner, digest, size } = sink.finish()?;
        let file = inner.into_inner().map_err(|error| spool(error.into_error()))?;
        Ok(Some(Changed { digest, size, diff_id, file }))
    }

    /// Processes its files, and writes it to `output`, if there is one. `holes` is the rest of the limit
    /// for the holes of sparse files in all layers.
    pub(super) fn process<O: Operation>(
        &self,
        store: &Store,
        run: &Run<'_, O>,
        holes: &mut u64,
        output: Option<&mut dyn Write>,
        reports: &mut Reports<'_, O>,
    ) -> Result<(), ContainerError> {
        let run = Run {
            operation: run.operation,
            selection: run.selection.clone().in_layer(),
            jobs: run.jobs,
            destination: Destination::Nowhere,
            compression: None,
            max_sparse: *holes,
            after_end: AfterEnd::Refuse,
            spool: run.spool.clone(),
            progress: run.progress,
        };
        let mut reports = |report: Report<O::Outcome>| match is_object(&report) {
            true => Err(OciError::Ostree.into()),
            false => reports(report),
        };
        let extent = self
            .unpacked(store, |plain| tar::run::run(Box::new(plain), &run, output, &mut reports))?;
        *holes -= extent.holes;
        Ok(())
    }
}

/// Whether a file is one of the objects of an ostree repository that have the attributes of others.
fn is_object<T>(report: &Report<T>) -> bool {
    let name = report.path.as_os_str().to_string_lossy();
    name.contains("ostree/repo/objects/") && name.ends_with(".file-xattrs")
}
