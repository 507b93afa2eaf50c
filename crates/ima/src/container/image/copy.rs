//! Copies of images: shared where the file system can, else with their holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Makes `copy`, an empty file, hold what `original` holds.
///
/// # Errors
/// Those of reading and writing.
pub(crate) fn copy(original: &File, copy: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(copy, original).is_ok() {
        return Ok(());
    }
    let size = original.metadata()?.len();
    copy.set_len(size)?;
    let (mut from, mut to) = (original, copy);
    let mut offset = 0;
    while let Some((start, end)) = next_data(original.as_fd(), offset, size)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut from.take(end - start), &mut to)?;
        if copied < end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset = end;
    }
    Ok(())
}

/// The next range that is no hole.
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
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // a file system that knows no holes
        Err(Errno::INVAL) => return Ok(Some((offset, size))),
        Err(error) => return Err(error.into()),
    };
    Ok(Some((start, rustix::fs::seek(file, Hole(start))?.min(size))))
}
