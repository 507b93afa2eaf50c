//! ASCII records: the output of `ima_ascii_measurements_show` (`ima_fs.c`), parsed and printed.
//!
//! `PCR digest template field...`, separated by single spaces; a field without data is empty. Lengths are
//! not printed. Template `ima` prints the spaces of a name, so its name extends to the end of the line. A
//! newline in a name is printed as it is: a line that does not begin a record continues the record before
//! it ([`AsciiRecord::begins`]).

use alloc::vec::Vec;

use super::binary::PCRS;
use super::template::{Field, FieldId};
use super::{Endian, Fault, Record, Template};
use crate::hex;
use crate::Error;

/// A record read from a line; its data are encoded as in a binary list of the given byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsciiRecord<'a> {
    pcr: u32,
    digest: Vec<u8>,
    template: Template<'a>,
    data: Vec<u8>,
    endian: Endian,
}

impl<'a> AsciiRecord<'a> {
    /// Whether a line begins a record: with a PCR, a digest and a template.
    pub fn begins(line: &[u8]) -> bool {
        Words::new(line).header().is_ok()
    }

    /// Reads a record without its final newline. The template digest covers lengths and numbers in the byte
    /// order of the machine that made them, which no line shows: `endian` selects it.
    ///
    /// # Errors
    /// A line that the kernel does not print; the offset counts from the start of the line.
    pub fn parse(line: &'a [u8], endian: Endian) -> Result<Self, Error> {
        let mut words = Words::new(line);
        let (pcr, digest, template) = words.header()?;
        let mut data = Vec::new();
        let fields = template.fields();
        for (number, id) in fields.iter().enumerate() {
            let last = number + 1 == fields.len();
            let (text, at) = match template.is_ima() && last {
                true => words.rest(),
                false => words.next()?,
            };
            let bytes = bytes_of(*id, text, endian).map_err(|fault| Error::new(fault, at))?;
            // template `ima`: the digest has no length, and the name no NUL
            let bytes = match (template.is_ima(), *id) {
                (true, FieldId::Digest) if matches!(bytes.len(), 16 | 20) => {
                    data.extend_from_slice(&bytes);
                    continue;
                }
                (true, FieldId::Digest) => {
                    return Err(Error::new(Fault::DigestSize(bytes.len()), at))
                }
                (true, _) => text,
                (false, _) => &bytes,
            };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&endian.bytes(length));
            data.extend_from_slice(bytes);
        }
        words.finish()?;
        Ok(Self { pcr, digest, template, data, endian })
    }

    /// The record as in a binary list.
    pub fn record(&self) -> Record<'_> {
        let Self { pcr, digest, template, data, endian } = self;
        Record { pcr: *pcr, digest, template: *template, data, data_offset: 0, endian: *endian }
    }
}

/// Iterates over the words of a line.
struct Words<'a> {
    line: &'a [u8],
    /// Offset of the next word; past the end of the line if there is no further word.
    next: usize,
}

