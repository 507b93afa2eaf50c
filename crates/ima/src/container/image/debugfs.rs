//! Writing attributes with e2fsprogs' debugfs: all at once, files by their numbers, so that
//! no name can be mistaken. e2fsck corrects the quotas, which debugfs does not.
//!
//! Both get the open image as standard input, and open it again through `/proc/self/fd`: its name
//! may lead to another file by now. A partition is given by its offset, as `FILE?offset=BYTES`
//! (`ext2fs_open2()`).

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Bytes, ImageError};
use crate::container::{AttributeName, Change, Edit};
use crate::staging::Scratch;

/// The image as a child process opens it, which has it as standard input.
fn argument(image: &Bytes) -> String {
    match image.start {
        0 => "/proc/self/fd/0".to_owned(),
        start => format!("/proc/self/fd/0?offset={start}"),
    }
}

/// The changes of a file's attributes.
#[derive(Debug)]
pub(super) struct FileChange {
    pub(super) path: PathBuf,
    pub(super) inode: u32,
    pub(super) change: Change,
}

/// Makes the changes in an image, whose time of the last write becomes `time`. Returns the messages of
/// debugfs, whose exit status is 0 even if a command failed: the caller reads the image again.
pub(super) fn apply(
    image: &Bytes,
    changes: &[FileChange],
    time: u32,
) -> Result<String, ImageError> {
    let directory = Scratch::new().map_err(ImageError::Batch)?;
    let mut batch = format!("set_current_time @{time}\n");
    for (number, (inode, name, edit)) in edits(changes).enumerate() {
        // writing to a string does not fail
        match edit {
            Edit::Set(value) => {
                let file = directory.path().join(number.to_string());
                fs::write(file, value).map_err(ImageError::Batch)?;
                writeln!(batch, "ea_set -f {number} <{inode}> {name}").ok();
            }
            Edit::Remove => drop(writeln!(batch, "ea_rm <{inode}> {name}")),
        }
    }
    fs::write(directory.path().join("batch"), batch).map_err(ImageError::Batch)?;
    let output = program("debugfs", image, |command| {
        command.args(["-w", "-f", "batch", &argument(image)]).current_dir(directory.path());
        command.env("DEBUGFS_PAGER", "cat").stdout(Stdio::null());
    })
    .map_err(ImageError::Debugfs)?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn edits(changes: &[FileChange]) -> impl Iterator<Item = (u32, AttributeName, &Edit)> {
    changes.iter().flat_map(|FileChange { inode, change, .. }| {
        change.edits().map(|(name, edit)| (*inode, name, edit))
    })
}

/// Has e2fsck count an image's quotas again, which debugfs does not update; `time` is as above.
pub(super) fn count_quotas(image: &Bytes, time: u32) -> Result<(), ImageError> {
    let output = program("e2fsck", image, |command| {
        command.args(["-f", "-p", &argument(image)]).env("E2FSCK_TIME", time.to_string());
    })
    .map_err(ImageError::E2fsck)?;
    match output.status.code() {
        // no errors; all errors were fixed
        Some(0 | 1) => Ok(()),
        _ => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            Err(ImageError::Quotas(last.unwrap_or("nothing").trim().to_owned()))
        }
    }
}

/// Runs a program of e2fsprogs; administrators' programs are not on everybody's PATH.
fn program(name: &str, image: &Bytes, with: impl Fn(&mut Command)) -> io::Result<Output> {
    let mut missing = io::Error::from(io::ErrorKind::NotFound);
    for directory in ["", "/usr/sbin", "/sbin"] {
        let mut command = Command::new(Path::new(directory).join(name));
        with(command.stdin(image.file().try_clone()?).env("LC_ALL", "C"));
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing = error,
            output => return output,
        }
    }
    Err(missing)
}

/// The line in which debugfs complains, without its greeting.
pub(super) fn complaint(said: &str) -> String {
    let mut lines = said.lines().filter(|line| !line.starts_with("debugfs 1."));
    lines.next_back().unwrap_or("nothing").trim().to_owned()
}
