//! Writing attributes with e2fsprogs' debugfs: all at once, files by their numbers, so that
//! no name can be mistaken.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ImageError;

/// What is to become of a file's label.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) inode: u32,
    pub(super) label: Option<Vec<u8>>,
}

/// Administrators' programs are not on everybody's PATH.
const PLACES: [&str; 3] = ["debugfs", "/usr/sbin/debugfs", "/sbin/debugfs"];

/// Makes the changes in an image; `time` is what it shall bear as the time of its last
/// write. Returns what debugfs said; whether it did it all, only the image tells.
pub(super) fn apply(image: &Path, changes: &[Change], time: u32) -> Result<String, ImageError> {
    let directory = tempfile::tempdir().map_err(ImageError::Batch)?;
    let mut batch = format!("set_current_time @{time}\n");
    for Change { inode, label, .. } in changes {
        // writing to a string does not fail
        match label {
            Some(label) => {
                fs::write(directory.path().join(inode.to_string()), label)
                    .map_err(ImageError::Batch)?;
                writeln!(batch, "ea_set -f {inode} <{inode}> security.ima").ok();
            }
            None => drop(writeln!(batch, "ea_rm <{inode}> security.ima")),
        }
    }
    fs::write(directory.path().join("batch"), batch).map_err(ImageError::Batch)?;
    let image = fs::canonicalize(image).map_err(ImageError::Batch)?;
    let mut missing = io::Error::from(io::ErrorKind::NotFound);
    for program in PLACES {
        let mut command = Command::new(program);
        command.args(["-w", "-f", "batch"]).arg(&image).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).env("DEBUGFS_PAGER", "cat");
        match command.output() {
            Ok(output) => return Ok(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing = error,
            Err(error) => return Err(ImageError::Debugfs(error)),
        }
    }
    Err(ImageError::Debugfs(missing))
}

/// The line in which debugfs complains, without its greeting.
pub(super) fn complaint(said: &str) -> String {
    let mut lines = said.lines().filter(|line| !line.starts_with("debugfs 1."));
    lines.next_back().unwrap_or("nothing").trim().to_owned()
}
