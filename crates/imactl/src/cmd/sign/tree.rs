//! `imactl sign` for files and trees of them

use anyhow::Result;
use clap::Args;
use ima::sign::Labeler;
use ima::target::tree::{self, SignMode, SignOptions, Signed};
use ima::HashAlgorithm;
use serde::Serialize;

use crate::args::{describe, PlaceArgs, SignerArgs, TreeArgs};
use crate::cmd::tally::{Failures, Tally};
use crate::hint::hinted;
use crate::output::{count, JsonPath, Level, Output, Style};
use crate::progress::Bar;
use crate::Outcome;

/// How files are signed
#[derive(Debug, Args)]
pub(crate) struct SignTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    #[command(flatten)]
    signer: SignerArgs,
    /// Hash algorithm of the signed digest (sha1 only for very old kernels)
    #[arg(long, value_name = "NAME", default_value = "sha256", help_heading = "Signature")]
    hash: HashAlgorithm,
    /// Write the digest alone, which protects from accidents, not from root
    #[arg(long, conflicts_with_all = ["key", "keys", "cert", "keyid"], help_heading = "Signature")]
    hash_only: bool,
    /// Leave alone what already carries a valid signature by this key and hash
    #[arg(long, help_heading = "Selection")]
    changed: bool,
    /// Do everything but write
    #[arg(long, short = 'n', help_heading = None)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Place")]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    path: JsonPath,
    size: u64,
    result: &'static str,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

#[derive(Serialize)]
struct JsonSummary {
    #[serde(rename = "type")]
    kind: &'static str,
    signed: u64,
    unchanged: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

impl SignTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        self.run_on(&self.tree.resolve()?, output)
    }

    /// The files that are asked for.
    pub(crate) fn tree(&self) -> Result<tree::Tree> {
        self.tree.resolve()
    }

    /// Signs these files.
    pub(crate) fn run_on(&self, tree: &tree::Tree, output: &mut Output) -> Result<Outcome> {
        if self.hash_only {
            return self.sign(tree, Labeler::Digest, output);
        }
        if self.hash.is_weak() {
            match self.hash {
                HashAlgorithm::Sha1 => output.warn("sha1 is weak: collisions can be made"),
                weak => {
                    let message = format!("no signatures over {weak}: collisions can be made");
                    return Err(hinted(message, "use sha256, sha384 or sha512"));
                }
            }
        }
        let signer = self.signer.resolve(output)?;
        let what = format!("{} over {}", describe(&signer), self.hash);
        output.line(Level::Verbose, &format!("signing with {what}"))?;
        self.sign(tree, Labeler::Signature(&signer), output)
    }

    fn sign(
        &self,
        tree: &tree::Tree,
        labeler: Labeler<'_>,
        output: &mut Output,
    ) -> Result<Outcome> {
        // before the first file, not at each
        labeler.check(self.hash)?;
        let options = SignOptions {
            labeler,
            algorithm: self.hash,
            place: self.place.resolve(),
            mode: if self.changed { SignMode::Changed } else { SignMode::Always },
            dry_run: self.dry_run,
        };
        let bar = Bar::new("signing", output.shows_progress());
        let (mut tally, mut failures) = (Tally::default(), Failures::default());
        tree::sign(tree, &options, &bar, &mut |report| {
            let signed = match report.outcome {
                Ok(signed) => signed,
                Err(error) => {
                    return bar.suspend(|| failures.report(&report.path, &error, output));
                }
            };
            let result = match signed {
                Signed::Signed { .. } if self.dry_run => "would-sign",
                Signed::Signed { .. } => "signed",
                Signed::Unchanged => "unchanged",
            };
            tally.count(signed == Signed::Unchanged);
            let key_id = match signed {
                Signed::Signed { key_id } => key_id.map(|key_id| key_id.to_string()),
                Signed::Unchanged => None,
            };
            // signing goes on when nobody listens any more
            let told = match output.is_json() {
                true => {
                    let path = report.path.as_path().into();
                    let (size, hash) = (report.size, self.hash.name());
                    output.json(&JsonFile { kind: "file", path, size, result, hash, key_id })
                }
                false => {
                    let level = if self.dry_run { Level::Normal } else { Level::Verbose };
                    output.line(level, &format!("{result:<10} {}", report.path.display()))
                }
            };
            drop(told);
            Ok(())
        })?;
        let (bytes, seconds) = bar.finish();
        let Tally { matched: unchanged, other: signed } = tally;
        let failed = failures.count();
        let kind = "summary";
        output.json(&JsonSummary { kind, signed, unchanged, failed, bytes, seconds })?;
        let done = if self.dry_run { "would sign" } else { "signed" };
        let mut line = format!("{done} {}", count(signed, "file"));
        if self.changed {
            line += &format!(", left {} unchanged", count(unchanged, "file"));
        }
        line += &format!(" ({}) in {seconds:.2} s", indicatif::DecimalBytes(bytes));
        if failed > 0 {
            let word = output.paint(Style::Bad, &format!("{} not signed", count(failed, "file")));
            line += &format!("; {word}");
        }
        output.line(Level::Normal, &line)?;
        Ok(if failed > 0 { Outcome::Failed } else { Outcome::Good })
    }
}
