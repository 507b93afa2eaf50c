//! Random packages: rpm and its plugin install those that imactl signs, with these signatures, each on the
//! content that it covers; both list the same files; and clear restores the original bytes. imactl must refuse
//! all others. The settings are those of [`seeded`](crate::support::seeded); `IMACTL_DIFF_RPM` names another
//! rpm, without the plugin, and attributes are then not compared.

mod generate;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::seeded::{seeds, Random};
use crate::support::*;

/// The default number of packages per run: encoded byte by byte, and built by rpmbuild, which is slower.
const CASES: u64 = 60;
const BUILT_CASES: u64 = 3;

const PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/rpm-plugins";

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
}

/// A file in a package's list: size, digest, whether it is a ghost, its file signature.
type Row = (String, u64, String, bool, String);

/// Whether the tools and attributes are available.
fn possible(directory: &Path) -> bool {
    if tool("rpm").is_none() || tool("sha256sum").is_none() || !security_attributes(directory) {
        return false;
    }
    if other_rpm().is_some() {
        return true;
    }
    let found = Path::new(PLUGINS).join("ima.so").is_file();
    if !found {
        missing("rpm's plugin ima.so is not there");
    }
    found
}

fn other_rpm() -> Option<OsString> {
    std::env::var_os("IMACTL_DIFF_RPM")
}

fn rpm(args: &[&str], package: &Path) -> Result<String, String> {
    // rpm 4.18 opens FIFOs, and would wait for a writer
    let mut rpm = Command::new("timeout");
    rpm.arg("60").arg(other_rpm().unwrap_or("rpm".into()));
    let run = finish(rpm.args(args).arg("--nosignature").arg(package));
    match run.code {
        Some(0) => Ok(run.stdout),
        _ => Err(format!("rpm {}: {}", args[0], run.stderr)),
    }
}

/// The files as rpm lists them.
fn listed_by_rpm(package: &Path) -> Result<Vec<Row>, String> {
    let format =
        "[%{FILENAMES}\t%{LONGFILESIZES}\t%{FILEDIGESTS}\t%{FILEFLAGS}\t%{FILESIGNATURES}\n]";
    let row = |line: &str| -> Option<Row> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (path, size, digest) = (next()?.to_owned(), next()?.parse().ok()?, next()?.to_owned());
        let flags: u32 = next()?.parse().ok()?;
        let signature = next()?.replace("(none)", "");
        Some((path, size, digest, flags & 64 != 0, signature))
    };
    let rows = rpm(&["-qp", "--queryformat", format], package)?;
    rows.lines().map(|line| row(line).ok_or(format!("rpm lists {line}"))).collect()
}

/// The files as imactl lists them.
fn listed_by_imactl(package: &Path) -> Vec<Row> {
    let lines = run(args!["inspect", "--json", "--raw", package]).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let files = lines.iter().filter(|line| line["type"] == "file");
    files
        .map(|line| {
            let (path, digest) = (text(&line["path"]), text(&line["file_digest"]));
            let ghost = line["ghost"] == true;
            (path, line["size"].as_u64().unwrap(), digest, ghost, text(&line["raw"]))
        })
        .collect()
}

/// Everything below a directory except directories.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => directories.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// Installs a package with its file signatures.
fn install(package: &Path, root: &Path) -> Result<(), String> {
    let root_option = format!("--root={}", root.display());
    let plugins = format!("__plugindir {PLUGINS}");
    let options = ["-U", "--nodeps", "--noscripts", "--dbpath", "/database"];
    let options = [&options[..], &["--define", plugins.as_str()]].concat();
    let plugin = ["--define", "__transaction_ima %{__plugindir}/ima.so"];
    let config = ["--define", "_ima_sign_config_files 1", root_option.as_str()];
    let plugin = if other_rpm().is_some() { &[][..] } else { &plugin };
    rpm(&[&options, plugin, &config].concat(), package).map(drop)
}

