//! Segments are removed only if a quote of swtpm proves all their entries.

use super::quote::{Tpm, RESTRICTED};
use super::*;

/// A directory of segments: two of an earlier boot, with these entries, and one of the last boot.
fn segments(directory: &Path, entries: &[Entry]) -> PathBuf {
    let [earlier, last] = [1, 2].map(|number| directory.join(format!("boot-{number:08}")));
    for boot in [&earlier, &last] {
        fs::create_dir_all(boot).unwrap();
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    write(&earlier, "00000001", &binary(USUAL, first));
    write(&earlier, "00000002", &binary(USUAL, second));
    write(&last, "00000001", &binary(USUAL, first));
    earlier
}

#[test]
fn segments_go_when_a_quote_proves_them() {
    let Some(tpm) = Tpm::start() else { return };
    let directory = tpm.path("log");
    let program = |number| file(USUAL.endian, &format!("/usr/bin/{number}"), b"x");
    let all: Vec<_> = (0..7).map(program).collect();
    // entries of another PCR, a violation, and entries that were still in the kernel
    let mut all = [all, vec![file(USUAL.endian, "/x", b"x").in_pcr(11)]].concat();
    all.insert(2, file(USUAL.endian, "/var/log/x", b"").violation());
    let kept = &all[..6];
    let boot = segments(&directory, kept);
    let prune = |files: &[PathBuf; 3], options: &[&Path], boot: &Path, code: i32| {
        let ([message, signature, values], ak) = (files, tpm.path("ec.pem"));
        let mut command = imactl();
        command.args(args!["log", "prune", "--json", "--quote", message, "--signature", signature]);
        command.args(args!["--ak", ak, "--pcrs", values]).args(options).arg(boot);
        finish(&mut command).exits(code)
    };
    let nonce = [Path::new("--nonce"), Path::new("00c0ffee")];
    let refused = |files: &[PathBuf; 3], list: Option<&Path>, reason: &str| {
        let list = list.map(|list| [Path::new("--list"), list]);
        let options = [&nonce[..], list.as_ref().map_or(&[][..], |list| &list[..])].concat();
        let lines = prune(files, &options, &boot, 1).json();
        let line = of_type(&lines, "boot")[0];
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert_eq!(line["removed"], false);
        assert_eq!(names(&boot), ["00000001", "00000002"]);
    };
    tpm.create_key("ec", "ecc:ecdsa-sha256:null", RESTRICTED);
    tpm.measure(&all[..5]);
    let older = tpm.quote("ec", "ecdsa", "sha256:10,11");
    let list = write(tpm.path("").as_path(), "list", &binary(USUAL, &all));
    refused(&older, Some(&list), "proves 5 of 6 entries");
    tpm.measure(&all[5..]);
    let other = tpm.quote("ec", "ecdsa", "sha256:11");
    refused(&other, Some(&list), "the quote is not over PCR 10");

    let files = tpm.quote("ec", "ecdsa", "sha1:10+sha256:10,11");
    // the quote is newer than the segments
    refused(&files, None, "does not result in the quoted");
    // an entry that only the segments have, and a list that was changed
    let mut swapped = all.clone();
    swapped.swap(0, 1);
    segments(&directory, &swapped[..6]);
    refused(&files, Some(&list), "not the beginning of the list");
    segments(&directory, kept);
    let mut bytes = binary(USUAL, &all);
    bytes[60] ^= 1;
    let changed = write(tpm.path("").as_path(), "changed", &bytes);
    refused(&files, Some(&changed), "malformed or was changed");
    // an old quote proves nothing
    let list = [Path::new("--list"), &list];
    let lines = prune(&files, &list, &boot, 1).json();
    assert_eq!(of_type(&lines, "quote")[0]["faults"], serde_json::json!(["nonce"]));
    // the last boot, and a file that is not a segment
    let options = [&nonce[..], &list].concat();
    let said = prune(&files, &options, &directory.join("boot-00000002"), 2).stderr;
    assert!(said.contains("the segments of the last boot"), "{said}");
    let note = write(&boot, "note", b"evidence");
    let said = prune(&files, &options, &boot, 2).stderr;
    assert!(said.contains("note: not a segment"), "{said}");
    fs::remove_file(note).unwrap();

    let dry = [&options[..], &[Path::new("--dry-run")]].concat();
    assert_eq!(prune(&files, &dry, &boot, 0).json()[1]["entries"], 6);
    assert_eq!(names(&boot), ["00000001", "00000002"]);
    // an earlier run was interrupted
    fs::create_dir(directory.join("removed-00000000")).unwrap();
    assert_eq!(prune(&files, &options, &boot, 0).json()[1]["removed"], true);
    assert_eq!(names(&directory), ["boot-00000002"]);
}
