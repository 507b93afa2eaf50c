//! Lists that differ from the PCRs: each cause, and the entry to look at.

use ima_format::measure::{Endian, Layout, Record, Step};

use super::*;

const LE: Endian = Endian::Little;

fn boot() -> Entry {
    file(LE, "boot_aggregate", b"boot")
}

fn usual() -> Vec<Entry> {
    let files = (0..30).map(|number| file(LE, &format!("/usr/bin/{number}"), &[number]));
    [boot()].into_iter().chain(files).collect()
}

/// The lines about the PCRs, SHA-1 first.
#[track_caller]
fn verdicts(list: &[u8], pcrs: &Pcrs, code: i32) -> Vec<Value> {
    let directory = directory();
    let list = write(directory.path(), "list", list);
    let pcrs = pcrs.write(&directory.path().join("pcrs"));
    let options = args!["log", "verify", "--ignore-violations", "--json", "--pcrs", pcrs, list];
    let lines = run(options).exits(code).json();
    of_type(&lines, "pcr").into_iter().cloned().collect()
}

/// Checks the explanation of SHA-1's PCR 10, or of the first PCR.
#[track_caller]
fn explained(list: &[u8], pcrs: &Pcrs, explanation: &str, proven: bool, first: Option<u64>) {
    let verdict = verdicts(list, pcrs, 1).remove(0);
    assert_eq!(verdict["explanation"], explanation, "{verdict}");
    assert_eq!(verdict["proven"], proven, "{verdict}");
    assert_eq!(verdict["first"].as_u64(), first, "{verdict}");
}

#[test]
fn a_newer_list_matches_up_to_an_entry() {
    let entries = usual();
    for verdict in verdicts(&binary(USUAL, &entries), &Pcrs::after(&entries[..20]), 0) {
        assert_eq!((&verdict["matched"], &verdict["unverified"]), (&20.into(), &11.into()));
    }
}

#[test]
fn padded_sha1_of_old_kernels_matches() {
    let mut entries = usual();
    entries[7].violation = true;
    let mut pcrs = Pcrs::after(&entries);
    for bank in [HashAlgorithm::Sha256, HashAlgorithm::Sha512] {
        pcrs.0.remove(&(bank, 10));
        for entry in &entries {
            let mut by = match entry.violation {
                true => vec![0xff; 20],
                false => entry.template_digest(HashAlgorithm::Sha1),
            };
            by.resize(bank.digest_size(), 0);
            pcrs.extend(bank, 10, &by);
        }
    }
    let verdicts = verdicts(&binary(USUAL, &entries), &pcrs, 0);
    let padded: Vec<_> =
        verdicts.iter().map(|line| line["padded_sha1"].as_bool().unwrap()).collect();
    assert_eq!(padded, [false, true, false, true]);
}

#[test]
fn a_changed_entry_is_named() {
    let entries = usual();
    let mut list = binary(USUAL, &entries);
    let size = binary(USUAL, &entries[..13]).len();
    // the changed byte is in the name of entry 12
    list[size - 3] ^= 1;
    let verdicts = verdicts(&list, &Pcrs::after(&entries), 1);
    for (verdict, proven) in verdicts.iter().zip([true, false, false, false]) {
        assert_eq!(verdict["explanation"], "changed-entry");
        assert_eq!((&verdict["first"], &verdict["proven"]), (&12.into(), &proven.into()));
    }
}

#[test]
fn the_other_byte_order_is_recognised() {
    let entries = templates(Endian::Big);
    let form = Form { endian: Endian::Big, bank: HashAlgorithm::Sha1 };
    let (list, mut rewritten) = (binary(form, &entries), Vec::new());
    let layout = Layout { endian: Endian::Big, digest_size: 20 };
    let mut rest = &list[..];
    while let Ok(Step::Record(record, size)) = layout.step(rest) {
        let data = record.data_in_other_order().unwrap();
        Record { data: &data, endian: LE, ..record }.encode_into(&mut rewritten);
        rest = &rest[size..];
    }
    let mut pcrs = Pcrs::after(&entries);
    pcrs.0.retain(|(bank, _), _| *bank == HashAlgorithm::Sha256);
    explained(&rewritten, &pcrs, "other-byte-order", true, None);
}

