//! Names of files, members and certificates that would send escape sequences to a terminal or forge a line.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::support::{directory, run, security_attributes, store, tool, Run};

/// Clears the screen, then claims success in a line of its own.
const NAME: &str = "a\x1b[2J\nvalid-signature  forged";
const SHOWN: &str = "a\\x1b[2J\\x0avalid-signature  forged";

#[track_caller]
fn is_harmless(ran: &Run) {
    for (name, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        assert!(!text.contains("\x1b[2J"), "{name}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("valid-signature  forged")), "{text}");
    }
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains(SHOWN), "{ran:?}");
}

#[test]
fn names_in_trees_stay_in_their_lines() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    if !security_attributes(directory.path()) {
        return;
    }
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let file = tree.join(NAME);
    fs::write(&file, "content").unwrap();
    is_harmless(&run(args!["verify", "--keys", keys, "-v", tree]));
    is_harmless(&run(args!["sign", "--keys", keys, "-v", tree]).exits(0));
    for colour in ["always", "never"] {
        is_harmless(&run(args!["verify", "--color", colour, "--keys", keys, "-v", tree]).exits(0));
        is_harmless(&run(args!["inspect", "--color", colour, tree]).exits(0));
    }
    is_harmless(&run(args!["clear", "-v", tree]).exits(0));
    is_harmless(&run(args!["policy", "check", file]));
    let missing = tree.join("x").join(NAME);
    is_harmless(&run(args!["policy", "load", missing]).exits(2));
}

#[test]
fn json_holds_no_character_that_a_terminal_obeys() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let name = "a\u{9b}2J\u{7f}\u{202e}\u{2066}\u{61c}\u{2028}\u{e4}\u{1f512}";
    fs::write(directory.path().join(name), "content").unwrap();
    let args = args!["sign", "--detached", "--json", "--keys", keys, directory.path().join(name)];
    let signed = run(args).exits(0);
    let expected = r"a\u009b2J\u007f\u202e\u2066\u061c\u2028";
    assert!(signed.stdout.contains(&format!("{expected}\u{e4}\u{1f512}\"")), "{}", signed.stdout);
    assert!(signed.json()[0]["path"].as_str().unwrap().ends_with(name));
}

#[test]
fn names_of_members_stay_in_their_lines() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::write(tree.join("usr/bin").join(NAME), b"#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(tree.join("usr/bin").join(NAME), mode).unwrap();
    let archive = directory.path().join("archive.tar");
    let Some(mut tar) = tool("tar") else { return };
    crate::support::finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&tree).arg("usr")).exits(0);
    is_harmless(&run(args!["verify", "--keys", keys, "-v", archive]));
    is_harmless(&run(args!["sign", "--keys", keys, "-v", archive]).exits(0));
    is_harmless(&run(args!["inspect", archive]).exits(0));
    is_harmless(&run(args![
        "preflight",
        "--policy",
        "default:appraise",
        "--keys",
        keys,
        "--details",
        tree
    ]));
    let odd = directory.path().join(OsStr::from_bytes(b"\xff\x1b[2J"));
    fs::rename(&archive, &odd).unwrap();
    let ran = run(args!["verify", "--keys", keys, "-v", odd]).exits(0);
    assert!(!ran.stdout.contains("\x1b[2J"), "{:?}", ran.stdout);
    assert!(Path::new(&odd).exists());
}
