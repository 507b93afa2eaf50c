//! Lists as tables, read with Apache Arrow's own library.

use std::process::Command;

use super::signatures::{record, signed};
use super::*;

/// The rows of a file as JSON lines, and the number of rows in each row group.
fn read(file: &Path) -> Option<(Vec<Value>, String)> {
    const READ: &str = r#"
import json, sys
import pyarrow.parquet as parquet
file = parquet.ParquetFile(sys.argv[1])
metadata = file.metadata
print(*(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
table = file.read()
table.validate(full=True)
assert str(table.schema.field("index").type) == "int64" and metadata.num_rows == table.num_rows
for row in table.to_pylist():
    row["path_bytes"] = row["path_bytes"] and row["path_bytes"].hex()
    print(json.dumps(row))
"#;
    let mut python = Command::new(python_with("pyarrow")?);
    let printed = finish(python.args(["-c", READ]).arg(file)).exits(0).stdout;
    let (groups, rows) = printed.split_once('\n').unwrap();
    let rows = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    Some((rows, groups.to_owned()))
}

#[test]
fn rows_have_what_show_prints_of_every_template() {
    let directory = directory();
    let directory = directory.path();
    for endian in [Endian::Little, Endian::Big] {
        let mut entries = templates(endian);
        entries.push(file(endian, "/var/log/x", b"").in_pcr(11));
        entries.push(file(endian, "/var/log/y", b"").violation());
        let list = write(directory, "list", &binary(Form { endian, ..USUAL }, &entries));
        let table = directory.join("table");
        let options =
            args!["log", "convert", "--to", "parquet", "--machine", "m", "-o", table, list];
        run(options).exits(0);
        let Some((rows, _)) = read(&table) else { return };
        let shown = run(args!["log", "show", "--json", list]).exits(0).json();
        assert_eq!((rows.len(), shown.len()), (entries.len(), entries.len()));
        for (row, entry) in rows.iter().zip(&shown) {
            for name in ["type", "index", "pcr", "template", "path", "path_bytes", "violation"] {
                assert_eq!(row[name], entry[name], "{name} of {entry}");
            }
            assert_eq!(row["digest"], entry["digest"]);
            let verity = entry["digest_type"] == "verity";
            let prefix = if verity { "verity:" } else { "" };
            let algorithm = entry["hash"].as_str().map(|hash| format!("{prefix}{hash}"));
            assert_eq!(row["algorithm"], Value::from(algorithm));
            let key_id = |name: &str| entry[name]["key_id"].clone();
            let key_ids = [key_id("signature"), key_id("evm_signature")];
            let key_id = key_ids.into_iter().find(|it| !it.is_null()).unwrap_or_default();
            assert_eq!(row["key_id"], key_id);
            assert_eq!((&row["machine"], &row["boot"]), (&"m".into(), &Value::Null));
        }
    }
}

#[test]
fn verdicts_are_those_of_verify_and_check() {
    let directory = directory();
    let directory = directory.path();
    let (keys, others) = (store(directory, "rsa-2048"), store(directory, "p-256"));
    let Some(good) = signed(directory, &keys, b"good") else { return };
    let unknown = signed(directory, &others, b"good").unwrap();
    let root = directory.join("root");
    write_tree(&root, &[("good", b"good"), ("changed", b"before")]);
    let manifest = directory.join("manifest");
    run(args!["manifest", "create", "-o", manifest, root]).exits(0);
    let entries = [
        file(USUAL.endian, "boot_aggregate", b""),
        record("/good", b"good", &good),
        record("/changed", b"other", &good),
        record("/unknown", b"good", &unknown),
        record("/unsigned", b"good", b""),
        record("/good", b"good", &good),
    ];
    let mut list = binary(USUAL, &entries);
    // the template digest of the last row
    let last = binary(USUAL, &entries[..5]).len();
    list[last + 4] ^= 1;
    let list = write(directory, "list", &list);
    let table = directory.join("table");
    let mut command = imactl();
    command.args(["log", "convert", "--to", "parquet", "--boot", "b", "--keys"]).arg(keys);
    command.arg("--manifest").arg(manifest).arg("-o").arg(&table).arg(list);
    finish(&mut command).exits(0);
    let Some((rows, _)) = read(&table) else { return };
    let verdicts: Vec<_> = rows.iter().map(|row| (&row["verdict"], &row["fit"])).collect();
    let expected = [
        (Value::Null, Value::Null),
        ("valid-signature".into(), "expected".into()),
        ("invalid-signature".into(), "changed".into()),
        ("unknown-key".into(), "unexpected".into()),
        ("unsigned".into(), "unexpected".into()),
        ("template-digest".into(), "expected".into()),
    ];
    assert_eq!(verdicts, expected.iter().map(|(one, two)| (one, two)).collect::<Vec<_>>());
    let has_error: Vec<_> = rows.iter().map(|row| !row["error"].is_null()).collect();
    assert_eq!(has_error, [false, false, true, true, false, true]);
}

#[test]
fn a_long_list_has_row_groups_and_a_cut_one_a_row_for_the_error() {
    let directory = directory();
    let directory = directory.path();
    const ENTRIES: usize = 70_000;
    let entry = |number| file(USUAL.endian, &format!("/usr/lib/{number}"), b"");
    let entries: Vec<_> = (0..ENTRIES).map(entry).collect();
    let mut list = binary(USUAL, &entries);
    list.truncate(list.len() - 3);
    let (list, table) = (write(directory, "list", &list), directory.join("table"));
    let said = run(args!["log", "convert", "--to", "parquet", "-o", table, list]).exits(2);
    assert!(said.stderr.contains("record 69999 is malformed"), "{}", said.stderr);
    let Some((rows, groups)) = read(&table) else { return };
    assert!(groups.contains(' '), "row groups of {groups} rows");
    assert_eq!(rows.len(), ENTRIES);
    let (last, entries) = rows.split_last().unwrap();
    for (number, row) in entries.iter().enumerate() {
        assert_eq!(row["path"], format!("/usr/lib/{number}"));
    }
    assert_eq!((&last["type"], &last["index"]), (&"error".into(), &(ENTRIES - 1).into()));
    assert!(last["error"].as_str().unwrap().contains("is malformed at offset"), "{last}");
}

#[test]
fn options_of_tables_do_not_apply_to_other_forms() {
    for option in [["--machine", "m"], ["--boot", "b"], ["--manifest", "m"], ["--keys", "k"]] {
        let mut command = imactl();
        command.args(["log", "convert", "--to", "ascii"]).args(option).arg("/dev/null");
        let said = finish(&mut command).exits(2).stderr;
        assert!(said.contains(&format!("{} applies only to Parquet", option[0])), "{said}");
    }
    let parquet = args!["log", "convert", "--to", "parquet", "--bank", "sha1", "/dev/null"];
    assert!(run(parquet).exits(2).stderr.contains("no template digests"));
}
