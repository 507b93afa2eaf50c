//! Kernel sources: Debian's `linux-source-*` packages. Those of the long-term series are installed on
//! the host. The newest series changes, and is in other suites than the host's: it is fetched from the
//! archive once, and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::Series;
use crate::archive::Archive;
use crate::cache::{self, Lock, Publication, Work};
use crate::host::{self, Missing};

/// The suites that are searched for the newest kernel.
const SUITES: [&str; 2] = ["sid", "trixie-backports"];

/// The source of a kernel.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The series, as in `7.3`.
    pub(super) version: String,
    /// The version of the package.
    pub(super) package_version: String,
    /// The file.
    pub(super) tarball: PathBuf,
}

impl Source {
    /// The source of a series.
    pub(super) fn of(series: Series) -> Result<Self> {
        match series {
            Series::Linux6_1 | Series::Linux6_12 => installed(series.name()),
            Series::Linux7 => newest(),
        }
    }
}

fn installed(version: &str) -> Result<Source> {
    let package = format!("linux-source-{version}");
    let tarball = PathBuf::from(format!("/usr/src/{package}.tar.xz"));
    host::file(&tarball, &package)?;
    let mut query = host::command("dpkg-query", "dpkg")?;
    let found = host::run(query.args(["--show", "--showformat=${Version}", &package]))?;
    let package_version = String::from_utf8(found.stdout)?;
    Ok(Source { version: version.to_owned(), package_version, tarball })
}

/// The source in the cache, fetched if there is none. If the archive cannot be reached, it is not tried
/// again.
fn newest() -> Result<Source> {
    static MISSING: Mutex<Option<Missing>> = Mutex::new(None);
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(source) = cached()? {
        return Ok(source);
    }
    if let Some(missing) = &*missing {
        return Err(missing.clone().into());
    }
    let lock = Lock::take(Work::Fetching)?;
    let found = match cached()? {
        Some(source) => Ok(source),
        None => fetch(&lock),
    };
    if let Err(error) = &found {
        *missing = error.downcast_ref().cloned();
    }
    found
}

/// The tar archive with the source of a series.
pub fn source_archive(series: Series) -> Result<PathBuf> {
    Source::of(series).map(|source| source.tarball)
}

/// Replaces the source in the cache if the archive has a newer one.
pub fn look_for_newest() -> Result<()> {
    fetch(&Lock::take(Work::Fetching)?).map(drop)
}

/// Packages of the newest series in the cache, as in `linux-source-7.3_7.3.4-1`: at most one.
fn packages() -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(cache::root()?.join("sources")) else { return Ok(Vec::new()) };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| identity(path).is_some()).collect())
}

/// The series and package version in the name of a cached package.
fn identity(package: &Path) -> Option<(&str, &str)> {
    package.file_name()?.to_str()?.strip_prefix("linux-source-")?.split_once('_')
}

fn cached() -> Result<Option<Source>> {
    let packages = packages()?;
    let Some((package, (version, package_version))) =
        packages.iter().find_map(|package| Some((package, identity(package)?)))
    else {
        return Ok(None);
    };
    let tarball = package.join(format!("usr/src/linux-source-{version}.tar.xz"));
    let (version, package_version) = (version.to_owned(), package_version.to_owned());
    Ok(Some(Source { version, package_version, tarball }))
}

fn fetch(_: &Lock) -> Result<Source> {
    host::say("looking for the newest kernel's source in Debian's archive");
    let archive = Archive::open(&SUITES, "amd64")?;
    let names = archive.names("^linux-source-7[.][0-9]+$")?;
    let minor = |name: &String| name.rsplit('.').next().and_then(|n| n.parse::<u32>().ok());
    let Some(name) = names.into_iter().max_by_key(minor) else {
        return Err(Missing::Archive(format!("no linux-source-7 in {}", SUITES.join(", "))).into());
    };
    let package = archive.download(&name)?;
    let before = packages()?;
    let place = cache::root()?.join("sources").join(format!("{name}_{}", package.version));
    if !before.contains(&place) {
        let publication = Publication::begin(&place)?;
        package.unpack(publication.directory())?;
        for old in before {
            fs::remove_dir_all(&old).with_context(|| format!("remove {}", old.display()))?;
        }
        publication.finish()?;
    }
    cached()?.with_context(|| format!("{} is not a source package", place.display()))
}
