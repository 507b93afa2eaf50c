//! The files that an ELF file needs before it runs: its loader, its libraries, and where they are searched.
//!
//! Read in place, at offsets, so that of a large program some hundred bytes are read. Fields
//! that are not named here are not looked at.
//!
//! ```text
//! header        32 bit  64 bit
//!   magic            0       0   7f 'E' 'L' 'F'
//!   class            4       4   1: 32 bit, 2: 64 bit
//!   data             5       5   1: little-endian, 2: big-endian
//!   e_type          16      16   u16: 1 REL (modules, objects), 2 EXEC, 3 DYN, 4 CORE
//!   e_machine       18      18   u16
//!   e_phoff         28      32   word: where program headers are
//!   e_phentsize     42      54   u16: 32, 56; the kernel takes no other
//!   e_phnum         44      56   u16
//! program header
//!   p_type           0       0   u32: 1 LOAD, 2 DYNAMIC, 3 INTERP, 0x6474e553 GNU_PROPERTY
//!   p_offset         4       8   word: where in the file
//!   p_vaddr          8      16   word: where in memory
//!   p_filesz        16      32   word
//! dynamic entry: tag (word), value (word), up to tag 0
//!   1 NEEDED   5 STRTAB (an address)   10 STRSZ   14 SONAME   15 RPATH   29 RUNPATH
//!   0x6ffffffb FLAGS_1: 0x800 NODEFLIB, 0x08000000 PIE
//! property note (x86-64)
//!   0 u32: 4   4 u32: size of the properties   8 u32: 5   12 "GNU\0"   16 properties
//!   property: type (u32), size (u32), data, padded to a word
//!   0xc0008002 X86_ISA_1_NEEDED, u32: 1 the baseline, 2 x86-64-v2, 4 x86-64-v3, 8 x86-64-v4
//! ```
//!
//! Mirrors `include/uapi/linux/elf.h`, `load_elf_binary` in `fs/binfmt_elf.c`, and what glibc's
//! `elf/dl-load.c` and `sysdeps/x86/dl-prop.h` read.

use alloc::vec::Vec;
use core::fmt;

use crate::{Error, ErrorKind};

/// The first four bytes.
pub const MAGIC: &[u8; 4] = b"\x7fELF";

/// Reads up to so many bytes at an offset; fewer at the end of the file.
pub type ReadAt<'a, E> = dyn FnMut(u64, usize) -> Result<Vec<u8>, E> + 'a;

/// How wide its words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// Which byte of a word comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The lowest one.
    Little,
    /// The highest one.
    Big,
}

/// The type of a file (`e_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not linked: an object, or a kernel module.
    Relocatable,
    /// A program at a fixed address.
    Executable,
    /// A shared library, or a program at any address.
    Shared,
    /// Anything else.
    Other(u16),
}

/// For what a file was linked: a library goes with programs of the same alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    /// 32 or 64 bits.
    pub class: Class,
    /// Little- or big-endian.
    pub order: ByteOrder,
    /// `e_machine`
    pub number: u16,
}

/// The header of a file, and the parts that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// For what it was linked.
    pub machine: Machine,
    /// Its type.
    pub kind: Kind,
    /// `PT_INTERP`: the loader that the kernel also starts.
    pub interpreter: Option<Vec<u8>>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<Vec<u8>>,
    /// `DT_SONAME`
    pub soname: Option<Vec<u8>>,
    /// `DT_RPATH`, between colons.
    pub rpath: Option<Vec<u8>>,
    /// `DT_RUNPATH`, between colons.
    pub runpath: Option<Vec<u8>>,
    /// `DF_1_PIE`: a program though it is [`Kind::Shared`].
    pub pie: bool,
    /// `DF_1_NODEFLIB`: the default directories are not searched.
    pub no_default_directories: bool,
    /// `GNU_PROPERTY_X86_ISA_1_NEEDED`: the level of x86-64 below which glibc refuses it, 2 to 4;
    /// 0: none.
    pub x86_64_level: u8,
}

