use ima_format::measure::Template;

use super::super::source::Reading;
use super::*;

/// A list with this number of records.
fn list(count: usize, endian: Endian) -> Vec<Vec<u8>> {
    let record = |number: usize| {
        let name = format!("/file/{number}\0");
        let digest = [b"sha1:\0", &[number as u8; 20][..]].concat();
        let field = |bytes: &[u8]| [&endian.bytes(bytes.len() as u32)[..], bytes].concat();
        let data = [field(&digest), field(name.as_bytes())].concat();
        let template = Template::of(b"ima-ng").unwrap();
        let digest = [9; 20];
        let record =
            Record { pcr: 10, digest: &digest, template, data: &data, data_offset: 0, endian };
        let mut bytes = Vec::new();
        record.encode_into(&mut bytes);
        bytes
    };
    (0..count).map(record).collect()
}

/// Reads a list: returns its records in binary form, and the error at its end.
fn read(content: &[u8]) -> (Vec<Vec<u8>>, Option<Malformed>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let mut reader = ListReader::new([Source::open(file.path(), Reading::Once).unwrap()]);
    let (mut batch, mut records) = (Batch::default(), Vec::new());
    loop {
        match reader.next(&mut batch) {
            Ok(()) if batch.is_empty() => return (records, None),
            Ok(()) => {}
            Err(ListError::Malformed(malformed)) => return (records, Some(*malformed)),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(batch.items().count(), batch.len());
        for item in batch.items() {
            assert_eq!(item.index, records.len() as u64);
            let mut bytes = Vec::new();
            item.record.encode_into(&mut bytes);
            let start = item.offset as usize;
            assert_eq!(content[start..start + bytes.len()], bytes);
            records.push(bytes);
        }
    }
}

#[test]
fn records_reach_over_the_ends_of_chunks() {
    let records = list(20_000, Endian::Big);
    let content = records.concat();
    assert!(content.len() > 3 * CHUNK);
    assert_eq!(read(&content), (records, None));
}

#[test]
fn a_cut_list_is_read_up_to_its_last_whole_record() {
    let records = list(4, Endian::Little);
    let content = records.concat();
    let mut ends = vec![0];
    records.iter().for_each(|record| ends.push(ends.last().unwrap() + record.len()));
    for length in 0..content.len() {
        let (read, fault) = read(&content[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        // less than a record's head is not a list
        assert_eq!(read, records[..whole], "{length}");
        assert_eq!(fault.is_none(), ends.contains(&length), "{length}");
        if let Some(fault) = fault {
            assert_eq!(fault.rest.bytes, (length - ends[whole]) as u64);
            assert_eq!((fault.index, fault.rest.records), (whole as u64, 0));
        }
    }
}

#[test]
fn a_changed_byte_is_seen_or_is_in_a_record() {
    let records = list(4, Endian::Little);
    let content = records.concat();
    for at in 0..content.len() {
        let mut changed = content.clone();
        changed[at] ^= 0x41;
        let (read, fault) = read(&changed);
        match fault {
            // no record is lost without an error
            None => assert_eq!(read.concat(), changed, "{at}"),
            Some(fault) => {
                let before = read.concat().len() as u64;
                assert_eq!(fault.rest.bytes, content.len() as u64 - before, "{at}");
                assert!(fault.offset >= before && fault.rest.readable <= fault.rest.bytes);
            }
        }
    }
}

/// Text without a record took the square of its length.
#[test]
fn long_text_after_an_error_is_searched_once() {
    let record = "10 0707070707070707070707070707070707070707 ima-ng sha1:zz /x\n";
    for junk in ["sha256:\n  0 : 0x0B\n", "x", "10 07 ima-ng\n", record] {
        let content = record.to_owned() + &junk.repeat((4 << 20) / junk.len());
        let start = std::time::Instant::now();
        let (_, fault) = read(content.as_bytes());
        assert_eq!(fault.unwrap().index, 0);
        // a minute and more before
        assert!(start.elapsed().as_secs() < 30, "{junk}: {:?}", start.elapsed());
    }
}

/// A small generator (SplitMix64), so that each run tries the same inputs.
fn random(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
}

/// The fuzzer's seeds of every form, changed and repeated until they reach over the ends of chunks: a list is read to its
/// end, or up to an error that says where it is and what is left.
#[test]
fn lists_of_every_form_are_read_to_the_end_or_to_an_error() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let mut paths: Vec<_> = ["measure", "cel"]
        .iter()
        .flat_map(|name| std::fs::read_dir(seeds.join(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let (mut state, mut read, mut faults) = (1, 0, 0);
    for path in &paths {
        let seed = std::fs::read(path).unwrap();
        for round in 0..300 {
            let mut content = seed.clone();
            for _ in 0..random(&mut state, 4) {
                let at = random(&mut state, content.len());
                content[at] ^= 1 << random(&mut state, 8);
            }
            let length = random(&mut state, 2 * content.len()).min(content.len());
            content.truncate(length);
            if round % 50 == 0 {
                let times = CHUNK / content.len().max(1) + 2;
                content = content.repeat(times.min(1 << 14));
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &content).unwrap();
            let mut reader = ListReader::new([Source::open(file.path(), Reading::Once).unwrap()]);
            let (mut batch, mut records) = (Batch::default(), 0);
            loop {
                match reader.next(&mut batch) {
                    Ok(()) if batch.is_empty() => break,
                    Ok(()) => {}
                    Err(ListError::Malformed(fault)) => {
                        let length = content.len() as u64;
                        assert_eq!(fault.index, records, "{}", path.display());
                        assert!(fault.offset <= length && fault.rest.bytes <= length);
                        assert!(fault.rest.readable <= fault.rest.bytes);
                        faults += 1;
                        break;
                    }
                    Err(error) => panic!("{}: {error}", path.display()),
                }
                for item in batch.items() {
                    assert_eq!(item.index, records);
                    records += 1;
                }
            }
            read += records;
        }
    }
    assert!(paths.len() >= 12 && read > 10_000 && faults > 1_000, "{read} {faults}");
}
