//! Records in TLV.

use alloc::vec::Vec;

use super::{is_other, CelOther, CelRecord, Fault, Parsed, IMA_TEMPLATE};
use crate::hash::{Digest, HashAlgorithm};
use crate::reader::Reader;
use crate::Error;

const NUMBER: u8 = 0;
const PCR: u8 = 1;
const NV_INDEX: u8 = 2;
const DIGESTS: u8 = 3;
const NAME: u8 = 0;
const DATA: u8 = 1;

/// Reads the next type and its value.
fn any<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), Error> {
    let (kind, length) = (reader.u8()?, reader.u32_be()?);
    Ok((kind, reader.take(length as usize)?))
}

fn take<'a>(reader: &mut Reader<'a>, wanted: u8, named: &'static str) -> Result<&'a [u8], Error> {
    let at = reader.offset();
    match any(reader)? {
        (kind, value) if kind == wanted => Ok(value),
        _ => Err(Error::new(Fault::Cel(named), at)),
    }
}

fn number(value: &[u8], at: usize) -> Result<u64, Error> {
    let start = value.iter().take_while(|byte| **byte == 0).count();
    let value = value.get(start..).unwrap_or_default();
    match value.len() {
        0..=8 => Ok(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))),
        _ => Err(Error::new(Fault::Cel("a number of at most 8 bytes"), at)),
    }
}

/// Reads the record at the start of a window; returns its size as well.
pub(super) fn record(window: &[u8]) -> Result<(Parsed, usize), Error> {
    let mut reader = Reader::new(window);
    let recnum = number(take(&mut reader, NUMBER, "the number of a record (type 0)")?, 0)?;
    let at = reader.offset();
    let not_a_pcr = Error::new(Fault::Cel("a PCR (type 1)"), at);
    let pcr = match any(&mut reader)? {
        (PCR, value) => Some(u32::try_from(number(value, at)?).unwrap_or(u32::MAX)),
        (NV_INDEX, _) => None,
        _ => return Err(not_a_pcr),
    };
    let at = reader.offset();
    let mut listed = Reader::at(take(&mut reader, DIGESTS, "digests (type 3)")?, at + 5);
    let mut digests = Vec::new();
    while listed.remaining() > 0 {
        let at = listed.offset();
        let (algorithm, bytes) = whole(any(&mut listed))?;
        let Some(algorithm) = HashAlgorithm::from_tpm_id(algorithm.into()) else { continue };
        let digest = Digest::new(algorithm, bytes);
        digests.push(digest.ok_or(Error::new(Fault::DigestSize(bytes.len()), at))?);
    }
    let at = reader.offset();
    let (kind, content) = any(&mut reader)?;
    if is_other(kind.into()) {
        let other = CelOther { pcr, content: kind.into() };
        return Ok((Parsed::Other(other), reader.offset()));
    }
    let pcr = pcr.ok_or(not_a_pcr)?;
    if u64::from(kind) != IMA_TEMPLATE {
        return Err(Error::new(Fault::CelContent(kind.into()), at));
    }
    let mut content = Reader::at(content, at + 5);
    let name = whole(take(&mut content, NAME, "the name of a template (type 0)"))?.to_vec();
    let data = whole(take(&mut content, DATA, "template data (type 1)"))?.to_vec();
    content.finish()?;
    let record = CelRecord { number: recnum, pcr, digests, name, data }.checked(at)?;
    Ok((Parsed::Ima(record), reader.offset()))
}

/// Turns the error of a value that ends early into a fault: the enclosing value is complete, so a longer part
/// is malformed.
fn whole<T>(read: Result<T, Error>) -> Result<T, Error> {
    read.map_err(|error| match error.kind {
        crate::ErrorKind::Truncated { .. } => {
            Error::new(Fault::Cel("a shorter value"), error.offset)
        }
        _ => error,
    })
}

/// Appends a record; numbers have no leading zeros.
pub(super) fn encode_into(record: &CelRecord, output: &mut Vec<u8>) {
    let short = |number: u64| {
        let zeros = (number.leading_zeros() as usize / 8).min(7);
        number.to_be_bytes().into_iter().skip(zeros).collect::<Vec<_>>()
    };
    push(NUMBER, &short(record.number), output);
    push(PCR, &short(record.pcr.into()), output);
    let mut digests = Vec::new();
    for digest in &record.digests {
        let algorithm = digest.algorithm().tpm_id().and_then(|id| u8::try_from(id).ok());
        if let Some(algorithm) = algorithm {
            push(algorithm, digest.as_bytes(), &mut digests);
        }
    }
    push(DIGESTS, &digests, output);
    let mut content = Vec::new();
    push(NAME, &record.name, &mut content);
    push(DATA, &record.data, &mut content);
    push(IMA_TEMPLATE as u8, &content, output);
}

fn push(kind: u8, value: &[u8], output: &mut Vec<u8>) {
    output.push(kind);
    output.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
    output.extend_from_slice(value);
}
