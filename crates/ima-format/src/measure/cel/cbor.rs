//! Records in CBOR (RFC 8949), of definite length.

use alloc::vec::Vec;

use super::{is_other, CelOther, CelRecord, Fault, Parsed, IMA_TEMPLATE};
use crate::cbor::{Writer, ARRAY, BYTES, MAP, NUMBER, TEXT};
use crate::hash::{Digest, HashAlgorithm};
use crate::reader::Reader;
use crate::Error;

/// The major type of a tag.
const TAG: u8 = 6;
/// An array of indefinite length.
const INDEFINITE: u8 = 0x9f;
/// The end of an array of indefinite length.
pub(super) const BREAK: u8 = 0xff;
/// The most digests of a record: more than a TPM has banks.
const MAX_DIGESTS: u64 = 16;
/// The key of an NV index, which a record may have instead of a PCR.
const NV_INDEX: u64 = 2;
/// The deepest nesting that is skipped: deeper than the content of any event.
const MAX_DEPTH: usize = 8;

/// Reads a major type and its argument.
fn head(reader: &mut Reader<'_>) -> Result<(u8, u64), Error> {
    let at = reader.offset();
    let first = reader.u8()?;
    let argument = match first & 0x1f {
        small @ 0..=23 => small.into(),
        24 => reader.u8()?.into(),
        25 => reader.u16_be()?.into(),
        26 => reader.u32_be()?.into(),
        27 => u64::from_be_bytes(reader.array()?),
        _ => return Err(Error::new(Fault::Cel("a definite length"), at)),
    };
    Ok((first >> 5, argument))
}

fn argument(reader: &mut Reader<'_>, major: u8, named: &'static str) -> Result<u64, Error> {
    let at = reader.offset();
    match head(reader)? {
        (found, argument) if found == major => Ok(argument),
        _ => Err(Error::new(Fault::Cel(named), at)),
    }
}

fn string<'a>(reader: &mut Reader<'a>, major: u8, named: &'static str) -> Result<&'a [u8], Error> {
    let length = argument(reader, major, named)?;
    reader.take(usize::try_from(length).unwrap_or(usize::MAX))
}

/// Reads a key, which must be `wanted`.
fn key(reader: &mut Reader<'_>, wanted: u64, named: &'static str) -> Result<(), Error> {
    let at = reader.offset();
    match head(reader)? {
        (NUMBER, found) if found == wanted => Ok(()),
        _ => Err(Error::new(Fault::Cel(named), at)),
    }
}

fn map(reader: &mut Reader<'_>, count: u64, named: &'static str) -> Result<(), Error> {
    let at = reader.offset();
    match argument(reader, MAP, named)? {
        found if found == count => Ok(()),
        _ => Err(Error::new(Fault::Cel(named), at)),
    }
}

/// Skips an item of definite length.
fn skip(reader: &mut Reader<'_>, depth: usize) -> Result<(), Error> {
    let at = reader.offset();
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(Error::new(Fault::Cel("content that is nested less"), at));
    };
    match head(reader)? {
        (BYTES | TEXT, length) => {
            reader.take(usize::try_from(length).unwrap_or(usize::MAX)).map(drop)
        }
        (ARRAY, count) => (0..count).try_for_each(|_| skip(reader, deeper)),
        (MAP, count) => (0..count).try_for_each(|_| {
            skip(reader, deeper)?;
            skip(reader, deeper)
        }),
        (TAG, _) => skip(reader, deeper),
        // numbers, true, false, null
        _ => Ok(()),
    }
}

/// Reads the head of the array that a log may begin with: the number of records (`None`: indefinite), and
/// the size of the head.
pub(super) fn array_start(window: &[u8]) -> Result<Option<(Option<u64>, usize)>, Error> {
    match window.first() {
        Some(&INDEFINITE) => Ok(Some((None, 1))),
        Some(0x80..=0x9f) => {
            let mut reader = Reader::new(window);
            let count = argument(&mut reader, ARRAY, "an array")?;
            Ok(Some((Some(count), reader.offset())))
        }
        _ => Ok(None),
    }
}

