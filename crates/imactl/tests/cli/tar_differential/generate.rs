//! Generates archives from a seed: normal ones, and ones with a few anomalies.

use std::collections::BTreeSet;

use super::blocks::{octal, padded, parse, plain_header, plain_value, record, seal, BLOCK, POSIX};

pub(super) const GNU: &[u8] = b"ustar  \0";
pub(super) const V7: &[u8] = b"";

/// An archive, and its anomalies.
pub(super) struct Case {
    pub(super) bytes: Vec<u8>,
    /// Files that are replaced by hard links to others in the end.
    pub(super) replaced: Vec<String>,
    pub(super) odd: BTreeSet<&'static str>,
}

/// Generates the archive of a seed.
pub(super) fn archive(seed: u64) -> Case {
    let mut generator = Generator {
        state: seed,
        odd_one_in: 0,
        magic: POSIX,
        bytes: Vec::new(),
        odd: BTreeSet::new(),
        names: Vec::new(),
        files: Vec::new(),
        replaced: Vec::new(),
    };
    generator.odd_one_in = [0, 60, 60, 120, 250][generator.below(5)];
    generator.magic = generator.pick(&[POSIX, POSIX, POSIX, GNU, GNU, V7]);
    for _ in 0..1 + generator.below(5) {
        generator.member();
    }
    generator.end();
    generator.damage();
    Case { bytes: generator.bytes, replaced: generator.replaced, odd: generator.odd }
}

pub(super) struct Generator {
    state: u64,
    /// One decision in this many is anomalous; 0: none.
    odd_one_in: usize,
    pub(super) magic: &'static [u8],
    bytes: Vec<u8>,
    odd: BTreeSet<&'static str>,
    names: Vec<String>,
    files: Vec<String>,
    replaced: Vec<String>,
}

/// A member under construction.
pub(super) struct Member {
    pub(super) magic: &'static [u8],
    pub(super) typeflag: u8,
    pub(super) name: String,
    pub(super) link: String,
    /// The size field of the header.
    pub(super) size: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Written over the header before its checksum is computed.
    pub(super) patches: Vec<(usize, Vec<u8>)>,
    /// The blocks between header and data.
    pub(super) map: Vec<u8>,
}

impl Generator {
    /// SplitMix64.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Decides whether the next value is anomalous.
    pub(super) fn odd(&mut self, what: &'static str) -> bool {
        let is_odd = self.odd_one_in > 0 && self.one_in(self.odd_one_in);
        if is_odd {
            self.odd.insert(what);
        }
        is_odd
    }

    /// The name of an earlier file.
    fn a_file(&mut self) -> String {
        let index = self.below(self.files.len());
        self.files[index].clone()
    }

    fn content(&mut self) -> Vec<u8> {
        let size = self.pick(&[0, 1, 20, 511, 512, 513, 1024, 1500, 5000]);
        match self.below(8) {
            // an archive in a file
            0 => [plain_header(b"inner", 20, b'0').to_vec(), padded(&[b'i'; 20])].concat(),
            1 => vec![0; size],
            _ => (0..size).map(|_| self.next() as u8).collect(),
        }
    }

    fn new_name(&mut self) -> String {
        let prefix = self.pick(&["", "./", "d/", "d/e/", "/"]);
        let mut name = format!("{prefix}n{}", self.names.len());
        if self.one_in(10) {
            name += "-\u{e4}";
        }
        if self.odd("an odd name") {
            let odd =
                self.pick(&["", ".", "/", "..", "a/../b", "a//b", "a/.", "d/", "x\ny", "%41"]);
            name = odd.to_owned();
        }
        name
    }

    fn member(&mut self) {
        let name = self.new_name();
        let content = self.content();
        let mut member = Member {
            magic: self.magic,
            typeflag: self.pick(b"00000\x007"),
            name,
            link: String::new(),
            size: octal(content.len() as u64),
            data: content,
            records: Vec::new(),
            patches: Vec::new(),
            map: Vec::new(),
        };
        match self.below(12) {
            0 => self.hard_link(&mut member),
            1 => {
                (member.typeflag, member.link) = (b'2', self.pick(&["x", "d/n0", "/x"]).to_owned());
            }
            2 => member.typeflag = b'5',
            3 if self.magic != V7 => member.typeflag = b'6',
            4 if self.magic == POSIX => self.global(),
            5 | 6 => self.sparse(&mut member),
            7 if self.magic == GNU && self.bytes.is_empty() => member.typeflag = b'V',
            _ => {}
        }
        if !self.names.is_empty() && self.odd("a name in two roles") {
            let index = self.below(self.names.len());
            let below = self.pick(&["", "", "/below", "/", "/d/e"]);
            member.name = format!("{}{below}", self.names[index]);
            if member.typeflag == b'1' {
                self.replaced.push(member.name.clone());
            }
        }
        if !matches!(member.typeflag, 0 | b'0' | b'7' | b'S') && !self.odd("data without a file") {
            (member.size, member.data) = (octal(0), Vec::new());
        } else if matches!(member.typeflag, 0 | b'0' | b'7' | b'S') {
            if !self.files.is_empty() && self.odd("a name twice") {
                member.name = self.a_file();
            }
            let mut name = member.name.clone();
            if self.magic == POSIX && self.one_in(10) {
                member.patches.push((345, b"prefix".to_vec()));
                name.insert_str(0, "prefix/");
            }
            self.files.push(name);
        }
        self.names.push(member.name.clone());
        self.label(&mut member);
        self.records(&mut member);
        self.fields(&mut member);
        self.write(member);
    }

