//! A bill of materials of CycloneDX 1.6, in JSON.

use ima::attest::manifest::Manifest;
use ima::HashAlgorithm;
use serde::Serialize;

use super::{hex, name, no_name, to_json};
use crate::error::Result;
use crate::output::Output;

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
#[serde(tag = "type", rename = "file")]
struct Component<'a> {
    name: &'a str,
    hashes: [ComponentHash; 1],
}

#[derive(Serialize)]
struct ComponentHash {
    alg: &'static str,
    content: String,
}

/// A component for each digest of a file: hashes of one component are of the same content.
pub(super) fn bill(manifest: &Manifest, output: &mut Output) -> Result<Vec<u8>> {
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
                other => return Err(no_name("CycloneDX", name, other)),
            };
            let hashes = [ComponentHash { alg, content: hex(digest) }];
            components.push(Component { name, hashes });
        }
    }
    let bill =
        BillOfMaterials { bom_format: "CycloneDX", spec_version: "1.6", version: 1, components };
    to_json(&bill)
}
