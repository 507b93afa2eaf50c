//! Named and found paths: no path that was requested is skipped silently.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};

use crate::support::*;

#[test]
fn a_signature_that_is_named_is_an_error() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("x", b"content")]);
    run(args!["sign", "--detached", "--keys", keys, root]).exits(0);
    let signature = root.join("x.sig");
    for args in [
        args!["verify", "--detached", "--keys", keys, signature].to_vec(),
        args!["sign", "--detached", "--keys", keys, signature].to_vec(),
        args!["inspect", "--detached", signature].to_vec(),
        args!["clear", "--detached", signature].to_vec(),
    ] {
        let said = run(args).exits(2).stderr;
        assert!(said.contains("x.sig: a detached signature"), "{said}");
        assert!(said.contains("hint: name the file that it belongs to"), "{said}");
    }
    assert!(signature.exists() && !root.join("x.sig.sig").exists());
    // dir/* names both
    let both = run(args!["verify", "--detached", "--keys", keys, root.join("x"), signature]);
    assert!(both.exits(0).stdout.ends_with("1 file valid\n"));
    // a signature without its file is a plain file
    fs::write(root.join("alone.sig"), b"content").unwrap();
    run(args!["sign", "--detached", "--keys", keys, root.join("alone.sig")]).exits(0);
}

#[test]
fn nothing_found_is_said() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    fs::create_dir(&root).unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    for args in [
        args!["verify", "--allow-empty", "--keys", keys, root].to_vec(),
        args!["sign", "--keys", keys, root].to_vec(),
        args!["clear", root].to_vec(),
    ] {
        assert_eq!(run(args).exits(0).stdout, "no files\n");
    }
    finish(Command::new("mkfifo").arg(root.join("fifo"))).exits(0);
    for (name, said) in [("fifo", "a FIFO, not a regular file"), ("link", "a symbolic link")] {
        for verb in ["verify", "sign"] {
            let ran = run(args![verb, "--keys", keys, root.join(name)]).exits(2);
            assert!(ran.stderr.contains(said), "{}", ran.stderr);
        }
    }
}

#[test]
fn to_verify_nothing_is_a_finding() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("d/x", b"content")]);
    fs::create_dir(root.join("empty")).unwrap();
    let (list, archive) = (directory.path().join("list"), directory.path().join("empty.tar"));
    fs::write(&list, "").unwrap();
    fs::write(&archive, [0; 10240]).unwrap();
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/rpm/format_6.rpm");
    for paths in [
        args![root.join("empty")].to_vec(),
        args!["--files-from", list].to_vec(),
        args!["-r", root].to_vec(),
        args![root, "--include", "*.so"].to_vec(),
        args![root, "--exclude", "d"].to_vec(),
        args![root, "--only", "executable"].to_vec(),
        args![archive].to_vec(),
        args![package, "--include", "*.so"].to_vec(),
    ] {
        let args = |extra: &str| {
            let args = args!["verify", extra, "--keys", keys].into_iter();
            args.chain(paths.clone()).collect::<Vec<_>>()
        };
        let said = run(args("-q")).exits(1).stdout;
        assert!(said.contains("nothing was verified (--allow-empty accepts that)"), "{said}");
        run(args("--json")).exits(1);
        run(args("--allow-empty")).exits(0);
    }
}

#[test]
fn globs_that_match_nothing_are_reported() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("lib/a.so", b"a"), ("doc/b", b"b")]);
    let globs = args!["--include", "*.so", "--include", "bin/*", "--exclude", "doc"];
    for args in [
        args!["sign", "--detached", "--keys", keys, root, "--exclude", "*.pyc"].to_vec(),
        args!["verify", "--detached", "--keys", keys, root, "--exclude", "*.pyc"].to_vec(),
        args!["inspect", "--detached", root, "--exclude", "*.pyc"].to_vec(),
        args!["clear", "--detached", root, "--exclude", "*.pyc"].to_vec(),
    ] {
        let said = run(args.into_iter().chain(globs.clone())).exits(0).stderr;
        let warnings: Vec<_> = said.lines().collect();
        let expected = [
            "warning: --include 'bin/*' matches nothing",
            "warning: --exclude '*.pyc' matches nothing",
        ];
        assert_eq!(warnings, expected);
    }
}

