//! An enforcing guest installs and updates packages with the real rpm.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lab::host;
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Guest;
use lab::on_each_kernel;
use lab::protocol::Errno;
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// The directory of rpm's plugins in Debian; rpm's default is another one.
const PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/rpm-plugins";

/// A program, its library, a configuration file, and scripts that run the program.
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
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/lib/x86_64-linux-gnu %{buildroot}/etc
echo 'int sample_version(void) { return %{sample_version}; }' > library.c
echo 'int sample_version(void); int main(void) { return sample_version() + 40; }' > program.c
library=%{buildroot}/usr/lib/x86_64-linux-gnu/libsample.so.1
gcc -shared -fPIC -Wl,-soname,libsample.so.1 -o $library library.c
gcc -o %{buildroot}/usr/bin/sample program.c $library
printf '#!/bin/sh\nexit %{sample_version}\n' > %{buildroot}/usr/bin/sample-script
chmod 0755 %{buildroot}/usr/bin/sample-script
echo version=%{sample_version} > %{buildroot}/etc/sample.conf
%post
/usr/bin/sample; echo "post %{sample_version}: $?" >> /var/log/sample
%preun
/usr/bin/sample; echo "preun %{sample_version}: $?" >> /var/log/sample
%files
/usr/bin/sample
/usr/bin/sample-script
/usr/lib/x86_64-linux-gnu/libsample.so.1
%config /etc/sample.conf
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

/// Signs a root that has rpm, and adds packages: /packages/1.rpm and 2.rpm signed, 3.rpm without
/// signatures.
pub(super) fn add_packages(root: &Tree, store: &KeyStore) -> Result<()> {
    let packages = tempfile::tempdir()?;
    let [first, second, unsigned] = [1, 2, 3].map(|version| build(packages.path(), version));
    let (first, second, unsigned) = (first?, second?, unsigned?);
    // as a repository owner does; imactl detects packages from their content
    store.sign(&[first.clone(), second.clone()])?;
    root.write("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)?;
    root.write("/etc/group", "root:x:0:\n", 0o644)?;
    root.write("/var/log/sample", "", 0o644)?;
    root.sign_all(store)?;
    for (package, name) in [(first, "1"), (second, "2"), (unsigned, "3")] {
        root.take(&package, &format!("/packages/{name}.rpm"))?;
    }
    Ok(())
}

/// Installs a package in the guest with rpm, or updates to it.
fn install(guest: &mut Guest, package: &str) -> Result<()> {
    let plugins = format!("__plugindir {PLUGINS}");
    let rpm = [
        "/usr/bin/rpm",
        "-Uv",
        "--nodeps",
        "--dbpath",
        "/var/lib/rpm",
        "--define",
        &plugins,
        package,
    ];
    let observed = guest.execute(&rpm)?;
    let told = observed.exits(0);
    assert!(!told.contains("error"), "{observed}");
    Ok(())
}

on_each_kernel! {
    fn a_signed_package_is_installed_and_updated_and_runs(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let root = Tree::small_root()?;
        root.install("/usr/bin/rpm", "rpm")?;
        root.install(&format!("{PLUGINS}/ima.so"), "rpm-common")?;
        for name in ["rpmrc", "macros"] {
            root.take(Path::new(&format!("/usr/lib/rpm/{name}")), &format!("/usr/lib/rpm/{name}"))?;
        }
        root.take(
            &host::checkout().join("contrib/rpm/macros.imactl"),
            "/usr/lib/rpm/macros.d/macros.imactl",
        )?;
        add_packages(&root, &store)?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;

        for version in [1, 2] {
            install(&mut guest, &format!("/packages/{version}.rpm"))?;
            // the exit code comes from the library
            guest.execute(&["/usr/bin/sample"])?.exits(40 + version);
            let configured = guest.read("/etc/sample.conf")?.text();
            assert_eq!(configured, format!("version={version}\n"));
        }
        install(&mut guest, "/packages/3.rpm")?;
        guest
            .execute(&["/usr/bin/sample"])?
            .is_denied(Errno::EACCES, "IMA-signature-required");
        Ok(())
    }
}
