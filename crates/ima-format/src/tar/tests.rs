use alloc::vec::Vec;

use super::*;
use crate::xattr::XATTR_NAME_IMA;
use crate::ErrorKind;

/// A header in a dialect, with the right checksum.
fn header(magic: &[u8], typeflag: u8, name: &[u8], size: u64) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(std::format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"14000000000\0");
    block[156] = typeflag;
    block[257..257 + magic.len()].copy_from_slice(magic);
    with_checksum(block)
}

fn with_checksum(mut block: [u8; BLOCK_SIZE]) -> [u8; BLOCK_SIZE] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(std::format!("{sum:06o}\0").as_bytes());
    block
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len() + padding(content.len() as u64), 0);
    bytes
}

fn member(magic: &[u8], typeflag: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    [&header(magic, typeflag, name, content.len() as u64)[..], &padded(content)].concat()
}

const POSIX: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";

/// Every item, with the data of members.
fn items(bytes: &[u8]) -> Result<Vec<(Item, Vec<u8>)>, crate::Error> {
    items_of(bytes, AfterEnd::Refuse)
}

fn items_of(bytes: &[u8], after_end: AfterEnd) -> Result<Vec<(Item, Vec<u8>)>, crate::Error> {
    let (mut parser, mut input) = (Parser::new(after_end), Slice::new(bytes));
    let mut items = Vec::new();
    while let Some(item) = parser.next(&mut input)? {
        let mut data = Vec::new();
        if let Item::Member(member) = &item {
            input.bytes(member.stored as usize + padding(member.stored), &mut data)?;
        }
        items.push((item, data));
    }
    Ok(items)
}

fn encoded(items: &[(Item, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (item, data) in items {
        match item {
            Item::Member(member) => member.encode_into(&mut bytes),
            Item::Global(extension) => extension.encode_into(&mut bytes),
            Item::Zeros => bytes.extend([0; BLOCK_SIZE]),
            Item::Foreign(foreign) => bytes.extend(foreign),
        }
        bytes.extend(data);
    }
    bytes
}

fn first(items: Vec<(Item, Vec<u8>)>) -> Member {
    let mut members = items.into_iter().filter_map(|(item, _)| match item {
        Item::Member(member) => Some(member),
        _ => None,
    });
    members.next().unwrap()
}

fn fault(bytes: &[u8]) -> (ErrorKind, usize) {
    let error = items(bytes).unwrap_err();
    (error.kind, error.offset)
}

#[test]
fn archives_lead_back() {
    let archive = [
        member(POSIX, b'g', b"pax_global_header", b"15 comment=abc\n"),
        member(POSIX, b'x', b"PaxHeaders/a", b"11 mtime=1\n"),
        member(POSIX, b'0', b"a", b"content"),
        member(GNU, b'L', b"././@LongLink", b"a/long/name\0"),
        member(GNU, b'0', b"a/lo", &[7; 512]),
        member(b"", 0, b"v7", b"seven"),
        [0; 2 * BLOCK_SIZE].to_vec(),
        member(b"", 0, b"another", b"archive"),
        [0; 4 * BLOCK_SIZE].to_vec(),
        b"not an archive".to_vec(),
    ]
    .concat();
    let read = items_of(&archive, AfterEnd::Read).unwrap();
    assert_eq!(encoded(&read), archive);
    let mut names = read.iter().filter_map(|(item, _)| match item {
        Item::Member(member) => Some(&member.path[..]),
        _ => None,
    });
    assert!(names.by_ref().eq([&b"a"[..], b"a/long/name", b"v7", b"another"]));
}

#[test]
fn a_label_is_inserted_and_taken_out_again() {
    let name = [b"deep/", &[b'n'; 90][..]].concat();
    for magic in [POSIX, GNU, b""] {
        let archive = member(magic, b'0', &name, b"content");
        let mut read = items(&archive).unwrap();
        let Item::Member(member) = &mut read[0].0 else { panic!("a member") };
        assert_eq!(member.attribute(XATTR_NAME_IMA), Ok(None));
        member.set_attribute(XATTR_NAME_IMA, Some(b"label\n\0")).unwrap();
        let signed = encoded(&read);
        let mut read = items(&signed).unwrap();
        let Item::Member(member) = &mut read[0].0 else { panic!("a member") };
        assert_eq!(member.attribute(XATTR_NAME_IMA).unwrap().unwrap(), b"label\n\0");
        assert_eq!(member.path, name);
        member.set_attribute(XATTR_NAME_IMA, Some(b"label\n\0")).unwrap();
        assert_eq!(encoded(&read), signed, "the same label again");
        let Item::Member(member) = &mut read[0].0 else { panic!("a member") };
        member.set_attribute(XATTR_NAME_IMA, None).unwrap();
        assert_eq!(encoded(&read), archive);
    }
}

#[test]
fn numbers_are_octal_or_base_256() {
    use super::header::number;
    for (field, value) in [
        (&b"00000000017\0"[..], Some(15)),
        (b"         17 ", Some(15)),
        (b"7777777777 0", None),
        (b"777777777777", Some((1 << 36) - 1)),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0)),
        (b"\x80\0\0\0\0\0\0\x02\0\0\0\x01", Some((2 << 32) + 1)),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX >> 1)),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        // GNU tar and libarchive read these differently, or one of them refuses them
        (b"\x81\0\0\0\0\0\0\0\0\0\0\x01", None),
        (b"\x0000000000017", None),
        (b"            ", None),
        (b"\t00000000017", None),
        (b"-1\0\0\0\0\0\0\0\0\0\0", None),
        (b"17\0garbage  ", None),
        (b"0000000001x\0", None),
        (b"8\0", None),
    ] {
        assert_eq!(number(field), value, "{field:?}");
    }
}

