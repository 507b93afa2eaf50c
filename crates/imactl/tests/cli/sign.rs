//! Signing, verifying, inspecting and clearing trees, as a user would.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use crate::support::*;

const TREE: &[(&str, &[u8])] = &[
    ("bin/program", b"\x7fELF and so on"),
    ("bin/script", b"#!/bin/sh\n"),
    ("etc/hosts", b"127.0.0.1 localhost\n"),
    ("etc/ima/ima_policy.default", b"appraise func=BPRM_CHECK\n"),
    ("lib/firmware/blob.bin", b"blob"),
    ("lib/modules/a.ko.xz", b"\xfd7zXZ"),
    ("empty", b""),
];

#[test]
fn signs_a_tree_and_verifies_it() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    if !security_attributes(directory.path()) {
        return;
    }
    write_tree(&root, TREE);
    let signed = run(args!["sign", "--json", "--keys", keys, root]).exits(0);
    let summary = signed.json().pop().unwrap();
    assert_eq!((&summary["signed"], &summary["failed"]), (&7.into(), &0.into()));
    let verified = run(args!["verify", "--keys", keys, root]).exits(0);
    assert!(verified.stdout.ends_with("7 files valid\n"), "{}", verified.stdout);

    fs::write(root.join("bin/script"), b"#!/bin/sh\nrm -rf /\n").unwrap();
    fs::write(root.join("new"), b"new").unwrap();
    let verified = run(args!["verify", "--json", "--keys", keys, root]).exits(1);
    let verdict = |name: &str| verified.json_for(&root.join(name))["verdict"].clone();
    assert_eq!(verdict("bin/script"), "invalid-signature");
    assert_eq!(verdict("new"), "IMA-signature-required");
    assert_eq!(verdict("bin/program"), "valid");

    run(args!["clear", "--keys", keys, root]).exits(2); // no such option
    run(args!["clear", root]).exits(0);
    assert_eq!(security_ima(&root.join("bin/program")), None);
    run(args!["verify", "--keys", keys, root]).exits(1);
}

#[test]
fn the_verdict_tells_the_unknown_key_and_the_digest() {
    let directory = directory();
    let (ours, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    let theirs = store(directory.path(), "rsa-2048");
    fs::write(&file, b"content").unwrap();
    let sign = |extra: &[&str]| {
        let args = ["sign", "--xattr-namespace", "user"].iter().chain(extra).map(OsString::from);
        run(args.chain([file.clone().into()])).exits(0);
    };
    let verify = |extra: &[&str], code| {
        let args = ["verify", "--json", "--xattr-namespace", "user", "--keys"];
        let args = args.iter().map(OsString::from).chain([ours.clone().into()]);
        let args = args.chain(extra.iter().map(OsString::from)).chain([file.clone().into()]);
        run(args).exits(code).json_for(&file)
    };
    sign(&["--keys", theirs.to_str().unwrap()]);
    let line = verify(&[], 1);
    assert_eq!(line["verdict"], "invalid-signature");
    assert!(line["detail"].as_str().unwrap().starts_with("unknown key "), "{line}");

    sign(&["--hash-only"]);
    assert_eq!(verify(&[], 1)["verdict"], "IMA-signature-required");
    assert_eq!(verify(&["--require", "digest"], 0)["detail"], "sha256 digest matches");
    fs::write(&file, b"other").unwrap();
    assert_eq!(verify(&[], 1)["detail"], "a digest, which does not match");
    assert_eq!(verify(&["--require", "digest"], 1)["verdict"], "invalid-hash");
}

#[test]
fn a_selection_signs_what_it_names_and_nothing_else() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, TREE);
    let signed = |extra: &[&str]| {
        let args = ["sign", "-n", "--json", "--keys"].iter().map(OsString::from);
        let args = args.chain([keys.clone().into()]).chain(extra.iter().map(OsString::from));
        let mut names = Vec::new();
        for line in run(args.chain([root.clone().into()])).exits(0).json() {
            if line["type"] == "file" {
                assert_eq!(line["result"], "would-sign");
                let path = Path::new(line["path"].as_str().unwrap()).strip_prefix(&root);
                names.push(path.unwrap().to_str().unwrap().to_owned());
            }
        }
        names
    };
    let executable = [
        "bin/program",
        "bin/script",
        "etc/ima/ima_policy.default",
        "lib/firmware/blob.bin",
        "lib/modules/a.ko.xz",
    ];
    assert_eq!(signed(&["--only", "executable"]), executable);
    // a script without #!, which a shell reads after the kernel has appraised it
    let plain = root.join("bin/plain");
    fs::write(&plain, "echo\n").unwrap();
    assert_eq!(signed(&["--only", "executable"]), executable);
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(signed(&["--only", "executable"]).contains(&"bin/plain".to_owned()));
    let mut preflight = imactl();
    preflight.args(["preflight", "--json", "--no-init", "--all-root", "--policy"]);
    preflight.arg("default:appraise").arg("--keys").arg(&keys).arg(&root);
    let judged = finish(&mut preflight).exits(1).json_for("/bin/plain".as_ref());
    assert_eq!((&judged["use"], &judged["result"]), (&"program".into(), &"denied".into()));
    fs::remove_file(&plain).unwrap();
    assert_eq!(signed(&["--include", "bin/*"]), ["bin/program", "bin/script"]);
    assert_eq!(signed(&["--include", "*.ko.xz"]), ["lib/modules/a.ko.xz"]);
    assert_eq!(signed(&["--exclude", "etc", "--exclude", "lib/**"]).len(), 3);
    assert_eq!(signed(&["--include", "bin/*", "--exclude", "script"]), ["bin/program"]);
}