/// A fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The first four bytes are others.
    NotElf,
    /// Neither 32 nor 64 bits.
    UnknownClass(u8),
    /// Neither little- nor big-endian.
    UnknownByteOrder(u8),
    /// Program headers of another size than the class's.
    ProgramHeaderSize(u16),
    /// The loader's path is empty, too long, or not ended by a NUL.
    BadInterpreter,
    /// A string is asked for, and no segment holds the string table.
    NoStringTable,
    /// A string that is too long, or not ended by a NUL.
    UnendedString,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not ELF"),
            Self::UnknownClass(class) => write!(f, "unknown ELF class {class}"),
            Self::UnknownByteOrder(order) => write!(f, "unknown ELF byte order {order}"),
            Self::ProgramHeaderSize(size) => write!(f, "program headers of {size} bytes"),
            Self::BadInterpreter => f.write_str("a loader's path without end"),
            Self::NoStringTable => f.write_str("no string table"),
            Self::UnendedString => f.write_str("a string without end"),
        }
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::Elf(fault)
    }
}

/// The longest path, and the longest string that is read (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// The most bytes of dynamic entries that are read; the largest programs have some thousand.
const DYNAMIC_MAX: u64 = 1 << 20;

/// A failure to read, or a file that is malformed.
enum Stop<E> {
    Read(E),
    Malformed(Error),
}

impl<E> Stop<E> {
    fn malformed(fault: Fault, offset: u64) -> Self {
        Self::Malformed(Error::new(fault, usize::try_from(offset).unwrap_or(usize::MAX)))
    }
}

impl Elf {
    /// Reads a part of a file.
    ///
    /// # Errors
    /// The outer one is that of `read`, the inner one is the fault of the file.
    pub fn read<E>(read: &mut ReadAt<'_, E>) -> Result<Result<Self, Error>, E> {
        match File::open(read).and_then(|mut file| file.elf()) {
            Ok(elf) => Ok(Ok(elf)),
            Err(Stop::Malformed(error)) => Ok(Err(error)),
            Err(Stop::Read(error)) => Err(error),
        }
    }
}

struct Header {
    machine: Machine,
    big_endian: bool,
    kind: Kind,
    table: u64,
    count: usize,
}

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_PROPERTY: u32 = 0x6474_e553;
/// `EM_X86_64`
const X86_64: u16 = 62;

struct File<'a, 'r, E> {
    read: &'a mut ReadAt<'r, E>,
    header: Header,
}

impl<'a, 'r, E> File<'a, 'r, E> {
    fn open(read: &'a mut ReadAt<'r, E>) -> Result<Self, Stop<E>> {
        const LARGEST: usize = 64;
        let bytes = read(0, LARGEST).map_err(Stop::Read)?;
        if !bytes.starts_with(MAGIC) {
            return Err(Stop::malformed(Fault::NotElf, 0));
        }
        let class = match byte(&bytes, 4)? {
            1 => Class::Bits32,
            2 => Class::Bits64,
            other => return Err(Stop::malformed(Fault::UnknownClass(other), 4)),
        };
        let big_endian = match byte(&bytes, 5)? {
            1 => false,
            2 => true,
            other => return Err(Stop::malformed(Fault::UnknownByteOrder(other), 5)),
        };
        let word = class.word();
        let (table, size, count, expected) = match class {
            Class::Bits32 => (28, 42, 44, 32),
            Class::Bits64 => (32, 54, 56, 56),
        };
        let short = |offset| number(&bytes, offset, 2, big_endian);
        let short = |offset| short(offset).map(|value| u16::try_from(value).unwrap_or_default());
        let kind = match short(16)? {
            1 => Kind::Relocatable,
            2 => Kind::Executable,
            3 => Kind::Shared,
            other => Kind::Other(other),
        };
        let order = if big_endian { ByteOrder::Big } else { ByteOrder::Little };
        let machine = Machine { class, order, number: short(18)? };
        let count = usize::from(short(count)?);
        let found = short(size)?;
        if count > 0 && found != expected {
            return Err(Stop::malformed(Fault::ProgramHeaderSize(found), size as u64));
        }
        let table = number(&bytes, table, word, big_endian)?;
        Ok(Self { read, header: Header { machine, big_endian, kind, table, count } })
    }

