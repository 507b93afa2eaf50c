//! `imactl manifest export`

mod corim;
mod cyclonedx;
mod keylime;
mod spdx;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use serde::Serialize;

use super::{read_all, write, TrustArgs};
use crate::args::KeyringArgs;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::Outcome;

/// Write a manifest in the form of another verifier
///
/// Paths that are not UTF-8 cannot be written; they are left out with a warning.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The manifest; several are merged
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    /// The form
    #[arg(long, value_name = "FORM")]
    to: FormArg,
    /// Keylime: paths that it does not check, a regular expression of Python, matched from the start
    #[arg(long, value_name = "REGEX")]
    excludes: Vec<String>,
    /// Keylime: digests of the measurement list that it replays
    #[arg(long, value_name = "ALGORITHM", default_value = "sha1")]
    log_hash: HashAlgorithm,
    /// CoRIM: the vendor of the system that has the files
    #[arg(long, value_name = "TEXT", required_if_eq("to", "corim"))]
    vendor: Option<String>,
    /// CoRIM: the model of the system; SPDX: the name of the document
    #[arg(long, value_name = "TEXT", required_if_eq("to", "corim"))]
    model: Option<String>,
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    /// A runtime policy of Keylime, version 1
    Keylime,
    /// A bill of materials of CycloneDX 1.6, in JSON
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// A document of SPDX 2.3, in JSON
    Spdx,
    /// Reference values for RATS verifiers: a CoRIM in CBOR (draft-ietf-rats-corim-11), not signed
    Corim,
}

impl ExportArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let manifest = read_all(&self.manifests, &self.trust, output)?;
        let model = self.model.as_deref();
        let content = match self.to {
            FormArg::Keylime => {
                let settings = keylime::Settings {
                    excludes: &self.excludes,
                    log_hash: self.log_hash,
                    certificates: &self.keyring.given(output)?,
                };
                keylime::policy(&manifest, &settings, output)?
            }
            FormArg::CycloneDx => cyclonedx::bill(&manifest, output)?,
            FormArg::Spdx => spdx::document(&manifest, model.unwrap_or("manifest"), output)?,
            FormArg::Corim => {
                let vendor = self.vendor.as_deref().unwrap_or_default();
                corim::corim(&manifest, vendor, model.unwrap_or_default(), output)?
            }
        };
        write(&content, self.output.as_deref(), output)?;
        Ok(Outcome::Good)
    }
}

/// The path as text; warns and returns `None` if it is not UTF-8.
fn name<'a>(path: &'a [u8], output: &mut Output) -> Option<&'a str> {
    let name = std::str::from_utf8(path).ok();
    if name.is_none() {
        output.warn(&format!("{}: left out: not UTF-8", String::from_utf8_lossy(path)));
    }
    name
}

fn hex(digest: &ima::Digest) -> String {
    Hex(digest.as_bytes()).to_string()
}

/// The error for a digest whose algorithm has no name in the form.
fn no_name(form: &str, path: &str, algorithm: HashAlgorithm) -> Error {
    Error::new(format!("{path}: {form} has no name for {algorithm}"))
}

fn to_json(document: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(document).map_err(|error| Error::new(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}
