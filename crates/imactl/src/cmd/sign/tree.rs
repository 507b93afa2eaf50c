//! `imactl sign` for files and trees of them

use anyhow::Result;
use clap::Args;
use ima::container::tree::{self, SignMode, SignOptions};
use ima::key::caveat::{self, Caveat};
use ima::key::check::Severity;
use ima::sign::Labeler;
use ima::HashAlgorithm;

use super::report::Reporter;
use crate::args::{describe, PlaceArgs, SignerArgs, TreeArgs};
use crate::hint::hinted;
use crate::output::{Level, Output};
use crate::progress::Bar;
use crate::Outcome;

/// How files are signed
#[derive(Debug, Args)]
pub(crate) struct SignTreeArgs {
    #[command(flatten)]
    pub(super) tree: TreeArgs,
    #[command(flatten)]
    pub(super) signer: SignerArgs,
    /// Hash algorithm of the signed digest (sha1 only for very old kernels) [default: sha256; in
    /// an RPM package that of its file digests]
    #[arg(long, value_name = "NAME", help_heading = "Signature")]
    hash: Option<HashAlgorithm>,
    /// Write the digest alone, which protects from accidents, not from root
    #[arg(long, conflicts_with_all = ["key", "keys", "cert", "keyid"], help_heading = "Signature")]
    hash_only: bool,
    /// Leave alone what already carries a valid signature by this key and hash
    #[arg(long, help_heading = "Selection")]
    changed: bool,
    /// Do everything but write
    #[arg(long, short = 'n', help_heading = None)]
    pub(super) dry_run: bool,
    #[command(flatten, next_help_heading = "Place")]
    pub(super) place: PlaceArgs,
}

impl SignTreeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        self.run_on(&self.tree.resolve()?, output)
    }

    /// The files that are asked for.
    pub(crate) fn tree(&self) -> Result<tree::Tree> {
        self.tree.resolve()
    }

    /// The options that mean nothing for packages, and whether they were given.
    pub(super) fn not_for_packages(&self) -> Vec<(bool, &'static str)> {
        let ours = [(self.hash.is_some(), "--hash"), (self.hash_only, "--hash-only")];
        self.place.given().into_iter().chain(ours).collect()
    }

    /// The hash algorithm of the signed digest.
    pub(super) fn hash(&self) -> HashAlgorithm {
        self.hash.unwrap_or(HashAlgorithm::Sha256)
    }

    /// Signs these files.
    pub(crate) fn run_on(&self, tree: &tree::Tree, output: &mut Output) -> Result<Outcome> {
        self.with_labeler(output, |labeler, output| self.sign(tree, labeler, output))
    }

    /// Runs `sign` with what files are labelled with.
    pub(super) fn with_labeler<T>(
        &self,
        output: &mut Output,
        sign: impl FnOnce(Labeler<'_>, &mut Output) -> Result<T>,
    ) -> Result<T> {
        if self.hash_only {
            // before the first file, not at each
            Labeler::Digest.check(self.hash())?;
            tell(caveat::of_hash(self.hash()), output);
            return sign(Labeler::Digest, output);
        }
        if self.hash().is_weak() {
            match self.hash() {
                HashAlgorithm::Sha1 => output.warn("sha1 is weak: collisions can be made"),
                weak => {
                    let message = format!("no signatures over {weak}: collisions can be made");
                    return Err(hinted(message, "use sha256, sha384 or sha512"));
                }
            }
        }
        let signer = self.signer.resolve(output)?;
        let what = format!("{} over {}", describe(&signer), self.hash());
        output.line(Level::Verbose, format_args!("signing with {what}"))?;
        let labeler = Labeler::Signature(&signer);
        labeler.check(self.hash())?;
        tell(caveat::of_key(signer.public_key().key_type()), output);
        tell(caveat::of_hash(self.hash()), output);
        sign(labeler, output)
    }

    /// Which files are signed.
    pub(super) fn mode(&self) -> SignMode {
        if self.changed {
            SignMode::Changed
        } else {
            SignMode::Always
        }
    }

    /// Who tells of the files.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(self.hash(), self.mode(), self.dry_run)
    }

    fn sign(
        &self,
        tree: &tree::Tree,
        labeler: Labeler<'_>,
        output: &mut Output,
    ) -> Result<Outcome> {
        let options = SignOptions {
            labeler,
            algorithm: self.hash(),
            place: self.place.resolve(),
            mode: self.mode(),
            dry_run: self.dry_run,
        };
        let bar = Bar::new("signing", output);
        let mut reporter = self.reporter();
        tree::sign(tree, &options, &bar, &mut |report| {
            let path = report.path.as_path();
            match report.outcome {
                Ok(signed) => reporter.signed(path.into(), report.size, &signed, output),
                Err(error) => {
                    return bar.suspend(|| reporter.failures.report(path, &error, output))
                }
            }
            Ok(())
        })?;
        reporter.conclude(bar.finish(), output)
    }
}

/// Tells what is to be known before anything is signed.
fn tell(caveat: Option<Caveat>, output: &mut Output) {
    let Some(Caveat { severity, message, hint, .. }) = caveat else { return };
    let text = format!("{message}; {hint}");
    match severity {
        Severity::Note => output.note(&text),
        Severity::Warning | Severity::Error => output.warn(&text),
    }
}
