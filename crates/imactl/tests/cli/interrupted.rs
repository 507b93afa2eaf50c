//! Interrupted and killed runs: the files that they leave, and how the next run treats them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

const FILES: usize = 400;

/// A tree that takes some time to sign with this store's key.
fn slow_tree(directory: &Path) -> (PathBuf, PathBuf) {
    let (root, keys) = (directory.join("root"), store(directory, "rsa-4096"));
    for number in 0..FILES {
        let name = format!("{}/{number}", number % 10);
        write_tree(&root, &[(&name, name.as_bytes())]);
    }
    (root, keys)
}

fn names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            names.extend(self::names(&entry.path()));
        }
    }
    names
}

fn temporaries(root: &Path) -> Vec<String> {
    names(root).into_iter().filter(|name| name.starts_with(".imactl-")).collect()
}

/// Whether a program has a file open below a directory, with or without a name.
fn writes_below(child: &Child, directory: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let mut paths = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    paths.any(|path| path.starts_with(directory))
}

/// Sends a signal, and checks that it ends the program.
#[track_caller]
fn end(mut child: Child, signal: libc::c_int) {
    // SAFETY: the child was not waited for, so its PID still belongs to it
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(signal) || status.success(), "{status}");
}

fn signatures(root: &Path) -> usize {
    names(root).iter().filter(|name| name.ends_with(".sig")).count()
}

#[test]
fn detached_signatures_are_whole_and_alone_after_any_signal() {
    let directory = directory();
    let (root, keys) = slow_tree(directory.path());
    let mut cut_short = 0;
    // the second round replaces the signatures of the first
    for round in 0..2 {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGKILL] {
            let before = signatures(&root);
            let mut sign = imactl();
            sign.args(args!["sign", "--detached", "--keys", keys, root]).stdout(Stdio::null());
            let child = sign.spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            while round == 0 && signatures(&root) == before && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(40));
            end(child, signal);
            cut_short += usize::from(signatures(&root) < FILES);
            if signal != libc::SIGKILL {
                assert_eq!(temporaries(&root), [""; 0], "signal {signal}");
            }
        }
        assert!(round == 1 || cut_short > 0, "every run was done before it could be cut short");
        run(args!["sign", "--detached", "--changed", "--keys", keys, root]).exits(0);
        assert_eq!(signatures(&root), FILES, "temporaries are not signed");
        remove_temporaries(&root);
        run(args!["verify", "--detached", "--keys", keys, root]).exits(0);
    }
}

fn remove_temporaries(root: &Path) {
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => remove_temporaries(&entry.path()),
            false if entry.file_name().to_string_lossy().starts_with(".imactl-") => {
                fs::remove_file(entry.path()).unwrap();
            }
            false => {}
        }
    }
}

#[test]
fn temporaries_that_were_left_are_not_signed_and_do_not_hide() {
    let directory = directory();
    let (root, keys) = (directory.path().join("root"), store(directory.path(), "p-256"));
    let files: &[(&str, &[u8])] = &[
        ("bin/program", b"content"),
        ("bin/.imactl-5uoi2M", b"half"),
        (".imactl-keys-5uoi2M/ima_keys/x509_ima.key", b"half"),
        // a user's file with a similar name
        ("bin/.imactl-notes", b"mine"),
    ];
    write_tree(&root, files);
    let signed = run(args!["sign", "--detached", "--keys", keys, root]).exits(0);
    assert!(signed.stdout.contains("signed 2 files"), "{}", signed.stdout);
    for left in [".imactl-5uoi2M", ".imactl-keys-5uoi2M"] {
        let said = format!("warning: {}", root.display());
        assert!(signed.stderr.contains(&said), "{}", signed.stderr);
        assert!(signed.stderr.contains(&format!("{left}: not signed")), "{}", signed.stderr);
    }
    // such a name does not hide a file from verification
    let verified = run(args!["verify", "--detached", "--keys", keys, root]).exits(1);
    assert!(verified.stdout.contains("2 files valid, 2 not valid"), "{}", verified.stdout);
    let inspected = run(args!["inspect", "--detached", "--json", root]).exits(0).json();
    assert_eq!(inspected.iter().filter(|line| line["type"] == "file").count(), 4);
    run(args!["clear", "--detached", root]).exits(0);
    // a file named on the command line is always processed
    let named = root.join("bin/.imactl-5uoi2M");
    run(args!["sign", "--detached", "--keys", keys, named]).exits(0);
    run(args!["verify", "--detached", "--keys", keys, named]).exits(0);
}

#[test]
fn an_archive_that_is_not_whole_leaves_nothing() {
    if !sees_descriptors() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let directory = directory();
        let keys = store(directory.path(), "p-256");
        let place = directory.path().join("place");
        fs::create_dir(&place).unwrap();
        let Some(mut tar) = tool("tar") else { return };
        write_tree(directory.path(), &[("large", &[b'!'; 8 << 20])]);
        tar.arg("-C").arg(directory.path()).args(["-cf", "-", "large"]);
        let content = tar.output().unwrap().stdout;
        let mut sign = imactl();
        sign.args(args!["sign", "--keys", keys, "-o", place.join("out.tar"), "-"]);
        let mut child = sign.stdin(Stdio::piped()).spawn().unwrap();
        // an archive whose end never arrives
        let mut archive = child.stdin.take().unwrap();
        archive.write_all(&content[..4 << 20]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !writes_below(&child, &place) {
            assert!(Instant::now() < deadline, "nothing was opened for the archive");
            std::thread::sleep(Duration::from_millis(2));
        }
        end(child, signal);
        assert_eq!(names(&place), [""; 0]);
        drop(archive);
    }
}

