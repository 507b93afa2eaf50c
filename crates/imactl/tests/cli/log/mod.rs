//! Generated measurement lists with every template, bank, byte order and fault, compared with evmctl if it can
//! read them.

mod check;
mod combined;
mod convert;
mod explained;
mod firmware;
pub(crate) mod generate;
mod linux_test_project;
mod parquet;
mod prune;
pub(crate) mod quote;
mod report;
pub(crate) mod signatures;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use ima::HashAlgorithm;
use ima_format::measure::Endian;
use serde_json::Value;

use crate::support::*;
use generate::*;

fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// The JSON lines of a type.
fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn every_template_bank_and_byte_order_replays() {
    let directory = directory();
    let directory = directory.path();
    for endian in [Endian::Little, Endian::Big] {
        let mut entries = templates(endian);
        entries.push(file(endian, "/var/log/x", b"").in_pcr(11));
        // ima_hash=md5, and a violation, which has more zeros
        entries.push(old(endian, &[0xab; 16], "/a"));
        entries.push(old(endian, &[0xab; 16], "/usr/bin/md5"));
        entries.push(old(endian, &[0; 20], "/var/log/z").violation());
        entries.push(file(endian, "/var/log/y", b""));
        let pcrs = Pcrs::after(&entries).write(&directory.join("pcrs"));
        for bank in BANKS {
            let form = Form { endian, bank };
            for list in [binary(form, &entries), ascii(form, &entries), kexec(form, &entries)] {
                let list = write(directory, "list", &list);
                let options =
                    args!["log", "verify", "--json", "--ignore-violations", "--pcrs", pcrs, list];
                let lines = run(options).exits(0).json();
                let verdicts = of_type(&lines, "pcr");
                assert_eq!(verdicts.len(), 2 * BANKS.len());
                assert!(verdicts.iter().all(|line| line["verdict"] == "match"), "{form:?}");
                assert!(verdicts.iter().all(|line| line["unverified"] == 0), "{form:?}");
                assert_eq!(of_type(&lines, "summary")[0]["entries"], entries.len());
            }
        }
    }
}

/// The value that `ima_tpm.sh` of the Linux Test Project takes: the last word of the last such line.
fn last_aggregate<'a>(run: &'a Run, bank: &str) -> &'a str {
    let is_wanted = |line: &&str| line.starts_with(&format!("{bank}: PCRAgg  10:"));
    let line = run.stderr.lines().rfind(is_wanted).unwrap_or_default();
    line.split(' ').next_back().unwrap_or_default()
}

#[test]
fn evmctl_agrees() {
    let Some(_) = tool("evmctl") else { return };
    let directory = directory();
    let directory = directory.path();
    // evmctl supports neither other byte orders, nor other banks, nor template `ima` next to others
    let entries: Vec<_> =
        templates(USUAL.endian).into_iter().filter(|entry| entry.template != "ima").collect();
    let list = write(directory, "list", &binary(USUAL, &entries));
    let newer = Pcrs::after(&entries[..entries.len() - 1]);
    let mut other = Pcrs::after(&entries);
    other.extend(HashAlgorithm::Sha1, 10, &[1; 20]);
    other.extend(HashAlgorithm::Sha256, 10, &[1; 32]);
    for (pcrs, code) in [(Pcrs::after(&entries), 0), (newer, 0), (other, 1)] {
        let banks = [HashAlgorithm::Sha1, HashAlgorithm::Sha256];
        let given = banks.map(|bank| pcrs.write_bank(bank, directory));
        let options = ["--pcrs", &given[0], "--pcrs", &given[1]];
        let mut evmctl = tool("evmctl").unwrap();
        let theirs = finish(evmctl.args(["ima_measurement", "-vv"]).args(options).arg(&list));
        assert_eq!(theirs.code == Some(0), code == 0, "evmctl");
        let [mut measurement, mut aggregate] =
            ["ima_measurement", "ima_boot_aggregate"].map(|command| {
                let mut ours = imactl();
                ours.args(["evmctl", command]).args(options);
                ours
            });
        let ours = finish(measurement.arg("-vv").arg(&list)).exits(code);
        let aggregates = ["sha1", "sha256"].map(|bank| last_aggregate(&ours, bank));
        assert_eq!(aggregates.map(str::len), [40, 64]);
        // evmctl's last line in a mismatch is of digests that SHA-1 pads
        if code == 0 {
            let theirs = ["sha1", "sha256"].map(|bank| last_aggregate(&theirs, bank));
            assert_eq!(aggregates, theirs);
        }
        let mut evmctl = tool("evmctl").unwrap();
        let theirs = finish(evmctl.arg("ima_boot_aggregate").args(options)).exits(0);
        assert_eq!(finish(&mut aggregate).exits(0).stdout, theirs.stdout);
        // PCRs 0 to 9 are zero and do not match this boot_aggregate, which evmctl does not verify
        let ours =
            run(args!["log", "verify", "--json", "--pcrs", given[0], "--pcrs", given[1], list]);
        let lines = ours.exits(1).json();
        let verdicts = of_type(&lines, "pcr");
        let expected = if code == 0 { "match" } else { "mismatch" };
        assert!(verdicts.iter().all(|line| line["verdict"] == expected), "{lines:?}");
    }
}