#[test]
fn links_pipes_and_sockets_are_left_alone() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("file", b"content"), ("outside/target", b"target")]);
    let tree = root.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::hard_link(root.join("file"), tree.join("a-name")).unwrap();
    fs::hard_link(root.join("file"), tree.join("b-name")).unwrap();
    symlink("../outside/target", tree.join("link")).unwrap();
    symlink("../outside", tree.join("link-to-directory")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    finish(std::process::Command::new("mkfifo").arg(tree.join("fifo"))).exits(0);
    let signed =
        run(args!["sign", "--json", "--xattr-namespace", "user", "--keys", keys, tree]).exits(0);
    let summary = signed.json().pop().unwrap();
    assert_eq!(summary["signed"], 1, "the file with several names, once: {}", signed.stdout);
    let both = run(args!["verify", "--xattr-namespace", "user", "--keys", keys, root.join("file")]);
    both.exits(0);

    for (name, reason) in [("link", "symbolic link"), ("fifo", "FIFO"), ("socket", "socket")] {
        let named = run(args!["sign", "--keys", keys, tree.join(name)]).exits(2);
        assert!(named.stderr.contains(reason), "{}", named.stderr);
    }
}

#[test]
fn changed_signs_only_what_needs_it() {
    let directory = directory();
    let root = directory.path().join("root");
    for key in ["rsa-2048", "p-256"] {
        let keys = store(directory.path(), key);
        write_tree(&root, TREE);
        let sign = |extra: &[&str]| {
            let args = ["sign", "--json", "--xattr-namespace", "user", "--changed", "--keys"];
            let args = args.iter().map(OsString::from).chain([keys.clone().into()]);
            let args = args.chain(extra.iter().map(OsString::from));
            let summary = run(args.chain([root.clone().into()])).exits(0).json().pop().unwrap();
            (summary["signed"].as_u64().unwrap(), summary["unchanged"].as_u64().unwrap())
        };
        assert_eq!(sign(&[]), (7, 0), "another key's, or none");
        assert_eq!(sign(&[]), (0, 7));
        fs::write(root.join("etc/hosts"), b"changed").unwrap();
        assert_eq!(sign(&["--dry-run"]), (1, 6));
        assert_eq!(sign(&[]), (1, 6));
        assert_eq!(sign(&["--hash", "sha512"]), (7, 0), "another hash");
        // a signature with wrong bytes after a valid header
        let path = root.join("bin/program");
        let mut value = attribute(&path, "user.ima").unwrap();
        *value.last_mut().unwrap() ^= 1;
        set_attribute(&path, "user.ima", &value);
        assert_eq!(sign(&["--hash", "sha512"]), (1, 6));
    }
}

#[test]
fn the_same_input_and_key_give_the_same_bytes() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, b"content").unwrap();
    for key in ["rsa-2048", "p-256", "p-384", "p-521"] {
        let keys = store(directory.path(), key);
        let sign = || {
            run(args!["sign", "--detached", "--keys", keys, file]).exits(0);
            fs::read(directory.path().join("file.sig")).unwrap()
        };
        assert_eq!(sign(), sign(), "{key}");
    }
}