#[test]
fn what_was_booted_is_seen() {
    // a list of two boots with a reset between them
    let mut second = usual();
    second.insert(1, file(LE, "/init", b"init"));
    let both: Vec<_> = usual().into_iter().chain(second.clone()).collect();
    explained(&binary(USUAL, &both), &Pcrs::after(&second), "earlier-boot", true, Some(31));
    // the first entries are missing
    explained(&binary(USUAL, &second[2..]), &Pcrs::after(&second), "head-missing", false, Some(0));
    // the last entries are missing
    explained(&binary(USUAL, &second[..9]), &Pcrs::after(&second), "unknown", false, None);
    // entries made after the list was handed to the next kernel
    let lost = file(LE, "/sbin/kexec", b"");
    let load = event(LE, "kexec_load", b"kexec_segment_size=4096;");
    let all = [usual(), vec![load.clone(), lost.clone(), boot()]].concat();
    let left = [usual(), vec![load.clone(), boot()]].concat();
    explained(&binary(USUAL, &left), &Pcrs::after(&all), "lost-in-kexec", false, Some(32));
    let executed = event(LE, "kexec_execute", b"kexec_segment_size=4096;");
    let kept = [usual(), vec![load, executed, boot()]].concat();
    explained(&binary(USUAL, &kept), &Pcrs::after(&all), "unknown", false, None);
}

#[test]
fn the_value_of_another_pcr_is_recognised() {
    let mut entries = usual();
    let list = binary(USUAL, &entries);
    let eleven: Vec<_> = entries.iter().cloned().map(|entry| entry.in_pcr(11)).collect();
    // PCR 11 has the value that the list gives for PCR 10, which is unknown or different
    let mut pcrs = Pcrs::after(&eleven);
    explained(&list, &pcrs, "other-pcr", true, None);
    pcrs.extend(HashAlgorithm::Sha1, 10, &[1; 20]);
    explained(&list, &pcrs, "other-pcr", true, None);
    // the entries of two PCRs in one
    let pcrs = Pcrs::after(&entries);
    entries[4].pcr = 11;
    explained(&binary(USUAL, &entries), &pcrs, "all-pcrs", true, None);
    // the PCR is in the bank, but was never extended
    let mut fresh = Pcrs::default();
    fresh.0.insert((HashAlgorithm::Sha1, 10), vec![0; 20]);
    explained(&list, &fresh, "never-extended", false, None);
}

#[test]
fn a_single_edit_is_found() {
    let entries = usual();
    let pcrs = Pcrs::after(&entries);
    let mut edited = entries.clone();
    edited.insert(9, file(LE, "/usr/bin/alibi", b""));
    explained(&binary(USUAL, &edited), &pcrs, "added-entry", true, Some(9));
    let mut edited = entries.clone();
    edited.swap(20, 21);
    explained(&binary(USUAL, &edited), &pcrs, "swapped-entries", true, Some(20));
    let mut edited = entries.clone();
    edited[17].violation = true;
    explained(&binary(USUAL, &edited), &pcrs, "forged-violation", true, Some(17));
    edited.remove(4);
    explained(&binary(USUAL, &edited), &pcrs, "unknown", false, None);
}

#[test]
fn violations_extend_by_ones() {
    let mut entries = usual();
    entries[7].violation = true;
    let list = binary(USUAL, &entries);
    verdicts(&list, &Pcrs::after(&entries), 0);
    let mut zeros = Pcrs::default();
    for entry in &entries {
        let by = match entry.violation {
            true => vec![0; 20],
            false => entry.template_digest(HashAlgorithm::Sha1),
        };
        zeros.extend(HashAlgorithm::Sha1, 10, &by);
    }
    explained(&list, &zeros, "zero-violations", true, None);
}
