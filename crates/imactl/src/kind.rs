//! What the paths of a command line hold: told by content, unless `--kind` says it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ima::container::rpm::{Directories, Packages};
use ima::container::tree::Tree;
use ima::container::{kind_of, mismatch, Mismatch, Only, MAX_SPARSE};
use ima_format::kind::{Foreign, Kind, Named};
use ima_format::tar::AfterEnd;

use crate::args::TreeArgs;
use crate::container::is_stdio;
use crate::hint::hinted;

/// What the paths hold
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct KindArgs {
    /// What the paths hold; tree takes packages, archives and images for plain files [default:
    /// told by the content of each file that is named; what --files-from lists is for tree]
    #[arg(long, value_name = "KIND")]
    kind: Option<KindArg>,
    /// In directories, deal with the RPM packages that are there, not with the files
    #[arg(short, long)]
    recursive: bool,
    /// How many zeros in the holes of sparse files are read in an archive or image (k, M, G, T:
    /// powers of 1024) [default: 16G]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Archives and images")]
    max_sparse: Option<u64>,
    /// Read tar archives that follow one another in a file, as tar does with --ignore-zeros
    /// [default: data after the end of an archive is an error]
    #[arg(long, visible_alias = "ignore-zeros", help_heading = "Archives and images")]
    concatenated: bool,
}

/// Reads a size in bytes: `4096`, `64k`, `16G`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let shift = match text[digits.len()..].trim_end_matches("iB") {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("no unit {unit:?}: k, M, G, T")),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Tree,
    Rpm,
    Tar,
    Image,
}

impl KindArgs {
    /// What the paths hold: one kind, since one run deals with one.
    pub(crate) fn resolve(&self, tree: &TreeArgs) -> Result<Kind> {
        let kind = self.told(tree)?;
        if matches!(kind, Kind::Tree | Kind::Rpm) {
            refuse_options(kind, &[(self.max_sparse.is_some(), "--max-sparse")])?;
        }
        if kind != Kind::Tar {
            refuse_options(kind, &[(self.concatenated, "--concatenated")])?;
        }
        Ok(kind)
    }

    fn told(&self, tree: &TreeArgs) -> Result<Kind> {
        match self.kind {
            Some(KindArg::Tree) if self.recursive => refuse_recursive("--kind tree"),
            Some(KindArg::Tar) if self.recursive => refuse_recursive("--kind tar"),
            Some(KindArg::Image) if self.recursive => refuse_recursive("--kind image"),
            Some(KindArg::Tree) => Ok(Kind::Tree),
            Some(KindArg::Rpm) => Ok(Kind::Rpm),
            Some(KindArg::Tar) => Ok(Kind::Tar),
            Some(KindArg::Image) => Ok(Kind::Image),
            None if self.recursive => Ok(Kind::Rpm),
            None => told_by_content(tree),
        }
    }

    /// How many zeros of sparse files are read.
    pub(crate) fn max_sparse(&self) -> u64 {
        self.max_sparse.unwrap_or(MAX_SPARSE)
    }

    /// What becomes of bytes after an archive's end.
    pub(crate) fn after_end(&self) -> AfterEnd {
        match self.concatenated {
            true => AfterEnd::Read,
            false => AfterEnd::Refuse,
        }
    }

    /// The packages that are meant.
    pub(crate) fn packages(&self, tree: &TreeArgs) -> Result<Packages> {
        let Tree { mut roots, selection, jobs } = tree.resolve()?;
        for root in &mut roots {
            // a link stands for the package that it leads to, which is what is replaced
            let is_link = fs::symlink_metadata(&*root).is_ok_and(|metadata| metadata.is_symlink());
            if is_link && fs::metadata(&*root).is_ok_and(|metadata| metadata.is_file()) {
                *root = fs::canonicalize(&*root).with_context(|| root.display().to_string())?;
            }
        }
        let only_some = selection.only != Only::All;
        refuse_options(Kind::Rpm, &[(only_some, "--only")])?;
        let directories = match self.recursive {
            true => Directories::Packages,
            false => Directories::Refused,
        };
        Ok(Packages { roots, selection, directories, jobs })
    }
}

fn refuse_recursive(kind: &str) -> Result<Kind> {
    Err(hinted(
        format!("-r does not go with {kind}"),
        "a tree's directories are entered without it",
    ))
}

fn told_by_content(tree: &TreeArgs) -> Result<Kind> {
    // a list of files comes from a tree, and to write into those that happen to be packages
    // is not what is meant
    let mut found = tree.files_from().map(|list| (list, Kind::Tree));
    for path in tree.paths() {
        let kind = match kind_of(path) {
            // what comes on standard input is an archive: nothing else is a stream
            _ if is_stdio(path) => Kind::Tar,
            Ok(kind) => kind,
            // what cannot be read is told in its turn, with the others
            Err(_) => continue,
        };
        // not through a link, which is refused in its turn
        let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        let kind = match kind {
            Kind::Tree if is_file => check_name(path)?,
            kind => kind,
        };
        match found {
            None => found = Some((path, kind)),
            Some((_, first)) if first == kind => {}
            Some((other, first)) => {
                let (other, path) = (other.display(), path.display());
                let message = format!("{other} is {first}, {path} is {kind}");
                return Err(hinted(message, "name them in runs of their own, or give --kind"));
            }
        }
    }
    Ok(found.map_or(Kind::Tree, |(_, kind)| kind))
}

/// What a file is that is no container by its content. Refuses one that is called a container:
/// it is broken, cut short, or of a kind that is not dealt with, and to sign it as a plain file
/// is not what is meant.
fn check_name(path: &Path) -> Result<Kind> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let Some(named) = Named::of(name) else { return Ok(Kind::Tree) };
    let found = mismatch(path).with_context(|| path.display().to_string())?;
    let (what, hint) = match found {
        Mismatch::Zeros if named == Named::Tar => return Ok(Kind::Tar),
        Mismatch::Foreign(Foreign::Partitions) => (
            "a disc with partitions, which is not taken apart".to_owned(),
            "sign each partition's own image before wic or genimage puts them together, or the \
             partition as a device (losetup --partscan); --kind tree takes the disc for a plain \
             file",
        ),
        Mismatch::Foreign(Foreign::Lz4) => (
            "compressed by lz4, which is not read".to_owned(),
            "unpack it first (lz4 -d); --kind tree takes it for a plain file",
        ),
        Mismatch::Foreign(Foreign::Cpio) => (
            "a cpio archive, which holds no attributes".to_owned(),
            "--kind tree takes it for a plain file, as for an initramfs that kexec loads",
        ),
        Mismatch::Packed(compression, content) => (
            format!("{}, compressed by {compression}", content.kind()),
            "unpack it first; --kind tree takes it for a plain file",
        ),
        Mismatch::NotUnpacked(compression) => (
            format!("compressed by {compression}, and does not unpack"),
            "is it whole? --kind tree takes it for a plain file",
        ),
        Mismatch::Zeros | Mismatch::Unknown => (
            format!("called {named}, but its content is none"),
            "is it whole? --kind tree takes it for a plain file",
        ),
    };
    Err(hinted(format!("{}: {what}", path.display()), hint))
}

/// Refuses the first of these options that was given: they mean nothing for this kind.
pub(crate) fn refuse_options(kind: Kind, options: &[(bool, &str)]) -> Result<()> {
    match options.iter().find(|(given, _)| *given) {
        Some((_, option)) => {
            Err(hinted(format!("{option} means nothing for {kind}"), "leave it out"))
        }
        None => Ok(()),
    }
}
