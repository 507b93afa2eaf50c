//! `imactl sign` for RPM packages

use anyhow::Result;
use clap::Args;
use ima::container::rpm::{self, Payload, ReservedSpace, SignOptions, WeakDigests};
use serde::Serialize;

use super::SignArgs;
use crate::args::describe;
use crate::cmd::packages::DestinationArgs;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::progress::Bar;
use crate::report::{Failures, Tally};
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
    key_id: String,
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

impl SignArgs {
    /// Signs the files in packages.
    pub(super) fn rpm(&self, output: &mut Output) -> Result<Outcome> {
        run(self, output)
    }
}

fn run(args: &SignArgs, output: &mut Output) -> Result<Outcome> {
    let packages = args.inputs.packages()?;
    let signer = args.files.signer.resolve(output)?;
    output.line(Level::Verbose, format_args!("signing with {}", describe(&signer)))?;
    let dry_run = args.files.dry_run;
    let options = SignOptions {
        signer: &signer,
        destination: args.rpm.destination.resolve(&packages, dry_run)?,
        reserved: match args.rpm.reserved_space {
            true => ReservedSpace::Use,
            false => ReservedSpace::Keep,
        },
        mode: args.files.mode(),
        weak_digests: match args.rpm.allow_weak_digests {
            true => WeakDigests::Signed,
            false => WeakDigests::Refused,
        },
        payload: match args.rpm.trust_header {
            true => Payload::Left,
            false => Payload::Unpacked,
        },
        source_packages: args.rpm.force,
        dry_run,
    };
    let bar = Bar::of("packages", "signing", output);
    let (mut tally, mut failures) = (Tally::default(), Failures::default());
    let (mut files, mut passed_over) = (0, 0);
    rpm::sign(&packages, &options, &bar, &mut |report| {
        let signed = match report.outcome {
            Ok(Some(signed)) => signed,
            Ok(None) => {
                passed_over += 1;
                return Ok(());
            }
            Err(error) => {
                return bar.suspend(|| {
                    failures.container(report.path.as_path().into(), "package", &error, output)
                })
            }
        };
        tally.count(signed.changed);
        files += signed.files;
        let result = match (signed.changed, dry_run) {
            (false, _) => "unchanged",
            (true, true) => "would-sign",
            (true, false) => "signed",
        };
        // signing goes on when nobody listens any more
        drop(match output.is_json() {
            true => output.json(&JsonPackage {
                kind: "package",
                path: report.path.as_path().into(),
                result,
                files: signed.files,
                hash: signed.algorithm.name(),
                key_id: signed.key_id.to_string(),
            }),
            false => {
                let level = if dry_run { Level::Normal } else { Level::Verbose };
                let files = count(signed.files, "file");
                let path = report.path.display();
                output.line(
                    level,
                    format_args!("{result:<10} {path} ({files}, {})", signed.algorithm),
                )
            }
        });
        Ok(())
    })?;
    let (bytes, seconds) = bar.finish();
    let Tally { matched: signed, other: unchanged } = tally;
    let failed = failures.count();
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
    let done = if dry_run { "would sign" } else { "signed" };
    let mut line = match signed + unchanged + failed {
        0 => "no packages".to_owned(),
        _ => format!("{done} {} ({})", count(signed, "package"), count(files, "file")),
    };
    if unchanged > 0 {
        line += &format!(", left {unchanged} unchanged");
    }
    if passed_over > 0 {
        line += &format!(", passed over {}", count(passed_over, "other file"));
    }
    line += &format!(" in {seconds:.2} s");
    if failed > 0 {
        let word = format!("{} not signed", count(failed, "package"));
        line += &format!("; {}", output.paint(Style::Bad, &word));
    }
    output.line(Level::Normal, &line)?;
    Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
}
