//! `imactl log check`

use std::path::PathBuf;

use clap::Args;
use ima::attest::compare::{compare, Comparison, Deviation, Fit};
use ima::attest::source::Reading;
use ima::attest::ListError;
use ima_format::printable::Printable;

use super::{note_others, report_fault, ListArgs};
use crate::args::KeyringArgs;
use crate::cmd::manifest;
use crate::error::Result;
use crate::output::{count, Level, Output, Style};
use crate::Outcome;

/// Compare a measurement list with a manifest
///
/// Each measured file must be in the manifest with the measured digest. Digests in the list are trusted;
/// log verify shows whether they are those that the TPM has. Events and violations are counted. With
/// certificates (--cert, --keys) files that are not as the manifest says are shown with the trusted key that
/// signed them, if there is one. With --verbose files of the manifest that were never measured are printed, too.
/// The exit status is 1 if a file is not in the manifest or has another digest, signed or not, or an entry is
/// malformed; 2 if the list cannot be read to its end.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    list: ListArgs,
    /// The manifest (imactl manifest create); several are merged
    #[arg(long, value_name = "FILE", required = true)]
    manifest: Vec<PathBuf>,
    #[command(flatten)]
    trust: manifest::TrustArgs,
    #[command(flatten)]
    keyring: KeyringArgs,
}

impl CheckArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let manifest = manifest::read_all(&self.manifest, &self.trust, output)?;
        let keyring = self.keyring.measured(output)?;
        let sources = self.list.open(Reading::Once)?;
        let mut written = Ok(());
        let compared = compare(&sources, &manifest, keyring.as_ref(), &mut |deviation| {
            if written.is_ok() {
                written = print_deviation(&deviation, output);
            }
        });
        written?;
        note_others(&sources, output);
        let comparison = match compared {
            Ok(comparison) => comparison,
            Err(ListError::Malformed(fault)) => return report_fault(&fault, output),
            Err(error) => return Err(error.into()),
        };
        for name in &comparison.never_seen {
            output.object("never-seen").path(name.as_slice()).end()?;
            output.line(Level::Verbose, format_args!("never seen  {}", Printable(name)))?;
        }
        print_summary(&comparison, output)?;
        let is_good = comparison.expected == comparison.files && comparison.malformed == 0;
        Ok(if is_good { Outcome::Good } else { Outcome::Finding })
    }
}

fn print_deviation(deviation: &Deviation, output: &mut Output) -> std::io::Result<()> {
    let Deviation { index, name, digest, fit, signed_by } = deviation;
    let said = match fit {
        Fit::Expected => "is expected",
        Fit::Changed => "is in the manifest with another digest",
        Fit::OtherAlgorithm => "is in the manifest without such a digest",
        Fit::Unexpected => "is not in the manifest",
    };
    let digest = digest.to_string();
    output
        .object("entry")
        .field("index", *index)
        .path(name.as_slice())
        .field("digest", &digest)
        .field("fit", fit.name())
        .optional("signed_by", signed_by.map(|key_id| key_id.to_string()))
        .end()?;
    let said = match signed_by {
        Some(key_id) => {
            output.paint(Style::Warning, &format!("{said}, but signed by trusted key {key_id}"))
        }
        None => output.paint(Style::Bad, said),
    };
    let name = output.paint(Style::Bold, &Printable(name).to_string());
    output.line(Level::Quiet, format_args!("entry {index} {name}: {said} ({digest})"))
}

fn print_summary(comparison: &Comparison, output: &mut Output) -> std::io::Result<()> {
    let Comparison { files, expected, signed, events, violations, malformed, .. } = *comparison;
    let never_seen = comparison.never_seen.len() as u64;
    let deviating = files - expected;
    output
        .object("summary")
        .field("files", files)
        .field("expected", expected)
        .field("deviating", deviating)
        .field("signed", signed)
        .field("events", events)
        .field("violations", violations)
        .field("malformed", malformed)
        .field("never_seen", never_seen)
        .end()?;
    let signed = match signed {
        0 => String::new(),
        _ => format!(" ({signed} of them signed by a trusted key)"),
    };
    let mut line = format!(
        "{} measured: {expected} expected, {deviating} not{signed}; {}, {}; {never_seen} of the \
         manifest never seen",
        count(files, "file"),
        count(events, "event"),
        count(violations, "violation"),
    );
    if malformed > 0 {
        line += &format!("; {malformed} malformed");
    }
    output.line(Level::Normal, line)
}
