//! With the rpm of each series, built as by the layer, an enforcing guest keeps working.

use std::fs;

use anyhow::Result;
use lab::host;
use lab::image::Tree;
use lab::kernel::Kernel;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::Errno;
use lab::rpm::{self, Patch, Release};
use lab::scenario::{Enforced, DEFAULT_POLICY};

use crate::rpm_packages::add_packages;

/// A guest with this rpm and the packages of [`add_packages`], under the default policy.
fn guest(kernel: &Kernel, release: Release, patch: Patch) -> Result<Guest> {
    let installed = rpm::prepare(release, patch)?;
    let store = KeyStore::create(Algorithm::P256)?;
    let root = Tree::small_root()?;
    root.take_installed(&installed, "/usr/bin/rpm")?;
    for directory in ["usr/lib/rpm", "usr/lib/rpm/macros.d", "usr/lib/rpm-plugins"] {
        for entry in fs::read_dir(installed.join(directory))? {
            let path = entry?.path();
            if path.is_file() {
                let inside = path.strip_prefix(&installed)?;
                root.take_installed(&installed, &format!("/{}", inside.display()))?;
            }
        }
    }
    let macros = host::checkout().join("meta-integrity/recipes-devtools/rpm/rpm/macros.ima");
    root.take(&macros, "/etc/rpm/macros.ima")?;
    add_packages(&root, &store)?;
    Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()
}

fn rpm(guest: &mut Guest, words: &[&str]) -> Result<()> {
    // rpm 6 requires an OpenPGP signature of each package by default
    let level = "_pkgverify_level digest";
    let command = [&["/usr/bin/rpm", "--nodeps", "--define", level][..], words].concat();
    let observed = guest.execute(&command)?;
    let told = observed.exits(0);
    assert!(!told.contains("error"), "{observed}");
    Ok(())
}

fn updates(kernel: &Kernel, release: Release) -> Result<()> {
    let mut guest = guest(kernel, release, Patch::Applied)?;
    for version in [1, 2] {
        rpm(&mut guest, &["-U", &format!("/packages/{version}.rpm")])?;
        // the exit code comes from the library
        guest.execute(&["/usr/bin/sample"])?.exits(40 + version);
        guest.execute(&["/usr/bin/sample-script"])?.exits(version);
    }
    rpm(&mut guest, &["-e", "sample"])?;
    guest.execute(&["/usr/bin/sample"])?.fails(Errno::ENOENT);
    // an update ends with the old package's %preun, which runs the new program
    let log = guest.read("/var/log/sample")?.text();
    assert_eq!(log, "post 1: 41\npost 2: 42\npreun 1: 42\npreun 2: 42\n");

    rpm(&mut guest, &["-U", "/packages/3.rpm"])?;
    let unsigned = guest.execute(&["/usr/bin/sample"])?;
    unsigned.is_denied(Errno::EACCES, "IMA-signature-required");
    let log = guest.read("/var/log/sample")?.text();
    assert!(log.ends_with("post 3: 126\n"), "{log}");
    Ok(())
}

on_each_kernel! {
    fn rpm_4_19_installs_upgrades_and_removes(kernel) {
        updates(kernel, Release::V4_19)
    }

    fn rpm_4_20_installs_upgrades_and_removes(kernel) {
        updates(kernel, Release::V4_20)
    }

    fn rpm_6_1_installs_upgrades_and_removes(kernel) {
        updates(kernel, Release::V6_1)
    }

    fn without_the_patch_a_signed_package_is_denied(kernel) {
        let mut guest = guest(kernel, Release::V4_20, Patch::Absent)?;
        rpm(&mut guest, &["-U", "/packages/1.rpm"])?;
        let signed = guest.execute(&["/usr/bin/sample"])?;
        signed.is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }
}
