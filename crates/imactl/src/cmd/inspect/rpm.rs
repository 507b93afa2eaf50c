//! `imactl inspect` for RPM packages

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::Result;
use ima::container::rpm::{self, FileInspection, Inspection};
use ima_format::hex::Hex;
use ima_format::rpm::PackageType;
use ima_format::xattr::Attribute;
use serde::Serialize;

use super::{describe_attribute, fields, InspectArgs, JsonAttribute};
use crate::cmd::packages::inside;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::progress::Bar;
use crate::report::Failures;
use crate::Outcome;

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

impl InspectArgs {
    /// Inspects packages.
    pub(super) fn rpm(&self, output: &mut Output) -> Result<Outcome> {
        run(self, output)
    }
}

fn run(args: &InspectArgs, output: &mut Output) -> Result<Outcome> {
    let packages = args.inputs.packages()?;
    let bar = Bar::of("packages", "inspecting", output);
    let mut failures = Failures::default();
    let mut outcome = Outcome::Good;
    rpm::inspect(&packages, &bar, &mut |report| match report.outcome {
        Ok(Some(found)) => {
            if found.files.iter().any(|file| matches!(file.attribute, Some(Err(_)))) {
                outcome = Outcome::Finding;
            }
            bar.suspend(|| match output.is_json() {
                true => print_json(&report.path, &found, args.raw, output),
                false => print(&report.path, &found, args.raw, output),
            })
        }
        Ok(None) => Ok(()),
        Err(error) => bar.suspend(|| {
            failures.container(report.path.as_path().into(), "package", &error, output)
        }),
    })?;
    bar.finish();
    Ok(if failures.count() > 0 { Outcome::Failed } else { outcome })
}

fn print(path: &Path, found: &Inspection, raw: bool, output: &mut Output) -> io::Result<()> {
    for file in &found.files {
        let (style, level, text) = describe(file);
        let text = output.paint(style, &text);
        output.line(level, format_args!("{}: {text}", inside(path, &file.path)))?;
        if let Some(value) = file.value.as_deref().filter(|_| raw) {
            output.line(level, format_args!("    {}", Hex(value)))?;
        }
    }
    let mut keys = BTreeMap::new();
    for file in &found.files {
        if let Some(Ok(Attribute::Signature(signature))) = &file.attribute {
            *keys.entry(signature.key_id.to_string()).or_insert(0_u64) += 1;
        }
    }
    let keys: Vec<_> = keys.iter().map(|(key, number)| format!("{number} by key {key}")).collect();
    let signed = match keys.as_slice() {
        [] => "no file signatures".to_owned(),
        keys => format!("file signatures: {}", keys.join(", ")),
    };
    let source = match found.identity.package_type {
        PackageType::Binary => "",
        PackageType::Source => ", source package",
    };
    output.line(
        Level::Normal,
        format_args!(
            "{}: {}, format {}{source}, {} with {} digests, {signed}; signature header of {} \
             bytes, {} of them reserved",
            path.display(),
            found.identity.name,
            found.identity.format,
            count(found.files.len() as u64, "file"),
            found.algorithm,
            found.signature_header_size,
            found.reserved_space,
        ),
    )
}

fn describe(file: &FileInspection) -> (Style, Level, String) {
    let notes = [(file.is_config, " (config)"), (file.is_ghost, " (ghost)")];
    let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
    match (&file.attribute, file.digest) {
        (Some(Err(error)), _) => (Style::Bad, Level::Quiet, format!("malformed: {error}{notes}")),
        (Some(Ok(attribute)), _) => {
            (Style::Plain, Level::Normal, format!("{}{notes}", describe_attribute(attribute)))
        }
        (None, Some(_)) => (Style::Dim, Level::Normal, format!("no signature{notes}")),
        (None, None) => (Style::Dim, Level::Normal, format!("no digest, not to be signed{notes}")),
    }
}

fn print_json(path: &Path, found: &Inspection, raw: bool, output: &mut Output) -> io::Result<()> {
    output.json(&JsonPackage {
        kind: "package",
        path: path.into(),
        name: &found.identity.name,
        format: found.identity.format,
        source: found.identity.package_type == PackageType::Source,
        hash: found.algorithm.name(),
        files: found.files.len(),
        signed: found.files.iter().filter(|file| file.value.is_some()).count(),
        signature_header_size: found.signature_header_size,
        reserved_space: found.reserved_space,
    })?;
    for file in &found.files {
        let value = file.value.as_deref().filter(|_| raw).map(|value| Hex(value).to_string());
        output.json(&JsonFile {
            kind: "file",
            path: inside(path, &file.path).into(),
            size: file.size,
            config: file.is_config,
            ghost: file.is_ghost,
            file_digest: file.digest.map(|digest| Hex(digest.as_bytes()).to_string()),
            attribute: fields(file.attribute.as_ref(), value),
        })?;
    }
    Ok(())
}
