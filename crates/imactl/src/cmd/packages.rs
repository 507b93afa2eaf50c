//! What the commands share where they deal with packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ima::container::rpm::{Directories, OutputDirectory, Packages};

use crate::hint::hinted;
use crate::output::Name;

/// Where changed packages go
#[derive(Debug, Args)]
#[command(next_help_heading = "Packages")]
pub(crate) struct DestinationArgs {
    /// Write packages into a directory, which is made, and leave the originals alone; those that -r
    /// finds, in the same directories below it [default: each is replaced, when the new one is
    /// whole]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

impl DestinationArgs {
    pub(crate) fn resolve(
        &self,
        packages: &Packages,
        dry_run: bool,
    ) -> Result<Option<OutputDirectory>> {
        let Some(directory) = &self.output_dir else { return Ok(None) };
        let within = fs::canonicalize(directory).unwrap_or_else(|_| directory.clone());
        for root in packages.roots.iter().filter_map(|root| fs::canonicalize(root).ok()) {
            if packages.directories == Directories::Packages && within.starts_with(root) {
                let message = format!("{}: within what is read", directory.display());
                return Err(hinted(message, "give a directory beside it"));
            }
        }
        if !dry_run {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(Some(OutputDirectory::new(directory.clone())))
    }
}

/// How a file in a package is called.
pub(crate) fn inside<'a>(package: &'a Path, path: &'a Path) -> Name<'a> {
    Name { container: Some(package), path }
}
