//! Files that are read whole: keys, certificates, policies, lists, signatures.
//!
//! Whoever names such a file may not be whoever made it. Opening one never waits (a FIFO without a
//! writer), only regular files are read, and no more than a limit. A descriptor that the caller of
//! the program has opened (`/dev/stdin`, `/dev/fd/3`, as a shell gives for `<(command)`) may be a
//! pipe: the user asked to read from it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::advice::Advice;

/// A limit for keys and certificates.
pub const KEY_MAX: u64 = 1 << 20;
/// A limit for policies and other texts that people write.
pub const TEXT_MAX: u64 = 16 << 20;
/// A limit for one line of a log or of a list of events.
pub const LINE_MAX: u64 = 1 << 16;
/// A limit for lists of paths and for programs.
pub const LIST_MAX: u64 = 256 << 20;

/// A first allocation that holds any key, so that none is copied about in memory.
const FIRST: usize = 64 << 10;

/// Opens a regular file, or a descriptor of the program's own by its path.
///
/// # Errors
/// Those of opening it; one that names the type of a file that is not regular.
pub fn open(path: &Path) -> io::Result<File> {
    if is_descriptor(path) {
        return File::open(path);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    check_regular(&file)?;
    Ok(file)
}

/// Why a file or directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl ReadError {
    /// Adds the path to an error.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self { path: path.to_owned(), source }
    }
}

impl Advice for ReadError {}

/// Reads the file at a path, of at most `limit` bytes.
///
/// # Errors
/// Those of [`open`] and [`read`].
pub fn read_path(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    open(path).and_then(|file| read_stream(&file, limit)).map_err(ReadError::at(path))
}

/// Reads an open regular file of at most `limit` bytes.
///
/// # Errors
/// Those of reading it; `FileTooLarge` if it is larger.
pub fn read(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    check_regular(file)?;
    read_stream(file, limit)
}

/// Reads the next line, without its end, into `line`.
///
/// # Errors
/// Those of reading it.
pub fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, limit: u64) -> io::Result<Line> {
    line.clear();
    let mut part = |line: &mut Vec<u8>| {
        let read = Read::take(&mut *reader, limit).read_until(b'\n', line)?;
        let ended = line.last() == Some(&b'\n');
        if ended {
            line.pop();
        }
        io::Result::Ok((read, ended || (read as u64) < limit))
    };
    match part(line)? {
        (0, _) => return Ok(Line::None),
        (_, true) => return Ok(Line::Read),
        (_, false) => {}
    }
    let (mut rest, mut is_longer) = (Vec::new(), false);
    loop {
        rest.clear();
        let (_, ended) = part(&mut rest)?;
        is_longer |= !rest.is_empty();
        match (ended, is_longer) {
            (false, _) => {}
            (true, true) => return Ok(Line::TooLong),
            (true, false) => return Ok(Line::Read),
        }
    }
}

/// The result of [`read_line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A line.
    Read,
    /// The first bytes of a line that is longer than the limit; the rest was skipped.
    TooLong,
    /// Nothing: the stream is at its end.
    None,
}

/// Reads a stream of at most `limit` bytes.
///
/// # Errors
/// Those of reading it; one that says the limit if there is more.
pub fn read_stream(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(FIRST);
    stream.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 > limit {
        true => Err(io::Error::other(format!("larger than {limit} bytes, the limit here"))),
        false => Ok(content),
    }
}

fn check_regular(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Err(io::Error::other(format!("a {kind}, not a regular file")))
}

/// Whether a path is that of a descriptor which the program was started with.
fn is_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd"].iter().any(|directory| path.parent() == Some(Path::new(directory)))
        || path == Path::new("/dev/stdin")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn regular_files_within_the_limit_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "content").unwrap();
        assert_eq!(read_path(&path, 7).unwrap(), b"content");
        let error = read_path(&path, 6).unwrap_err();
        assert_eq!(error.source.to_string(), "larger than 6 bytes, the limit here");
        let error = read_path(directory.path(), 7).unwrap_err();
        assert_eq!(error.source.to_string(), "a directory, not a regular file");
    }

    #[test]
    fn lines_are_read_within_the_limit() {
        let mut reader = io::BufReader::with_capacity(2, &b"four\n\nlonger\nfive!\nend"[..]);
        let mut line = Vec::new();
        for (read, expected) in [
            (Line::Read, &b"four"[..]),
            (Line::Read, b""),
            (Line::TooLong, b"longe"),
            (Line::Read, b"five!"),
            (Line::Read, b"end"),
            (Line::None, b""),
        ] {
            assert_eq!(read_line(&mut reader, &mut line, 5).unwrap(), read);
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn neither_fifos_nor_devices_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("zero")).unwrap();
        for (name, said) in [("fifo", "a FIFO"), ("zero", "a device")] {
            let error = read_path(&directory.path().join(name), 7).unwrap_err();
            assert!(error.source.to_string().starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_descriptor_may_be_a_pipe() {
        use std::os::fd::AsRawFd;
        use std::process::{Command, Stdio};

        let mut printf = Command::new("printf");
        let mut child = printf.arg("through").stdout(Stdio::piped()).spawn().unwrap();
        let path = format!("/dev/fd/{}", child.stdout.as_ref().unwrap().as_raw_fd());
        assert_eq!(read_path(Path::new(&path), 7).unwrap(), b"through");
        child.wait().unwrap();
    }
}
