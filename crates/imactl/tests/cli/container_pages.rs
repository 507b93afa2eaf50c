//! The pages about packages, archives, images and hardware keys: their commands are run, and must print the
//! output shown, except for numbers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;
use crate::transcript::{assert_fits, transcripts};

const SPEC: &str = r#"
Name: hello
Version: 2.0
Release: 1
Summary: Says hello
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
Says hello.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc %{buildroot}/usr/share/doc/hello
printf '#!/bin/sh\necho hello\n' > %{buildroot}/usr/bin/hello
echo greeting=hello > %{buildroot}/etc/hello.conf
echo Read me > %{buildroot}/usr/share/doc/hello/README
%files
%attr(755,root,root) /usr/bin/hello
%config /etc/hello.conf
/usr/share/doc/hello
"#;

/// The files of the archive and the image, in the order of the archive.
const FILES: [(&str, usize); 4] = [
    ("etc/hosts", 20),
    ("usr/lib/libc.so.6", 1_930_000),
    ("usr/bin/cat", 44_000),
    ("usr/bin/ls", 150_000),
];

/// The input files of the pages' commands.
struct Place {
    directory: PathBuf,
    environment: BTreeMap<&'static str, OsString>,
}

impl Place {
    /// Creates a directory with a store and a tree.
    fn new(directory: &Path) -> Self {
        let keys = store(directory, "p-256");
        fs::rename(keys, directory.join("keys")).unwrap();
        for (path, size) in FILES {
            write_tree(&directory.join("root"), &[(path, &vec![b'x'; size])]);
        }
        let program = Path::new(env!("CARGO_BIN_EXE_imactl"));
        let mut path = program.parent().unwrap().as_os_str().to_owned();
        path.push(":/usr/sbin:/sbin:");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Self { directory: directory.to_owned(), environment: [("PATH", path)].into() }
    }

    fn package(&self) -> Option<()> {
        let mut rpmbuild = tool("rpmbuild")?;
        let top = self.directory.join("rpmbuild");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("hello.spec"), SPEC).unwrap();
        rpmbuild.arg("-bb").arg("--define").arg(format!("_topdir {}", top.display()));
        finish(rpmbuild.arg(top.join("hello.spec"))).exits(0);
        let name = "hello-2.0-1.noarch.rpm";
        let built = top.join("RPMS/noarch").join(name);
        fs::copy(&built, self.directory.join(name)).unwrap();
        write_tree(&self.directory.join("repo"), &[("repodata/repomd.xml", b"<repomd/>")]);
        fs::copy(built, self.directory.join("repo").join(name)).unwrap();
        Some(())
    }

    fn archive(&self, name: &str) -> Option<()> {
        let mut tar = tool("tar")?;
        tar.arg("-C").arg(self.directory.join("root")).arg("-caf").arg(self.directory.join(name));
        finish(tar.args(FILES.map(|(path, _)| format!("./{path}")))).exits(0);
        Some(())
    }

    fn image(&self) -> Option<()> {
        let mut mke2fs = tool("mke2fs")?;
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(self.directory.join("root"));
        finish(mke2fs.arg(self.directory.join("root.ext4")).arg("16M")).exits(0);
        Some(())
    }

    /// Runs the commands of a page, and compares their output.
    fn runs(&self, page: &str) {
        let mut ran = 0;
        for (command, expected) in transcripts(page) {
            // the page shows a PIN prompt
            let command = match command.contains("pkcs11-tool") {
                true => command.replace("--login", "--login --pin 1234"),
                false => command,
            };
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).current_dir(&self.directory);
            shell.env_remove("TMPDIR").envs(&self.environment);
            let done = finish(&mut shell);
            // the output of other programs differs between versions
            match command.contains("imactl") {
                true => assert_fits(&(done.stderr + &done.stdout), &expected, &command),
                false => drop(done.exits(0)),
            }
            ran += 1;
        }
        assert!(ran > 2, "the page has lost its commands");
    }
}

#[test]
fn the_page_about_packages_shows_what_is_printed() {
    let directory = directory();
    let mut place = Place::new(directory.path());
    let Some(()) = place.package() else { return };
    place.environment.insert("IMACTL_KEYS", "keys".into());
    place.runs(include_str!("../../../../docs/packages.md"));
}

#[test]
fn the_page_about_archives_shows_what_is_printed() {
    let directory = directory();
    let place = Place::new(directory.path());
    if tool("sqfstar").is_none() {
        return;
    }
    let Some(()) = place.archive("rootfs.tar.gz") else { return };
    place.runs(include_str!("../../../../docs/tarballs.md"));
}

#[test]
fn the_page_about_images_shows_what_is_printed() {
    let directory = directory();
    let place = Place::new(directory.path());
    let Some(()) = place.image() else { return };
    place.runs(include_str!("../../../../docs/images.md"));
}

#[test]
fn the_page_about_hardware_keys_shows_what_is_printed() {
    let directory = directory();
    let mut place = Place::new(directory.path());
    let module = Path::new("/usr/lib/softhsm/libsofthsm2.so");
    if !module.exists() {
        return missing("SoftHSM is not installed where the page has it");
    }
    if tool("softhsm2-util").is_none() || tool("pkcs11-tool").is_none() {
        return;
    }
    if !security_attributes(directory.path()) {
        return;
    }
    let Some(()) = place.package().and(place.archive("rootfs.tar")).and(place.image()) else {
        return;
    };
    let tokens = directory.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = directory.path().join("softhsm2.conf");
    fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    fs::write(directory.path().join("pin"), "1234\n").unwrap();
    place.environment.insert("SOFTHSM2_CONF", configuration.into());
    place.environment.insert("PKCS11_MODULE_PATH", module.into());
    place.runs(include_str!("../../../../docs/hardware-keys.md"));
}