/// As evmctl: a violation is a failure, unless it is to be ignored.
#[test]
fn evmctl_measurement_fails_for_violations_and_changes() {
    let directory = directory();
    let directory = directory.path();
    let mut entries = templates(USUAL.endian);
    let pcrs = Pcrs::after(&entries).write_bank(HashAlgorithm::Sha256, directory);
    let list = write(directory, "list", &binary(USUAL, &entries));
    let measurement = |options: &[&str], list: &Path| {
        let mut ours = imactl();
        ours.args(["evmctl", "ima_measurement"]).args(options).arg(list);
        finish(&mut ours)
    };
    measurement(&["--pcrs", &pcrs], &list).exits(0);
    measurement(&["--pcrs", &pcrs, "--verify-bank", "sha256"], &list).exits(0);
    measurement(&["--pcrs", &pcrs, "--verify-bank", "sha1"], &list).exits(125);
    measurement(&["--hwtpm", "--verify-bank", "none"], &list).exits(125);
    let cut = write(directory, "cut", &binary(USUAL, &entries)[..700]);
    measurement(&["--pcrs", &pcrs], &cut).exits(1);
    entries.push(file(USUAL.endian, "/var/log/x", b"").violation());
    let pcrs = Pcrs::after(&entries).write_bank(HashAlgorithm::Sha256, directory);
    let list = write(directory, "list", &binary(USUAL, &entries));
    let said = measurement(&["--pcrs", &pcrs], &list).exits(1);
    assert!(said.stderr.contains("/var/log/x: violation"), "{}", said.stderr);
    assert!(said.stdout.contains("sha256: PCR 10: Matched per TPM bank"), "{}", said.stdout);
    measurement(&["--pcrs", &pcrs, "--ignore-violations"], &list).exits(0);
}

#[test]
fn segments_are_one_list() {
    let directory = directory();
    let directory = directory.path();
    let entries = templates(USUAL.endian);
    let pcrs = Pcrs::after(&entries).write(&directory.join("pcrs"));
    // in their own forms
    let ascii_form = Form { endian: USUAL.endian, bank: HashAlgorithm::Sha512 };
    let first = write(directory, "first", &kexec(USUAL, &entries[..4]));
    let second = write(directory, "second", &ascii(ascii_form, &entries[4..5]));
    let empty = write(directory, "empty", b"");
    let third = write(directory, "third", &binary(USUAL, &entries[5..]));
    run(args!["log", "verify", "--pcrs", pcrs, first, second, empty, third]).exits(0);
    let shown = run(args!["log", "show", "--json", first, second, empty, third]).exits(0);
    let indexes: Vec<_> = shown.json().iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..entries.len() as u64).collect::<Vec<_>>());
    let exchanged = run(args!["log", "verify", "--json", "--pcrs", pcrs, second, first, third]);
    let lines = exchanged.exits(1).json();
    assert_eq!(of_type(&lines, "pcr")[0]["explanation"], "head-missing");
}

