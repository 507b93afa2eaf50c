//! The lab's cache, outside the checkout: a directory for each build result, named by the hash of all
//! its inputs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// `$IMACTL_LAB_CACHE`, else `$XDG_CACHE_HOME/imactl/lab`, else `~/.cache/imactl/lab`.
pub fn root() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let root = variable("IMACTL_LAB_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|path| Path::new(&path).join("imactl/lab")))
        .or_else(|| variable("HOME").map(|path| Path::new(&path).join(".cache/imactl/lab")))
        .context("no place for the cache: set IMACTL_LAB_CACHE")?;
    fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    Ok(root)
}

/// Names a result by its inputs. Each input is hashed with its length, so that different lists of
/// inputs never give the same bytes.
#[derive(Debug, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds an input.
    pub fn add(&mut self, input: impl AsRef<[u8]>) -> &mut Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// The first 64 bits of the hash, in hexadecimal.
    pub fn name(&self) -> String {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Work that only one test or process of this machine does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Builds: two at a time would slow each other down.
    Building,
    /// Downloads: others wait for the result.
    Fetching,
}

impl Work {
    const fn file(self) -> &'static str {
        match self {
            Self::Building => "build.lock",
            Self::Fetching => "fetch.lock",
        }
    }
}

/// A lock on some work, released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock.
    pub fn take(work: Work) -> Result<Self> {
        let path = root()?.join(work.file());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&file, operation).is_err() {
            crate::host::say(&format!("waiting for {}", path.display()));
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
                .with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(Self { file })
    }

    /// The lock as the (empty) standard input of a build: it is held as long as the build runs, even if
    /// the lab is killed before.
    pub fn input(&self) -> Result<Stdio> {
        Ok(self.file.try_clone()?.into())
    }
}

/// A directory that appears under its final name complete or not at all.
#[derive(Debug)]
pub struct Publication {
    staging: tempfile::TempDir,
    place: PathBuf,
}

impl Publication {
    /// Creates a temporary directory for `place`.
    pub fn begin(place: &Path) -> Result<Self> {
        let parent = place.parent().context("a publication needs a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let staging = tempfile::Builder::new().prefix(".staging-").tempdir_in(parent)?;
        Ok(Self { staging, place: place.to_owned() })
    }

    /// The directory to fill.
    pub fn directory(&self) -> &Path {
        self.staging.path()
    }

    /// Renames it to its final name.
    pub fn finish(self) -> Result<()> {
        let staging = self.staging.keep();
        fs::rename(&staging, &self.place)
            .with_context(|| format!("rename {} to {}", staging.display(), self.place.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_cannot_pass_for_each_other() {
        let name = |inputs: &[&str]| {
            let mut hash = Inputs::default();
            for input in inputs {
                hash.add(input);
            }
            hash.name()
        };
        assert_eq!(name(&["ab", "c"]), name(&["ab", "c"]));
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(name(&[]).len(), 16);
    }

    #[test]
    fn publications_appear_whole() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("sub/thing");
        let publication = Publication::begin(&place).unwrap();
        fs::write(publication.directory().join("file"), "x").unwrap();
        assert!(!place.exists());
        publication.finish().unwrap();
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "x");
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
    }
}
