//! Lists, compared with manifests and with each other.

use super::*;

#[test]
fn entries_are_compared_with_a_manifest() {
    let directory = directory();
    let directory = directory.path();
    let root = directory.join("root");
    write_tree(&root, &[("bin/a", b"a"), ("bin/b c", b"b"), ("bin/never", b"")]);
    let manifest = directory.join("manifest");
    run(args!["manifest", "create", "-o", manifest, root]).exits(0);
    let mut entries = vec![
        file(USUAL.endian, "boot_aggregate", b"boot"),
        file(USUAL.endian, "/bin/a", b"a"),
        file(USUAL.endian, "/bin/b_c", b"b"),
        event(USUAL.endian, "kexec-cmdline", b"quiet"),
        file(USUAL.endian, "/var/log/x", b"").violation(),
    ];
    let check = |entries: &[Entry], code| {
        let list = write(directory, "list", &binary(USUAL, entries));
        run(args!["log", "check", "--json", "--manifest", manifest, list]).exits(code).json()
    };
    let lines = check(&entries, 0);
    let summary = of_type(&lines, "summary")[0];
    for (name, count) in [("files", 2), ("expected", 2), ("events", 2), ("violations", 1)] {
        assert_eq!(summary[name], count, "{name}");
    }
    assert_eq!(of_type(&lines, "never-seen")[0]["path"], "/bin/never");
    let sha1 = [&b"sha1:\0"[..], &hash(HashAlgorithm::Sha1, b"a")].concat();
    entries.extend([
        file(USUAL.endian, "/bin/a", b"changed"),
        file(USUAL.endian, "/tmp/x", b"x"),
        entry("ima-ng", fields(USUAL.endian, &[&sha1, b"/bin/a\0"])),
    ]);
    let lines = check(&entries, 1);
    let found: Vec<_> = of_type(&lines, "entry")
        .iter()
        .map(|line| (line["index"].as_u64().unwrap(), line["fit"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(5, "changed"), (6, "unexpected"), (7, "other-algorithm")]);
}

#[test]
fn two_lists_are_compared() {
    let directory = directory();
    let directory = directory.path();
    let entries = templates(USUAL.endian);
    let one = write(directory, "one", &binary(USUAL, &entries));
    let form = Form { endian: Endian::Big, bank: HashAlgorithm::Sha256 };
    // the same in another form and order
    let mut same = templates(Endian::Big);
    same.swap(2, 6);
    let other = write(directory, "other", &binary(form, &same));
    run(args!["log", "diff", one, other]).exits(0);
    same[0] = file(Endian::Big, "boot_aggregate", b"other firmware");
    same.remove(1);
    same.push(file(Endian::Big, "/new", b""));
    let other = write(directory, "other", &binary(form, &same));
    let lines = run(args!["log", "diff", "--json", one, other]).exits(1).json();
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line["path"].as_str().unwrap(), line["difference"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [("/an old name", "removed"), ("/new", "added"), ("boot_aggregate", "changed")]
    );
}

/// A file that the list has twice was used three times.
#[test]
fn a_file_that_is_changed_back_is_seen() {
    let directory = directory();
    let directory = directory.path();
    let entries = [
        file(USUAL.endian, "boot_aggregate", b"boot"),
        file(USUAL.endian, "/bin/a_b", b"x"),
        file(USUAL.endian, "/bin/c", b"c"),
        file(USUAL.endian, "/bin/a_b", b"y"),
    ];
    let list = write(directory, "list", &binary(USUAL, &entries));
    // as the kernel writes it (ima_audit_measurement): a name with a space is hexadecimal
    let record = |time: u32, file: &str, content: &[u8]| {
        let digest = ima_format::hex::Hex(&hash(HashAlgorithm::Sha256, content)).to_string();
        format!(
            "type=INTEGRITY_RULE msg=audit(170000000{time}.000:{time}): file={file} \
             hash=\"sha256:{digest}\" ppid=1 pid=2 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 \
             sgid=0 fsgid=0 tty=(none) ses=1 comm=\"sh\" exe=\"/bin/sh\"\n"
        )
    };
    let name = "2F62696E2F612062";
    let uses = [(1, b"x"), (2, b"x"), (3, b"y"), (4, b"x")];
    let log: String =
        uses.iter().map(|(time, content)| record(*time, name, &content[..])).collect();
    let log =
        log + "type=SYSCALL msg=audit(1.2:3): arch=c000003e\n" + &record(5, "\"/bin/z\"", b"z");
    let audit = write(directory, "audit.log", log.as_bytes());
    let lines = run(args!["log", "timeline", "--json", "--audit", audit, list]).exits(1).json();
    let found: Vec<_> = of_type(&lines, "event")
        .iter()
        .map(|line| {
            (line["event"].as_str().unwrap(), line["index"].as_u64(), line["time"].as_str())
        })
        .collect();
    let time = |time| Some(["1700000001.000", "1700000002.000", "1700000003.000"][time]);
    assert_eq!(
        found,
        [
            ("measured", Some(0), None),
            ("measured", Some(1), time(0)),
            ("again", Some(1), time(1)),
            ("measured", Some(2), None),
            ("measured", Some(3), time(2)),
            ("back", Some(1), Some("1700000004.000")),
            ("not-listed", None, Some("1700000005.000")),
        ]
    );
    // without the last use
    let log: String =
        uses[..3].iter().map(|(time, content)| record(*time, name, &content[..])).collect();
    let audit = write(directory, "audit.log", log.as_bytes());
    run(args!["log", "timeline", "--audit", audit, list]).exits(0);
    let audit = write(directory, "audit.log", b"type=INTEGRITY_RULE msg=audit(1.2:3): file=\"x\n");
    run(args!["log", "timeline", "--audit", audit, list]).exits(2);
}
