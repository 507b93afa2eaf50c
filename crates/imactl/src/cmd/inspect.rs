//! `imactl inspect`
//!
//! One description of a file, [`FileAttribute`], is the source of both text and JSON. It shows the
//! attribute as it is, even if it is malformed. Only a malformed attribute and a digest that differs are
//! findings, because signatures are not verified here.

mod rpm;

use std::io;
use std::path::Path;

use clap::Args;
use ima::container::rpm::{Listed, PackageSummary};
use ima::container::Report;
use ima::operation::{AppendedInspection, EvmInspection, Fit, Inspect, Inspection, Signatory};
use ima_format::hex::Hex;
use ima_format::xattr::Attribute;
use ima_format::Error as FormatError;
use serde::Serialize;

use crate::error::Result;
use crate::inputs::InputArgs;
use crate::output::{Entry, Level, Name, Output, Style};
use crate::report::{self, Printer, Results};
use crate::Outcome;

/// Show the decoded attributes of files
///
/// Digests are compared with their files; signatures are shown, but not verified. The exit status
/// is 1 if an attribute is malformed or a digest does not match.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Also show the attribute's bytes
    #[arg(long)]
    raw: bool,
}

impl InspectArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let inputs = self.inputs.resolve()?;
        let mut printer = self;
        let totals =
            report::run(&Inspect, inputs, Results::None, "inspecting", output, &mut printer)?;
        Ok(Outcome::of(totals.failures.count(), totals.tally.other))
    }

    fn describe<'a>(&self, name: Name<'a>, size: u64, found: &Inspection) -> FileAttribute<'a> {
        let raw = found.value.as_deref().filter(|_| self.raw);
        FileAttribute {
            name,
            size,
            listed: None,
            attribute: Fields::of(found, raw.map(|raw| Hex(raw).to_string())),
            evm: found.evm.as_ref().map(|EvmInspection { value, attribute }| {
                let mut fields = Fields::default();
                fields.set(attribute);
                fields.raw = self.raw.then(|| Hex(value).to_string());
                fields
            }),
            appended: found.appended.as_ref().map(|found| AppendedFields::of(found, self.raw)),
        }
    }
}

impl Printer<Inspection> for &InspectArgs {
    fn file(
        &mut self,
        name: Name<'_>,
        size: u64,
        inspection: &Inspection,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let file = self.describe(name, size, inspection);
        (!file.is_finding(), output.show(&file))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Inspection>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let files =
            files.iter().filter_map(|Report { path: file, size, outcome, listed, .. }| {
                let name = Name { container: Some(path), part: None, path: file };
                let described = self.describe(name, *size, outcome.as_ref().ok()?);
                Some(FileAttribute { listed: Some(ListedFields::of(&(*listed)?)), ..described })
            });
        let files: Vec<_> = files.collect();
        let is_good = !files.iter().any(FileAttribute::is_finding);
        (is_good, rpm::print(path, package, &files, output))
    }
}

/// A file and its attribute.
#[derive(Serialize)]
#[serde(tag = "type", rename = "file")]
struct FileAttribute<'a> {
    #[serde(flatten)]
    name: Name<'a>,
    size: u64,
    #[serde(flatten)]
    listed: Option<ListedFields>,
    #[serde(flatten)]
    attribute: Fields,
    /// `security.evm`
    #[serde(skip_serializing_if = "Option::is_none")]
    evm: Option<Fields>,
    /// The signature appended to its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    appended: Option<AppendedFields>,
}

impl FileAttribute<'_> {
    fn is_finding(&self) -> bool {
        self.attribute.is_finding()
            || self.evm.as_ref().is_some_and(Fields::is_finding)
            || self.appended.as_ref().is_some_and(|appended| appended.malformed.is_some())
    }
}

/// Properties of a file that a package lists.
#[derive(Serialize)]
struct ListedFields {
    config: bool,
    ghost: bool,
    file_digest: Option<String>,
}

impl ListedFields {
    fn of(listed: &Listed) -> Self {
        Self {
            config: listed.is_config,
            ghost: listed.is_ghost,
            file_digest: listed.digest.map(|digest| Hex(digest.as_bytes()).to_string()),
        }
    }
}

/// An appended signature.
#[derive(Default, Serialize)]
struct AppendedFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// The algorithm of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'static str>,
    /// `None` for ML-DSA, which signs the content itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'static str>,
    /// The serial number of the signer's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl AppendedFields {
    fn of(found: &Result<AppendedInspection, FormatError>, raw: bool) -> Self {
        let AppendedInspection { size, key, hash, signer, message } = match found {
            Ok(found) => found,
            Err(error) => {
                return Self { malformed: Some(error.to_string()), ..Self::default() };
            }
        };
        let (serial, subject_key_id) = match signer {
            Signatory::Serial(serial) => (Some(Hex(serial).to_string()), None),
            Signatory::KeyId(id) => (None, Some(Hex(id).to_string())),
        };
        Self {
            size: Some(*size),
            key: Some(key.name()),
            hash: hash.map(|hash| hash.name()),
            serial,
            subject_key_id,
            malformed: None,
            raw: raw.then(|| Hex(message).to_string()),
        }
    }

    /// The text for people.
    fn text(&self) -> String {
        if let Some(malformed) = &self.malformed {
            return format!("malformed: {malformed}");
        }
        let algorithms = match (self.key, self.hash) {
            (Some(key), Some(hash)) => format!("{key}, {hash}"),
            (Some(key), None) if key.starts_with("ml-dsa") => key.to_owned(),
            (key, _) => format!("{}, unknown hash", key.unwrap_or_default()),
        };
        let signer = match (&self.serial, &self.subject_key_id) {
            (Some(serial), _) => format!("certificate with serial number {serial}"),
            (None, id) => format!("key {}", id.as_deref().unwrap_or_default()),
        };
        format!("{algorithms}, {signer}, {} bytes", self.size.unwrap_or_default())
    }
}