/// Compares the signed files with the installed ones.
fn compare(package: &Path, root: &Path, keys: &Path) -> Result<(), String> {
    let rows = listed_by_rpm(package)?;
    let ours = listed_by_imactl(package);
    for (rpm, imactl) in rows.iter().zip(&ours) {
        let same_digest = imactl.2.is_empty() || rpm.2 == imactl.2;
        let same = (&rpm.0, rpm.1, rpm.3, &rpm.4) == (&imactl.0, imactl.1, imactl.3, &imactl.4);
        if !same || !same_digest {
            return Err(format!("rpm lists {rpm:?}, imactl {imactl:?}"));
        }
    }
    if rows.len() != ours.len() {
        return Err(format!("rpm lists {} files, imactl {}", rows.len(), ours.len()));
    }
    install(package, root)?;
    let mut installed: BTreeSet<PathBuf> = BTreeSet::new();
    for (path, _, digest, _, signature) in rows.iter().filter(|row| !row.4.is_empty()) {
        let path = root.join(path.trim_start_matches('/'));
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if !is_file {
            return Err(format!("{} is signed, and no file", path.display()));
        }
        let sum = format!("sha{}sum", 4 * digest.len());
        let sum = finish(Command::new(sum).arg(&path)).exits(0).stdout;
        let value = security_ima(&path).unwrap_or_default();
        let mut value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        if other_rpm().is_some() {
            value.clone_from(signature);
        }
        if !sum.trim_start_matches('\\').starts_with(digest) || value != *signature {
            return Err(format!("{}: {sum}, listed {digest}, has {value}", path.display()));
        }
        installed.insert(path);
    }
    let of_package = |path: &PathBuf| !path.starts_with(root.join("database"));
    for path in below(root).into_iter().filter(of_package) {
        let is_file = fs::symlink_metadata(&path).unwrap().is_file();
        if is_file != installed.contains(&path) {
            return Err(format!("{}: installed, not signed", path.display()));
        }
        if is_file && other_rpm().is_none() {
            let found = run(args!["verify", "--keys", keys, path]);
            if found.code != Some(0) {
                return Err(found.stdout);
            }
        }
    }
    Ok(())
}

fn judge(original: &[u8], directory: &Path, keys: &Path) -> Result<Verdict, String> {
    let package = directory.join("package.rpm");
    fs::write(&package, original).unwrap();
    let signed = run(args!["sign", "--quiet", "--keys", keys, package]);
    match signed.code {
        Some(0) => {}
        Some(2) if fs::read(&package).unwrap() == original => return Ok(Verdict::Refused),
        _ => return Err(format!("{signed:?}")),
    }
    let root = directory.join("root");
    fs::create_dir(&root).unwrap();
    let compared = compare(&package, &root, keys);
    fs::remove_dir_all(&root).unwrap();
    compared?;
    let verified = run(args!["verify", "--payload", "--allow-empty", "--keys", keys, package]);
    if verified.code != Some(0) {
        return Err(verified.stdout + &verified.stderr);
    }
    run(args!["clear", package]).exits(0);
    Ok(Verdict::Accepted)
}

#[test]
fn what_is_signed_is_installed_so() {
    let directory = directory();
    if !possible(directory.path()) {
        return;
    }
    let keys = store(directory.path(), "rsa-2048");
    let (mut accepted, mut tried, mut failures) = (0, 0, Vec::new());
    for seed in seeds(CASES) {
        let case = generate::package(seed);
        let odd = &case.odd;
        match judge(&case.bytes, directory.path(), &keys) {
            Ok(Verdict::Accepted) => {
                accepted += 1;
                let cleared = fs::read(directory.path().join("package.rpm")).unwrap();
                if cleared != case.bytes && !odd.contains("file signatures before") {
                    failures.push(format!("seed {seed}, {odd:?}: clear gives other bytes"));
                }
            }
            Ok(Verdict::Refused) if !odd.is_empty() => {}
            Ok(Verdict::Refused) => failures.push(format!("seed {seed}: refused a plain package")),
            Err(error) => failures.push(format!("seed {seed}, {odd:?}: {error}")),
        }
        tried += 1;
        if failures.len() >= 20 {
            break;
        }
    }
    println!("{tried} packages, {accepted} of them accepted");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // with too many anomalies nothing would be compared
    assert!(accepted * 4 > tried, "{accepted} of {tried} accepted");
}

