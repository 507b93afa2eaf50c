//! Disks with partitions: each file system is a window of the file.
//!
//! The file system of a partition is detected from its content, not from the type that the table states:
//! the kernel mounts by content, too. A partition that could be read as two things is refused.

use ima_format::ext4::Disk as _;
use ima_format::kind::Content;
use ima_format::partition::verity::Tree;
use ima_format::partition::{Partition, Table};
use ima_format::superblock::{
    all, array_offsets, is_array, member, Superblock, BTRFS_OFFSET, HEAD_SIZE,
};

use super::{squashfs_as_tar, Bytes, FileSystem, ImageError};
use crate::container::source::Source;
use crate::container::tar::Index;
use crate::container::{ContainerError, Left, Part};
use crate::digest::Hasher;

/// A file system, and the partition that it is in.
pub(super) struct Window {
    pub(super) part: Option<Part>,
    pub(super) bytes: Bytes,
}

/// The file systems of an image, and its other parts.
pub(super) struct Layout {
    pub(super) windows: Vec<Window>,
    pub(super) left: Vec<Left>,
    /// The hash trees of dm-verity, with their partitions.
    trees: Vec<(Part, Bytes, Tree)>,
}

/// The content of a partition.
enum Holds {
    FileSystem,
    /// A file system with attributes that is not read here.
    Unread(&'static str),
    /// Something without files, or whose files have no attributes.
    Other(&'static str),
}

impl Window {
    /// Its files.
    pub(super) fn source(&self) -> Result<Box<dyn Source>, ContainerError> {
        if self.bytes.content()? == Some(Content::Squashfs) {
            let archive = squashfs_as_tar(&self.bytes, &std::env::temp_dir())?;
            return Ok(Box::new(Index::unpacked(archive, &std::env::temp_dir())?));
        }
        Ok(match FileSystem::open(self.bytes.clone())? {
            FileSystem::Ext(ext) => Box::new(ext),
            FileSystem::Erofs(erofs) => Box::new(erofs),
        })
    }
}

impl Layout {
    /// Reads the partition table, if there is one; `selected` are numbers, labels and UUIDs of
    /// partitions, all of them if it is empty.
    pub(super) fn read(bytes: &Bytes, selected: &[String]) -> Result<Self, ImageError> {
        let mut layout = Self { windows: Vec::new(), left: Vec::new(), trees: Vec::new() };
        if bytes.content()? != Some(Content::Disk) {
            if !selected.is_empty() {
                return Err(ImageError::NoPartitions);
            }
            holds(bytes, &file_systems(bytes)?)?;
            layout.windows.push(Window { part: None, bytes: bytes.clone() });
            return Ok(layout);
        }
        let table = Table::read(bytes)?;
        if let Some(found) = file_systems(bytes)?.first() {
            return Err(ImageError::TableAndFileSystem(kind_of(found)));
        }
        let mut unmatched: Vec<_> = selected.iter().collect();
        for partition in table.partitions {
            let window = bytes.window(partition.start, partition.size);
            let found = file_systems(&window)?;
            let is_named = |name: &&String| names(name, &partition, found.first());
            let is_selected = selected.iter().any(|name| is_named(&name));
            unmatched.retain(|name| !is_named(name));
            let part = Part { noun: "partition", name: partition.number.to_string() };
            layout.add(part, window, &found, is_selected, selected.is_empty())?;
        }
        match unmatched.first() {
            Some(name) => Err(ImageError::NoSuchPartition((*name).clone())),
            None => Ok(layout),
        }
    }

    fn add(
        &mut self,
        part: Part,
        bytes: Bytes,
        found: &[Superblock],
        is_selected: bool,
        takes_all: bool,
    ) -> Result<(), ImageError> {
        let head = bytes.head(0)?;
        if let Some(tree) = Tree::parse(&head) {
            self.trees.push((part.clone(), bytes.clone(), tree));
        }
        match holds(&bytes, found)? {
            Holds::FileSystem if is_selected || takes_all => {
                self.windows.push(Window { part: Some(part), bytes });
            }
            Holds::Unread(content) if is_selected || takes_all => {
                return Err(ImageError::Unread { part, content });
            }
            Holds::Other(content) if is_selected => {
                return Err(ImageError::Unread { part, content })
            }
            Holds::Other(content) if takes_all => self.left.push(Left { part, content }),
            _ => {}
        }
        Ok(())
    }

    /// Checks that no dm-verity hash tree covers a file system that is going to be changed: it could
    /// not be mounted through it any more.
    pub(super) fn check_verity(&self, window: &Window) -> Result<(), ImageError> {
        if let FileSystem::Ext(ext) = FileSystem::open(window.bytes.clone())? {
            if Tree::parse(&window.bytes.head(ext.volume.size())?).is_some() {
                return Err(ImageError::Verity("a hash tree follows it".into()));
            }
        }
        for (part, bytes, tree) in &self.trees {
            if covers(tree, bytes, &window.bytes)? {
                return Err(ImageError::Verity(format!("hash tree in {part}")));
            }
        }
        Ok(())
    }
}

/// Whether an argument names a partition.
fn names(name: &str, partition: &Partition, found: Option<&Superblock>) -> bool {
    let label = found.and_then(|found| found.label.as_deref());
    name == partition.number.to_string()
        || name.eq_ignore_ascii_case(&partition.uuid)
        || partition.name.as_deref() == Some(name)
        || label == Some(name.as_bytes())
}

/// All file systems that it could be mounted as.
fn file_systems(bytes: &Bytes) -> Result<Vec<Superblock>, ImageError> {
    Ok(all(&bytes.head(0)?, &bytes.head(BTRFS_OFFSET)?).collect())
}

fn kind_of(found: &Superblock) -> &'static str {
    found.types.first().copied().unwrap_or_default()
}

/// The content of a partition, or of a disk without partitions. It must be one thing.
fn holds(bytes: &Bytes, file_systems: &[Superblock]) -> Result<Holds, ImageError> {
    let head = bytes.head(0)?;
    let names = file_systems.iter().map(kind_of).chain(member(&head)).chain(array(bytes)?);
    let names: Vec<_> = names.collect();
    if let [first, second, ..] = names[..] {
        return Err(ImageError::Ambiguous { first, second });
    }
    Ok(match (names.first(), file_systems.is_empty()) {
        (Some(&("ext4" | "erofs" | "squashfs")), _) => Holds::FileSystem,
        (Some(name @ &"vfat"), _) | (Some(name), true) => Holds::Other(name),
        (Some(name), false) => Holds::Unread(name),
        (None, _) if head.iter().all(|byte| *byte == 0) => Holds::Other("empty"),
        (None, _) => Holds::Other("unknown content"),
    })
}

/// Whether it is a member of an md array: with superblocks of versions 0.90 and 1.0 its content
/// looks as if it stood alone, and a change of one member is lost or breaks the array.
fn array(bytes: &Bytes) -> Result<Option<&'static str>, ImageError> {
    for offset in array_offsets(bytes.size()).into_iter().flatten() {
        if is_array(&bytes.head(offset)?) {
            return Ok(Some("md array"));
        }
    }
    Ok(None)
}

