//! The properties that every input must have: no panic, and a round trip where the form is
//! canonical. libFuzzer looks for inputs that break them (`cargo xtask fuzz`); seeded tests try
//! some in CI.

mod boot;

use std::convert::Infallible;

use ima_format::audit::{Kind, MissingKey, Record};
use ima_format::elf::Elf;
use ima_format::hash::HashAlgorithm;
use ima_format::kind::{Content, Foreign, Nested};
use ima_format::loader_cache::Cache;
use ima_format::measure::cel::{CelEncoding, CelReader, CelStep};
use ima_format::measure::KEXEC_HEADER_SIZE;
use ima_format::measure::{
    self, AsciiRecord, Entry, EventLog, KexecHeader, Layout, PcrValues, Step,
};
use ima_format::pkcs11::Uri;
use ima_format::policy::{explain, read, Fault, Kernel, Loading};
use ima_format::reader::Reader;
use ima_format::rpm::{
    cpio, read_lead, tag, FileList, Header, Intro, ReservedSpace, Section, LEAD_SIZE,
};
use ima_format::tar::{self, Input};
use ima_format::tpm::{PublicArea, Quote, Signature};
use ima_format::xattr::{Attribute, XATTR_NAME_IMA};
use ima_format::Error;

/// A property of all bytes; it panics where they break it.
pub type Property = fn(&[u8]);

/// Every property, by the name of its libFuzzer target.
pub const PROPERTIES: &[(&str, Property)] = &[
    ("audit", audit),
    ("blacklist", boot::blacklist),
    ("capability", capability),
    ("cel", cel),
    ("command_line", boot::command_line),
    ("elf", elf),
    ("erofs", erofs),
    ("event_log", event_log),
    ("ext4", ext4),
    ("file_contexts", file_contexts),
    ("keyring", boot::keyring),
    ("kind", kind),
    ("loader_cache", loader_cache),
    ("measure", measure),
    ("modsig", boot::modsig),
    ("oci", oci),
    ("partition", boot::partition),
    ("partition_table", partition_table),
    ("payload", payload),
    ("pkcs11", pkcs11),
    ("policy", policy),
    ("printable", boot::printable),
    ("rpm", rpm),
    ("superblock", boot::superblock),
    ("tar", tar),
    ("tpm", tpm),
    ("x509", boot::x509),
    ("xattr", xattr),
];

/// A line is a record, none, or an error that points into it; a record has fields with names.
pub fn audit(line: &[u8]) {
    match Record::parse(line) {
        Err(error) => assert!(error.offset <= line.len(), "{error}"),
        Ok(None) => {}
        Ok(Some(record)) => {
            assert!(!record.fields.is_empty());
            for (name, value) in &record.fields {
                assert!(!name.is_empty() && !name.contains(&b' '), "{record:?}");
                assert!(value.len() <= line.len(), "{record:?}");
            }
            assert_eq!(record.rule().is_some(), record.kind == Kind::PolicyRule);
        }
    }
    MissingKey::parse(line);
}

