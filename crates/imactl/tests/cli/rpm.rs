//! Signed packages, as rpm reads them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use std::time::Duration;

use crate::support::*;

/// Files of many kinds, and further ones from `%{extra}`.
const SPEC: &str = r#"
Name: sample
Version: 1
Release: 1
Summary: Files of many kinds
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
Files of many kinds.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc %{buildroot}/var/log %{buildroot}/usr/share/sample
cd %{buildroot}/usr/bin
printf '#!/bin/sh\necho program\n' > program
printf '#!/bin/sh\necho capable\n' > capable
chmod 755 program capable
ln program hard-link
ln program another-hard-link
ln -s program symbolic-link
echo configured > %{buildroot}/etc/sample.conf
echo log > %{buildroot}/var/log/sample.log
cd %{buildroot}/usr/share/sample
: > empty
head -c 300000 /dev/zero > zeros
touch "$(printf 'a%.0s' $(seq 200))" 'with space' "$(printf 'gr\303\274n')"
for number in $(seq %{extra}); do echo $number > file-$number; done
%files
%attr(755,root,root) /usr/bin/program
%attr(755,root,root) /usr/bin/hard-link
%attr(755,root,root) /usr/bin/another-hard-link
/usr/bin/symbolic-link
%caps(cap_net_raw+p) /usr/bin/capable
%config(noreplace) /etc/sample.conf
%ghost /var/log/sample.log
/usr/share/sample
"#;

/// Builds the sample package; `None` without rpmbuild.
fn build(directory: &Path, defines: &[&str]) -> Option<PathBuf> {
    let mut rpmbuild = tool("rpmbuild")?;
    let top = tempfile::tempdir_in(directory).unwrap().keep();
    let spec = top.join("sample.spec");
    fs::write(&spec, SPEC).unwrap();
    rpmbuild.arg("-bb").arg("--define").arg(format!("_topdir {}", top.display()));
    for define in ["__os_install_post %{nil}", "extra 5"].iter().chain(defines) {
        rpmbuild.args(["--define", define]);
    }
    finish(rpmbuild.arg(&spec)).exits(0);
    Some(top.join("RPMS/noarch/sample-1-1.noarch.rpm"))
}

/// The output of rpm's query of a package.
fn query(package: &Path, format: &str) -> String {
    let mut rpm = tool("rpm").unwrap();
    finish(rpm.args(["-qp", "--nosignature", "--queryformat", format]).arg(package)).exits(0).stdout
}

/// The verdict of rpmkeys on a package's digests and OpenPGP signatures.
fn check(package: &Path, database: &Path) -> String {
    let mut rpmkeys = tool("rpmkeys").unwrap();
    rpmkeys.args(["-Kv", "--dbpath"]).arg(database).arg(package);
    let run = finish(&mut rpmkeys);
    format!("{:?}\n{}{}", run.code, run.stdout, run.stderr)
}

/// Checks with rpm and imactl that every file of a package is signed.
#[track_caller]
fn assert_signed(package: &Path, keys: &Path) {
    let format = "%{FILESIGNATURES:arraysize} %{FILENAMES:arraysize}\n";
    let counts = query(package, format);
    let (signatures, files) = counts.trim().split_once(' ').unwrap();
    assert_eq!(signatures, files);
    // a file has a signature if and only if it has a digest
    let rows = query(package, "[%{FILEDIGESTS}:%{FILESIGNATURES}\n]");
    for row in rows.lines() {
        let (digest, signature) = row.split_once(':').unwrap();
        assert_eq!(digest.is_empty(), signature.is_empty(), "{row}");
        assert!(signature.is_empty() || signature.starts_with("0302"), "{row}");
    }
    run(args!["verify", "--payload", "--keys", keys, package]).exits(0);
}

