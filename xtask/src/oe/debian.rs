//! rpm and dnf for a target: Debian's programs, with their libraries and Python, in archives that recipes of
//! `xtask/oe/meta-host` package. They run on the target, where they use the database that BitBake's own
//! dnf made for the image.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::output;

/// rpm with its configuration, and the plugin that writes signatures.
const RPM: [&str; 5] = [
    "/usr/bin/rpm",
    "/usr/lib/rpm/macros",
    "/usr/lib/rpm/rpmrc",
    "/usr/lib/rpm/platform/x86_64-linux/macros",
    "/usr/lib/x86_64-linux-gnu/rpm-plugins/ima.so",
];
/// dnf without its packages: its program, and the names of Python.
const DNF: [&str; 2] = ["/usr/bin/dnf", "/usr/bin/python3"];
/// Packages whose modules dnf imports.
const MODULES: [&str; 6] = [
    "python3-dnf",
    "python3-gpg",
    "python3-hawkey",
    "python3-libcomps",
    "python3-libdnf",
    "python3-rpm",
];

/// Makes `rpm.tar` and `dnf.tar` in a directory.
pub(super) fn archives(directory: &Path) -> Result<[PathBuf; 2]> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let rpm = with_libraries(RPM.map(PathBuf::from).into())?;

    let python = Path::new("/usr/bin/python3").canonicalize().context("python3")?;
    let version = python.file_name().and_then(|name| name.to_str()).context("python3")?;
    let mut files: BTreeSet<_> = DNF.map(PathBuf::from).into();
    files.insert(python.clone());
    for package in ["minimal", "stdlib"].map(|part| format!("lib{version}-{part}")) {
        files.extend(files_of(&package)?);
    }
    for package in MODULES {
        files.extend(files_of(package)?);
    }
    let dnf: BTreeSet<_> = with_libraries(files)?.difference(&rpm).cloned().collect();
    Ok([archive(directory, "rpm.tar", &rpm)?, archive(directory, "dnf.tar", &dnf)?])
}

/// The files that a Debian package installed below /usr/lib, without tests.
fn files_of(package: &str) -> Result<Vec<PathBuf>> {
    let list = output(Command::new("dpkg").args(["--listfiles", package]))
        .with_context(|| format!("{package} is not installed"))?;
    let list = String::from_utf8(list)?;
    let inside = list.lines().filter(|path| path.starts_with("/usr/lib/"));
    let inside = inside.filter(|path| !path.contains("/test/"));
    Ok(inside.map(PathBuf::from).filter(|path| path.is_file()).collect())
}

/// These files, and the loader and the libraries of those that are ELF.
fn with_libraries(mut files: BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    for file in &files {
        let mut magic = [0; 4];
        let mut open = File::open(file).with_context(|| file.display().to_string())?;
        if open.read(&mut magic)? == magic.len() && magic == *b"\x7fELF" {
            ldd.arg(file);
        }
    }
    let text = String::from_utf8(output(&mut ldd)?)?;
    ensure!(!text.contains("not found"), "ldd: {text}");
    // "NAME => PATH (ADDRESS)", and "LOADER (ADDRESS)"
    for line in text.lines().filter(|line| line.contains(" (0x")) {
        let path = line.rsplit("=>").next().and_then(|rest| rest.split_whitespace().next());
        let path = path.filter(|path| path.starts_with('/'));
        // /lib is a link to /usr/lib
        files.extend(path.map(|path| match path.strip_prefix("/lib/") {
            Some(rest) => Path::new("/usr/lib").join(rest),
            None => PathBuf::from(path),
        }));
    }
    Ok(files)
}

/// Archives the content of these files under their names, whether or not they are links.
fn archive(directory: &Path, name: &str, files: &BTreeSet<PathBuf>) -> Result<PathBuf> {
    let (list, archive) = (directory.join(name).with_extension("list"), directory.join(name));
    let lines = files.iter().map(|path| format!(".{}\n", path.display())).collect::<String>();
    fs::write(&list, lines)?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--dereference", "--hard-dereference", "--no-recursion"]);
    tar.args(["--directory", "/", "--verbatim-files-from", "--files-from"]).arg(list);
    output(tar.arg("--file").arg(&archive))?;
    Ok(archive)
}