/// JSON values stand where they say; documents of images have digests and names that are safe as
/// paths, and change in the places of digests alone.
pub fn oci(bytes: &[u8]) {
    use ima_format::json::Text;
    use ima_format::oci::{BlobDigest, Config, Document, Edits, Saved};

    match Text::parse(bytes) {
        Ok(text) => {
            let again = Text::parse(&bytes[text.value.span.clone()]).unwrap();
            assert_eq!(again.value.span.len(), text.value.span.len());
            assert_eq!(Edits::default().apply(bytes), bytes);
        }
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
    let new = BlobDigest::new(HashAlgorithm::Sha256, &[0x5a; 32]).unwrap();
    for media_type in [None, Some("application/vnd.oci.image.manifest.v1+json")] {
        let Ok(document) = Document::parse(bytes, media_type) else { continue };
        let descriptors = match &document {
            Document::Index(descriptors) => descriptors.clone(),
            Document::Manifest(manifest) => {
                manifest.layers.iter().chain([&manifest.config]).cloned().collect()
            }
        };
        let mut edits = Edits::default();
        for descriptor in &descriptors {
            assert!(!descriptor.digest.path().contains(".."));
            descriptor.edit(&mut edits, &new, 7);
        }
        let edited = edits.apply(bytes);
        match Document::parse(&edited, media_type).unwrap() {
            Document::Index(edited) => {
                assert!(edited.iter().all(|it| it.digest == new && it.size == 7));
                assert_eq!(edited.len(), descriptors.len());
            }
            Document::Manifest(edited) => {
                assert!(edited.layers.iter().all(|it| it.digest == new && it.size == 7));
            }
        }
    }
    if let Ok(config) = Config::parse(bytes, 2) {
        let mut edits = Edits::default();
        config.edit(&mut edits, 1, &new);
        let edited = Config::parse(&edits.apply(bytes), 2).unwrap();
        assert_eq!(edited.diff_ids, [config.diff_ids[0].clone(), new]);
    }
    if let Ok(saved) = Saved::parse(bytes) {
        for image in &saved.images {
            for (name, _) in image.layers.iter().chain([&image.config]) {
                assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."));
            }
        }
    }
}

/// Any bytes are read as an ELF file or are none, without a read past what it asks for.
pub fn elf(bytes: &[u8]) {
    let mut read = |offset: u64, length: usize| -> Result<Vec<u8>, Infallible> {
        // more than any table can take
        assert!(length <= 56 * 0xffff, "{length} bytes at once");
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[start..start.saturating_add(length).min(bytes.len())].to_vec())
    };
    match Elf::read(&mut read) {
        Ok(Ok(elf)) => {
            assert!(elf.interpreter.map_or(true, |path| !path.is_empty() && !path.contains(&0)));
            assert!(elf.needed.iter().all(|name| !name.contains(&0)));
        }
        Ok(Err(_)) => {}
        Err(error) => match error {},
    }
}

/// Any bytes are read as a cache of libraries or are none; errors point into them.
pub fn loader_cache(bytes: &[u8]) {
    match Cache::parse(bytes) {
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
        Ok(cache) => {
            assert!(cache.entries.len() <= bytes.len() / 24);
            let strings = cache.entries.iter().flat_map(|entry| [entry.name, entry.path]);
            strings.for_each(|string| assert!(!string.contains(&0) && string.len() < 4096));
        }
    }
}

/// Any bytes are a firmware's event log up to some event; data and digests are within it.
pub fn event_log(bytes: &[u8]) {
    let Ok(log) = EventLog::new(bytes) else { return };
    for event in log {
        match event {
            Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
            Ok(event) => assert!(event.data.len() < bytes.len() && event.digests.len() <= 16),
        }
    }
}

/// Any record of a Canonical Event Log that is read is written in every encoding, and read back the same.
pub fn cel(bytes: &[u8]) {
    let Some(encoding) = CelEncoding::detect(bytes) else { return };
    let (mut reader, mut rest) = (CelReader::new(encoding), bytes);
    loop {
        match reader.step(rest, true) {
            Err(error) => return assert!(error.offset <= rest.len(), "{error}"),
            Ok(CelStep::Incomplete(length)) => return assert!(length > rest.len()),
            Ok(CelStep::Between(size) | CelStep::Other(_, size)) => rest = &rest[size..],
            Ok(CelStep::Record(record, size)) => {
                for encoding in [CelEncoding::Tlv, CelEncoding::Cbor, CelEncoding::Json] {
                    let mut again = Vec::new();
                    record.encode_into(encoding, true, &mut again);
                    let again = again.strip_prefix(b"\n").unwrap_or(&again);
                    let mut reader = CelReader::new(encoding);
                    let read = match reader.step(again, true) {
                        Ok(CelStep::Between(0)) => reader.step(again, true),
                        read => read,
                    };
                    assert_eq!(read, Ok(CelStep::Record(record.clone(), again.len())));
                }
                rest = &rest[size..];
            }
        }
    }
}

/// Any bytes are a structure of a TPM or are none; errors point into them.
pub fn tpm(bytes: &[u8]) {
    let errors = [
        Quote::parse(bytes).map(|quote| assert!(quote.selection.len() <= 8 * bytes.len())).err(),
        Signature::parse(bytes).err(),
        PublicArea::parse(bytes).err(),
    ];
    errors.iter().flatten().for_each(|error| assert!(error.offset <= bytes.len(), "{error}"));
    if let Some(values) = PcrValues::parse_serialized(bytes) {
        assert!(values.iter().count() <= bytes.len() / 20);
    }
}