#[test]
fn packages_of_every_compressor_are_signed_and_brought_back() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let database = directory.path().join("database");
    for payload in ["w9.gzdio", "w9.bzdio", "w6.xzdio", "w6.lzdio", "w3.zstdio", "w.ufdio"] {
        let payload = format!("_binary_payload {payload}");
        let Some(package) = build(directory.path(), &[&payload]) else { return };
        let original = fs::read(&package).unwrap();
        let checked = check(&package, &database);
        run(args!["verify", "--keys", keys, package]).exits(1);

        run(args!["sign", "--keys", keys, package]).exits(0);
        assert_signed(&package, &keys);
        assert_eq!(check(&package, &database), checked, "{payload}");
        let signed = fs::read(&package).unwrap();

        // signing again replaces signatures; with the same key nothing changes
        let again = run(args!["sign", "--json", "--keys", keys, package]).exits(0).json();
        assert_eq!(again[0]["result"], "unchanged");
        assert_eq!(fs::read(&package).unwrap(), signed);
        run(args!["clear", package]).exits(0);
        assert!(fs::read(&package).unwrap() == original, "{payload}");
    }
}

#[test]
fn another_key_replaces_the_signatures() {
    let directory = directory();
    let Some(package) = build(directory.path(), &[]) else { return };
    let original = fs::read(&package).unwrap();
    for algorithm in ["rsa-2048", "p-384", "rsa-4096"] {
        let keys = store(directory.path(), algorithm);
        run(args!["sign", "--changed", "--keys", keys, package]).exits(0);
        assert_signed(&package, &keys);
        let again = run(args!["sign", "--changed", "--json", "--keys", keys, package]).exits(0);
        assert_eq!(again.json()[0]["result"], "unchanged");
    }
    run(args!["clear", package]).exits(0);
    assert!(fs::read(&package).unwrap() == original);
}

#[test]
fn openpgp_signatures_stay_valid() {
    let directory = directory();
    let Some(package) = build(directory.path(), &[]) else { return };
    let (Some(mut gpg), Some(mut rpmsign)) = (tool("gpg"), tool("rpmsign")) else { return };
    // a short path, because gpg-agent's socket is in it
    let home = tempfile::tempdir().unwrap();
    let database = directory.path().join("database");
    let name = "Sample Signer <sample@example.org>";
    gpg.env("GNUPGHOME", home.path()).args(["--batch", "--passphrase", "", "--quick-generate-key"]);
    finish(gpg.args([name, "rsa2048", "sign"])).exits(0);
    let mut gpg = tool("gpg").unwrap();
    let public = directory.path().join("public.asc");
    gpg.env("GNUPGHOME", home.path()).args(["--armor", "--export", "--output"]).arg(&public);
    finish(&mut gpg).exits(0);
    let mut rpmkeys = tool("rpmkeys").unwrap();
    finish(rpmkeys.arg("--dbpath").arg(&database).arg("--import").arg(&public)).exits(0);
    rpmsign.env("GNUPGHOME", home.path()).args(["--addsign", "--define"]);
    rpmsign.arg(format!("_gpg_name {name}")).args(["--define", "__gpg /usr/bin/gpg"]);
    finish(rpmsign.arg(&package)).exits(0);

    let original = fs::read(&package).unwrap();
    let before = check(&package, &database);
    assert!(before.starts_with("Some(0)") && before.contains("Signature, key ID"), "{before}");
    for reserved in [&[][..], &["--reserved-space"]] {
        let keys = store_once(directory.path(), "p-256");
        let args = args!["sign", "--keys", keys, package].to_vec();
        run(args.into_iter().chain(reserved.iter().map(OsString::from))).exits(0);
        assert_signed(&package, &keys);
        assert_eq!(check(&package, &database), before);
        run(args!["clear", package]).exits(0);
        assert!(fs::read(&package).unwrap() == original, "{reserved:?}");
    }
    let mut gpgconf = Command::new("gpgconf");
    gpgconf.env("GNUPGHOME", home.path()).args(["--kill", "all"]);
    finish(&mut gpgconf);
}

fn store_once(directory: &Path, algorithm: &str) -> PathBuf {
    let path = directory.join(format!("keys-{algorithm}"));
    if path.exists() {
        return path;
    }
    store(directory, algorithm)
}