/// The fields of one attribute; those that its form does not have are absent.
#[derive(Default, Serialize)]
struct Fields {
    attribute: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_matches: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(skip)]
    fit: Option<Fit>,
}

impl Fields {
    fn of(inspection: &Inspection, raw: Option<String>) -> Self {
        let fit = inspection.fit;
        let digest_matches = match fit {
            Some(Fit::Matches) => Some(true),
            Some(Fit::Differs) => Some(false),
            Some(Fit::Unknown) | None => None,
        };
        let mut fields = Self { digest_matches, raw, fit, ..Self::default() };
        if let Some(attribute) = &inspection.attribute {
            fields.set(attribute);
        }
        fields
    }

    /// Fills in the fields of an attribute.
    fn set(&mut self, attribute: &Result<Attribute, FormatError>) {
        let fields = self;
        let attribute = match attribute {
            Err(error) => {
                fields.malformed = Some(error.kind.to_string());
                fields.offset = Some(error.offset);
                return;
            }
            Ok(attribute) => attribute,
        };
        fields.attribute = Some(attribute.attribute_type().name());
        match attribute {
            Attribute::Digest(digest) | Attribute::DigestNg(digest) => {
                fields.hash = Some(digest.algorithm().name());
                fields.digest = Some(Hex(digest.as_bytes()).to_string());
            }
            Attribute::EvmHmac(hmac) => fields.digest = Some(Hex(hmac).to_string()),
            Attribute::SignatureV1(signature) => {
                fields.version = Some(1);
                fields.key_id = Some(Hex(&signature.key_id).to_string());
                fields.signature_length = Some(signature.mpis.len());
            }
            Attribute::Signature(signature) => {
                fields.version = Some(signature.version as u8);
                fields.hash = Some(signature.algorithm.name());
                fields.key_id = Some(signature.key_id.to_string());
                fields.signature_length = Some(signature.bytes.len());
            }
        }
    }

    fn is_finding(&self) -> bool {
        self.malformed.is_some() || self.fit == Some(Fit::Differs)
    }

    /// The text for people.
    fn text(&self) -> String {
        if let (Some(malformed), Some(offset)) = (&self.malformed, self.offset) {
            return format!("malformed: {malformed} at offset {offset}");
        }
        let mut text = self.attribute.unwrap_or("no attribute").to_owned();
        if let Some(version) = self.version {
            text += &format!(", version {version}");
        }
        match (self.hash, &self.digest) {
            (Some(hash), Some(digest)) => text += &format!(", {hash}:{digest}"),
            (Some(either), None) => text += &format!(", {either}"),
            (None, Some(either)) => text += &format!(", {either}"),
            (None, None) => {}
        }
        if let (Some(key_id), Some(length)) = (&self.key_id, self.signature_length) {
            text += &match self.version {
                Some(1) => format!(", key id {key_id}, {length} bytes of MPIs"),
                _ => format!(", key id {key_id}, signature of {length} bytes"),
            };
        }
        text + match self.fit {
            Some(Fit::Matches) => ", matches the file",
            Some(Fit::Differs) => ", does not match the file",
            Some(Fit::Unknown) => ", cannot be compared: algorithm not supported here",
            None => "",
        }
    }
}

impl Entry for FileAttribute<'_> {
    fn level(&self) -> Level {
        match self.is_finding() {
            true => Level::Quiet,
            false => Level::Normal,
        }
    }

    fn text(&self, output: &Output) -> String {
        let is_bare = self.attribute.attribute.is_none();
        let style = match (self.attribute.is_finding(), is_bare) {
            (true, _) => Style::Bad,
            (false, true) => Style::Dim,
            (false, false) => Style::Plain,
        };
        let mut text = match &self.listed {
            Some(listed) if is_bare && self.attribute.malformed.is_none() => {
                match listed.file_digest {
                    Some(_) => "no signature".to_owned(),
                    None => "no digest, cannot be signed".to_owned(),
                }
            }
            _ => self.attribute.text(),
        };
        if let Some(ListedFields { config, ghost, .. }) = self.listed {
            text += if config { " (config)" } else { "" };
            text += if ghost { " (ghost)" } else { "" };
        }
        format!("{}: {}", self.name, output.paint(style, &text))
    }

    fn below(&self) -> Option<String> {
        let raw = self.attribute.raw.as_ref().map(|raw| format!("    {raw}"));
        let evm = self.evm.as_ref().map(|evm| {
            let text = format!("{}: security.evm: {}", self.name, evm.text());
            evm.raw.iter().fold(text, |text, raw| format!("{text}\n    {raw}"))
        });
        let appended = self.appended.as_ref().map(|appended| {
            let text = format!("{}: appended signature: {}", self.name, appended.text());
            appended.raw.iter().fold(text, |text, raw| format!("{text}\n    {raw}"))
        });
        let lines: Vec<_> = [raw, evm, appended].into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}
