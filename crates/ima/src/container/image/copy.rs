//! Copies of images: shared where the file system can, else with their holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Copies `original` to `copy`, an empty file.
///
/// # Errors
/// Those of reading and writing.
pub(crate) fn copy(original: &File, copy: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(copy, original).is_ok() {
        return Ok(());
    }
    copy_range(original, 0, original.metadata()?.len(), copy)
}

/// Copies `size` bytes of `original` from `first` on to `copy`, an empty file.
///
/// # Errors
/// Those of reading and writing.
pub(super) fn copy_range(original: &File, first: u64, size: u64, copy: &File) -> io::Result<()> {
    copy.set_len(size)?;
    let (mut from, mut to) = (original, copy);
    let (mut offset, last) = (first, first + size);
    while let Some((start, end)) = next_data(original.as_fd(), offset, last)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start - first))?;
        let copied = io::copy(&mut from.take(end - start), &mut to)?;
        if copied < end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset = end;
    }
    Ok(())
}

/// Whether two files have the same bytes in a range.
///
/// # Errors
/// Those of reading.
pub(super) fn is_same(files: [&File; 2], range: Range<u64>) -> io::Result<bool> {
    let mut buffers = [vec![0; 1 << 18], vec![0; 1 << 18]];
    let mut offset = range.start;
    while offset < range.end {
        let count = (range.end - offset).min(1 << 18) as usize;
        for (file, buffer) in files.iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..count], offset)?;
        }
        if buffers[0][..count] != buffers[1][..count] {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}

/// The next range before `size` that is not a hole.
fn next_data(
    file: std::os::fd::BorrowedFd<'_>,
    offset: u64,
    size: u64,
) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::SeekFrom::{Data, Hole};
    if offset >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, Data(offset)) {
        Ok(start) if start >= size => return Ok(None),
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // the file system does not support SEEK_DATA
        Err(Errno::INVAL) => return Ok(Some((offset, size))),
        Err(error) => return Err(error.into()),
    };
    Ok(Some((start, rustix::fs::seek(file, Hole(start))?.min(size))))
}
