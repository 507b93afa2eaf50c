use std::string::String;
use std::vec;

use super::*;
use crate::hex;

const ENCODINGS: [CelEncoding; 3] = [CelEncoding::Tlv, CelEncoding::Cbor, CelEncoding::Json];

fn record(number: u64) -> CelRecord {
    let digest = |algorithm, byte| Digest::new(algorithm, &[byte; 64][..algorithm.digest_size()]);
    CelRecord {
        number,
        pcr: 10,
        digests: vec![
            digest(HashAlgorithm::Sha1, 1).unwrap(),
            digest(HashAlgorithm::Sha256, 2).unwrap(),
        ],
        name: b"ima-ng".to_vec(),
        data: vec![9; 300],
    }
}

fn log(encoding: CelEncoding, records: &[CelRecord]) -> Vec<u8> {
    let mut log = Vec::new();
    encoding.start_into(records.len() as u64, &mut log);
    for (position, record) in records.iter().enumerate() {
        record.encode_into(encoding, position == 0, &mut log);
    }
    encoding.end_into(&mut log);
    log
}

/// Reads a log that is complete.
fn read(encoding: CelEncoding, mut log: &[u8]) -> Result<Vec<CelRecord>, Error> {
    let (mut reader, mut records) = (CelReader::new(encoding), Vec::new());
    while !log.is_empty() {
        let size = match reader.step(log, true)? {
            CelStep::Record(record, size) => {
                records.push(record);
                size
            }
            CelStep::Between(size) | CelStep::Other(_, size) => size,
            CelStep::Incomplete(needed) => {
                let available = log.len();
                return Err(Error::new(ErrorKind::Truncated { needed, available }, 0));
            }
        };
        log = &log[size..];
    }
    match reader.may_end() {
        true => Ok(records),
        false => Err(Error::new(ErrorKind::Truncated { needed: 1, available: 0 }, 0)),
    }
}

#[test]
fn records_are_read_back_and_no_cut_goes_unseen() {
    let records: Vec<_> = (0..3).map(record).collect();
    for encoding in ENCODINGS {
        let log = log(encoding, &records);
        assert_eq!(CelEncoding::detect(&log), Some(encoding));
        assert_eq!(read(encoding, &log).unwrap(), records);
        for length in 1..log.len() {
            let read = read(encoding, &log[..length]);
            match encoding {
                // a log that is cut between records is a shorter log
                CelEncoding::Tlv => assert!(read.map_or(true, |read| read.len() < 3)),
                // only the newline at the end can be missing
                _ => assert_eq!(read.is_ok(), log[length..] == *b"\n", "{encoding:?} {length}"),
            }
        }
        let empty = self::log(encoding, &[]);
        assert_eq!(read(encoding, &empty).unwrap(), []);
    }
}

/// Numbers of any length (other programs write them with 4 or 8 bytes), in the order of the specification.
#[test]
fn tlv_of_other_programs_is_read() {
    let text =
        "00000000080000000000000005 0100000004 0000000a 0300000019 0400000014".replace(' ', "");
    let content = "0700000011 0000000006 696d612d6e67 0100000001 09".replace(' ', "");
    let bytes = hex::decode((text + &"01".repeat(20) + &content).as_bytes()).unwrap();
    let read = read(CelEncoding::Tlv, &bytes).unwrap();
    assert_eq!((read[0].number, read[0].pcr, &read[0].data[..]), (5, 10, &[9][..]));
    assert_eq!(read[0].digests[0].as_bytes(), [1; 20]);
}

#[test]
fn sequences_of_json_and_cbor_are_read() {
    let records: Vec<_> = (0..3).map(record).collect();
    let mut text = String::from("\u{1e}").into_bytes();
    let mut sequence = Vec::new();
    for record in &records {
        json::encode_into(record, &mut text);
        text.extend_from_slice(b"\n\x1e");
        cbor::encode_into(record, &mut sequence);
    }
    assert_eq!(read(CelEncoding::Json, &text).unwrap(), records);
    assert_eq!(read(CelEncoding::Cbor, &sequence).unwrap(), records);
    let indefinite = [&[0x9f][..], &sequence, &[0xff]].concat();
    assert_eq!(read(CelEncoding::Cbor, &indefinite).unwrap(), records);
    let text = String::from_utf8(log(CelEncoding::Json, &records)).unwrap();
    let spaced = text.replace(':', " : ").replace(',', "\n,\t");
    assert_eq!(read(CelEncoding::Json, spaced.as_bytes()).unwrap(), records);
    let escaped = text.replace("ima-ng", "ima-\\u006eg");
    assert_eq!(read(CelEncoding::Json, escaped.as_bytes()).unwrap(), records);
}

