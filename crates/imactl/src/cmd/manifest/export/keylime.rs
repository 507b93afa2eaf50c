//! Keylime's runtime policy, version 1.

use std::collections::BTreeMap;

use ima::attest::manifest::Manifest;
use ima::key::certificate::Certificate;
use ima::HashAlgorithm;
use serde::Serialize;

use super::{hex, name, to_json};
use crate::error::{hinted, Error, Result};
use crate::output::Output;

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

/// Settings of the policy that a manifest does not have.
pub(super) struct Settings<'a> {
    pub(super) excludes: &'a [String],
    pub(super) log_hash: HashAlgorithm,
    pub(super) certificates: &'a [Certificate],
}

/// The policy in JSON.
pub(super) fn policy(
    manifest: &Manifest,
    settings: &Settings<'_>,
    output: &mut Output,
) -> Result<Vec<u8>> {
    use HashAlgorithm::{Sha1, Sha256, Sha384, Sha512};
    let log_hash = settings.log_hash;
    if !matches!(log_hash, Sha1 | Sha256 | Sha384 | Sha512) {
        let message = format!("--log-hash {log_hash}: Keylime does not know it");
        return Err(hinted(message, "give sha1, sha256, sha384 or sha512"));
    }
    let mut digests = BTreeMap::new();
    for (path, expected) in &manifest.as_measured().0 {
        if let Some(path) = name(path, output) {
            digests.insert(path.to_owned(), expected.digests.iter().map(hex).collect());
        }
    }
    to_json(&RuntimePolicy {
        // 0: a generator that Keylime does not know
        meta: Meta { version: 1, generator: Some(0) },
        release: 0,
        digests,
        excludes: settings.excludes,
        keyrings: Empty {},
        ima: ImaSettings { ignored_keyrings: [], log_hash_alg: log_hash.name(), dm_policy: None },
        buffers: Empty {},
        verification_keys: verification_keys(settings.certificates)?,
    })
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