    fn elf(&mut self) -> Result<Elf, Stop<E>> {
        let mut elf = Elf {
            machine: self.header.machine,
            kind: self.header.kind,
            interpreter: None,
            needed: Vec::new(),
            soname: None,
            rpath: None,
            runpath: None,
            pie: false,
            no_default_directories: false,
            x86_64_level: 0,
        };
        let segments = self.segments()?;
        let of_kind = |kind| segments.iter().find(move |segment| segment.kind == kind).copied();
        if let Some(segment) = of_kind(PT_INTERP) {
            elf.interpreter = Some(self.interpreter(segment)?);
        }
        if let Some(segment) = of_kind(PT_DYNAMIC) {
            self.dynamic(segment, &segments, &mut elf)?;
        }
        if let (X86_64, Some(segment)) = (elf.machine.number, of_kind(PT_GNU_PROPERTY)) {
            let size = usize::try_from(segment.size).unwrap_or(usize::MAX).min(PATH_MAX);
            let note = (self.read)(segment.offset, size).map_err(Stop::Read)?;
            elf.x86_64_level = x86_64_level(&note, elf.machine.class.word()).unwrap_or(0);
        }
        Ok(elf)
    }

    /// At most 65,535 headers of 56 bytes.
    fn segments(&mut self) -> Result<Vec<Segment>, Stop<E>> {
        let Header { machine: Machine { class, .. }, big_endian, table, count, .. } = self.header;
        let (size, offset, address, length) = match class {
            Class::Bits32 => (32, 4, 8, 16),
            Class::Bits64 => (56, 8, 16, 32),
        };
        let bytes = (self.read)(table, size * count).map_err(Stop::Read)?;
        let mut segments = Vec::new();
        for header in bytes.chunks(size) {
            let word = |at| {
                number(header, at, class.word(), big_endian).map_err(|stop| stop.behind(table))
            };
            let kind = number(header, 0, 4, big_endian).map_err(|stop| stop.behind(table))?;
            segments.push(Segment {
                kind: u32::try_from(kind).unwrap_or_default(),
                offset: word(offset)?,
                address: word(address)?,
                size: word(length)?,
            });
        }
        match segments.len() == count {
            true => Ok(segments),
            false => Err(truncated(size * count, bytes.len()).behind(table)),
        }
    }

