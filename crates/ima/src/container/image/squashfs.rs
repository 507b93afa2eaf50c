//! squashfs images, as the tar archives that `sqfs2tar` (squashfs-tools-ng) makes of them: it
//! runs next to this program, and nothing is unpacked.
//!
//! `sqfs2tar` writes holes as zeros, and a few bytes of an image can ask for any number of them:
//! blocks of zeros are counted.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ima_format::ext4::Disk as _;

use super::{copy, Bytes, ImageError};
use crate::advice::Failure;

/// A squashfs image as a tar archive with attributes. It ends with an error where the program
/// did, and after more bytes in blocks of zeros than are read. A partition is copied to a file
/// without a name in `spool` first, as the program reads from the start of a file.
///
/// # Errors
/// [`ImageError::Sqfs2tar`] where the program is not there.
pub(super) fn squashfs_as_tar(image: &Bytes, spool: &Path) -> Result<impl Read + Send, ImageError> {
    let failed = |source| ImageError::Read { offset: 0, source };
    let file = match image.start {
        0 => image.file().try_clone().map_err(failed)?,
        start => {
            let spooled = tempfile::tempfile_in(spool).map_err(ImageError::Batch)?;
            copy::copy_range(image.file(), start, image.size(), &spooled).map_err(failed)?;
            spooled
        }
    };
    let mut command = Command::new("sqfs2tar");
    command.arg("/proc/self/fd/0").stdin(file).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(ImageError::Sqfs2tar)?;
    let stdout = child.stdout.take();
    Ok(Unpacked { image: image.clone(), child, stdout, offset: 0, zeros: 0 })
}

/// The smallest block of a squashfs image: a hole has no fewer zeros, except at a file's end.
const BLOCK: u64 = 4096;

struct Unpacked {
    /// Counts the zeros.
    image: Bytes,
    child: Child,
    /// Until its end.
    stdout: Option<ChildStdout>,
    offset: u64,
    /// How many zeros were read last, without a break.
    zeros: u64,
}

impl Unpacked {
    /// Counts zeros in whole blocks' worth of them.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let before = self.zeros / BLOCK;
            self.zeros += zeros as u64;
            let holes = (self.zeros / BLOCK - before) * BLOCK;
            self.offset += zeros as u64;
            self.image.zeros(holes, self.offset)?;
            bytes = &bytes[zeros..];
            let data = bytes.iter().take_while(|byte| **byte != 0).count();
            if data > 0 {
                self.zeros = 0;
            }
            self.offset += data as u64;
            bytes = &bytes[data..];
        }
        Ok(())
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        match stdout.read(buffer)? {
            0 if !buffer.is_empty() => {
                self.stdout = None;
                let status = self.child.wait()?;
                match status.success() {
                    true => Ok(0),
                    false => Err(io::Error::other(format!("sqfs2tar failed: {status}"))),
                }
            }
            read => {
                self.count(&buffer[..read])
                    .map_err(|error| io::Error::other(Failure::new(error)))?;
                Ok(read)
            }
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // without a reader it cannot write, and ends
        if self.stdout.take().is_some() {
            self.child.wait().ok();
        }
    }
}
