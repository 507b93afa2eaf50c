use std::vec;
use std::vec::Vec;

use super::*;
use crate::hash::HashAlgorithm;
use crate::ErrorKind;

/// Template data of these fields.
fn data(endian: Endian, fields: &[&[u8]]) -> Vec<u8> {
    let with_length = |field: &&[u8]| [&endian.bytes(field.len() as u32)[..], field].concat();
    fields.iter().flat_map(with_length).collect()
}

fn digest_ng(prefix: &[u8], size: usize) -> Vec<u8> {
    [prefix, &[0], &vec![0xab; size]].concat()
}

/// A record of each named template, and of one that is a list of fields.
fn records(endian: Endian, digest_size: usize) -> Vec<Vec<u8>> {
    let sha256 = digest_ng(b"sha256:", 32);
    let verity = digest_ng(b"verity:sha512:", 64);
    let mode = match endian {
        Endian::Little => 0o100755_u16.to_le_bytes(),
        Endian::Big => 0o100755_u16.to_be_bytes(),
    };
    let uid = endian.bytes(1000);
    let ima_name = b"a name with spaces";
    let ima = [&[0xcd; 20][..], &endian.bytes(ima_name.len() as u32), ima_name].concat();
    let name = b"/usr/bin/odd\xff\nname\0";
    let md5 = [&[0xcd; 16][..], &endian.bytes(2), b"/a"].concat();
    let templates: [(&[u8], Vec<u8>); 12] = [
        (b"ima-ng", data(endian, &[&sha256, name])),
        (b"ima", ima),
        (b"ima", [&[0; 20][..], &endian.bytes(4), b"/log"].concat()),
        (b"ima", md5),
        (b"ima-sig", data(endian, &[&sha256, name, &[3, 2, 4, 1, 2, 3, 4, 0, 1, 9]])),
        (b"ima-sig", data(endian, &[&sha256, name, b""])),
        (b"ima-ngv2", data(endian, &[&verity, name])),
        (b"ima-sigv2", data(endian, &[&verity, name, b""])),
        (b"ima-buf", data(endian, &[&sha256, b"kexec-cmdline\0", b"quiet splash"])),
        (
            b"ima-modsig",
            data(endian, &[&sha256, name, b"", &digest_ng(b"sha1:", 20), &[0x30, 0x82]]),
        ),
        (
            b"evm-sig",
            data(
                endian,
                &[
                    &sha256,
                    name,
                    &[5, 2, 4],
                    b"security.ima|security.selinux\0",
                    &endian.bytes(7),
                    b"\x04\x04abcde",
                    &uid,
                    &uid,
                    &mode,
                ],
            ),
        ),
        (b"d|n", data(endian, &[&[0xcd; 20], b"name\0"])),
    ];
    let encode = |(name, data): &(&[u8], Vec<u8>)| {
        let template = Template::of(name).unwrap();
        let digest = vec![7; digest_size];
        let mut bytes = Vec::new();
        let record = Record { pcr: 10, digest: &digest, template, data, data_offset: 0, endian };
        record.encode_into(&mut bytes);
        bytes
    };
    templates.iter().map(encode).collect()
}

#[test]
fn records_are_read_and_written_back_in_every_layout() {
    for endian in [Endian::Little, Endian::Big] {
        for digest_size in [20, 32, 48, 64] {
            let records = records(endian, digest_size);
            let list = records.concat();
            let layout = Layout::detect(&list).unwrap();
            assert_eq!(layout, Layout { endian, digest_size });
            let (mut rest, mut count) = (&list[..], 0);
            while !rest.is_empty() {
                let Step::Record(record, size) = layout.step(rest).unwrap() else { panic!() };
                assert_eq!(rest[..size], records[count]);
                let mut again = Vec::new();
                record.encode_into(&mut again);
                assert_eq!(again, records[count]);
                Entry::decode(&record).unwrap();
                (rest, count) = (&rest[size..], count + 1);
            }
            assert_eq!(count, records.len());
        }
    }
}

#[test]
fn ascii_lines_are_the_same_records() {
    for endian in [Endian::Little, Endian::Big] {
        let layout = Layout { endian, digest_size: 32 };
        records(endian, 32).iter().for_each(|bytes| reads_its_own_line(&layout, bytes));
    }
}

