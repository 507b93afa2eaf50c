//! `imactl digest`

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::digest::{DigestKind, FileHasher};
use ima::{Digest, HashAlgorithm};
use ima_format::hex::Hex;
use ima_format::verity::Salt;

use crate::error::{Context, Error, Result};
use crate::output::{Level, Output};
use crate::verity::parameters;
use crate::Outcome;

/// Print digests of files, as sha256:DIGEST FILE
///
/// With --verity, it is the fs-verity digest as `fsverity digest` prints it, with blocks of 4096
/// bytes. It is computed without the kernel: the file system need not support fs-verity.
#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Hash algorithm; fs-verity supports sha256 and sha512
    #[arg(long, value_name = "NAME", default_value = "sha256")]
    hash: HashAlgorithm,
    /// Print the fs-verity digest
    #[arg(long)]
    verity: bool,
    /// Salt of fs-verity, at most 32 bytes in hexadecimal digits [default: none]
    #[arg(long, value_name = "HEX", requires = "verity")]
    salt: Option<Salt>,
}

impl DigestArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let kind = match self.verity {
            true => DigestKind::Verity(parameters(self.hash, self.salt)?),
            false => DigestKind::Content(self.hash),
        };
        let mut hasher = FileHasher::default();
        let mut outcome = Outcome::Good;
        for path in &self.files {
            match digest(&mut hasher, path, kind) {
                Ok(digest) => self.print(path, &digest, output)?,
                Err(error) => {
                    outcome = Outcome::Failed;
                    output.fail(path, &error.to_string())?;
                }
            }
        }
        Ok(outcome)
    }

    fn print(&self, path: &Path, digest: &Digest, output: &mut Output) -> Result<()> {
        if output.is_json() {
            return Ok(output
                .object("digest")
                .path(path)
                .field("hash", digest.algorithm().name())
                .field("verity", self.verity)
                .field("digest", Hex(digest.as_bytes()).to_string())
                .end()?);
        }
        Ok(output.line(Level::Quiet, format_args!("{digest} {}", path.display()))?)
    }
}

/// The digest of a file; an error if its size changes while it is read.
fn digest(hasher: &mut FileHasher, path: &Path, kind: DigestKind) -> Result<Digest> {
    let file = File::open(path).at(path)?;
    let metadata = file.metadata().at(path)?;
    if !metadata.is_file() {
        return Err(Error::new(format!("{}: not a regular file", path.display())));
    }
    let (digest, read) = hasher.digest(&file, metadata.len(), kind, &|_| {}).at(path)?;
    match read == metadata.len() && read == file.metadata().at(path)?.len() {
        true => Ok(digest),
        false => Err(Error::new(format!("{}: changed while it was read", path.display()))),
    }
}
