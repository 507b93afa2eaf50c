//! Generates lists in the kernels' formats, and the values of the PCRs that they extend.
#![allow(unreachable_pub)] // each test file uses a part

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ima::digest::Hasher;
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use ima_format::measure::{Endian, Record, Template};

pub const BANKS: [HashAlgorithm; 4] =
    [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

/// An entry of a list.
#[derive(Debug, Clone)]
pub struct Entry {
    pub pcr: u32,
    pub template: &'static str,
    pub data: Vec<u8>,
    pub violation: bool,
}

/// The form of a list.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    pub endian: Endian,
    pub bank: HashAlgorithm,
}

pub const USUAL: Form = Form { endian: Endian::Little, bank: HashAlgorithm::Sha1 };

fn number(endian: Endian, value: u32) -> [u8; 4] {
    match endian {
        Endian::Little => value.to_le_bytes(),
        Endian::Big => value.to_be_bytes(),
    }
}

/// Encodes fields as template data.
pub fn fields(endian: Endian, fields: &[&[u8]]) -> Vec<u8> {
    let field = |field: &&[u8]| [&number(endian, field.len() as u32)[..], field].concat();
    fields.iter().flat_map(field).collect()
}

pub fn entry(template: &'static str, data: Vec<u8>) -> Entry {
    Entry { pcr: 10, template, data, violation: false }
}

pub fn digest_of(content: &[u8]) -> Vec<u8> {
    let digest = hash(HashAlgorithm::Sha256, content);
    [b"sha256:\0", &digest[..]].concat()
}

/// An entry for a file with this name and content.
pub fn file(endian: Endian, name: &str, content: &[u8]) -> Entry {
    entry("ima-ng", fields(endian, &[&digest_of(content), &[name.as_bytes(), b"\0"].concat()]))
}

pub fn event(endian: Endian, name: &str, buffer: &[u8]) -> Entry {
    let name = [name.as_bytes(), b"\0"].concat();
    entry("ima-buf", fields(endian, &[&digest_of(buffer), &name, buffer]))
}

/// An entry of template `ima`, with a SHA-1 or an MD5 digest.
pub fn old(endian: Endian, digest: &[u8], name: &str) -> Entry {
    let length = number(endian, name.len() as u32);
    entry("ima", [digest, &length, name.as_bytes()].concat())
}

/// One entry of every template.
pub fn templates(endian: Endian) -> Vec<Entry> {
    let (digest, name) = (digest_of(b"x"), b"/usr/bin/odd\xff\nname\0");
    let verity = [&b"verity:sha512:\0"[..], &[7; 64]].concat();
    let uid = number(endian, 1000);
    let mode = match endian {
        Endian::Little => 0o100755_u16.to_le_bytes(),
        Endian::Big => 0o100755_u16.to_be_bytes(),
    };
    let signature = [3, 2, 4, 1, 2, 3, 4, 0, 1, 9];
    let appended = [&b"sha1:\0"[..], &[0xee; 20]].concat();
    vec![
        file(endian, "boot_aggregate", b"boot"),
        old(endian, &[0xcd; 20], "/an old name"),
        entry("ima-ng", fields(endian, &[&digest, name])),
        entry("ima-sig", fields(endian, &[&digest, name, &signature])),
        entry("ima-ngv2", fields(endian, &[&verity, name])),
        entry("ima-sigv2", fields(endian, &[&verity, name, b""])),
        event(endian, "kexec-cmdline", b"quiet splash"),
        entry("ima-modsig", fields(endian, &[&digest, name, b"", &appended, &[0x30, 0x82]])),
        entry(
            "evm-sig",
            fields(
                endian,
                &[
                    &digest,
                    name,
                    &[5, 2, 4, 1, 2, 3, 4, 0, 1, 9],
                    b"security.ima|security.selinux\0",
                    &[number(endian, 3), number(endian, 4)].concat(),
                    b"\x04\x04abcde",
                    &uid,
                    &uid,
                    &mode,
                ],
            ),
        ),
        entry("d|n", fields(endian, &[&[0xcd; 20], b"name\0"])),
    ]
}

pub fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Vec<u8> {
    Hasher::new(algorithm).unwrap().digest(bytes).unwrap().as_bytes().to_vec()
}

impl Entry {
    pub fn violation(mut self) -> Self {
        self.violation = true;
        self
    }

