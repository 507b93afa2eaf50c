//! The rpm of each series, built as the layer builds it, keeps a guest that enforces running.

use std::fs;
use std::path::{Path, PathBuf};

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

/// A program, its library, and scripts that run the program.
const SPEC: &str = r#"
Name: sample
Version: %{sample_version}
Release: 1
Summary: A program, its library, and scripts that run it
License: MIT
AutoReqProv: no
%description
A program, its library, and scripts that run it.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/lib/x86_64-linux-gnu
echo 'int sample_version(void) { return %{sample_version}; }' > library.c
echo 'int sample_version(void); int main(void) { return sample_version() + 40; }' > program.c
library=%{buildroot}/usr/lib/x86_64-linux-gnu/libsample.so.1
gcc -shared -fPIC -Wl,-soname,libsample.so.1 -o $library library.c
gcc -o %{buildroot}/usr/bin/sample program.c $library
printf '#!/bin/sh\nexit %{sample_version}\n' > %{buildroot}/usr/bin/sample-script
chmod 0755 %{buildroot}/usr/bin/sample-script
%post
/usr/bin/sample; echo "post %{sample_version}: $?" >> /var/log/sample
%preun
/usr/bin/sample; echo "preun %{sample_version}: $?" >> /var/log/sample
%files
/usr/bin/sample
/usr/bin/sample-script
/usr/lib/x86_64-linux-gnu/libsample.so.1
"#;

fn build(directory: &Path, version: u32) -> Result<PathBuf> {
    let spec = directory.join("sample.spec");
    fs::write(&spec, SPEC)?;
    let mut rpmbuild = host::command("rpmbuild", "rpm")?;
    rpmbuild.arg("-bb").arg("--define").arg(format!("_topdir {}", directory.display()));
    for define in ["__os_install_post %{nil}", "debug_package %{nil}"] {
        rpmbuild.args(["--define", define]);
    }
    rpmbuild.arg("--define").arg(format!("sample_version {version}"));
    host::run(rpmbuild.args(["--target", "x86_64"]).arg(&spec))?;
    Ok(directory.join(format!("RPMS/x86_64/sample-{version}-1.x86_64.rpm")))
}

/// A guest with this rpm under the default policy; signed packages /packages/1.rpm and 2.rpm, and
/// 3.rpm without signatures.
fn guest(kernel: &Kernel, release: Release, patch: Patch) -> Result<Guest> {
    let installed = rpm::prepare(release, patch)?;
    let store = KeyStore::create(Algorithm::P256)?;
    let packages = tempfile::tempdir()?;
    let [first, second, unsigned] = [1, 2, 3].map(|version| build(packages.path(), version));
    let (first, second, unsigned) = (first?, second?, unsigned?);
    store.sign(&[first.clone(), second.clone()])?;

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
    root.write("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)?;
    root.write("/etc/group", "root:x:0:\n", 0o644)?;
    root.write("/var/log/sample", "", 0o644)?;
    root.sign_all(&store)?;
    for (package, name) in [(first, "1"), (second, "2"), (unsigned, "3")] {
        root.take(&package, &format!("/packages/{name}.rpm"))?;
    }
    Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()
}

fn rpm(guest: &mut Guest, words: &[&str]) -> Result<()> {
    // rpm 6 wants an OpenPGP signature of each package, unless told otherwise
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
        // what it returns comes from the library
        guest.execute(&["/usr/bin/sample"])?.exits(40 + version);
        guest.execute(&["/usr/bin/sample-script"])?.exits(version);
    }
    rpm(&mut guest, &["-e", "sample"])?;
    guest.execute(&["/usr/bin/sample"])?.fails(Errno::ENOENT);
    // an update ends with the %preun of what it replaces, which meets the new program
    let log = guest.read("/var/log/sample")?.text();
    assert_eq!(log, "post 1: 41\npost 2: 42\npreun 1: 42\npreun 2: 42\n");

    rpm(&mut guest, &["-U", "/packages/3.rpm"])?;
    let unsigned = guest.execute(&["/usr/bin/sample"])?;
    unsigned.is_refused(Errno::EACCES, "IMA-signature-required");
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
        signed.is_refused(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }
}
