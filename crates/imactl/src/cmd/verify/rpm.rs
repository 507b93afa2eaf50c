//! `imactl verify` for RPM packages

use std::io;
use std::path::Path;

use ima::container::rpm::{DigestCheck, PackageSummary};
use ima::container::Report;
use ima::operation::Judgement;
use ima::verify::Verdict;
use ima_format::rpm::PackageType;
use serde::Serialize;

use super::{line, FileVerdict};
use crate::output::{count, Level, Name, Output};

#[derive(Serialize)]
struct JsonDigest {
    part: &'static str,
    hash: &'static str,
    matches: bool,
}

/// The verdict on a package and its files.
pub(super) struct Package<'a> {
    path: &'a Path,
    package: &'a PackageSummary,
    /// The number of listed files.
    listed: usize,
    /// Files with a verdict, and those with findings.
    files: Vec<FileVerdict<'a>>,
    /// The number of files with a verdict.
    pub(super) verified: u64,
    /// The number of these without a signature.
    unsigned: u64,
}

impl<'a> Package<'a> {
    pub(super) fn new(
        path: &'a Path,
        package: &'a PackageSummary,
        reports: &'a [Report<Judgement>],
    ) -> Self {
        let (mut files, mut verified, mut unsigned) = (Vec::new(), 0, 0);
        for Report { path: file, size, outcome, listed, .. } in reports {
            let Ok(judgement) = outcome else { continue };
            let is_verified = *judgement != Judgement::NotSigned;
            let is_unsigned = matches!(judgement, Judgement::Kernel(Verdict::Missing(_)));
            verified += u64::from(is_verified);
            unsigned += u64::from(is_unsigned);
            let name = Name { container: Some(path), part: None, path: file };
            let content = listed.and_then(|listed| listed.content);
            let mut verdict = FileVerdict::new(name, *size, judgement).with_content(content);
            // the line of the package covers all of these
            let is_said = is_unsigned && matches!(verdict.content, None | Some("matches"));
            verdict.level = if verdict.valid || is_said { Level::Verbose } else { Level::Quiet };
            if is_verified || !verdict.valid {
                files.push(verdict);
            }
        }
        Self { path, package, listed: reports.len(), files, verified, unsigned }
    }

    pub(super) fn is_good(&self) -> bool {
        self.package.digests.iter().all(|digest| digest.matches)
            && self.package.payload.is_empty()
            && self.files.iter().all(|file| file.valid)
    }

    /// Prints the package and its files.
    pub(super) fn print(&self, output: &mut Output) -> io::Result<()> {
        let PackageSummary { identity, algorithm, digests, payload, .. } = self.package;
        let digest = |check: &DigestCheck| JsonDigest {
            part: check.part,
            hash: check.algorithm.name(),
            matches: check.matches,
        };
        output
            .object("package")
            .path(self.path)
            .field("name", &identity.name)
            .field("format", identity.format)
            .field("source", identity.package_type == PackageType::Source)
            .field("valid", self.is_good())
            .field("hash", algorithm.name())
            .field("files", self.listed)
            .field("signed", self.verified - self.unsigned)
            .field("digests", digests.iter().map(digest).collect::<Vec<_>>())
            .field("payload", payload)
            .end()?;
        let path = self.path.display();
        let finding = |word, name: &str, detail: &str, output: &mut Output| {
            let text = line(word, name, detail, output);
            output.line(Level::Quiet, text)
        };
        for DigestCheck { part, algorithm, .. } in digests.iter().filter(|it| !it.matches) {
            let name = format!("{path}: its {algorithm} digest of the {part}");
            finding("digest-mismatch", &name, "does not match", output)?;
        }
        for detail in payload {
            finding("payload-malformed", &path.to_string(), detail, output)?;
        }
        let files = count(self.verified, "file");
        if self.verified > 0 && self.unsigned == self.verified {
            let source = match identity.package_type {
                PackageType::Binary => "",
                PackageType::Source => "; a source package, whose files no kernel sees",
            };
            let detail = format!("no file signatures, {files}{source}");
            finding("IMA-signature-required", &path.to_string(), &detail, output)?;
        }
        for file in &self.files {
            output.show(file)?;
        }
        if self.is_good() {
            let word = if self.verified > 0 { "valid" } else { "empty" };
            let text = line(word, &path, format!("{files}, {}", identity.name), output);
            output.line(Level::Normal, text)?;
        }
        Ok(())
    }
}