/// Reads the record at the start of a window; returns its size as well.
pub(super) fn record(window: &[u8]) -> Result<(Parsed, usize), Error> {
    let mut reader = Reader::new(window);
    let reader = &mut reader;
    map(reader, 5, "a record: a map of 5")?;
    key(reader, 0, "the number of a record (key 0)")?;
    let number = argument(reader, NUMBER, "a number")?;
    let not_a_pcr = Error::new(Fault::Cel("a PCR (key 1)"), reader.offset());
    let register = argument(reader, NUMBER, "a PCR (key 1)")?;
    let pcr = u32::try_from(argument(reader, NUMBER, "a number")?).unwrap_or(u32::MAX);
    let pcr = match register {
        1 => Some(pcr),
        NV_INDEX => None,
        _ => return Err(not_a_pcr),
    };
    key(reader, 3, "digests (key 3)")?;
    let at = reader.offset();
    let count = argument(reader, ARRAY, "an array of digests")?;
    if count > MAX_DIGESTS {
        return Err(Error::new(Fault::Cel("at most 16 digests"), at));
    }
    let mut digests = Vec::new();
    for _ in 0..count {
        map(reader, 2, "a digest: a map of 2")?;
        key(reader, 0, "an algorithm (key 0)")?;
        let algorithm = u16::try_from(argument(reader, NUMBER, "a number")?).unwrap_or(u16::MAX);
        key(reader, 1, "a digest (key 1)")?;
        let at = reader.offset();
        let bytes = string(reader, BYTES, "a byte string")?;
        let Some(algorithm) = HashAlgorithm::from_tpm_id(algorithm) else { continue };
        let digest = Digest::new(algorithm, bytes);
        digests.push(digest.ok_or(Error::new(Fault::DigestSize(bytes.len()), at))?);
    }
    key(reader, 9, "the type of the content (key 9)")?;
    let at = reader.offset();
    let content = argument(reader, NUMBER, "a number")?;
    if content != IMA_TEMPLATE && !is_other(content) {
        return Err(Error::new(Fault::CelContent(content), at));
    }
    key(reader, 10, "content (key 10)")?;
    if content != IMA_TEMPLATE {
        skip(reader, MAX_DEPTH)?;
        return Ok((Parsed::Other(CelOther { pcr, content }), reader.offset()));
    }
    let pcr = pcr.ok_or(not_a_pcr)?;
    map(reader, 2, "an IMA template: a map of 2")?;
    key(reader, 0, "the name of a template (key 0)")?;
    let name = string(reader, TEXT, "a text string")?.to_vec();
    key(reader, 1, "template data (key 1)")?;
    let data = string(reader, BYTES, "a byte string")?.to_vec();
    let record = CelRecord { number, pcr, digests, name, data }.checked(at)?;
    Ok((Parsed::Ima(record), reader.offset()))
}

/// Appends a record.
pub(super) fn encode_into(record: &CelRecord, output: &mut Vec<u8>) {
    let known = |digest: &&Digest| digest.algorithm().tpm_id().is_some();
    let digests: Vec<_> = record.digests.iter().filter(known).collect();
    let mut writer = Writer(output);
    writer.map(5).number(0).number(record.number).number(1).number(record.pcr.into());
    writer.number(3).array(digests.len() as u64);
    for digest in digests {
        let algorithm = digest.algorithm().tpm_id().unwrap_or_default();
        writer.map(2).number(0).number(algorithm.into()).number(1).bytes(digest.as_bytes());
    }
    // names of templates are ASCII
    let name = core::str::from_utf8(&record.name).unwrap_or_default();
    writer.number(9).number(IMA_TEMPLATE);
    writer.number(10).map(2).number(0).text(name).number(1).bytes(&record.data);
}