#[test]
fn other_content_is_an_error() {
    let mut tlv = log(CelEncoding::Tlv, &[record(0)]);
    let at = tlv.windows(5).position(|window| window == [7, 0, 0, 1, 0x3c]).unwrap();
    tlv[at] = 8;
    let error = read(CelEncoding::Tlv, &tlv).unwrap_err();
    assert_eq!((error.kind, error.offset), (Fault::CelContent(8).into(), at));
    let json = String::from_utf8(log(CelEncoding::Json, &[record(0)])).unwrap();
    for (from, to) in [
        ("ima_template", "ima_tlv"),
        ("\"pcr\"", "\"nv_index\""),
        ("ima-ng", "ima-none"),
        ("\"pcr\":10", "\"pcr\":10,\"pcr\":11"),
        ("0909", "09g9"),
        ("0101", "01"),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        assert!(read(CelEncoding::Json, changed.as_bytes()).is_err(), "{from} {to}");
    }
    let deep = "{\"a\":".repeat(100) + "1" + &"}".repeat(100);
    assert!(read(CelEncoding::Json, deep.as_bytes()).is_err());
}

/// Events of the firmware and of systemd in each encoding, as the specification and systemd write them.
#[test]
fn records_that_are_not_of_ima_are_left_out() {
    let own = [record(0), record(1)];
    let json = br#"{"pcr":4,"recnum":0,"digests":[{"hashAlg":"sha256","digest":"00"}],
        "content_type":"pcclient_std","content":{"event_type":"EV_SEPARATOR","n":-1.5,"list":[null,true]}}"#;
    let nv = br#"{"nv_index":30474688,"digests":[],"content_type":"systemd","content":{"string":"a\"b"}}"#;
    // a map with an array, a text, a tag and a number in it
    let content = [0xa2, 0, 0x82, 0x61, b'x', 0xc1, 0x1a, 0, 0, 0, 9, 1, 0x44, 1, 2, 3, 4];
    let cbor = [&[0xa5, 0, 0, 1, 4, 3, 0x80, 9, 5, 10][..], &content].concat();
    let nv_cbor = [&[0xa5, 0, 0, 2, 0x1a, 1, 0xd1, 2, 0, 3, 0x80, 9, 9, 10][..], &content].concat();
    let tlv = [&[0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0xff, 0xff][..]]
        .concat();
    let nv_tlv =
        [&[0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 4, 1, 0xd1, 2, 0, 3, 0, 0, 0, 0, 9, 0, 0, 0, 0][..]]
            .concat();
    let others = [(&json[..], &nv[..]), (&cbor, &nv_cbor), (&tlv, &nv_tlv)];
    let encodings = [CelEncoding::Json, CelEncoding::Cbor, CelEncoding::Tlv];
    for (encoding, (in_pcr, in_nv)) in encodings.into_iter().zip(others) {
        for (other, pcr, content) in [(in_pcr, Some(4), 5), (in_nv, None, 9)] {
            let mut log = Vec::new();
            for record in &own {
                log.extend_from_slice(other);
                record.encode_into(encoding, true, &mut log);
            }
            log.extend_from_slice(other);
            assert_eq!(read(encoding, &log).unwrap(), own, "{encoding:?}");
            let mut reader = CelReader::new(encoding);
            let step = loop {
                match reader.step(&log, true).unwrap() {
                    CelStep::Between(size) => drop(log.drain(..size)),
                    step => break step,
                }
            };
            assert_eq!(
                step,
                CelStep::Other(CelOther { pcr, content }, other.len()),
                "{encoding:?}"
            );
            // a part of a record is not a record
            let cut = &other[..other.len() - 1];
            let step = CelReader { encoding, log: Log::Sequence }.step(cut, false).unwrap();
            assert!(matches!(step, CelStep::Incomplete(_)), "{encoding:?} {step:?}");
        }
    }
    let deep = [&[0xa5, 0, 0, 1, 4, 3, 0x80, 9, 5, 10][..], &[0x81; 100]].concat();
    assert!(read(CelEncoding::Cbor, &deep).is_err());
}

#[test]
fn a_violation_has_ones() {
    let ones = Digest::new(HashAlgorithm::Sha1, &[0xff; 20]).unwrap();
    let violation = CelRecord { digests: vec![ones], ..record(0) };
    let listed = violation.listed(HashAlgorithm::Sha1).unwrap();
    assert_eq!(listed.as_bytes(), [0; 20]);
    let listed = violation.record(&listed).unwrap();
    assert_eq!(extension(&listed, HashAlgorithm::Sha1, &ones), Some(ones));
    assert_eq!(record(0).listed(HashAlgorithm::Sha512), None);
}