impl<'a> Words<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { line, next: 0 }
    }

    /// The next word, and its offset.
    fn next(&mut self) -> Result<(&'a [u8], usize), Error> {
        let at = self.next;
        let rest = self.line.get(at..).ok_or(Error::new(Fault::Line, self.line.len()))?;
        let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.next = at + word.len() + 1;
        Ok((word, at))
    }

    fn rest(&mut self) -> (&'a [u8], usize) {
        let at = self.next;
        self.next = self.line.len() + 1;
        (self.line.get(at..).unwrap_or_default(), at)
    }

    fn finish(&self) -> Result<(), Error> {
        match self.next > self.line.len() {
            true => Ok(()),
            false => Err(Error::new(Fault::Line, self.next)),
        }
    }

    fn header(&mut self) -> Result<(u32, Vec<u8>, Template<'a>), Error> {
        // the PCR is printed with a width of two
        self.next = usize::from(self.line.first() == Some(&b' '));
        let (pcr, at) = self.next()?;
        let pcr = number(pcr).ok_or(Error::new(Fault::Line, at))?;
        if pcr >= PCRS {
            return Err(Error::new(Fault::Pcr(pcr), at));
        }
        let (digest, at) = self.next()?;
        let digest = hex::decode(digest).map_err(|within| Error::new(Fault::Hex, at + within))?;
        if !matches!(digest.len(), 20 | 32 | 48 | 64) {
            return Err(Error::new(Fault::Line, at));
        }
        let (name, at) = self.next()?;
        let template = Template::of(name).ok_or(Error::new(Fault::Template, at))?;
        Ok((pcr, digest, template))
    }
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// The binary form of a printed field.
fn bytes_of(id: FieldId, text: &[u8], endian: Endian) -> Result<Vec<u8>, Fault> {
    let from_hex = |text| hex::decode(text).map_err(|_| Fault::Hex);
    if text.is_empty() && !matches!(id, FieldId::Name | FieldId::NameNg) {
        return Ok(Vec::new());
    }
    Ok(match id {
        FieldId::DigestNg | FieldId::DigestNgV2 | FieldId::ModsigDigest => {
            let colon =
                text.iter().rposition(|byte| *byte == b':').ok_or(Fault::DigestAlgorithm)?;
            let (prefix, digest) = text.split_at(colon + 1);
            let mut bytes = prefix.to_vec();
            bytes.push(0);
            bytes.extend_from_slice(&from_hex(digest)?);
            bytes
        }
        FieldId::Name | FieldId::NameNg | FieldId::XattrNames => {
            let mut bytes = text.to_vec();
            bytes.push(0);
            bytes
        }
        FieldId::Uid | FieldId::Gid => endian.bytes(number(text).ok_or(Fault::Line)?).to_vec(),
        FieldId::Mode => {
            let mode = number(text).and_then(|mode| u16::try_from(mode).ok());
            let mode = mode.ok_or(Fault::Line)?;
            match endian {
                Endian::Little => mode.to_le_bytes(),
                Endian::Big => mode.to_be_bytes(),
            }
            .to_vec()
        }
        FieldId::Digest
        | FieldId::Signature
        | FieldId::Buffer
        | FieldId::Modsig
        | FieldId::EvmSignature
        | FieldId::XattrLengths
        | FieldId::XattrValues => from_hex(text)?,
    })
}

impl Record<'_> {
    /// Appends the line that the kernel prints for this record, with its newline.
    ///
    /// # Errors
    /// Template data that do not have the form of the template.
    pub fn print_into(&self, output: &mut Vec<u8>) -> Result<(), Error> {
        output.extend_from_slice(alloc::format!("{:2} ", self.pcr).as_bytes());
        push_hex(output, self.digest);
        output.push(b' ');
        output.extend_from_slice(self.template.name());
        for field in self.fields() {
            let field = field.map_err(|error| error.after(self.data_offset))?;
            output.push(b' ');
            self.print_field(&field, output)
                .map_err(|fault| Error::new(fault, self.data_offset + field.offset))?;
        }
        output.push(b'\n');
        Ok(())
    }

    fn print_field(&self, field: &Field<'_>, output: &mut Vec<u8>) -> Result<(), Fault> {
        let bytes = field.bytes;
        // as printf's %s: up to the first NUL
        let string = || bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        match field.id {
            _ if bytes.is_empty() => {}
            FieldId::DigestNg | FieldId::DigestNgV2 | FieldId::ModsigDigest => {
                let prefix = string();
                output.extend_from_slice(prefix);
                push_hex(output, bytes.get(prefix.len() + 1..).ok_or(Fault::DigestAlgorithm)?);
            }
            FieldId::Name | FieldId::NameNg | FieldId::XattrNames => {
                output.extend_from_slice(string());
            }
            FieldId::Uid | FieldId::Gid | FieldId::Mode => {
                let number = super::entry::number(bytes, self.endian)?.unwrap_or_default();
                output.extend_from_slice(alloc::format!("{number}").as_bytes());
            }
            FieldId::Digest
            | FieldId::Signature
            | FieldId::Buffer
            | FieldId::Modsig
            | FieldId::EvmSignature
            | FieldId::XattrLengths
            | FieldId::XattrValues => push_hex(output, bytes),
        }
        Ok(())
    }
}

fn push_hex(output: &mut Vec<u8>, bytes: &[u8]) {
    output.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(
        |nibble| match nibble {
            0..=9 => b'0' + nibble,
            _ => b'a' + nibble - 10,
        },
    ));
}
