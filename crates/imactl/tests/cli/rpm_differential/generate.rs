//! Generates packages from a seed: normal ones, and ones with a few anomalies.

use std::collections::BTreeSet;

use ima::digest::Hasher;
use ima_format::hash::HashAlgorithm;
use ima_format::hex::Hex;

use crate::support::seeded::Random;

/// A package, and its anomalies.
pub(super) struct Case {
    pub(super) bytes: Vec<u8>,
    pub(super) odd: BTreeSet<&'static str>,
}

/// Generates the package of a seed.
pub(super) fn package(seed: u64) -> Case {
    let mut random = Random(seed);
    let odd_one_in = random.pick(&[0, 40, 40, 80, 200]);
    let algorithm =
        random.pick(&[HashAlgorithm::Sha256, HashAlgorithm::Sha256, HashAlgorithm::Sha512]);
    let mut generator = Generator { random, odd_one_in, algorithm, odd: BTreeSet::new() };
    let entries = generator.entries();
    let numbered = generator.random.one_in(3);
    let payload = generator.payload(&entries, numbered);
    let bytes = generator.package(&entries, numbered, &payload);
    Case { bytes, odd: generator.odd }
}

struct Generator {
    random: Random,
    /// One decision in this many is anomalous; 0: none.
    odd_one_in: usize,
    algorithm: HashAlgorithm,
    odd: BTreeSet<&'static str>,
}

#[derive(Clone)]
struct Entry {
    directory: String,
    name: String,
    mode: u16,
    flags: u32,
    content: Vec<u8>,
    size: u64,
    digest: String,
    link: String,
    inode: u32,
}

impl Entry {
    fn has_content(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000 && self.flags & GHOST == 0
    }
}

const CONFIG: u32 = 1;
const GHOST: u32 = 64;

/// A value of a header.
enum Data {
    Strings(Vec<String>),
    Text(String),
    Translated(String),
    Int16(Vec<u16>),
    Int32(Vec<u32>),
    Int64(Vec<u64>),
    Bytes(Vec<u8>),
}

impl Data {
    /// Type, alignment, count and bytes.
    fn encode(&self) -> (u32, usize, usize, Vec<u8>) {
        let text = |text: &String| [text.as_bytes(), b"\0"].concat();
        match self {
            Self::Int16(n) => (3, 2, n.len(), n.iter().flat_map(|n| n.to_be_bytes()).collect()),
            Self::Int32(n) => (4, 4, n.len(), n.iter().flat_map(|n| n.to_be_bytes()).collect()),
            Self::Int64(n) => (5, 8, n.len(), n.iter().flat_map(|n| n.to_be_bytes()).collect()),
            Self::Text(string) => (6, 1, 1, text(string)),
            Self::Bytes(bytes) => (7, 1, bytes.len(), bytes.clone()),
            Self::Strings(list) => (8, 1, list.len(), list.iter().flat_map(text).collect()),
            Self::Translated(string) => (9, 1, 1, text(string)),
        }
    }
}

fn header(region: u32, entries: &[(u32, Data)], after: &[(u32, Data)]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    let entry = |fields: [u32; 4]| fields.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    let mut append = |store: &mut Vec<u8>, entries: &[(u32, Data)]| {
        for (tag, data) in entries {
            let (kind, alignment, count, bytes) = data.encode();
            store.resize(store.len().next_multiple_of(alignment), 0);
            index.extend(entry([*tag, kind, store.len() as u32, count as u32]));
            store.extend(bytes);
        }
    };
    append(&mut store, entries);
    let trailer = store.len() as u32;
    let size = (entries.len() as u32 + 1) * 16;
    store.extend(entry([region, 7, size.wrapping_neg(), 16]));
    append(&mut store, after);
    let mut made = b"\x8e\xad\xe8\x01\0\0\0\0".to_vec();
    made.extend((1 + entries.len() as u32 + after.len() as u32).to_be_bytes());
    made.extend((store.len() as u32).to_be_bytes());
    made.extend(entry([region, 7, trailer, 16]));
    made.extend(index);
    made.extend(store);
    made
}

fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> String {
    let digest = Hasher::new(algorithm).and_then(|mut hasher| hasher.digest(bytes)).unwrap();
    Hex(digest.as_bytes()).to_string()
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn named(payload: &mut Vec<u8>, name: &str, mode: u16, inode: u32, size: u64) {
    let fields = [inode, mode.into(), 0, 0, 1, 0, size as u32, 0, 0, 0, 0];
    payload.extend(b"070701");
    for field in fields.into_iter().chain([name.len() as u32 + 1, 0]) {
        payload.extend(format!("{field:08x}").bytes());
    }
    payload.extend(name.bytes().chain([0]));
    align(payload);
}

impl Generator {
    /// Decides whether the next value is anomalous.
    fn odd(&mut self, what: &'static str) -> bool {
        let is_odd = self.odd_one_in > 0 && self.random.one_in(self.odd_one_in);
        if is_odd {
            self.odd.insert(what);
        }
        is_odd
    }

    fn content(&mut self) -> Vec<u8> {
        let length = self.random.pick(&[0, 1, 3, 4, 20, 300, 70_000]);
        let letter = b'a' + self.random.below(26) as u8;
        vec![letter; length]
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for number in 0..self.random.below(9) as u32 {
            let (mode, flags) = self.random.pick(&[
                (0o100_755, 0),
                (0o100_755, 0),
                (0o100_755, 0),
                (0o104_711, 0),
                (0o100_644, CONFIG),
                (0o100_755, CONFIG),
                (0o100_644, GHOST),
                (0o040_755, 0),
                (0o040_755, GHOST),
                (0o120_777, 0),
            ]);
            let directory = self.random.pick(&["/usr/bin/", "/usr/share/d/", "/etc/", "/opt/"]);
            let mut entry = Entry {
                directory: directory.to_owned(),
                name: format!("{}{number}", self.random.pick(&["a", "b", "c d", "z", "\u{fc}"])),
                mode,
                flags,
                content: Vec::new(),
                size: 0,
                digest: String::new(),
                link: String::new(),
                inode: number + 1,
            };
            if entry.has_content() {
                entry.content = self.content();
                entry.digest = digest(self.algorithm, &entry.content);
            } else if mode == 0o120_777 {
                entry.link = "target".to_owned();
                entry.content = b"target".to_vec();
            }
            entry.size = entry.content.len() as u64;
            for name in 0..self.random.pick(&[0, 0, 0, 0, 1, 2]) {
                let mut other = entry.clone();
                other.name = format!("{}link{number}{name}", self.random.pick(&["a", "y"]));
                other.directory = self.random.pick(&["/usr/bin/", "/usr/share/d/"]).to_owned();
                if entry.has_content() {
                    self.make_odd(&mut other);
                    entries.push(other);
                }
            }
            self.make_odd(&mut entry);
            entries.push(entry);
        }
        entries.sort_by(|a, b| (&a.directory, &a.name).cmp(&(&b.directory, &b.name)));
        if entries.len() > 1 && self.odd("unsorted") {
            entries.reverse();
        }
        if entries.len() > 1 && self.odd("a path twice") {
            let last = entries.len() - 1;
            entries[last].name = entries[0].name.clone();
            entries[last].directory = entries[0].directory.clone();
        }
        entries
    }

    fn make_odd(&mut self, entry: &mut Entry) {
        if self.odd("another digest") {
            entry.digest = digest(self.algorithm, b"another program");
        }
        if self.odd("no digest") {
            entry.digest = String::new();
        }
        if self.odd("digest of zeros") {
            entry.digest = "0".repeat(2 * self.algorithm.digest_size());
        }
        if self.odd("short digest") {
            entry.digest.truncate(20);
        }
        if self.odd("another size") {
            entry.size += 1 + self.random.below(9) as u64;
        }
        if self.odd("inode 0") {
            entry.inode = 0;
        }
        if self.odd("an inode of another") {
            entry.inode = 1 + self.random.below(4) as u32;
        }
        if self.odd("another type") {
            entry.mode = self.random.pick(&[0o040_755, 0o120_777, 0o050_644, 0o644, 0o100_644]);
        }
        if self.odd("another flag") {
            entry.flags ^= 1 << self.random.below(12);
        }
        if entry.mode & 0o170_000 != 0o100_000 {
            // rpm does not create the parent of a %config directory
            entry.flags &= !CONFIG;
        }
        if self.odd("a directory without a slash") {
            entry.directory.pop();
        }
        if self.odd("a name that leads back") {
            entry.name = self.random.pick(&["../x", "..", ".", "s/x", ""]).to_owned();
        }
    }

    fn payload(&mut self, entries: &[Entry], numbered: bool) -> Vec<u8> {
        let alone = |index: &usize| {
            let entry: &Entry = &entries[*index];
            let same = |other: &&Entry| other.has_content() && other.inode == entry.inode;
            !entry.has_content() || entry.inode == 0 || entries.iter().filter(same).count() == 1
        };
        let in_payload = |index: &usize| entries[*index].flags & GHOST == 0;
        let indexes = || (0..entries.len()).filter(in_payload);
        let mut order: Vec<usize> = indexes().filter(alone).collect();
        let mut linked: Vec<usize> = indexes().filter(|index| !alone(index)).collect();
        linked.sort_by_key(|index| (entries[*index].inode, *index));
        order.extend(&linked);
        if !order.is_empty() {
            let (from, to) = (self.random.below(order.len()), self.random.below(order.len()));
            if self.odd("another order") {
                order.swap(from, to);
            }
            if self.odd("an entry twice") {
                order.insert(to, order[from]);
            }
            if self.odd("an entry less") {
                order.remove(from);
            }
        }
        if !entries.is_empty() && self.odd("a ghost in the payload") {
            order.push(self.random.below(entries.len()));
        }
        let mut payload = Vec::new();
        for index in order {
            let entry = &entries[index];
            let last = linked.iter().rfind(|other| entries[**other].inode == entry.inode);
            let holds = entry.mode & 0o170_000 == 0o120_000
                || entry.has_content() && (alone(&index) || last == Some(&index));
            let mut content = match holds != self.odd("content at another name") {
                true => entry.content.clone(),
                false => Vec::new(),
            };
            if !content.is_empty() && self.odd("another content") {
                content[0] ^= 1;
            }
            if numbered != self.odd("the other form") {
                payload.extend(format!("07070X{index:08x}").bytes());
                align(&mut payload);
            } else {
                let prefix = match self.odd("another prefix") {
                    true => self.random.pick(&["", "/", "/.", "..", "."]),
                    false => ".",
                };
                let mut path = format!("{prefix}{}{}", entry.directory, entry.name);
                if self.odd("a path without slash") {
                    path = path.trim_start_matches(['.', '/']).to_owned();
                }
                let more = u64::from(self.odd("another size in the payload"));
                named(&mut payload, &path, entry.mode, entry.inode, content.len() as u64 + more);
            }
            payload.extend(&content);
            align(&mut payload);
        }
        if !self.odd("no trailer") {
            named(&mut payload, "TRAILER!!!", 0, 0, 0);
        }
        if self.odd("more after the trailer") {
            payload.extend(b"070701 more");
        }
        payload
    }

    fn package(&mut self, entries: &[Entry], numbered: bool, payload: &[u8]) -> Vec<u8> {
        let main = self.main_header(entries, numbered, payload);
        let mut signature = vec![
            (273, Data::Text(digest(HashAlgorithm::Sha256, &main))),
            (1008, Data::Bytes(vec![0; self.random.pick(&[32, 4128])])),
        ];
        let mut after = Vec::new();
        if self.random.one_in(4) {
            after.push((271, Data::Int64(vec![7])));
        }
        if self.odd("file signatures before") {
            let strings = (0..entries.len()).map(|_| "030204".to_owned()).collect::<Vec<_>>();
            if !strings.is_empty() {
                let place = if self.random.one_in(2) { &mut after } else { &mut signature };
                place.push((274, Data::Strings(strings)));
                place.sort_by_key(|(tag, _)| *tag);
            }
        }
        if self.odd("a tag twice") {
            after.push((273, Data::Text("00".to_owned())));
        }
        let mut lead = vec![0; 96];
        lead[..6].copy_from_slice(b"\xed\xab\xee\xdb\x03\0");
        lead[10..16].copy_from_slice(b"random");
        lead[77] = 1;
        lead[79] = 5;
        let mut package = [lead, header(62, &signature, &after)].concat();
        package.resize(package.len().next_multiple_of(8), 0);
        package.extend(main);
        package.extend(payload);
        package
    }

    fn main_header(&mut self, entries: &[Entry], numbered: bool, payload: &[u8]) -> Vec<u8> {
        let text = |text: &str| Data::Text(text.to_owned());
        let mut tags = vec![
            (1000, text("random")),
            (1001, text("1")),
            (1002, text("1")),
            (1004, Data::Translated("random".to_owned())),
            (1005, Data::Translated("random".to_owned())),
            (1009, Data::Int32(vec![1])),
            (1014, text("MIT")),
            (1021, text("linux")),
            (1022, text("noarch")),
            (1044, text("random-1-1.src.rpm")),
            (1124, text("cpio")),
            (1125, text("gzip")),
            (5011, Data::Int32(vec![if self.algorithm == HashAlgorithm::Sha256 { 8 } else { 10 }])),
            (5092, Data::Strings(vec![digest(HashAlgorithm::Sha256, payload)])),
            (5093, Data::Int32(vec![8])),
        ];
        if !entries.is_empty() {
            tags.extend(self.file_tags(entries, numbered));
        }
        tags.sort_by_key(|(tag, _)| *tag);
        header(63, &tags, &[])
    }

    fn file_tags(&mut self, entries: &[Entry], numbered: bool) -> Vec<(u32, Data)> {
        let numbers = |of: fn(&Entry) -> u32| Data::Int32(entries.iter().map(of).collect());
        let strings = |of: fn(&Entry) -> String| Data::Strings(entries.iter().map(of).collect());
        let mut directories: Vec<String> = entries.iter().map(|e| e.directory.clone()).collect();
        directories.sort();
        directories.dedup();
        let place = |entry: &Entry| directories.binary_search(&entry.directory).unwrap() as u32;
        let long = Data::Int64(entries.iter().map(|entry| entry.size).collect());
        let mut tags = vec![
            (1030, Data::Int16(entries.iter().map(|entry| entry.mode).collect())),
            (1033, Data::Int16(vec![0; entries.len()])),
            (1034, numbers(|_| 1_000_000_000)),
            (1035, strings(|entry| entry.digest.clone())),
            (1036, strings(|entry| entry.link.clone())),
            (1037, numbers(|entry| entry.flags)),
            (1039, strings(|_| "root".to_owned())),
            (1040, strings(|_| "root".to_owned())),
            (1045, numbers(|_| u32::MAX)),
            (1095, numbers(|_| 1)),
            (1096, numbers(|entry| entry.inode)),
            (1097, strings(|_| String::new())),
            (1116, Data::Int32(entries.iter().map(place).collect())),
            (1117, strings(|entry| entry.name.clone())),
            (1118, Data::Strings(directories.clone())),
        ];
        if numbered != self.odd("both sizes") {
            tags.push((5008, long));
        }
        if !numbered || self.random.one_in(2) {
            let more = u32::from(self.odd("another short size"));
            let sizes = entries.iter().map(|entry| entry.size as u32 + more).collect();
            tags.push((1028, Data::Int32(sizes)));
        }
        if self.odd("a tag less") {
            // rpm needs the owners, which no signature covers
            let less = tags[self.random.below(tags.len())].0;
            tags.retain(|(tag, _)| *tag != less || [1039, 1040].contains(tag));
        }
        if self.odd("modes of 32 bits") {
            tags.retain(|(tag, _)| *tag != 1030);
            tags.push((1030, numbers(|entry| entry.mode.into())));
        }
        if self.odd("file signatures in the main header") {
            tags.push((5090, strings(|_| "030204".to_owned())));
        }
        if self.odd("whole paths") {
            tags.push((1027, strings(|entry| format!("/x{}", entry.name))));
        }
        if self.odd("original names") {
            tags.push((1119, Data::Int32(entries.iter().map(place).collect())));
            tags.push((
                1120,
                Data::Strings(entries.iter().rev().map(|e| e.name.clone()).collect()),
            ));
            tags.push((1121, Data::Strings(directories)));
        }
        tags
    }
}
