//! The page about measuring: its commands are run, with swtpm and generated lists in place of a machine, and must print
//! the output shown, except for numbers and names.

use std::fs;
use std::path::Path;
use std::process::Command;

use ima::HashAlgorithm;

use crate::log::generate::{binary, entry, event, fields, file, hash, Entry, USUAL};
use crate::log::quote::Tpm;
use crate::support::*;
use crate::transcript::{assert_fits, blocks};

const PAGE: &str = include_str!("../../../../docs/measurement.md");
/// Commands that need a kernel or a database; the lab runs `log keep`.
const ELSEWHERE: [&str; 4] =
    ["imactl status", "imactl log keep", "> /sys/kernel/security/ima/policy", "duckdb"];

/// A command of the page, and the output shown for it.
struct Shown {
    by_root: bool,
    command: String,
    output: String,
}

/// All commands of the page, in their order.
fn commands() -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for block in blocks(PAGE).into_iter().filter(|block| block.info == "console") {
        let mut continues = false;
        for line in block.text.lines() {
            let prompt = ["# ", "$ "].iter().find(|prompt| line.starts_with(**prompt));
            match (prompt, found.last_mut()) {
                (Some(prompt), _) if !continues => {
                    let (by_root, command) = (*prompt == "# ", format!("{}\n", &line[2..]));
                    found.push(Shown { by_root, command, output: String::new() });
                }
                (_, Some(last)) if continues => last.command += &format!("{line}\n"),
                (_, Some(last)) => last.output += &format!("{line}\n"),
                (_, None) => panic!("{line} is not a command"),
            }
            continues = line.ends_with('\\');
        }
    }
    found
}

/// The entries of a machine that ran a program of its root, and one that no package has.
fn entries() -> Vec<Entry> {
    let aggregate = hash(HashAlgorithm::Sha256, &[0; 10 * 32]);
    let aggregate = [&b"sha256:\0"[..], &aggregate].concat();
    vec![
        entry("ima-ng", fields(USUAL.endian, &[&aggregate, b"boot_aggregate\0"])),
        event(USUAL.endian, "kexec-cmdline", b"quiet"),
        file(USUAL.endian, "/usr/bin/bash", b"bash"),
        file(USUAL.endian, "/usr/bin/nc", b"nc"),
    ]
}

/// Makes the files that the commands read.
fn prepare(tpm: &Tpm) -> Option<()> {
    let place = tpm.path("");
    fs::rename(store(&place, "p-256"), place.join("keys")).unwrap();
    fs::copy(place.join("keys/ima_keys/x509_ima.der"), place.join("x509_ima.der")).unwrap();
    let shell =
        |command: &str| finish(Command::new("sh").args(["-ec", command]).current_dir(&place));
    tool("openssl")?;
    shell(
        "openssl x509 -inform DER -in x509_ima.der -out vendor.pem; \
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=release \
         -keyout release.key -out release.pem",
    )
    .exits(0);
    let root = place.join("root");
    write_tree(&root, &[("usr/bin/bash", b"bash"), ("usr/bin/ls", b"ls")]);
    tool("mke2fs")?;
    shell("mke2fs -q -F -t ext4 -d root root.ext4 8M; mkdir packages; touch audit.log").exits(0);
    // the firmware extended a PCR that boot_aggregate does not cover
    let bios = [&[16, 0, 0, 0, 8, 0, 0, 0][..], &[7; 20], &[0; 4]].concat();
    fs::write(place.join("bios"), bios).unwrap();
    let entries = entries();
    let here = place.join("here");
    fs::write(&here, binary(USUAL, &entries)).unwrap();
    tpm.measure(&entries);
    for boot in ["boot-00000001", "boot-00000002"] {
        let boot = place.join("log").join(boot);
        fs::create_dir_all(&boot).unwrap();
        fs::write(boot.join("00000001"), binary(USUAL, &entries[..2])).unwrap();
        fs::write(boot.join("00000002"), binary(USUAL, &entries[2..])).unwrap();
    }
    fs::write(place.join("empty"), b"").unwrap();
    Some(())
}

/// The command with this directory in place of the machine.
fn here(shown: &Shown) -> String {
    let mut command = shown
        .command
        .replace("/sys/kernel/security/ima/binary_runtime_measurements{_staged,}", "empty")
        .replace("/sys/kernel/security/ima/binary_runtime_measurements", "here")
        .replace("--pcrs /sys/class/tpm/tpm0", "--pcrs pcrs")
        .replace("/var/lib/imactl/log", "log")
        .replace("3f9a...c1", "3f9ac1");
    if command.starts_with("socat") {
        command = "cp here list".into();
    }
    // without a list these are about this machine
    for (about, options) in [
        ("imactl log show", ""),
        ("imactl log verify", " --pcrs pcrs"),
        ("imactl log check --manifest root.manifest", ""),
        ("imactl report", " --pcrs pcrs"),
    ] {
        if shown.by_root && command.starts_with(about) && !command.contains("/boot-") {
            let list = if about == "imactl report" { "--list here" } else { "here" };
            command = command.replace(about, &format!("{about}{options} {list}"));
        }
    }
    command
}

#[test]
fn the_page_about_measuring_shows_what_is_printed() {
    let Some(tpm) = Tpm::start() else { return };
    let Some(()) = prepare(&tpm) else { return };
    let place = tpm.path("");
    // before the first command that the page has it for
    finish(
        tpm.command("tpm2_pcrread")
            .arg("sha1:all+sha256:all")
            .stdout(fs::File::create(place.join("pcrs")).unwrap()),
    );
    let program = Path::new(env!("CARGO_BIN_EXE_imactl"));
    let mut path = program.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut ran = 0;
    for shown in commands() {
        if ELSEWHERE.iter().any(|word| shown.command.contains(word)) {
            continue;
        }
        let command = here(&shown);
        let mut shell = tpm.command("bash");
        let done = finish(shell.args(["-c", &command]).env("PATH", &path));
        // a finding is not a failure
        let is_run = matches!(done.code, Some(0 | 1)) && !done.stderr.contains("error:");
        assert!(is_run, "{command}{}{}", done.stderr, done.stdout);
        if command.starts_with("tpm2_") {
            finish(tpm.command("tpm2_flushcontext").arg("-t")).exits(0);
        }
        if !shown.output.is_empty() && !command.starts_with("imactl log show") {
            // paths of this directory, and the digest that the page abbreviates
            let nc = ima_format::hex::Hex(&hash(HashAlgorithm::Sha256, b"nc")).to_string();
            let log = place.canonicalize().unwrap().join("log").display().to_string();
            let output = shown.output.replace("/var/lib/imactl/log", &log);
            let output = output.replace("6b86...5b4b", &nc).replace("48,204", "48204");
            assert_fits(&(done.stdout + &done.stderr), &output, &command);
        }
        ran += 1;
    }
    assert!(ran >= 30, "the page has lost its commands: {ran}");
}