fn reads_its_own_line(layout: &Layout, bytes: &[u8]) {
    {
        let Step::Record(record, _) = layout.step(bytes).unwrap() else { panic!() };
        let mut line = Vec::new();
        record.print_into(&mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(AsciiRecord::begins(&line));
        let parsed = AsciiRecord::parse(&line, layout.endian).unwrap();
        assert_eq!(parsed.record().data, record.data, "{}", line.escape_ascii());
        assert_eq!(parsed.record().digest, record.digest);
    }
}

#[test]
fn every_cut_is_incomplete_and_says_how_much_is_needed() {
    let layout = Layout { endian: Endian::Big, digest_size: 20 };
    for bytes in records(layout.endian, 20) {
        for length in 0..bytes.len() {
            match layout.step(&bytes[..length]).unwrap() {
                // the digest of template `ima` is known with the length after it
                Step::Incomplete(needed) => {
                    assert!(length < needed && needed <= bytes.len().max(59));
                }
                Step::Record(..) => panic!("a record of {length} bytes"),
            }
        }
    }
}

#[test]
fn faults_are_found_where_they_are() {
    let layout = Layout { endian: Endian::Little, digest_size: 20 };
    let good = records(layout.endian, 20).remove(0);
    let cases: [(usize, &[u8], Fault, usize); 4] = [
        (0, &[64, 0, 0, 0], Fault::Pcr(64), 0),
        (24, &[0, 0, 0, 0], Fault::NameLength(0), 24),
        (28, b"ima-no", Fault::Template, 28),
        (34, &[0xff; 4], Fault::DataLength(u32::MAX), 34),
    ];
    for (offset, bytes, fault, at) in cases {
        let mut bad = good.clone();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        let error = layout.step(&bad).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Measure(fault), at));
    }
    assert_eq!(Layout::detect(&[0; 600]).unwrap_err().kind, ErrorKind::Measure(Fault::NotAList));
}

#[test]
fn fields_must_fill_the_data() {
    let template = Template::of(b"ima-ng").unwrap();
    let whole = data(Endian::Little, &[&digest_ng(b"sha256:", 32), b"name\0"]);
    let decode = |data: &[u8]| {
        let record = Record {
            pcr: 10,
            digest: &[1; 20],
            template,
            data,
            data_offset: 100,
            endian: Endian::Little,
        };
        Entry::decode(&record).map(drop).map_err(|error| (error.kind, error.offset))
    };
    assert_eq!(decode(&whole), Ok(()));
    let longer = [&whole[..], &[0]].concat();
    assert_eq!(decode(&longer), Err((Fault::TrailingData(1).into(), 100 + whole.len())));
    let fault = Fault::FieldLength { length: 5, left: 4 };
    assert_eq!(decode(&whole[..whole.len() - 1]), Err((fault.into(), 100 + 44)));
    let no_algorithm = data(Endian::Little, &[&digest_ng(b"sha256", 32), b"name\0"]);
    assert_eq!(decode(&no_algorithm), Err((Fault::DigestAlgorithm.into(), 104)));
    let inner_nul = data(Endian::Little, &[&digest_ng(b"sha256:", 32), b"na\0me\0"]);
    assert_eq!(decode(&inner_nul), Err((Fault::Name.into(), 148)));
}

#[test]
fn digests_say_what_they_are_of() {
    let layout = Layout { endian: Endian::Little, digest_size: 20 };
    let records = records(layout.endian, 20);
    let Step::Record(record, _) = layout.step(&records[6]).unwrap() else { panic!() };
    let digest = Entry::decode(&record).unwrap().digest.unwrap();
    assert_eq!(digest.digest_type, DigestType::Verity);
    assert_eq!(digest.algorithm, Some(HashAlgorithm::Sha512));
    let zeros = [0; 20];
    let violation = Record { digest: &zeros, ..record };
    assert!(violation.is_violation());
    assert_eq!(Entry::decode(&violation).unwrap().digest.unwrap().digest, None);
}

#[test]
fn kexec_headers_are_recognised_in_both_byte_orders() {
    let little = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &500_u64.to_le_bytes(), &3_u64.to_le_bytes()];
    let header = KexecHeader::read(&little.concat()).unwrap();
    assert_eq!(header, KexecHeader { endian: Endian::Little, buffer_size: 500, count: 3 });
    let big = [&[0, 1, 0, 0, 0, 0, 0, 0][..], &500_u64.to_be_bytes(), &3_u64.to_be_bytes()];
    assert_eq!(KexecHeader::read(&big.concat()).unwrap().endian, Endian::Big);
    for list in records(Endian::Little, 20) {
        assert_eq!(KexecHeader::read(&list), None);
    }
}
