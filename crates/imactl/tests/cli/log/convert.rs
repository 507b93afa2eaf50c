//! Lists in other forms: converting back gives the same list, and other programs read the same entries.

use std::process::Command;

use super::*;

const FORMS: [&str; 5] = ["binary", "ascii", "cel-tlv", "cel-cbor", "cel-json"];

fn convert(list: &Path, form: &str, to: &Path) {
    run(args!["log", "convert", "--to", form, "-o", to, list]).exits(0);
}

#[test]
fn every_form_comes_back_the_same_and_replays() {
    let directory = directory();
    let directory = directory.path();
    for endian in [Endian::Little, Endian::Big] {
        let mut entries = templates(endian);
        entries.push(file(endian, "/var/log/x", b"").in_pcr(11));
        entries.push(file(endian, "/var/log/y", b"").violation());
        entries.push(old(endian, &[0xab; 16], "/usr/bin/md5"));
        let pcrs = Pcrs::after(&entries).write(&directory.join("pcrs"));
        for bank in BANKS {
            let form = Form { endian, bank };
            let list = write(directory, "list", &binary(form, &entries));
            for other in FORMS {
                let (there, back) = (directory.join("there"), directory.join("back"));
                convert(&list, other, &there);
                convert(&there, "binary", &back);
                assert!(fs::read(&back).unwrap() == fs::read(&list).unwrap(), "{other} {form:?}");
                let options = args!["log", "verify", "--ignore-violations", "--pcrs", pcrs, there];
                run(options).exits(0);
            }
            let there = directory.join("ascii");
            convert(&list, "ascii", &there);
            assert_eq!(fs::read(&there).unwrap(), ascii(form, &entries));
        }
    }
}