#[test]
fn detached_signatures_stand_beside_their_files() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, TREE);
    for _ in 0..2 {
        let signed = run(args!["sign", "--json", "--detached", "--keys", keys, root]).exits(0);
        assert_eq!(signed.json().pop().unwrap()["signed"], 7, "signatures are not signed");
    }
    run(args!["verify", "--detached", "--keys", keys, root]).exits(0);
    let inspected = run(args!["inspect", "--detached", "--json", root.join("empty")]).exits(0);
    assert_eq!(inspected.json()[0]["attribute"], "EVM_IMA_XATTR_DIGSIG");
    fs::write(root.join("empty"), b"no longer").unwrap();
    run(args!["verify", "--detached", "--keys", keys, root]).exits(1);
    run(args!["clear", "--detached", root]).exits(0);
    assert!(!root.join("empty.sig").exists());
}

#[test]
fn one_bad_file_does_not_stop_the_rest() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("a", b"a"), ("z", b"z")]);
    let args = args![
        "sign",
        "--json",
        "--xattr-namespace",
        "user",
        "--keys",
        keys,
        root.join("missing"),
        root
    ];
    let signed = run(args).exits(2);
    let summary = signed.json().pop().unwrap();
    assert_eq!((&summary["signed"], &summary["failed"]), (&2.into(), &1.into()));
    assert!(signed.json_for(&root.join("missing"))["error"].as_str().unwrap().contains("No such"));
}

#[test]
fn a_file_system_without_the_attribute_is_told() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    // proc has regular files, but no attributes
    let signed = run(args!["sign", "--keys", keys, "/proc/version"]).exits(2);
    assert!(signed.stderr.contains("error: /proc/version: "), "{}", signed.stderr);
    assert!(signed.stderr.contains("hint: "), "{}", signed.stderr);
}

#[test]
fn no_permission_says_what_to_do() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    let Some(mut setpriv) = tool("setpriv") else { return };
    if !security_attributes(directory.path()) {
        return;
    }
    setpriv.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]);
    let command = imactl();
    setpriv.arg(command.get_program()).args(args!["sign", "--keys", keys, file]);
    let signed = finish(&mut setpriv).exits(2);
    assert!(signed.stderr.contains("no permission"), "{}", signed.stderr);
    assert!(signed.stderr.contains("hint: security.ima needs root"), "{}", signed.stderr);
}

#[test]
fn paths_come_from_a_list_too() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    write_tree(&root, &[("with space", b"1"), ("with\nnewline", b"2"), ("not listed", b"3")]);
    let mut command = imactl();
    command.args(args!["sign", "--json", "-n", "--keys", keys, "--files-from", "-", "-0"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let list = format!("{0}/with space\0{0}/with\nnewline\0", root.display());
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn weak_and_unverifiable_hashes_are_refused() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, b"content").unwrap();
    for (key, hash, reason) in [
        ("rsa-2048", "md5", "not collision resistant"),
        ("rsa-2048", "sm3", "no kernel verifies rsa-2048 signatures over sm3"),
        ("p-256", "streebog256", "no kernel verifies p-256 signatures over streebog256"),
        ("p-256", "sha0", "not a hash algorithm"),
    ] {
        let keys = directory.path().join(format!("keys-{key}"));
        if !keys.exists() {
            store(directory.path(), key);
        }
        let signed = run(args!["sign", "--keys", keys, "--hash", hash, file]).exits(2);
        assert!(signed.stderr.contains(reason), "{}", signed.stderr);
    }
    for hash in ["streebog256", "streebog512", "sm3", "rmd160"] {
        let args = args!["sign", "--hash-only", "--hash", hash, "--xattr-namespace", "user", file];
        run(args).exits(0);
        run(args!["inspect", "--xattr-namespace", "user", file]).exits(0);
    }
}

#[test]
fn malformed_attributes_are_told_with_the_offset() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    if !security_attributes(directory.path()) {
        return;
    }
    for (value, offset, cause) in [
        (&[3, 2, 4, 1, 2, 3, 4, 0, 9, 0][..], 7, "invalid-signature"),
        (&[3, 9, 4], 1, "invalid-signature-version"),
        (&[9], 0, "unknown-ima-data"),
        (&[4, 4, 1, 2], 2, "IMA-signature-required"),
    ] {
        set_security_ima(&file, value);
        let inspected = run(args!["inspect", "--json", file]).exits(1);
        assert_eq!(inspected.json()[0]["offset"], offset);
        let verified = run(args!["verify", "--json", "--keys", keys, file]).exits(1);
        assert_eq!(verified.json()[0]["verdict"], cause);
    }
}

