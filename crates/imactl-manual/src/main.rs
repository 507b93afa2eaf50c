//! `imactl-manual man|completions DIR`: writes them where DIR/man and the shells' directories
//! are, DIR being /usr/share for a distribution.

mod completions;
mod examples;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, Context, Result};

/// A file to be written, below the directory.
type File = (PathBuf, Vec<u8>);

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (files, directory) = match arguments {
        [what, directory] if what == "man" => (page::all()?, directory),
        [what, directory] if what == "completions" => (completions::all(), directory),
        _ => bail!("usage: imactl-manual man|completions DIR"),
    };
    write(&files, Path::new(directory))
}

fn write(files: &[File], directory: &Path) -> Result<()> {
    for (name, content) in files {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
