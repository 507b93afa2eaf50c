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
