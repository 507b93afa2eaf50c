//! `imactl manifest export`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ima::attest::manifest::Manifest;
use ima::key::certificate::Certificate;
use ima::HashAlgorithm;
use ima_format::hex::Hex;
use serde::Serialize;

use super::{read_all, write, TrustArgs};
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
    /// The form: keylime is a runtime policy of version 1, cyclonedx a bill of materials in JSON, version 1.6
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
    #[command(flatten)]
    trust: TrustArgs,
    /// Write the result here [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    Keylime,
    #[value(name = "cyclonedx")]
    CycloneDx,
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
        let manifest = read_all(&self.manifests, &self.trust, output)?;
        let mut text = match self.to {
            FormArg::Keylime => {
                let certificates = self.keyring.given(output)?;
                self.keylime(&manifest, &certificates, output)?
            }
            FormArg::CycloneDx => cyclonedx(&manifest, output)?,
        };
        text.push(b'\n');
        write(&text, self.output.as_deref(), output)?;
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
        for (path, expected) in &manifest.as_measured().0 {
            if let Some(path) = name(path, output) {
                let digests_of_file = expected.digests.iter().map(hex).collect();
                digests.insert(path.to_owned(), digests_of_file);
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

/// The path as text; warns of one that is not.
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

/// A bill of materials of CycloneDX 1.6.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BillOfMaterials<'a> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    hashes: [ComponentHash; 1],
}

#[derive(Serialize)]
struct ComponentHash {
    alg: &'static str,
    content: String,
}

/// A component for each digest of a file: hashes of one component are of the same content.
fn cyclonedx(manifest: &Manifest, output: &mut Output) -> Result<Vec<u8>> {
    let mut components = Vec::new();
    for (path, expected) in &manifest.0 {
        let Some(name) = name(path, output) else { continue };
        for digest in &expected.digests {
            let alg = match digest.algorithm() {
                HashAlgorithm::Md5 => "MD5",
                HashAlgorithm::Sha1 => "SHA-1",
                HashAlgorithm::Sha256 => "SHA-256",
                HashAlgorithm::Sha384 => "SHA-384",
                HashAlgorithm::Sha512 => "SHA-512",
                HashAlgorithm::Sha3_256 => "SHA3-256",
                HashAlgorithm::Sha3_384 => "SHA3-384",
                HashAlgorithm::Sha3_512 => "SHA3-512",
                other => {
                    return Err(Error::new(format!("{name}: CycloneDX has no name for {other}")))
                }
            };
            let hashes = [ComponentHash { alg, content: hex(digest) }];
            components.push(Component { kind: "file", name, hashes });
        }
    }
    let bill =
        BillOfMaterials { bom_format: "CycloneDX", spec_version: "1.6", version: 1, components };
    serde_json::to_vec(&bill).map_err(|error| Error::new(error.to_string()))
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
