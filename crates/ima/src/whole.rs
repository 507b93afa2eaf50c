//! Files that are there whole, or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::temporary::Temporary;

/// How many links are followed to a file, as in the kernel.
const LINKS: usize = 40;

/// Writes what somebody asked for under this name: a file beside its place that, when it is on
/// disc, is put there. A symbolic link stays, and what it leads to is written; what is no file
/// (a device, a pipe) stays, too, and is written to.
///
/// # Errors
/// What the system said; what was at `path` before is still there then.
pub fn write(path: &Path, permissions: u32, content: &[u8]) -> io::Result<()> {
    let path = resolve(path)?;
    match fs::metadata(&path) {
        // a directory refuses to be opened
        Ok(found) if !found.is_file() => {
            OpenOptions::new().write(true).open(&path)?.write_all(content)
        }
        _ => {
            let file = Temporary::beside(&path, permissions)?;
            file.as_file().write_all(content)?;
            file.as_file().sync_data()?;
            file.persist(&path)
        }
    }
}

/// What a path leads to, whether that is there or not.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("")).join(target);
            }
            _ => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{symlink, FileTypeExt};

    use super::*;

    #[test]
    fn links_stay_and_what_they_lead_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        fs::create_dir(inside("deep")).unwrap();
        fs::write(inside("deep/file"), "old").unwrap();
        symlink("deep/file", inside("link")).unwrap();
        symlink("link", inside("link-to-link")).unwrap();
        symlink("deep/new", inside("dangling")).unwrap();
        symlink("loop", inside("loop")).unwrap();
        write(&inside("link-to-link"), 0o644, b"new").unwrap();
        write(&inside("dangling"), 0o644, b"new").unwrap();
        for name in ["link", "link-to-link", "dangling"] {
            assert!(fs::symlink_metadata(inside(name)).unwrap().is_symlink(), "{name}");
            assert_eq!(fs::read(inside(name)).unwrap(), b"new", "{name}");
        }
        assert!(write(&inside("loop"), 0o644, b"x").is_err());
        assert!(write(&inside("deep"), 0o644, b"x").is_err());
    }

    #[test]
    fn devices_and_pipes_are_written_to() {
        let directory = tempfile::tempdir().unwrap();
        write(Path::new("/dev/null"), 0o644, b"x").unwrap();
        let full = write(Path::new("/dev/full"), 0o644, b"x").unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        for device in ["/dev/null", "/dev/full"] {
            assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
        }
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let reader = pipe.clone();
        let reader = std::thread::spawn(move || fs::read(reader).unwrap());
        write(&pipe, 0o644, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
