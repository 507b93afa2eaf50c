//! File system images, signed without mounting and without root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// A tree with files of all storage forms.
fn root(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    let large: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    write_tree(
        &root,
        &[
            ("bin/program", b"\x7fELF and so on"),
            ("empty", b""),
            ("etc/hosts", b"127.0.0.1 localhost\n"),
            ("large", &large),
            ("with \"quotes\" and spaces", b"odd"),
            ("medium-size", &[7; 130]),
        ],
    );
    fs::write(root.join(OsStr::from_bytes(b"line\nend \xff")), b"odder").unwrap();
    fs::hard_link(root.join("bin/program"), root.join("bin/zz-link")).unwrap();
    symlink("../bin/program", root.join("etc/link")).unwrap();
    // many names: a directory with an index, and more than one block
    for number in 0..300 {
        let path = root.join(format!("many/{}-{number:0>100}", number % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, number.to_string()).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    // in several pieces, to have many extents; with data at the end, because mke2fs 1.47 loses the last hole of
    // a file in a file system with inline data
    for piece in 0..40 {
        sparse.write_all_at(b"data in a hole", piece * 25_000).unwrap();
    }
    root
}

/// The number of files in [`root`], without links.
const FILES: u64 = 8 + 300;

/// Makes an image of a tree, without root.
fn make(root: &Path, image: &Path, options: &[&str]) -> Option<()> {
    let mut mke2fs = tool("mke2fs")?;
    mke2fs.args(["-q", "-F"]).args(options).arg("-d").arg(root).arg(image).arg("24M");
    finish(&mut mke2fs).exits(0);
    Some(())
}

/// The findings of e2fsck.
fn check(image: &Path) -> Run {
    finish(Command::new("e2fsck").arg("-fn").arg(image))
}

/// The value of an attribute according to debugfs.
fn debugfs_reads(image: &Path, file: &str, directory: &Path) -> Vec<u8> {
    let value = directory.join("value");
    let request = format!("ea_get -f {} {file} security.ima", value.display());
    finish(Command::new("debugfs").args(["-R", &request]).arg(image)).exits(0);
    fs::read(value).unwrap()
}

const FORMS: &[(&str, &[&str])] = &[
    ("ext2", &["-t", "ext2", "-b", "1024", "-I", "128"]),
    ("ext3", &["-t", "ext3", "-b", "4096"]),
    ("ext4", &["-t", "ext4"]),
    ("ext4 with small inodes", &["-t", "ext4", "-I", "128"]),
    ("ext4 with large inodes", &["-t", "ext4", "-I", "1024", "-b", "4096"]),
    ("ext4 with checksums", &["-t", "ext4", "-O", "metadata_csum,metadata_csum_seed"]),
    ("ext4 with inline data", &["-t", "ext4", "-O", "inline_data", "-I", "512"]),
    ("ext4 with attribute inodes", &["-t", "ext4", "-O", "ea_inode"]),
    (
        "ext4 with meta groups",
        &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-g", "512", "-b", "1024"],
    ),
    (
        "ext4 with clusters of small blocks",
        &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"],
    ),
    (
        "ext4 with clusters and meta groups",
        &["-t", "ext4", "-b", "1024", "-O", "bigalloc,meta_bg,^resize_inode", "-C", "16384"],
    ),
    ("ext4 with quota", &["-t", "ext4", "-O", "project,quota", "-I", "256"]),
    ("ext4 with project numbers", &["-t", "ext4", "-O", "project", "-I", "256"]),
    ("ext4 without extents", &["-t", "ext4", "-O", "^extent,^64bit,^flex_bg"]),
];

#[test]
fn images_are_signed_and_e2fsck_finds_nothing() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    let root = root(directory.path());
    run(args!["sign", "--detached", "--keys", keys, root.join("etc/hosts")]).exits(0);
    let expected = fs::read(root.join("etc/hosts.sig")).unwrap();
    fs::remove_file(root.join("etc/hosts.sig")).unwrap();
    for (form, options) in FORMS {
        let image = directory.path().join("image");
        let Some(()) = make(&root, &image, options) else { return };
        let before = fs::read(&image).unwrap();
        let bare = run(args!["verify", "--json", "--keys", keys, image]).exits(1);
        assert_eq!(bare.json().pop().unwrap()["invalid"], FILES, "{form}");

        let signed = directory.path().join("signed");
        let told = run(args!["sign", "--json", "--keys", keys, image, "-o", signed]).exits(0);
        assert_eq!(told.json().pop().unwrap()["signed"], FILES, "{form}");
        assert!(fs::read(&image).unwrap() == before, "{form}: the original stays");
        let checked = check(&signed);
        assert_eq!(checked.code, Some(0), "{form}: {}{}", checked.stdout, checked.stderr);
        assert_eq!(debugfs_reads(&signed, "/etc/hosts", directory.path()), expected, "{form}");
        let verified = run(args!["verify", "--json", "--keys", keys, signed]).exits(0);
        assert_eq!(verified.json().pop().unwrap()["valid"], FILES, "{form}");

        // signing again gives the same bytes
        let again = directory.path().join("again");
        run(args!["sign", "--keys", keys, image, "-o", again]).exits(0);
        assert!(fs::read(&again).unwrap() == fs::read(&signed).unwrap(), "{form}");
        // in place; signed files are unchanged
        let changed = run(args!["sign", "--json", "--changed", "--keys", keys, signed]).exits(0);
        assert_eq!(changed.json().pop().unwrap()["unchanged"], FILES, "{form}");
        run(args!["clear", signed]).exits(0);
        let bare = run(args!["verify", "--json", "--keys", keys, signed]).exits(1);
        assert_eq!(bare.json().pop().unwrap()["invalid"], FILES, "{form}");
        assert_eq!(check(&signed).code, Some(0), "{form}");
    }
}

#[test]
fn what_is_read_is_what_was_put_there() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = root(directory.path());
    // digests of the tree's files, to search for in the image
    run(args!["sign", "--hash-only", "--xattr-namespace", "user", root]).exits(0);
    let inspected = run(args!["inspect", "--json", "--xattr-namespace", "user", root]).exits(0);
    let on_disk = inspected.json();
    for (form, options) in FORMS {
        let image = directory.path().join("image");
        let Some(()) = make(&root, &image, options) else { return };
        run(args!["sign", "--hash-only", image]).exits(0);
        let in_image = run(args!["inspect", "--json", image]).exits(0).json();
        assert_eq!(in_image.len(), on_disk.len(), "{form}");
        for line in &in_image {
            let path = root.join(line["path"].as_str().unwrap());
            let same = on_disk.iter().find(|other| other["path"] == path.to_str().unwrap());
            // both replace bytes of a name that is not text
            let same = same.unwrap_or_else(|| panic!("{form}: {line}"));
            assert_eq!(line["digest"], same["digest"], "{form}: {line}");
            assert_eq!(line["digest_matches"], true, "{form}: {line}");
        }
        run(args!["verify", "--require", "digest", "--keys", keys, image]).exits(0);
    }
}

