//! rpm as in the layer's images: each release is built with BitBake's arguments for CMake
//! (`lab/rpm/*.words`; `cargo xtask oe` compares them with BitBake's output) and the layer's patch.
//!
//! 4.19 comes from rpm's git repository, the newer ones from Debian's source packages. Sources and
//! builds stay in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Inputs, Lock, Publication, Work};
use crate::host::{self, Missing};

/// Increase this when a change of the build changes its result.
const RECIPE: &str = "1";

const PATCH: &str = "meta-integrity/recipes-devtools/rpm/rpm/\
                     0001-plugins-build-the-ima-plugin-without-libimaevm.patch";

/// Files that a build needs in addition to a compiler: (file, package).
const LIBRARIES: [(&str, &str); 10] = [
    ("/usr/include/lua5.4/lua.h", "liblua5.4-dev"),
    ("/usr/include/gcrypt.h", "libgcrypt20-dev"),
    ("/usr/include/magic.h", "libmagic-dev"),
    ("/usr/include/popt.h", "libpopt-dev"),
    ("/usr/include/lzma.h", "liblzma-dev"),
    ("/usr/include/bzlib.h", "libbz2-dev"),
    ("/usr/include/elfutils/libdw.h", "libdw-dev"),
    ("/usr/include/sqlite3.h", "libsqlite3-dev"),
    ("/usr/include/zstd.h", "libzstd-dev"),
    ("/usr/include/archive.h", "libarchive-dev"),
];

/// A release of rpm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// scarthgap's.
    V4_19,
    /// wrynose's.
    V4_20,
    /// The next release.
    V6_1,
}

/// Whether the layer's patch is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// As built by the layer.
    Applied,
    /// As released.
    Absent,
}

/// The origin of sources.
enum Origin {
    /// A tag of rpm's git repository, or of `$IMACTL_RPM_GIT`.
    Git(&'static str),
    /// A source package: Debian's suite, and the prefix of its version.
    Debian(&'static str, &'static str),
}

const REPOSITORY: &str = "https://github.com/rpm-software-management/rpm";

impl Release {
    fn origin(self) -> Origin {
        match self {
            Self::V4_19 => Origin::Git("rpm-4.19.1.1-release"),
            Self::V4_20 => Origin::Debian("trixie", "4.20.1"),
            Self::V6_1 => Origin::Debian("sid", "6.1"),
        }
    }

    /// The arguments for CMake; releases newer than any series use those of wrynose.
    fn words(self) -> &'static str {
        match self {
            Self::V4_19 => include_str!("../rpm/scarthgap.words"),
            Self::V4_20 | Self::V6_1 => include_str!("../rpm/wrynose.words"),
        }
    }
}

/// The directory below which this rpm is installed, from the cache or built now.
pub fn prepare(release: Release, patch: Patch) -> Result<PathBuf> {
    let mut inputs = Inputs::default();
    let text = fs::read(host::checkout().join(PATCH)).with_context(|| PATCH.to_owned())?;
    inputs.add(RECIPE).add(release.words()).add(text).add(format!("{patch:?}"));
    let name = format!("{release:?}-{}", inputs.name());
    let place = cache::root()?.join("rpm").join(name);
    if !place.exists() {
        let lock = Lock::take(Work::Building)?;
        if !place.exists() {
            build(release, patch, &place, &lock)?;
        }
    }
    Ok(place)
}

fn build(release: Release, patch: Patch, place: &Path, lock: &Lock) -> Result<()> {
    for (path, package) in LIBRARIES {
        host::file(Path::new(path), package)?;
    }
    host::program("scdoc", "scdoc")?;
    let archive = sources(release)?;
    let scratch = tempfile::Builder::new().prefix("lab-rpm-").tempdir()?;
    let (source, object) = (scratch.path().join("source"), scratch.path().join("object"));
    fs::create_dir(&source)?;
    let mut tar = host::command("tar", "tar")?;
    host::run(tar.args(["--strip-components=1", "-xf"]).arg(&archive).arg("-C").arg(&source))?;
    if patch == Patch::Applied {
        let mut apply = host::command("patch", "patch")?;
        apply.args(["-p1", "--fuzz=0", "-i"]).arg(host::checkout().join(PATCH));
        host::run(apply.current_dir(&source))?;
    }
    // OpenEmbedded patches the check of 4.20 for this flag, which succeeds with every compiler
    let top = source.join("CMakeLists.txt");
    let text = fs::read_to_string(&top)?;
    fs::write(&top, text.replace(" -fhardened", ""))?;

    host::say(&format!("building rpm {release:?}, about a minute"));
    let mut cmake = host::command("cmake", "cmake")?;
    cmake.arg("-S").arg(&source).arg("-B").arg(&object).args(release.words().lines());
    cmake.args(["-DCMAKE_INSTALL_PREFIX=/usr", "-DCMAKE_INSTALL_LIBDIR=lib"]);
    cmake.arg("-DPython3_EXECUTABLE=/usr/bin/python3");
    let headers = host::checkout().join("lab/rpm/include");
    cmake.arg(format!("-DCMAKE_CXX_FLAGS=-idirafter {}", headers.display()));
    host::run(clean(&mut cmake))?;
    let publication = Publication::begin(place)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = host::command("make", "make")?;
    make.arg("-C").arg(&object).arg(format!("-j{jobs}")).arg("install");
    make.env("DESTDIR", publication.directory()).stdin(lock.input()?);
    host::run(clean(&mut make))?;
    publication.finish()
}

