//! What the commands share where they deal with packages.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ima::target::rpm::{Destination, OutputDirectory, ReservedSpace};

use crate::output::Name;

/// Where changed packages go
#[derive(Debug, Args)]
#[command(next_help_heading = "Packages")]
pub(crate) struct DestinationArgs {
    /// Write packages into a directory, which is made, and leave those that are named alone
    /// [default: each is replaced, when the new one is whole]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Use the space that the signature header reserves, where it suffices: the size of the
    /// package stays as it is, and the payload stays in its place
    #[arg(long)]
    reserved_space: bool,
}

impl DestinationArgs {
    pub(crate) fn resolve(&self, dry_run: bool) -> Result<Destination> {
        let Some(directory) = &self.output_dir else { return Ok(Destination::Replace) };
        if !dry_run {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(Destination::Directory(OutputDirectory::new(directory.clone())))
    }

    pub(crate) fn reserved(&self) -> ReservedSpace {
        if self.reserved_space {
            ReservedSpace::Use
        } else {
            ReservedSpace::Keep
        }
    }

    /// The options, and whether they were given.
    pub(crate) fn given(&self) -> [(bool, &'static str); 2] {
        [(self.output_dir.is_some(), "--output-dir"), (self.reserved_space, "--reserved-space")]
    }
}

/// How a file in a package is called.
pub(crate) fn inside<'a>(package: &'a Path, path: &'a [u8]) -> Name<'a> {
    Name { container: Some(package), path: Path::new(OsStr::from_bytes(path)) }
}
