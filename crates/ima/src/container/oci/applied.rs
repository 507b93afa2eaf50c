//! The root that an image makes: its layers, one applied after the other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::graph::Graph;
use super::store::{join, Store};
use super::{named, OciError};
use crate::container::error::ContainerError;
use crate::container::source::{Entry, EntryKind, Source, SourceError, SourceFile, Unread, Visit};
use crate::container::tar::Index;

/// The name of a file that makes a directory opaque: nothing of lower layers is in it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The beginning of the name of a file that removes another one.
const WHITEOUT: &[u8] = b".wh.";

/// How many links are followed to a directory.
const LINKS: usize = 8;

/// A root in layers.
#[derive(Debug)]
struct Applied {
    layers: Vec<Index>,
    /// With the number of the layer.
    entries: BTreeMap<PathBuf, (usize, Entry)>,
}

/// The root of the only image in an archive or a layout.
///
/// # Errors
/// An image that cannot be read; several images.
pub(in crate::container) fn source(path: &Path) -> Result<Box<dyn Source>, ContainerError> {
    let store = Store::open(path, &std::env::temp_dir())?;
    let graph = Graph::read(&store)?;
    let mut roots: Vec<&[usize]> = graph.images().map(|image| &*image.layers).collect();
    // the list of docker save names the image of the index again
    roots.dedup();
    let &[layers] = &*roots else { return Err(OciError::Images(roots.len()).into()) };
    let mut applied = Applied { layers: Vec::new(), entries: BTreeMap::new() };
    for layer in layers.iter().filter_map(|number| graph.layers.get(*number)) {
        applied.apply(named(&layer.part, layer.index(&store).map_err(Into::into))?);
    }
    Ok(Box::new(applied))
}

impl Applied {
    fn apply(&mut self, layer: Index) {
        let mut listed = Vec::new();
        // an archive lists everything
        layer.list(&mut |found: Result<Entry, Unread>| listed.extend(found));
        let number = self.layers.len();
        let name = |entry: &Entry| entry.path.file_name().unwrap_or_default().as_bytes().to_vec();
        let (marks, files): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|entry| name(entry).starts_with(WHITEOUT));
        for mark in marks {
            let directory = &self.resolve(mark.path.parent().unwrap_or(Path::new("/")), LINKS);
            match name(&mark) {
                opaque if opaque == OPAQUE => self.remove_below(directory),
                mark => {
                    let name = Path::new(OsStr::from_bytes(&mark[WHITEOUT.len()..]));
                    // not of the directory itself
                    if name.file_name().is_some() {
                        let path = directory.join(name);
                        self.remove_below(&path);
                        self.entries.remove(&path);
                    }
                }
            }
        }
        for entry in files {
            if layer.is_implied(&entry.path) {
                let path = self.resolve(&entry.path, LINKS);
                // it has no mode of its own
                if self.has_directory(&path) {
                    continue;
                }
            }
            let path = match (entry.path.parent(), entry.path.file_name()) {
                (Some(parent), Some(name)) => self.resolve(parent, LINKS).join(name),
                _ => entry.path.clone(),
            };
            if entry.kind != EntryKind::Directory {
                self.remove_below(&path);
            }
            // inodes are of their layer
            let identity = match entry.identity.1 {
                u64::MAX => entry.identity,
                inode => (number as u64, inode),
            };
            self.entries.insert(path.clone(), (number, Entry { path, identity, ..entry }));
        }
        self.layers.push(layer);
    }

    /// Where a directory is, through the links that lead to it: programs that unpack a layer follow links
    /// in the root, but for the last component.
    fn resolve(&self, directory: &Path, links: usize) -> PathBuf {
        let mut path = PathBuf::from("/");
        for name in directory.components().skip(1) {
            path.push(name);
            let Some((_, Entry { kind: EntryKind::Link(target), .. })) = self.entries.get(&path)
            else {
                continue;
            };
            if let Some(links) = links.checked_sub(1) {
                path = self.resolve(&join(&path, target), links);
            }
        }
        path
    }

    fn has_directory(&self, path: &Path) -> bool {
        self.entries.get(path).is_some_and(|(_, entry)| entry.kind == EntryKind::Directory)
    }

    fn remove_below(&mut self, directory: &Path) {
        if !self.has_directory(directory) {
            return;
        }
        // paths are in the order of their components
        let from = self.entries.range(directory.to_owned()..);
        let below = from.map(|(path, _)| path).take_while(|path| path.starts_with(directory));
        let below: Vec<_> = below.filter(|path| *path != directory).cloned().collect();
        below.iter().for_each(|path| drop(self.entries.remove(path)));
    }
}

impl Source for Applied {
    fn list(&self, visit: &mut dyn Visit) {
        for (_, entry) in self.entries.values() {
            if visit.found(Ok(entry.clone())).is_break() {
                return;
            }
        }
    }

    fn open<'a>(&'a self, entry: &Entry) -> Result<Box<dyn SourceFile + 'a>, SourceError> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let (number, _) = self.entries.get(&entry.path).ok_or_else(missing)?;
        self.layers.get(*number).ok_or_else(missing)?.open(entry)
    }
}