    fn hard_link(&mut self, member: &mut Member) {
        member.typeflag = b'1';
        if self.files.is_empty() || self.odd("a link without a file") {
            self.odd.insert("a link without a file");
            member.link = "missing".to_owned();
        } else {
            member.link = self.a_file();
        }
        if self.magic != POSIX && self.one_in(3) {
            member.size = octal(1000);
        }
    }

    fn global(&mut self) {
        let mut record = record(b"comment", b"for all");
        if self.odd("a global record") {
            let keyword = self.pick(&[
                &b"path"[..],
                b"size",
                b"linkpath",
                b"uid",
                b"GNU.sparse.size",
                b"SCHILY.xattr.security.ima",
                b"SCHILY.realsize",
                b"hdrcharset",
                b"GNU.volume.label",
                b"vendor.word",
            ]);
            let value = self.pick(&[&b"1"[..], b"512", b"other"]);
            record = self::record(keyword, value);
        }
        let count = if self.odd("many global headers") { 28 + self.below(8) } else { 1 };
        for _ in 0..count {
            self.bytes.extend(plain_header(b"global", record.len(), b'g'));
            self.bytes.extend(padded(&record));
        }
    }

    /// An attribute: a digest that may match the content.
    fn label(&mut self, member: &mut Member) {
        if !self.one_in(4) || !matches!(member.typeflag, 0 | b'0' | b'7' | b'S') {
            return;
        }
        let label = [&[4, 4][..], &[self.next() as u8; 32]].concat();
        let mut keyword = b"SCHILY.xattr.security.ima".to_vec();
        if self.odd("an odd keyword of a label") {
            keyword = self
                .pick(&[
                    &b"SCHILY.xattr.security%2Eima"[..],
                    b"SCHILY.xattr.security.im%61",
                    b"SCHILY.xattr.security.ima%00",
                    b"LIBARCHIVE.xattr.security.ima",
                    b" SCHILY.xattr.security.ima",
                    b"SCHILY.xattr.security.ima\0",
                ])
                .to_vec();
        }
        if self.odd("two labels") {
            let other = [&[4, 4][..], &[1; 32]].concat();
            member.records.push((b"SCHILY.xattr.security.ima".to_vec(), other));
        }
        if self.odd("an empty label") {
            member.records.push((keyword.clone(), Vec::new()));
        }
        member.records.push((keyword, label));
        if self.odd("a label of libarchive") {
            let keyword = self
                .pick(&[&b"LIBARCHIVE.xattr.security.ima"[..], b"LIBARCHIVE.xattr.security%2eima"]);
            member.records.push((keyword.to_vec(), b"BAQEBAQE".to_vec()));
        }
    }

    fn records(&mut self, member: &mut Member) {
        if member.typeflag != b'V' && self.one_in(8) {
            member.records.push((b"mtime".to_vec(), b"1700000000.5".to_vec()));
        }
        // with the first blocks of a sparse file's data
        let size = member.data.len().to_string().into_bytes();
        if member.typeflag != b'1'
            && (self.one_in(12) || self.odd("a size in a record"))
            && !member.data.is_empty()
        {
            let mut value = size.clone();
            if self.odd("an odd size in a record") {
                let size = member.data.len();
                value = match self.below(8) {
                    0 => format!("+{size}"),
                    1 => format!(" {size}"),
                    2 => format!("{size} "),
                    3 => format!("0{size}"),
                    4 => format!("{}", size + 512),
                    5 => format!("{size}.0"),
                    6 => "9223372036854775807".to_owned(),
                    _ => "0".to_owned(),
                }
                .into_bytes();
            }
            member.records.push((b"size".to_vec(), value));
            if self.one_in(2) {
                member.size = octal(self.below(3000) as u64);
            }
        }
        if self.odd("an odd record") {
            let keyword = self.pick(&[
                &b"path"[..],
                b"linkpath",
                b"size",
                b"uid",
                b"gid",
                b"hdrcharset",
                b"GNU.sparse.name",
                b"GNU.sparse.realsize",
                b"GNU.sparse.size",
                b"GNU.sparse.major",
                b"SCHILY.realsize",
                b"SUN.holesdata",
                b"GNU.dumpdir",
                b"GNU.volume.size",
                b"GNU.volume.filename",
                b"\tpath",
                b"pa\0th",
                b"SCHILY.filetype",
                b"SCHILY.xattr.user.a%b",
                b"comment",
                b"RHT.security.selinux",
            ]);
            let value = self.pick(&[
                &b""[..],
                b"1",
                b"m0",
                b"0",
                b" 0 512 1024",
                b"5000",
                b"BINARY",
                b"-1",
                b"n\0x",
                b"99999999999",
            ]);
            let at = self.below(member.records.len() + 1);
            member.records.insert(at, (keyword.to_vec(), value.to_vec()));
        }
        if !member.records.is_empty() && self.odd("a record twice") {
            let record = member.records[self.below(member.records.len())].clone();
            member.records.push(record);
        }
    }