#[test]
fn paths_longer_than_the_kernel_takes_are_signed() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    fs::create_dir(&root).unwrap();
    let name = "d".repeat(200);
    let mut deep = rustix::fs::open(&root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..40 {
        rustix::fs::mkdirat(&deep, &name, Mode::RWXU).unwrap();
        deep = rustix::fs::openat(&deep, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    drop(rustix::fs::openat(&deep, "file", flags, Mode::RUSR | Mode::WUSR).unwrap());
    run(args!["sign", "--detached", "--keys", keys, root]).exits(0);
    rustix::fs::statat(&deep, "file.sig", rustix::fs::AtFlags::empty()).unwrap();
    let verified = run(args!["verify", "--detached", "--keys", keys, root]).exits(0);
    assert!(verified.stdout.ends_with("1 file valid\n"), "{}", verified.stdout);
    // in the order of find
    let path = root.join((0..40).map(|_| &name).collect::<PathBuf>()).join("file");
    let list = directory.path().join("list");
    fs::write(&list, path.as_os_str().as_encoded_bytes()).unwrap();
    let args = args!["verify", "--detached", "--keys", keys, "--files-from", list];
    assert!(run(args).exits(0).stdout.ends_with("1 file valid\n"));
    run(args!["clear", "--detached", root]).exits(0);
    assert!(rustix::fs::statat(&deep, "file.sig", rustix::fs::AtFlags::empty()).is_err());
}

#[test]
fn neither_fifos_nor_devices_are_read_as_files() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("x", b"content")]);
    let (fifo, zero) = (directory.path().join("fifo"), directory.path().join("zero"));
    finish(Command::new("mkfifo").arg(&fifo)).exits(0);
    symlink("/dev/zero", &zero).unwrap();
    let x = root.join("x");
    for (file, said) in [(&fifo, "a FIFO"), (&zero, "a device")] {
        for args in [
            args!["verify", "--cert", file, x].to_vec(),
            args!["sign", "--detached", "--key", file, x].to_vec(),
            args!["sign", "--detached", "--keys", keys, "--files-from", file].to_vec(),
            args!["verify", "--keys", keys, "--kind", "tar", file].to_vec(),
            args!["verify", "--keys", keys, "--kind", "image", file].to_vec(),
            args!["policy", "check", file].to_vec(),
            args!["keys", "create", directory.path().join("new"), "--passphrase-file", file]
                .to_vec(),
            args!["keys", "show", file].to_vec(),
            args!["why", "--audit-log", file].to_vec(),
        ] {
            let ran = run(args.clone());
            assert!(ran.code == Some(2) || ran.code == Some(1), "{args:?}: {ran:?}");
            assert!((ran.stdout.clone() + &ran.stderr).contains(said), "{args:?}: {ran:?}");
        }
    }
    let signature = root.join("x.sig");
    finish(Command::new("mkfifo").arg(&signature)).exits(0);
    for said in ["x.sig: a FIFO, not a regular file", "x.sig: a symbolic link"] {
        for args in [
            args!["verify", "--detached", "--keys", keys, x].to_vec(),
            args!["inspect", "--detached", x].to_vec(),
            args!["sign", "--changed", "--detached", "--keys", keys, x].to_vec(),
        ] {
            let ran = run(args).exits(2);
            assert!(ran.stderr.contains(said), "{}", ran.stderr);
        }
        fs::remove_file(&signature).unwrap();
        symlink("/dev/zero", &signature).unwrap();
    }
    // a shell's <(command) is a pipe that the caller has opened
    let Some(mut bash) = tool("bash") else { return };
    let script = "exec \"$0\" sign --detached --keys \"$1\" --files-from <(echo \"$2\")";
    fs::remove_file(&signature).unwrap();
    bash.args(["-c", script]).arg(imactl().get_program()).arg(&keys).arg(&x);
    finish(&mut bash).exits(0);
}

