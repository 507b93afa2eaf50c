//! `imactl-manual man DIR [PROGRAM]` writes the man pages of all programs, or of one, below DIR/man.
//! `imactl-manual completions DIR` writes completions to the shells' directories below DIR. DIR is /usr/share for
//! a distribution.

mod completions;
mod examples;
mod init;
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
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (files, directory) = match arguments[..] {
        ["man", directory] => (manual()?, directory),
        ["man", directory, "imactl"] => (page::all()?, directory),
        ["man", directory, "imactl-init"] => (vec![init::page()?], directory),
        ["completions", directory] => (completions::all(), directory),
        _ => bail!("usage: imactl-manual man DIR [imactl|imactl-init]\n       imactl-manual completions DIR"),
    };
    write(&files, Path::new(directory))
}

/// The pages of all programs.
fn manual() -> Result<Vec<File>> {
    let mut files = page::all()?;
    files.push(init::page()?);
    Ok(files)
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
