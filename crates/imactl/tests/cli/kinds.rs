//! Container kinds are detected from content.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;

fn file(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// The first bytes of a package, and nothing more.
const LEAD: &[u8] = b"\xed\xab\xee\xdb\x03\x00\x00\x00";

#[test]
fn a_run_deals_with_one_kind() {
    let directory = directory();
    let package = file(directory.path(), "package", LEAD);
    let plain = file(directory.path(), "plain", b"plain");
    let run = run(args!["inspect", package, plain]).exits(2);
    assert!(run.stderr.contains("package is an RPM package"), "{}", run.stderr);
    assert!(run.stderr.contains("plain is a file or directory"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: "), "{}", run.stderr);
}

#[test]
fn a_file_that_is_called_a_package_and_is_none_is_refused() {
    let directory = directory();
    let empty = file(directory.path(), "cut.rpm", b"");
    let refused = run(args!["sign", "--hash-only", "--detached", empty]).exits(2);
    assert!(refused.stderr.contains("its content is not one"), "{}", refused.stderr);
    assert!(!directory.path().join("cut.rpm.sig").exists());
    run(args!["sign", "--hash-only", "--detached", "--kind", "tree", empty]).exits(0);
    assert!(directory.path().join("cut.rpm.sig").exists());
}

/// A file that is both a valid tar archive and a disk with a partition table.
#[test]
fn a_file_for_two_readers_needs_its_kind() {
    let directory = directory();
    let path = directory.path();
    write_tree(path, &[("program", b"#!/bin/sh\n")]);
    let archive = path.join("root.tar");
    let Some(mut tar) = tool("tar") else { return };
    finish(tar.arg("-C").arg(path).args(["-cf"]).arg(&archive).arg("program")).exits(0);
    let mut bytes = fs::read(&archive).unwrap();
    // one partition, in bytes that tar treats as padding
    bytes[446 + 4] = 0x83;
    bytes[446 + 12] = 1;
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().copied().map(u32::from).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let disk = file(path, "disk.img", &bytes);
    let Some(mut sfdisk) = tool("sfdisk") else { return };
    let listed = finish(sfdisk.arg("--dump").arg(&disk)).exits(0);
    assert!(listed.stdout.contains("type=83"), "{}", listed.stdout);
    let Some(mut gzip) = tool("gzip") else { return };
    finish(gzip.arg("-k").arg(&disk)).exits(0);
    for path in [disk, path.join("disk.img.gz")] {
        let refused = run(args!["sign", "--hash-only", path]).exits(2);
        let said = "it is a tar archive and also a disk with partitions";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
        run(args!["preflight", path, "--keys", path]).exits(2);
    }
}

#[test]
fn in_a_tree_and_in_a_list_packages_are_files() {
    let directory = directory();
    let root = directory.path().join("root");
    write_tree(&root, &[("package", LEAD), ("plain", b"plain")]);
    let list = file(directory.path(), "list", root.join("package").to_str().unwrap().as_bytes());
    for args in [args!["inspect", root].to_vec(), args!["inspect", "--files-from", list].to_vec()] {
        let run = run(args).exits(0);
        assert!(run.stdout.contains("package: no attribute"), "{}", run.stdout);
    }
}

#[test]
fn what_is_compressed_is_told_by_what_is_in_it() {
    let directory = directory();
    let module = file(directory.path(), "module.ko", b"\x7fELF, a kernel module");
    let archive = directory.path().join("archive");
    let Some(mut tar) = tool("tar") else { return };
    finish(
        tar.args(["-C", directory.path().to_str().unwrap(), "-cf"]).arg(&archive).arg("module.ko"),
    )
    .exits(0);
    for (program, end) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")] {
        for (path, kind) in [(&module, "a file or directory"), (&archive, "a tar archive")] {
            let Some(mut program) = tool(program) else { continue };
            finish(program.args(["-k", "-q"]).arg(path)).exits(0);
            let packed = PathBuf::from(format!("{}.{end}", path.display()));
            // naming it together with another kind prints its detected kind
            let package = file(directory.path(), "package", LEAD);
            let run = run(args!["inspect", packed, package]).exits(2);
            assert!(run.stderr.contains(&format!(".{end} is {kind}")), "{}", run.stderr);
        }
    }
}
