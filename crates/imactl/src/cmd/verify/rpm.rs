//! `imactl verify` for RPM packages

use std::io;
use std::path::Path;

use ima::container::rpm::{DigestCheck, FileContent, PackageSummary};
use ima::container::Report;
use ima::operation::Judgement;
use ima::verify::Verdict;
use ima_format::rpm::PackageType;
use serde::Serialize;

use super::{key_id, line, words};
use crate::cmd::packages::inside;
use crate::output::{count, JsonPath, Level, Output};

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

/// What was found of a package and its files.
pub(super) struct Package<'a> {
    pub(super) path: &'a Path,
    pub(super) package: &'a PackageSummary,
    pub(super) files: &'a [Report<Judgement>],
}

/// What was found of a file.
struct File<'a> {
    path: &'a Path,
    size: u64,
    judgement: &'a Judgement,
    content: Option<FileContent>,
}

impl File<'_> {
    fn content_is_good(&self) -> bool {
        matches!(self.content, None | Some(FileContent::Matches))
    }

    fn is_good(&self) -> bool {
        self.judgement.is_good() && self.content_is_good()
    }

    /// Whether there is a verdict on its signature.
    fn is_verified(&self) -> bool {
        *self.judgement != Judgement::NotSigned
    }

    fn is_unsigned(&self) -> bool {
        matches!(self.judgement, Judgement::Kernel(Verdict::Missing(_)))
    }

    fn words(&self) -> (&'static str, String) {
        let (word, detail) = words(self.judgement);
        match self.content {
            Some(FileContent::Differs) => ("content-differs", detail),
            Some(FileContent::Missing) => ("content-missing", detail),
            Some(FileContent::Matches | FileContent::NoDigest) | None => (word, detail),
        }
    }
}

impl<'a> Package<'a> {
    fn files(&self) -> impl Iterator<Item = File<'a>> {
        self.files.iter().filter_map(|Report { path, size, outcome, listed }| {
            let content = listed.and_then(|listed| listed.content);
            Some(File { path, size: *size, judgement: outcome.as_ref().ok()?, content })
        })
    }

    pub(super) fn is_good(&self) -> bool {
        self.package.digests.iter().all(|digest| digest.matches)
            && self.package.payload.is_empty()
            && self.files().all(|file| file.is_good())
    }

    /// How many files of it have a verdict.
    pub(super) fn verified(&self) -> u64 {
        self.files().filter(File::is_verified).count() as u64
    }

    pub(super) fn print(&self, output: &mut Output) -> io::Result<()> {
        let path = self.path.display();
        for DigestCheck { part, algorithm, matches } in &self.package.digests {
            if !matches {
                let text = format!("{path}: its {algorithm} digest of the {part}");
                line(output, Level::Quiet, "digest-mismatch", &text, "does not match")?;
            }
        }
        for finding in &self.package.payload {
            line(output, Level::Quiet, "payload-malformed", &path, finding)?;
        }
        let expected = self.verified();
        let files = count(expected, "file");
        if expected > 0 && self.files().filter(File::is_unsigned).count() as u64 == expected {
            let source = match self.package.identity.package_type {
                PackageType::Binary => "",
                PackageType::Source => "; a source package, whose files no kernel sees",
            };
            let detail = format!("no file signatures, {files}{source}");
            line(output, Level::Quiet, "IMA-signature-required", &path, &detail)?;
        }
        for file in self.files().filter(|file| file.is_verified() || file.content.is_some()) {
            // said for all of them, unless there is more to say
            let is_told = file.is_unsigned() && file.content_is_good();
            let level = if file.is_good() || is_told { Level::Verbose } else { Level::Quiet };
            let (word, detail) = file.words();
            line(output, level, word, inside(self.path, file.path), detail)?;
        }
        if self.is_good() {
            let detail = format!("{files}, {}", self.package.identity.name);
            let word = if expected > 0 { "valid" } else { "empty" };
            line(output, Level::Normal, word, &path, detail)?;
        }
        Ok(())
    }

    pub(super) fn print_json(&self, output: &mut Output) -> io::Result<()> {
        let PackageSummary { identity, algorithm, digests, payload, .. } = self.package;
        let is_signed = |file: &File<'_>| file.is_verified() && !file.is_unsigned();
        let digest = |check: &DigestCheck| JsonDigest {
            part: check.part,
            hash: check.algorithm.name(),
            matches: check.matches,
        };
        output.json(&JsonPackage {
            kind: "package",
            path: self.path.into(),
            name: &identity.name,
            format: identity.format,
            source: identity.package_type == PackageType::Source,
            valid: self.is_good(),
            hash: algorithm.name(),
            files: self.files.len(),
            signed: self.files().filter(is_signed).count(),
            digests: digests.iter().map(digest).collect(),
            payload: payload.clone(),
        })?;
        for file in self.files().filter(|file| file.is_verified() || !file.is_good()) {
            let (verdict, detail) = file.words();
            output.json(&JsonFile {
                kind: "file",
                path: inside(self.path, file.path).into(),
                size: file.size,
                valid: file.is_good(),
                verdict,
                detail,
                key_id: key_id(file.judgement),
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
}