    fn fields(&mut self, member: &mut Member) {
        for (at, length) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
            if self.odd("an odd number") {
                let value = self.odd_number(plain_value(at), length);
                member.patches.push((at, value));
            }
        }
        if self.one_in(6) {
            let size = parse(&member.size);
            member.size = match self.below(3) {
                0 => format!("{size:11o} ").into_bytes(),
                1 => format!("{size:012o}").into_bytes(),
                _ => [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat(),
            };
        }
        if self.odd("an odd size") {
            member.size = self.odd_number(parse(&member.size), 12);
        }
        if self.odd("an odd type") {
            member.typeflag = match self.below(3) {
                0 => self.next() as u8,
                1 => self.pick(b"01234567890DMNSVAxgLKX"),
                _ => b'a' + self.below(26) as u8,
            };
        }
        if self.odd("an odd magic") {
            let magic = self.pick(&[
                &b"ustar\0  "[..],
                b"ustar 00",
                b"ustar  0",
                b"ustar\0\0\0",
                b"USTAR\x0000",
                b"ustarX00",
                GNU,
                V7,
                POSIX,
            ]);
            member.patches.push((257, magic.to_vec()));
        }
        if self.odd("an odd prefix") {
            let prefix = self.pick(&[&b"pre/"[..], b"/", b"..", b"pre\0fix"]);
            member.patches.push((345, prefix.to_vec()));
        }
        if self.odd("times of star") {
            member.patches.push((476, b"00000000000 00000000000 ".to_vec()));
        }
        if self.odd("a map in the header") {
            let at = self.pick(&[386, 398, 410, 482, 483, 490]);
            member.patches.push((at, b"00000000001\0".to_vec()));
        }
        if self.odd("a device number") {
            let value = self.odd_number(1, 8);
            member.patches.push((329, value));
        }
    }

    fn odd_number(&mut self, value: u64, length: usize) -> Vec<u8> {
        let width = length - 1;
        let mut field = match self.below(12) {
            0 => format!("\0{value:0width$o}"),
            1 => " ".repeat(length),
            2 => "\0".repeat(length),
            3 => format!("-{value:o}"),
            4 => format!("+{value:o}"),
            5 => format!("\t{value:o}"),
            6 => format!("{value:o}\0x"),
            7 => format!("{value:o} 1"),
            8 => format!("{value:o}x"),
            9 => format!("\0\0{value:o}"),
            _ => {
                let mut bytes = vec![0; length - 8];
                bytes.extend(value.to_be_bytes());
                bytes[0] = self.pick(&[0x80, 0x81, 0xc0, 0xff, 0xbf]);
                return bytes;
            }
        }
        .into_bytes();
        field.resize(length, 0);
        field
    }