#[test]
fn the_reserved_space_keeps_the_size_where_it_suffices() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for (files, fits) in [("1", true), ("100", false)] {
        let extra = format!("extra {files}");
        let defines = ["__gpg_reserved_space 4096", extra.as_str()];
        let Some(package) = build(directory.path(), &defines) else { return };
        let original = fs::read(&package).unwrap();
        run(args!["sign", "--reserved-space", "--keys", keys, package]).exits(0);
        assert_signed(&package, &keys);
        let signed = fs::metadata(&package).unwrap().len();
        assert_eq!(signed == original.len() as u64, fits, "{signed}");
        if fits {
            run(args!["clear", package]).exits(0);
            assert!(fs::read(&package).unwrap() == original);
        }
    }
}

#[test]
fn rpm_writes_these_signatures_into_the_files() {
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let plugins = Path::new("/usr/lib/x86_64-linux-gnu/rpm-plugins");
    if !plugins.join("ima.so").is_file() {
        return missing("rpm's plugin ima.so is not there");
    }
    let keys = store(directory.path(), "rsa-2048");
    let Some(package) = build(directory.path(), &[]) else { return };
    run(args!["sign", "--keys", keys, package]).exits(0);
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut rpm = tool("rpm").unwrap();
    rpm.args(["-Uvh", "--nodeps", "--noscripts", "--define"]);
    rpm.arg(format!("__plugindir {}", plugins.display()));
    rpm.args(["--define", "__transaction_ima %{__plugindir}/ima.so"]);
    rpm.args(["--define", "_ima_sign_config_files 1", "--root"]).arg(&root).arg(&package);
    finish(&mut rpm).exits(0);
    let inspected = run(args!["inspect", "--raw", "--json", package]).exits(0);
    let mut compared = 0;
    for line in inspected.json().iter().filter(|line| line["type"] == "file") {
        let path = root.join(line["path"].as_str().unwrap().trim_start_matches('/'));
        if !path.is_file() || path.is_symlink() {
            continue;
        }
        let value = security_ima(&path).unwrap_or_default();
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(value, line["raw"].as_str().unwrap_or_default(), "{line}");
        compared += 1;
    }
    // all except directories, the link and the ghost
    assert_eq!(compared, 15);
    let share = root.join("usr");
    run(args!["verify", "--keys", keys, share]).exits(0);
    run(args!["verify", "--keys", keys, root.join("etc/sample.conf")]).exits(0);
}

#[test]
fn file_digests_of_each_algorithm_are_signed_and_weak_ones_only_if_told() {
    let directory = directory();
    // no kernel verifies ECDSA with MD5
    let keys = store(directory.path(), "rsa-2048");
    for (id, name, weak) in [
        (1, "md5", true),
        (2, "sha1", true),
        (8, "sha256", false),
        (9, "sha384", false),
        (10, "sha512", false),
        (11, "sha224", false),
    ] {
        let algorithm = format!("_binary_filedigest_algorithm {id}");
        let Some(package) = build(directory.path(), &[&algorithm]) else { return };
        if weak {
            let refused = run(args!["sign", "--keys", keys, package]).exits(2);
            let expected = format!("its file digests are {name}");
            assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
            run(args!["sign", "--allow-weak-digests", "--keys", keys, package]).exits(0);
        } else {
            run(args!["sign", "--keys", keys, package]).exits(0);
        }
        let inspected = run(args!["inspect", "--json", package]).exits(0).json();
        assert_eq!(inspected[0]["hash"], name);
        assert_signed(&package, &keys);
    }
}

