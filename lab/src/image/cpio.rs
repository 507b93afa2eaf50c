//! The initramfs archive that the kernel unpacks: cpio, "newc"
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`). Each entry is `070701`, thirteen
//! numbers of eight hexadecimal digits, the name with its NUL, and the content; name and content are
//! padded to four bytes. The format has no extended attributes.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

/// Writes all files below `directory`, in the order of names; all owned by root.
pub(crate) fn write(directory: &Path, archive: &mut fs::File) -> Result<()> {
    let mut archive = BufWriter::new(archive);
    let mut entries = Vec::new();
    list(directory, &mut entries)?;
    for (index, path) in entries.iter().enumerate() {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(path)?.as_os_str().as_bytes().to_vec()
        } else if kind.is_file() {
            fs::read(path).with_context(|| format!("read {}", path.display()))?
        } else if kind.is_dir() {
            Vec::new()
        } else {
            bail!("{} is no file, directory or link", path.display());
        };
        let name = path.strip_prefix(directory)?.as_os_str().as_bytes();
        entry(&mut archive, name, index as u32 + 1, metadata.mode(), &content)?;
    }
    entry(&mut archive, b"TRAILER!!!", 0, 0, &[])?;
    archive.flush()?;
    Ok(())
}

fn list(directory: &Path, entries: &mut Vec<PathBuf>) -> Result<()> {
    let mut children: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("read {}", directory.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    children.sort();
    for child in children {
        let is_directory = fs::symlink_metadata(&child)?.is_dir();
        entries.push(child.clone());
        if is_directory {
            list(&child, entries)?;
        }
    }
    Ok(())
}

fn entry(
    archive: &mut impl Write,
    name: &[u8],
    inode: u32,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let size = u32::try_from(content.len()).context("a file of 4 GiB or more")?;
    // inode, mode, uid, gid, links, mtime, size, device (4), name's length, check
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.write_all(b"070701")?;
    for field in fields {
        write!(archive, "{field:08x}")?;
    }
    archive.write_all(name)?;
    archive.write_all(&[0])?;
    pad(archive, 6 + 13 * 8 + name.len() + 1)?;
    archive.write_all(content)?;
    pad(archive, content.len())
}

fn pad(archive: &mut impl Write, length: usize) -> Result<()> {
    archive.write_all(&[0; 3][..length.wrapping_neg() % 4])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_reads_it() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("dir")).unwrap();
        fs::write(tree.path().join("dir/file"), "four+").unwrap();
        fs::set_permissions(tree.path().join("dir/file"), fs::Permissions::from_mode(0o750))
            .unwrap();
        std::os::unix::fs::symlink("dir/file", tree.path().join("link")).unwrap();
        let mut archive = tempfile::tempfile().unwrap();
        write(tree.path(), &mut archive).unwrap();

        use std::io::Seek;
        archive.rewind().unwrap();
        let listing = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .stdin(Stdio::from(archive))
            .output()
            .expect("cpio (apt-get install cpio)");
        let listing = String::from_utf8(listing.stdout).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = listing.lines().map(words).collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert_eq!(lines[0].last().unwrap(), "dir");
        assert_eq!(lines[1][..5], ["-rwxr-x---", "1", "0", "0", "5"]);
        assert_eq!(lines[2][8..], ["link", "->", "dir/file"]);
    }
}
