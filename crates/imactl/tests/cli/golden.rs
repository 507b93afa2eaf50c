//! The output of every verb on every kind of container, as text and as JSON lines, compared with the output
//! recorded in `golden/`. `UPDATE_GOLDEN=1` records it again. A change of these files changes an interface,
//! and belongs in the CHANGELOG.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{symlink, FileExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::oci::Layout;
use crate::support::*;

/// A kind of container: its name in the test's directory, the tree that it is made from, and the function
/// that makes it. Images that cannot be signed are made from a signed tree.
struct Kind {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    make: fn(root: &Path, to: &Path) -> Option<()>,
}

const KINDS: &[Kind] = &[
    Kind { name: "tree", file: "tree", from: "root", make: copy },
    Kind { name: "tar", file: "root.tar", from: "root", make: tar },
    Kind { name: "tar-gzip", file: "root.tar.gz", from: "root", make: tar },
    Kind { name: "rpm", file: "package.rpm", from: "root", make: package },
    Kind { name: "ext4", file: "root.ext4", from: "root", make: ext4 },
    Kind { name: "disk", file: "disk.wic", from: "root", make: disk },
    Kind { name: "erofs", file: "root.erofs", from: "signed", make: erofs },
    Kind { name: "oci", file: "image.oci.tar", from: "root", make: oci },
    Kind { name: "squashfs", file: "root.squashfs", from: "signed", make: squashfs },
];

/// The verbs and arguments, in the order in which they run on one container.
const STEPS: &[(&str, &[&str])] = &[
    ("verify-unsigned", &["verify", "--keys", "KEYS"]),
    ("sign-dry-run", &["sign", "--dry-run", "--keys", "KEYS"]),
    ("sign", &["sign", "--verbose", "--keys", "KEYS"]),
    ("sign-changed", &["sign", "--verbose", "--changed", "--keys", "KEYS"]),
    ("verify", &["verify", "--verbose", "--keys", "KEYS"]),
    ("verify-foreign", &["verify", "--keys", "FOREIGN"]),
    ("inspect", &["inspect"]),
    ("clear", &["clear", "--verbose"]),
    ("clear-again", &["clear", "--verbose"]),
    ("detached", &["verify", "--detached", "--keys", "KEYS"]),
];

fn copy(root: &Path, to: &Path) -> Option<()> {
    finish(tool("cp")?.arg("-a").args([root, to])).exits(0);
    Some(())
}

fn tar(root: &Path, to: &Path) -> Option<()> {
    let mut tar = tool("tar")?;
    tar.args(["--sort=name", "--mtime=@0", "-caf"]).arg(to).arg("-C").arg(root).arg(".");
    finish(&mut tar).exits(0);
    Some(())
}

fn package(_: &Path, to: &Path) -> Option<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_4.rpm");
    fs::copy(package, to).unwrap();
    Some(())
}

fn ext4(root: &Path, to: &Path) -> Option<()> {
    let mut mke2fs = tool("mke2fs")?;
    finish(mke2fs.args(["-q", "-t", "ext4", "-d"]).args([root, to]).arg("4M")).exits(0);
    Some(())
}

/// Two partitions: an empty one, and one of ext4.
fn disk(root: &Path, to: &Path) -> Option<()> {
    let image = to.with_extension("ext4");
    ext4(root, &image)?;
    fs::write(to, vec![0; 8 << 20]).unwrap();
    let mut sfdisk = tool("sfdisk")?;
    let mut child = sfdisk.arg("--quiet").arg(to).stdin(Stdio::piped()).spawn().unwrap();
    let script = b"label: gpt\nstart=1MiB, size=1MiB\nstart=2MiB, size=4MiB, name=root\n";
    child.stdin.take().unwrap().write_all(script).unwrap();
    assert!(child.wait().unwrap().success());
    let disk = OpenOptions::new().write(true).open(to).unwrap();
    disk.write_all_at(&fs::read(&image).unwrap(), 2 << 20).unwrap();
    fs::remove_file(image).unwrap();
    Some(())
}

/// A container image of one layer.
fn oci(root: &Path, to: &Path) -> Option<()> {
    let layout = Layout::new(&to.with_extension("layout"));
    layout.index(&[layout.image(&[layout.layer(root, "gzip")?])]);
    tar(&layout.root, to)?;
    fs::remove_dir_all(&layout.root).unwrap();
    Some(())
}

fn erofs(root: &Path, to: &Path) -> Option<()> {
    finish(tool("mkfs.erofs")?.args([to, root])).exits(0);
    Some(())
}

