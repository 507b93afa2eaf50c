//! The new archive, or the new files of a layout.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ima_format::tar::{padding, FileType, Member, Substitute};

use super::graph::INDEX;
use super::rewrite::{Changes, Data, NewFile};
use super::store::{Backing, Store};
use super::{Oci, OciError};
use crate::container::error::ContainerError;
use crate::container::tar::{below_root, Index, Original, TarError};
use crate::container::{Destination, Run};
use crate::staging::{Location, Staged};

/// Writes the result: a whole archive, or a layout that is the old one until its index is replaced.
pub(super) fn write<O>(
    image: &Oci,
    store: &Store,
    changes: Changes,
    run: &Run<'_, O>,
) -> Result<(), ContainerError> {
    let in_place = matches!(run.destination, Destination::InPlace) && run.compression.is_none();
    match &store.backing {
        _ if in_place && changes.files.is_empty() => Ok(()),
        Backing::Archive(index) => {
            let compression = run.compression.unwrap_or(index.compression());
            run.destination.write(&image.path, compression, run.jobs, |output| {
                Ok(archive(index, changes, output)?)
            })
        }
        Backing::Directory(_) => match run.destination {
            Destination::InPlace => Ok(layout(&image.path, changes)?),
            _ => Err(OciError::InPlaceOnly.into()),
        },
    }
}

fn archive(index: &Index, mut changes: Changes, output: &mut dyn Write) -> Result<(), OciError> {
    let mut written = HashSet::new();
    index.copy(output, &mut |member, output| substitute(member, output, &mut changes, &mut written))
}

/// Writes the files that replace a member.
fn substitute(
    member: &Member,
    output: &mut dyn Write,
    changes: &mut Changes,
    written: &mut HashSet<String>,
) -> Result<Original, OciError> {
    let path = below_root(Path::new(OsStr::from_bytes(&member.path)));
    let Some(name) = path.to_str() else { return Ok(Original::Stays) };
    let written_as = |name: &str, own: &str| match member.path.strip_suffix(own.as_bytes()) {
        Some(prefix) => [prefix, name.as_bytes()].concat(),
        None => name.as_bytes().to_vec(),
    };
    if member.file_type() == FileType::SymbolicLink {
        let (path, link) = (changes.renamed_in(&member.path), changes.renamed_in(&member.link));
        if path == member.path && link == member.link {
            return Ok(Original::Stays);
        }
        let head = member.substitute(&path, Substitute::Link(&link));
        output.write_all(&head).map_err(TarError::Write)?;
        return Ok(Original::Goes);
    }
    let Some(files) = changes.files.remove(name) else {
        // a blob that a new one is the same as is there already
        return match member.file_type() == FileType::File && !written.insert(name.to_owned()) {
            true => Ok(Original::Goes),
            false => Ok(Original::Stays),
        };
    };
    for NewFile { name: new, content } in files {
        if !written.insert(new.clone()) {
            continue;
        }
        let size = content.size();
        let head = member.substitute(&written_as(&new, name), Substitute::File(size));
        output.write_all(&head).map_err(TarError::Write)?;
        content.write_to(output).map_err(TarError::Write)?;
        output.write_all(&vec![0; padding(size)]).map_err(TarError::Write)?;
    }
    match changes.pinned.contains(name) && written.insert(name.to_owned()) {
        true => Ok(Original::Stays),
        false => Ok(Original::Goes),
    }
}

impl Changes {
    /// A name or a link with the digits of a new file.
    fn renamed_in(&self, name: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
        let digits = |char: char| !char.is_ascii_hexdigit();
        let mut words = text.split(digits).filter(|word| word.len() >= 64);
        match words.find_map(|word| Some((word, self.renamed.get(word)?))) {
            Some((old, new)) => text.replace(old, new).into_bytes(),
            None => name.to_vec(),
        }
    }
}

impl Data {
    fn write_to(self, output: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => output.write_all(&bytes),
            Self::File(mut file, _) => {
                file.rewind()?;
                io::copy(&mut file, output).map(drop)
            }
        }
    }
}

/// Files that are removed again, unless the run completes.
struct Added(Vec<PathBuf>);

impl Drop for Added {
    fn drop(&mut self) {
        for path in &self.0 {
            fs::remove_file(path).ok();
        }
    }
}

/// Adds the new blobs, replaces the index, then removes the blobs that were replaced.
fn layout(root: &Path, mut changes: Changes) -> Result<(), OciError> {
    let Some(index) = changes.files.remove(INDEX) else { return Ok(()) };
    let (mut added, mut kept, mut old) = (Added(Vec::new()), HashSet::new(), Vec::new());
    for (name, files) in changes.files {
        for NewFile { name: new, content } in files {
            let path = root.join(&new);
            let is_new = fs::symlink_metadata(&path).is_err();
            // it has the same content otherwise: its name is its digest
            if kept.insert(new) && is_new {
                let like = fs::metadata(root.join(&name)).map_err(OciError::Write)?;
                put(&path, like.permissions().mode() & 0o777, content)?;
                added.0.push(path);
            }
        }
        old.push(name);
    }
    for NewFile { content, .. } in index {
        replace(&root.join(INDEX), content)?;
    }
    added.0.clear();
    for name in old.iter().filter(|name| !kept.contains(*name) && !changes.pinned.contains(*name)) {
        fs::remove_file(root.join(name)).map_err(OciError::Write)?;
    }
    Ok(())
}

fn put(path: &Path, permissions: u32, content: Data) -> Result<(), OciError> {
    let write = || {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        directory.map_or(Ok(()), fs::create_dir_all)?;
        let staged = Staged::new(Location::of(path)?, permissions)?;
        content.write_to(&mut staged.as_file())?;
        staged.complete()?;
        staged.persist()
    };
    write().map_err(OciError::Write)
}

fn replace(path: &Path, content: Data) -> Result<(), OciError> {
    let write = || {
        let staged = Staged::replacing(Location::of(path)?, 0o644)?;
        content.write_to(&mut staged.as_file())?;
        staged.complete()?;
        staged.persist()
    };
    write().map_err(OciError::Write)
}