/// Any record that is read is written back as the same bytes, and the line that is printed of it
/// is read as a record; errors point into it. Values of PCRs have the size of their bank.
pub fn measure(bytes: &[u8]) {
    if let Ok(values) = PcrValues::parse(bytes, Some(HashAlgorithm::Sha1)) {
        assert!(values
            .iter()
            .all(|value| values.get(value.value.algorithm(), value.pcr).is_some()));
    }
    // a list that was handed over by kexec
    let bytes = match KexecHeader::read(bytes) {
        Some(header) => {
            assert!(header.buffer_size >= KEXEC_HEADER_SIZE as u64);
            &bytes[KEXEC_HEADER_SIZE..]
        }
        None => bytes,
    };
    let Ok(layout) = Layout::detect(bytes) else { return };
    let mut rest = bytes;
    while let Ok(Step::Record(record, size)) = layout.step(rest) {
        let (read, left) = rest.split_at(size);
        let mut again = Vec::new();
        record.encode_into(&mut again);
        assert_eq!(again, read);
        if let Err(error) = Entry::decode(&record) {
            assert!(error.offset <= size, "{error}");
        } else {
            let data = record.data_in_other_order().expect("it was decoded");
            let other = measure::Record { data: &data, endian: record.endian.other(), ..record };
            // in template `ima` the size of the digest is guessed, for each order anew
            let is_open = record.template.is_ima();
            assert!(is_open || other.data_in_other_order().as_deref() == Ok(record.data));
            let mut line = Vec::new();
            record.print_into(&mut line).expect("it was decoded");
            line.pop();
            // a field that is printed as a string ends at a NUL; whatever comes of it is read
            drop(AsciiRecord::parse(&line, layout.endian));
        }
        rest = left;
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        match AsciiRecord::parse(line, layout.endian) {
            Err(error) => assert!(error.offset <= line.len(), "{error}"),
            Ok(record) => assert!(AsciiRecord::begins(line) && record.record().pcr < u32::MAX),
        }
    }
}

/// Any bytes that decode as an attribute encode to the same bytes; errors point into them.
pub fn xattr(bytes: &[u8]) {
    match Attribute::decode(bytes) {
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
        Ok(attribute) => {
            let encoded = attribute.encode();
            match &attribute {
                // MD5 in SHA-1's place: four zeros are not part of it
                Attribute::Digest(md5) if md5.algorithm() == HashAlgorithm::Md5 => {
                    assert_eq!(encoded, bytes[..17]);
                }
                _ => assert_eq!(encoded, bytes),
            }
            assert_eq!(Attribute::decode(&encoded), Ok(attribute));
        }
    }
}

/// A URI that was read prints as one that reads back as the same; errors point into it.
pub fn pkcs11(uri: &[u8]) {
    match Uri::parse(uri) {
        Err(error) => assert!(error.offset <= uri.len(), "{error}"),
        Ok(parsed) => assert_eq!(Uri::parse(parsed.to_string().as_bytes()), Ok(parsed)),
    }
}

/// What was read of any policy prints as a text that is read to the same; refusals point
/// into the text; the rest can be explained.
pub fn policy(text: &[u8]) {
    let kernel = Kernel::default();
    for loading in [Loading::File, Loading::Text, Loading::ReadBack] {
        let reading = read(text, &kernel, loading);
        for refusal in &reading.refusals {
            let span = refusal.span;
            assert!(span.start <= span.end && span.end <= text.len(), "{refusal:?}");
            assert!(refusal.line >= 1, "{refusal:?}");
        }
        let again = read(&reading.policy.to_bytes(), &kernel, Loading::Text);
        let no_rules = |fault: &Fault| *fault == Fault::NoRules;
        assert!(again.refusals.iter().all(|refusal| no_rules(&refusal.fault)), "{again:?}");
        assert!(again.policy.says_the_same(&reading.policy));
    }
    explain(&read(text, &kernel, Loading::Text).policy, &kernel);
}

/// File signatures that are put into a package are read again, and when they are taken out the
/// header is the same as before; errors point into it.
pub fn rpm(bytes: &[u8]) {
    let Err(error) = rpm_signatures(bytes) else { return };
    assert!(error.offset <= bytes.len(), "{error}");
}