fn squashfs(root: &Path, to: &Path) -> Option<()> {
    finish(tool("mksquashfs")?.args([root, to]).args(["-quiet", "-no-progress"])).exits(0);
    Some(())
}

/// Replaces values that differ between two runs.
struct Scrub {
    words: Vec<(String, &'static str)>,
}

impl Scrub {
    fn new(directory: &Path, keys: &Path, foreign: &Path) -> Self {
        let id = |store: &Path| {
            let certificate = store.join("ima_keys/x509_ima.crt");
            let shown = run(args!["keys", "show", "--json", certificate]).exits(0).json();
            shown[0]["key_id"].as_str().unwrap().to_owned()
        };
        let words = vec![
            (id(keys), "KEYID"),
            (id(foreign), "FOREIGN-KEYID"),
            (directory.to_str().unwrap().to_owned(), "DIR"),
        ];
        Self { words }
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (word, name) in &self.words {
            text = text.replace(word, name);
        }
        text.lines().map(|line| layer(&duration(line)) + "\n").collect()
    }
}

/// Replaces the digest of a layer, which depends on the signatures in it.
fn layer(line: &str) -> String {
    for before in [": layer ", "\"layer\":\"sha256:"] {
        let Some((head, rest)) = line.split_once(before) else { continue };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        return format!("{head}{before}DIGEST{rest}");
    }
    line.to_owned()
}

/// Replaces `in 0.12 s` and `"seconds":0.12`.
fn duration(line: &str) -> String {
    for (before, after) in [(" in ", " s"), ("\"seconds\":", "}")] {
        let Some((head, rest)) = line.split_once(before) else { continue };
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || ".e-".contains(c));
        if digits.len() < rest.len() && digits.starts_with(after) {
            return format!("{head}{before}TIME{digits}");
        }
    }
    line.to_owned()
}

fn record(kind: &Kind, form: &[&str], directory: &Path, scrub: &Scrub) -> Option<String> {
    let container = directory.join(kind.file);
    (kind.make)(&directory.join(kind.from), &container)?;
    let mut recorded = String::new();
    for (step, words) in STEPS {
        let words = words.iter().map(|word| match *word {
            "KEYS" => directory.join("keys-rsa-2048").into_os_string(),
            "FOREIGN" => directory.join("keys-p-384").into_os_string(),
            word => OsString::from(word),
        });
        let extra = form.iter().map(OsString::from).chain([container.clone().into()]);
        let result = run(words.chain(extra));
        writeln!(recorded, "== {step}: exit {}", result.code.unwrap()).unwrap();
        recorded += &scrub.apply(&result.stdout);
        if !result.stderr.is_empty() {
            recorded += "-- stderr\n";
            recorded += &scrub.apply(&result.stderr);
        }
    }
    match container.is_dir() {
        true => fs::remove_dir_all(&container).unwrap(),
        false => fs::remove_file(&container).unwrap(),
    }
    Some(recorded)
}

fn compare(name: &str, recorded: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/cli/golden", name].iter().collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, recorded).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (number, (now, then)) in recorded.lines().zip(expected.lines()).enumerate() {
        assert_eq!(now, then, "{name}, line {}", number + 1);
    }
    assert_eq!(recorded.lines().count(), expected.lines().count(), "{name}: lines");
}

#[test]
fn output_is_what_was_recorded() {
    let directory = directory();
    let directory = directory.path();
    if !security_attributes(directory) {
        return;
    }
    let (keys, foreign) = (store(directory, "rsa-2048"), store(directory, "p-384"));
    let scrub = Scrub::new(directory, &keys, &foreign);
    let root = directory.join("root");
    write_tree(
        &root,
        &[
            ("bin/program", b"\x7fELF and so on"),
            ("bin/script", b"#!/bin/sh\n"),
            ("empty", b""),
            ("etc/odd\u{85}name", b"data"),
        ],
    );
    fs::hard_link(root.join("bin/program"), root.join("bin/second-name")).unwrap();
    symlink("program", root.join("bin/link")).unwrap();
    let signed = directory.join("signed");
    copy(&root, &signed).unwrap();
    run(args!["sign", "--quiet", "--keys", keys, signed]).exits(0);
    for kind in KINDS {
        for (form, options) in [("txt", &[][..]), ("json", &["--json"][..])] {
            let Some(recorded) = record(kind, options, directory, &scrub) else { continue };
            compare(&format!("{}.{form}", kind.name), &recorded);
        }
    }
}
