//! `imactl inspect`

mod rpm;

use std::io;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use ima::container::rpm::PackageSummary;
use ima::container::Report;
use ima::operation::{Fit, Inspect, Inspection};
use ima_format::hex::Hex;
use ima_format::kind::Kind;
use ima_format::xattr::{Attribute, Signature};
use ima_format::Error as FormatError;
use serde::Serialize;

use crate::args::PlaceArgs;
use crate::inputs::InputArgs;
use crate::output::{JsonPath, Level, Name, Output, Style};
use crate::report::{self, Printer, Results};
use crate::Outcome;

/// Show what files carry: the attribute decoded
///
/// Tells whether a digest fits its file; signatures are shown, not verified. Exit status 1
/// if an attribute is malformed or a digest does not fit.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Show the attribute's bytes too
    #[arg(long)]
    raw: bool,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
}

impl InspectArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let outcome = self.containers(self.inputs.kind()?, output)?;
        self.inputs.tree.warn_of_unmatched(output);
        Ok(outcome)
    }

    fn containers(&self, kind: Kind, output: &mut Output) -> Result<Outcome> {
        let inputs = self.inputs.resolve(kind, self.place.resolve())?;
        let mut printer = self;
        let totals =
            report::run(&Inspect, inputs, Results::None, "inspecting", output, &mut printer)?;
        Ok(match (totals.failures.count(), totals.tally.matched) {
            (1.., _) => Outcome::Failed,
            (_, 1..) => Outcome::Finding,
            _ => Outcome::Good,
        })
    }

    fn print(
        &self,
        name: Name<'_>,
        size: u64,
        inspection: &Inspection,
        output: &mut Output,
    ) -> io::Result<()> {
        let raw = inspection.value.as_deref().filter(|_| self.raw).map(Hex);
        if output.is_json() {
            let raw = raw.map(|raw| raw.to_string());
            let mut attribute = fields(inspection.attribute.as_ref(), raw);
            attribute.digest_matches = match inspection.fit {
                Some(Fit::Matches) => Some(true),
                Some(Fit::Differs) => Some(false),
                Some(Fit::Unknown) | None => None,
            };
            return output.json(&JsonFile { kind: "file", path: name.into(), size, attribute });
        }
        let style = match (is_finding(inspection), &inspection.attribute) {
            (true, _) => Style::Bad,
            (false, None) => Style::Dim,
            (false, Some(_)) => Style::Plain,
        };
        let level = if is_finding(inspection) { Level::Quiet } else { Level::Normal };
        let text = output.paint(style, &describe(inspection));
        output.line(level, format_args!("{name}: {text}"))?;
        match raw {
            Some(raw) => output.line(level, format_args!("    {raw}")),
            None => Ok(()),
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
        (is_finding(inspection), self.print(name, size, inspection, output))
    }

    fn package(
        &mut self,
        path: &Path,
        package: &PackageSummary,
        files: &[Report<Inspection>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let package = rpm::Package { path, package, files, raw: self.raw };
        let printed = match output.is_json() {
            true => package.print_json(output),
            false => package.print(output),
        };
        (package.is_finding(), printed)
    }
}

#[derive(Serialize)]
struct JsonFile {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    #[serde(flatten)]
    attribute: JsonAttribute,
}

/// One attribute: the fields that its form has.
#[derive(Default, Serialize)]
struct JsonAttribute {
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
}

fn is_finding(inspection: &Inspection) -> bool {
    matches!(inspection.attribute, Some(Err(_))) || inspection.fit == Some(Fit::Differs)
}

fn describe(inspection: &Inspection) -> String {
    let attribute = match &inspection.attribute {
        None => return "no attribute".to_owned(),
        Some(Err(error)) => return format!("malformed: {error}"),
        Some(Ok(attribute)) => attribute,
    };
    match attribute {
        Attribute::Digest(_) | Attribute::DigestNg(_) => {
            let fit = match inspection.fit {
                Some(Fit::Matches) => "matches the file",
                Some(Fit::Differs) => "does not match the file",
                Some(Fit::Unknown) | None => "cannot be compared: algorithm not at hand",
            };
            format!("{}, {fit}", describe_attribute(attribute))
        }
        _ => describe_attribute(attribute),
    }
}

/// An attribute for people.
fn describe_attribute(attribute: &Attribute) -> String {
    let name = attribute.attribute_type().name();
    match attribute {
        Attribute::Digest(digest) | Attribute::DigestNg(digest) => format!("{name}, {digest}"),
        Attribute::EvmHmac(hmac) => format!("{name}, {}", Hex(hmac)),
        Attribute::SignatureV1(signature) => format!(
            "{name}, version 1, key id {}, {} bytes of MPIs",
            Hex(&signature.key_id),
            signature.mpis.len()
        ),
        Attribute::Signature(Signature { version, algorithm, key_id, bytes, .. }) => format!(
            "{name}, version {}, {algorithm}, key id {key_id}, signature of {} bytes",
            *version as u8,
            bytes.len()
        ),
    }
}

/// The fields of an attribute, if there is one, and its bytes if they are wanted.
fn fields(
    attribute: Option<&Result<Attribute, FormatError>>,
    raw: Option<String>,
) -> JsonAttribute {
    let mut fields = JsonAttribute { raw, ..JsonAttribute::default() };
    let attribute = match attribute {
        None => return fields,
        Some(Err(error)) => {
            fields.malformed = Some(error.kind.to_string());
            fields.offset = Some(error.offset);
            return fields;
        }
        Some(Ok(attribute)) => attribute,
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
    fields
}