    /// Appends a member with its extensions.
    fn write(&mut self, mut member: Member) {
        let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
        let has_prefix = member.patches.iter().any(|(at, _)| *at == 345);
        let is_long = member.typeflag != b'V' && !has_prefix && self.one_in(6);
        if is_long && member.magic == GNU {
            let mut name = [member.name.as_bytes(), b"\0"].concat();
            if self.odd("an odd long name") {
                name = self
                    .pick(&[&b"long"[..], b"lo\0ng\0", b"", &[b'l'; 511], &[b'l'; 512], b"../n\0"])
                    .to_vec();
            }
            extensions.push((b'L', name));
            member.name = "cut".to_owned();
        } else if is_long && member.magic == POSIX {
            let name = member.name.clone().into_bytes();
            let keyword =
                match member.records.iter().any(|(word, _)| word.starts_with(b"GNU.sparse.m")) {
                    true => &b"GNU.sparse.name"[..],
                    false => b"path",
                };
            member.records.push((keyword.to_vec(), name));
            member.name = "cut".to_owned();
        }
        if matches!(member.typeflag, b'1' | b'2') && self.one_in(4) {
            let link = member.link.clone().into_bytes();
            match member.magic {
                GNU => extensions.push((b'K', [&link[..], b"\0"].concat())),
                POSIX => member.records.push((b"linkpath".to_vec(), link)),
                _ => {}
            }
        }
        if !member.records.is_empty() {
            let mut body: Vec<u8> =
                member.records.iter().flat_map(|(keyword, value)| record(keyword, value)).collect();
            if self.odd("an odd end of the records") {
                body.extend(self.pick(&[&b"\0"[..], b"\n", b" ", b"x", b"9999 a=b\n", b"6 a=b\n"]));
            }
            extensions.push((b'x', body));
        }
        if self.odd("another extension") {
            let body = self.pick(&[
                &b"m1\0"[..],
                b"9 path=n\n",
                b"",
                b"16 comment=hello\n",
                b"11 size=512\n",
            ]);
            let at = self.below(extensions.len() + 1);
            extensions.insert(at, (self.pick(b"xXgLKV"), body.to_vec()));
        }
        for (typeflag, body) in extensions {
            let mut header = plain_header(b"extension", body.len(), typeflag);
            if self.odd("an odd size of an extension") {
                let size = self.odd_number(body.len() as u64, 12);
                header[124..136].copy_from_slice(&size);
                seal(&mut header);
            }
            self.bytes.extend(header);
            let mut body = padded(&body);
            if self.odd("garbage in padding") {
                if let Some(last) = body.last_mut() {
                    *last = b'g';
                }
            }
            self.bytes.extend(body);
        }
        self.header(&member);
        self.bytes.extend(&member.map);
        self.bytes.extend(padded(&member.data));
    }

    fn header(&mut self, member: &Member) {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            let end = (at + bytes.len()).min(BLOCK);
            header[at..end].copy_from_slice(&bytes[..end - at]);
        };
        put(0, member.name.as_bytes());
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, &member.size);
        put(136, b"14000000000\0");
        put(156, &[member.typeflag]);
        put(157, member.link.as_bytes());
        put(257, member.magic);
        for (at, bytes) in &member.patches {
            put(*at, bytes);
        }
        seal(&mut header);
        if self.odd("an odd checksum") {
            let sum = parse(&header[148..154]);
            let field = match self.below(7) {
                0 => format!("\0{sum:o}\0"),
                1 => format!("{sum:07o} "),
                2 => format!(" {sum:o} \0 "),
                3 => format!("{sum:o}\0x"),
                4 => format!("\t{sum:o}\0"),
                5 => format!("{:06o}\0 ", sum + 1),
                _ => format!("{sum:08o}"),
            };
            let length = field.len().min(8);
            header[148..148 + length].copy_from_slice(&field.as_bytes()[..length]);
        }
        self.bytes.extend(header);
    }

    /// Appends the end of the archive, and data after it.
    fn end(&mut self) {
        let zeros = self.pick(&[0, 1, 2, 2, 2, 3, 20]);
        self.bytes.resize(self.bytes.len() + zeros * BLOCK, 0);
        if self.odd("something after the end") {
            match self.below(4) {
                0 => self.bytes.extend(b"garbage"),
                1 => self.bytes.extend([b'g'; BLOCK]),
                2 => self.bytes.extend([0; 100]),
                _ => {
                    self.bytes.extend(plain_header(b"hidden", 6, b'0'));
                    self.bytes.extend(padded(b"hidden"));
                    self.bytes.extend([0; 2 * BLOCK]);
                }
            }
        }
    }

    /// Changes random bytes of the archive.
    fn damage(&mut self) {
        let blocks = self.bytes.len() / BLOCK;
        let at = self.below(blocks) * BLOCK;
        if blocks == 0 {
            return;
        }
        if self.odd("cut") {
            let length = self.below(self.bytes.len());
            self.bytes.truncate(length);
        } else if self.odd("a block twice") {
            let block = self.bytes[at..at + BLOCK].to_vec();
            let to = self.below(blocks) * BLOCK;
            self.bytes.splice(to..to, block);
        } else if self.odd("a block too few") {
            self.bytes.drain(at..at + BLOCK);
        } else if self.odd("changed bytes") {
            for _ in 0..1 + self.below(3) {
                let offset = at + self.below(BLOCK);
                self.bytes[offset] =
                    self.pick(&[0, b' ', b'0', b'7', b'/', 0xff, 0x80, b'\n', b'=', b'x']);
            }
            if let Ok(header) = <&mut [u8; BLOCK]>::try_from(&mut self.bytes[at..at + BLOCK]) {
                seal(header);
            }
        }
    }
}