    fn interpreter(&mut self, segment: Segment) -> Result<Vec<u8>, Stop<E>> {
        let bad = || Stop::malformed(Fault::BadInterpreter, segment.offset);
        let size = usize::try_from(segment.size).ok().filter(|size| (2..=PATH_MAX).contains(size));
        let bytes = (self.read)(segment.offset, size.ok_or_else(bad)?).map_err(Stop::Read)?;
        match bytes.strip_suffix(&[0]) {
            // a string for the kernel: up to the first NUL
            Some(path) if !path.is_empty() && path.first() != Some(&0) => {
                Ok(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
            }
            _ => Err(bad()),
        }
    }

    fn dynamic(
        &mut self,
        segment: Segment,
        segments: &[Segment],
        elf: &mut Elf,
    ) -> Result<(), Stop<E>> {
        let (word, big_endian) = (self.header.machine.class.word(), self.header.big_endian);
        let size = usize::try_from(segment.size.min(DYNAMIC_MAX)).unwrap_or_default();
        let bytes = (self.read)(segment.offset, size).map_err(Stop::Read)?;
        let mut entries = Vec::new();
        for entry in bytes.chunks_exact(2 * word) {
            let tag = number::<E>(entry, 0, word, big_endian)?;
            let value = number::<E>(entry, word, word, big_endian)?;
            if tag == 0 {
                break;
            }
            entries.push((tag, value));
        }
        let strings = entries.iter().find(|(tag, _)| *tag == 5).map(|(_, address)| *address);
        let table = strings.and_then(|address| offset_of(address, segments));
        for (tag, value) in entries {
            match tag {
                1 => elf.needed.push(self.string(table, value)?),
                14 => elf.soname = Some(self.string(table, value)?),
                15 => elf.rpath = Some(self.string(table, value)?),
                29 => elf.runpath = Some(self.string(table, value)?),
                0x6fff_fffb => {
                    elf.no_default_directories = value & 0x800 != 0;
                    elf.pie = value & 0x0800_0000 != 0;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn string(&mut self, table: Option<u64>, offset: u64) -> Result<Vec<u8>, Stop<E>> {
        let table = table.ok_or_else(|| Stop::malformed(Fault::NoStringTable, 0))?;
        let offset = table.saturating_add(offset);
        for length in [128, PATH_MAX] {
            let bytes = (self.read)(offset, length).map_err(Stop::Read)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return Ok(bytes.get(..end).unwrap_or_default().to_vec());
            }
        }
        Err(Stop::malformed(Fault::UnendedString, offset))
    }
}

impl Class {
    const fn word(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

impl<E> Stop<E> {
    /// The same for a part that begins at `offset`.
    fn behind(self, offset: u64) -> Self {
        match self {
            Self::Malformed(Error { kind, offset: inner }) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(inner);
                Self::Malformed(Error { kind, offset })
            }
            read => read,
        }
    }
}

/// The level that a property note asks for; a note that is malformed asks for nothing, as
/// glibc ignores it (`_dl_process_property_note`).
fn x86_64_level(note: &[u8], word: usize) -> Option<u8> {
    const NEEDED: u32 = 0xc000_8002;
    let long = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    if (long(note, 0)?, long(note, 8)?, note.get(12..16)?) != (4, 5, b"GNU\0") {
        return None;
    }
    let size = usize::try_from(long(note, 4)?).ok()?;
    let mut properties = note.get(16..)?.get(..size)?;
    while !properties.is_empty() {
        let length = usize::try_from(long(properties, 4)?).ok()?;
        if (long(properties, 0)?, length) == (NEEDED, 4) {
            let bits = long(properties, 8)? & 0xf;
            // the highest of its levels; the baseline is none
            return Some(bits.checked_ilog2().map_or(0, |bit| bit as u8 + u8::from(bit > 0)));
        }
        properties =
            properties.get(8_usize.checked_add(length.checked_next_multiple_of(word)?)?..)?;
    }
    None
}

/// The offset in the file of the byte that is loaded at `address`.
fn offset_of(address: u64, segments: &[Segment]) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && address.checked_sub(segment.address).is_some_and(|inner| inner < segment.size)
    })?;
    segment.offset.checked_add(address - segment.address)
}

fn byte<E>(bytes: &[u8], offset: usize) -> Result<u8, Stop<E>> {
    bytes.get(offset).copied().ok_or_else(|| truncated(offset + 1, bytes.len()))
}

/// A number of up to eight bytes.
fn number<E>(bytes: &[u8], offset: usize, size: usize, big_endian: bool) -> Result<u64, Stop<E>> {
    let field = bytes.get(offset..offset + size);
    let field = field.ok_or_else(|| truncated(offset + size, bytes.len()))?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Ok(match big_endian {
        true => field.iter().fold(0, add),
        false => field.iter().rev().fold(0, add),
    })
}

fn truncated<E>(needed: usize, available: usize) -> Stop<E> {
    Stop::Malformed(Error { kind: ErrorKind::Truncated { needed, available }, offset: 0 })
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use std::vec;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Elf, Error> {
        let mut read = |offset: u64, length: usize| -> Result<Vec<u8>, Infallible> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[start..start.saturating_add(length).min(bytes.len())].to_vec())
        };
        match Elf::read(&mut read) {
            Ok(elf) => elf,
            Err(error) => match error {},
        }
    }

