//! The inputs of a run: paths, and their kind, which is detected from content unless `--kind` states it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, ValueEnum};
use ima::container::image::Image;
use ima::container::oci::Oci;
use ima::container::rpm::{Directories, Packages};
use ima::container::tar::Archive;
use ima::container::tree::{DirectoryRoots, Place, Tree};
use ima::container::{detect, AnyContainer, DetectError, Found, Only, Selection, MAX_SPARSE};
use ima::input::{self, LIST_MAX};
use ima_format::kind::Kind;
use ima_format::tar::AfterEnd;
use ima_format::verity::Parameters;

use crate::applies::Given;
use crate::args::{jobs, spelling, PlaceArgs};
use crate::error::{hinted, Context, Result};
use crate::outputs::is_stdio;

/// The inputs of a run, resolved.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) kind: Kind,
    pub(crate) containers: Vec<AnyContainer>,
    pub(crate) selection: Selection,
    pub(crate) jobs: NonZeroUsize,
    pub(crate) max_sparse: u64,
    pub(crate) after_end: AfterEnd,
}

impl Inputs {
    /// Enables fs-verity on files of trees.
    pub(crate) fn enable_verity(&mut self, parameters: Parameters) {
        for container in &mut self.containers {
            if let AnyContainer::Tree(tree) = container {
                tree.verity = Some(parameters);
            }
        }
    }

    /// The noun for one input.
    pub(crate) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Rpm => "package",
            _ => "file",
        }
    }

    /// The packages, if the inputs are packages.
    pub(crate) fn packages(&mut self) -> Option<&mut Packages> {
        self.containers.iter_mut().find_map(|container| match container {
            AnyContainer::Packages(packages) => Some(packages),
            _ => None,
        })
    }
}

/// The paths to process, and how to read them
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
    /// The options of the command that were given.
    #[arg(skip)]
    pub(crate) given: Given,
}

impl InputArgs {
    /// Resolves the containers: all of one kind, to which every given option applies.
    pub(crate) fn resolve(&self) -> Result<Inputs> {
        let kind = self.kind.resolve(&self.tree)?;
        self.given.check(kind)?;
        let place = self.place.resolve();
        let roots = self.tree.roots()?;
        let containers = match kind {
            Kind::Tree => vec![AnyContainer::Tree(Tree {
                roots,
                directories: DirectoryRoots::Walked,
                place,
                verity: None,
            })],
            Kind::Rpm => vec![AnyContainer::Packages(self.packages(roots)?)],
            Kind::Tar => {
                let archive = |path| AnyContainer::Archive(Archive { path });
                roots.into_iter().map(archive).collect()
            }
            Kind::Image => {
                let partitions = &self.kind.partition;
                let image =
                    |path| AnyContainer::Image(Image { path, partitions: partitions.clone() });
                roots.into_iter().map(image).collect()
            }
            Kind::Oci => roots.into_iter().map(|path| AnyContainer::Oci(Oci { path })).collect(),
        };
        Ok(Inputs {
            kind,
            containers,
            selection: self.tree.selection()?,
            jobs: jobs(self.tree.jobs),
            max_sparse: self.kind.max_sparse.unwrap_or(MAX_SPARSE),
            after_end: match self.kind.concatenated {
                true => AfterEnd::Read,
                false => AfterEnd::Refuse,
            },
        })
    }

    /// The packages below these paths.
    fn packages(&self, mut roots: Vec<PathBuf>) -> Result<Packages> {
        for root in &mut roots {
            // for a link, the package that it points to is processed and replaced
            let is_link = fs::symlink_metadata(&*root).is_ok_and(|metadata| metadata.is_symlink());
            if is_link && fs::metadata(&*root).is_ok_and(|metadata| metadata.is_file()) {
                *root = fs::canonicalize(&*root).at(root)?;
            }
        }
        let directories = match self.kind.recursive {
            true => Directories::Packages,
            false => Directories::Refused,
        };
        Ok(Packages::new(roots, directories))
    }
}

/// Which files
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct TreeArgs {
    /// Files and directories; directories are processed recursively
    #[arg(value_name = "PATH", required_unless_present = "files_from", help_heading = None)]
    paths: Vec<PathBuf>,
    /// Read more paths from a file, one per line; - is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Paths in --files-from end with a zero byte instead of a newline
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
    /// Only files that match a glob; a glob with a / is matched against the path below PATH, any
    /// other against the file name
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Skip files and directories that match a glob
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Skip directories on other file systems
    #[arg(long)]
    one_file_system: bool,
    /// Only files that the kernel executes, maps or loads: those with an execute bit, ELF files, modules,
    /// firmware, IMA policies
    #[arg(long, value_name = "KIND")]
    only: Option<OnlyArg>,
    /// Number of worker threads [default: number of CPUs; maximum 1024]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnlyArg {
    Executable,
}

