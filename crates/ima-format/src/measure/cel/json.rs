//! Records in JSON (RFC 8259). Bytes are in hexadecimal.

use alloc::vec::Vec;

use super::{is_other, CelOther, CelRecord, Fault, Parsed, IMA_TEMPLATE, MAX_RECORD, OTHERS};
use crate::hash::{Digest, HashAlgorithm};
use crate::hex::{self, Hex};
use crate::json::{Kind, Text, Value};
use crate::Error;

/// The end of the object at the start of a window; `None` if the window ends before it.
pub(super) fn object_end(window: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in window.iter().enumerate() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{') => depth += 1,
            (false, b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reads a record from an object.
pub(super) fn record(bytes: &[u8]) -> Result<Parsed, Error> {
    let text = Text::parse_within(bytes, MAX_RECORD)?;
    let object = &text.value;
    let content_type = object.required("content_type")?;
    let named =
        |name: &str| OTHERS.iter().find(|(_, other)| *other == name).map(|(content, _)| *content);
    let other = match &content_type.kind {
        Kind::String(name) if name == "ima_template" => None,
        Kind::String(name) if named(name).is_some() => named(name),
        Kind::Number => match text.number(object, "content_type")? {
            (IMA_TEMPLATE, _) => None,
            (other, _) if is_other(other) => Some(other),
            (other, span) => return Err(Error::new(Fault::CelContent(other), span.start)),
        },
        _ => {
            let fault = Fault::Cel("content_type \"ima_template\"");
            return Err(Error::new(fault, content_type.span.start));
        }
    };
    if let Some(content) = other {
        let pcr = match object.member("nv_index")? {
            Some(_) => None,
            None => Some(u32::try_from(text.number(object, "pcr")?.0).unwrap_or(u32::MAX)),
        };
        return Ok(Parsed::Other(CelOther { pcr, content }));
    }
    let (number, _) = text.number(object, "recnum")?;
    let (pcr, _) = text.number(object, "pcr")?;
    let mut digests = Vec::new();
    for digest in object.array("digests")? {
        let (name, _) = digest.required_string("hashAlg")?;
        let mut known = HashAlgorithm::ALL.iter().filter(|known| known.tpm_id().is_some());
        let Some(algorithm) = known.find(|known| known.name() == name) else { continue };
        let (bytes, at) = hexadecimal(digest, "digest")?;
        let digest = Digest::new(*algorithm, &bytes);
        digests.push(digest.ok_or(Error::new(Fault::DigestSize(bytes.len()), at))?);
    }
    let content = object.required("content")?;
    let (name, _) = content.required_string("template_name")?;
    let (data, _) = hexadecimal(content, "template_data")?;
    let pcr = u32::try_from(pcr).unwrap_or(u32::MAX);
    let name = name.as_bytes().to_vec();
    CelRecord { number, pcr, digests, name, data }.checked(0).map(Parsed::Ima)
}

/// The bytes of a hexadecimal member, and their offset.
fn hexadecimal(object: &Value, name: &'static str) -> Result<(Vec<u8>, usize), Error> {
    let (digits, span) = object.required_string(name)?;
    let bytes = hex::decode(digits.as_bytes()).map_err(|_| Error::new(Fault::Hex, span.start))?;
    Ok((bytes, span.start))
}

/// Appends a record.
pub(super) fn encode_into(record: &CelRecord, output: &mut Vec<u8>) {
    let CelRecord { number, pcr, digests, name, data } = record;
    let digests: Vec<_> = digests
        .iter()
        .map(|digest| {
            let (algorithm, bytes) = (digest.algorithm(), Hex(digest.as_bytes()));
            alloc::format!("{{\"hashAlg\":\"{algorithm}\",\"digest\":\"{bytes}\"}}")
        })
        .collect();
    // the name of a template has no characters that need an escape
    let name = core::str::from_utf8(name).unwrap_or_default();
    let (digests, data) = (digests.join(","), Hex(data));
    output.extend_from_slice(
        alloc::format!(
            "{{\"recnum\":{number},\"pcr\":{pcr},\"digests\":[{digests}],\
             \"content_type\":\"ima_template\",\
             \"content\":{{\"template_name\":\"{name}\",\"template_data\":\"{data}\"}}}}"
        )
        .as_bytes(),
    );
}