    pub fn in_pcr(mut self, pcr: u32) -> Self {
        self.pcr = pcr;
        self
    }

    /// The digest of its data, also if it is a violation.
    pub fn template_digest(&self, bank: HashAlgorithm) -> Vec<u8> {
        match self.template {
            "ima" => {
                // the names here begin with a slash
                let size = if self.data[20] == b'/' { 16 } else { 20 };
                let mut padded = [&self.data[..size], &self.data[size + 4..]].concat();
                padded.resize(size + 256, 0);
                hash(bank, &padded)
            }
            _ => hash(bank, &self.data),
        }
    }

    fn with<T>(&self, form: Form, use_it: impl FnOnce(&Record<'_>) -> T) -> T {
        let digest = match self.violation {
            true => vec![0; form.bank.digest_size()],
            false => self.template_digest(form.bank),
        };
        let template = Template::of(self.template.as_bytes()).unwrap();
        let Self { pcr, ref data, .. } = *self;
        let endian = form.endian;
        use_it(&Record { pcr, digest: &digest, template, data, data_offset: 0, endian })
    }
}

/// The binary list.
pub fn binary(form: Form, entries: &[Entry]) -> Vec<u8> {
    let mut list = Vec::new();
    entries.iter().for_each(|entry| entry.with(form, |record| record.encode_into(&mut list)));
    list
}

/// The ASCII list.
pub fn ascii(form: Form, entries: &[Entry]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut print = |record: &Record<'_>| record.print_into(&mut list).unwrap();
    entries.iter().for_each(|entry| entry.with(form, &mut print));
    list
}

/// The list as passed to the next kernel by kexec, with unused space.
pub fn kexec(form: Form, entries: &[Entry]) -> Vec<u8> {
    let list = binary(form, entries);
    let (size, count) = (list.len() as u64 + 24, entries.len() as u64);
    let header = match form.endian {
        Endian::Little => {
            [vec![1, 0], vec![0; 6], size.to_le_bytes().into(), count.to_le_bytes().into()]
        }
        Endian::Big => {
            [vec![0, 1], vec![0; 6], size.to_be_bytes().into(), count.to_be_bytes().into()]
        }
    };
    [header.concat(), list, vec![0; 777]].concat()
}

/// Values of PCRs.
#[derive(Debug, Clone, Default)]
pub struct Pcrs(pub BTreeMap<(HashAlgorithm, u32), Vec<u8>>);

impl Pcrs {
    /// The values after these entries.
    pub fn after(entries: &[Entry]) -> Self {
        let mut pcrs = Self::default();
        for entry in entries {
            for bank in BANKS {
                let by = match entry.violation {
                    true => vec![0xff; bank.digest_size()],
                    false => entry.template_digest(bank),
                };
                pcrs.extend(bank, entry.pcr, &by);
            }
        }
        pcrs
    }

    pub fn extend(&mut self, bank: HashAlgorithm, pcr: u32, by: &[u8]) {
        let value = self.0.entry((bank, pcr)).or_insert_with(|| vec![0; bank.digest_size()]);
        *value = hash(bank, &[value, by].concat());
    }

    /// In the format of tpm2_pcrread.
    pub fn write(&self, path: &Path) -> PathBuf {
        let (mut text, mut last) = (String::new(), None);
        for ((bank, pcr), value) in &self.0 {
            if last != Some(bank) {
                writeln!(text, "  {bank}:").unwrap();
            }
            last = Some(bank);
            writeln!(text, "    {pcr:<2}: 0x{}", Hex(value).to_string().to_uppercase()).unwrap();
        }
        std::fs::write(path, text).unwrap();
        path.to_owned()
    }

    /// A bank in evmctl's format: all 24 PCRs.
    pub fn write_bank(&self, bank: HashAlgorithm, directory: &Path) -> String {
        let path = directory.join(format!("pcrs.{bank}"));
        let zeros = vec![0; bank.digest_size()];
        let line = |pcr| {
            let value = self.0.get(&(bank, pcr)).unwrap_or(&zeros);
            format!("PCR-{pcr:02}:{}\n", Hex(value))
        };
        std::fs::write(&path, (0..24).map(line).collect::<String>()).unwrap();
        format!("{bank},{}", path.display())
    }
}