    /// A program of either class and byte order, with a loader and two libraries.
    fn program(class: Class, big_endian: bool) -> Vec<u8> {
        let word = class.word();
        let put = |bytes: &mut Vec<u8>, at: usize, size: usize, value: u64| {
            let all = if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let field = if big_endian { &all[8 - size..] } else { &all[..size] };
            bytes.resize(bytes.len().max(at + size), 0);
            bytes[at..at + size].copy_from_slice(field);
        };
        let (phoff, phentsize, phnum, size, offset, address, length) = match class {
            Class::Bits32 => (28, 42, 44, 32, 4, 8, 16),
            Class::Bits64 => (32, 54, 56, 56, 8, 16, 32),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(if class == Class::Bits32 { 1 } else { 2 });
        bytes.push(if big_endian { 2 } else { 1 });
        put(&mut bytes, 16, 2, 3);
        put(&mut bytes, 18, 2, 62);
        put(&mut bytes, phoff, word, 64);
        put(&mut bytes, phentsize, 2, size as u64);
        put(&mut bytes, phnum, 2, 3);
        for (index, [kind, at, to, long]) in [
            [3, 0x200, 0x10200, 12],
            [1, 0x200, 0x10200, 0x200],
            [2, 0x300, 0x10300, (word * 2 * 8) as u64],
        ]
        .into_iter()
        .enumerate()
        {
            let start = 64 + index * size;
            put(&mut bytes, start, 4, kind);
            put(&mut bytes, start + offset, word, at);
            put(&mut bytes, start + address, word, to);
            put(&mut bytes, start + length, word, long);
        }
        bytes.resize(0x200, 0);
        bytes.extend_from_slice(b"/lib/ld.so.1\0libc.so\0libm.so\0$ORIGIN/x\0");
        bytes[0x200 + 11] = 0;
        let strings = 0x10200;
        for (index, (tag, value)) in
            [(1, 13), (5, strings), (1, 21), (29, 29), (0x6fff_fffb, 0x0800_0000), (0, 0), (1, 13)]
                .into_iter()
                .enumerate()
        {
            put(&mut bytes, 0x300 + index * 2 * word, word, tag);
            put(&mut bytes, 0x300 + index * 2 * word + word, word, value);
        }
        bytes
    }

    #[test]
    fn reads_either_class_and_byte_order() {
        for class in [Class::Bits32, Class::Bits64] {
            for big_endian in [false, true] {
                let elf = read(&program(class, big_endian)).unwrap();
                let order = if big_endian { ByteOrder::Big } else { ByteOrder::Little };
                assert_eq!(elf.machine, Machine { class, order, number: 62 });
                assert_eq!(elf.kind, Kind::Shared);
                assert_eq!(elf.interpreter.as_deref(), Some(&b"/lib/ld.so."[..]));
                assert_eq!(elf.needed, [b"libc.so".to_vec(), b"libm.so".to_vec()]);
                assert_eq!(elf.runpath.as_deref(), Some(&b"$ORIGIN/x"[..]));
                assert_eq!((elf.rpath, elf.soname), (None, None));
                assert!(elf.pie && !elf.no_default_directories);
            }
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = program(Class::Bits64, false);
        for end in 0..whole.len() {
            if let Err(error) = read(&whole[..end]) {
                assert!(error.offset <= whole.len(), "{error}");
            }
            for value in [0, 0xff] {
                let mut changed = whole.clone();
                changed[end] = value;
                let _ = read(&changed);
            }
        }
        assert_eq!(read(b"#!/bin/sh\n").unwrap_err(), Error::new(Fault::NotElf, 0));
        assert_eq!(read(b"\x7fELF\x03\x01").unwrap_err().kind, Fault::UnknownClass(3).into());
        let huge = [&whole[..56], &vec![0xff; 2][..], &whole[58..]].concat();
        assert!(matches!(read(&huge).unwrap_err().kind, ErrorKind::Truncated { .. }));
    }

    #[test]
    fn a_property_note_demands_a_level() {
        let note = |properties: &[u8]| {
            let size = properties.len() as u8;
            let head = [4, 0, 0, 0, size, 0, 0, 0, 5, 0, 0, 0, b'G', b'N', b'U', 0];
            [&head, properties].concat()
        };
        let level = |bits| {
            // GNU_PROPERTY_X86_FEATURE_1_AND before it
            let other = [2, 0, 0, 0xc0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
            let needed = [2, 0x80, 0, 0xc0, 4, 0, 0, 0, bits, 0, 0, 0, 0, 0, 0, 0];
            x86_64_level(&note(&[other, needed].concat()), 8)
        };
        assert_eq!([0, 1, 2, 4, 6, 8].map(level), [0, 0, 2, 3, 3, 4].map(Some));
        assert_eq!(x86_64_level(&note(&[]), 8), None);
        let whole = note(&[2, 0x80, 0, 0xc0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(x86_64_level(&whole[..20], 8), None, "cut");
    }
}