#[test]
fn source_packages_are_signed_only_by_force() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(mut rpmbuild) = tool("rpmbuild") else { return };
    let spec = directory.path().join("sample.spec");
    fs::write(&spec, SPEC).unwrap();
    rpmbuild.arg("-bs").args(["--define", "extra 1", "--define"]);
    finish(rpmbuild.arg(format!("_topdir {}", directory.path().display())).arg(&spec)).exits(0);
    let package = directory.path().join("SRPMS/sample-1-1.src.rpm");
    let refused = run(args!["sign", "--keys", keys, package]).exits(2);
    assert!(refused.stderr.contains("a source package"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    run(args!["sign", "--force", "--keys", keys, package]).exits(0);
    run(args!["verify", "--payload", "--keys", keys, package]).exits(0);
}

#[test]
fn thousands_of_files_are_signed_in_one_package() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(package) = build(directory.path(), &["extra 3000"]) else { return };
    let signed = run(args!["sign", "--json", "--jobs", "3", "--keys", keys, package]).exits(0);
    assert_eq!(signed.json()[0]["files"], 3_010);
    assert_signed(&package, &keys);
}

#[test]
fn a_directory_of_packages_is_signed_at_a_time() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(package) = build(directory.path(), &[]) else { return };
    let repository = directory.path().join("repository");
    write_tree(&repository, &[("repodata/repomd.xml", b"<repomd/>"), ("deep/readme", b"")]);
    for number in 0..20 {
        fs::copy(&package, repository.join(format!("deep/{number}.rpm"))).unwrap();
    }
    // detected from content, not from the name
    fs::copy(&package, repository.join("package")).unwrap();
    let refused = run(args!["sign", "--kind", "rpm", "--keys", keys, repository]).exits(2);
    assert!(refused.stderr.contains("-r processes the packages in it"), "{}", refused.stderr);
    let signed = run(args!["sign", "-r", "--json", "--keys", keys, repository]).exits(0).json();
    let summary = signed.last().unwrap();
    assert_eq!((&summary["signed"], &summary["skipped"]), (&21.into(), &2.into()));
    run(args!["verify", "-r", "--payload", "--keys", keys, repository]).exits(0);

    fs::write(repository.join("broken.rpm"), b"\xed\xab\xee\xdb\x03").unwrap();
    fs::write(repository.join("empty.rpm"), b"").unwrap();
    let verified = run(args!["verify", "-r", "--json", "--keys", keys, repository]).exits(2);
    let summary = verified.json().pop().unwrap();
    assert_eq!((&summary["valid"], &summary["failed"]), (&21.into(), &2.into()));
}

#[test]
fn into_another_directory_the_originals_stay() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(package) = build(directory.path(), &[]) else { return };
    let original = fs::read(&package).unwrap();
    let out = directory.path().join("out");
    run(args!["sign", "--dry-run", "--output-dir", out, "--keys", keys, package]).exits(0);
    assert!(!out.exists());
    run(args!["sign", "--output-dir", out, "--keys", keys, package]).exits(0);
    assert!(fs::read(&package).unwrap() == original);
    let signed = out.join(package.file_name().unwrap());
    assert_signed(&signed, &keys);
    // two with the same name would overwrite each other
    let namesake = directory.path().join("elsewhere").join(package.file_name().unwrap());
    fs::create_dir(namesake.parent().unwrap()).unwrap();
    fs::copy(&package, &namesake).unwrap();
    let clash = run(args!["sign", "--output-dir", out, "--keys", keys, package, namesake]).exits(2);
    assert!(clash.stderr.contains("another package of this run"), "{}", clash.stderr);
}

