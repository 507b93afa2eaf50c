//! The host: programs that the lab runs, files that it uses, and the error if one is missing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{bail, Context, Result};

/// Something that the lab needs and the host does not have. Tests that need it are skipped, with a
/// message, or fail if `CI=true`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Missing {
    /// A program.
    #[error("{name} is not installed (apt-get install {package})")]
    Program {
        /// Its name.
        name: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file.
    #[error("{} is not there (apt-get install {package})", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The Debian package that has it.
        package: String,
    },
    /// A Debian package whose files are needed.
    #[error("{0} is not installed (apt-get install {0})")]
    Package(String),
    /// Sources to fetch.
    #[error("cannot fetch {0}")]
    Source(String),
    /// A package of Debian's archive.
    #[error("Debian's archive does not give it: {0}")]
    Archive(String),
    /// Root privileges: only root can write `security.*` attributes.
    #[error("only root can set security.* attributes: run the lab as root")]
    Root,
}

/// The path of a host program.
pub fn program(name: &str, package: &'static str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or(Missing::Program { name: name.to_owned(), package })
}

/// A command that runs a program of the host.
pub fn command(name: &str, package: &'static str) -> Result<Command, Missing> {
    program(name, package).map(Command::new)
}

/// Checks that a file of the host exists.
pub fn file(path: &Path, package: &str) -> Result<(), Missing> {
    if path.exists() {
        return Ok(());
    }
    Err(Missing::File { path: path.to_owned(), package: package.to_owned() })
}

/// Checks that the lab runs as root.
pub fn root() -> Result<(), Missing> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Missing::Root)
}

/// Runs a command to its end; an error includes its standard error.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

/// The top directory of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Cargo's target directory.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| checkout().join("target"), |directory| checkout().join(directory))
}

/// Prints a message for the user who runs the tests, directly to standard error, which the test harness
/// does not capture.
pub fn say(text: &str) {
    // the message is not essential
    let _ = writeln!(std::io::stderr(), "lab: {text}");
}