#[test]
fn digests_of_other_banks_are_computed() {
    let directory = directory();
    let directory = directory.path();
    let mut entries = templates(USUAL.endian);
    entries.push(file(USUAL.endian, "/var/log/y", b"").violation());
    let list = write(directory, "list", &binary(USUAL, &entries));
    let other = directory.join("other");
    run(args!["log", "convert", "--to", "binary", "--bank", "sha512", "-o", other, list]).exits(0);
    let form = Form { bank: HashAlgorithm::Sha512, ..USUAL };
    assert_eq!(fs::read(&other).unwrap(), binary(form, &entries));
    // a list has only one bank
    let two = args!["log", "convert", "--to", "binary", "--bank", "sha1", "--bank", "sha256", list];
    assert!(run(two).exits(2).stderr.contains("hint: give --bank once"));
    // a changed entry must not get new digests that match it
    let mut changed = binary(USUAL, &entries);
    let first = binary(USUAL, &entries[..1]).len();
    changed[first - 3] ^= 1;
    let list = write(directory, "list", &changed);
    let said = run(args!["log", "convert", "--to", "cel-tlv", "--bank", "sha256", list]).exits(2);
    assert!(said.stderr.contains("entry 0 was changed"), "{}", said.stderr);
    let before = fs::read(&other).unwrap();
    let cut = write(directory, "cut", &binary(USUAL, &entries)[..100]);
    run(args!["log", "convert", "--to", "ascii", "-o", other, cut]).exits(2);
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn malformed_logs_say_where() {
    let directory = directory();
    let directory = directory.path();
    let entries = templates(USUAL.endian);
    let list = write(directory, "list", &binary(USUAL, &entries));
    let log = directory.join("log");
    for form in ["cel-tlv", "cel-cbor", "cel-json"] {
        convert(&list, form, &log);
        let whole = fs::read(&log).unwrap();
        let cut = write(directory, "cut", &whole[..whole.len() - 3]);
        let run = run(args!["log", "verify", "--json", "--no-pcrs", cut]).exits(2);
        let error = of_type(&run.json(), "error")[0].clone();
        // of JSON, only the end of the array is missing
        let missing = if form == "cel-json" { 0 } else { 1 };
        assert_eq!(error["index"], entries.len() - missing, "{form} {error}");
        assert!(error["offset"].as_u64().unwrap() <= whole.len() as u64);
    }
    convert(&list, "cel-json", &log);
    let other = fs::read_to_string(&log).unwrap().replacen("ima_template", "ima_tlv", 1);
    let log = write(directory, "log", other.as_bytes());
    let said = run(args!["log", "show", log]).exits(2).stderr;
    assert!(said.contains("CEL: expected content_type"), "{said}");
}

#[test]
fn events_of_the_firmware_and_of_systemd_are_counted() {
    let directory = directory();
    let directory = directory.path();
    let entries = templates(USUAL.endian);
    let list = write(directory, "list", &binary(USUAL, &entries));
    let pcrs = Pcrs::after(&entries).write(&directory.join("pcrs"));
    let log = directory.join("log");
    run(args!["log", "convert", "--to", "cel-json", "-o", log, list]).exits(0);
    let text = fs::read_to_string(&log).unwrap();
    let event = |pcr: u32| {
        format!(
            "{{\"pcr\":{pcr},\"recnum\":0,\"digests\":[],\"content_type\":\"systemd\",\
             \"content\":{{\"string\":\"a\\\"b\"}}}},\n"
        )
    };
    // more entries than are read at once
    let mixed = text.replacen('[', &format!("[{}", event(11).repeat(20_000)), 1);
    let mixed = write(directory, "mixed", mixed.as_bytes());
    let ran = run(args!["log", "verify", "--pcrs", pcrs, mixed]).exits(0);
    assert!(ran.stderr.contains("20,000 events of the firmware"), "{}", ran.stderr);
    let shown = run(args!["log", "show", "--json", mixed]).exits(0).json();
    let plain = run(args!["log", "show", "--json", log]).exits(0).json();
    assert_eq!(shown.len(), plain.len());
    // a foreign entry in PCR 10: no replay can match
    let shared = text.replacen('[', &format!("[{}", event(10)), 1);
    let shared = write(directory, "shared", shared.as_bytes());
    let said = run(args!["log", "verify", "--pcrs", pcrs, shared]).exits(2).stderr;
    assert!(said.contains("other events extend PCR 10"), "{said}");
}

/// Python's json and cbor2 parse the digests, and hashlib extends by them.
#[test]
fn other_decoders_replay_the_same() {
    // the Python package for this form
    let python = || Command::new("/usr/bin/python3");
    let found = Path::new("/usr/bin/python3").exists()
        && finish(python().args(["-c", "import cbor2"])).code == Some(0);
    if !found {
        return missing("python3-cbor2 is not installed");
    }
    const REPLAY: &str = r#"
import cbor2, hashlib, json, sys
names = {4: "sha1", 11: "sha256"}
with open(sys.argv[1], "rb") as file:
    if sys.argv[1].endswith("json"):
        log = [(r["pcr"], {d["hashAlg"]: bytes.fromhex(d["digest"]) for d in r["digests"]},
                r["content"]["template_name"], bytes.fromhex(r["content"]["template_data"]))
               for r in json.load(file)]
    else:
        log = [(r[1], {names[d[0]]: d[1] for d in r[3]}, r[10][0], r[10][1])
               for r in cbor2.load(file)]
values = {}
for pcr, digests, name, data in log:
    for bank, digest in digests.items():
        computed = hashlib.new(bank, data).digest()
        assert name == "ima" or digest in (computed, bytes([255] * len(digest)))
        old = values.get((bank, pcr), bytes(len(digest)))
        values[bank, pcr] = hashlib.new(bank, old + digest).digest()
for (bank, pcr), value in sorted(values.items()):
    print(bank, pcr, value.hex())
"#;
    let directory = directory();
    let directory = directory.path();
    let mut entries = templates(USUAL.endian);
    entries.push(file(USUAL.endian, "/var/log/x", b"").in_pcr(11));
    entries.push(file(USUAL.endian, "/var/log/y", b"").violation());
    let list = write(directory, "list", &binary(USUAL, &entries));
    let pcrs = Pcrs::after(&entries);
    let expected: String = [(HashAlgorithm::Sha1, 10), (HashAlgorithm::Sha1, 11)]
        .into_iter()
        .chain([(HashAlgorithm::Sha256, 10), (HashAlgorithm::Sha256, 11)])
        .map(|(bank, pcr)| {
            format!("{bank} {pcr} {}\n", ima_format::hex::Hex(&pcrs.0[&(bank, pcr)]))
        })
        .collect();
    for form in ["cel-json", "cel-cbor"] {
        let log = directory.join(format!("log.{}", &form[4..]));
        let banks = ["--bank", "sha1", "--bank", "sha256"];
        let mut command = imactl();
        command.args(["log", "convert", "--to", form]).args(banks).arg("-o").arg(&log).arg(&list);
        finish(&mut command).exits(0);
        let said = finish(python().args(["-c", REPLAY]).arg(&log)).exits(0).stdout;
        assert_eq!(said, expected, "{form}");
    }
}
