//! `imactl manifest`

mod create;
mod export;
mod signed;
mod text;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ima::attest::manifest::{differences, Difference, Manifest};
use ima::input::{self, LIST_MAX};
use ima::staging;
use ima_format::printable::Printable;

use crate::args::SignerArgs;
use crate::error::{hinted, Context, Result};
use crate::output::{count, Level, Output, Style};
use crate::outputs::is_stdio;
use crate::Outcome;
pub(crate) use signed::TrustArgs;

/// List the files of a root or of packages, to compare measurement lists with
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    Create(create::CreateArgs),
    Diff(DiffArgs),
    Merge(MergeArgs),
    Export(export::ExportArgs),
}

impl ManifestCommand {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        match self {
            Self::Create(args) => args.run(output),
            Self::Diff(args) => args.run(output),
            Self::Merge(args) => args.run(output),
            Self::Export(args) => args.run(output),
        }
    }
}

/// Compare two manifests
///
/// Exit status 1 if they differ.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The first manifest
    one: PathBuf,
    /// The second manifest
    other: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

impl DiffArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let (one, other) =
            (read(&self.one, &self.trust, output)?, read(&self.other, &self.trust, output)?);
        let differences = differences(&one, &other);
        for (path, difference) in &differences {
            let (word, sign, style) = match difference {
                Difference::Added => ("added", '+', Style::Good),
                Difference::Removed => ("removed", '-', Style::Bad),
                Difference::Changed => ("changed", '~', Style::Warning),
            };
            let (before, after) = (one.0.get(*path), other.0.get(*path));
            output
                .object("difference")
                .path(*path)
                .field("difference", word)
                .optional("before", before.map(text::File::from))
                .optional("after", after.map(text::File::from))
                .end()?;
            let name = output.paint(style, &format!("{sign} {}", Printable(path)));
            output.line(Level::Quiet, name)?;
        }
        output.line(Level::Normal, count(differences.len() as u64, "difference"))?;
        Ok(if differences.is_empty() { Outcome::Good } else { Outcome::Finding })
    }
}

/// Merge manifests into one
///
/// A file that several manifests have is listed once, with all digests, keys and packages. With one manifest and
/// --key this signs it.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The manifests
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    signer: SignerArgs,
}

impl MergeArgs {
    fn run(&self, output: &mut Output) -> Result<Outcome> {
        let merged = read_all(&self.manifests, &self.trust, output)?;
        write_manifest(&merged, &self.signer, self.output.as_deref(), output)?;
        Ok(Outcome::Good)
    }
}

/// Reads a manifest, and verifies its signature if certificates are trusted.
fn read(path: &Path, trust: &TrustArgs, output: &mut Output) -> Result<Manifest> {
    let name = path.display().to_string();
    let content = input::read_path(path, LIST_MAX)?;
    let trusted = trust.trusted()?;
    if let Some(manifest) = signed::open(&name, &content, trusted.as_deref(), output)? {
        return Ok(manifest);
    }
    if trusted.is_some() {
        return Err(hinted(
            format!("{name}: not signed"),
            "sign it (imactl manifest merge --key), or leave out --manifest-cert",
        ));
    }
    text::parse(&name, &content)
}

/// Reads manifests and merges them.
pub(crate) fn read_all(
    paths: &[PathBuf],
    trust: &TrustArgs,
    output: &mut Output,
) -> Result<Manifest> {
    let mut merged = Manifest::default();
    for path in paths {
        for (path, expected) in read(path, trust, output)?.0 {
            merged.add(&path, expected);
        }
    }
    Ok(merged)
}

/// Writes a manifest; with a key, signed in an envelope.
fn write_manifest(
    manifest: &Manifest,
    signer: &SignerArgs,
    path: Option<&Path>,
    output: &mut Output,
) -> Result<()> {
    let content = match signer.resolve_given(output)? {
        Some(signer) => signed::seal(manifest, &*signer)?,
        None => text::lines(manifest)?,
    };
    write(&content, path, output)
}

/// Writes a result atomically, or to standard output.
fn write(content: &[u8], path: Option<&Path>, output: &mut Output) -> Result<()> {
    match path.filter(|path| !is_stdio(path)) {
        Some(path) => staging::write_path(path, 0o644, content).at(path),
        None => Ok(output.text(content)?),
    }
}