#[test]
fn a_path_that_is_given_twice_is_dealt_with_once() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("a", b"a"), ("b", b"b")]);
    let signed = |paths: &[&str], expected: u64| {
        let args = args!["sign", "--json", "--detached", "-n", "--keys", keys];
        let paths = paths.iter().map(|path| root.join(path).into_os_string());
        let ran = run(args.into_iter().chain(paths)).exits(0);
        assert_eq!(ran.json().pop().unwrap()["signed"], expected, "{}", ran.stdout);
    };
    signed(&["a", "a"], 1);
    signed(&["a", "./a", "b"], 2);
    signed(&["", ""], 2);
    signed(&["a", ""], 2);
    signed(&["", "b"], 2);
    // like find without -type f
    write_tree(&root, &[("deep/c", b"c"), ("deep/er/d", b"d")]);
    signed(&["", "a", "b", "deep", "deep/c", "deep/er", "deep/er/d"], 4);
    signed(&["deep/er", "deep", ""], 4);
}

#[test]
fn what_is_unchanged_has_its_key_and_what_is_not_cleared_is_counted() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("a", b"a")]);
    let sign = || {
        let args = args!["sign", "--json", "--changed", "--detached", "--keys", keys, root];
        run(args).exits(0).json().remove(0)
    };
    let (signed, unchanged) = (sign(), sign());
    assert_eq!((&signed["result"], &unchanged["result"]), (&"signed".into(), &"unchanged".into()));
    assert_eq!(signed["key_id"], unchanged["key_id"]);
    let cleared = run(args!["clear", "--detached", root, root.join("missing")]).exits(2);
    assert!(cleared.stdout.contains("; 1 file not cleared"), "{}", cleared.stdout);
}

#[test]
fn a_list_with_zero_bytes_asks_for_the_option() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    let mut command = imactl();
    command.args(args!["sign", "--detached", "--keys", keys, "--files-from", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let list = format!("{}\0", file.display());
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("hint: give -0, too"), "{said}");
}

#[test]
fn errors_name_their_cause_once_and_reach_those_who_read_json() {
    let directory = directory();
    let nope = directory.path().join("nope");
    for args in [
        args!["sign", "--json", "--keys", nope, nope].to_vec(),
        args!["sign", "--json", "--key", nope, nope].to_vec(),
        args!["verify", "--json", "--cert", nope, nope].to_vec(),
    ] {
        let ran = run(args).exits(2);
        assert_eq!(ran.stderr.matches("No such file").count(), 1, "{}", ran.stderr);
        let lines = ran.json();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["type"], "error");
        assert!(lines[0]["error"].as_str().unwrap().contains("nope: No such file"));
    }
}

#[test]
fn firmware_is_known_by_where_it_stands() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("lib/firmware/deep/blob", b"blob"), ("lib/other/blob", b"blob")]);
    let signed = |from: &str, path: &str| {
        let mut command = imactl();
        command.current_dir(root.join(from));
        command.args(args!["sign", "-n", "--json", "--only", "executable", "--keys", keys, path]);
        finish(&mut command).exits(0).json().pop().unwrap()["signed"].clone()
    };
    assert_eq!(signed("lib/firmware/deep", "blob"), 1);
    assert_eq!(signed("lib/firmware", "."), 1);
    assert_eq!(signed("lib/other", "../firmware"), 1);
    assert_eq!(signed("lib/other", "."), 0);
}

#[test]
fn no_more_threads_are_started_than_are_of_use() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    run(args!["sign", "--detached", "-j", "1000000", "--keys", keys, file]).exits(0);
}

#[test]
fn hash_algorithms_that_older_kernels_do_not_know_are_told_once() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "rsa-2048"));
    write_tree(&root, &[("a", b"a"), ("b", b"b")]);
    for hash in ["sha3-256", "sha3-384", "sha3-512"] {
        let note = format!("note: {hash}: only Linux 6.7 and newer");
        for args in [
            args!["sign", "--detached", "--hash", hash, "--keys", keys, root].to_vec(),
            args!["sign", "--hash-only", "--detached", "--hash", hash, root].to_vec(),
        ] {
            let said = run(args).exits(0).stderr;
            assert_eq!(said.matches(&note).count(), 1, "{said}");
        }
    }
    for hash in ["sha256", "rmd160"] {
        let args = args!["sign", "--detached", "--hash", hash, "--keys", keys, root];
        assert_eq!(run(args).exits(0).stderr, "", "{hash}: every kernel knows it");
    }
}
