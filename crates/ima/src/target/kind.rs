//! What a path holds, told by its content.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ima_format::kind::{Content, Kind, HEAD_SIZE};
use rustix::fs::OFlags;

use crate::compression;

/// What is at `path`: a container if its first bytes say so, else a file or a directory for
/// [`Kind::Tree`]. Of a compressed file as much is unpacked as tells whether a tar archive is
/// in it. A symbolic link is not followed.
///
/// # Errors
/// Those of looking at the file.
pub fn kind_of(path: &Path) -> io::Result<Kind> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(Kind::Tree);
    }
    // NONBLOCK: should it have become a FIFO by now, opening does not wait for a writer
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let head = read_head(&mut file)?;
    Ok(match Content::of(&head) {
        Some(Content::Compressed(compression)) => {
            // what does not unpack is no archive that could be dealt with: a plain file
            let inside = compression::decoder(compression, head.chain(file))
                .and_then(|mut decoder| read_head(&mut decoder))
                .unwrap_or_default();
            match Content::of(&inside) {
                Some(Content::Tar) => Kind::Tar,
                _ => Kind::Tree,
            }
        }
        Some(content) => content.kind(),
        None => Kind::Tree,
    })
}

fn read_head(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_SIZE);
    reader.take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    Ok(head)
}
