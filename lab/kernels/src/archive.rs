//! Debian's archive: packages of other suites and architectures than the host's, unpacked into a
//! given directory. Nothing is installed, and the host's package lists are not changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::host::{self, Missing};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The mirror if the host has no Debian mirror configured.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The packages of some suites for one architecture, as listed by the mirror when it was opened.
#[derive(Debug)]
pub struct Archive {
    directory: TempDir,
    options: Vec<String>,
}

impl Archive {
    /// Fetches the lists of these suites; [`Missing`] if the archive cannot be reached.
    pub fn open(suites: &[&str], architecture: &str) -> Result<Self> {
        host::file(Path::new(KEYRING), "debian-archive-keyring")?;
        let mirror = mirror()?;
        let directory = tempfile::Builder::new().prefix("lab-archive-").tempdir()?;
        let inside = |name: &str| directory.path().join(name);
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(inside(name))?;
        }
        let line = |suite: &&str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(inside("sources.list"), suites.iter().map(line).collect::<String>())?;
        let place = directory.path().display();
        let options = vec![
            format!("Dir::Etc::sourcelist={place}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State={place}/state"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={place}/cache"),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        let archive = Self { directory, options };
        reached(archive.apt("apt-get")?.args(["--error-on=any", "update"]))?;
        Ok(archive)
    }

    /// The names of packages that match an extended regular expression.
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let found = host::run(self.apt("apt-cache")?.args(["search", "--names-only", pattern]))?;
        let lines = String::from_utf8(found.stdout)?;
        let name = |line: &str| line.split(' ').next().map(str::to_owned);
        Ok(lines.lines().filter_map(name).collect())
    }

    /// Downloads a package.
    pub fn download(&self, package: &str) -> Result<Package> {
        let place = self.directory.path().join(package);
        fs::create_dir(&place)?;
        reached(self.apt("apt-get")?.args(["download", package]).current_dir(&place))?;
        let file = fs::read_dir(&place)?.next().context("apt-get downloaded nothing")??.path();
        let mut field = host::command("dpkg-deb", "dpkg")?;
        let version = host::run(field.arg("--field").arg(&file).arg("Version"))?.stdout;
        Ok(Package { file, version: String::from_utf8(version)?.trim().to_owned() })
    }

    fn apt(&self, program: &str) -> Result<Command, Missing> {
        let mut apt = host::command(program, "apt")?;
        apt.env("LC_ALL", "C").arg("-qq");
        for option in &self.options {
            apt.args(["-o", option]);
        }
        Ok(apt)
    }
}

/// A downloaded package; its file is removed with the archive.
#[derive(Debug)]
pub struct Package {
    file: PathBuf,
    /// The version as Debian writes it.
    pub version: String,
}

impl Package {
    /// Unpacks the package's files below a directory.
    pub fn unpack(&self, to: &Path) -> Result<()> {
        let mut dpkg = host::command("dpkg-deb", "dpkg")?;
        host::run(dpkg.arg("--extract").arg(&self.file).arg(to)).map(drop)
    }
}

fn reached(apt: &mut Command) -> Result<(), Missing> {
    host::run(apt).map(drop).map_err(|error| Missing::Archive(format!("{error:#}")))
}

/// The mirror that the host uses.
fn mirror() -> Result<String> {
    let mut apt = host::command("apt-get", "apt")?;
    apt.args(["indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Label: Debian"]);
    let found = String::from_utf8(host::run(&mut apt)?.stdout)?;
    Ok(found.lines().next().unwrap_or(MIRROR).to_owned())
}
