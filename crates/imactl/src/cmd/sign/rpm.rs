//! `imactl sign` for RPM packages

use std::io;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use ima::container::rpm::{
    PackageSummary, Packages, Payload, ReservedSpace, SourcePackages, WeakDigests,
};
use serde::Serialize;

use super::Signer;
use crate::cmd::packages::DestinationArgs;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::report::Totals;
use crate::Outcome;

/// How packages are signed
#[derive(Debug, Args)]
#[command(next_help_heading = "Packages")]
pub(crate) struct SignRpmArgs {
    #[command(flatten)]
    destination: DestinationArgs,
    /// Use the space that the signature header reserves, where it suffices: the size of the
    /// package stays as it is, and the payload stays in its place; clear gives the space back
    #[arg(long)]
    reserved_space: bool,
    /// Sign file digests that collisions can be made of (md5, sha1), too
    #[arg(long)]
    allow_weak_digests: bool,
    /// Sign the digests in the header without unpacking the payload to compare them: much faster,
    /// and safe only for packages whose OpenPGP signature or checksum was verified before
    #[arg(long, visible_alias = "no-payload")]
    trust_header: bool,
    /// Sign source packages, too, though no kernel will see their files
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct JsonPackage {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    result: &'static str,
    files: u64,
    hash: &'static str,
    key_id: Option<String>,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    signed: u64,
    unchanged: u64,
    passed_over: u64,
    failed: u64,
    files: u64,
    bytes: u64,
    seconds: f64,
}

impl SignRpmArgs {
    /// How packages are signed.
    pub(super) fn set(&self, packages: &mut Packages, dry_run: bool) -> Result<()> {
        packages.output = self.destination.resolve(packages, dry_run)?;
        packages.reserved = match self.reserved_space {
            true => ReservedSpace::Use,
            false => ReservedSpace::Keep,
        };
        packages.weak_digests = match self.allow_weak_digests {
            true => WeakDigests::Signed,
            false => WeakDigests::Refused,
        };
        packages.payload = match self.trust_header {
            true => Payload::Left,
            false => Payload::Unpacked,
        };
        packages.source_packages = match self.force {
            true => SourcePackages::Signed,
            false => SourcePackages::Refused,
        };
        Ok(())
    }
}

impl Signer<'_> {
    pub(super) fn print_package(
        &self,
        path: &Path,
        package: &PackageSummary,
        files: u64,
        output: &mut Output,
    ) -> io::Result<()> {
        let result = match (package.changed, self.args.dry_run) {
            (false, _) => "unchanged",
            (true, true) => "would-sign",
            (true, false) => "signed",
        };
        if output.is_json() {
            return output.json(&JsonPackage {
                kind: "package",
                path: path.into(),
                result,
                files,
                hash: package.algorithm.name(),
                key_id: self.key_id.map(|key_id| key_id.to_string()),
            });
        }
        let level = if self.args.dry_run { Level::Normal } else { Level::Verbose };
        let (path, files) = (path.display(), count(files, "file"));
        output.line(level, format_args!("{result:<10} {path} ({files}, {})", package.algorithm))
    }

    pub(super) fn conclude_packages(
        &self,
        totals: &Totals,
        output: &mut Output,
    ) -> Result<Outcome> {
        let Totals { passed_over, bytes, seconds, .. } = *totals;
        let (signed, unchanged) = (totals.tally.matched, totals.tally.other);
        let (failed, files) = (totals.failures.count(), self.files);
        output.json(&JsonSummary {
            kind: "summary",
            signed,
            unchanged,
            passed_over,
            failed,
            files,
            bytes,
            seconds,
        })?;
        let done = if self.args.dry_run { "would sign" } else { "signed" };
        let mut line = match totals.is_empty() {
            true => "no packages".to_owned(),
            false => format!("{done} {} ({})", count(signed, "package"), count(files, "file")),
        };
        if unchanged > 0 {
            line += &format!(", left {unchanged} unchanged");
        }
        if passed_over > 0 {
            line += &format!(", passed over {}", count(passed_over, "other file"));
        }
        line += &format!(" in {seconds:.2} s");
        if let Some(failures) = totals.failures.describe() {
            line += &format!("; {}", output.paint(Style::Bad, &format!("{failures} not signed")));
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
}