#[test]
fn what_was_changed_is_found() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    // not compressed, so that a byte of a file can be located
    let Some(package) = build(directory.path(), &["_binary_payload w.ufdio"]) else { return };
    run(args!["sign", "--keys", keys, package]).exits(0);
    let signed = fs::read(&package).unwrap();
    let change = |from: &[u8], to: &[u8]| {
        let mut bytes = signed.clone();
        let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        fs::write(&package, bytes).unwrap();
    };
    // the content of a file changed: its signature is valid for the original content
    change(b"echo program", b"echo Program");
    run(args!["verify", "--keys", keys, package]).exits(0);
    let found = run(args!["verify", "--payload", "--json", "--keys", keys, package]).exits(1);
    let differs = |line: &&serde_json::Value| line["content"] == "differs";
    assert_eq!(found.json().iter().filter(differs).count(), 3, "three names of one file");
    assert!(found.stdout.contains(r#""part":"payload","hash":"sha256","matches":false"#));

    // a digest in the main header
    let digests = query(&package, "[%{FILEDIGESTS}\n]");
    let digest = digests.lines().find(|digest| !digest.is_empty()).unwrap();
    change(digest.as_bytes(), b"00");
    let refused = run(args!["sign", "--keys", keys, package]).exits(2);
    assert!(refused.stderr.contains("does not match its sha1 digest"), "{}", refused.stderr);
    let found = run(args!["verify", "--keys", keys, package]).exits(1);
    assert!(found.stdout.contains("digest-mismatch"), "{}", found.stdout);
    assert!(found.stdout.contains("invalid-signature"), "{}", found.stdout);

    // a truncated file
    fs::write(&package, &signed[..signed.len() - 5_000]).unwrap();
    let found = run(args!["verify", "--payload", "--keys", keys, package]).exits(1);
    assert!(found.stdout.contains("payload-malformed"), "{}", found.stdout);
}

#[test]
fn a_package_is_whole_whenever_the_run_is_killed() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    let Some(package) = build(directory.path(), &["extra 1000"]) else { return };
    let original = fs::read(&package).unwrap();
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let target = work.join("sample.rpm");
    fs::copy(&package, &target).unwrap();
    run(args!["sign", "--keys", keys, target]).exits(0);
    let signed = fs::read(&target).unwrap();
    for round in 0..15 {
        fs::copy(&package, &target).unwrap();
        let mut sign = imactl();
        sign.args(args!["sign", "--keys", keys, target]);
        killed(&mut sign, Signal::KILL, Duration::from_millis(40 * round));
        let now = fs::read(&target).unwrap();
        assert!(now == original || now == signed, "round {round}");
        // a temporary file does not have the package's name
        for name in names(&work) {
            assert!(name == "sample.rpm" || name.starts_with(".imactl-"), "{name}");
        }
    }
}

#[test]
fn options_that_mean_nothing_for_packages_are_refused() {
    let directory = directory();
    let package = directory.path().join("package");
    fs::write(&package, b"\xed\xab\xee\xdb").unwrap();
    for options in [
        &["sign", "--hash", "sha512"][..],
        &["sign", "--hash-only"],
        &["sign", "--detached"],
        &["verify", "--require", "digest"],
        &["inspect", "--xattr-namespace", "user"],
        &["clear", "--only", "executable"],
    ] {
        let args = options.iter().map(OsString::from).chain([package.clone().into()]);
        let refused = run(args).exits(2);
        let expected = format!("{} applies only to", options[1]);
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
        assert!(refused.stderr.contains("not to an RPM package"), "{}", refused.stderr);
    }
    let plain = directory.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let refused = run(args!["sign", "--output-dir", directory.path(), plain]).exits(2);
    assert!(refused.stderr.contains("--output-dir applies only to packages"), "{}", refused.stderr);
}

/// A manifest has the digests that rpm prints, and the packages.
#[test]
fn a_manifest_has_the_digests_of_the_header() {
    let directory = directory();
    let Some(package) = build(directory.path(), &[]) else { return };
    let digests = query(&package, "[%{FILENAMES} %{FILEDIGESTS}\n]");
    let mut expected: Vec<_> = digests
        .lines()
        .filter_map(|line| line.rsplit_once(' ').filter(|(_, digest)| !digest.is_empty()))
        .filter(|(path, _)| !path.starts_with("/var/log"))
        .map(|(path, digest)| (path.to_owned(), format!("sha256:{digest}")))
        .collect();
    expected.sort();
    let manifest = run(args!["manifest", "create", package]).exits(0).stdout;
    let lines = manifest.lines().skip(1).map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["packages"], serde_json::json!(["sample-1-1.noarch"]));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&line["path"]), text(&line["digests"][0]))
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    let folder = run(args!["manifest", "create", "-r", package.parent().unwrap()]).exits(0).stdout;
    assert_eq!(folder, manifest);
}