fn rpm_signatures(bytes: &[u8]) -> Result<(), Error> {
    read_lead(bytes)?;
    let header = |position: usize, section| {
        let rest = bytes.get(position..).unwrap_or_default();
        let size = Intro::read(rest, position, section)?.size(section);
        Header::read(&rest[..size.min(rest.len())], position, section)
    };
    let signature = header(LEAD_SIZE, Section::Signature)?;
    let main = header(LEAD_SIZE + signature.bytes().len(), Section::Main)?;
    let files = FileList::read(&main)?;
    for file in files.iter() {
        files.path(file);
    }
    assert_eq!(files.content_holders().len(), files.len());
    let had_signatures = signature.file_signatures(files.len())?.is_some()
        || signature.find(tag::SIG_FILESIGNATURELENGTH).is_some();
    let signatures: Vec<Vec<u8>> = (0..files.len()).map(|index| vec![3, 2, index as u8]).collect();
    for reserved in [ReservedSpace::Keep, ReservedSpace::Use] {
        let signed = signature.with_file_signatures(&signatures, reserved)?;
        let again = Header::read(&signed, LEAD_SIZE, Section::Signature).expect("written by us");
        if !signatures.is_empty() {
            assert_eq!(again.file_signatures(files.len()), Ok(Some(signatures.clone())));
        }
        if !had_signatures && !signature.room_is_taken() {
            let cleared = again.without_file_signatures().expect("written by us");
            assert!(cleared == signature.bytes(), "{reserved:?}");
        }
    }
    Ok(())
}

/// The fields of a payload's entry are read, or the error points into them.
pub fn payload(bytes: &[u8]) {
    let mut rest = Reader::new(bytes);
    let mut read = || match cpio::Form::of(rest.array()?, 0)? {
        cpio::Form::Named => {
            let fields = rest.array()?;
            let named = cpio::read_named(&fields, cpio::MAGIC_SIZE)?;
            assert!((1..=4096).contains(&named.name_size));
            cpio::read_inode(&fields, cpio::MAGIC_SIZE)?;
            Ok::<(), Error>(())
        }
        cpio::Form::Numbered => cpio::read_numbered(&rest.array()?, cpio::MAGIC_SIZE).map(drop),
    };
    if let Err(error) = read() {
        assert!(error.offset <= bytes.len(), "{error}");
    }
}

/// What the first bytes of a file or the end of its name say; a file that is recognized stays so
/// with more behind it.
pub fn kind(bytes: &[u8]) {
    let content = Content::of(bytes);
    if content.is_some() {
        assert_eq!(Content::of(&[bytes, &[0; 64]].concat()), content);
    }
    Foreign::of(bytes);
    for marker in Nested::MARKERS {
        let nested = Nested::of(marker.as_bytes(), bytes);
        assert_eq!(Nested::of(marker.as_bytes(), &[bytes, b"\0"].concat()), nested);
    }
}

/// An archive that is read is written again byte for byte; to set a label, or to take it
/// out, a second time changes nothing; errors point into it.
pub fn tar(bytes: &[u8]) {
    match tar_items(bytes, None) {
        Err(offset) => assert!(offset <= bytes.len(), "offset {offset} of {}", bytes.len()),
        Ok(archive) => {
            // archives are long: shown are only lengths
            assert!(archive == bytes, "{} bytes, then {}", bytes.len(), archive.len());
            for label in [Some(None), Some(Some(&b"\x03\x02label\n"[..]))] {
                let once = tar_items(bytes, label).expect("read before");
                let twice = tar_items(&once, label).expect("written by us");
                assert!(once == twice, "{label:?}: {} bytes, then {}", once.len(), twice.len());
            }
        }
    }
}

/// Reads an archive to its end and writes it again, with the label of all members set or
/// taken out. The error is an offset.
fn tar_items(bytes: &[u8], label: Option<Option<&[u8]>>) -> Result<Vec<u8>, usize> {
    let (mut parser, mut input) = (tar::Parser::new(tar::AfterEnd::Read), tar::Slice::new(bytes));
    let mut written = Vec::new();
    while let Some(item) = parser.next(&mut input).map_err(|error| error.offset)? {
        match item {
            tar::Item::Member(mut member) => {
                assert!(member.size() >= member.stored);
                drop(member.attribute(XATTR_NAME_IMA));
                if let Some(label) = label {
                    member.set_attribute(XATTR_NAME_IMA, label).expect("its records were read");
                    assert_eq!(
                        member.attribute(XATTR_NAME_IMA).expect("one form is left").as_deref(),
                        label
                    );
                }
                member.encode_into(&mut written);
                let size = usize::try_from(member.stored).map_err(|_| 0_usize)?;
                let size = size.checked_add(tar::padding(member.stored)).ok_or(0_usize)?;
                input.bytes(size, &mut written).map_err(|error| error.offset)?;
            }
            tar::Item::Global(extension) => extension.encode_into(&mut written),
            tar::Item::Zeros => written.extend([0; tar::BLOCK_SIZE]),
            tar::Item::Foreign(bytes) => written.extend(bytes),
        }
    }
    Ok(written)
}