#[test]
fn a_store_that_is_not_made_leaves_no_keys() {
    let directory = directory();
    let mut made = 0;
    for round in 0..40_u64 {
        let place = directory.path().join(format!("place-{round}"));
        fs::create_dir(&place).unwrap();
        let mut create = imactl();
        create.args(args!["keys", "create", "--no-passphrase", "--algorithm", "p-256"]);
        let child = create.arg(place.join("store")).stdout(Stdio::null()).spawn().unwrap();
        // from before the first key until after the last file
        std::thread::sleep(Duration::from_millis(4 * round));
        end(child, if round % 2 == 0 { libc::SIGINT } else { libc::SIGTERM });
        let found = names(&place);
        match found.first().map(String::as_str) {
            None => {}
            Some("store") => {
                made += 1;
                assert_eq!(found.len(), 1 + 5 + 15, "{found:?}");
            }
            Some(other) => panic!("{other} was left"),
        }
    }
    println!("{made} of 40 stores were made");
}

#[test]
fn signals_that_are_ignored_stay_ignored() {
    let directory = directory();
    let (root, keys) = slow_tree(directory.path());
    let Some(mut shell) = tool("sh") else { return };
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(imactl().get_program());
    shell.args(args!["sign", "--detached", "--keys", keys, root]).stdout(Stdio::null());
    let mut child = shell.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    finish(Command::new("kill").args(["-HUP", &child.id().to_string()])).exits(0);
    assert!(child.wait().unwrap().success());
    assert_eq!(signatures(&root), FILES);
}

#[test]
fn a_store_that_is_being_made_has_no_named_key_before_it_is_whole() {
    let directory = directory();
    let mut killed_early = 0;
    for round in 0..60_u64 {
        let place = directory.path().join(format!("place-{round}"));
        fs::create_dir(&place).unwrap();
        let mut create = imactl();
        create.args(args!["keys", "create", "-q", "--no-passphrase", "--algorithm", "p-256"]);
        let mut child = create.arg(place.join("store")).stdout(Stdio::null()).spawn().unwrap();
        while names(&place).is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(50 * round));
        end(child, libc::SIGKILL);
        let found = names(&place);
        // the complete store, possibly not yet renamed, or nothing
        let keys = found.iter().filter(|name| name.ends_with(".key")).count();
        killed_early += usize::from(keys == 0 && !found.is_empty());
        assert!(keys == 0 || keys == 5 || found[0].starts_with(".imactl-keys-"), "{found:?}");
        if found.first().is_some_and(|name| name.starts_with(".imactl-keys-")) {
            let args = args!["keys", "create", "-q", "--no-passphrase", "--algorithm", "p-256"];
            let again = run(args.into_iter().chain([place.join("again").into()])).exits(0);
            assert!(again.stderr.contains("may hold private keys: remove it"), "{}", again.stderr);
        }
    }
    println!("{killed_early} of 60 were killed before a key had a name");
}

#[test]
fn secrets_stay_out_of_core_dumps_and_of_other_programs() {
    if !sees_descriptors() {
        return;
    }
    let directory = directory();
    let Some(mut shell) = tool("sh") else { return };
    let keys = directory.path().join("store");
    let secret = directory.path().join("secret");
    fs::write(&secret, "correct horse").unwrap();
    run(args!["keys", "create", "-q", "--algorithm", "p-256", "--passphrase-file", secret, keys])
        .exits(0);
    // waits for an archive, with the key in memory
    let script = "ulimit -c unlimited; exec \"$@\" 3<$SECRET_FILE";
    shell.args(["-c", script, "sh"]).arg(imactl().get_program());
    shell.args(args!["sign", "--keys", keys, "--passphrase-fd", "3", "-o", "-", "-"]);
    shell.env("SECRET_FILE", &secret).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let proc = |name: &str| format!("/proc/{}/{name}", child.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_limited = || {
        let limits = fs::read_to_string(proc("limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().nth(4) == Some("0")
    };
    // programs that it starts do not inherit the descriptor
    let is_closed_for_others = || {
        let found = fs::read_to_string(proc("fdinfo/3")).unwrap_or_default();
        let flags = found.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
        u32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_CLOEXEC as u32 != 0
    };
    while !(is_closed_for_others() && is_limited()) {
        assert!(Instant::now() < deadline, "{} {}", is_closed_for_others(), is_limited());
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the child was not waited for, so its PID still belongs to it
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGABRT) };
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGABRT), false));
}

#[test]
fn programs_that_are_started_do_not_have_the_passphrase() {
    let directory = directory();
    let (Some(_), Some(mut mke2fs)) = (tool("debugfs"), tool("mke2fs")) else { return };
    let (keys, root) = (directory.path().join("store"), directory.path().join("root"));
    let image = directory.path().join("i.img");
    write_tree(&root, &[("file", b"content")]);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-I", "512", "-d"]).arg(&root).arg(&image).arg("4M");
    finish(&mut mke2fs).exits(0);
    let mut create = imactl();
    create.args(args!["keys", "create", "-q", "--passphrase-env", "SECRET", keys]);
    finish(create.env("SECRET", "correct horse")).exits(0);
    // a debugfs that prints its environment
    let (bin, told) = (directory.path().join("bin"), directory.path().join("told"));
    let script = "#!/bin/sh\nenv >> $TOLD\nexec /sbin/debugfs \"$@\"\n";
    write_tree(&bin, &[("debugfs", script.as_bytes())]);
    fs::set_permissions(bin.join("debugfs"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut sign = imactl();
    sign.args(args!["sign", "--keys", keys, "--passphrase-env", "SECRET", image]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    sign.env("SECRET", "correct horse").env("TOLD", &told).env("PATH", path);
    finish(&mut sign).exits(0);
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("TOLD=") && !told.contains("correct horse"), "{told}");
}
