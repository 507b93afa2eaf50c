//! RPM packages, compared with rpmsign, or with the part of its work that Debian offers.
//!
//! `IMACTL_RPMSIGN` names an rpmsign built with file signing, which Debian's is not. For each file it would
//! call `sign_hash` of libimaevm, and `evmctl sign_hash` calls that for digests on standard input. The
//! peer's time is then that alone, without reading and writing packages. For comparison, the time of
//! rpmsign on another machine is shown ([`goal`]); it was measured on another day, so it is only an
//! indication.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};

use super::trees::make_once;
use super::{line, repeated, timed, Bench, Goal};
use crate::run;

const SPEC: &str = "
Name: sample
Version: 1
Release: 1
Summary: Files
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
Files.
%install
mkdir -p %{buildroot}/usr/share/sample
cd %{buildroot}/usr/share/sample
for number in $(seq %{sample_files}); do
    seq $number $((number + number % 700)) > file-$number
done
%files
/usr/share/sample
";

/// One package with 2,000 files, and 500 packages with 10.
pub(super) fn packages(bench: &Bench) -> Result<()> {
    let one = bench.directory.join("packages-one");
    let building = bench.directory.join("packages-building");
    fs::create_dir_all(&building)?;
    make_once(&one, |directory| {
        fs::copy(build(&building, 2_000)?, directory.join("sample.rpm"))?;
        Ok(())
    })?;
    let many = bench.directory.join("packages-many");
    make_once(&many, |directory| {
        let package = build(&building, 10)?;
        for number in 0..500 {
            fs::copy(&package, directory.join(format!("sample-{number:03}.rpm")))?;
        }
        Ok(())
    })?;
    fs::remove_dir_all(&building)?;
    for (what, directory) in [("1 package of 2,000 files", one), ("500 packages of 10", many)] {
        println!("Packages: {what}");
        for algorithm in ["rsa-2048", "p-256"] {
            sign(bench, &directory, algorithm)?;
        }
    }
    Ok(())
}

fn sign(bench: &Bench, directory: &Path, algorithm: &str) -> Result<()> {
    let keys = bench.keys(algorithm)?;
    let directory_text = directory.to_str().context("a path that is text")?;
    let key = format!("{keys}/ima_keys/x509_ima.key");
    let clear = || {
        let mut command = Command::new(&bench.imactl);
        command.args(["clear", "--quiet", "-r", directory_text]);
        run(command)
    };
    let args = ["sign", "--quiet", "-r", "--keys", &keys, directory_text];
    let checked = bench.imactl(&args, clear)?;
    // rpmsign does not check the payload either
    let ours = bench.imactl(&[&args[..], &["--trust-header"]].concat(), clear)?;
    clear()?;
    let cost = format!("{:.2} s with the payload compared", checked.seconds);
    let what = format!("sign {algorithm}");
    if let Some(program) = std::env::var_os("IMACTL_RPMSIGN") {
        let theirs = rpmsign(bench, Path::new(&program), directory, &key)?;
        let goal = goal(algorithm).map_or(Goal::None, |(_, times)| Goal::Faster(times));
        let notes = format!("{cost}; rpmsign adds an OpenPGP signature");
        line(&what, ours, "rpmsign", theirs, goal, &notes);
        return Ok(());
    }
    let list = bench.directory.join("digests");
    let count = write_digests(directory, &list)?;
    let theirs = repeated(|| {
        let mut evmctl = Command::new("evmctl");
        evmctl.args(["sign_hash", "-a", "sha256", "-k", &key]);
        timed(evmctl.stdin(File::open(&list)?).stderr(Stdio::null()))
    })?;
    let notes = goal(algorithm).map_or(cost.clone(), |(seconds, times)| {
        let seconds = seconds * count as f64 / 2_003.0;
        let ratio = seconds / ours.seconds;
        format!("{cost}; rpmsign elsewhere {seconds:.2} s: {ratio:.1}x (goal {times}x)")
    });
    line(&what, ours, "libimaevm", theirs, Goal::None, &notes);
    Ok(())
}

/// The time of an rpmsign with file signing, on copies of the packages. It also signs the package, which
/// cannot be disabled, with a temporary key.
fn rpmsign(bench: &Bench, program: &Path, directory: &Path, key: &str) -> Result<f64> {
    let home = bench.directory.join("gnupg");
    make_once(&home, |home| {
        fs::set_permissions(home, Permissions::from_mode(0o700))?;
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.args(["--quick-generate-key", "bench", "ed25519", "sign", "never"]);
        timed(gpg.env("GNUPGHOME", home)).context("gpg (Debian: gnupg)")?;
        // after the directory is renamed, this agent would no longer be found
        timed(Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]))?;
        Ok(())
    })?;
    let copies = bench.directory.join("packages-copies");
    repeated(|| {
        if copies.exists() {
            fs::remove_dir_all(&copies)?;
        }
        fs::create_dir(&copies)?;
        let mut rpmsign = Command::new(program);
        rpmsign.args(["--define", "_gpg_name bench", "--signfiles", "--fskpath", key, "--addsign"]);
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let copy = copies.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            rpmsign.arg(copy);
        }
        timed(rpmsign.env("GNUPGHOME", &home).stderr(Stdio::null()))
    })
}

/// The time of rpmsign 4.18, built with file signing, for one package with 2,003 files on two cores of
/// another machine, and how many times faster than rpmsign imactl should be.
fn goal(algorithm: &str) -> Option<(f64, f64)> {
    match algorithm {
        "rsa-2048" => Some((2.74, 6.0)),
        "p-256" => Some((1.63, 10.0)),
        _ => None,
    }
}

/// Writes the file digests of all packages in the format of `sha256sum`; returns their number.
fn write_digests(directory: &Path, list: &Path) -> Result<usize> {
    let packages = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut rpm = Command::new("rpm");
    rpm.args(["-qp", "--nosignature", "--queryformat", "[%{FILEDIGESTS}  %{FILENAMES}\n]"]);
    rpm.args(packages.collect::<Result<Vec<PathBuf>>>()?);
    let output = rpm.output().context("rpm (Debian: rpm)")?;
    ensure!(output.status.success(), "rpm: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    // directories have no digest
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    fs::write(list, lines.join("\n") + "\n")?;
    Ok(lines.len())
}

/// Builds a package below a directory.
fn build(directory: &Path, files: u32) -> Result<PathBuf> {
    let spec = directory.join("sample.spec");
    fs::write(&spec, SPEC)?;
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--define", &format!("sample_files {files}")]);
    rpmbuild.arg("--define").arg(format!("_topdir {}", directory.display()));
    rpmbuild.args(["--define", "__os_install_post %{nil}"]).arg(&spec);
    timed(&mut rpmbuild).context("rpmbuild (Debian: rpm)")?;
    Ok(directory.join("RPMS/noarch/sample-1-1.noarch.rpm"))
}