/// A spec file with random files.
fn spec(random: &mut Random, files: &Path) -> String {
    fs::create_dir(files).unwrap();
    let mut list = Vec::new();
    for number in 0..1 + random.below(12) {
        let directory = files.join(random.pick(&["usr/bin", "etc", "usr/share/doc/random"]));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{}{number}", random.pick(&["a", "b\u{fc}", "z"])));
        let content = vec![b'a' + number as u8; random.pick(&[0, 1, 50, 100_000])];
        let attribute =
            random.pick(&["", "", "%config ", "%ghost ", "%doc ", "%attr(4711,root,root) "]);
        match random.below(8) {
            0 => std::os::unix::fs::symlink("target", &path).unwrap(),
            1 => fs::create_dir(&path).unwrap(),
            _ => {
                fs::write(&path, content).unwrap();
                let mode = fs::Permissions::from_mode(random.pick(&[0o644, 0o755]));
                fs::set_permissions(&path, mode).unwrap();
                for link in 0..random.pick(&[0, 0, 1, 2]) {
                    let link = files
                        .join(format!("usr/bin/{}link{number}-{link}", random.pick(&["a", "z"])));
                    fs::create_dir_all(link.parent().unwrap()).unwrap();
                    fs::hard_link(&path, &link).unwrap();
                    list.push(format!("/{}", link.strip_prefix(files).unwrap().display()));
                }
            }
        }
        let is_directory = path.is_dir() && !path.is_symlink();
        let attribute = if is_directory { "%dir " } else { attribute };
        list.push(format!("{attribute}/{}", path.strip_prefix(files).unwrap().display()));
    }
    format!(
        "Name: random\nVersion: 1\nRelease: 1\nSummary: Random\nLicense: MIT\nBuildArch: noarch\n\
         AutoReqProv: no\n%description\nRandom.\n%install\nmkdir -p %{{buildroot}}\n\
         cp -a {}/. %{{buildroot}}\n%files\n{}\n",
        files.display(),
        list.join("\n"),
    )
}

#[test]
fn what_rpmbuild_makes_is_signed_and_installed_so() {
    let directory = directory();
    if !possible(directory.path()) || tool("rpmbuild").is_none() {
        return;
    }
    let keys = store(directory.path(), "p-256");
    for seed in seeds(BUILT_CASES) {
        let mut random = Random(seed);
        let top = tempfile::tempdir_in(directory.path()).unwrap();
        let path = top.path().join("random.spec");
        fs::write(&path, spec(&mut random, &top.path().join("files"))).unwrap();
        let mut rpmbuild = Command::new("rpmbuild");
        rpmbuild.arg("-bb").arg("--define").arg(format!("_topdir {}", top.path().display()));
        let payload = random.pick(&["w9.gzdio", "w9.bzdio", "w6.xzdio", "w3.zstdio", "w.ufdio"]);
        let algorithm = random.pick(&[8, 8, 10]);
        for define in [
            "__os_install_post %{nil}".to_owned(),
            format!("_binary_payload {payload}"),
            format!("_binary_filedigest_algorithm {algorithm}"),
        ] {
            rpmbuild.args(["--define", &define]);
        }
        finish(rpmbuild.arg(&path)).exits(0);
        let original = fs::read(top.path().join("RPMS/noarch/random-1-1.noarch.rpm")).unwrap();
        let verdict = judge(&original, directory.path(), &keys);
        assert_eq!(verdict, Ok(Verdict::Accepted), "seed {seed}");
        let cleared = fs::read(directory.path().join("package.rpm")).unwrap();
        assert!(cleared == original, "seed {seed}");
    }
}