/// dm-verity has no larger blocks than pages.
const DATA_BLOCK_MAX: u32 = 64 << 10;

/// Whether a tree has the hash of the first block of a file system. One that cannot be computed
/// here is taken to cover any file system that is large enough.
fn covers(tree: &Tree, hashes: &Bytes, data: &Bytes) -> Result<bool, ImageError> {
    let hasher = tree.algorithm.and_then(|algorithm| Hasher::new(algorithm).ok());
    if data.size() < tree.data_size {
        return Ok(false);
    }
    let hasher = hasher.filter(|_| tree.data_block_size <= DATA_BLOCK_MAX);
    let Some(mut hasher) = hasher else { return Ok(true) };
    let mut block = vec![0; tree.data_block_size as usize];
    data.read(0, &mut block)?;
    let digest = hasher.digest(&[&tree.salt[..], &block].concat());
    let Ok(digest) = digest else { return Ok(true) };
    let mut stored = vec![0; digest.as_bytes().len()];
    hashes.read(tree.first_hash, &mut stored)?;
    Ok(stored == digest.as_bytes())
}

impl Bytes {
    /// Its content, by the first bytes.
    pub(super) fn content(&self) -> Result<Option<Content>, ImageError> {
        Ok(Content::of(&self.head(0)?))
    }

    /// Up to [`HEAD_SIZE`] bytes at an offset; none after the end.
    pub(super) fn head(&self, offset: u64) -> Result<Vec<u8>, ImageError> {
        let left = self.size().saturating_sub(offset);
        let mut head = vec![0; left.min(HEAD_SIZE as u64) as usize];
        if !head.is_empty() {
            self.read(offset, &mut head)?;
        }
        Ok(head)
    }
}
