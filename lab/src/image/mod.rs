//! Images that a guest boots from, made of trees of files.

mod cpio;
mod debian;
mod elf;
mod partition;
mod tree;

pub use partition::Table;
pub use tree::Tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::host;

/// The size of an erase block of flash memory.
pub const ERASE_SIZE: &str = "64KiB";

/// A disk or an initramfs, in a file that is removed when dropped.
#[derive(Debug)]
pub struct Image {
    file: NamedTempFile,
}

impl Image {
    /// An empty file with this suffix.
    fn new(suffix: &str) -> Result<Self> {
        let file = tempfile::Builder::new().prefix("lab-").suffix(suffix).tempfile()?;
        Ok(Self { file })
    }

    /// An empty disk of `size` bytes.
    pub fn blank(size: u64) -> Result<Self> {
        let image = Self::new(".img")?;
        image.file.as_file().set_len(size)?;
        Ok(image)
    }

    /// A disk with an empty vfat file system.
    pub fn vfat(size: u64) -> Result<Self> {
        let image = Self::blank(size)?;
        host::run(host::command("mkfs.vfat", "dosfstools")?.arg(image.path()))?;
        Ok(image)
    }

    /// A disk with an empty f2fs file system.
    pub fn f2fs() -> Result<Self> {
        let image = Self::blank(64 << 20)?;
        host::run(host::command("mkfs.f2fs", "f2fs-tools")?.arg("-q").arg(image.path()))?;
        Ok(image)
    }

    /// Blank flash memory, which the kernel mounts as an empty JFFS2.
    pub fn flash() -> Result<Self> {
        let image = Self::new(".flash")?;
        std::fs::write(image.path(), vec![0xff; 8 << 20])?;
        Ok(image)
    }

    /// Flash memory with the volume `ubi0:root`, which the kernel mounts as an empty UBIFS.
    pub fn ubi() -> Result<Self> {
        let volume = Self::new(".ini")?;
        let lines = "[root]\nmode=ubi\nvol_id=0\nvol_type=dynamic\nvol_name=root\nvol_size=4MiB\n";
        std::fs::write(volume.path(), lines)?;
        let content = Self::new(".ubi")?;
        let mut ubinize = host::command("ubinize", "mtd-utils")?;
        ubinize.args(["--peb-size", ERASE_SIZE, "--min-io-size", "1", "--output"]);
        host::run(ubinize.arg(content.path()).arg(volume.path()))?;
        let mut image = Self::flash()?;
        std::io::Write::write_all(image.file.as_file_mut(), &std::fs::read(content.path())?)?;
        Ok(image)
    }

    /// A copy of a disk of another program.
    pub fn copy_of(path: &Path) -> Result<Self> {
        let image = Self::new(".img")?;
        std::fs::copy(path, image.path()).with_context(|| format!("copy {}", path.display()))?;
        Ok(image)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Tree {
    /// An ext4 disk of `size` bytes, including `security.*` attributes.
    pub fn ext4(&self, size: u64) -> Result<Image> {
        self.ext4_with(size, &[])
    }

    /// An ext4 disk, made with these options of mke2fs.
    pub fn ext4_with(&self, size: u64, options: &[&str]) -> Result<Image> {
        let image = Image::blank(size)?;
        let mut mke2fs = host::command("mke2fs", "e2fsprogs")?;
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256"]).args(options);
        host::run(mke2fs.arg("-d").arg(self.directory()).arg(image.path()))?;
        Ok(image)
    }

    /// A squashfs disk.
    pub fn squashfs(&self) -> Result<Image> {
        let image = Image::new(".squashfs")?;
        let mut mksquashfs = host::command("mksquashfs", "squashfs-tools")?;
        mksquashfs.arg(self.directory()).arg(image.path());
        host::run(mksquashfs.args(["-quiet", "-no-progress", "-noappend", "-xattrs"]))?;
        Ok(image)
    }

    /// An erofs disk, not compressed.
    pub fn erofs(&self) -> Result<Image> {
        let image = Image::new(".erofs")?;
        let mut mkfs = host::command("mkfs.erofs", "erofs-utils")?;
        host::run(mkfs.arg(image.path()).arg(self.directory()))?;
        Ok(image)
    }

    /// An initramfs: a cpio archive, not compressed, with all files owned by root.
    pub fn initramfs(&self) -> Result<Image> {
        let mut image = Image::new(".cpio")?;
        cpio::write(self.directory(), image.file.as_file_mut())?;
        Ok(image)
    }
}

/// The directories in which the host's dynamic loader searches libraries.
fn library_directories() -> Vec<PathBuf> {
    let mut configuration = Vec::new();
    if let Ok(entries) = std::fs::read_dir("/etc/ld.so.conf.d") {
        configuration.extend(entries.flatten().map(|entry| entry.path()));
    }
    configuration.sort();
    let configured = configuration
        .iter()
        .flat_map(|path| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from);
    configured.chain(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from)).collect()
}
