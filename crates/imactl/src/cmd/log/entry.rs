//! A record as text for people, and as JSON.

use std::io;

use ima::attest::reader::Item;
use ima_format::hex::Hex;
use ima_format::measure::{DigestType, Entry, FileDigest};
use ima_format::printable::Printable;
use ima_format::xattr::{Attribute, Signature, SignatureKind};
use serde::Serialize;

use crate::output::{Output, Style};

#[derive(Debug, Default, Serialize)]
struct JsonDigest {
    hash: Option<&'static str>,
    digest: Option<String>,
    digest_type: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct JsonSignature {
    kind: Option<&'static str>,
    version: Option<u8>,
    hash: Option<&'static str>,
    key_id: Option<String>,
    raw: String,
}

impl From<&FileDigest> for JsonDigest {
    fn from(file: &FileDigest) -> Self {
        let algorithm = file.digest.map(|digest| digest.algorithm()).or(file.algorithm);
        Self {
            hash: algorithm.map(|algorithm| algorithm.name()),
            digest: file.digest.map(|digest| Hex(digest.as_bytes()).to_string()),
            digest_type: Some(match file.digest_type {
                DigestType::Ima => "ima",
                DigestType::Verity => "verity",
            }),
        }
    }
}

fn signature_of(value: &[u8]) -> Option<Signature> {
    match Attribute::decode(value) {
        Ok(Attribute::Signature(signature)) => Some(signature),
        _ => None,
    }
}

impl From<&[u8]> for JsonSignature {
    fn from(value: &[u8]) -> Self {
        let signature = signature_of(value);
        let signature = signature.as_ref();
        Self {
            kind: signature.map(|signature| match signature.kind {
                SignatureKind::Ima => "ima",
                SignatureKind::EvmPortable => "evm-portable",
                SignatureKind::Verity => "verity",
            }),
            version: signature.map(|signature| signature.version as u8),
            hash: signature.map(|signature| signature.algorithm.name()),
            key_id: signature.map(|signature| signature.key_id.to_string()),
            raw: Hex(value).to_string(),
        }
    }
}

/// Prints a record as JSON.
pub(super) fn print_json(
    list: &str,
    item: &Item<'_>,
    decoded: &Result<Entry<'_>, ima_format::Error>,
    output: &mut Output,
) -> io::Result<()> {
    let (entry, malformed) = match decoded {
        Ok(entry) => (*entry, None),
        Err(error) => (Entry::default(), Some(error.to_string())),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let hex = |bytes: &[u8]| Hex(bytes).to_string();
    let digest = entry.digest.as_ref().map(JsonDigest::from).unwrap_or_default();
    let mut object = output
        .object("entry")
        .field("index", item.index)
        .field("list", list)
        .field("offset", item.offset)
        .field("pcr", item.record.pcr)
        .field("template", text(item.record.template.name()))
        .field("template_digest", hex(item.record.digest))
        .field("violation", item.record.is_violation());
    if malformed.is_none() {
        object = object.path(entry.name);
    }
    object
        .field("hash", digest.hash)
        .field("digest", digest.digest)
        .field("digest_type", digest.digest_type)
        .optional("signature", entry.signature.map(JsonSignature::from))
        .optional("evm_signature", entry.evm_signature.map(JsonSignature::from))
        .optional("buffer", entry.buffer.map(hex))
        .optional("text", entry.buffer.and_then(as_text))
        .optional("modsig_digest", entry.modsig_digest.as_ref().map(JsonDigest::from))
        .optional("modsig", entry.modsig.map(hex))
        .optional("uid", entry.uid)
        .optional("gid", entry.gid)
        .optional("mode", entry.mode.map(|mode| format!("{mode:06o}")))
        .optional(
            "xattr_names",
            entry.xattr_names.map(|names| text(names.strip_suffix(b"\0").unwrap_or(names))),
        )
        .optional("malformed", malformed)
        .end()
}

/// The buffer if it is text: a command line, a policy, critical data. A NUL may end it.
fn as_text(buffer: &[u8]) -> Option<&str> {
    let buffer = buffer.strip_suffix(b"\0").unwrap_or(buffer);
    let text = std::str::from_utf8(buffer).ok()?;
    let is_text = |character: char| !character.is_control() || "\n\t".contains(character);
    text.chars().all(is_text).then_some(text)
}

/// A record in one line, and the content of its buffer.
pub(super) fn lines(
    item: &Item<'_>,
    decoded: &Result<Entry<'_>, ima_format::Error>,
    output: &Output,
) -> (String, Option<String>) {
    let template = Printable(item.record.template.name()).to_string();
    let mut line = format!("{:>7}  {:>2}  {template:<10}", item.index, item.record.pcr);
    let entry = match decoded {
        Ok(entry) => entry,
        Err(error) => {
            line += &format!("  {}: {error}", output.paint(Style::Bad, "malformed"));
            return (line, None);
        }
    };
    let digest = entry.digest.and_then(|file| {
        let verity = if file.digest_type == DigestType::Verity { "verity:" } else { "" };
        Some(format!("{verity}{}", file.digest?))
    });
    let digest = match (item.record.is_violation(), digest) {
        (true, _) => output.paint(Style::Bad, "violation"),
        (false, digest) => digest.unwrap_or_else(|| "-".into()),
    };
    line += &format!("  {digest}  {}", Printable(entry.name));
    for value in [entry.signature, entry.evm_signature].into_iter().flatten() {
        line += &match signature_of(value) {
            Some(Signature { kind: SignatureKind::EvmPortable, key_id, .. }) => {
                format!("  [EVM signature, key {key_id}]")
            }
            Some(Signature { key_id, .. }) => format!("  [signature, key {key_id}]"),
            None => "  [signature]".into(),
        };
    }
    if let Some(modsig) = entry.modsig {
        line += &format!("  [appended signature, {} bytes]", modsig.len());
    }
    let buffer = entry.buffer.map(|bytes| match as_text(bytes) {
        Some(text) => text.trim_end().to_owned(),
        None => format!("{} bytes: {}", bytes.len(), Hex(&bytes[..bytes.len().min(64)])),
    });
    (line, buffer)
}
