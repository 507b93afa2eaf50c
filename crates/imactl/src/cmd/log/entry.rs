//! A record as text for people, and as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima::attest::reader::Item;
use ima_format::hex::Hex;
use ima_format::measure::{DigestType, Entry, FileDigest};
use ima_format::printable::Printable;
use ima_format::xattr::{Attribute, Signature, SignatureKind};
use serde::Serialize;

use crate::output::{JsonPath, Output, Style};

#[derive(Serialize)]
#[serde(tag = "type", rename = "entry")]
pub(super) struct JsonEntry<'a> {
    index: u64,
    list: &'a str,
    offset: u64,
    pcr: u32,
    template: String,
    template_digest: String,
    violation: bool,
    #[serde(flatten)]
    path: Option<JsonPath>,
    #[serde(flatten)]
    digest: JsonDigest,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<JsonSignature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evm_signature: Option<JsonSignature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modsig_digest: Option<JsonDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modsig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xattr_names: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
}

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

/// Converts a record to JSON.
pub(super) fn json<'a>(
    list: &'a str,
    item: &Item<'a>,
    decoded: &Result<Entry<'a>, ima_format::Error>,
) -> JsonEntry<'a> {
    let (entry, malformed) = match decoded {
        Ok(entry) => (*entry, None),
        Err(error) => (Entry::default(), Some(error.to_string())),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    JsonEntry {
        index: item.index,
        list,
        offset: item.offset,
        pcr: item.record.pcr,
        template: text(item.record.template.name()),
        template_digest: Hex(item.record.digest).to_string(),
        violation: item.record.is_violation(),
        path: malformed.is_none().then(|| Path::new(OsStr::from_bytes(entry.name)).into()),
        digest: entry.digest.as_ref().map(JsonDigest::from).unwrap_or_default(),
        signature: entry.signature.map(JsonSignature::from),
        evm_signature: entry.evm_signature.map(JsonSignature::from),
        buffer: entry.buffer.map(|bytes| Hex(bytes).to_string()),
        text: entry.buffer.and_then(as_text),
        modsig_digest: entry.modsig_digest.as_ref().map(JsonDigest::from),
        modsig: entry.modsig.map(|bytes| Hex(bytes).to_string()),
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode.map(|mode| format!("{mode:06o}")),
        xattr_names: entry
            .xattr_names
            .map(|names| text(names.strip_suffix(b"\0").unwrap_or(names))),
        malformed,
    }
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