/// Every file of an image can be read to its end, or the error points into the image; no
/// file holds more than the image and its holes.
pub fn ext4(bytes: &[u8]) {
    use ima_format::ext4::{FileKind, Memory, Volume};

    let read = || {
        let volume = Volume::open(Memory(bytes))?;
        let mut files = Vec::new();
        volume.walk(&mut |_| true, &mut |_, inode| {
            files.push(inode);
            true
        })?;
        for inode in files {
            volume.attribute(&inode, "security.ima")?;
            if inode.is_link() {
                assert_eq!(volume.link_target(&inode)?.len() as u64, inode.size());
            }
            // zeros without end would take the fuzzer's time
            if inode.kind() == Some(FileKind::File) && inode.size() <= 1 << 20 {
                let mut content = volume.content(&inode)?;
                let (mut size, mut buffer) = (0, [0; 4096]);
                loop {
                    match volume.read_at(&mut content, size, &mut buffer)? {
                        0 => break,
                        read => size += read as u64,
                    }
                }
                assert_eq!(size, inode.size());
            }
        }
        Ok::<(), ima_format::Error>(())
    };
    if let Err(error) = read() {
        assert!(error.offset <= bytes.len(), "{error}");
    }
}

/// Each path is absolute and there once; its capabilities have the size and version of the kernel's.
pub fn capability(text: &[u8]) {
    match ima_format::capability::lines(text) {
        Err((line, _)) => assert!(line <= text.split(|byte| *byte == b'\n').count()),
        Ok(files) => {
            for (path, capabilities) in &files {
                assert!(path.starts_with(b"/") && path.len() < text.len());
                assert_eq!(capabilities.encode()[1..4], [0, 0, 2]);
            }
            assert!(files.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}

/// Rules are read, or refused with an offset in the text; substitutions take any path.
pub fn file_contexts(text: &[u8]) {
    use ima_format::file_contexts::{rules, Pattern, Substitutions};
    match rules(text) {
        Err(error) => assert!(error.offset <= text.len(), "{error}"),
        Ok(rules) => {
            for rule in rules {
                assert!(rule.offset < text.len());
                if let Pattern::Regex { syntax, .. } = &rule.pattern {
                    assert!(syntax.is_ascii(), "{rule:?}");
                }
            }
        }
    }
    let substitutions = Substitutions::parse(text);
    for path in text.split(|byte| *byte == b'\n') {
        substitutions.apply(path);
    }
}

/// Partitions are on the disk and have no byte in common, or the error points into it.
pub fn partition_table(bytes: &[u8]) {
    use ima_format::ext4::Memory;
    use ima_format::partition::{verity, Table};

    match Table::read(&Memory(bytes)) {
        Ok(table) => {
            let mut ranges: Vec<_> =
                table.partitions.iter().map(|it| (it.start, it.start + it.size)).collect();
            ranges.sort_unstable();
            assert!(ranges.iter().all(|(start, end)| start < end && *end <= bytes.len() as u64));
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
    verity::Tree::parse(bytes);
}

/// Everything in an image can be read to its end, or the error points into the image; a walk
/// finds no more names than the image has room for, and content has the length that was told.
pub fn erofs(bytes: &[u8]) {
    use ima_format::erofs::{FileKind, Lz4Only, Memory, Volume};

    let read = || {
        let volume = Volume::open(Memory(bytes), Lz4Only)?;
        let mut walk = volume.walk()?;
        let mut names = 0;
        while let Some(found) = volume.next(&mut walk, &mut |_| true)? {
            names += 1;
            assert!(names <= 2 * bytes.len());
            let inode = found.inode;
            volume.attributes(&inode)?;
            if inode.kind() == FileKind::Link {
                assert_eq!(volume.link_target(&inode)?.len() as u64, inode.size());
            }
            // zeros without end would take the fuzzer's time
            if inode.kind() != FileKind::File || inode.size() > 1 << 20 {
                continue;
            }
            let mut content = volume.content(&inode)?;
            let mut size = 0;
            loop {
                match volume.part(&mut content, size)?.len() {
                    0 => break,
                    length => size += length as u64,
                }
            }
            assert_eq!(size, inode.size());
        }
        Ok::<(), ima_format::Error>(())
    };
    if let Err(error) = read() {
        assert!(error.offset <= bytes.len(), "{error}");
    }
}