#[test]
fn extensions_override_the_header() {
    let short = header(POSIX, b'0', b"short", 1).to_vec();
    let pax = member(POSIX, b'x', b"x", b"12 path=pax\n12 size=513\n");
    let read = first(items(&[&pax[..], &short, &padded(&[1; 513])].concat()).unwrap());
    assert_eq!((&read.path[..], read.stored), (&b"pax"[..], 513));
    let long = member(GNU, b'L', b"././@LongLink", b"long\0");
    let read = first(items(&[&long[..], &short, &padded(&[1])].concat()).unwrap());
    assert_eq!(read.path, b"long");
    for both in [[&long[..], &pax], [&pax[..], &long]] {
        assert_eq!(fault(&[&both.concat()[..], &short].concat()).0, Fault::TwoNames.into());
    }
}

#[test]
fn old_gnu_sparse_maps_go_on_after_the_header() {
    let mut block = header(GNU, b'S', b"sparse", 5 * 512);
    for (index, offset) in [0_u64, 4096, 8192, 12288].into_iter().enumerate() {
        let entry = std::format!("{offset:011o}\0{:011o}\0", 512);
        block[386 + index * 24..][..24].copy_from_slice(entry.as_bytes());
    }
    block[482] = 1;
    block[483..495].copy_from_slice(std::format!("{:011o}\0", 65_536).as_bytes());
    let mut further = [0; BLOCK_SIZE];
    further[..24].copy_from_slice(std::format!("{:011o}\0{:011o}\0", 16_384, 512).as_bytes());
    further[24..48].copy_from_slice(std::format!("{:011o}\0{:011o}\0", 65_536, 0).as_bytes());
    let archive = [&with_checksum(block)[..], &further, &[9; 5 * 512]].concat();
    let read = items(&archive).unwrap();
    assert_eq!(encoded(&read), archive);
    let member = first(read);
    assert_eq!(member.size(), 65_536);
    let segments = member.sparse.unwrap();
    assert_eq!(segments.segments().len(), 6);
    assert_eq!(segments.segments()[4], Segment { offset: 16_384, length: 512 });
}

#[test]
fn pax_sparse_maps_are_read_in_their_three_forms() {
    let expected = [Segment { offset: 512, length: 512 }, Segment { offset: 4096, length: 0 }];
    let record = |text: &str| {
        let length = text.len() + 4;
        std::format!("{length} {text}\n")
    };
    let data_map = padded(b"2\n512\n512\n4096\n0\n");
    for (records, data) in [
        (
            &[
                "GNU.sparse.size=4096",
                "GNU.sparse.numblocks=2",
                "GNU.sparse.offset=512",
                "GNU.sparse.numbytes=512",
                "GNU.sparse.offset=4096",
                "GNU.sparse.numbytes=0",
            ][..],
            [7; 512].to_vec(),
        ),
        (
            &["GNU.sparse.size=4096", "GNU.sparse.numblocks=2", "GNU.sparse.map=512,512,4096,0"],
            [7; 512].to_vec(),
        ),
        (
            &["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=4096"],
            [&data_map[..], &[7; 512]].concat(),
        ),
    ] {
        let body: std::string::String =
            ["GNU.sparse.name=real"].iter().chain(records).map(|text| record(text)).collect();
        let archive =
            [member(POSIX, b'x', b"x", body.as_bytes()), member(POSIX, b'0', b"false", &data)];
        let archive = archive.concat();
        let read = items(&archive).unwrap();
        assert_eq!(encoded(&read), archive);
        assert_eq!(read[0].1, [7; 512], "the data without the map");
        let member = first(read);
        assert_eq!((&member.path[..], member.size()), (&b"real"[..], 4096));
        assert_eq!(member.sparse.unwrap().segments(), expected);
    }
}

