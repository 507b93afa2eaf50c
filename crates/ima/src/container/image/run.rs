//! The walk, the workers, the changes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ima_format::evm::{InodeId, Metadata};
use ima_format::ext4::Volume;
use ima_format::hash::Digest;
use ima_format::kind::Content;

use super::debugfs::{self, FileChange};
use super::disk::{Layout, Window};
use super::{copy, squashfs_as_tar, Bytes, Ext, FileSystem, Image, ImageError, Volumes};
use crate::container::error::{ContainerError, ItemError};
use crate::container::formats::{Changes, Format};
use crate::container::source::{Entry, SourceError, SourceFile, Unread, Visit};
use crate::container::{
    one, pool, settle, tar, AttributeName, Change, Container, Content as FileContent, Item,
    Operation, Progress, Report, Reports, Run, Selection, Sink, Summary,
};
use crate::digest::{DigestKind, FileHasher};
use crate::input;

impl Container for Image {
    fn run<O: Operation>(self, run: &Run<'_, O>, sink: &mut Sink<'_, O>) -> io::Result<()> {
        one::<O>(&self.path, |reports| self.process(run, reports), sink)
    }
}

impl Image {
    fn process<O: Operation>(
        &self,
        run: &Run<'_, O>,
        reports: &mut Reports<'_, O>,
    ) -> Result<Summary, ContainerError> {
        let read = |source| ImageError::Read { offset: 0, source };
        let original = input::open(&self.path).map_err(read)?;
        let layout = |file| Layout::read(&Bytes::new(file, run.max_sparse)?, &self.partitions);
        let found = layout(original.try_clone().map_err(read)?)?;
        if !O::ACCESS.writes() {
            for window in &found.windows {
                window.named::<O>(reports, |reports| window.read(run, reports))?;
            }
            return Ok(Summary::Image(found.left));
        }
        // before anything is copied
        for window in &found.windows {
            window.name(window.check_writable())?;
            window.name(found.check_verity(window).map_err(Into::into))?;
        }
        let other = original.try_clone().map_err(read)?;
        run.destination.edit(&self.path, other, |copy| {
            let windows = layout(copy)?.windows;
            for window in &windows {
                window.named::<O>(reports, |reports| window.write(run, reports))?;
            }
            match run.destination.is_nowhere() {
                true => Ok(()),
                false => Ok(check_outside(&original, &windows)?),
            }
        })?;
        Ok(Summary::Image(found.left))
    }
}

impl Window {
    /// Names the partition in an error.
    fn name(&self, result: Result<(), ContainerError>) -> Result<(), ContainerError> {
        result.map_err(|error| match (&self.part, error) {
            (Some(part), error) if !matches!(error, ContainerError::Report(_)) => {
                ContainerError::Part { part: part.clone(), source: Box::new(error) }
            }
            (_, error) => error,
        })
    }

    /// Does the work, and names the partition in its reports and its error.
    fn named<O: Operation>(
        &self,
        reports: &mut Reports<'_, O>,
        work: impl FnOnce(&mut Reports<'_, O>) -> Result<(), ContainerError>,
    ) -> Result<(), ContainerError> {
        self.name(work(&mut |report| reports(Report { part: self.part.clone(), ..report })))
    }

    fn check_writable(&self) -> Result<(), ContainerError> {
        match self.bytes.content()?.and_then(Format::of) {
            Some(format) if format.changes == Changes::None => {
                Err(ImageError::ReadOnly(format.name).into())
            }
            _ => Ok(()),
        }
    }

    fn read<O: Operation>(
        &self,
        run: &Run<'_, O>,
        reports: &mut Reports<'_, O>,
    ) -> Result<(), ContainerError> {
        if self.bytes.content()? == Some(Content::Squashfs) {
            let archive = squashfs_as_tar(&self.bytes, &run.spool)?;
            return tar::run::run(Box::new(archive), run, None, reports).map(drop);
        }
        let volumes = Volumes::open(self.bytes.clone())?;
        volumes.run(run, &mut |_, _| Ok(()), reports)
    }

    fn write<O: Operation>(
        &self,
        run: &Run<'_, O>,
        reports: &mut Reports<'_, O>,
    ) -> Result<(), ContainerError> {
        let volumes = Volumes::open(self.bytes.clone())?;
        let mut changes = Vec::new();
        let mut keep = |found: &Found, change: Change| {
            if change.edits().next().is_some() {
                let inode = Ext::number(&found.entry)?;
                changes.push(FileChange { path: found.path.clone(), inode, change });
            }
            Ok(())
        };
        volumes.run(run, &mut keep, reports)?;
        match run.destination.is_nowhere() {
            true => Ok(()),
            false => Ok(volumes.change(&changes)?),
        }
    }
}

/// Checks that no program changed more than the file systems that it was given.
fn check_outside(original: &File, windows: &[Window]) -> Result<(), ImageError> {
    let Some(Window { bytes: any, .. }) = windows.first() else { return Ok(()) };
    let read = |source| ImageError::Read { offset: 0, source };
    let size = original.metadata().map_err(read)?.len();
    let mut inside: Vec<_> = windows.iter().map(|it| (it.bytes.start, it.bytes.size)).collect();
    inside.sort_unstable();
    let mut end = 0;
    for (start, length) in inside.into_iter().chain([(size, 0)]) {
        if !copy::is_same([original, any.file()], end..start).map_err(read)? {
            return Err(ImageError::Outside);
        }
        end = start + length;
    }
    Ok(())
}

/// A regular file that the walk found.
struct Found {
    /// Below the root.
    path: PathBuf,
    size: u64,
    entry: Entry,
}

/// The walk: queues each selected file once, with the first of its names.
struct Walk<'a> {
    selection: &'a Selection,
    progress: &'a dyn Progress,
    seen: HashSet<(u64, u64)>,
    stop: &'a AtomicBool,
    queue: &'a mut dyn FnMut(Result<Found, SourceError>, u64),
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

impl Visit for Walk<'_> {
    fn found(&mut self, found: Result<Entry, Unread>) -> ControlFlow<()> {
        match found {
            Ok(entry) => {
                let path = below_root(&entry.path).to_owned();
                if let Some(size) = entry.size().filter(|_| self.selection.selects(&path)) {
                    if self.seen.insert(entry.identity) {
                        self.progress.found(size);
                        (self.queue)(Ok(Found { path, size, entry }), size);
                    }
                }
            }
            Err(unread) => (self.queue)(Err(unread.error), 0),
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn descends(&self, path: &Path) -> bool {
        self.selection.descends(below_root(path))
    }
}

/// An open file, as an operation sees it.
struct ImageItem<'a> {
    found: &'a Found,
    file: Box<dyn SourceFile + 'a>,
    hasher: &'a mut FileHasher,
    progress: &'a dyn Progress,
}

impl Item for ImageItem<'_> {
    fn attribute(&self, name: AttributeName) -> Result<Option<Cow<'_, [u8]>>, ItemError> {
        Ok(self.file.attribute(name)?.map(Cow::Owned))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.found.path)
    }

    fn metadata(&self) -> Result<Metadata, ItemError> {
        Ok(self.found.entry.metadata())
    }

    fn inode(&self) -> Result<Option<InodeId>, ItemError> {
        Ok(self.file.inode()?)
    }

    fn digest(&mut self, kind: DigestKind) -> Result<Digest, ItemError> {
        let progress = |bytes| self.progress.read(bytes);
        Ok(self.file.digest(self.hasher, self.found.size, kind, &progress)?)
    }

    fn content(&self) -> Option<&dyn FileContent> {
        Some(self)
    }
}

