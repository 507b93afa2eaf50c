//! Where the results of changing containers are written.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ima::container::rpm::{Directories, Packages};
use ima::container::{AnyContainer, Destination, DirectoryMode, OutputDirectory};
use ima::staging::left_over;
use ima_format::kind::Compression;

use crate::error::{hinted, Context, Result};
use crate::output::Output;

/// Where the result is written
#[derive(Debug, Args)]
#[command(next_help_heading = "Archives and images")]
pub(crate) struct ResultArgs {
    /// Write the result here; - is standard output [default: replace the archive or image; standard
    /// output for standard input]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compression of a tar archive [default: from the name of -o, else unchanged]
    #[arg(long, value_name = "NAME")]
    compress: Option<CompressArg>,
    /// Write packages into this directory, created if needed, and leave the originals unchanged;
    /// with -r, below it in the same directories as they were found [default: replace each package]
    #[arg(long, value_name = "DIR", help_heading = "Packages")]
    output_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressArg {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lzma,
}

/// The name of standard input and standard output.
pub(crate) fn is_stdio(path: &Path) -> bool {
    path == Path::new("-")
}

impl ResultArgs {
    /// Where the result of a container goes, which is one of `count`.
    pub(crate) fn destination(
        &self,
        container: &AnyContainer,
        count: usize,
    ) -> Result<Destination> {
        if self.output.is_some() && count > 1 {
            return Err(hinted("one -o for several files", "name them in runs of their own"));
        }
        let to_stdout = self.output.as_deref().is_some_and(is_stdio);
        let from_stdin = container.path().is_some_and(is_stdio);
        if matches!(container, AnyContainer::Image(_)) && (to_stdout || from_stdin) {
            return Err(hinted(
                "images are not streams",
                "give the name of a file, and -o FILE where the image shall stay as it is",
            ));
        }
        match &self.output {
            Some(_) if to_stdout => Ok(Destination::Stdout),
            Some(path) => Ok(Destination::File(path.clone())),
            None if from_stdin && io::stdout().is_terminal() => Err(hinted(
                "an archive is not written to a terminal",
                "give -o FILE, or redirect standard output",
            )),
            None if from_stdin => Ok(Destination::Stdout),
            None => Ok(Destination::InPlace),
        }
    }

    /// The directory that packages go to, if one is given.
    pub(crate) fn directory(
        &self,
        packages: &Packages,
        mode: DirectoryMode,
    ) -> Result<Option<Destination>> {
        let Some(directory) = &self.output_dir else { return Ok(None) };
        let within = fs::canonicalize(directory).unwrap_or_else(|_| directory.clone());
        for root in packages.roots.iter().filter_map(|root| fs::canonicalize(root).ok()) {
            if packages.directories == Directories::Packages && within.starts_with(root) {
                let message =
                    format!("{}: inside a directory that is being read", directory.display());
                return Err(hinted(message, "give a directory next to it"));
            }
        }
        if mode == DirectoryMode::Write {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(Some(Destination::Directory(OutputDirectory::new(directory.clone(), mode))))
    }

    /// How the result is compressed; `None` where it stays as it was.
    pub(crate) fn compression(&self) -> Option<Option<Compression>> {
        let name = self.output.as_deref().filter(|path| !is_stdio(path));
        match self.compress {
            Some(CompressArg::None) => Some(None),
            Some(CompressArg::Gzip) => Some(Some(Compression::Gzip)),
            Some(CompressArg::Bzip2) => Some(Some(Compression::Bzip2)),
            Some(CompressArg::Xz) => Some(Some(Compression::Xz)),
            Some(CompressArg::Zstd) => Some(Some(Compression::Zstd)),
            Some(CompressArg::Lzma) => Some(Some(Compression::Lzma)),
            None => name.and_then(told_by_name),
        }
    }
}

/// How a file is compressed that is called so; nothing where its name does not tell.
fn told_by_name(path: &Path) -> Option<Option<Compression>> {
    Some(match path.extension()?.to_str()? {
        "tar" => None,
        "gz" | "tgz" => Some(Compression::Gzip),
        "bz2" | "tbz" | "tbz2" => Some(Compression::Bzip2),
        "xz" | "txz" => Some(Compression::Xz),
        "zst" | "tzst" => Some(Compression::Zstd),
        "lzma" | "tlz" => Some(Compression::Lzma),
        _ => return None,
    })
}

/// Tells of what earlier runs left in a directory when they were killed.
pub(crate) fn tell_left_over(directory: &Path, output: &mut Output) {
    for path in left_over(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let keys = if name.starts_with(".imactl-keys-") { ", may hold private keys" } else { "" };
        let path = path.display();
        output.warn(&format!(
            "{path}: left by a run that was killed, no longer in use{keys}: remove it"
        ));
    }
}

/// Where large files wait: as other temporary files, but by default not in memory, where `/tmp`
/// often is.
pub(crate) fn spool_directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