#[test]
fn entries_are_shown_and_filtered() {
    let directory = directory();
    let directory = directory.path();
    let mut entries = templates(Endian::Big);
    entries.push(file(Endian::Big, "/etc/open", b"").violation());
    entries.push(file(Endian::Big, "boot_aggregate", b"again"));
    entries.push(file(Endian::Big, "/opt/new", b"").in_pcr(11));
    let form = Form { endian: Endian::Big, bank: HashAlgorithm::Sha256 };
    let list = write(directory, "list", &binary(form, &entries));
    let show = |options: &[&str]| {
        let mut command = imactl();
        command.args(["log", "show", "--json"]).args(options).arg(&list);
        let lines = finish(&mut command).exits(0).json();
        lines.iter().map(|line| line["index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(show(&["--violations"]), [10]);
    assert_eq!(show(&["--pcr", "11"]), [12]);
    assert_eq!(show(&["--template", "ima-buf", "--template", "d|n"]), [6, 9]);
    assert_eq!(show(&["--path", "/etc/**", "--path", "new"]), [10, 12]);
    assert_eq!(show(&["--current-boot"]), [11, 12]);
    assert_eq!(show(&["--unsigned", "--path", "/usr/**"]), [2, 4, 5]);

    let lines = run(args!["log", "show", "--json", list]).exits(0).json();
    assert_eq!(lines[2]["path_bytes"], "2f7573722f62696e2f6f6464ff0a6e616d65");
    assert_eq!((&lines[4]["digest_type"], &lines[4]["hash"]), (&"verity".into(), &"sha512".into()));
    assert_eq!(
        (&lines[6]["path"], &lines[6]["text"]),
        (&"kexec-cmdline".into(), &"quiet splash".into())
    );
    assert_eq!(lines[3]["signature"]["key_id"], "01020304");
    assert_eq!((&lines[8]["uid"], &lines[8]["mode"]), (&1000.into(), &"100755".into()));
    assert_eq!(lines[8]["xattr_names"], "security.ima|security.selinux");
    let text = run(args!["log", "show", "--verbose", list]).exits(0).stdout;
    assert_eq!(text.lines().count(), entries.len() + 1, "{text}");
    assert!(text.contains("/usr/bin/odd\\xff\\x0aname"), "{text}");
}

#[test]
fn malformed_lists_say_where_and_how_much_is_left() {
    let directory = directory();
    let directory = directory.path();
    let entries: Vec<_> =
        (0..20).map(|number| file(USUAL.endian, &format!("/file{number}"), b"")).collect();
    let sizes: Vec<_> =
        entries.iter().map(|entry| binary(USUAL, std::slice::from_ref(entry)).len()).collect();
    let at = |index: usize| sizes[..index].iter().sum::<usize>();
    let whole = binary(USUAL, &entries);
    let error = |list: &[u8]| {
        let list = write(directory, "list", list);
        let run = run(args!["log", "verify", "--json", "--no-pcrs", list]).exits(2);
        let shown = crate::support::run(args!["log", "show", "--json", list]).exits(2).json();
        let error = of_type(&run.json(), "error")[0].clone();
        assert_eq!(&error, of_type(&shown, "error")[0]);
        error
    };
    // a name of no known template
    let mut bad = whole.clone();
    bad[at(5) + 28] = b'x';
    let said = error(&bad);
    assert_eq!((&said["index"], &said["offset"]), (&5.into(), &(at(5) + 28).into()));
    assert_eq!(said["readable_records"], 14);
    assert_eq!(
        (&said["readable_from"], &said["rest_bytes"]),
        (&at(6).into(), &(whole.len() - at(5)).into())
    );
    // truncated within a record
    let said = error(&whole[..at(19) + 30]);
    assert_eq!((&said["index"], &said["offset"]), (&19.into(), &at(19).into()));
    assert_eq!((&said["readable_records"], &said["rest_bytes"]), (&0.into(), &30.into()));
    // fewer bytes than the kexec header states
    let cut = kexec(USUAL, &entries);
    let said = error(&cut[..24 + at(7)]);
    assert_eq!((&said["index"], &said["offset"]), (&7.into(), &(24 + at(7)).into()));
    // lines
    let mut lines = ascii(USUAL, &entries);
    let third = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0 + 1;
    lines[third + 4] = b'x';
    // text that does not begin a record belongs to the name before it, so the digests do not match
    let list = write(directory, "lines", &lines);
    let said = run(args!["log", "verify", "--json", "--no-pcrs", list]).exits(2).json();
    assert_eq!((&of_type(&said, "error")[0]["index"]), &2);
    // not a list
    let said = error(b"\x7fELF and so on, which is not a list of measurements at all");
    assert_eq!((&said["index"], &said["offset"]), (&0.into(), &0.into()));
}

#[test]
fn values_come_from_sysfs_and_make_the_boot_aggregate() {
    let directory = directory();
    let directory = directory.path();
    for (count, code) in [(10, 0), (8, 0), (9, 1)] {
        let bank = HashAlgorithm::Sha256;
        let values: Vec<_> = (0..24).map(|pcr| hash(bank, &[pcr])).collect();
        let aggregate = hash(bank, &values[..count].concat());
        let digest = [b"sha256:\0", &aggregate[..]].concat();
        let boot = entry("ima-ng", fields(USUAL.endian, &[&digest, b"boot_aggregate\0"]));
        let entries = [boot, file(USUAL.endian, "/init", b"init")];
        let tpm = directory.join(format!("tpm{count}"));
        let folder = tpm.join("pcr-sha256");
        fs::create_dir_all(&folder).unwrap();
        for (pcr, value) in values.iter().enumerate() {
            let value = if pcr == 10 { &Pcrs::after(&entries).0[&(bank, 10)] } else { value };
            fs::write(folder.join(pcr.to_string()), format!("{}\n", ima_format::hex::Hex(value)))
                .unwrap();
        }
        let list = write(directory, "list", &binary(USUAL, &entries));
        let run = run(args!["log", "verify", "--json", "--pcrs", tpm, list]).exits(code);
        let lines = run.json();
        assert_eq!(of_type(&lines, "boot-aggregate")[0]["matches"], code == 0);
        assert_eq!(of_type(&lines, "pcr")[0]["verdict"], "match");
    }
}

#[test]
fn nothing_compared_is_not_a_match() {
    let directory = directory();
    let directory = directory.path();
    let entries = templates(USUAL.endian);
    let list = write(directory, "list", &binary(USUAL, &entries));
    run(args!["log", "verify", list]).exits(2);
    run(args!["log", "verify", "--no-pcrs", list]).exits(0);
    let mut pcrs = Pcrs::after(&entries);
    pcrs.0.retain(|(bank, _), _| *bank == HashAlgorithm::Sha1);
    let pcrs = pcrs.write(&directory.join("pcrs"));
    run(args!["log", "verify", "--pcrs", pcrs, "--bank", "sha256", list]).exits(2);
    let empty = write(directory, "empty", b"");
    let said = run(args!["log", "verify", "--pcrs", pcrs, empty]).exits(1);
    assert!(said.stderr.contains("nothing was compared"), "{}", said.stderr);
}

#[test]
fn memory_does_not_grow_with_the_list() {
    let buffer = vec![b'x'; 20_000];
    let record = binary(USUAL, &[event(USUAL.endian, "policy", &buffer)]).repeat(50);
    let mut program = imactl();
    program.args(["log", "verify", "--no-pcrs", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || (0..300).for_each(|_| stdin.write_all(&record).unwrap()));
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_memory(child.id()).unwrap_or_default());
        thread::sleep(Duration::from_millis(2));
    }
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(peak > 0 && peak < 64 << 20, "{peak} bytes");
}