impl TreeArgs {
    /// All given paths, including those of `--files-from`.
    pub(crate) fn roots(&self) -> Result<Vec<PathBuf>> {
        let mut roots = self.paths.clone();
        if let Some(list) = &self.files_from {
            roots.extend(self.read_list(list)?);
        }
        Ok(roots)
    }

    /// The paths as trees, whatever their content is.
    pub(crate) fn as_tree(&self, roots: Vec<PathBuf>, place: Place) -> Result<Inputs> {
        Ok(Inputs {
            kind: Kind::Tree,
            containers: vec![AnyContainer::Tree(Tree {
                roots,
                directories: DirectoryRoots::Walked,
                place,
                verity: None,
            })],
            selection: self.selection()?,
            jobs: jobs(self.jobs),
            max_sparse: MAX_SPARSE,
            after_end: AfterEnd::Refuse,
        })
    }

    fn selection(&self) -> Result<Selection> {
        let mut selection = Selection::new(&self.include, &self.exclude)?;
        selection.one_file_system = self.one_file_system;
        selection.only = match self.only {
            Some(OnlyArg::Executable) => Only::Executable,
            None => Only::All,
        };
        Ok(selection)
    }

    fn read_list(&self, list: &Path) -> Result<Vec<PathBuf>> {
        let content = match list.as_os_str().as_bytes() {
            b"-" => input::read_stream(io::stdin(), LIST_MAX).context("standard input")?,
            _ => input::read_path(list, LIST_MAX)?,
        };
        if !self.null && content.contains(&b'\0') {
            let message = format!("{}: paths that end with zero bytes", list.display());
            return Err(hinted(message, "give -0, too"));
        }
        let end = if self.null { b'\0' } else { b'\n' };
        let paths = content.split(|&byte| byte == end).filter(|path| !path.is_empty());
        Ok(paths.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).collect())
    }
}

/// The container types of the paths
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct KindArgs {
    /// Container type of the paths; tree treats packages, archives and images as plain files
    /// [default: detected from content; tree for paths from --files-from]
    #[arg(long, value_name = "KIND", value_parser = spelling(&Kind::ALL, Kind::word))]
    kind: Option<Kind>,
    /// Treat directories as collections of RPM packages
    #[arg(short, long)]
    recursive: bool,
    /// Largest total size of the holes in sparse files of an archive or image (k, M, G, T: powers
    /// of 1024) [default: 16G]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Archives and images")]
    max_sparse: Option<u64>,
    /// Read all tar archives in a file that has several, as tar does with --ignore-zeros [default:
    /// data after the end of an archive is an error]
    #[arg(long, visible_alias = "ignore-zeros", help_heading = "Archives and images")]
    concatenated: bool,
    /// Only this partition of a disk, by number, label or PARTUUID; may be given more than once
    /// [default: all partitions with a file system that is supported]
    #[arg(long, value_name = "PARTITION", help_heading = "Archives and images")]
    partition: Vec<String>,
}

/// Parses a size in bytes: `4096`, `64k`, `16G`.
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

impl KindArgs {
    fn resolve(&self, tree: &TreeArgs) -> Result<Kind> {
        match self.kind {
            Some(kind) => Ok(kind),
            None if self.recursive => Ok(Kind::Rpm),
            None => detected(tree),
        }
    }
}

fn detected(tree: &TreeArgs) -> Result<Kind> {
    // a list of files names files of a tree: a package in it is a plain file
    let mut found = tree.files_from.as_deref().map(|list| (list, Kind::Tree));
    for path in &tree.paths {
        let kind = match detect(path).and_then(Found::checked) {
            // standard input is always an archive: no other kind can be read as a stream
            _ if is_stdio(path) => Kind::Tar,
            Ok(kind) => kind,
            // reported later, with the other errors
            Err(DetectError::Read(_)) => continue,
            Err(error) => return Err(error).at(path),
        };
        match found {
            None => found = Some((path, kind)),
            Some((_, first)) if first == kind => {}
            Some((other, first)) => {
                let (other, path) = (other.display(), path.display());
                let message = format!("{other} is {first}, {path} is {kind}");
                return Err(hinted(message, "process them in separate runs, or give --kind"));
            }
        }
    }
    Ok(found.map_or(Kind::Tree, |(_, kind)| kind))
}
