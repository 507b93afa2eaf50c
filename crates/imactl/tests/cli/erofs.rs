//! EROFS images, read without mounting.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};

use crate::support::*;
use serde_json::Value;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/erofs")
}

/// The images of a directory.
fn images(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut images: Vec<_> =
        paths.filter(|path| path.extension() == Some("img".as_ref())).collect();
    images.sort();
    images
}

/// A signed tree with files of all storage forms; `None` if `security.ima` cannot be set.
fn signed_root(directory: &Path, keys: &Path) -> Option<PathBuf> {
    if !security_attributes(directory) {
        return None;
    }
    let root = directory.join("root");
    let large: Vec<u8> = (0..400_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
    let noise: Vec<u8> =
        (0..70_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 19) as u8).collect();
    write_tree(
        &root,
        &[
            ("bin/program", b"\x7fELF and so on"),
            ("block", &[7; 4096]),
            ("empty", b""),
            ("etc/hosts", b"127.0.0.1 localhost\n"),
            ("large", &large),
            ("noise", &noise),
            ("with \"quotes\" and spaces", b"odd"),
        ],
    );
    fs::hard_link(root.join("bin/program"), root.join("bin/zz-link")).unwrap();
    symlink("../bin/program", root.join("etc/link")).unwrap();
    // many names: a directory of more than one block
    for number in 0..300 {
        let path = root.join(format!("many/{}-{number:0>200}", number % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, number.to_string()).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    for piece in 0..40 {
        sparse.write_all_at(b"data in a hole", piece * 25_000).unwrap();
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    run(args!["sign", "--quiet", "--keys", keys, root]).exits(0);
    Some(root)
}

/// The number of files in [`signed_root`], without links.
const FILES: u64 = 8 + 300;

/// Options of mkfs.erofs, and whether version 1.5 supports them.
const FORMS: &[(&[&str], bool)] = &[
    (&[], true),
    (&["-x1"], true),
    (&["-x100", "-Eforce-inode-extended"], true),
    (&["-Eforce-inode-compact", "-Enosbcrc"], true),
    (&["-Enoinline_data"], true),
    (&["--chunksize=4096"], true),
    (&["--chunksize=65536", "-Eforce-inode-blockmap"], true),
    (&["-zlz4"], true),
    (&["-zlz4", "-Elegacy-compress"], true),
    (&["-zlz4hc,9", "-C65536"], true),
    (&["-zlz4hc,9", "-C65536", "-Elegacy-compress"], true),
    (&["-zlz4", "-Eztailpacking"], true),
    (&["-zlz4", "-C16384", "-Efragments,dedupe,ztailpacking"], false),
    (&["-zlz4", "-C65536", "-Eall-fragments"], false),
    (&["-zlzma", "-C65536"], false),
    (&["-zdeflate", "-C65536"], false),
    (&["-zzstd", "-C65536"], false),
];

fn named(lines: &[Value]) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line["path"].as_str()).collect()
}

#[test]
fn what_is_made_of_a_signed_tree_is_verified_with_all_its_files() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(root) = signed_root(directory.path(), &keys) else { return };
    let in_tree = run(args!["verify", "--json", "--keys", keys, root]).exits(0).json();
    let in_tree: BTreeSet<_> = named(&in_tree)
        .into_iter()
        .map(|path| Path::new(path).strip_prefix(&root).unwrap().to_str().unwrap())
        .collect();
    let image = directory.path().join("image");
    for (options, everywhere) in FORMS {
        let Some(mut mkfs) = tool("mkfs.erofs") else { return };
        let made = finish(mkfs.args(*options).arg(&image).arg(&root));
        if !everywhere && made.code != Some(0) {
            eprintln!("SKIPPED: this mkfs.erofs has no {options:?}; testdata/erofs/forms has");
            continue;
        }
        let made = made.exits(0);
        let run = run(args!["verify", "--json", "--keys", keys, image]);
        assert_eq!(run.code, Some(0), "{options:?}: {}{}", run.stderr, made.stderr);
        let mut lines = run.json();
        assert_eq!(lines.pop().unwrap()["valid"], FILES, "{options:?}");
        // a file with two names is listed once, in the tree as well
        assert_eq!(named(&lines), in_tree, "{options:?}");
    }
}

