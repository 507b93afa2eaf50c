//! `imactl manifest export`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ima::attest::manifest::Manifest;
use ima::key::certificate::Certificate;
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use serde::Serialize;

use super::{read_all, write};
use crate::args::KeyringArgs;
use crate::error::{hinted, Error, Result};
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
    /// The form: keylime is a runtime policy of version 1
    #[arg(long, value_name = "FORM")]
    to: FormArg,
    /// Paths that Keylime does not check: a regular expression of Python, matched from the start
    #[arg(long, value_name = "REGEX")]
    excludes: Vec<String>,
    /// Digests of the measurement list that Keylime replays
    #[arg(long, value_name = "ALGORITHM", default_value = "sha1")]
    log_hash: HashAlgorithm,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    Keylime,
}

/// Keylime's runtime policy (`RUNTIME_POLICY_SCHEMA`, keylime/ima/ima.py).
#[derive(Serialize)]
struct RuntimePolicy<'a> {
    meta: Meta,
    release: u32,
    digests: BTreeMap<String, Vec<String>>,
    excludes: &'a [String],
    keyrings: Empty,
    ima: ImaSettings,
    #[serde(rename = "ima-buf")]
    buffers: Empty,
    /// JSON in a string.
    #[serde(rename = "verification-keys")]
    verification_keys: String,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Meta {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    generator: Option<u32>,
}

#[derive(Serialize)]
struct ImaSettings {
    ignored_keyrings: [String; 0],
    log_hash_alg: &'static str,
    dm_policy: Option<()>,
}

#[derive(Serialize)]
struct VerificationKeys {
    meta: Meta,
    keyids: Vec<u32>,
    pubkeys: Vec<String>,
}

impl ExportArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let manifest = read_all(&self.manifests)?;
        let certificates = self.keyring.given(output)?;
        let FormArg::Keylime = self.to;
        let mut policy = self.keylime(&manifest, &certificates, output)?;
        policy.push(b'\n');
        write(&policy, self.output.as_deref(), output)?;
        Ok(Outcome::Good)
    }

    fn keylime(
        &self,
        manifest: &Manifest,
        certificates: &[Certificate],
        output: &mut Output,
    ) -> Result<Vec<u8>> {
        use HashAlgorithm::{Sha1, Sha256, Sha384, Sha512};
        if !matches!(self.log_hash, Sha1 | Sha256 | Sha384 | Sha512) {
            let message = format!("--log-hash {}: Keylime does not know it", self.log_hash);
            return Err(hinted(message, "give sha1, sha256, sha384 or sha512"));
        }
        let mut digests = BTreeMap::new();
        for (path, expected) in manifest.as_measured().0 {
            let hex = |digest: &ima::Digest| Hex(digest.as_bytes()).to_string();
            match String::from_utf8(path) {
                Ok(path) => {
                    digests.insert(path, expected.digests.iter().map(hex).collect());
                }
                Err(error) => {
                    let path = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    output.warn(&format!("{path}: left out: not UTF-8"));
                }
            }
        }
        let policy = RuntimePolicy {
            // the generator is unknown to Keylime
            meta: Meta { version: 1, generator: Some(0) },
            release: 0,
            digests,
            excludes: &self.excludes,
            keyrings: Empty {},
            ima: ImaSettings {
                ignored_keyrings: [],
                log_hash_alg: self.log_hash.name(),
                dm_policy: None,
            },
            buffers: Empty {},
            verification_keys: verification_keys(certificates)?,
        };
        serde_json::to_vec(&policy).map_err(|error| Error::new(error.to_string()))
    }
}

fn verification_keys(certificates: &[Certificate]) -> Result<String> {
    if certificates.is_empty() {
        return Ok(String::new());
    }
    let mut keys = VerificationKeys {
        meta: Meta { version: 1, generator: None },
        keyids: Vec::new(),
        pubkeys: Vec::new(),
    };
    for certificate in certificates {
        keys.keyids.push(u32::from_be_bytes(certificate.key_id().0));
        keys.pubkeys.push(certificate.public_key().to_base64()?);
    }
    serde_json::to_string(&keys).map_err(|error| Error::new(error.to_string()))
}
