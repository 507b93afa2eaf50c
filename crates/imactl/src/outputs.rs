//! The destinations of changed containers.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use ima::container::rpm::{Directories, Packages};
use ima::container::{AnyContainer, Destination, DirectoryMode, OutputDirectory};
use ima::staging::left_over;
use ima_format::kind::Compression;

use crate::args::spelling;
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
    #[arg(value_parser = spelling(COMPRESS, |it| it.map_or("none", Compression::name)))]
    compress: Option<Compress>,
    /// Write packages into this directory, created if needed, and leave the originals unchanged;
    /// with -r, below it in the same directories as they were found [default: replace each package]
    #[arg(long, value_name = "DIR", help_heading = "Packages")]
    output_dir: Option<PathBuf>,
}

/// `None` does not compress.
type Compress = Option<Compression>;

/// The words of `--compress`.
const COMPRESS: &[Compress] = &[
    None,
    Some(Compression::Gzip),
    Some(Compression::Bzip2),
    Some(Compression::Xz),
    Some(Compression::Zstd),
    Some(Compression::Lzma),
];

/// Whether a path is the name of standard input and output.
pub(crate) fn is_stdio(path: &Path) -> bool {
    path == Path::new("-")
}

impl ResultArgs {
    /// The destination of the result of one of `count` containers.
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

    /// The output directory for packages, if one is given.
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
            fs::create_dir_all(directory).at(directory)?;
        }
        Ok(Some(Destination::Directory(OutputDirectory::new(directory.clone(), mode))))
    }

    /// The compression of the result; `None` keeps that of the input.
    pub(crate) fn compression(&self) -> Option<Option<Compression>> {
        let name = self.output.as_deref().filter(|path| !is_stdio(path));
        self.compress.or_else(|| name.and_then(told_by_name))
    }
}

/// The compression that a file name implies; `None` if it implies nothing.
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

/// Warns of files that killed runs left in a directory.
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

/// The directory for large files until they are written: `$TMPDIR`, else `/var/tmp`, as `/tmp` is
/// often in memory.
pub(crate) fn spool_directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
