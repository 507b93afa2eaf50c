//! squashfs images, as the tar archives that `sqfs2tar` (squashfs-tools-ng) makes of them: it
//! runs beside us, and nothing is unpacked.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::ImageError;

/// A squashfs image as a tar archive with attributes. It ends with an error where the program
/// did.
///
/// # Errors
/// [`ImageError::Sqfs2tar`] where the program is not there.
pub fn squashfs_as_tar(path: &Path) -> Result<impl Read + Send, ImageError> {
    // a path that begins with a dash is none of its options then
    let path = fs::canonicalize(path).map_err(|source| ImageError::Read { offset: 0, source })?;
    let mut command = Command::new("sqfs2tar");
    command.arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(ImageError::Sqfs2tar)?;
    let stdout = child.stdout.take();
    Ok(Unpacked { child, stdout })
}

struct Unpacked {
    child: Child,
    /// Until its end.
    stdout: Option<ChildStdout>,
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
            read => Ok(read),
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // with its reader gone it has nobody to write to, and ends
        if self.stdout.take().is_some() {
            self.child.wait().ok();
        }
    }
}
