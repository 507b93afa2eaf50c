//! The firmware's event log: replayed, and compared with evmctl's result.

use super::*;

/// An event of a PCR in the format of TPM 1.2.
fn event_of(pcr: u32, event_type: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
    let size = (data.len() as u32).to_le_bytes();
    [&pcr.to_le_bytes()[..], &event_type.to_le_bytes(), digest, &size, data].concat()
}

/// A log of two banks in which TPM2_Startup came from locality 3.
fn agile(events: u32) -> Vec<u8> {
    let banks = [2, 0, 0, 0, 4, 0, 20, 0, 0xb, 0, 32, 0, 0];
    let id = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &banks].concat();
    let digests =
        |sha1: &[u8], sha256: &[u8]| [&[2, 0, 0, 0][..], &[4, 0], sha1, &[0xb, 0], sha256].concat();
    let mut log = event_of(0, 3, &[0; 20], &id);
    log.extend(event_of(0, 3, &digests(&[0; 20], &[0; 32]), b"StartupLocality\0\x03"));
    for number in 0..events {
        let data = number.to_le_bytes();
        let digest = |bank| hash(bank, &data);
        let digests = digests(&digest(HashAlgorithm::Sha1), &digest(HashAlgorithm::Sha256));
        log.extend(event_of(number % 9, 8, &digests, &data));
    }
    log
}

/// The values of the first PCRs after the log.
fn after(events: u32) -> Pcrs {
    let mut pcrs = Pcrs::default();
    for bank in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
        for pcr in 0..10 {
            let mut value = vec![0; bank.digest_size()];
            *value.last_mut().unwrap() = if pcr == 0 { 3 } else { 0 };
            pcrs.0.insert((bank, pcr), value);
        }
        (0..events)
            .for_each(|number| pcrs.extend(bank, number % 9, &hash(bank, &number.to_le_bytes())));
    }
    pcrs
}

fn list_of(bank: HashAlgorithm, pcrs: &Pcrs, count: u32) -> Vec<Entry> {
    let values: Vec<u8> = (0..count).flat_map(|pcr| pcrs.0[&(bank, pcr)].clone()).collect();
    let digest = [format!("{bank}:\0").as_bytes(), &hash(bank, &values)].concat();
    vec![entry("ima-ng", fields(USUAL.endian, &[&digest, b"boot_aggregate\0"]))]
}

#[test]
fn the_event_log_makes_the_boot_aggregate() {
    let directory = directory();
    let directory = directory.path();
    let log = write(directory, "log", &agile(40));
    for (bank, count) in [(HashAlgorithm::Sha1, 8), (HashAlgorithm::Sha256, 10)] {
        for (events, code) in [(40, 0), (39, 1)] {
            let list =
                write(directory, "list", &binary(USUAL, &list_of(bank, &after(events), count)));
            let options = args!["log", "verify", "--json", "--no-pcrs", "--event-log", log, list];
            let lines = run(options).exits(code).json();
            let aggregate = of_type(&lines, "boot-aggregate")[0];
            assert_eq!(
                (&aggregate["origin"], &aggregate["matches"]),
                (&"event-log".into(), &(code == 0).into())
            );
        }
    }
    // with PCR values, the log is compared with them
    let entries = list_of(HashAlgorithm::Sha256, &after(40), 10);
    let list = write(directory, "list", &binary(USUAL, &entries));
    let mut pcrs = after(40);
    pcrs.0.extend(Pcrs::after(&entries).0);
    pcrs.0.retain(|(bank, _), _| bank.digest_size() <= 32);
    let good = pcrs.write(&directory.join("good"));
    let options = args!["log", "verify", "--json", "--pcrs", good, "--event-log", log, list];
    let lines = run(options).exits(0).json();
    assert_eq!(of_type(&lines, "firmware-pcr").len(), 16);
    pcrs.extend(HashAlgorithm::Sha1, 4, &[1; 20]);
    let bad = pcrs.write(&directory.join("bad"));
    let options = args!["log", "verify", "--json", "--pcrs", bad, "--event-log", log, list];
    let lines = run(options).exits(1).json();
    let wrong =
        of_type(&lines, "firmware-pcr").into_iter().filter(|line| line["verdict"] != "match");
    let wrong: Vec<_> = wrong.map(|line| (line["bank"].as_str().unwrap(), &line["pcr"])).collect();
    assert_eq!(wrong, [("sha1", &4.into())]);
    // malformed
    let cut = write(directory, "cut", &agile(40)[..500]);
    let said = run(args!["log", "verify", "--no-pcrs", "--event-log", cut, list]).exits(2);
    assert!(said.stderr.contains("malformed event log: truncated"), "{}", said.stderr);
}

#[test]
fn evmctl_makes_the_same_boot_aggregate() {
    let Some(mut evmctl) = tool("evmctl") else { return };
    let directory = directory();
    let directory = directory.path();
    let events: Vec<_> = (0..20_u32)
        .map(|number| event_of(number % 8, 8, &hash(HashAlgorithm::Sha1, &[number as u8]), b"data"))
        .collect();
    let log = write(directory, "log", &events.concat());
    let said = finish(evmctl.arg("ima_boot_aggregate").arg(&log)).exits(0).stdout;
    let digest = said.trim().strip_prefix("sha1:").unwrap().as_bytes();
    let digest = [&b"sha1:\0"[..], &ima_format::hex::decode(digest).unwrap()].concat();
    let boot = entry("ima-ng", fields(USUAL.endian, &[&digest, b"boot_aggregate\0"]));
    let list = write(directory, "list", &binary(USUAL, &[boot]));
    run(args!["log", "verify", "--no-pcrs", "--event-log", log, list]).exits(0);
}