#[test]
fn rejects_sparse_maps_that_lie() {
    let archive = |map: &str, data: &[u8]| {
        let count = std::format!("GNU.sparse.numblocks={}", map.split(',').count() / 2);
        let map = std::format!("GNU.sparse.map={map}");
        let body: std::string::String = ["GNU.sparse.size=2048", &count, &map]
            .iter()
            .map(|text| std::format!("{} {text}\n", text.len() + 4))
            .collect();
        [member(POSIX, b'x', b"x", body.as_bytes()), member(POSIX, b'0', b"a", data)].concat()
    };
    let kind = |map: &str, data: &[u8]| fault(&archive(map, data)).0;
    assert_eq!(kind("512,512,0,1", &[0; 513]), Fault::SparseOrder.into());
    assert_eq!(kind("2000,512", &[0; 512]), Fault::SparseOrder.into());
    assert_eq!(kind("18446744073709551615,2", b"ab"), Fault::SparseOrder.into());
    assert_eq!(kind("0,512", b"ab"), Fault::SparseSum { segments: 512, data: 2 }.into());
    assert_eq!(kind("0,512,3", &[0; 512]), Fault::Number(Field::SparseLength).into());
    assert_eq!(kind("0,7,1024,1024", &[0; 1031]), Fault::SparseAlignment.into());
    assert_eq!(kind("0,512", &[0; 512]), Fault::SparseEnd.into());
}

#[test]
fn rejects_checksums_that_are_wrong() {
    let mut archive = member(POSIX, b'0', b"name", b"content");
    archive[0] ^= 1;
    let (kind, offset) = fault(&archive);
    assert!(matches!(kind, ErrorKind::Tar(Fault::Checksum { .. })));
    assert_eq!(offset, 148);
}

#[test]
fn accepts_the_sum_of_signed_bytes() {
    let mut block = header(b"", b'0', b"n\xe9e", 0);
    block[148..156].fill(b' ');
    let sum: i64 = block.iter().map(|byte| i64::from(*byte as i8)).sum();
    block[148..155].copy_from_slice(std::format!("{sum:06o}\0").as_bytes());
    assert_eq!(first(items(&block).unwrap()).path, b"n\xe9e");
}

#[test]
fn rejects_names_that_lead_out() {
    assert_eq!(fault(&member(GNU, b'0', b"a/../../b", b"")), (Fault::Escapes.into(), 0));
    let mut link = header(GNU, b'1', b"link", 0);
    link[157..167].copy_from_slice(b"../../etc/");
    assert_eq!(fault(&with_checksum(link)).0, Fault::Escapes.into());
    assert!(items(&member(GNU, b'0', b"a..b/...", b"")).is_ok());
    assert_eq!(fault(&member(GNU, b'0', b"//", b"")).0, Fault::EmptyName.into());
}

#[test]
fn rejects_a_claim_that_the_input_does_not_hold() {
    let archive = header(POSIX, b'x', b"x", 4 << 30);
    assert_eq!(fault(&archive), (Fault::ExtensionTooLarge(4 << 30).into(), 0));
    let archive = header(POSIX, b'x', b"x", 8192);
    let expected = ErrorKind::Truncated { needed: 8192, available: 0 };
    assert_eq!(fault(&archive), (expected, 512));
}

#[test]
fn rejects_extensions_without_a_member() {
    let archive = [member(POSIX, b'x', b"x", b"11 path=ab\n"), [0; 1024].to_vec()].concat();
    assert_eq!(fault(&archive), (Fault::ExtensionsWithoutMember.into(), 1024));
    let twice = member(POSIX, b'x', b"x", b"11 path=ab\n");
    assert_eq!(fault(&[&twice[..], &twice].concat()).0, Fault::TwoExtensions.into());
}

#[test]
fn what_is_signed_is_within_the_bounds_too() {
    let globals = |count| member(POSIX, b'g', b"g", b"").repeat(count);
    let archive = |count| [globals(count), member(POSIX, b'0', b"a", b"")].concat();
    let mut member = first(items(&archive(EXTENSIONS_MAX)).unwrap());
    member.set_attribute(XATTR_NAME_IMA, Some(b"label")).unwrap();
    assert_eq!(fault(&archive(EXTENSIONS_MAX + 1)).0, Fault::TooManyExtensions.into());
    let value = std::vec![b'v'; EXTENSION_MAX as usize - 100];
    let body = [std::format!("{} comment=", value.len() + 16).as_bytes(), &value, b"\n"].concat();
    let archive = [self::member(POSIX, b'x', b"x", &body), archive(0)].concat();
    let mut member = first(items(&archive).unwrap());
    let error = member.set_attribute(XATTR_NAME_IMA, Some(&[3; 100])).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Tar(Fault::ExtensionTooLarge(_))));
    member.set_attribute(XATTR_NAME_IMA, Some(&[3; 10])).unwrap();
}

