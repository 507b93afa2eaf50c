//! Debian and RPM packages of release builds, or of the programs that `IMACTL_PROGRAM` and
//! `IMACTL_INIT_PROGRAM` name, made by the tools of Debian and rpm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::{install, output, root, target_directory};

const USAGE: &str = "usage: cargo xtask package [deb|rpm [DIR]]";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The package with the program, and the one with the link `evmctl`.
const NAMES: [&str; 2] = ["imactl", "imactl-evmctl"];

/// `cargo xtask package [deb|rpm [DIR]]`: writes packages to DIR, by default `target/packages`. Without arguments,
/// writes both kinds.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let here = target_directory().join("packages");
    match arguments {
        [] => ["deb", "rpm"].iter().try_for_each(|format| write(format, &here)),
        [format] => write(format, &here),
        [format, directory] => write(format, &std::env::current_dir()?.join(directory)),
        _ => bail!(USAGE),
    }
}

fn write(format: &str, directory: &Path) -> Result<()> {
    let staged = target_directory().join("package").join(format);
    if staged.exists() {
        fs::remove_dir_all(&staged).with_context(|| staged.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    match format {
        "deb" => deb(&staged, directory),
        "rpm" => rpm(&staged, directory),
        _ => bail!(USAGE),
    }?;
    println!("{}", directory.display());
    Ok(())
}

/// Installs all files below a directory, in a distribution's layout.
fn stage(usr: &Path) -> Result<()> {
    let (imactl, init) = install::programs()?;
    install::below(usr, &imactl, &init)?;
    tool(usr, "strip", |it| it.args(["--strip-unneeded", "bin/imactl"]))?;
    tool(usr, "gzip", |it| it.args(["-9", "--no-name", "--recursive", "share/man"]))
}

/// Installs imactl and its page as evmctl.
fn evmctl(usr: &Path) -> Result<()> {
    for (directory, link, file) in
        [("bin", "evmctl", "imactl"), ("share/man/man1", "evmctl.1.gz", "imactl-evmctl.1.gz")]
    {
        fs::create_dir_all(usr.join(directory))?;
        symlink(file, usr.join(directory).join(link)).context(link)?;
    }
    Ok(())
}

fn deb(staged: &Path, directory: &Path) -> Result<()> {
    let [main, other] = NAMES.map(|name| staged.join(name));
    stage(&main.join("usr"))?;
    evmctl(&other.join("usr"))?;
    // the completion directory of Debian's zsh
    let zsh = main.join("usr/share/zsh");
    fs::rename(zsh.join("site-functions"), zsh.join("vendor-completions"))?;
    let debian = staged.join("debian");
    fs::create_dir_all(&debian)?;
    fs::copy(root().join("xtask/package/debian/control"), debian.join("control"))?;
    // Debian's tools read the version from here
    let changelog = format!(
        "imactl ({VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n \
         -- imactl developers <imactl@packages.invalid>  Thu, 01 Jan 1970 00:00:00 +0000\n"
    );
    fs::write(debian.join("changelog"), changelog)?;
    tool(staged, "dpkg-shlibdeps", |it| it.arg(main.join("usr/bin/imactl")))?;
    for (name, tree) in NAMES.iter().zip([&main, &other]) {
        copyright(&tree.join("usr/share/doc").join(name))?;
        fs::create_dir_all(tree.join("DEBIAN"))?;
        tool(staged, "dpkg-gencontrol", |it| {
            it.arg(format!("-p{name}")).arg(format!("-P{}", tree.display()))
        })?;
        tool(staged, "dpkg-deb", |it| {
            it.args(["--root-owner-group", "--build"]).arg(tree).arg(directory)
        })?;
    }
    Ok(())
}

/// The licences, under the name that Debian's policy prescribes.
fn copyright(documents: &Path) -> Result<()> {
    let read = |name: &str| fs::read_to_string(root().join(name)).with_context(|| name.to_owned());
    let text = format!(
        "imactl is licensed under MIT OR Apache-2.0. The OpenSSL in it is under Apache-2.0, which \
         is in\n/usr/share/common-licenses/Apache-2.0.\n\n{}",
        read("LICENSE-MIT")?
    );
    fs::create_dir_all(documents)?;
    fs::write(documents.join("copyright"), text).context("copyright")
}

fn rpm(staged: &Path, directory: &Path) -> Result<()> {
    let files = staged.join("files");
    stage(&files.join("usr"))?;
    evmctl(&files.join("usr"))?;
    let top = staged.join("build");
    tool(staged, "rpmbuild", |it| {
        it.arg("-bb").arg(root().join("xtask/package/imactl.spec"));
        for (name, value) in [
            ("_topdir", top.display().to_string()),
            ("_rpmdir", directory.display().to_string()),
            ("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".into()),
            ("staged", files.display().to_string()),
            ("package_version", VERSION.into()),
            // already stripped and compressed
            ("debug_package", "%{nil}".into()),
            ("__os_install_post", "%{nil}".into()),
        ] {
            it.arg("--define").arg(format!("{name} {value}"));
        }
        it
    })
}

/// Runs a tool; prints its output if it fails.
fn tool(
    directory: &Path,
    name: &str,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<()> {
    let mut command = Command::new(name);
    command.current_dir(directory);
    output(arguments(&mut command)).map(drop)
}
