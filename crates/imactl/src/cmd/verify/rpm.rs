//! `imactl verify` for RPM packages

use std::io;
use std::path::Path;

use anyhow::Result;
use ima::container::rpm::{
    self, DigestCheck, FileContent, FileVerdict, FileVerification, Payload, Verification,
    VerifyOptions,
};
use ima::verify::Verdict;
use ima_format::rpm::PackageType;
use serde::Serialize;

use super::{conclude, line, nothing_verified, VerifyArgs};
use crate::cmd::packages::inside;
use crate::output::{count, JsonPath, Level, Output};
use crate::progress::Bar;
use crate::report::{Failures, Tally};
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
    valid: bool,
    hash: &'static str,
    files: usize,
    signed: usize,
    digests: Vec<JsonDigest>,
    payload: Vec<String>,
}

#[derive(Serialize)]
struct JsonDigest {
    part: &'static str,
    hash: &'static str,
    matches: bool,
}

#[derive(Serialize)]
struct JsonFile {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    valid: bool,
    verdict: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    valid: u64,
    invalid: u64,
    passed_over: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

impl VerifyArgs {
    /// Verifies packages.
    pub(super) fn rpm(&self, output: &mut Output) -> Result<Outcome> {
        run(self, output)
    }
}

fn run(args: &VerifyArgs, output: &mut Output) -> Result<Outcome> {
    let packages = args.inputs.packages()?;
    let keyring = args.keyring.resolve(output)?;
    let payload = if args.payload { Payload::Unpacked } else { Payload::Left };
    let options = VerifyOptions { keyring: &keyring, payload };
    let bar = Bar::of("packages", "verifying", output);
    let (mut tally, mut failures) = (Tally::default(), Failures::default());
    let (mut passed_over, mut files) = (0, 0);
    rpm::verify(&packages, &options, &bar, &mut |report| match report.outcome {
        Ok(Some(found)) => {
            tally.count(found.is_good());
            files += verified(&found);
            bar.suspend(|| match output.is_json() {
                true => print_json(&report.path, &found, output),
                false => print(&report.path, &found, output),
            })
        }
        Ok(None) => {
            passed_over += 1;
            Ok(())
        }
        Err(error) => bar.suspend(|| {
            failures.container(report.path.as_path().into(), "package", &error, output)
        }),
    })?;
    let (bytes, seconds) = bar.finish();
    let Tally { matched: valid, other: invalid } = tally;
    let failed = failures.count();
    let kind = "summary";
    output.json(&JsonSummary { kind, valid, invalid, passed_over, failed, bytes, seconds })?;
    if files + invalid + failed == 0 {
        return nothing_verified(args.nothing(), output);
    }
    conclude("package", tally, &failures, output)
}

/// How many files of a package have a verdict.
fn verified(found: &Verification) -> u64 {
    found.files.iter().filter(|file| file.verdict.is_some()).count() as u64
}

fn print(path: &Path, found: &Verification, output: &mut Output) -> io::Result<()> {
    for DigestCheck { part, algorithm, matches } in &found.digests {
        if !matches {
            let text = format!("{}: its {algorithm} digest of the {part}", path.display());
            line(output, Level::Quiet, "digest-mismatch", &text, "does not match")?;
        }
    }
    for finding in &found.payload {
        line(output, Level::Quiet, "payload-malformed", path.display(), finding)?;
    }
    let expected = verified(found) as usize;
    let unsigned = |file: &FileVerification| {
        matches!(file.verdict, Some(FileVerdict::Kernel(Verdict::Missing(_))))
    };
    let files = count(verified(found), "file");
    if expected > 0 && found.files.iter().filter(|file| unsigned(file)).count() == expected {
        let text = path.display().to_string();
        let source = match found.identity.package_type {
            PackageType::Binary => "",
            PackageType::Source => "; a source package, whose files no kernel sees",
        };
        let detail = format!("no file signatures, {files}{source}");
        line(output, Level::Quiet, "IMA-signature-required", &text, &detail)?;
    }
    for file in &found.files {
        let level = match file.is_good() {
            true => Level::Verbose,
            // told for all of them, unless there is more to tell
            false
                if unsigned(file) && matches!(file.content, None | Some(FileContent::Matches)) =>
            {
                Level::Verbose
            }
            false => Level::Quiet,
        };
        let (word, detail) = words(file);
        if !word.is_empty() {
            line(output, level, word, inside(path, &file.path), detail)?;
        }
    }
    if found.is_good() {
        let detail = format!("{files}, {}", found.identity.name);
        let word = if expected > 0 { "valid" } else { "empty" };
        line(output, Level::Normal, word, path.display(), detail)?;
    }
    Ok(())
}

/// A verdict's word, and what is behind it; nothing for files that are not signed.
fn words(file: &FileVerification) -> (&'static str, String) {
    let (word, detail) = match &file.verdict {
        None if file.content.is_none() => return ("", String::new()),
        None => ("valid", "not signed".to_owned()),
        Some(FileVerdict::Kernel(verdict)) => {
            (verdict.cause().unwrap_or("valid"), verdict.to_string())
        }
        Some(FileVerdict::OtherAlgorithm(algorithm)) => {
            ("invalid-signature", format!("over a {algorithm} digest, which the package lacks"))
        }
        Some(FileVerdict::NoDigest) => {
            ("no-digest", "a regular file of which the header has no digest".to_owned())
        }
        Some(FileVerdict::NameDisagrees) => (
            "hard-link-differs",
            "the header has another digest or size for another name of this file".to_owned(),
        ),
        Some(FileVerdict::NoContent) => {
            ("no-content", "has a signature, but is not a regular file of the payload".to_owned())
        }
    };
    match file.content {
        Some(FileContent::Differs) => ("content-differs", detail),
        Some(FileContent::Missing) => ("content-missing", detail),
        Some(FileContent::Matches | FileContent::NoDigest) | None => (word, detail),
    }
}

fn print_json(path: &Path, found: &Verification, output: &mut Output) -> io::Result<()> {
    output.json(&JsonPackage {
        kind: "package",
        path: path.into(),
        name: &found.identity.name,
        format: found.identity.format,
        source: found.identity.package_type == PackageType::Source,
        valid: found.is_good(),
        hash: found.algorithm.name(),
        files: found.files.len(),
        signed: found.files.iter().filter(|file| is_signed(file)).count(),
        digests: found
            .digests
            .iter()
            .map(|digest| JsonDigest {
                part: digest.part,
                hash: digest.algorithm.name(),
                matches: digest.matches,
            })
            .collect(),
        payload: found.payload.iter().map(ToString::to_string).collect(),
    })?;
    for file in found.files.iter().filter(|file| file.verdict.is_some() || !file.is_good()) {
        let (verdict, detail) = words(file);
        output.json(&JsonFile {
            kind: "file",
            path: inside(path, &file.path).into(),
            size: file.size,
            valid: file.is_good(),
            verdict,
            detail,
            key_id: key_id(file),
            content: file.content.map(|content| match content {
                FileContent::Matches => "matches",
                FileContent::Differs => "differs",
                FileContent::Missing => "missing",
                FileContent::NoDigest => "no-digest",
            }),
        })?;
    }
    Ok(())
}

fn is_signed(file: &FileVerification) -> bool {
    match &file.verdict {
        Some(FileVerdict::Kernel(verdict)) => !matches!(verdict, Verdict::Missing(_)),
        Some(FileVerdict::OtherAlgorithm(_) | FileVerdict::NoContent) => true,
        Some(FileVerdict::NoDigest | FileVerdict::NameDisagrees) | None => false,
    }
}

fn key_id(file: &FileVerification) -> Option<String> {
    match &file.verdict {
        Some(FileVerdict::Kernel(
            Verdict::ValidSignature { key_id, .. }
            | Verdict::UnknownKey(key_id)
            | Verdict::InvalidSignature(key_id),
        )) => Some(key_id.to_string()),
        _ => None,
    }
}
