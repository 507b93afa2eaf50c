//! Several archives or images in one run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use crate::tar::pack;

/// Two archives of one file each, and a truncated one.
fn archives(directory: &Path) -> Option<[PathBuf; 3]> {
    let root = directory.join("root");
    write_tree(&root, &[("file", &[b'x'; 3000])]);
    let [one, other, cut] = ["one.tar", "other.tar", "cut.tar"].map(|name| directory.join(name));
    pack(&root, &one, &[])?;
    fs::copy(&one, &other).unwrap();
    fs::write(&cut, &fs::read(&one).unwrap()[..2000]).unwrap();
    Some([one, other, cut])
}

/// The lines of a type.
fn of_type(run: &Run, kind: &str) -> Vec<serde_json::Value> {
    run.json().into_iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn a_run_has_one_summary() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some([one, other, _]) = archives(directory.path()) else { return };
    for (verb, counted) in [("sign", "signed"), ("verify", "valid"), ("clear", "cleared")] {
        let keys = if verb == "clear" { vec![] } else { args!["--keys", keys].to_vec() };
        let args = args!["--json", verb].into_iter().chain(keys).chain(args![one, other]);
        let summaries = of_type(&run(args).exits(0), "summary");
        let counts: Vec<_> = summaries.iter().map(|it| &it[counted]).collect();
        assert_eq!(counts, [2], "{verb}");
    }
}

#[test]
fn a_malformed_container_does_not_end_the_run() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let Some([one, other, cut]) = archives(directory.path()) else { return };
    let before = fs::read(&cut).unwrap();
    for (verb, counted) in [("sign", "signed"), ("verify", "valid"), ("clear", "cleared")] {
        let keys = if verb == "clear" { vec![] } else { args!["--keys", keys].to_vec() };
        let args = args!["--json", verb].into_iter().chain(keys).chain(args![one, cut, other]);
        let done = run(args).exits(2);
        let errors = of_type(&done, "error");
        assert_eq!(errors.len(), 1, "{verb}: {}", done.stdout);
        assert_eq!(errors[0]["path"], cut.to_str().unwrap(), "{verb}");
        let summary = of_type(&done, "summary").pop().unwrap();
        assert_eq!((&summary[counted], &summary["failed"]), (&2.into(), &1.into()), "{verb}");
        assert!(fs::read(&cut).unwrap() == before, "{verb}");
    }
    // the same with images
    let root = directory.path().join("root");
    let images = ["one.ext4", "cut.ext4", "other.ext4"].map(|name| directory.path().join(name));
    for image in &images {
        let Some(mut mke2fs) = tool("mke2fs") else { return };
        finish(mke2fs.args(["-q", "-t", "ext4", "-d"]).args([&root, image]).arg("4M")).exits(0);
    }
    fs::OpenOptions::new().write(true).open(&images[1]).unwrap().set_len(2048).unwrap();
    let args = args!["sign", "--json", "--keys", keys].into_iter();
    let done = run(args.chain(images.iter().map(Into::into))).exits(2);
    assert_eq!(of_type(&done, "error")[0]["path"], images[1].to_str().unwrap());
    assert_eq!(of_type(&done, "summary")[0]["signed"], 2);
    run(args!["verify", "--keys", keys, images[0], images[2]]).exits(0);
}

#[test]
fn an_archive_that_fails_counts_nothing_as_signed() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = directory.path().join("root");
    write_tree(&root, &[("a", b"a"), ("b", &[b'x'; 3000])]);
    let archive = directory.path().join("archive.tar");
    let Some(()) = pack(&root, &archive, &["--sort=name"]) else { return };
    let whole = fs::read(&archive).unwrap();
    // within the second file
    fs::write(&archive, &whole[..3000]).unwrap();
    let done = run(args!["sign", "--json", "--jobs", "1", "--keys", keys, archive]).exits(2);
    assert_eq!(of_type(&done, "file")[0]["result"], "signed", "{}", done.stdout);
    let summary = of_type(&done, "summary").pop().unwrap();
    assert_eq!((&summary["signed"], &summary["failed"]), (&0.into(), &1.into()), "{}", done.stdout);
}

#[test]
fn options_that_do_not_apply_are_refused() {
    let directory = directory();
    let Some([one, ..]) = archives(directory.path()) else { return };
    for verb in ["verify", "inspect", "clear", "sign"] {
        let refused = run(args![verb, "--one-file-system", one]).exits(2);
        let expected = "--one-file-system applies only to files and directories, packages";
        assert!(refused.stderr.contains(expected), "{verb}: {}", refused.stderr);
    }
}
