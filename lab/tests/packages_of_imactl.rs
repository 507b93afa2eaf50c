//! The Debian and RPM packages of imactl: installed, used and removed in a root that has neither imactl nor
//! its build tools.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Result};
use lab::image::Tree;
use lab::scenario::run_on_host;
use lab::{host, programs};

/// Checks the contents of the packages: programs, documents, completions, and that signing works.
const USE: &str = "
    test -s /usr/share/man/man1/imactl-sign.1.gz
    gzip -dc /usr/share/man/man1/evmctl.1.gz | grep -q ima_verify
    test -s /usr/share/bash-completion/completions/imactl
    test -s /usr/share/doc/imactl/docs/README.md
    imactl-init --version
    cd /root
    imactl policy check /usr/share/imactl/policies/appraise.policy
    imactl keys create --sample keys
    cp /bin/true program
    imactl sign --keys keys program
    imactl verify --keys keys program
    evmctl ima_verify --key keys/ima_keys/x509_ima.der program
    rm -r keys program
";

/// Runs a shell script in the root.
fn shell(root: &Tree, script: &str) -> Result<()> {
    let mut chroot = host::command("chroot", "coreutils")?;
    chroot.arg(root.directory()).args(["sh", "-euxc", script]).env_clear();
    host::run(chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
    Ok(())
}

/// Builds the packages from the programs that the tests build anyway.
fn packages(format: &str, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut package = programs::xtask();
    package.args(["package", format]).arg(directory);
    package.env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    package.env("IMACTL_PROGRAM", programs::imactl()?.get_program());
    host::run(package.env("IMACTL_INIT_PROGRAM", programs::imactl_init()?))?;
    let entries = std::fs::read_dir(directory)?;
    let packages: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(packages.len() == 2, "{packages:?}");
    Ok(packages)
}

/// The programs in the directories of `PATH`.
fn installed(root: &Tree) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for directory in ["/usr/bin", "/usr/sbin"] {
        for entry in std::fs::read_dir(root.path(directory))? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Checks that each program that was not there before has a man page.
fn have_pages(root: &Tree, before: &BTreeSet<String>) -> Result<()> {
    let installed = installed(root)?;
    let programs: Vec<_> = installed.difference(before).collect();
    ensure!(programs == ["evmctl", "imactl", "imactl-init"], "installed: {programs:?}");
    for program in programs {
        let pages =
            [1, 8].map(|section| format!("/usr/share/man/man{section}/{program}.{section}.gz"));
        ensure!(pages.iter().any(|page| root.path(page).exists()), "{program} has no man page");
    }
    Ok(())
}

/// Checks that no file of the packages is left.
fn is_clean(root: &Tree) -> Result<()> {
    shell(root, "test -z \"$(find / -xdev -name '*imactl*' -o -xdev -name evmctl)\"")
}

#[test]
fn debian() {
    run_on_host(|| {
        host::program("dpkg-shlibdeps", "dpkg-dev")?;
        let root = Tree::debian()?;
        let before = installed(&root)?;
        let inside = root.directory().join("packages");
        packages("deb", &inside)?;
        shell(&root, "dpkg --install /packages/*.deb; rm -r /packages")?;
        have_pages(&root, &before)?;
        shell(&root, USE)?;
        shell(&root, "dpkg --purge imactl-evmctl imactl")?;
        is_clean(&root)
    });
}

#[test]
fn rpm() {
    run_on_host(|| {
        host::program("rpmbuild", "rpm")?;
        let root = Tree::debian()?;
        let directory = tempfile::tempdir()?;
        let rpm = |arguments: &[&str], packages: &[PathBuf]| -> Result<()> {
            let mut rpm: Command = host::command("rpm", "rpm")?;
            rpm.arg("--root").arg(root.directory()).args(arguments);
            host::run(rpm.args(packages)).map(drop)
        };
        // --nodeps: the C library of the root was installed by dpkg
        let before = installed(&root)?;
        rpm(&["--install", "--nodeps"], &packages("rpm", directory.path())?)?;
        have_pages(&root, &before)?;
        shell(&root, USE)?;
        rpm(&["--erase", "imactl-evmctl", "imactl"], &[])?;
        is_clean(&root)
    });
}