#[test]
fn an_interrupted_run_is_finished_by_running_again() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "rsa-4096"));
    for number in 0..400 {
        let name = format!("{}/{number}", number % 10);
        write_tree(&root, &[(&name, name.as_bytes())]);
    }
    let options = args!["--xattr-namespace", "user", "--keys", keys, root];
    let mut child = imactl().arg("sign").args(&options).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let partial = run(["verify", "--json"].map(OsString::from).iter().chain(&options));
    for line in partial.json() {
        if line["type"] == "file" {
            let verdict = line["verdict"].as_str().unwrap();
            assert!(["valid", "IMA-signature-required"].contains(&verdict), "{line}");
        }
    }
    run(["sign", "--changed"].map(OsString::from).iter().chain(&options)).exits(0);
    run(["verify"].map(OsString::from).iter().chain(&options)).exits(0);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_signed() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    let mut content = fs::File::create(&file).unwrap();
    content.write_all(&vec![0; 192 << 20]).unwrap();
    let mut command = imactl();
    command.args(args!["sign", "--json", "--xattr-namespace", "user", "--keys", keys, file]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    // until the program ends, the file changes every millisecond
    let output = std::thread::scope(|scope| {
        let (sender, done) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let pause = std::time::Duration::from_millis(1);
            while done.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                content.write_all(b"more").unwrap();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(sender);
        output
    });
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{lines}");
    assert!(lines.contains("changed while it was read"), "{lines}");
    assert_eq!(attribute(&file, "user.ima"), None);
}

#[test]
fn names_that_are_not_text_are_signed_and_told() {
    use std::os::unix::ffi::OsStrExt;
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let file = directory.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    fs::write(&file, b"content").unwrap();
    let args = args!["sign", "--json", "--xattr-namespace", "user", "--keys", keys, file];
    let line = run(args).exits(0).json().remove(0);
    assert!(line["path_bytes"].as_str().unwrap().ends_with("fffe"), "{line}");
}

#[test]
fn an_unreadable_file_is_a_failure_with_its_reason() {
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let Some(mut setpriv) = tool("setpriv") else { return };
    if !security_attributes(directory.path()) {
        return;
    }
    let command = imactl();
    setpriv.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
    setpriv.arg(command.get_program()).args(args!["sign", "--keys", keys, file]);
    let signed = finish(&mut setpriv).exits(2);
    assert!(signed.stderr.contains("cannot open: Permission denied"), "{}", signed.stderr);
}

#[test]
fn signatures_in_a_cache_are_not_made_again() {
    let directory = directory();
    let keys = store(directory.path(), "rsa-2048");
    let cache = directory.path().join("cache");
    let make = |name: &str| {
        let root = directory.path().join(name);
        fs::create_dir(&root).unwrap();
        for number in 0..40 {
            fs::write(root.join(format!("{number:02}")), format!("content {number}")).unwrap();
        }
        root
    };
    let sign = |root: &Path| {
        let place = ["sign", "-v", "--detached"];
        let signed =
            run(args![place[0], place[1], place[2], "--keys", keys, "--cache", cache, root]);
        let root_only = run(args!["verify", "--detached", "--keys", keys, root]).exits(0);
        assert!(root_only.stdout.contains("40 files valid"), "{}", root_only.stdout);
        signed.exits(0).stdout
    };
    let (one, other) = (make("one"), make("other"));
    assert!(sign(&one).contains("\n0 signatures from the cache"));
    let again = sign(&other);
    // the 41st is the test signature that checks whether the key supports this hash
    assert!(again.contains("\n41 signatures from the cache"), "{again}");
    let signature = |root: &Path| fs::read(root.join("07.sig")).unwrap();
    assert_eq!(signature(&one), signature(&other));

    // another key
    let foreign = store(directory.path(), "rsa-4096");
    let command = args!["sign", "-v", "--detached", "--keys", foreign, "--cache", cache, other];
    let signed = run(command).exits(0);
    assert!(signed.stdout.contains("\n0 signatures from the cache"), "{}", signed.stdout);

    // a damaged cache: signatures are still right
    for entry in fs::read_dir(&cache).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().skip(70).for_each(|byte| *byte ^= 1);
        fs::write(path, bytes).unwrap();
    }
    assert!(sign(&make("third")).contains("\n0 signatures from the cache"));

    // several processes at the same time
    let roots: Vec<_> = (0..4).map(|number| make(&format!("root-{number}"))).collect();
    std::thread::scope(|scope| {
        roots.iter().for_each(|root| drop(scope.spawn(|| sign(root))));
    });
    assert!(sign(&make("last")).contains("\n41 signatures from the cache"));

    // the directory is a file
    let refused =
        run(args!["sign", "--keys", keys, "--cache", keys.join("ima_keys/x509_ima.key"), one]);
    assert!(refused.exits(2).stderr.contains("hint: give a directory that you own"));
}
