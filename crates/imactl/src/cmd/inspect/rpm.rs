//! `imactl inspect` for RPM packages

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ima::container::rpm::{Listed, PackageSummary};
use ima::container::Report;
use ima::operation::Inspection;
use ima_format::hex::Hex;
use ima_format::rpm::PackageType;
use ima_format::xattr::Attribute;
use serde::Serialize;

use super::{describe_attribute, fields, JsonAttribute};
use crate::cmd::packages::inside;
use crate::output::{count, JsonPath, Level, Output, Style};

#[derive(Serialize)]
struct JsonPackage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    name: &'a str,
    format: u64,
    source: bool,
    hash: &'static str,
    files: usize,
    signed: usize,
    signature_header_size: usize,
    reserved_space: usize,
}

#[derive(Serialize)]
struct JsonFile {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    config: bool,
    ghost: bool,
    file_digest: Option<String>,
    #[serde(flatten)]
    attribute: JsonAttribute,
}

/// A package and its files.
pub(super) struct Package<'a> {
    pub(super) path: &'a Path,
    pub(super) package: &'a PackageSummary,
    pub(super) files: &'a [Report<Inspection>],
    pub(super) raw: bool,
}

/// A file: its path, its size, what was found and what is listed.
type File<'a> = (&'a Path, u64, &'a Inspection, Listed);

impl<'a> Package<'a> {
    fn files(&self) -> impl Iterator<Item = File<'a>> {
        self.files.iter().filter_map(|Report { path, size, outcome, listed }| {
            Some((path.as_path(), *size, outcome.as_ref().ok()?, (*listed)?))
        })
    }

    /// Whether an attribute is malformed.
    pub(super) fn is_finding(&self) -> bool {
        self.files().any(|(_, _, found, _)| matches!(found.attribute, Some(Err(_))))
    }

    pub(super) fn print(&self, output: &mut Output) -> io::Result<()> {
        let mut keys = BTreeMap::new();
        for (path, _, found, listed) in self.files() {
            let (style, level, text) = describe(found, listed);
            let text = output.paint(style, &text);
            output.line(level, format_args!("{}: {text}", inside(self.path, path)))?;
            if let Some(value) = found.value.as_deref().filter(|_| self.raw) {
                output.line(level, format_args!("    {}", Hex(value)))?;
            }
            if let Some(Ok(Attribute::Signature(signature))) = &found.attribute {
                *keys.entry(signature.key_id.to_string()).or_insert(0_u64) += 1;
            }
        }
        let keys = keys.iter().map(|(key, number)| format!("{number} by key {key}"));
        let signed = match keys.collect::<Vec<_>>().as_slice() {
            [] => "no file signatures".to_owned(),
            keys => format!("file signatures: {}", keys.join(", ")),
        };
        let PackageSummary { identity, algorithm, .. } = self.package;
        let source = match identity.package_type {
            PackageType::Binary => "",
            PackageType::Source => ", source package",
        };
        output.line(
            Level::Normal,
            format_args!(
                "{}: {}, format {}{source}, {} with {algorithm} digests, {signed}; signature header of \
                 {} bytes, {} of them reserved",
                self.path.display(),
                identity.name,
                identity.format,
                count(self.files.len() as u64, "file"),
                self.package.signature_header_size,
                self.package.reserved_space,
            ),
        )
    }

    pub(super) fn print_json(&self, output: &mut Output) -> io::Result<()> {
        let PackageSummary { identity, algorithm, .. } = self.package;
        output.json(&JsonPackage {
            kind: "package",
            path: self.path.into(),
            name: &identity.name,
            format: identity.format,
            source: identity.package_type == PackageType::Source,
            hash: algorithm.name(),
            files: self.files.len(),
            signed: self.files().filter(|(_, _, found, _)| found.value.is_some()).count(),
            signature_header_size: self.package.signature_header_size,
            reserved_space: self.package.reserved_space,
        })?;
        for (path, size, found, listed) in self.files() {
            let value = found.value.as_deref().filter(|_| self.raw);
            output.json(&JsonFile {
                kind: "file",
                path: inside(self.path, path).into(),
                size,
                config: listed.is_config,
                ghost: listed.is_ghost,
                file_digest: listed.digest.map(|digest| Hex(digest.as_bytes()).to_string()),
                attribute: fields(
                    found.attribute.as_ref(),
                    value.map(|value| Hex(value).to_string()),
                ),
            })?;
        }
        Ok(())
    }
}

fn describe(found: &Inspection, listed: Listed) -> (Style, Level, String) {
    let notes = [(listed.is_config, " (config)"), (listed.is_ghost, " (ghost)")];
    let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
    match (&found.attribute, listed.digest) {
        (Some(Err(error)), _) => (Style::Bad, Level::Quiet, format!("malformed: {error}{notes}")),
        (Some(Ok(attribute)), _) => {
            (Style::Plain, Level::Normal, format!("{}{notes}", describe_attribute(attribute)))
        }
        (None, Some(_)) => (Style::Dim, Level::Normal, format!("no signature{notes}")),
        (None, None) => (Style::Dim, Level::Normal, format!("no digest, not to be signed{notes}")),
    }
}