/// Removes the variables of an outer `make` or `cargo` from the environment.
fn clean(command: &mut Command) -> &mut Command {
    ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "CXXFLAGS", "LDFLAGS"]
        .iter()
        .fold(command, |command, name| command.env_remove(name))
}

/// The archive with the sources, from the cache or fetched now.
fn sources(release: Release) -> Result<PathBuf> {
    let place = cache::root()?.join("sources").join(format!("rpm-{release:?}"));
    if !place.exists() {
        let publication = Publication::begin(&place)?;
        match release.origin() {
            Origin::Git(tag) => clone(tag, publication.directory())?,
            Origin::Debian(suite, version) => fetch(suite, version, publication.directory())?,
        }
        publication.finish()?;
    }
    let mut files = fs::read_dir(&place)?.flatten().map(|entry| entry.path());
    let is_archive = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar");
    files.find(is_archive).with_context(|| format!("no archive in {}", place.display()))
}

fn clone(tag: &'static str, directory: &Path) -> Result<()> {
    let repository = std::env::var_os("IMACTL_RPM_GIT").unwrap_or(REPOSITORY.into());
    let checkout = directory.join("git");
    let mut clone = host::command("git", "git")?;
    clone.args(["clone", "--quiet", "--bare", "--depth=1", "--branch", tag]);
    let cloned = clone.arg(&repository).arg(&checkout).env("GIT_TERMINAL_PROMPT", "0").output()?;
    if !cloned.status.success() {
        return Err(
            Missing::Source(format!("tag {tag} of rpm's repository (IMACTL_RPM_GIT)")).into()
        );
    }
    let mut archive = host::command("git", "git")?;
    archive.arg("-C").arg(&checkout).args(["archive", "--prefix=rpm/", "--output"]);
    host::run(archive.arg(directory.join("rpm.orig.tar")).arg(tag))?;
    Ok(fs::remove_dir_all(checkout)?)
}

/// Downloads the newest source package of a suite, with its own package lists.
fn fetch(suite: &str, version: &str, directory: &Path) -> Result<()> {
    let lists = tempfile::Builder::new().prefix("lab-apt-").tempdir()?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    host::file(Path::new(keys), "debian-archive-keyring")?;
    for name in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(lists.path().join(name))?;
    }
    let list = lists.path().join("sources.list");
    fs::write(
        &list,
        format!("deb-src [signed-by={keys}] http://deb.debian.org/debian {suite} main\n"),
    )?;
    let apt = |program: &str| -> Result<Command> {
        let mut apt = host::command(program, "apt")?;
        for (option, value) in [
            ("Dir::Etc::sourcelist", list.display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::Lists", lists.path().join("lists").display().to_string()),
            ("Dir::Cache", lists.path().join("cache").display().to_string()),
            ("APT::Sandbox::User", "root".into()),
        ] {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        apt.current_dir(directory);
        Ok(apt)
    };
    let missing = || Missing::Source(format!("source package rpm {version} in Debian {suite}"));
    if !apt("apt-get")?.arg("update").output()?.status.success() {
        return Err(missing().into());
    }
    let shown = host::run(apt("apt-cache")?.args(["showsrc", "--only-source", "rpm"]))?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut versions = shown.lines().filter_map(|line| line.strip_prefix("Version: "));
    let Some(found) = versions.rfind(|found| found.starts_with(version)) else {
        return Err(missing().into());
    };
    host::run(apt("apt-get")?.args(["source", "--download-only", &format!("rpm={found}")]))?;
    Ok(())
}
