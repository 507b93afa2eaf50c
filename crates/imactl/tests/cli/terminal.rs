//! At a terminal: prompts and progress bars.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::pty::OnTerminal;
use crate::support::*;

/// A command line of the program under test.
fn command(args: impl IntoIterator<Item = OsString>) -> Command {
    let mut command = imactl();
    command.args(args);
    command
}

/// A store whose passphrase is `secret`.
fn encrypted_store(directory: &Path) -> PathBuf {
    let (store, secret) = (directory.join("store"), directory.join("secret"));
    fs::write(&secret, "secret\n").unwrap();
    run(args![
        "keys",
        "create",
        "--quiet",
        "--algorithm",
        "p-256",
        "--passphrase-file",
        secret,
        store
    ])
    .exits(0);
    store
}

#[test]
fn a_signal_at_a_prompt_leaves_a_terminal_that_echoes() {
    if tool("setsid").is_none() {
        return;
    }
    let directory = directory();
    let (store, file) = (encrypted_store(directory.path()), directory.path().join("file"));
    fs::write(&file, b"content").unwrap();
    let sign = command(args!["sign", "--detached", "--keys", store, file]);
    let create = command(args!["keys", "create", directory.path().join("new")]);
    for (command, prompt) in [(&sign, "Passphrase of "), (&create, "New passphrase ")] {
        for signal in ["-INT", "-TERM", "-HUP", "typed"] {
            let mut terminal = OnTerminal::run(command);
            terminal.waits_for(prompt);
            terminal.waits_for_echo(false);
            match signal {
                "typed" => terminal.types("\x03"),
                _ => {
                    // depending on the test runner, setsid is a group leader or not: the program is found by its open
                    // files
                    let pid = program_of(&terminal);
                    finish(Command::new("kill").args([signal, &pid])).exits(0);
                }
            }
            terminal.waits_for_echo(true);
            assert!(!terminal.ends().success());
        }
    }
}

/// The PID of imactl: that of setsid, or of its child.
fn program_of(terminal: &OnTerminal) -> String {
    let pid = terminal.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().map_or(pid.to_string(), str::to_owned)
}

#[test]
fn keys_are_opened_by_one_prompt() {
    if tool("setsid").is_none() {
        return;
    }
    let directory = directory();
    let store = encrypted_store(directory.path());
    let check = command(args!["keys", "check", store]);
    for (typed, success, said) in [
        ("secret\n", true, "nothing wrong"),
        ("wrong\n", false, "error[wrong-passphrase]"),
        ("\n", true, "note[not-opened]"),
    ] {
        let mut terminal = OnTerminal::run(&check);
        terminal.waits_for("Passphrase of the private keys");
        terminal.waits_for_echo(false);
        terminal.types(typed);
        assert_eq!(terminal.ends().success(), success, "{typed:?}: {}", terminal.shown());
        let shown = terminal.shown();
        // words have different colours
        assert!(shown.replace("\x1b[0m", "").contains(said), "{said}: {shown}");
        assert_eq!(shown.matches("Passphrase of").count(), 1, "{shown}");
    }
}

#[test]
fn one_large_file_moves_the_bar() {
    if tool("setsid").is_none() {
        return;
    }
    let directory = directory();
    let (keys, file) = (store(directory.path(), "p-256"), directory.path().join("file"));
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    let mut terminal =
        OnTerminal::run(&command(args!["sign", "--detached", "-j", "1", "--keys", keys, file]));
    assert!(terminal.ends().success());
    let shown = terminal.shown();
    let frames: Vec<&str> = shown.split('\r').filter(|frame| frame.contains("signing [")).collect();
    // a frame: signing [====>    ] 0/1 files, 403 MB of 1.07 GB, 1.1 GB/s, 1s left
    let filled = |frame: &&str| frame.matches('=').count();
    let partly = frames.iter().filter(|frame| (1..24).contains(&filled(frame))).count();
    assert!(partly > 1, "{frames:?}");
    let full = frames.iter().filter(|frame| filled(frame) >= 24 && frame.contains("0/1 files"));
    // all bytes may have been read shortly before the file is finished
    assert!(full.count() < frames.len(), "{frames:?}");
    assert!(!frames.iter().any(|frame| filled(frame) > 0 && frame.contains("0/0")), "{frames:?}");
    assert!(frames.iter().any(|frame| frame.contains("0/1 files") && frame.contains("s left")));
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    if tool("setsid").is_none() {
        return;
    }
    let mut terminal = OnTerminal::run(&command(args!["sign", "--hash-only", "-"]));
    terminal.waits_for("give -o FILE, or redirect standard output");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(2));
}

#[test]
fn long_lists_have_a_progress_bar() {
    if tool("setsid").is_none() {
        return;
    }
    let directory = directory();
    let (list, out) = (directory.path().join("list"), directory.path().join("out"));
    // violations of template ima-ng
    let sized = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let data = [sized(b"sha1:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), sized(b"/x\0")].concat();
    let record = [&10_u32.to_le_bytes()[..], &[0; 20], &sized(b"ima-ng"), &sized(&data)].concat();
    fs::write(&list, record.repeat(100_000)).unwrap();
    let verify = args!["log", "verify", "--no-pcrs", "--ignore-violations", list];
    let convert = args!["log", "convert", "--to", "cel-json", "-o", out, list];
    for (arguments, verb) in [(&verify[..], "verifying"), (&convert[..], "converting")] {
        let mut terminal = OnTerminal::run(&command(arguments.iter().cloned()));
        terminal.ends();
        let shown = terminal.shown();
        assert!(shown.contains(verb) && shown.contains(" lists, "), "{shown:?}");
        let ran = run(arguments);
        assert!(!(ran.stdout + &ran.stderr).contains(verb));
    }
}

#[test]
fn colors_are_for_terminals_and_can_be_refused() {
    if tool("setsid").is_none() {
        return;
    }
    let program = imactl().get_program().to_owned();
    for (value, is_colored) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let mut command = Command::new("env");
        command.arg(value).arg(&program).args(["log", "verify", "--no-pcrs", "/nowhere"]);
        let mut terminal = OnTerminal::run(&command);
        terminal.ends();
        let shown = terminal.shown();
        assert!(shown.contains("/nowhere"), "{shown:?}");
        assert_eq!(shown.contains("\x1b["), is_colored, "{value}: {shown:?}");
    }
}
