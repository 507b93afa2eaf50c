//! Tar archives: tar and bsdtar unpack imactl's output; imactl verifies their archives.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

/// A tree with files that are difficult to archive.
fn root(directory: &Path, longest: usize) -> PathBuf {
    let root = directory.join("root");
    let long = format!("{}/{}", "d".repeat(longest), "f".repeat(longest));
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    write_tree(
        &root,
        &[
            ("bin/program", b"\x7fELF and so on"),
            ("bin/script", b"#!/bin/sh\n"),
            ("empty", b""),
            ("etc/hosts", b"127.0.0.1 localhost\n"),
            ("large", &large),
            ("block", &[7; 512]),
            (&long, b"long"),
        ],
    );
    fs::set_permissions(root.join("bin/program"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("bin/program"), root.join("bin/zz-link")).unwrap();
    symlink("../bin/program", root.join("etc/link")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for offset in [0, 1 << 20, 2 << 20] {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(b"data in a hole", offset).unwrap();
    }
    root
}

/// The number of files in [`root`], without links.
const FILES: u64 = 8;

/// Packs a tree with GNU tar.
pub(crate) fn pack(root: &Path, archive: &Path, options: &[&str]) -> Option<()> {
    let mut tar = tool("tar")?;
    tar.args(["--sort=name", "-C"]).arg(root).args(options).arg("-cf").arg(archive).arg(".");
    finish(&mut tar).exits(0);
    Some(())
}

/// Unpacks an archive with attributes into a new directory, with GNU tar or bsdtar.
fn unpack(program: &str, archive: &Path, into: &Path) -> Option<()> {
    fs::create_dir(into).unwrap();
    let mut tar = tool(program)?;
    match program {
        "tar" => tar.args(["--xattrs", "--xattrs-include=security\\.*", "-xpf"]),
        _ => tar.args(["--xattrs", "-xpf"]),
    };
    finish(tar.arg(archive).arg("-C").arg(into)).exits(0);
    Some(())
}

/// Whether two trees have the same files.
fn same_trees(one: &Path, other: &Path) -> bool {
    finish(Command::new("diff").arg("-r").arg("--no-dereference").args([one, other])).code
        == Some(0)
}

pub(crate) fn sign(keys: &Path, archive: &Path, result: &Path, options: &[&str]) -> Run {
    let args = args!["sign", "--json", "--keys", keys, archive, "-o", result].to_vec();
    run(args.into_iter().chain(options.iter().map(OsString::from)))
}

#[test]
fn tar_and_bsdtar_restore_what_is_signed() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    if !security_attributes(directory.path()) {
        return;
    }
    for (format, longest, options) in [
        ("v7", 40, &[][..]),
        ("ustar", 80, &[]),
        ("oldgnu", 150, &[]),
        ("oldgnu", 150, &["-S"]),
        ("gnu", 150, &[]),
        ("gnu", 150, &["-S"]),
        ("pax", 150, &[]),
        ("pax", 150, &["-S", "--sparse-version=0.0"]),
        ("pax", 150, &["-S", "--sparse-version=0.1"]),
        ("pax", 150, &["-S", "--sparse-version=1.0"]),
    ] {
        let case = format!("{format} {options:?}");
        let place = directory.path().join(case.replace([' ', '"', '[', ']', ','], "-"));
        fs::create_dir(&place).unwrap();
        let (root, archive) = (root(&place, longest), place.join("archive.tar"));
        let packed = [&["--format", format], options].concat();
        let Some(()) = pack(&root, &archive, &packed) else { return };
        let signed = place.join("signed.tar");
        let summary = sign(&keys, &archive, &signed, &[]).exits(0).json().pop().unwrap();
        assert_eq!(summary["signed"], FILES, "{case}");
        run(args!["verify", "--keys", keys, signed]).exits(0);
        for program in ["tar", "bsdtar"] {
            let unpacked = place.join(program);
            let Some(()) = unpack(program, &signed, &unpacked) else { continue };
            assert!(same_trees(&root, &unpacked), "{case} {program}");
            let verified = run(args!["verify", "--json", "--keys", keys, unpacked]).exits(0);
            assert_eq!(verified.json().pop().unwrap()["valid"], FILES, "{case} {program}");
            let inode = |name: &str| fs::metadata(unpacked.join(name)).unwrap().ino();
            assert_eq!(inode("bin/program"), inode("bin/zz-link"), "{case} {program}");
        }
        let cleared = place.join("cleared.tar");
        run(args!["clear", signed, "-o", cleared]).exits(0);
        assert!(fs::read(&cleared).unwrap() == fs::read(&archive).unwrap(), "{case}");
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn imactl_verifies_what_tar_and_bsdtar_pack() {
    let directory = directory();
    let (keys, other) = (store(directory.path(), "rsa-2048"), store(directory.path(), "p-256"));
    if !security_attributes(directory.path()) {
        return;
    }
    let root = root(directory.path(), 120);
    run(args!["sign", "--keys", keys, root]).exits(0);
    for (program, options) in [
        ("tar", &["--xattrs", "--xattrs-include=security\\.ima"][..]),
        ("tar", &["--xattrs", "--xattrs-include=security\\.ima", "-S"]),
        ("bsdtar", &["--format=pax", "--xattrs"]),
    ] {
        let archive = directory.path().join("archive");
        let Some(mut tar) = tool(program) else { continue };
        finish(tar.args(options).arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".")).exits(0);
        let verified = run(args!["verify", "--json", "--keys", keys, archive]).exits(0);
        assert_eq!(verified.json().pop().unwrap()["valid"], FILES, "{program} {options:?}");
        // after signing again, a hard link has no attribute that its file does not have
        run(args!["sign", "--keys", other, archive]).exits(0);
        run(args!["verify", "--keys", other, archive]).exits(0);
        let unpacked = directory.path().join("unpacked");
        let Some(()) = unpack("bsdtar", &archive, &unpacked) else { continue };
        run(args!["verify", "--keys", other, unpacked]).exits(0);
        fs::remove_dir_all(&unpacked).unwrap();
    }
}

/// Packs a tree in the forms of other programs.
const OTHER_TARS: &[(&str, &[&str])] = &[
    ("busybox", &["tar", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("python3", &["-c", PYTHON, "USTAR", "ROOT", "ARCHIVE"]),
    ("python3", &["-c", PYTHON, "GNU", "ROOT", "ARCHIVE"]),
    ("python3", &["-c", PYTHON, "PAX", "ROOT", "ARCHIVE"]),
    ("bsdtar", &["--format=ustar", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("bsdtar", &["--format=gnutar", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("bsdtar", &["--format=v7", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("bsdtar", &["--format=pax", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    // as BitBake and Buildroot do
    (
        "tar",
        &[
            "--numeric-owner",
            "--format=posix",
            "--sort=name",
            "--mtime=@0",
            "-C",
            "ROOT",
            "-cf",
            "ARCHIVE",
            ".",
        ],
    ),
    ("tar", &["--format=gnu", "--label=release", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("tar", &["--format=pax", "--label=release", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("tar", &["--format=gnu", "--incremental", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
    ("tar", &["--format=pax", "--pax-option=comment=release", "-C", "ROOT", "-cf", "ARCHIVE", "."]),
];

const PYTHON: &str = "import os, sys, tarfile
form = getattr(tarfile, sys.argv[1] + '_FORMAT')
with tarfile.open(sys.argv[3], 'w', format=form) as archive:
    archive.add(sys.argv[2], '.')";

#[test]
fn archives_of_other_programs_are_signed_and_restored() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    if !security_attributes(directory.path()) {
        return;
    }
    // names that version 7 supports
    let root = root(directory.path(), 40);
    for (index, (program, args)) in OTHER_TARS.iter().enumerate() {
        let case = format!("{program} {}", args.join(" "));
        let place = directory.path().join(index.to_string());
        fs::create_dir(&place).unwrap();
        let archive = place.join("archive.tar");
        let Some(mut packer) = tool(program) else { continue };
        finish(packer.args(args.iter().map(|arg| match *arg {
            "ROOT" => root.as_os_str(),
            "ARCHIVE" => archive.as_os_str(),
            arg => arg.as_ref(),
        })))
        .exits(0);
        let signed = place.join("signed.tar");
        let summary = sign(&keys, &archive, &signed, &[]).exits(0).json().pop().unwrap();
        assert_eq!(summary["signed"], FILES, "{case}");
        for unpacker in ["tar", "bsdtar"] {
            let unpacked = place.join(unpacker);
            let Some(()) = unpack(unpacker, &signed, &unpacked) else { continue };
            assert!(same_trees(&root, &unpacked), "{case}, {unpacker}");
            run(args!["verify", "--keys", keys, unpacked]).exits(0);
        }
        run(args!["clear", signed]).exits(0);
        assert!(fs::read(&signed).unwrap() == fs::read(&archive).unwrap(), "{case}");
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_hard_link_without_its_file_is_an_error() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path(), 10);
    let [archive, signed] = ["archive", "signed"].map(|name| directory.path().join(name));
    let Some(()) = pack(&root, &archive, &[]) else { return };
    sign(&keys, &archive, &signed, &[]).exits(0);
    let error = |run: Run, path: &str| {
        run.exits(2).json_for(Path::new(path))["error"].as_str().unwrap().to_owned()
    };
    // the link is selected, its file is not
    let only_link = ["--include", "zz-link"];
    let told = error(sign(&keys, &archive, &signed, &only_link), "./bin/zz-link");
    assert!(told.contains("hard link to ./bin/program, which is not selected"), "{told}");
    let args = args!["verify", "--json", "--keys", keys, signed, "--include", "zz-link"];
    assert!(error(run(args), "./bin/zz-link").contains("is not selected"));
    // GNU tar removes the file, and keeps the link
    let Some(mut tar) = tool("tar") else { return };
    finish(tar.arg("--delete").arg("-f").arg(&archive).arg("./bin/program")).exits(0);
    let expected = "hard link to ./bin/program, which the archive does not contain";
    let told = error(sign(&keys, &archive, &signed, &[]), "./bin/zz-link");
    assert!(told.contains(expected), "{told}");
    for verb in ["verify", "inspect"] {
        let mut args = args![verb, "--json", signed].to_vec();
        if verb == "verify" {
            args.extend(args!["--keys", keys]);
        }
        let told = error(run(args), "./bin/zz-link");
        assert!(told.contains(expected), "{verb}: {told}");
    }
    let options = ["--exclude", "zz-link"];
    sign(&keys, &archive, &signed, &options).exits(0);
}

#[test]
fn a_change_in_the_archive_is_seen() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path(), 10);
    let archive = directory.path().join("archive.tar");
    let Some(()) = pack(&root, &archive, &[]) else { return };
    run(args!["sign", "--keys", keys, archive]).exits(0);
    let mut bytes = fs::read(&archive).unwrap();
    let content = b"127.0.0.1";
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at] = b'2';
    fs::write(&archive, &bytes).unwrap();
    let verified = run(args!["verify", "--json", "--keys", keys, archive]).exits(1);
    let line = verified.json_for(Path::new("./etc/hosts"));
    assert_eq!((&line["verdict"], &line["valid"]), (&"invalid-signature".into(), &false.into()));
    assert_eq!(line["container"], archive.to_str().unwrap());
    assert_eq!(verified.json().pop().unwrap()["valid"], FILES - 1);
}

#[test]
fn other_attributes_stay() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    if !security_attributes(directory.path()) {
        return;
    }
    let root = root(directory.path(), 10);
    let program = root.join("bin/program");
    let set = |name: &str, value: &[u8]| set_attribute(&program, name, value);
    // cap_net_raw=p, in version 2
    let capability = [&[0, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
    set("security.capability", &capability);
    set("security.selinux", b"system_u:object_r:bin_t:s0\0");
    set("user.odd=name%", b"line\nend\0");
    let archive = directory.path().join("archive.tar");
    let options = ["--xattrs", "--xattrs-include=*", "--selinux"];
    let Some(()) = pack(&root, &archive, &options) else { return };
    let signed = directory.path().join("signed.tar");
    sign(&keys, &archive, &signed, &[]).exits(0);
    let unpacked = directory.path().join("unpacked");
    let Some(()) = unpack("tar", &signed, &unpacked) else { return };
    run(args!["verify", "--keys", keys, unpacked]).exits(0);
    let read = attribute(&unpacked.join("bin/program"), "security.capability");
    assert_eq!(read.unwrap(), capability);
    run(args!["clear", signed]).exits(0);
    assert!(fs::read(&signed).unwrap() == fs::read(&archive).unwrap());
}

#[test]
fn each_compression_is_kept_or_changed() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = directory.path().join("root");
    write_tree(&root, &[("bin/program", b"\x7fELF and so on"), ("empty", b"")]);
    let plain = directory.path().join("plain.tar");
    let Some(()) = pack(&root, &plain, &[]) else { return };
    let signed = directory.path().join("signed.tar");
    sign(&keys, &plain, &signed, &[]).exits(0);
    let expected = fs::read(&signed).unwrap();
    for (program, extension, word) in [
        ("gzip", "gz", "gzip"),
        ("bzip2", "bz2", "bzip2"),
        ("xz", "xz", "xz"),
        ("zstd", "zst", "zstd"),
    ] {
        let Some(mut packer) = tool(program) else { continue };
        let unpacked = |archive: &Path| {
            let mut command = tool(program).unwrap();
            command.args(["-dc"]).arg(archive).output().unwrap().stdout
        };
        let packed = PathBuf::from(format!("{}.{extension}", plain.display()));
        finish(packer.args(["-k", "-q"]).arg(&plain)).exits(0);
        // with the original compression, in place
        run(args!["sign", "--keys", keys, packed]).exits(0);
        assert!(unpacked(&packed) == expected, "{program}");
        run(args!["verify", "--keys", keys, packed]).exits(0);
        // from the name of the result
        let named = directory.path().join(format!("named.t.{extension}"));
        sign(&keys, &plain, &named, &[]).exits(0);
        assert!(unpacked(&named) == expected, "{program}");
        // as requested, and the same with any number of threads
        let result = |jobs: &str| {
            let other = directory.path().join(format!("asked-{jobs}"));
            sign(&keys, &packed, &other, &["--compress", word, "-j", jobs]).exits(0);
            fs::read(&other).unwrap()
        };
        assert!(result("1") == result("3"), "{program}");
        let other = directory.path().join("none");
        sign(&keys, &packed, &other, &["--compress", "none"]).exits(0);
        assert!(fs::read(&other).unwrap() == expected, "{program}");
    }
}

#[test]
fn a_stream_goes_through() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path(), 10);
    let plain = directory.path().join("plain.tar");
    let Some(()) = pack(&root, &plain, &[]) else { return };
    let through = |args: &[OsString]| {
        let mut command = imactl();
        command.args(args).stdin(File::open(&plain).unwrap());
        command.output().unwrap()
    };
    let signed = directory.path().join("signed.tar");
    sign(&keys, &plain, &signed, &[]).exits(0);
    let piped = through(&args!["sign", "--json", "--keys", keys, "-", "-o", "-"]);
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    assert!(piped.stdout == fs::read(&signed).unwrap());
    assert!(String::from_utf8(piped.stderr).unwrap().contains("\"summary\""));
    let verified = through(&args!["verify", "--keys", keys, "-"]);
    assert_eq!(verified.status.code(), Some(1), "the plain one");
    let piped = through(&args!["sign", "--keys", keys, "-"]);
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    assert!(piped.stdout == fs::read(&signed).unwrap());
}

#[test]
fn archives_that_follow_one_another_are_read_where_that_is_asked_for() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path(), 10);
    let [one, two, both, signed] =
        ["one", "two", "both", "signed"].map(|name| directory.path().join(name));
    let Some(()) = pack(&root, &one, &["--format=gnu"]) else { return };
    let Some(()) = pack(&root, &two, &["--format=pax"]) else { return };
    let read = |path: &Path| fs::read(path).unwrap();
    let foreign = [b'?'; 700];
    fs::write(&both, [read(&one), read(&two), foreign.to_vec()].concat()).unwrap();
    for args in [
        args!["sign", "--keys", keys, both, "-o", signed].to_vec(),
        args!["verify", "--keys", keys, both].to_vec(),
    ] {
        let refused = run(args).exits(2);
        let offset = format!("data after the end of the archive at offset {}", read(&one).len());
        assert!(refused.stderr.contains(&offset), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: tar and bsdtar stop"), "{}", refused.stderr);
    }
    assert!(!signed.exists());
    let told = sign(&keys, &both, &signed, &["--ignore-zeros"]).exits(0);
    assert_eq!(told.json().pop().unwrap()["signed"], 2 * FILES);
    assert!(told.stderr.contains("700 bytes after the archive's end"), "{}", told.stderr);
    run(args!["sign", "--keys", keys, one, two]).exits(0);
    assert!(read(&signed) == [read(&one), read(&two), foreign.to_vec()].concat());
    let verified = run(args!["verify", "--concatenated", "--json", "--keys", keys, signed]);
    assert_eq!(verified.exits(0).json().pop().unwrap()["valid"], 2 * FILES);
    let refused = run(args!["verify", "--concatenated", "--keys", keys, directory.path()]);
    assert!(refused.exits(2).stderr.contains("--concatenated applies only to archives"));
}

#[test]
fn changed_and_selected_members_only() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path(), 10);
    let [archive, first, second] =
        ["archive", "first", "second"].map(|name| directory.path().join(name));
    let Some(()) = pack(&root, &archive, &[]) else { return };
    let names = |result: &Path, options: &[&str]| {
        let lines = sign(&keys, &archive, result, options).exits(0).json();
        let files = lines.into_iter().filter(|line| line["result"] == "signed");
        files.map(|line| line["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let executable = names(&first, &["--only", "executable"]);
    assert_eq!(executable, ["./bin/program", "./bin/script"]);
    assert_eq!(names(&first, &["--include", "etc/*"]), ["./etc/hosts"]);
    assert_eq!(names(&first, &["--exclude", "bin"]).len() as u64, FILES - 2);
    let changed = sign(&keys, &first, &second, &["--changed"]).exits(0).json().pop().unwrap();
    assert_eq!((&changed["signed"], &changed["unchanged"]), (&2.into(), &(FILES - 2).into()));
    let again = sign(&keys, &second, &first, &["--changed"]).exits(0).json().pop().unwrap();
    assert_eq!((&again["signed"], &again["unchanged"]), (&0.into(), &FILES.into()));
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap());
}

#[test]
fn what_lies_is_refused_with_its_offset_and_nothing_is_written() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tar");
    let mut count = 0;
    for entry in fs::read_dir(cases).unwrap() {
        let case = entry.unwrap().path();
        if case.extension() != Some("tar".as_ref()) {
            continue;
        }
        count += 1;
        let archive = directory.path().join("archive");
        fs::copy(&case, &archive).unwrap();
        for command in ["sign", "verify", "inspect", "clear"] {
            let mut args = args![command, "--kind", "tar", archive].to_vec();
            if ["sign", "verify"].contains(&command) {
                args.extend(args!["--keys", keys]);
            }
            let refused = run(args).exits(2);
            let told = refused.stderr.contains(" at offset ");
            assert!(told, "{} {command}: {}", case.display(), refused.stderr);
        }
        assert!(fs::read(&archive).unwrap() == fs::read(&case).unwrap(), "{}", case.display());
    }
    assert!(count > 30, "{count} cases");
    let mut left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["archive", "keys-p-256"]);
}

/// A repeated file, directory or link to the same target: all programs use the last one.
#[test]
fn members_that_come_again_are_signed_again() {
    let directory = directory();
    let (root, archive) = (root(directory.path(), 10), directory.path().join("a.tar"));
    let Some(()) = pack(&root, &archive, &[]) else { return };
    fs::write(root.join("etc/hosts"), b"127.0.0.2 localhost\n").unwrap();
    let mut again = tool("tar").unwrap();
    again.arg("-C").arg(&root).arg("-rf").arg(&archive).args(["./etc", "./block", "./bin"]);
    finish(&mut again).exits(0);
    let keys = store(directory.path(), "p-256");
    run(args!["sign", "--keys", keys, archive]).exits(0);
    let unpacked = directory.path().join("unpacked");
    let Some(()) = unpack("tar", &archive, &unpacked) else { return };
    assert!(fs::read(unpacked.join("etc/hosts")).unwrap().starts_with(b"127.0.0.2"));
    if security_attributes(directory.path()) {
        run(args!["verify", "--keys", keys, unpacked]).exits(0);
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for content in [&b""[..], b"short", &[b'x'; 2048]] {
        let file = directory.path().join("file");
        fs::write(&file, content).unwrap();
        run(args!["sign", "--kind", "tar", "--keys", keys, file]).exits(2);
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    // truncated: the decoder reports it
    let plain = directory.path().join("plain.tar");
    let Some(()) = pack(&root(directory.path(), 10), &plain, &[]) else { return };
    let Some(mut gzip) = tool("gzip") else { return };
    finish(gzip.arg(&plain)).exits(0);
    let packed = directory.path().join("plain.tar.gz");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 100]).unwrap();
    let refused = run(args!["sign", "--keys", keys, packed]).exits(2);
    assert!(refused.stderr.contains("cannot read at offset"), "{}", refused.stderr);
    assert!(fs::read(&packed).unwrap() == bytes[..bytes.len() - 100]);
}

#[test]
fn nothing_bears_the_name_of_a_result_that_is_not_whole() {
    if !sees_descriptors() {
        return;
    }
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let plain = directory.path().join("plain.tar");
    let Some(()) = pack(&root(directory.path(), 10), &plain, &[]) else { return };
    let result = directory.path().join("result.tar");
    let mut command = imactl();
    let args = args!["sign", "--keys", keys, "-", "-o", result];
    let mut child = command.args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = fs::read(&plain).unwrap();
    stdin.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let begun = || {
        // a file without a name, if the file system supports it
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let mut open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        open.any(|file| file.starts_with(directory.path()))
    };
    while !begun() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(begun());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!result.exists());
}