#[test]
fn a_selection_and_a_dry_run() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image = directory.path().join("image");
    let Some(()) = make(&root(directory.path()), &image, &["-t", "ext4"]) else { return };
    let before = fs::read(&image).unwrap();
    let names = |options: &[&str]| {
        let args = args!["sign", "-n", "--json", "--keys", keys, image].to_vec();
        let run = run(args.into_iter().chain(options.iter().map(Into::into))).exits(0);
        let lines = run.json().into_iter().filter(|line| line["result"] == "would-sign");
        lines.map(|line| line["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--only", "executable"]), ["bin/program"]);
    assert_eq!(names(&["--include", "etc/*"]), ["etc/hosts"]);
    assert_eq!(names(&["--exclude", "many"]).len(), 8);
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn an_image_without_room_is_told_and_stays() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-4096");
    let root = directory.path().join("root");
    for number in 0..200 {
        write_tree(&root, &[(&format!("{number}"), number.to_string().as_bytes())]);
    }
    let image = directory.path().join("image");
    let Some(mut mke2fs) = tool("mke2fs") else { return };
    mke2fs.args(["-q", "-F", "-t", "ext2", "-b", "1024", "-I", "128", "-m", "0", "-N", "256"]);
    finish(mke2fs.arg("-d").arg(&root).arg(&image).arg("300")).exits(0);
    let before = fs::read(&image).unwrap();
    let refused = run(args!["sign", "--keys", keys, image]).exits(2);
    assert!(refused.stderr.contains("the attribute was not written"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: check the free space"), "{}", refused.stderr);
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn a_full_attribute_block_is_told_from_a_full_image() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-4096");
    let image = directory.path().join("image");
    let root = directory.path().join("root");
    write_tree(&root, &[("file", b"file")]);
    let options = ["-t", "ext4", "-b", "1024", "-I", "128", "-O", "^has_journal"];
    let Some(()) = make(&root, &image, &options) else { return };
    let value = directory.path().join("value");
    fs::write(&value, [7; 700]).unwrap();
    let request = format!("ea_set -f {} /file user.large", value.display());
    finish(Command::new("debugfs").args(["-w", "-R", &request]).arg(&image)).exits(0);
    let refused = run(args!["sign", "--keys", keys, image]).exits(2);
    assert!(refused.stderr.contains("-O ea_inode"), "{}", refused.stderr);
}

#[test]
fn zeros_of_sparse_files_are_read_within_bounds() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let (root, image) = (directory.path().join("root"), directory.path().join("image"));
    fs::create_dir(&root).unwrap();
    File::create(root.join("sparse")).unwrap().set_len(10 << 30).unwrap();
    let Some(()) = make(&root, &image, &["-t", "ext4", "-b", "4096"]) else { return };
    let refused = run(args!["sign", "--max-sparse", "9GiB", "--keys", keys, image]).exits(2);
    assert!(refused.stderr.contains("10737418240 bytes of holes"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: --max-sparse"), "{}", refused.stderr);
}

#[test]
fn a_read_only_form_says_what_to_do() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image = directory.path().join("image");
    let Some(mut mksquashfs) = tool("mksquashfs") else { return };
    let root = root(directory.path());
    finish(mksquashfs.args([&root, &image]).args(["-quiet", "-no-progress"])).exits(0);
    let refused = run(args!["sign", "--keys", keys, image]).exits(2);
    assert!(refused.stderr.contains("sqfstar"), "{}", refused.stderr);
}

#[test]
fn a_squashfs_of_a_signed_archive_is_verified() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let (archive, image) = (directory.path().join("archive"), directory.path().join("image"));
    let Some(mut tar) = tool("tar") else { return };
    finish(tar.arg("-C").arg(root(directory.path())).arg("-cf").arg(&archive).arg(".")).exits(0);
    run(args!["sign", "--keys", keys, archive]).exits(0);
    let Some(mut sqfstar) = tool("sqfstar") else { return };
    sqfstar.args(["-quiet", "-no-progress", "-comp", "zstd"]).arg(&image);
    finish(sqfstar.stdin(File::open(&archive).unwrap())).exits(0);
    if tool("sqfs2tar").is_none() {
        return;
    }
    let verified = run(args!["verify", "--json", "--keys", keys, image]).exits(0);
    assert_eq!(verified.json().pop().unwrap()["valid"], FILES);
    let inspected = run(args!["inspect", "--include", "etc/*", image]).exits(0);
    assert!(inspected.stdout.contains("EVM_IMA_XATTR_DIGSIG"), "{}", inspected.stdout);
    // truncated: reported as such
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    run(args!["verify", "--keys", keys, image]).exits(2);
}

#[test]
fn what_lies_is_refused_with_its_offset_and_nothing_is_written() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/image");
    let mut count = 0;
    for entry in fs::read_dir(cases).unwrap() {
        let case = entry.unwrap().path();
        if case.extension() != Some("img".as_ref()) {
            continue;
        }
        count += 1;
        let image = directory.path().join("image");
        fs::copy(&case, &image).unwrap();
        let refused = run(args!["sign", "--kind", "image", "--keys", keys, image]).exits(2);
        let told = refused.stderr.contains(" at offset ");
        assert!(told, "{}: {}", case.display(), refused.stderr);
        assert!(fs::read(&image).unwrap() == fs::read(&case).unwrap(), "{}", case.display());
    }
    assert!(count > 30, "{count} cases");
}