#[test]
fn the_size_of_records_can_be_in_any_form() {
    let body = b"18 comment=hello!\n";
    for size in [&b"000000000022"[..], b"          22", b"\x80\0\0\0\0\0\0\0\0\0\0\x12"] {
        let mut header = header(POSIX, b'x', b"x", 0);
        header[124..136].copy_from_slice(size);
        let mut header = with_checksum(header);
        // the same sum, with all digits
        header.copy_within(148..154, 150);
        header[148..150].fill(b'0');
        let archive = [&header[..], &padded(body), &member(POSIX, b'0', b"a", b"")].concat();
        let mut member = first(items(&archive).unwrap());
        member.set_attribute(XATTR_NAME_IMA, Some(b"label")).unwrap();
        let mut signed = Vec::new();
        member.encode_into(&mut signed);
        let again = first(items(&signed).unwrap());
        assert_eq!(again.attribute(XATTR_NAME_IMA).unwrap().unwrap(), b"label", "{size:?}");
    }
}

#[test]
fn rejects_names_that_linux_cannot_open() {
    let long =
        |name: &[u8]| [member(GNU, b'L', b"long", name), member(GNU, b'0', b"", b"")].concat();
    assert!(items(&long(&[b'n'; COMPONENT_MAX])).is_ok());
    assert_eq!(fault(&long(&[b'n'; COMPONENT_MAX + 1])).0, Fault::NameTooLong.into());
    assert!(items(&long(&b"ab/".repeat(1365)[..NAME_MAX - 1])).is_ok());
    assert_eq!(fault(&long(&b"ab/".repeat(1366))).0, Fault::NameTooLong.into());
}

#[test]
fn rejects_what_it_cannot_know() {
    assert_eq!(fault(&member(GNU, b'Q', b"a", b"")).0, Fault::UnknownType(b'Q').into());
    assert_eq!(fault(&member(GNU, b'M', b"a", b"")).0, Fault::MultiVolume.into());
    assert_eq!(fault(&member(GNU, b'5', b"a", b"data")).0, Fault::UnexpectedData.into());
    assert_eq!(fault(&member(POSIX, b'S', b"a", b"")).0, Fault::UnknownSparse.into());
    let global = member(POSIX, b'g', b"g", b"11 path=ab\n");
    assert_eq!(fault(&global), (Fault::GlobalRecord.into(), 512));
}

#[test]
fn a_hard_link_that_is_not_pax_has_no_data_whatever_its_size_says() {
    let archive = |magic: &[u8]| {
        let mut link = header(magic, b'1', b"link", 7);
        link[157] = b'f';
        [&with_checksum(link)[..], &member(magic, 0, b"next", b"")].concat()
    };
    for magic in [b"", GNU] {
        let read = items(&archive(magic)).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(first(read).kind, MemberKind::HardLink);
    }
    // libarchive looks at what comes before and after
    assert_eq!(fault(&archive(POSIX)).0, Fault::UnexpectedData.into());
}

#[test]
fn a_substitute_has_owner_mode_and_time_of_the_member() {
    let archive = member(GNU, b'0', b"old", b"content");
    let Item::Member(old) = &items(&archive).unwrap()[0].0 else { panic!("no member") };
    let long = [&b"blobs/sha512/"[..], &[b'a'; 128]].concat();
    for (path, size) in [(&b"new"[..], 3), (&long, 3), (b"new", 1 << 40)] {
        let bytes = old.substitute(path, Substitute::File(size));
        let mut input = Slice::new(&bytes);
        let Ok(Some(Item::Member(new))) = Parser::new(AfterEnd::Refuse).next(&mut input) else {
            panic!("no member")
        };
        assert_eq!((&new.path[..], new.size(), new.kind), (path, size, MemberKind::File));
        assert_eq!(new.access(), old.access());
    }
    let bytes = old.substitute(b"link", Substitute::Link(&long));
    let mut input = Slice::new(&bytes);
    let Ok(Some(Item::Member(new))) = Parser::new(AfterEnd::Refuse).next(&mut input) else {
        panic!("no member")
    };
    assert_eq!((new.file_type(), new.link), (FileType::SymbolicLink, long));
}
