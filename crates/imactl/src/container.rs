//! Containers: where one is read, and where what comes of it is written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ima::compression::Encoder;
use ima::container::tar::{Archive, Extent};
use ima::container::tree;
use ima::staging::{left_over, Location, Staged};
use ima_format::kind::{Compression, Content, Kind};

use crate::hint::hinted;
use crate::kind::KindArgs;
use crate::output::Output;
use ima::input;

/// Where the result is written
#[derive(Debug, Args)]
#[command(next_help_heading = "Archives and images")]
pub(crate) struct ResultArgs {
    /// Write the result here, whole or not at all; - is standard output [default: in place of
    /// the archive or image]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How a tar archive is compressed [default: by the name of -o, else as it was]
    #[arg(long, value_name = "NAME")]
    compress: Option<CompressArg>,
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
    /// Refuses the options where they mean nothing.
    pub(crate) fn refuse_for(&self, kind: Kind) -> Result<()> {
        let given = match self {
            Self { output: Some(_), .. } => "-o",
            Self { compress: Some(_), .. } => "--compress",
            _ => return Ok(()),
        };
        let message = format!("{given} means nothing for {kind}");
        Err(hinted(
            message,
            match kind {
                Kind::Rpm => "--output-dir DIR writes packages into a directory, under their names",
                _ => "files of a tree are changed where they are; -o is for archives and images",
            },
        ))
    }

    /// Whether standard output is the result.
    pub(crate) fn is_stdout(&self) -> bool {
        self.output.as_deref().is_some_and(is_stdio)
    }

    /// Where the result of `original` goes, which is one of `count`.
    pub(crate) fn destination(&self, original: &Path, count: usize) -> Result<Destination> {
        if self.output.is_some() && count > 1 {
            return Err(hinted("one -o for several files", "name them in runs of their own"));
        }
        let path = self.output.as_deref().unwrap_or(original);
        if !is_stdio(path) {
            return Destination::file(path, original);
        }
        match self.output {
            Some(_) => Ok(Destination::Stdout(io::stdout())),
            None => Err(hinted(
                "standard input cannot be replaced",
                "give -o FILE, or -o - for standard output",
            )),
        }
    }

    /// Where the changed copy of an image goes, which is one of `count`.
    pub(crate) fn destination_of_image(
        &self,
        original: &Path,
        count: usize,
    ) -> Result<Destination> {
        if self.compress.is_some() || self.is_stdout() || is_stdio(original) {
            return Err(hinted(
                "images are neither streams nor compressed",
                "give the name of a file, and -o FILE where the image shall stay as it is",
            ));
        }
        self.destination(original, count)
    }

    /// How the result is compressed, of an archive that was compressed so.
    pub(crate) fn compression(&self, original: Option<Compression>) -> Option<Compression> {
        let name = self.output.as_deref().filter(|path| !is_stdio(path));
        match self.compress {
            Some(CompressArg::None) => None,
            Some(CompressArg::Gzip) => Some(Compression::Gzip),
            Some(CompressArg::Bzip2) => Some(Compression::Bzip2),
            Some(CompressArg::Xz) => Some(Compression::Xz),
            Some(CompressArg::Zstd) => Some(Compression::Zstd),
            Some(CompressArg::Lzma) => Some(Compression::Lzma),
            None => name.and_then(told_by_name).unwrap_or(original),
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

/// Opens a container: a file, or standard input.
fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if is_stdio(path) {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(input::open(path).with_context(|| path.display().to_string())?))
}

/// Opens an archive.
pub(crate) fn open_archive(
    path: &Path,
    tree: tree::Tree,
    kind: &KindArgs,
) -> Result<Archive<'static>> {
    let archive = Archive::open(open(path)?, tree.selection, tree.jobs);
    let mut archive = archive.with_context(|| path.display().to_string())?;
    archive.max_sparse = kind.max_sparse();
    archive.after_end = kind.after_end();
    match archive.content().map(Content::kind) {
        Some(other @ (Kind::Rpm | Kind::Image)) => {
            let path = path.display();
            let hint = "packages and images cannot be streamed: give the name of a file";
            Err(hinted(format!("{path}: {other}, not a tar archive"), hint))
        }
        _ => Ok(archive),
    }
}

/// Checks that labels are looked for in `security.ima`: containers have no other place.
pub(crate) fn check_place(place: tree::Place) -> Result<()> {
    match place {
        tree::Place::Security => Ok(()),
        tree::Place::User | tree::Place::Detached => Err(hinted(
            "in archives and images labels are security.ima",
            "leave out --detached and --xattr-namespace",
        )),
    }
}

/// Where a result goes: nothing bears its name before it is whole.
pub(crate) enum Destination {
    File(Place),
    Stdout(io::Stdout),
    Nowhere,
}

/// A file's place.
pub(crate) struct Place {
    path: PathBuf,
    location: Location,
    /// The permissions of a new file, under the umask.
    permissions: u32,
}

impl Place {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The file that will take the place.
    fn stage(&self) -> Result<Staged> {
        let staged = Staged::replacing(self.location.clone(), self.permissions);
        staged.with_context(|| self.name())
    }

