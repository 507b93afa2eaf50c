//! Tar archives need a bounded amount of memory and time, whatever sizes they claim.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::support::*;
use crate::tar::{pack, sign};

/// Runs imactl on GNU tar's archive of a tree with a file of this size; returns the peak memory, and the
/// number of bytes written.
fn run_on_stream(
    directory: &Path,
    size: u64,
    options: &[&str],
    args: &[OsString],
) -> Option<(u64, u64)> {
    let root = directory.join("root");
    write_tree(&root, &[("a", b"a"), ("huge", b""), ("z", b"z")]);
    File::options().write(true).open(root.join("huge")).unwrap().set_len(size).unwrap();
    let mut tar = tool("tar")?;
    tar.args(options).arg("-C").arg(&root).args(["-cf", "-", "."]).stdout(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    let mut program = imactl();
    program.args(args).stdin(tar.stdout.take().unwrap());
    program.env("TMPDIR", directory).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = program.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = thread::spawn(move || io::copy(&mut stdout, &mut io::sink()).unwrap());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_memory(child.id()).unwrap_or_default());
        thread::sleep(Duration::from_millis(2));
    }
    assert!(tar.wait().unwrap().success());
    Some((peak, reader.join().unwrap()))
}

#[test]
fn memory_does_not_grow_with_a_member() {
    const HUGE: u64 = 300 << 20;
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    for (options, args, passes) in [
        (&[][..], args!["sign", "--keys", keys, "-", "-o", "-"].to_vec(), true),
        (&["-S"], args!["sign", "--keys", keys, "-", "-o", "-"].to_vec(), false),
        (&[], args!["clear", "-", "-o", "-"].to_vec(), true),
        (&[], args!["verify", "--keys", keys, "-"].to_vec(), false),
    ] {
        let run = run_on_stream(directory.path(), HUGE, options, &args);
        let Some((peak, written)) = run else { return };
        assert_eq!(written > HUGE, passes, "{args:?} {options:?}");
        assert!(peak > 0 && peak < 64 << 20, "{args:?} {options:?}: {} MiB", peak >> 20);
    }
}

/// A header with a valid checksum, and the data after it.
fn member(typeflag: u8, name: &str, body: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..124].copy_from_slice(b"0000644\x000000000\x000000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
    header[136..148].copy_from_slice(b"14000000000\0");
    header[156] = typeflag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = [&header[..], body].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn memory_does_not_grow_with_extended_headers_and_threads() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let records = member(b'x', "records", &b"5 a=\n".repeat(199_000));
    let name = member(b'L', "name", &[b"n/".repeat(500), b"n".to_vec()].concat());
    let sparse: String = ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=200000"]
        .map(|text| format!("{} {text}\n", text.len() + 4))
        .concat();
    let map: String = (0..200_000).map(|offset| format!("{offset}\n0\n")).collect();
    let mut map = format!("200001\n{map}200000\n0\n").into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    let cases = [
        [records, name, member(b'0', "file", b"content")].concat(),
        [member(b'x', "records", sparse.as_bytes()), member(b'0', "sparse", &map)].concat(),
    ];
    for (one, args) in [
        (&cases[0], args!["sign", "--keys", keys, "-", "-o", "-", "-j", "32"].to_vec()),
        (&cases[0], args!["verify", "--keys", keys, "-", "-j", "32"].to_vec()),
        (&cases[1], args!["sign", "--keys", keys, "-", "-o", "-", "-j", "32"].to_vec()),
    ] {
        let mut program = imactl();
        program.args(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = program.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut peak = 0;
        for _ in 0..30 {
            stdin.write_all(one).unwrap();
            peak = peak.max(peak_memory(child.id()).unwrap());
        }
        drop(stdin);
        child.wait().unwrap();
        assert!(peak > 0 && peak < 96 << 20, "{args:?}: {} MiB", peak >> 20);
    }
}

#[test]
fn zeros_of_sparse_files_are_read_within_bounds() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    for name in ["a", "b"] {
        let sparse = File::create(root.join(name)).unwrap();
        sparse.set_len(10 << 30).unwrap();
    }
    let archive = directory.path().join("archive.tar");
    let Some(()) = pack(&root, &archive, &["-S", "--format=pax"]) else { return };
    let signed = directory.path().join("signed.tar");
    let refused =
        sign(&keys, &archive, &signed, &["--exclude", "a", "--max-sparse", "9G"]).exits(2);
    assert!(
        refused
            .stdout
            .contains("./b: sparse file has 10737418240 bytes of holes; 9663676416 remain"),
        "{refused:?}"
    );
    assert!(refused.stdout.contains("\"hint\":\"--max-sparse"), "{}", refused.stdout);
    assert!(!signed.exists());
    // data that is not read does not count
    let options = ["--exclude", "?", "--max-sparse", "1k"];
    sign(&keys, &archive, &signed, &options).exits(0);
    run(args!["clear", archive]).exits(0);
}