impl FileContent for ImageItem<'_> {
    fn size(&self) -> u64 {
        self.found.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ItemError> {
        Ok(self.file.read_at(offset, buffer)?)
    }
}

/// Whether a file is of a selected kind.
fn wants(selection: &Selection, found: &Found, file: &dyn SourceFile) -> Result<bool, SourceError> {
    let (path, mode) = (&found.path, found.entry.mode);
    if selection.wants_head(path, &[], mode) {
        return Ok(true);
    }
    let mut head = [0; 4];
    let read = file.read_at(0, &mut head)?;
    Ok(selection.wants_head(path, &head[..read], mode))
}

impl Volumes {
    /// Processes each selected file, and gives the reports to `reports` and the changes to `keep`,
    /// in the order of the walk.
    fn run<O: Operation>(
        &self,
        run: &Run<'_, O>,
        keep: &mut dyn FnMut(&Found, Change) -> Result<(), ContainerError>,
        reports: &mut Reports<'_, O>,
    ) -> Result<(), ContainerError> {
        let stop = AtomicBool::new(false);
        let (selection, progress) = (&run.selection, run.progress);
        let produce = |queue: &mut dyn FnMut(Result<Found, SourceError>, u64)| {
            let seen = HashSet::new();
            self.source().list(&mut Walk { selection, progress, seen, stop: &stop, queue });
        };
        let start = || {
            let mut hasher = FileHasher::default();
            let mut worker = run.operation.worker();
            move |found: Result<Found, SourceError>| {
                let found = found?;
                let file = self.source().open(&found.entry)?;
                let settled = match wants(selection, &found, &*file)? {
                    true => {
                        let hasher = &mut hasher;
                        let mut item = ImageItem { found: &found, file, hasher, progress };
                        let processed = run.operation.item(&mut worker, &mut item);
                        drop(item);
                        Some(settle::<O>(&found.path, processed)?)
                    }
                    false => None,
                };
                progress.finished(found.size);
                Ok(settled.map(|settled| (found, settled)))
            }
        };
        let workers = pool::Workers { jobs: run.jobs, batch: pool::FILES };
        pool::run(workers, &stop, produce, start, &mut |result: Result<_, ContainerError>| {
            let Some((found, (outcome, change))) = result? else { return Ok(()) };
            keep(&found, change)?;
            let Found { path, size, .. } = found;
            reports(Report { part: None, path, size, outcome, listed: None })
        })
    }

    /// Makes the changes, and reads them back.
    fn change(&self, changes: &[FileChange]) -> Result<(), ImageError> {
        let FileSystem::Ext(ext) = &self.file_system else { return Ok(()) };
        if changes.is_empty() {
            return Ok(());
        }
        let time = ext.volume.written();
        let said = debugfs::apply(&self.bytes, changes, time)?;
        if ext.volume.keeps_quotas() {
            debugfs::count_quotas(&self.bytes, time)?;
        }
        let volume = Volume::open(self.bytes.clone())?;
        for FileChange { path, inode, change } in changes {
            let inode = volume.inode(*inode, 0)?;
            for (name, edit) in change.edits() {
                if volume.attribute(&inode, name.as_str())?.as_deref() != edit.value() {
                    let (path, said) = (path.clone(), debugfs::complaint(&said));
                    return Err(ImageError::NotWritten { path, said });
                }
            }
        }
        Ok(())
    }
}