    /// Has it take the place.
    fn take(&self, staged: Staged) -> Result<()> {
        staged.complete().and_then(|()| staged.persist()).with_context(|| self.name())
    }
}

impl Destination {
    /// A file, in place of what has that name; a new one takes its permissions of the original.
    fn file(path: &Path, original: &Path) -> Result<Self> {
        // through a link, what it points to is replaced, and the link stays
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(hinted(
                format!("{}: not a regular file", path.display()),
                "give -o FILE, or -o - for standard output",
            ));
        }
        let location = Location::of(&path).with_context(|| path.display().to_string())?;
        let metadata = fs::metadata(original).ok().filter(|metadata| metadata.is_file());
        let permissions = metadata.map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
        Ok(Self::File(Place { path, location, permissions }))
    }

    /// Tells of what earlier runs left beside the place when they were killed.
    pub(crate) fn tell_left_over(&self, output: &mut Output) {
        let Self::File(place) = self else { return };
        tell_left_over(place.path.parent().unwrap_or(Path::new("/")), output);
        tell_left_over(&std::env::temp_dir(), output);
    }

    /// Has `edit` change a copy of `original`, and puts that in its place; `Nowhere`, the
    /// original is given, which `edit` must not change. The copy is an open file: nobody can
    /// exchange it for another one by its name.
    pub(crate) fn edit<T>(
        self,
        original: &Path,
        edit: impl FnOnce(File) -> Result<T>,
    ) -> Result<T> {
        let source = input::open(original).with_context(|| original.display().to_string())?;
        let Self::File(place) = self else { return edit(source) };
        let staged = place.stage()?;
        ima::container::image::copy(&source, staged.as_file())
            .with_context(|| format!("{}: cannot copy", original.display()))?;
        let copy = staged.as_file().try_clone().with_context(|| place.name())?;
        let edited = edit(copy)?;
        place.take(staged)?;
        Ok(edited)
    }

    /// Has `write` write to it, packed, and puts the result in its place.
    pub(crate) fn write<T>(
        self,
        compression: Option<Compression>,
        jobs: NonZeroUsize,
        write: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<T> {
        fn packed<W: Write, T>(
            sink: W,
            compression: Option<Compression>,
            jobs: NonZeroUsize,
            write: impl FnOnce(&mut dyn Write) -> Result<T>,
        ) -> Result<T> {
            let sink = BufWriter::with_capacity(1 << 18, sink);
            let mut encoder = Encoder::new(compression, sink, jobs)?;
            let written = write(&mut encoder)?;
            encoder.finish()?.flush()?;
            Ok(written)
        }
        match self {
            Self::Nowhere => write(&mut io::sink()),
            Self::Stdout(stdout) => packed(stdout.lock(), compression, jobs, write),
            Self::File(place) => {
                let staged = place.stage()?;
                let written = packed(staged.as_file(), compression, jobs, write)?;
                place.take(staged)?;
                Ok(written)
            }
        }
    }
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

/// Tells of what follows an archive's end and is none.
pub(crate) fn tell_foreign(path: &Path, extent: Extent, output: &mut Output) {
    if extent.foreign > 0 {
        let (path, bytes) = (path.display(), extent.foreign);
        output.warn(&format!("{path}: {bytes} bytes after the archive's end are no archive"));
    }
}
