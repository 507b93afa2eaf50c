//! What the paths of a command line hold: told by content, unless `--kind` says it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ima::target::kind_of;
use ima::target::rpm::{Directories, Packages};
use ima::target::tree::{Only, Tree};
use ima_format::kind::Kind;

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

    /// The packages that are meant.
    pub(crate) fn packages(&self, tree: &TreeArgs) -> Result<Packages> {
        let Tree { roots, selection, jobs } = tree.resolve()?;
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
        if kind == Kind::Tree && is_file {
            check_name(path)?;
        }
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

/// Refuses a plain file that is called a package: it is broken, or cut short, and to sign it
/// as a file is not what is meant.
fn check_name(path: &Path) -> Result<()> {
    match path.extension() {
        Some(extension) if extension == "rpm" => Err(hinted(
            format!("{}: called a package, but its content is none", path.display()),
            "is it whole? --kind tree takes it for a plain file",
        )),
        _ => Ok(()),
    }
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