#[test]
fn preflight_says_the_same_of_the_image_as_of_the_tree() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some(root) = signed_root(directory.path(), &keys) else { return };
    let image = directory.path().join("image");
    let Some(mut mkfs) = tool("mkfs.erofs") else { return };
    finish(mkfs.args(["-zlz4hc", "-x1"]).arg(&image).arg(&root)).exits(0);
    let told = |root: &Path| {
        let policy = args!["preflight", "--policy", "builtin:appraise_tcb", "--json", "--details"];
        let run = run(policy.into_iter().chain(args!["--keys", keys, root]));
        let mut lines = run.json();
        // the last line has the root's name
        lines.pop();
        assert!(lines.len() > 2, "{run:?}");
        (run.code, lines)
    };
    assert_eq!(told(&image), told(&root));
}

#[test]
fn each_form_of_content_and_attributes_is_read() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let forms = images(&testdata().join("forms"));
    assert!(forms.len() > 20, "{} forms", forms.len());
    for image in forms {
        // their attributes are digests of the original content
        let words = args!["verify", "--json", "--require", "digest", "--keys", keys, image];
        let lines = run(words).exits(0).json();
        let count = match image.file_stem().unwrap().to_str().unwrap() {
            name if name.contains("attribute") => 4,
            "lz4_second_kind" => 3,
            _ => 10,
        };
        assert_eq!(lines.last().unwrap()["valid"], count, "{}", image.display());
        let inspected = run(args!["inspect", "--json", image]).exits(0).json();
        assert_eq!(named(&inspected), named(&lines), "{}", image.display());
        assert!(inspected.iter().all(|line| line["digest_matches"] == true), "{inspected:?}");
    }
}

#[test]
fn a_changed_byte_is_a_finding() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image = directory.path().join("image");
    let mut bytes = fs::read(testdata().join("forms/plain.img")).unwrap();
    let at = bytes.windows(13).position(|bytes| bytes == b"ELF and so on").unwrap();
    bytes[at] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let words = args!["verify", "--json", "--require", "digest", "--keys", keys, image];
    let lines = run(words).exits(1).json();
    let found = lines.iter().find(|line| line["path"] == "bin/program").unwrap();
    assert_eq!(found["verdict"], "invalid-hash", "{found}");
    assert_eq!(lines.last().unwrap()["valid"], 9);
    run(args!["verify", "--require", "digest", "--exclude", "bin", "--keys", keys, image]).exits(0);
}

#[test]
fn what_lies_is_told_with_its_offset() {
    let cases = images(&testdata());
    assert!(cases.len() > 60, "{} cases", cases.len());
    for image in cases {
        let refused = run(args!["inspect", "--kind", "image", image]).exits(2);
        let told = refused.stderr.lines().next().unwrap();
        let count = told.matches(" at offset ").count();
        assert_eq!(count, 1, "{}: {told}", image.display());
        assert!(!told.contains("cannot read"), "{}: {told}", image.display());
    }
}

#[test]
fn a_layout_that_is_not_known_is_to_be_mounted() {
    for name in ["layout_is_of_48_bits", "metadata_is_compressed", "content_is_on_another_device"] {
        let image = testdata().join(name).with_extension("img");
        let refused = run(args!["inspect", image]).exits(2);
        assert!(refused.stderr.contains("hint: mount it"), "{}", refused.stderr);
    }
}

#[test]
fn to_sign_and_to_clear_is_to_make_it_anew() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let image = directory.path().join("image");
    fs::copy(testdata().join("forms/lz4.img"), &image).unwrap();
    let before = fs::read(&image).unwrap();
    for args in [args!["sign", "--keys", keys, image].to_vec(), args!["clear", image].to_vec()] {
        let refused = run(args).exits(2);
        let hint = "hint: read-only images are not changed: sign or clear the tar archive";
        assert!(refused.stderr.contains(hint), "{refused:?}");
    }
    assert!(fs::read(&image).unwrap() == before);
}
